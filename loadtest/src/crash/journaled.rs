//! What the journal says became of everything: read once from the first record to the last, beside the engine's audit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use anyhow::Context as _;
use engine::audit::{Audit, Report};
use engine::cashless::event::{CashlessEvent, Transaction, TransactionKind};
use engine::event::Event;
use engine::gates::command::{CONFLICT, Verdict};
use engine::gates::event::Scanned;
use engine::model::ids::{ShardId, TagUid, TicketId, TransactionId, WalletId};
use engine::model::time::Timestamp;
use engine::record;
use storage::journal::offline;

use crate::{reader, terminal};

/// The hash of each answer, by device and seq.
pub(super) type Answers = HashMap<u64, BTreeMap<u64, u64>>;

/// The whole journal.
pub(crate) struct Journaled {
    pub(super) gates: GateBook,
    /// Everything about money.
    pub(super) money: MoneyBook,
    /// What the engine's audit says.
    pub(crate) audit: Report,
}

/// A journal that is being read, record by record.
pub(crate) struct Reading {
    gates: GateBook,
    money: MoneyBook,
    audit: Audit,
}

impl Reading {
    /// Of a journal with so many shards.
    pub(crate) fn new(shards: u16) -> Self {
        Self { gates: GateBook::default(), money: MoneyBook::default(), audit: Audit::new(shards) }
    }

    /// The next record of a shard.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn record(&mut self, shard: ShardId, payload: &[u8]) -> anyhow::Result<()> {
        self.audit.record(shard, payload);
        let record = record::read(payload)?;
        for event in &record.events {
            match event {
                Event::Scanned(scanned) => self.gates.scanned(scanned, record.at),
                Event::Transaction(transaction) => self.money.transaction(transaction, record.at),
                Event::Cashless(event) => self.money.happened(event),
                _ => {}
            }
        }
        Ok(())
    }

    /// That was all.
    pub(crate) fn finish(self) -> Journaled {
        Journaled { gates: self.gates, money: self.money, audit: self.audit.finish() }
    }
}

impl Journaled {
    /// Reads the journal in a folder.
    ///
    /// # Errors
    /// The journal is damaged: a kill must not do that.
    pub(super) fn read(journal: &Path) -> anyhow::Result<Self> {
        let mut entries = offline::read_only(journal)?;
        let mut reading = Reading::new(entries.shards().context("a journal says how many shards it has")?);
        while let Some(entry) = entries.next()? {
            reading.record(entry.shard, entry.payload)?;
        }
        Ok(reading.finish())
    }
}

/// What became of scans.
#[derive(Default)]
pub(super) struct GateBook {
    /// What readers were told, or would have been.
    pub(super) answers: Answers,
    inside: HashSet<TicketId>,
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
    /// How often each tag came to name each wallet.
    pub(super) linked: HashMap<(TagUid, WalletId), u64>,
    /// How often each tag was reported lost.
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
            if answers.insert(by.seq, terminal::hash_of(by.seq, &transaction.answer(at))).is_some() {
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
            TransactionKind::TopUp
            | TransactionKind::Correction
            | TransactionKind::CashOut
            | TransactionKind::Lapse => {}
        }
    }

    fn happened(&mut self, event: &CashlessEvent) {
        match *event {
            CashlessEvent::TagAttached { wallet, tag, version } => {
                *self.linked.entry((tag, wallet)).or_default() += 1;
                self.worn.insert(wallet, (tag, version, false));
                if let Some(before) = self.links.insert((tag, version), wallet) {
                    self.doubled(format!("version {version} of {tag:?} names {before}, then {wallet}"));
                }
            }
            CashlessEvent::WalletTagLost { wallet, tag, version, .. } => {
                *self.reported.entry(tag).or_default() += 1;
                self.worn.insert(wallet, (tag, version, true));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::cashless::command::TerminalAnswer;
    use engine::cashless::event::{Lots, Posting};
    use engine::gates::event::ByDevice;
    use engine::model::ids::{DeviceId, FestivalId, VendorNo};
    use engine::model::money::Currency;

    const WALLET: WalletId = WalletId(7);

    fn moved(kind: TransactionKind, serial: u64, amount: i64, of: u64) -> Transaction {
        Transaction {
            by: None,
            kind,
            rejection: None,
            flags: 0,
            festival: FestivalId(1),
            wallet: WALLET,
            tap: None,
            serial,
            amount,
            currency: Currency::EUR,
            before: 0,
            after: 0,
            posting: Posting::default(),
            lots: Lots::default(),
            vendor: VendorNo(0),
            order: 0,
            commission_bp: 0,
            of,
            other: Some(WalletId(8)),
            lines: Vec::new(),
            reason: String::new(),
        }
    }

    #[test]
    fn what_must_not_be_is_seen() {
        let tag = TagUid::new(&[4, 1, 2, 3]).unwrap();
        let by = |seq| Some(ByDevice { device: DeviceId(5), seq, floor: 1, fingerprint: 0 });
        let paid = |version, serial| Transaction {
            tap: Some((tag, version)),
            by: by(serial),
            ..moved(TransactionKind::Payment, serial, 500, 0)
        };
        let refund = |serial, amount| moved(TransactionKind::Refund, serial, amount, 1);
        let came = |serial| moved(TransactionKind::TransferIn, serial, 5, 3);
        let twice = Transaction { by: by(1), ..paid(1, 2) };
        let table = [
            ("as it should be", vec![paid(1, 1), refund(2, 200), refund(3, 300), came(4)], (0, 0)),
            ("a refund too much", vec![paid(1, 1), refund(2, 200), refund(3, 301)], (0, 1)),
            ("a refund of nothing", vec![refund(2, 200)], (0, 1)),
            ("by an older link", vec![paid(0, 1)], (0, 1)),
            ("one command twice", vec![paid(1, 1), twice], (1, 0)),
            ("one transfer twice", vec![came(1), came(2)], (1, 0)),
        ];
        for (what, night, counts) in table {
            let mut book = MoneyBook::default();
            book.happened(&CashlessEvent::TagAttached { wallet: WALLET, tag, version: 1 });
            night.iter().for_each(|transaction| book.transaction(transaction, Timestamp(1)));
            assert_eq!((book.doubled, book.wrong), counts, "{what}: {:?}", book.notes);
            let told: TerminalAnswer = night[0].answer(Timestamp(1));
            let journaled = book.answers.get(&5).and_then(|answers| answers.get(&1)).copied();
            let as_told = night[0].by.is_none() || counts.0 > 0 || journaled == Some(terminal::hash_of(1, &told));
            assert!(as_told, "{what}");
        }
        let mut book = MoneyBook::default();
        book.happened(&CashlessEvent::TagAttached { wallet: WALLET, tag, version: 1 });
        book.happened(&CashlessEvent::WalletTagLost { wallet: WALLET, tag, version: 1, op: 0 });
        book.transaction(&paid(1, 1), Timestamp(1));
        book.happened(&CashlessEvent::TagAttached { wallet: WalletId(9), tag, version: 1 });
        assert_eq!(
            (book.doubled, book.wrong),
            (1, 1),
            "a lost one pays, and one link is two wallets': {:?}",
            book.notes
        );
    }
}
