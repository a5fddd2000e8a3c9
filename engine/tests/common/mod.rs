//! A night at the gate, as a table of domain words. Each line is one command in one step of a real shard, with real
//! signed QRs; what stands behind the arrow is what the steward sees.
//!
//! ```text
//! 18:00 enter T1 main            → admitted, 1 inside
//! 18:01 enter T1 main by main-2  → rejected: already_used
//! ```
//! After each line the books are added up ([`books`]); at the end the night is replayed from its records, from a
//! snapshot and its tail, and must come out the same.
#![allow(dead_code, unreachable_pub)] // each test file uses its own part of this

mod script;

use std::collections::BTreeMap;

use engine::command::*;

use engine::event::Event;
use engine::gates::command::*;
use engine::gates::event::Undone;
use engine::gates::festival::Festival;
use engine::model::credential::{QrClaim, QrSecret, text};
use engine::model::ids::*;
use engine::model::money::{Currency, Money};
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::status::*;
use engine::model::time::{HOUR_MS, MINUTE_MS, Timestamp};
use engine::shard::{Shard, Step};
use engine::view::{Notice, Query, View};

/// The secret of every test.
pub const SECRET: &[u8] = b"a secret of at least 32 bytes, for tests";
/// Midnight before the night in question: 2026-07-10T00:00:00Z.
pub const MIDNIGHT: Timestamp = Timestamp(1_783_641_600_000);

/// `18:00`, `18:00:05`, `18:00:00.500`, `42:00` (18:00 tomorrow).
pub fn clock(text: &str) -> Option<Timestamp> {
    let mut parts = text.split(':');
    let hours: i64 = parts.next()?.parse().ok()?;
    let minutes: i64 = parts.next()?.parse().ok()?;
    let seconds: f64 = parts.next().map_or(Some(0.0), |s| s.parse().ok())?;
    Some(MIDNIGHT.plus_ms(hours * HOUR_MS + minutes * MINUTE_MS + (seconds * 1_000.0) as i64))
}

/// A reader, as the script knows it.
#[derive(Clone, Debug)]
pub struct Reader {
    pub id: DeviceId,
    pub zone: ZoneNo,
    pub next_seq: u64,
}

/// One shard with two festivals, and the names that a script calls things by.
pub struct World {
    pub shard: Shard,
    pub step: Step,
    pub now: Timestamp,
    pub records: Vec<Vec<u8>>,
    pub snapshots: Vec<(usize, Vec<u8>)>,
    pub secret: QrSecret,
    pub festival: FestivalId,
    pub elsewhere: FestivalId,
    pub zones: BTreeMap<String, ZoneNo>,
    pub categories: BTreeMap<String, CategoryNo>,
    pub readers: BTreeMap<String, Reader>,
    pub tickets: BTreeMap<String, TicketId>,
    pub tags: BTreeMap<String, TagUid>,
    /// The latest scan of a ticket by a reader, for undoing it.
    pub scans: BTreeMap<(String, String), u64>,
    pub notices: Vec<Notice>,
    codes: u8,
    /// The books allow more people than a zone holds: somebody came in on a shown answer, an exit was undone, or the
    /// capacity was lowered.
    pub may_overflow: bool,
}

impl World {
    /// Two festivals without anything in them.
    pub fn bare() -> Self {
        let mut world = Self {
            shard: Shard::new(ShardId(0), 1),
            step: Step::default(),
            now: clock("12:00").unwrap(),
            records: Vec::new(),
            snapshots: Vec::new(),
            secret: QrSecret::new(SECRET).unwrap(),
            festival: FestivalId::of_slug("night"),
            elsewhere: FestivalId::of_slug("elsewhere"),
            zones: BTreeMap::new(),
            categories: BTreeMap::new(),
            readers: BTreeMap::new(),
            tickets: BTreeMap::new(),
            tags: BTreeMap::new(),
            scans: BTreeMap::new(),
            notices: Vec::new(),
            codes: 0,
            may_overflow: false,
        };
        for slug in ["night", "elsewhere"] {
            let made = world.admin(create(slug));
            assert_eq!(made, AdminAnswer::Festival(FestivalId::of_slug(slug)));
        }
        let there = world.elsewhere;
        world.admin(AdminAction::PutCategory { festival: there, category: None, values: values("guest", 0, 10) });
        let no = CategoryNo(0);
        world.admin(AdminAction::IssueTickets {
            festival: there,
            category: no,
            holders: vec![None],
            paid: true,
            seed: 9,
        });
        world.tickets.insert("E1".into(), TicketId::new(there, no, 0, nonce_at(9, 0)));
        // Well signed, never issued.
        world.tickets.insert("ghost".into(), TicketId::new(world.festival, no, 0, 1));
        world.tickets.insert("ghost-category".into(), TicketId::new(world.festival, CategoryNo(77), 0, 1));
        world.tickets.insert("ghost-serial".into(), TicketId::new(world.festival, no, 9_999, 1));
        world
    }

    /// A festival that is ONGOING: `main` holds 100, `stage` in it 10, `pit` in that 5; `camp` is another perimeter.
    /// `day` tickets T1 to T9 open main, stage and pit, `camper` tickets C1 to C3 open main and camp. Readers are
    /// called after their zones: `main-1`, `main-2`, `stage-1`, `pit-1`, `camp-1`.
    pub fn open() -> Self {
        let mut world = Self::bare();
        world.play(
            "
            12:00 zone main 100
                  zone stage 10 in main
                  zone pit 5 in stage
                  zone camp 100
                  category day main,stage,pit quota 1000
                  category camper main,camp quota 100
                  reader main-1 at main
                  reader main-2 at main
                  reader stage-1 at stage
                  reader pit-1 at pit
                  reader camp-1 at camp
                  issue T1..T9 day
                  issue C1..C3 camper
                  status PUBLISHED
                  status ONGOING
            ",
        );
        world.now = clock("18:00").unwrap();
        world
    }

    /// Steps one batch, keeps its record, adds the books up.
    pub fn batch(&mut self, commands: &[Command]) -> Vec<Answer> {
        self.shard.step(self.now, commands, &mut self.step);
        if !self.step.record.is_empty() {
            self.records.push(self.step.record.clone());
        }
        self.notices.extend_from_slice(&self.step.notices);
        assert_eq!(self.step.answers.len(), commands.len(), "one answer for each command");
        for festival in self.shard.festivals() {
            books(festival, self.may_overflow);
        }
        self.step.answers.clone()
    }

    /// One command.
    pub fn ask(&mut self, command: Command) -> Answer {
        self.batch(&[command])[0]
    }

    /// For the office, without a key.
    pub fn admin(&mut self, action: AdminAction) -> AdminAnswer {
        self.admin_with(None, action).0
    }

    /// For the office; also whether it was a repetition.
    pub fn admin_with(&mut self, key: Option<IdempotencyKey>, action: AdminAction) -> (AdminAnswer, bool) {
        // As the doors do it: a device speaks for itself when it connects.
        let by = match action {
            AdminAction::DeviceConnected { device, .. } => Principal::Device(device),
            _ => Principal::ApiKey(1),
        };
        let command = AdminCommand { key, by, action };
        match self.ask(Command::Admin(Box::new(command))) {
            Answer::Admin { answer, repeated } => (answer, repeated),
            other => panic!("{other:?}"),
        }
    }

    /// For a device; also whether it was a repetition.
    pub fn device(&mut self, command: DeviceCommand) -> (DeviceAnswer, bool) {
        match self.ask(Command::Device(command)) {
            Answer::Device { device, seq, answer, repeated } => {
                assert_eq!((device, seq), (command.device, command.seq), "the answer names its question");
                (answer, repeated)
            }
            other => panic!("{other:?}"),
        }
    }

    /// The credential that a script's word stands for: `T1`, `T1@2` (key 2), `forged:T1`, `garbage`, a wristband.
    pub fn credential(&self, word: &str) -> Credential {
        if let Some(tag) = self.tags.get(word) {
            return Credential::Tag(*tag);
        }
        if word == "garbage" {
            return self.read(b"https://example.org");
        }
        if let Some(word) = word.strip_prefix("forged:") {
            let ticket = self.tickets[word];
            return self.read(text(&QrClaim { ticket, version: 1, hash: [7; 32] }).as_bytes());
        }
        let (name, version) = match word.split_once('@') {
            Some((name, version)) => (name, version.parse().unwrap()),
            None => (word, self.here().qr_version),
        };
        let ticket = *self.tickets.get(name).unwrap_or_else(|| panic!("no ticket or wristband called {name}"));
        let claim = self.secret.key(ticket.festival(), version).sign(ticket, version);
        self.read(text(&claim).as_bytes())
    }

    /// As the gateway does it: parsed and verified before the shard sees it.
    pub fn read(&self, qr: &[u8]) -> Credential {
        match self.secret.verify(qr) {
            Ok(verified) => Credential::Ticket(verified),
            Err(rejection) => Credential::Refused(rejection, qr.iter().map(|&b| u32::from(b)).sum()),
        }
    }

    /// The festival that scripts are about.
    pub fn here(&self) -> &Festival {
        self.shard.festivals().find(|festival| festival.id == self.festival).expect("it was made")
    }

    /// A one-time code, shown and redeemed.
    pub fn enrol(&mut self, gate: GateNo, name: &str) -> DeviceId {
        self.codes += 1;
        let (festival, code_hash) = (self.festival, [self.codes; 32]);
        let until = self.admin(AdminAction::OfferEnrolment { festival, gate, code_hash, name: name.into() });
        assert!(matches!(until, AdminAnswer::CodeUntil(_)), "{until:?}");
        match self.admin(AdminAction::EnrolDevice { festival, code_hash, public_key: [self.codes; 32] }) {
            AdminAnswer::Device(device) => {
                let session = self.records.len() as u64;
                assert_eq!(self.admin(AdminAction::DeviceConnected { device, session }), AdminAnswer::Done);
                device
            }
            other => panic!("{other:?}"),
        }
    }

    /// The number of a reader's latest connection: that of the record that has it, from 0.
    pub fn session_of(&self, reader: &str) -> u64 {
        let device = self.readers[reader].id;
        let connected = |bytes: &Vec<u8>| {
            let events = engine::record::read(bytes).expect("our own").events;
            events.iter().any(|event| matches!(event, Event::DeviceConnected { device: d, .. } if *d == device))
        };
        self.records.iter().rposition(connected).expect("it has connected") as u64
    }

    /// Replays the night: from zero, from the snapshot that was taken on the way, and through a restored snapshot.
    pub fn replays(&self) {
        let hash = self.shard.state_hash();
        let mut again = Shard::new(ShardId(0), 1);
        for record in &self.records {
            again.replay(record).expect("our own record");
        }
        assert_eq!(again.state_hash(), hash, "replay from zero");
        for (position, snapshot) in &self.snapshots {
            let mut again = Shard::restore(snapshot).expect("our own snapshot");
            assert_eq!(again.seq(), *position as u64);
            for record in &self.records[*position..] {
                again.replay(record).expect("our own record");
            }
            assert_eq!(again.state_hash(), hash, "snapshot and tail");
        }
        let restored = Shard::restore(&self.shard.snapshot()).expect("our own snapshot");
        assert_eq!(restored.state_hash(), hash, "restored");
        // The hash is of what a snapshot holds, so it cannot tell what a snapshot leaves out.
        assert!(format!("{restored:?}") == format!("{:?}", self.shard), "a snapshot leaves something out");
    }

    /// Remembers the state as it is now for [`World::replays`].
    pub fn take_snapshot(&mut self) {
        self.snapshots.push((self.records.len(), self.shard.snapshot()));
    }
}

/// A festival with the usual policy.
pub fn create(slug: &str) -> AdminAction {
    AdminAction::CreateFestival {
        slug: slug.into(),
        name: slug.to_uppercase(),
        starts_at: MIDNIGHT,
        ends_at: MIDNIGHT.plus_ms(72 * HOUR_MS),
        policy: Policy::default(),
        calendar: engine::model::time::Calendar::default(),
    }
}

/// A category that is valid for a year on both sides.
pub fn values(name: &str, zones: u64, quota: u32) -> CategoryValues {
    CategoryValues {
        name: name.into(),
        kind: CategoryKind::Standard,
        price: Money { minor: 8_900, currency: Currency::EUR },
        quota,
        zones,
        valid_from: MIDNIGHT.plus_ms(-365 * 24 * HOUR_MS),
        valid_until: MIDNIGHT.plus_ms(365 * 24 * HOUR_MS),
    }
}

/// What must hold after every step, counted from the tickets up.
pub fn books(festival: &Festival, may_overflow: bool) {
    for zone in &festival.zones {
        let inside = |mask: u64| mask & zone.no.bit() != 0;
        let tickets = festival.categories.iter().flat_map(|category| &category.tickets);
        let by_ticket = tickets.filter(|ticket| inside(ticket.inside)).count() as u32;
        assert_eq!(zone.occupancy, by_ticket + zone.unaccounted, "{}: who is inside", zone.name);
        assert_eq!(u64::from(zone.occupancy), zone.admitted - zone.left, "{}: came less left", zone.name);
        assert!(may_overflow || zone.occupancy <= zone.capacity, "{}: room", zone.name);
        for outer in festival.outer_of(zone) {
            assert!(zone.unaccounted <= outer.unaccounted, "who is in {} is in {}", zone.name, outer.name);
        }
    }
    for category in &festival.categories {
        let count = |test: fn(TicketStatus) -> bool| {
            category.tickets.iter().filter(|ticket| test(ticket.status)).count() as u32
        };
        assert_eq!(category.live, count(TicketStatus::is_live), "{}: live", category.values.name);
        assert_eq!(category.used, count(|status| status == TicketStatus::Used), "{}: used", category.values.name);
        assert!(category.live <= category.values.quota, "{}: quota", category.values.name);
        for ticket in &category.tickets {
            for zone in festival.zones.iter().filter(|zone| ticket.inside & zone.no.bit() != 0) {
                assert_eq!(ticket.inside & zone.outer, zone.outer, "who is in {} is in its parents", zone.name);
            }
        }
    }
    for (tag, ticket) in &festival.tags {
        assert_eq!(festival.tag_of.get(ticket), Some(tag), "a wristband and its ticket name each other");
    }
    assert_eq!(festival.tags.len(), festival.tag_of.len());
}

/// What a query shows, or why not.
pub fn view(world: &World, query: Query) -> Result<View, Rejection> {
    match world.shard.query(&query) {
        View::No(rejection) => Err(rejection),
        view => Ok(view),
    }
}
