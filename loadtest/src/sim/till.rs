//! A simulated terminal: follows the device protocol like a reader, only that its commands go to many shards, that a
//! wristband it names may be another wallet's by the time, and that some answers are remembered by nobody.

use std::collections::BTreeMap;

use actors::TerminalReply;
use engine::command::{CashVerdict, Line, RefundLine, TerminalAnswer};
use engine::ids::{DeviceId, TagUid, TransactionId, WalletId};
use engine::money::Money;
use engine::rejection::Rejection;
use engine::time::Timestamp;

use super::{Check, breach};

/// How many commands a terminal keeps under way.
const WINDOW: usize = 5;
/// After so many steps without an answer it gives the connection up.
const PATIENCE: u64 = 100;

/// How a terminal names a wallet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Who {
    Wallet(WalletId),
    Tag(TagUid),
}

/// What a terminal asks, as it goes over the stream: which wallet a wristband means, the gateway finds out.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ask {
    Pay { who: Who, amount: Money, lines: Box<[Line]> },
    Refund { payment: TransactionId, amount: Option<Money>, lines: Box<[RefundLine]> },
    TopUp { who: Who, amount: Money },
    Balance { who: Who },
}

/// A terminal's command on the stream.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) seq: u64,
    pub(super) floor: u64,
    pub(super) ask: Ask,
    /// The last moment for it; 0: none.
    pub(super) expires_at: Timestamp,
    /// It went out before, on another connection.
    pub(super) resent: bool,
}

/// A terminal at a bar or a cash desk.
pub(super) struct Till {
    pub(super) id: DeviceId,
    pub(super) takes_payments: bool,
    pub(super) cashier: bool,
    next: u64,
    /// Commands without an answer.
    open: BTreeMap<u64, Ask>,
    /// What was asked and told.
    closed: BTreeMap<u64, (Ask, TerminalAnswer)>,
    /// The ends of their times, of those that have one.
    ends: BTreeMap<u64, Timestamp>,
    pub(super) connection: u64,
    heard: u64,
}

impl Till {
    pub(super) fn new(id: DeviceId, takes_payments: bool, cashier: bool) -> Self {
        let (open, closed) = (BTreeMap::new(), BTreeMap::new());
        let ends = BTreeMap::new();
        Self { id, takes_payments, cashier, next: 1, open, closed, ends, connection: 1, heard: 0 }
    }

    /// The lowest number without an answer.
    pub(super) fn floor(&self) -> u64 {
        self.open.keys().next().copied().unwrap_or(self.next)
    }

    pub(super) fn has_room(&self) -> bool {
        self.open.len() < WINDOW
    }

    /// Whether everything is answered.
    pub(super) fn is_content(&self) -> bool {
        self.open.is_empty()
    }

    /// How many commands are answered.
    pub(super) fn acknowledged(&self) -> usize {
        self.closed.len()
    }

    /// What it has asked under this number.
    pub(super) fn asked(&self, seq: u64) -> Option<&Ask> {
        self.open.get(&seq).or_else(|| self.closed.get(&seq).map(|(ask, _)| ask))
    }

    /// When its time is over; 0: never.
    pub(super) fn end_of(&self, seq: u64) -> Timestamp {
        self.ends.get(&seq).copied().unwrap_or_default()
    }

    /// A new command, as it goes out. Now and then a number is left out; each fourth has little time.
    pub(super) fn ask(&mut self, (step, clock): (u64, Timestamp), ask: Ask, skip: bool) -> Frame {
        self.next += u64::from(skip);
        let seq = self.next;
        self.next += 1;
        if self.open.is_empty() {
            self.heard = step;
        }
        self.open.insert(seq, ask.clone());
        if seq.is_multiple_of(4) {
            self.ends.insert(seq, Timestamp(clock.0 + (seq % 7) as i64 * 1_000));
        }
        Frame { seq, floor: self.floor(), ask, expires_at: self.end_of(seq), resent: false }
    }

    /// Whether it has waited long enough to try another connection.
    pub(super) fn is_impatient(&self, step: u64) -> bool {
        !self.open.is_empty() && step > self.heard + PATIENCE
    }

    /// A new connection: everything without an answer goes out again.
    pub(super) fn reconnect(&mut self, step: u64) -> Vec<Frame> {
        self.connection += 1;
        self.heard = step;
        let floor = self.floor();
        let again = |(seq, ask): (&u64, &Ask)| Frame {
            seq: *seq,
            floor,
            ask: ask.clone(),
            expires_at: self.end_of(*seq),
            resent: true,
        };
        self.open.iter().map(again).collect()
    }

    /// An answer has arrived. `Some`: to what, for the first time.
    pub(super) fn hear(&mut self, step: u64, reply: &TerminalReply) -> Check<Option<Ask>> {
        self.heard = step;
        let TerminalReply { seq, answer } = *reply;
        let refused = |rejection| answer.verdict == CashVerdict::Rejected(rejection);
        if let Some((ask, before)) = self.closed.get(&seq) {
            let stale = refused(Rejection::StaleSeq) && seq < self.floor();
            if stale || *before == answer || matches!(ask, Ask::Balance { .. }) || !is_recorded(before) {
                return Ok(None);
            }
            return breach("same id, same answer", format!("{} seq {seq}: {before:?}, then {answer:?}", self.id));
        }
        let Some(ask) = self.open.remove(&seq) else {
            return breach("answers are to what was asked", format!("{} seq {seq}", self.id));
        };
        if refused(Rejection::StaleSeq) || refused(Rejection::WindowFull) || refused(Rejection::IdempotencyConflict) {
            let what = format!("{} seq {seq} has no answer yet: {answer:?}", self.id);
            return breach("forgetting is never mistaken", what);
        }
        self.closed.insert(seq, (ask.clone(), answer));
        Ok(Some(ask))
    }

    /// Every answer it has.
    pub(super) fn answers(&self) -> impl Iterator<Item = (u64, &Ask, &TerminalAnswer)> {
        self.closed.iter().map(|(seq, (ask, answer))| (*seq, ask, answer))
    }
}

/// Whether an answer is one that a shard remembers.
pub(super) fn is_recorded(answer: &TerminalAnswer) -> bool {
    !matches!(
        answer.verdict,
        CashVerdict::Balance | CashVerdict::Rejected(Rejection::TagMoved | Rejection::UnknownTag | Rejection::TagLost)
    )
}
