//! Operations that wait for other shards: transfers, wristbands that are given out or lost, another currency. Each has a
//! number, dense in its shard; whoever asked gets the answer when the last message is in, and so does whoever sends the
//! same idempotency key again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cashless::command::CashlessPolicy;
use crate::cashless::event::Lots;
use crate::command::AdminAnswer;
use crate::model::ids::{FestivalId, TagUid, TransactionId, WalletId};
use crate::model::principal::Principal;
use crate::model::rejection::Rejection;
use crate::model::time::{MINUTE_MS, Timestamp};
use crate::shard::outbox::TagTarget;

/// After so long the other side of a transfer is asked to let it be. Only that side can say that it has not happened.
pub const TRANSFER_DEADLINE_MS: i64 = MINUTE_MS / 2;

/// Who asked, where there was an idempotency key to answer to.
pub type Asker = Option<AskedBy>;

/// Whoever asked with an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedBy {
    /// They did.
    pub by: Principal,
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
    /// A tag that is to name something.
    Giving(Giving),
    /// A tag that was reported lost: so many of those whom it names have not said that they refuse it.
    Loss {
        /// How many.
        due: u8,
    },
    /// A festival that is to have another currency.
    Currency(CurrencyChange),
}

/// A festival that is to have another currency: every other shard is asked whether it has booked anything there, and takes
/// nothing until it is told how that came out; then every one is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurrencyChange {
    pub festival: FestivalId,
    pub policy: CashlessPolicy,
    /// How many other shards there are.
    pub others: u16,
    /// How many of them have not answered.
    pub waits: u16,
    /// One of them has booked something: it stays as it was.
    pub booked: bool,
    /// All have said whether they have, and are told how it came out.
    pub decided: bool,
}

/// A tag that is to name a wallet or a ticket and, if it takes another's place, what that one named besides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Giving {
    /// The tag.
    pub tag: TagUid,
    /// What was asked for.
    pub named: TagTarget,
    /// Which festival gives it out.
    pub festival: FestivalId,
    /// Wallets and festivals that were asked and have not answered.
    asked: u8,
    /// Tags whose place it takes that have not said what they name besides; below zero where such a tag's word came
    /// before that of the wallet or festival which had it.
    carries: i8,
}

/// Money on its way to another wallet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// The transaction by which it left.
    pub from: TransactionId,
    pub to: WalletId,
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
    /// The change of currency with this number.
    pub(super) fn change_mut(&mut self, op: u64) -> Option<&mut CurrencyChange> {
        match &mut self.open.get_mut(&op)?.kind {
            OpKind::Currency(change) => Some(change),
            OpKind::Transfer(_) | OpKind::Giving(_) | OpKind::Loss { .. } => None,
        }
    }
    pub(super) fn end(&mut self, op: u64) -> Option<Op> {
        self.open.remove(&op)
    }

    /// The wristband that this operation gives out.
    pub(crate) fn giving(&self, op: u64) -> Option<Giving> {
        match &self.open.get(&op)?.kind {
            OpKind::Giving(giving) => Some(*giving),
            OpKind::Transfer(_) | OpKind::Loss { .. } | OpKind::Currency(_) => None,
        }
    }

    /// A wallet or a festival is asked to take a tag: what was asked for, in a new operation, or what comes with it.
    pub(super) fn asks(
        &mut self,
        op: u64,
        (tag, named): (TagUid, TagTarget),
        festival: FestivalId,
        asker: Asker,
        at: Timestamp,
    ) {
        match self.open.get_mut(&op) {
            Some(Op { kind: OpKind::Giving(giving), .. }) => giving.asked += 1,
            _ => {
                let kind = OpKind::Giving(Giving { tag, named, festival, asked: 1, carries: 0 });
                self.begin(op, Op { asker, since: at, cancel_asked: false, kind });
            }
        }
    }

    /// It has answered. `no`: it does not take it; what was asked for ends with that, what comes with it stays where it is.
    pub(super) fn answered(
        &mut self,
        op: u64,
        named: TagTarget,
        carry: bool,
        no: Option<Rejection>,
    ) -> Option<(u64, Asker, AdminAnswer)> {
        let Some(Op { kind: OpKind::Giving(giving), .. }) = self.open.get_mut(&op) else { return None };
        giving.asked -= 1;
        giving.carries += i8::from(carry);
        if let Some(no) = no
            && giving.named == named
        {
            let asker = self.end(op)?.asker;
            return Some((op, asker, AdminAnswer::Rejected(no)));
        }
        self.ended(op)
    }

    /// A tag whose place another takes has said what it names besides.
    pub(super) fn carried(&mut self, op: u64) -> Option<(u64, Asker, AdminAnswer)> {
        let Some(Op { kind: OpKind::Giving(giving), .. }) = self.open.get_mut(&op) else { return None };
        giving.carries -= 1;
        self.ended(op)
    }

    fn ended(&mut self, op: u64) -> Option<(u64, Asker, AdminAnswer)> {
        let giving = self.giving(op).filter(|giving| giving.asked == 0 && giving.carries == 0)?;
        let answer = match giving.named {
            TagTarget::Wallet(wallet, _) => AdminAnswer::Wallet(wallet),
            TagTarget::Ticket(_) => AdminAnswer::Done,
        };
        Some((op, self.end(op)?.asker, answer))
    }

    /// A wristband was reported lost, and so many others have to hear of it.
    pub(super) fn loss(&mut self, op: u64, due: u8, asker: Asker, at: Timestamp) -> Option<(u64, Asker, AdminAnswer)> {
        self.begin(op, Op { asker, since: at, cancel_asked: false, kind: OpKind::Loss { due } });
        self.loss_ended(op)
    }

    pub(super) fn loss_known(&mut self, op: u64) -> Option<(u64, Asker, AdminAnswer)> {
        let Some(Op { kind: OpKind::Loss { due }, .. }) = self.open.get_mut(&op) else { return None };
        *due -= 1;
        self.loss_ended(op)
    }

    fn loss_ended(&mut self, op: u64) -> Option<(u64, Asker, AdminAnswer)> {
        self.open.get(&op).filter(|op| op.kind == OpKind::Loss { due: 0 })?;
        Some((op, self.end(op)?.asker, AdminAnswer::Done))
    }
}
