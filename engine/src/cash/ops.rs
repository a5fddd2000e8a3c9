//! Operations that wait for another shard: transfers and links. Each has a number, dense in its shard; whoever asked
//! gets the answer when the last message is in, and so does whoever sends the same idempotency key again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Lots;
use crate::ids::{FestivalId, TagUid, TransactionId, WalletId};
use crate::time::{MINUTE_MS, Timestamp};

/// After so long the other side of a transfer is asked to let it be. Only that side can say that it has not happened.
pub const TRANSFER_DEADLINE_MS: i64 = MINUTE_MS / 2;

/// Who asked, where there was an idempotency key to answer to.
pub type Asker = Option<AskedBy>;

/// Whoever asked with an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedBy {
    /// The operator's key, by number.
    pub operator: u32,
    /// The idempotency key's id.
    pub key: u128,
    /// The request's fingerprint.
    pub fingerprint: u64,
}

/// The operations of one shard that are not over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ops {
    /// The number of the last that began.
    last: u64,
    open: BTreeMap<u64, Op>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Op {
    /// Who asked.
    pub asker: Asker,
    /// When it began.
    pub since: Timestamp,
    /// It took too long, and the other side was asked to let it be.
    pub cancel_asked: bool,
    /// What it is about.
    pub kind: OpKind,
}

/// What an operation is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OpKind {
    /// Money on its way to another wallet.
    Transfer(Transfer),
    /// A chip that is to name a wallet.
    Link {
        /// The chip.
        tag: TagUid,
        /// Which wallet.
        wallet: WalletId,
    },
}

/// Money on its way to another wallet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// The transaction by which it left.
    pub from: TransactionId,
    /// To which wallet.
    pub to: WalletId,
    /// At which festival.
    pub festival: FestivalId,
    /// How much.
    pub amount: i64,
    /// What was available to the sender afterwards.
    pub after: i64,
    /// Where the money once came from.
    pub lots: Lots,
}

impl Ops {
    /// The number of the next.
    pub fn next(&self) -> u64 {
        self.last + 1
    }
    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }
    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
    /// The operation with this number, if it is not over.
    pub fn get(&self, op: u64) -> Option<&Op> {
        self.open.get(&op)
    }
    /// All that are open, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Op)> {
        self.open.iter().map(|(op, what)| (*op, what))
    }
    /// The transfers that have taken too long and whose other side was not asked yet.
    pub(crate) fn overdue(&self, now: Timestamp) -> impl Iterator<Item = (u64, &Transfer)> {
        // They began in the order of their numbers.
        self.open.iter().take_while(move |(_, op)| now.since_ms(op.since) > TRANSFER_DEADLINE_MS).filter_map(
            |(number, op)| match &op.kind {
                OpKind::Transfer(transfer) if !op.cancel_asked => Some((*number, transfer)),
                _ => None,
            },
        )
    }

    pub(super) fn begin(&mut self, number: u64, op: Op) {
        assert_eq!(number, self.last + 1, "operations are numbered densely");
        self.last = number;
        self.open.insert(number, op);
    }
    pub(super) fn cancel_asked(&mut self, op: u64) {
        self.open.get_mut(&op).expect("decided").cancel_asked = true;
    }
    pub(super) fn end(&mut self, op: u64) -> Option<Op> {
        self.open.remove(&op)
    }
}
