//! The audit: reads a journal's records from the first to the last and checks what must always hold at the gates.
//!
//! It keeps books of its own: who is in which zone as sets of tickets, statuses, counts. They are made from
//! the events alone and share no code with what decides. Beside them a [`Shard`] replays the same records, through a
//! snapshot now and then; in the end both must tell the same story.

mod books;
mod money;
mod report;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::cashless::event::{CashlessEvent, TransactionKind};
use crate::event::{Event, Origin};
use crate::model::ids::{FestivalId, Home, ShardId};
use crate::model::principal::Principal;
use crate::model::time::Timestamp;
use crate::record::{self, Record};
use crate::shard::Shard;
use crate::shard::dedupe::KEY_KEPT_MS;
use books::Books;
use money::MoneyBooks;

pub use report::{CONFLICTS_MAX, Checked, Conflict, Report, VIOLATIONS_MAX, Violation};

macro_rules! checks {
    ($($name:ident = $word:literal, $invariants:expr, $says:literal;)*) => {
        /// What the audit checks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Check { $($name,)* }

        impl Check {
            pub const ALL: &'static [Check] = &[$(Check::$name,)*];
            /// Its name in reports.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
            /// What holds.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$name => $says,)* }
            }
            /// The numbers of the invariants in ARCHITECTURE.md that it helps to hold. A rule of the gates has none.
            pub fn invariants(self) -> &'static [u8] {
                match self { $(Self::$name => &$invariants,)* }
            }
        }
    };
}

checks! {
    Readable = "readable", [7], "every record can be read and is of the shard it lies in";
    Sequence = "sequence", [3, 7], "a shard's records are numbered without a gap";
    Time = "time", [3], "a shard's time never goes back";
    Known = "known", [3], "an event lies in the shard of its home and names only what exists";
    Once = "once", [5], "a device's number, an idempotency key and an enrolment code take effect once";
    Origin = "asked", [5], "what the office did says who asked";
    Quota = "quota", [], "a category has no more live tickets than its quota";
    SingleEntry = "single_entry", [], "under single entry a ticket enters a perimeter once";
    Inside = "inside", [], "a ticket is inside at most once, and in a zone only if it is in its parent";
    Occupancy = "occupancy", [], "occupancy is who is inside by ticket and without one, and came less left";
    Capacity = "capacity", [], "nobody is admitted to a full zone";
    Active = "active", [], "somebody is admitted only while the festival is ongoing";
    Window = "window", [], "somebody is admitted only within the ticket's category's window";
    Door = "door", [], "a zone admits its categories only, while it is open and nothing around it is evacuated";
    Replay = "replay", [3, 7], "replay, also through snapshots, leads to what the records say";
    Revoked = "revoked", [], "a revoked device decides nothing; a ticket that is not valid or is blocked lets nobody in";
    OwnFestival = "own_festival", [], "a device acts at its own festival, on that festival's tickets";
    Transition = "transition", [], "festivals and tickets move only along their transitions";
    Undo = "undo", [], "an undo takes back exactly the ticket's last scan, and only by somebody who may";
    Posting = "posting", [6], "every posting adds up to zero, with the legs of its kind";
    History = "history", [6], "a wallet's balance before a transaction is the one after the last";
    Funds = "funds", [6], "nobody spends what they do not have";
    Refund = "refund", [6], "refunds never exceed their payment, and go back to its wallet, vendor and sources";
    Lots = "lots", [6], "all money in a wallet has a source, and is spent from it";
    Transfer = "transfer", [4, 6], "a transfer is credited once or returned once, never both";
    Tag = "tag", [], "a wristband is one wallet's and one ticket's, and neither pays nor enters once it was lost";
    Messages = "messages", [4], "messages between shards are taken in once, in order, as they were sent";
    Directory = "directory", [4], "every shard knows vendors and terminals as their festival has them";
    Currency = "currency", [6], "a festival has another currency only if nothing was booked in it, and nothing is meanwhile";
    Ledger = "ledger", [6], "all accounts add up to zero, and what is in transit is what transfers have under way";
}

/// The audit under way: of all shards, or of a part of them, so that several can be made side by side and then joined.
pub struct Audit {
    of: u16,
    /// In the order of their numbers.
    shards: Vec<ShardBooks>,
    found: Findings,
}

/// What was found so far.
struct Findings {
    /// Which record of the journal, counted by whoever reads it.
    nth: u64,
    shard: u16,
    seq: u64,
    report: Report,
}

struct ShardBooks {
    id: ShardId,
    of: u16,
    seq: u64,
    at: Timestamp,
    festivals: BTreeMap<FestivalId, Books>,
    /// Idempotency keys that a shard remembers, with the time of their effect.
    keys: BTreeMap<u128, Timestamp>,
    api_keys: u32,
    money: MoneyBooks,
    /// Replays beside us; gone once a record could not be replayed.
    shadow: Option<Box<Shard>>,
    /// The sequence number at which the shadow goes through a snapshot next.
    snapshot_at: u64,
}

impl Findings {
    /// Makes a check; says whether it holds.
    fn check(&mut self, check: Check, holds: bool, what: impl FnOnce() -> String) -> bool {
        let sums = &mut self.report.checks[check as usize];
        sums.checked += 1;
        if !holds {
            sums.violated += 1;
            self.report.violations_total += 1;
            if self.report.violations.len() < VIOLATIONS_MAX {
                let (nth, shard, seq) = (self.nth, self.shard, self.seq);
                self.report.violations.push(Violation { nth, shard, seq, check: check.word(), what: what() });
            }
        }
        holds
    }

    fn conflict(&mut self, scanned: &crate::gates::event::Scanned) {
        self.report.conflicts_total += 1;
        if self.report.conflicts.len() < CONFLICTS_MAX {
            self.report.conflicts.push(Conflict {
                nth: self.nth,
                shard: self.shard,
                seq: self.seq,
                device: scanned.device.to_string(),
                ticket: scanned.ticket.map(|ticket| ticket.to_string()),
                zone: scanned.zone.0,
                admitted: scanned.verdict == crate::gates::command::Verdict::Admitted,
                instead_of: scanned.instead_of.map(|rejection| rejection.code()),
            });
        }
    }
}

impl Audit {
    /// An audit of a journal with so many shards.
    pub fn new(shards: u16) -> Self {
        Self::part(shards, 0, 1)
    }

    /// The `part`th of `parts` audits of a journal with so many shards: of those whose number leaves `part` when divided
    /// by `parts`.
    pub fn part(shards: u16, part: u16, parts: u16) -> Self {
        let books = |id| ShardBooks {
            id: ShardId(id),
            of: shards,
            seq: 0,
            at: Timestamp(i64::MIN),
            festivals: BTreeMap::new(),
            keys: BTreeMap::new(),
            api_keys: 0,
            money: MoneyBooks::new(ShardId(id), shards),
            shadow: Some(Box::new(Shard::new(ShardId(id), shards))),
            snapshot_at: 1,
        };
        let checks = Check::ALL.iter().map(|check| Checked {
            check: check.word(),
            says: check.sentence(),
            invariants: check.invariants(),
            checked: 0,
            violated: 0,
        });
        let report = Report { checks: checks.collect(), ..Report::default() };
        let own = (0..shards).filter(|id| id % parts == part);
        Self { of: shards, shards: own.map(books).collect(), found: Findings { nth: 0, shard: 0, seq: 0, report } }
    }

    /// The next record of a shard, in the order of the journal.
    pub fn record(&mut self, shard: ShardId, bytes: &[u8]) {
        self.record_at(self.found.nth + 1, shard, bytes);
    }

    /// [`Audit::record`], where others audit other shards of the journal: it is the `nth` of them all.
    pub fn record_at(&mut self, nth: u64, shard: ShardId, bytes: &[u8]) {
        let found = &mut self.found;
        (found.nth, found.shard) = (nth, shard.0);
        found.report.records += 1;
        let at = self.shards.binary_search_by_key(&shard, |books| books.id);
        let Ok(at) = at else {
            found.seq = 0;
            found.check(Check::Readable, false, || "there is no such shard".into());
            return;
        };
        let books = &mut self.shards[at];
        found.seq = books.seq + 1;
        let record = match record::read(bytes) {
            Ok(record) => record,
            Err(why) => {
                found.check(Check::Readable, false, || why.to_string());
                books.shadow = None;
                return;
            }
        };
        found.check(Check::Readable, record.shard == shard, || format!("it says it is shard {}'s", record.shard.0));
        books.money.warm(&record.events);
        books.record(&record, found);
        books.shadow(&record, found);
    }

    /// All records were read: compares the books with what was replayed, and lets go of that. [`Audit::join`] does it as
    /// well; each part may do it beforehand, side by side with the others.
    pub fn settle(&mut self) {
        self.found.nth = u64::MAX;
        for books in self.shards.iter_mut().filter(|books| books.seq > 0) {
            self.found.shard = books.id.0;
            self.found.seq = books.seq;
            books.compare(&mut self.found);
            books.shadow = None;
        }
    }

    /// Compares the books with what was replayed, and gives the report.
    pub fn finish(self) -> Report {
        Self::join([self])
    }

    /// Compares all parts' books with each other, and gives the report: the same, whatever the parts were.
    ///
    /// # Panics
    /// If there are no parts, or they are not those of one audit.
    pub fn join(parts: impl IntoIterator<Item = Self>) -> Report {
        let mut parts = parts.into_iter();
        let mut all = parts.next().expect("there is a part");
        all.settle();
        for mut part in parts {
            part.settle();
            all.shards.append(&mut part.shards);
            all.found.report.add(part.found.report);
        }
        let Self { of, mut shards, mut found } = all;
        shards.sort_by_key(|books| books.id);
        assert!(shards.iter().map(|books| books.id.0).eq(0..of), "all shards, each once");
        // As one audit alone would have come upon them.
        found.report.violations.sort_by_key(|violation| (violation.nth, violation.shard));
        found.report.violations.truncate(VIOLATIONS_MAX);
        found.report.conflicts.sort_by_key(|conflict| conflict.nth);
        found.report.conflicts.truncate(CONFLICTS_MAX);

        let money: Vec<&MoneyBooks> = shards.iter().map(|books| &books.money).collect();
        for books in shards.iter().filter(|books| books.seq > 0) {
            found.report.shards += 1;
            found.shard = books.id.0;
            found.seq = books.seq;
            books.money.pairs(&money, &mut found);
        }
        MoneyBooks::finish(&money, &mut found);
        found.report
    }
}

impl ShardBooks {
    fn record(&mut self, record: &Record, found: &mut Findings) {
        let (expected, before) = (self.seq + 1, self.at);
        found.check(Check::Sequence, record.seq == expected, || {
            format!("record {} follows {}", record.seq, expected - 1)
        });
        found.check(Check::Time, record.at >= before, || format!("{} ms back", before.since_ms(record.at)));
        self.seq = record.seq;
        self.at = self.at.max(record.at);
        found.seq = record.seq;
        let mut asked: Option<Origin> = None;
        for event in &record.events {
            found.report.events += 1;
            let by_admin = by_admin(event);
            let asked_before = asked.take();
            let asked_now = asked_before.is_some();
            let fits = by_admin.is_none_or(|by_admin| by_admin == asked_now);
            found.check(Check::Origin, fits, || match asked_now {
                false => format!("nobody asked for {event:?}"),
                true => "somebody asked, and nothing followed".into(),
            });
            if let (Event::DeviceConnected { device, .. }, Some(asked)) = (event, asked_before) {
                found.check(Check::Origin, asked.by == Principal::Device(*device), || {
                    format!("{device} connected, and {:?} is said to have asked", asked.by)
                });
            }
            self.event(event, record.at, &mut asked, found);
        }
        found.check(Check::Origin, asked.is_none(), || "somebody asked, and nothing followed".into());
    }

    fn event(&mut self, event: &Event, at: Timestamp, asked: &mut Option<Origin>, found: &mut Findings) {
        match event {
            Event::Origin(by) => {
                if let Some((id, _)) = by.key {
                    let before = self.keys.insert(id, at);
                    found.check(Check::Once, before.is_none(), || format!("the idempotency key {id:032x} again"));
                }
                *asked = by.answer().is_none().then_some(*by);
            }
            Event::Expired => {
                self.keys.retain(|_, made| at.since_ms(*made) <= KEY_KEPT_MS);
                self.festivals.values_mut().for_each(|books| books.expire(at));
            }
            Event::ApiKeyCreated { key, .. } => {
                self.at_home(Home::Platform, found);
                self.api_keys += 1;
                found.check(Check::Known, *key == self.api_keys, || format!("key {key} is not the next"));
            }
            Event::ApiKeyRevoked { key } => {
                self.at_home(Home::Platform, found);
                let known = (1..=self.api_keys).contains(key);
                found.check(Check::Known, known, || format!("there is no key {key}"));
            }
            Event::FestivalCreated { slug, policy, starts_at, .. } => {
                let id = FestivalId::of_slug(slug);
                self.at_home(Home::Festival(id), found);
                let before = self.festivals.insert(id, Books::new(id, *policy, *starts_at));
                found.check(Check::Known, before.is_none(), || format!("the festival {slug} again"));
            }
            Event::Transaction(_) | Event::Sent { .. } | Event::Received { .. } | Event::Delivered { .. } => {
                self.money.event(event, found);
            }
            Event::Cashless(cashless) => {
                if let Some(id) = cashless.festival() {
                    self.at_home(Home::Festival(id), found);
                    let here = self.festivals.get_mut(&id);
                    if let CashlessEvent::TerminalOffered { .. } | CashlessEvent::TerminalEnrolled { .. } = cashless
                        && found.check(Check::Known, here.is_some(), || format!("there is no festival {id}"))
                    {
                        here.expect("just looked").event(event, at, found);
                    }
                }
                self.money.event(event, found);
            }
            of_festival => {
                self.money.event(event, found);
                let id = of_festival.festival().expect("all others are a festival's");
                self.at_home(Home::Festival(id), found);
                let books = self.festivals.get_mut(&id);
                if found.check(Check::Known, books.is_some(), || format!("there is no festival {id}: {event:?}")) {
                    books.expect("just looked").event(event, at, found);
                }
            }
        }
    }

    fn at_home(&self, home: Home, found: &mut Findings) {
        let shard = home.shard(self.of);
        found.check(Check::Known, shard == self.id, || format!("{home:?} lives in shard {}", shard.0));
    }

    /// Replays the record; at the 1st, 2nd, 4th, 8th … the shadow goes through a snapshot.
    fn shadow(&mut self, record: &Record, found: &mut Findings) {
        let Some(shadow) = &mut self.shadow else { return };
        // What our own shards wrote is total; this may be anything that reads like a record.
        let replayed = catch_unwind(AssertUnwindSafe(|| shadow.replay_read(record)));
        let why = match replayed {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why.to_string()),
            Err(_) => Some("it contradicts the records before it".into()),
        };
        if !found.check(Check::Replay, why.is_none(), || format!("cannot be replayed: {}", why.unwrap_or_default())) {
            self.shadow = None;
            return;
        }
        if self.seq >= self.snapshot_at {
            self.snapshot_at = self.snapshot_at.saturating_mul(2);
            let snapshot = shadow.snapshot();
            let restored = Shard::restore(&snapshot).filter(|restored| restored.snapshot() == snapshot);
            if found.check(Check::Replay, restored.is_some(), || "a snapshot restores to another state".into()) {
                **shadow = restored.expect("just looked");
            }
        }
    }

    fn compare(&self, found: &mut Findings) {
        let Some(shadow) = &self.shadow else { return };
        let (ours, theirs) = (self.festivals.len(), shadow.festivals().count());
        found.check(Check::Replay, ours == theirs, || format!("{theirs} festivals were replayed, {ours} recorded"));
        for festival in shadow.festivals() {
            if let Some(books) = self.festivals.get(&festival.id) {
                books.compare(festival, found);
            }
        }
        self.money.compare(shadow.cashless(), found);
    }
}

/// Whether an event is there because the office asked for it; `None` where it may be or not.
fn by_admin(event: &Event) -> Option<bool> {
    Some(match event {
        Event::Scanned(_) | Event::Origin(_) | Event::Expired => false,
        Event::Undone(undone) => undone.by.is_none(),
        Event::Transaction(t) => {
            let by_itself = TransactionKind::Lapse == t.kind;
            let other_side = matches!(t.kind, TransactionKind::TransferIn | TransactionKind::TransferBack);
            t.by.is_none() && !other_side && !by_itself
        }
        Event::Sent { .. } | Event::Received { .. } | Event::Delivered { .. } => false,
        // Asked for, or made for a wristband that is sold with it.
        Event::Cashless(CashlessEvent::WalletCreated { .. }) => return None,
        // Asked for, or come with what the wristband before it named.
        Event::Cashless(CashlessEvent::TagLinking { .. } | CashlessEvent::TagBinding { .. }) => return None,
        // The festival's word, not the office's.
        Event::TagBound { .. } => false,
        // Asked for, or when the last shard has said that nothing is booked in the currency before.
        Event::Cashless(CashlessEvent::PolicySet { .. }) => return None,
        Event::Cashless(
            CashlessEvent::TagAttached { .. }
            | CashlessEvent::TagLinked { .. }
            | CashlessEvent::TagRefused { .. }
            | CashlessEvent::TagFreed { .. }
            | CashlessEvent::TagBindTaken { .. }
            | CashlessEvent::TagBindRefused { .. }
            | CashlessEvent::TagUnbound { .. }
            | CashlessEvent::TagCarried { .. }
            | CashlessEvent::LossKnown { .. }
            // Told by the other side.
            | CashlessEvent::WalletTagLost { op: 0, .. }
            | CashlessEvent::TagLost { op: 0, .. }
            | CashlessEvent::TagBarred { op: 0, .. }
            | CashlessEvent::TransferSettled { .. }
            | CashlessEvent::TransferCancelAsked { .. }
            | CashlessEvent::CurrencyHeld { .. }
            | CashlessEvent::CurrencyVoted { .. }
            | CashlessEvent::CurrencyReleased { .. },
        ) => false,
        _ => true,
    })
}
