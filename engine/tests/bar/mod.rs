//! A night at the bar, as a table of domain words, over as many shards as one likes. Each line is one command; what
//! stands behind the arrow is what whoever asked is told, mostly the balance that is left.
//!
//! ```text
//! topup W1 50.00        → 50.00
//! pay W1 12.50 bar-7    → 37.50
//! pay W1 40.00 bar-7    → rejected: insufficient_funds
//! ```
//! After each line messages go back and forth until all shards are quiet, and the books are added up; at the end every
//! shard is replayed from its records and from a snapshot, and the audit reads it all.
#![allow(dead_code, unreachable_pub)] // each test file uses its own part of this

mod script;

use std::collections::BTreeMap;

use engine::audit::{Audit, Report};
use engine::cashless::command::*;
use engine::cashless::view::{LedgerView, TagState, WalletView};
use engine::command::*;
use engine::gates::command::*;
use engine::model::ids::*;
use engine::model::money::{Currency, Money};
use engine::model::principal::Principal;
use engine::model::status::{CategoryKind, EntryPolicy, FestivalStatus, Policy};
use engine::model::time::{HOUR_MS, Timestamp};
use engine::shard::outbox::Message;
use engine::shard::{Shard, Step};
use engine::view::{Query, View};

/// 2026-07-10T18:00:00Z.
pub const EVENING: Timestamp = Timestamp(1_783_706_400_000);

/// A terminal, as the script knows it.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    pub id: DeviceId,
    pub next_seq: u64,
}

/// Some shards with two festivals, and the names that a script calls things by.
pub struct Bar {
    pub shards: Vec<Shard>,
    pub step: Step,
    pub now: Timestamp,
    /// By shard.
    pub records: Vec<Vec<Vec<u8>>>,
    /// All of them in the order in which they were written, as a journal has them.
    pub journal: Vec<(ShardId, Vec<u8>)>,
    pub snapshots: Vec<(usize, usize, Vec<u8>)>,
    pub festival: FestivalId,
    pub elsewhere: FestivalId,
    pub vendors: BTreeMap<String, (FestivalId, VendorNo)>,
    pub terminals: BTreeMap<String, Terminal>,
    pub wallets: BTreeMap<String, WalletId>,
    pub tags: BTreeMap<String, TagUid>,
    pub payments: BTreeMap<String, TransactionId>,
    pub tickets: BTreeMap<String, TicketId>,
    /// The reader at the gate, with its next number.
    pub reader: Option<(DeviceId, u64)>,
    /// Operations that were answered in a later step.
    pub finished: BTreeMap<(ShardId, u64), AdminAnswer>,
    /// Messages are delivered after each line.
    pub quiet: bool,
    codes: u8,
    keys: u128,
}

impl Bar {
    /// Two festivals without cashless payments.
    pub fn bare(shards: u16) -> Self {
        let mut bar = Self {
            shards: (0..shards).map(|id| Shard::new(ShardId(id), shards)).collect(),
            step: Step::default(),
            now: EVENING,
            records: vec![Vec::new(); usize::from(shards)],
            journal: Vec::new(),
            snapshots: Vec::new(),
            festival: FestivalId::of_slug("night"),
            elsewhere: FestivalId::of_slug("elsewhere"),
            vendors: BTreeMap::new(),
            terminals: BTreeMap::new(),
            wallets: BTreeMap::new(),
            tags: BTreeMap::new(),
            payments: BTreeMap::new(),
            tickets: BTreeMap::new(),
            reader: None,
            finished: BTreeMap::new(),
            quiet: true,
            codes: 0,
            keys: 0,
        };
        for slug in ["night", "elsewhere"] {
            let made = bar.admin(AdminAction::CreateFestival {
                slug: slug.into(),
                name: slug.to_uppercase(),
                starts_at: EVENING,
                ends_at: EVENING.plus_ms(72 * HOUR_MS),
                policy: Policy::default(),
                calendar: engine::model::time::Calendar::default(),
            });
            assert_eq!(made, AdminAnswer::Festival(FestivalId::of_slug(slug)));
        }
        bar
    }

    /// Both festivals ONGOING with the usual limits. Here `bar-7` (10 % commission, products 0 at 5.00 with 19 % VAT, 1 at
    /// 2.50 with 7 %) with the terminals bar-7 and bar-7b, `bar-8` (no commission) with a terminal, and the cash desk
    /// `desk`. Elsewhere `stall` with a terminal, and the cash desk `far-desk`. W1 to W4 are wallets of this festival.
    pub fn open(shards: u16) -> Self {
        let mut bar = Self::bare(shards);
        bar.play(
            "
            cashless night
            cashless elsewhere
            vendor bar-7 10.00%
            product bar-7 5.00 19%
            product bar-7 2.50 7%
            vendor bar-8 0%
            vendor stall 0% elsewhere
            status PUBLISHED night
            status ONGOING night
            status PUBLISHED elsewhere
            terminal bar-7 of bar-7
            terminal bar-7b of bar-7
            terminal bar-8 of bar-8
            terminal stall of stall
            terminal desk cashier
            terminal far-desk cashier elsewhere
            wallet W1
            wallet W2
            wallet W3
            wallet W4
            ",
        );
        bar
    }

    /// Steps one shard, keeps the record.
    pub fn batch(&mut self, shard: ShardId, commands: &[Command]) -> Vec<Answer> {
        let at = usize::from(shard.0);
        self.shards[at].step(self.now, commands, &mut self.step);
        if !self.step.record.is_empty() {
            self.records[at].push(self.step.record.clone());
            self.journal.push((shard, self.step.record.clone()));
        }
        for (op, answer) in &self.step.finished {
            let before = self.finished.insert((shard, *op), *answer);
            assert_eq!(before, None, "an operation is finished once");
        }
        assert_eq!(self.step.answers.len(), commands.len(), "one answer for each command");
        self.step.answers.clone()
    }

    /// One command at its home.
    pub fn ask(&mut self, command: Command) -> (ShardId, Answer) {
        let shard = command.home().expect("somebody's").shard(self.shards.len() as u16);
        let answer = self.batch(shard, &[command])[0];
        (shard, answer)
    }

    /// For the office, with a key of its own; its final answer, once all shards are quiet.
    pub fn admin(&mut self, action: AdminAction) -> AdminAnswer {
        self.keys += 1;
        let key = IdempotencyKey { id: self.keys, fingerprint: 1, made_at: None };
        self.admin_with(Some(key), action).0
    }

    pub fn admin_with(&mut self, key: Option<IdempotencyKey>, action: AdminAction) -> (AdminAnswer, bool) {
        let command = Command::Admin(Box::new(AdminCommand { key, by: Principal::ApiKey(1), action }));
        let (shard, answer) = self.ask(command);
        let Answer::Admin { answer, repeated } = answer else { panic!("{answer:?}") };
        if self.quiet {
            self.pump();
        }
        match answer {
            AdminAnswer::Pending(op) => (*self.finished.get(&(shard, op)).unwrap_or(&answer), repeated),
            answer => (answer, repeated),
        }
    }

    pub fn cashless(&mut self, action: CashlessAction) -> AdminAnswer {
        self.admin(AdminAction::Cashless(action))
    }

    /// For a terminal; also whether it was a repetition.
    pub fn terminal(&mut self, command: TerminalCommand) -> (TerminalAnswer, bool) {
        let (device, seq) = (command.device, command.seq);
        match self.ask(Command::Terminal(command)).1 {
            Answer::Terminal { device: to, seq: of, answer, repeated } => {
                assert_eq!((to, of), (device, seq), "the answer names its question");
                (answer, repeated)
            }
            other => panic!("{other:?}"),
        }
    }

    /// What one shard has to say to another.
    pub fn outgoing(&self, from: ShardId, to: ShardId) -> (u64, Vec<Message>) {
        let (first, messages) = self.shards[usize::from(from.0)].outgoing(to);
        (first, messages.cloned().collect())
    }

    /// One delivery, with the acknowledgement if `ack`.
    pub fn carry(&mut self, from: ShardId, to: ShardId, ack: bool) {
        let (first, messages) = self.outgoing(from, to);
        if messages.is_empty() {
            return;
        }
        let answers = self.batch(to, &[Command::Deliver { from, first, messages }]);
        let [Answer::Acked { from: of, through }] = answers[..] else { panic!("{answers:?}") };
        assert_eq!(of, from);
        if ack {
            self.batch(from, &[Command::Delivered { to, through }]);
        }
    }

    /// Carries messages until nobody has any.
    pub fn pump(&mut self) {
        let ids: Vec<ShardId> = (0..self.shards.len() as u16).map(ShardId).collect();
        let mut rounds = 0;
        while ids.iter().any(|from| ids.iter().any(|to| !self.outgoing(*from, *to).1.is_empty())) {
            for &from in &ids {
                for &to in ids.iter().filter(|to| **to != from) {
                    self.carry(from, to, true);
                }
            }
            rounds += 1;
            assert!(rounds < 100, "the shards talk for ever");
        }
    }

    pub fn query(&self, query: Query) -> View {
        let shard = query.home().expect("one home's").shard(self.shards.len() as u16);
        self.shards[usize::from(shard.0)].query(&query)
    }

    pub fn wallet(&self, name: &str) -> WalletView {
        match self.query(Query::Wallet(self.wallets[name])) {
            View::Wallet(view) => view,
            other => panic!("{name}: {other:?}"),
        }
    }

    /// A festival's books, summed over the shards.
    pub fn ledger(&self, festival: FestivalId) -> LedgerView {
        let mut sum = LedgerView::default();
        for shard in &self.shards {
            if let View::Ledger(part) = shard.query(&Query::Ledger(festival)) {
                sum.add(&part);
            }
        }
        sum
    }

    /// What must hold after every step, counted from the wallets up.
    pub fn books(&self) {
        let (mut in_wallets, mut on_the_way, mut reserved) = (0_i128, 0_i128, 0_i128);
        let mut by_ledger = 0_i128;
        for shard in &self.shards {
            let cashless = shard.cashless();
            let wallets = &cashless.wallets;
            for wallet in wallets.iter() {
                assert!(wallet.available >= 0 && wallet.reserved >= 0, "{wallet:?}");
                let slot = wallets.slot(wallet.id).unwrap();
                let lots: i64 = wallets.lots(slot).map(|lot| lot.amount).sum();
                assert_eq!(lots, wallet.available, "{:?}: every euro has a source", wallet.id);
                in_wallets += i128::from(wallet.available);
                reserved += i128::from(wallet.reserved);
            }
            for (_, festival) in cashless.directory.festivals() {
                assert_eq!(festival.ledger.sum(), 0, "the books of {:?} add up", shard.id());
                on_the_way += festival.ledger.view().in_transit;
                by_ledger += festival.ledger.view().wallets;
            }
        }
        assert_eq!(in_wallets, by_ledger, "the wallets are in the books");
        assert!((0..=reserved).contains(&on_the_way), "{on_the_way} on the way, {reserved} reserved");
        self.tags();
    }

    /// A tag names one wallet at most, a wallet's tag names it, unless messages are under way.
    fn tags(&self) {
        let mut holders = BTreeMap::new();
        for wallet in self.shards.iter().flat_map(|shard| shard.cashless().wallets.iter()) {
            if let Some((tag, version)) = wallet.tag().filter(|_| !wallet.is_tag_lost()) {
                assert_eq!(holders.insert(tag, (wallet.id, version)), None, "a chip is one wallet's");
            }
        }
        for (tag, wallet, version) in self.shards.iter().flat_map(|shard| shard.cashless().tags.linked_ones()) {
            let lost = self.shards.iter().any(|shard| {
                shard.cashless().wallets.get(wallet).is_ok_and(|w| w.is_tag_lost() && w.tag() == Some((tag, version)))
            });
            if self.quiet {
                assert!(lost || holders.get(&tag) == Some(&(wallet, version)), "{tag:?} names {wallet:?}");
            }
        }
    }

    /// Remembers the state of a shard as it is now for [`Bar::replays`].
    pub fn take_snapshots(&mut self) {
        for (at, shard) in self.shards.iter().enumerate() {
            self.snapshots.push((at, self.records[at].len(), shard.snapshot()));
        }
    }

    /// Replays the night: from zero, from the snapshots that were taken on the way, and through a restored snapshot.
    pub fn replays(&self) {
        let shards = self.shards.len() as u16;
        for (shard, records) in self.shards.iter().zip(&self.records) {
            let hash = shard.state_hash();
            let mut again = Shard::new(shard.id(), shards);
            for record in records {
                again.replay(record).expect("our own record");
            }
            assert!(again.state_hash() == hash, "replay from zero");
            let restored = Shard::restore(&shard.snapshot()).expect("our own snapshot");
            assert!(restored.state_hash() == hash, "restored");
            // The hash is of what a snapshot holds, so it cannot tell what a snapshot leaves out.
            assert!(format!("{restored:?}") == format!("{:?}", shard), "a snapshot leaves something out");
        }
        for (at, position, snapshot) in &self.snapshots {
            let mut again = Shard::restore(snapshot).expect("our own snapshot");
            for record in &self.records[*at][*position..] {
                again.replay(record).expect("our own record");
            }
            assert!(again.state_hash() == self.shards[*at].state_hash(), "snapshot and tail");
        }
    }

    /// Reads it all, as `tapgate audit` does: also in three parts, which must find the same.
    pub fn audit(&self, more: &[(ShardId, Vec<u8>)]) -> Report {
        let shards = self.shards.len() as u16;
        let mut whole = Audit::new(shards);
        let mut parts: Vec<Audit> = (0..3).map(|part| Audit::part(shards, part, 3)).collect();
        for (nth, (shard, record)) in (1..).zip(self.journal.iter().chain(more)) {
            whole.record(*shard, record);
            parts[usize::from(shard.0 % 3)].record_at(nth, *shard, record);
        }
        parts[1].settle();
        let report = whole.finish();
        assert_eq!(format!("{:?}", Audit::join(parts)), format!("{report:?}"), "the same by parts");
        report
    }

    /// A one-time code, shown and redeemed.
    pub fn enrol(&mut self, festival: FestivalId, vendor: Option<VendorNo>, cashier: bool, name: &str) -> DeviceId {
        self.codes += 1;
        let code_hash = [self.codes; 32];
        let offer = CashlessAction::OfferTerminal { festival, vendor, cashier, code_hash, name: name.into() };
        let until = self.cashless(offer);
        assert!(matches!(until, AdminAnswer::CodeUntil(_)), "{until:?}");
        match self.admin(AdminAction::EnrolDevice { festival, code_hash, public_key: [self.codes; 32] }) {
            AdminAnswer::Device(device) => device,
            other => panic!("{other:?}"),
        }
    }

    /// A gate with a reader at each festival's main area, where people come back as they like: tickets T1 to T4 here, E1
    /// and E2 elsewhere.
    pub fn with_gate(mut self) -> Self {
        for (festival, letter, count) in [(self.festival, 'T', 4), (self.elsewhere, 'E', 2)] {
            let policy = Policy { entry: EntryPolicy::Reentry, ..Policy::default() };
            self.admin(AdminAction::SetPolicy { festival, policy });
            let (name, zone) = (String::from("main"), ZoneNo(0));
            self.admin(AdminAction::PutZone { festival, zone: None, name: name.clone(), parent: None, capacity: 100 });
            self.admin(AdminAction::AddGate { festival, zone, name: name.clone() });
            let values = CategoryValues {
                name,
                kind: CategoryKind::Standard,
                price: eur(5_000),
                quota: 10,
                zones: 1,
                valid_from: EVENING,
                valid_until: EVENING.plus_ms(72 * HOUR_MS),
            };
            let category = CategoryNo(0);
            self.admin(AdminAction::PutCategory { festival, category: None, values });
            let holders = vec![None; count];
            self.admin(AdminAction::IssueTickets { festival, category, holders, paid: true, seed: 5 });
            let ids = issued(festival, category, 0, count as u32, 5);
            self.tickets.extend((1..).zip(ids).map(|(n, id)| (format!("{letter}{n}"), id)));
        }
        let festival = self.festival;
        let code_hash = [0xC0; 32];
        self.admin(AdminAction::OfferEnrolment { festival, gate: GateNo(0), code_hash, name: "reader".into() });
        let made = self.admin(AdminAction::EnrolDevice { festival, code_hash, public_key: [0xC0; 32] });
        let AdminAnswer::Device(reader) = made else { panic!("{made:?}") };
        self.reader = Some((reader, 1));
        self
    }

    /// Holds a wristband to the reader at the gate.
    pub fn at_gate(&mut self, tag: TagUid, direction: Direction) -> DeviceAnswer {
        let (device, seq) = self.reader.expect("there is a gate");
        self.reader = Some((device, seq + 1));
        let credential = Credential::Tag(tag);
        let scan = Scan { zone: ZoneNo(0), direction, credential, captured_at: self.now, shown: None, resent: false };
        let command = DeviceCommand { device, seq, floor: seq, action: DeviceAction::Scan(scan) };
        match self.ask(Command::Device(command)).1 {
            Answer::Device { answer, .. } => answer,
            other => panic!("{other:?}"),
        }
    }

    /// As the gateway does it: which wallet a tag names, and by which version.
    pub fn resolve(&self, tag: TagUid) -> Option<(WalletId, Tap)> {
        let View::Tag(view) = self.query(Query::Tag(tag)) else { return None };
        let wallet = view.wallet.filter(|_| view.state == TagState::Linked)?;
        Some((wallet, Tap { tag, version: view.version }))
    }
}

pub fn eur(minor: i64) -> Money {
    Money { minor, currency: Currency::EUR }
}

/// The status word of a script.
fn status(word: &str) -> FestivalStatus {
    FestivalStatus::from_word(word).unwrap_or_else(|| panic!("no status {word}"))
}
