//! What the journal says became of everything: read once from the first record to the last, beside the engine's audit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use anyhow::Context as _;
use engine::audit::{Audit, Report};
use engine::command::{CONFLICT, Verdict};
use engine::event::{CashEvent, Event, Scanned, Transaction, TransactionKind};
use engine::ids::{TagUid, TicketId, TransactionId, WalletId};
use engine::record;
use engine::time::Timestamp;
use storage::journal::offline;

use crate::{reader, till};

/// The hash of each answer, by device and seq.
pub(super) type Answers = HashMap<u64, BTreeMap<u64, u64>>;

/// The whole journal.
pub(super) struct Journaled {
    /// At the gates.
    pub(super) gates: GateBook,
    /// Everything about money.
    pub(super) money: MoneyBook,
    /// What the engine's audit says.
    pub(super) audit: Report,
}

impl Journaled {
    /// Reads it all.
    ///
    /// # Errors
    /// The journal is damaged: a kill must not do that.
    pub(super) fn read(journal: &Path) -> anyhow::Result<Self> {
        let mut reading = offline::read_only(journal)?;
        let mut audit = Audit::new(reading.shards().context("a journal says how many shards it has")?);
        let (mut gates, mut money) = (GateBook::default(), MoneyBook::default());
        while let Some(entry) = reading.next()? {
            audit.record(entry.shard, entry.payload);
            let record = record::read(entry.payload)?;
            for event in &record.events {
                match event {
                    Event::Scanned(scanned) => gates.scanned(scanned, record.at),
                    Event::Transaction(transaction) => money.transaction(transaction, record.at),
                    Event::Cash(event) => money.happened(event),
                    _ => {}
                }
            }
        }
        Ok(Self { gates, money, audit: audit.finish() })
    }
}

/// What became of scans.
#[derive(Default)]
pub(super) struct GateBook {
    /// What readers were told, or would have been.
    pub(super) answers: Answers,
    inside: HashSet<TicketId>,
    /// Scans.
    pub(super) scans: u64,
    /// Scans that are there twice, and people let in twice.
    pub(super) doubled: u64,
    /// In words.
    pub(super) notes: Vec<String>,
}

impl GateBook {
    fn scanned(&mut self, scanned: &Scanned, at: Timestamp) {
        self.scans += 1;
        let answers = self.answers.entry(scanned.device.0).or_default();
        if answers.insert(scanned.seq, reader::hash_of(scanned.seq, &scanned.answer(at))).is_some() {
            self.doubled += 1;
            self.notes.push(format!("scan {} of {} is in the journal twice", scanned.seq, scanned.device));
        }
        let Some(ticket) = scanned.ticket else { return };
        match scanned.verdict {
            Verdict::Admitted => {
                if !self.inside.insert(ticket) && scanned.flags & CONFLICT == 0 {
                    self.doubled += 1;
                    self.notes.push(format!("{ticket} was let in twice"));
                }
            }
            Verdict::Exited => {
                self.inside.remove(&ticket);
            }
            Verdict::Undone | Verdict::Rejected(_) => {}
        }
    }
}

/// One side of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Side {
    /// The wallet of this side.
    pub(super) wallet: WalletId,
    /// The one of the other side.
    pub(super) other: WalletId,
    /// How much, in minor units.
    pub(super) amount: i64,
    /// The operation at the sender's shard.
    pub(super) of: u64,
}

/// What became of money.
#[derive(Default)]
pub(super) struct MoneyBook {
    /// What terminals were told, or would have been.
    pub(super) answers: Answers,
    /// Commands of terminals.
    pub(super) commands: u64,
    /// Payments with what was given back of each.
    payments: HashMap<TransactionId, (i64, i64)>,
    /// Transfers that left a wallet.
    pub(super) sent: HashMap<TransactionId, Side>,
    /// Those that came to another, by sender and operation; there must be one for each.
    pub(super) received: HashMap<(WalletId, u64), Vec<Side>>,
    /// Those that came back.
    pub(super) returned: HashMap<(WalletId, u64), u64>,
    /// How often each chip came to name each wallet.
    pub(super) linked: HashMap<(TagUid, WalletId), u64>,
    /// How often each chip was reported lost.
    pub(super) reported: HashMap<TagUid, u64>,
    /// The wallet that each version of a link names.
    links: HashMap<(TagUid, u32), WalletId>,
    /// The link of each wallet now, and whether it was reported lost.
    worn: HashMap<WalletId, (TagUid, u32, bool)>,
    /// What happened twice.
    pub(super) doubled: u64,
    /// What should not have happened.
    pub(super) wrong: u64,
    /// In words.
    pub(super) notes: Vec<String>,
}

impl MoneyBook {
    fn doubled(&mut self, note: String) {
        self.doubled += 1;
        self.notes.push(note);
    }

    fn wrong(&mut self, note: String) {
        self.wrong += 1;
        self.notes.push(note);
    }

    fn transaction(&mut self, transaction: &Transaction, at: Timestamp) {
        if let Some(by) = transaction.by {
            self.commands += 1;
            let answers = self.answers.entry(by.device.0).or_default();
            if answers.insert(by.seq, till::hash_of(by.seq, &transaction.answer(at))).is_some() {
                self.doubled(format!("command {} of {} is in the journal twice", by.seq, by.device));
            }
        }
        let Some(id) = transaction.id() else { return };
        let Transaction { wallet, amount, of, .. } = *transaction;
        match transaction.kind {
            TransactionKind::Payment => {
                self.payments.insert(id, (amount, 0));
                if let Some((tag, version)) = transaction.tap
                    && self.worn.get(&wallet) != Some(&(tag, version, false))
                {
                    let worn = self.worn.get(&wallet);
                    self.wrong(format!(
                        "{id} was paid by {tag:?} version {version} from {wallet}, which wore {worn:?}"
                    ));
                }
            }
            TransactionKind::Refund => {
                let payment = TransactionId { wallet, serial: of };
                match self.payments.get_mut(&payment) {
                    None => self.wrong(format!("{id} gives {payment} back, which is no payment")),
                    Some((paid, given)) => {
                        *given += amount;
                        let (paid, given) = (*paid, *given);
                        if given > paid {
                            self.wrong(format!("{given} of {paid} were given back of {payment}"));
                        }
                    }
                }
            }
            TransactionKind::TransferOut | TransactionKind::TransferIn | TransactionKind::TransferBack => {
                let Some(other) = transaction.other else {
                    return self.wrong(format!("{id} is a transfer without another side"));
                };
                let side = Side { wallet, other, amount, of };
                match transaction.kind {
                    TransactionKind::TransferOut => {
                        self.sent.insert(id, side);
                    }
                    TransactionKind::TransferIn => {
                        let received = self.received.entry((other, of)).or_default();
                        received.push(side);
                        if received.len() > 1 {
                            self.doubled(format!("{wallet} received operation {of} of {other} twice"));
                        }
                    }
                    _ => *self.returned.entry((wallet, of)).or_default() += 1,
                }
            }
            TransactionKind::TopUp | TransactionKind::Correction | TransactionKind::CashOut => {}
        }
    }

    fn happened(&mut self, event: &CashEvent) {
        match *event {
            CashEvent::TagAttached { wallet, tag, version } => {
                *self.linked.entry((tag, wallet)).or_default() += 1;
                self.worn.insert(wallet, (tag, version, false));
                if let Some(before) = self.links.insert((tag, version), wallet) {
                    self.doubled(format!("version {version} of {tag:?} names {before}, then {wallet}"));
                }
            }
            CashEvent::WalletTagLost { wallet, tag, version } => {
                *self.reported.entry(tag).or_default() += 1;
                self.worn.insert(wallet, (tag, version, true));
            }
            _ => {}
        }
    }
}
