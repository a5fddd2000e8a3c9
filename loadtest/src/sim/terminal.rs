//! A simulated terminal: follows the device protocol like a reader, only that its commands go to many shards, that a
//! wristband it names may be another wallet's by the time, and that some answers are remembered by nobody.

use std::collections::{BTreeMap, BTreeSet};

use actors::TerminalReply;
use engine::cashless::command::{CashlessVerdict, Line, RefundLine, TerminalAnswer};
use engine::model::ids::{DeviceId, TagUid, TransactionId, WalletId};
use engine::model::money::Money;
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;

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

impl Ask {
    /// The wristband it names.
    pub(super) fn tag(&self) -> Option<TagUid> {
        match self {
            Self::Pay { who: Who::Tag(tag), .. }
            | Self::TopUp { who: Who::Tag(tag), .. }
            | Self::Balance { who: Who::Tag(tag) } => Some(*tag),
            _ => None,
        }
    }
}

/// A terminal's command on the stream.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) seq: u64,
    pub(super) floor: u64,
    pub(super) ask: Ask,
    /// The last moment for it; 0: none.
    pub(super) expires_at: Timestamp,
    /// When the wristband was held to the terminal.
    pub(super) captured_at: Timestamp,
    /// It went out before, on another connection.
    pub(super) resent: bool,
    /// How often the gateway has told it to send this again. A stream needs no such number; here the network repeats packets.
    pub(super) attempt: u32,
}

/// A terminal at a bar or a cash desk.
pub(super) struct Terminal {
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
    /// When the wristbands were held to it.
    taps: BTreeMap<u64, Timestamp>,
    /// Those that were sent again because their wristband had moved, and how often.
    attempts: BTreeMap<u64, u32>,
    /// Those that went out on a connection before this one.
    resent: BTreeSet<u64>,
    pub(super) connection: u64,
    heard: u64,
}

impl Terminal {
    pub(super) fn new(id: DeviceId, takes_payments: bool, cashier: bool) -> Self {
        Self {
            id,
            takes_payments,
            cashier,
            next: 1,
            open: BTreeMap::new(),
            closed: BTreeMap::new(),
            ends: BTreeMap::new(),
            taps: BTreeMap::new(),
            attempts: BTreeMap::new(),
            resent: BTreeSet::new(),
            connection: 1,
            heard: 0,
        }
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

    /// When the wristband was held to it, or whatever it was asked by.
    pub(super) fn captured_at(&self, seq: u64) -> Timestamp {
        self.taps.get(&seq).copied().unwrap_or_default()
    }

    /// A new command, as it goes out. Now and then a number is left out; each fourth has little time; each fifth was put
    /// aside for a while before it goes out.
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
        let ago_ms = if seq.is_multiple_of(5) { (seq % 4) as i64 * 2_500 } else { 0 };
        self.taps.insert(seq, Timestamp(clock.0 - ago_ms));
        self.frame(seq, &ask)
    }

    fn frame(&self, seq: u64, ask: &Ask) -> Frame {
        Frame {
            seq,
            floor: self.floor(),
            ask: ask.clone(),
            expires_at: self.end_of(seq),
            captured_at: self.captured_at(seq),
            resent: self.resent.contains(&seq),
            attempt: self.attempts.get(&seq).copied().unwrap_or(0),
        }
    }

    /// Whether it has waited long enough to try another connection.
    pub(super) fn is_impatient(&self, step: u64) -> bool {
        !self.open.is_empty() && step > self.heard + PATIENCE
    }

    /// A new connection: everything without an answer goes out again.
    pub(super) fn reconnect(&mut self, step: u64) -> Vec<Frame> {
        self.connection += 1;
        self.heard = step;
        self.resent = self.open.keys().copied().collect();
        self.open.iter().map(|(seq, ask)| self.frame(*seq, ask)).collect()
    }

    /// The gateway says that a wristband has moved: the same frame once more, unless it has gone out since.
    pub(super) fn comes_again(&mut self, step: u64, seq: u64, attempt: u32) -> Option<Frame> {
        self.heard = step;
        let ask = self.open.get(&seq)?.clone();
        let attempts = self.attempts.entry(seq).or_default();
        if *attempts != attempt {
            return None;
        }
        *attempts += 1;
        Some(self.frame(seq, &ask))
    }

    /// An answer has arrived. `Some`: to what, for the first time.
    pub(super) fn receive(&mut self, step: u64, reply: &TerminalReply) -> Check<Option<Ask>> {
        self.heard = step;
        let TerminalReply { seq, answer } = *reply;
        let refused = |rejection| answer.verdict == CashlessVerdict::Rejected(rejection);
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
        CashlessVerdict::Balance
            | CashlessVerdict::Rejected(
                Rejection::TagMoved | Rejection::UnknownTag | Rejection::TagLost | Rejection::OutcomeUnknown
            )
    )
}
