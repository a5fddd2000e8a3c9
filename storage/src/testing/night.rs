//! Nights at random gates and terminals: two festivals and their guests' wallets on four shards, decided by the
//! real engine, with what the read models have to say about them kept beside it in the plainest way. Of the gates the
//! model hears questions and answers and asks the engine's state, and never looks at events; of the terminals (`terminals.rs`) it
//! keeps all that happened, and asks the books.

mod terminals;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::command::{AdminAction, AdminAnswer, AdminCommand, Answer, Command};
use engine::gates::command::{
    BY_HAND, ByHand, CategoryValues, Credential, DeviceAction, DeviceAnswer, DeviceCommand, Direction, FIRST_ENTRY,
    Scan, UNLOGGED, Undo, Verdict, WAS_NOT_INSIDE,
};
use engine::model::credential::{KeyCache, QrSecret};
use engine::model::ids::{CategoryNo, DeviceId, FestivalId, GateNo, Home, ShardId, TicketId, ZoneNo, nonce_at};
use engine::model::money::{Currency, Money};
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::status::{CategoryKind, EntryPolicy, FestivalStatus, Policy, ScanAck, TicketStatus};
use engine::model::time::{Calendar, MINUTE_MS, Timestamp};
use engine::shard::{Shard, Step};
use engine::view::{Query, View};

use crate::journal::{Cursor, Journal as _, JournalError, Position, Reader, Records, Sink};
use crate::testing::faults::Chance;
use crate::testing::memory::{MemoryJournal, MemoryLog};
use crate::views::gates::{AccessEntry, AccessLog, CountPosition, Counts, Tally, TicketRow, Tickets};
use crate::views::{Page, Span, Views};
use terminals::Terminals;

pub const SHARDS: u16 = 4;

/// Nobody who listens.
pub struct Nobody;
impl Sink for Nobody {
    fn durable(&self, _: ShardId, _: usize, _: Position, _: &mut Vec<Vec<u8>>) {}
    fn failed(&self, _: &str) {}
    fn lost(&self, _: ShardId, _: &str) {}
}

/// A line of the log as the model has it.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    at: Timestamp,
    ticket: Option<TicketId>,
    zone: ZoneNo,
    device: Option<DeviceId>,
    direction: Option<Direction>,
    verdict: Verdict,
    flags: u8,
    occupancy: u32,
}

impl From<&AccessEntry> for Line {
    fn from(entry: &AccessEntry) -> Self {
        Self {
            at: entry.position.at,
            ticket: entry.ticket,
            zone: entry.zone,
            device: entry.device,
            direction: entry.direction,
            verdict: entry.verdict,
            flags: entry.flags,
            occupancy: entry.occupancy,
        }
    }
}

/// One festival, where it lives, and the model of what lists say about it.
pub struct Festival {
    pub id: FestivalId,
    home: ShardId,
    /// Device and its gate; gates 0 and 1 lead into zone 0, gate 2 into zone 1 in it.
    devices: Vec<DeviceId>,
    seqs: Vec<u64>,
    pub tickets: Vec<(TicketId, Option<u128>)>,
    lines: Vec<Line>,
    counts: BTreeMap<CountPosition, Tally>,
    /// Where the last scan that changed something counted, for whoever takes it back.
    last: BTreeMap<TicketId, (CountPosition, Direction)>,
    /// When its readers connected.
    opened: Timestamp,
    asked: Vec<DeviceCommand>,
}

/// Festivals in one journal, and a clock.
pub struct Night {
    pub chance: Chance,
    pub festivals: Vec<Festival>,
    pub log: Arc<MemoryLog>,
    pub journal: Arc<MemoryJournal>,
    pub now: Timestamp,
    shards: Vec<Shard>,
    terminals: Terminals,
    secret: QrSecret,
    records: usize,
}

const HOLDERS: [u128; 3] = [7, 1 << 100, u128::MAX];

impl Night {
    pub fn new(seed: u64) -> Self {
        let log = MemoryLog::new(SHARDS);
        let journal = MemoryJournal::start(Arc::clone(&log), SHARDS, Arc::new(Nobody)).expect("starts");
        let mut night = Self {
            chance: Chance(seed),
            festivals: Vec::new(),
            log,
            journal: Arc::new(journal),
            now: Timestamp(1_780_000_000_000),
            shards: (0..SHARDS).map(|id| Shard::new(ShardId(id), SHARDS)).collect(),
            terminals: Terminals::default(),
            secret: QrSecret::new(&[7; 32]).expect("long enough"),
            records: 0,
        };
        for (slug, policy) in [
            ("demo", Policy::default()),
            ("hellfest", Policy { entry: EntryPolicy::Reentry, ack: ScanAck::Decided, log_one_rejection_in: 3 }),
        ] {
            night.open(slug, policy);
        }
        night.open_terminals();
        night
    }

    fn open(&mut self, slug: &str, policy: Policy) {
        let id = FestivalId::of_slug(slug);
        let home = Home::Festival(id).shard(SHARDS);
        assert!(self.festivals.iter().all(|known| known.home != home), "two shards");
        let (devices, seqs) = (Vec::new(), Vec::new());
        let (tickets, lines, counts, asked) = (Vec::new(), Vec::new(), BTreeMap::new(), Vec::new());
        let (last, opened) = (BTreeMap::new(), self.now);
        self.festivals.push(Festival { id, home, devices, seqs, tickets, lines, counts, last, opened, asked });
        let which = self.festivals.len() - 1;
        let (starts_at, ends_at) = (self.now, self.now.plus_ms(86_400_000));
        let calendar = Calendar::default();
        let (address, name) = (slug.to_owned(), slug.to_owned());
        let mut acts = vec![AdminAction::CreateFestival { slug: address, name, starts_at, ends_at, policy, calendar }];
        for (name, parent, capacity) in [("Field", None, 40), ("Pit", Some(ZoneNo(0)), 15)] {
            acts.push(AdminAction::PutZone { festival: id, zone: None, name: name.into(), parent, capacity });
        }
        for zone in [0, 0, 1].map(ZoneNo) {
            acts.push(AdminAction::AddGate { festival: id, zone, name: "Gate".into() });
        }
        for zones in [0b01, 0b11] {
            let price = Money { minor: 100, currency: Currency::parse("EUR").expect("a currency") };
            let (kind, valid_from, valid_until) = (CategoryKind::Standard, starts_at, ends_at);
            let values =
                CategoryValues { name: "Day".into(), kind, price, quota: 5_000, zones, valid_from, valid_until };
            acts.push(AdminAction::PutCategory { festival: id, category: None, values });
        }
        for to in [FestivalStatus::Published, FestivalStatus::Ongoing] {
            acts.push(AdminAction::SetFestivalStatus { festival: id, to });
        }
        for gate in 0..3 {
            let code_hash = [gate as u8; 32];
            acts.push(AdminAction::OfferEnrolment { festival: id, gate: GateNo(gate), code_hash, name: "R".into() });
            acts.push(AdminAction::EnrolDevice { festival: id, code_hash, public_key: [gate as u8; 32] });
            let device = DeviceId::new(id, gate.into());
            acts.push(AdminAction::DeviceConnected { device, session: gate.into() });
        }
        for act in acts {
            self.decide(which, vec![(admin(act), Meaning::Other)]);
        }
        self.issue(which, 30);
    }

    /// A record, or none if what was asked changes nothing; at the terminals several. Time passes by up to half a minute.
    pub fn act(&mut self) {
        self.now = self.now.plus_ms([0, 1, 40, 30_000][self.chance.below(4) as usize]);
        if self.chance.below(3) == 0 {
            return self.act_at_terminals();
        }
        let which = self.chance.below(self.festivals.len() as u64) as usize;
        if self.chance.below(20) == 0 {
            let count = [1, 3, 300, 1_024][self.chance.below(4) as usize];
            return self.issue(which, count);
        }
        // Sometimes more than fit into one chunk of the log.
        let commands = if self.chance.below(10) == 0 { 150 } else { 1 + self.chance.below(8) };
        let batch = (0..commands).map(|_| self.any_command(which)).collect();
        self.decide(which, batch);
    }

    fn any_command(&mut self, which: usize) -> (Command, Meaning) {
        let chance = &mut self.chance;
        let elsewhere = self.festivals[1 - which.min(1)].tickets.first().map(|(ticket, _)| *ticket);
        let festival = &mut self.festivals[which];
        // Mostly the same few, so that something happens to them.
        let among = if chance.below(3) == 0 { festival.tickets.len() as u64 } else { 12 };
        let ticket = festival.tickets[chance.below(among) as usize].0;
        let forged = TicketId::new(festival.id, CategoryNo(chance.below(3) as u16), chance.below(9) as u32, 1);
        let reader = chance.below(3) as usize;
        let device = festival.devices[reader];
        match chance.below(22) {
            0..=12 => {
                let named = match chance.below(12) {
                    0 => forged,
                    1 => elsewhere.unwrap_or(forged),
                    _ => ticket,
                };
                let claim = self.secret.key(named.festival(), 1).sign(named, 1);
                let verified = KeyCache::default().verify(&self.secret, &claim).expect("signed");
                let credential = match chance.below(12) {
                    0 => Credential::Refused(Rejection::InvalidQr, 5),
                    _ => Credential::Ticket(verified),
                };
                let zone = if chance.below(12) == 0 { ZoneNo(1) } else { ZoneNo(u8::from(reader == 2)) };
                let direction = if chance.below(3) == 0 { Direction::Exit } else { Direction::Enter };
                let shown = [None, Some(Verdict::Admitted), Some(Verdict::Rejected(Rejection::ZoneFull))];
                let shown = shown[chance.below(6).saturating_sub(3) as usize];
                // What was shown is sent again, some of it hours later.
                let resent = shown.is_some();
                let ago_ms = if resent { chance.below(9_000_000) as i64 } else { 7 };
                let captured_at = self.now.plus_ms(-ago_ms);
                let scan = Scan { zone, direction, credential, captured_at, resent, shown };
                festival.ask(reader, DeviceAction::Scan(scan))
            }
            13 | 14 => {
                let ticket = [ticket, ticket, forged, elsewhere.unwrap_or(forged)][chance.below(4) as usize];
                let scan_seq = festival.seqs[reader].saturating_sub(chance.below(3));
                festival.ask(reader, DeviceAction::Undo(Undo { ticket, scan_seq }))
            }
            // Sent again: it gets the same answer, and is in no list twice.
            15 => match festival.asked.last() {
                Some(again) if again.device == device => (Command::Device(*again), Meaning::Other),
                _ => (Command::Tick, Meaning::Other),
            },
            16 => (admin(AdminAction::UndoScan { ticket }), Meaning::AdminUndo(ticket)),
            17 => {
                let to = TicketStatus::ALL[1 + chance.below(5) as usize];
                (admin(AdminAction::SetTicketStatus { ticket, to }), Meaning::Other)
            }
            20 => {
                let (gate, reason) = (GateNo(chance.below(3) as u16), "x".into());
                (admin(AdminAction::ByHand(ByHand::Admit { ticket, gate, reason })), Meaning::ByHand(ticket, gate))
            }
            21 => {
                let (festival, reason) = (festival.id, "x".into());
                let action = match chance.below(4) {
                    0 => ByHand::ResetScans { festival, reason },
                    _ => ByHand::RestoreTicket { ticket, reason },
                };
                (admin(AdminAction::ByHand(action)), Meaning::Other)
            }
            18 => (admin(AdminAction::BlockTicket { ticket, blocked: chance.below(2) == 0 }), Meaning::Other),
            _ => (Command::Tick, Meaning::Other),
        }
    }

    fn issue(&mut self, which: usize, count: u32) {
        let known = self.chance.below(3);
        let holders: Vec<_> = (0..count)
            .map(|_| match known {
                0 => None,
                1 => Some(HOLDERS[self.chance.below(3) as usize]),
                _ => HOLDERS.get(self.chance.below(9) as usize).copied(),
            })
            .collect();
        let category = CategoryNo(self.chance.below(2) as u16);
        let paid = self.chance.below(4) > 0;
        let (festival, seed) = (self.festivals[which].id, self.chance.draw());
        let act = AdminAction::IssueTickets { festival, category, holders: holders.clone(), paid, seed };
        self.decide(which, vec![(admin(act), Meaning::Issue(holders))]);
    }

    /// Decides a batch, hands its record to the journal, tells the model what it needs to know.
    fn decide(&mut self, which: usize, batch: Vec<(Command, Meaning)>) {
        let (commands, meanings): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let answers = self.step(self.festivals[which].home, &commands);
        let heard = commands.iter().zip(meanings).zip(&answers);
        heard
            .for_each(|((command, meaning), answer)| self.festivals[which].receive(command, meaning, answer, self.now));
    }

    /// One shard decides.
    fn step(&mut self, shard: ShardId, commands: &[Command]) -> Vec<Answer> {
        let mut step = Step::default();
        self.shards[usize::from(shard.0)].step(self.now, commands, &mut step);
        if step.events > 0 {
            self.terminals.receive(&step.record);
            self.journal.append(shard, step.record).expect("there is room");
            self.records += 1;
            while self.log.len() < self.records {
                std::thread::yield_now();
            }
        }
        step.answers
    }

    /// Whether `views`, which have followed everything so far, say what the model says: in whole and page by page, from
    /// both ends.
    pub fn check(&mut self, views: &dyn Views) {
        for which in 0..self.festivals.len() {
            let ticket = self.chance.below(self.festivals[which].tickets.len() as u64) as usize;
            let limit = 1 + self.chance.below(90) as usize;
            let festival = &self.festivals[which];
            let middle = festival.lines.get(festival.lines.len() / 2).map_or(self.now, |line| line.at);
            for span in [Span::ALWAYS, Span { from: middle, until: self.now }] {
                festival.check_log(views, span, festival.tickets[ticket].0, limit);
                festival.check_counts(views, span, limit);
            }
            festival.check_tickets(views, &self.shards[usize::from(festival.home.0)], limit * 10);
        }
        self.check_terminals(views);
    }
}

fn admin(action: AdminAction) -> Command {
    Command::Admin(Box::new(AdminCommand { key: None, by: Principal::ApiKey(1), action }))
}

/// What the model has to know about a command.
enum Meaning {
    Device(GateNo),
    AdminUndo(TicketId),
    ByHand(TicketId, GateNo),
    Issue(Vec<Option<u128>>),
    Other,
}

impl Festival {
    fn ask(&mut self, reader: usize, action: DeviceAction) -> (Command, Meaning) {
        self.seqs[reader] += 1;
        let seq = self.seqs[reader];
        let command =
            DeviceCommand { device: self.devices[reader], seq, floor: seq.saturating_sub(1_000).max(1), action };
        self.asked.push(command);
        (Command::Device(command), Meaning::Device(GateNo(reader as u16)))
    }

    fn receive(&mut self, command: &Command, meaning: Meaning, answer: &Answer, now: Timestamp) {
        match (command, meaning, answer) {
            (Command::Device(command), Meaning::Device(gate), Answer::Device { answer, repeated, .. }) => {
                assert!(!repeated);
                self.hear_device(command, gate, answer, now);
            }
            (_, Meaning::AdminUndo(ticket), Answer::Admin { answer: AdminAnswer::Done, .. }) => {
                self.take_back(ticket);
                // Where that scan was, and how full it is now, is the engine's to say: the answer does not.
                let (verdict, direction) = (Verdict::Undone, None);
                self.lines.push(Line {
                    at: now,
                    ticket: Some(ticket),
                    zone: ZoneNo(u8::MAX),
                    device: None,
                    direction,
                    verdict,
                    flags: 0,
                    occupancy: 0,
                });
            }
            (_, Meaning::ByHand(ticket, gate), Answer::Admin { answer: AdminAnswer::Done, .. }) => {
                let minute = Timestamp(now.0 / MINUTE_MS * MINUTE_MS);
                let zone = ZoneNo(u8::from(gate.0 == 2));
                let place = CountPosition { minute, gate, zone };
                self.counts.entry(place).or_default().add(Verdict::Admitted);
                self.last.insert(ticket, (place, Direction::Enter));
                self.lines.push(Line {
                    at: now,
                    ticket: Some(ticket),
                    zone: ZoneNo(u8::MAX),
                    device: None,
                    direction: Some(Direction::Enter),
                    verdict: Verdict::Admitted,
                    flags: BY_HAND, // whether it was the first entry, the answer does not say
                    occupancy: 0,
                });
            }
            (_, Meaning::Issue(holders), Answer::Admin { answer, .. }) => {
                let AdminAnswer::Issued { festival, category, first_serial, count, seed } = answer else { return };
                for index in 0..*count {
                    let serial = first_serial + index;
                    let id = TicketId::new(*festival, *category, serial, nonce_at(*seed, index));
                    self.tickets.push((id, holders[index as usize]));
                }
            }
            (_, _, Answer::Admin { answer: AdminAnswer::Device(device), .. }) => {
                self.devices.push(*device);
                self.seqs.push(0);
            }
            _ => {}
        }
    }

    fn hear_device(&mut self, command: &DeviceCommand, gate: GateNo, answer: &DeviceAnswer, now: Timestamp) {
        match command.action {
            DeviceAction::Scan(scan) => self.count(&scan, gate, answer, now),
            DeviceAction::Undo(undo) if answer.verdict == Verdict::Undone => self.take_back(undo.ticket),
            DeviceAction::Undo(_) => {}
        }
        let (direction, named) = match command.action {
            DeviceAction::Scan(scan) => (Some(scan.direction), answer.ticket),
            DeviceAction::Undo(undo) => (None, Some(undo.ticket).filter(|ticket| ticket.festival() == self.id)),
        };
        if answer.flags & UNLOGGED == 0 {
            self.lines.push(Line {
                at: now,
                ticket: named,
                zone: answer.zone,
                device: Some(command.device),
                direction,
                verdict: answer.verdict,
                flags: answer.flags,
                occupancy: answer.occupancy,
            });
        }
    }

    /// In the minute in which it was taken: its reader's, for what was sent again or captured before it had connected.
    fn count(&mut self, scan: &Scan, gate: GateNo, answer: &DeviceAnswer, now: Timestamp) {
        let queued = scan.resent || scan.captured_at < self.opened;
        let taken_at = if queued { scan.captured_at.max(self.opened) } else { now };
        let place = CountPosition { minute: Timestamp(taken_at.0 / MINUTE_MS * MINUTE_MS), gate, zone: answer.zone };
        self.counts.entry(place).or_default().add(answer.verdict);
        let moved = matches!(answer.verdict, Verdict::Admitted | Verdict::Exited) && answer.flags & WAS_NOT_INSIDE == 0;
        if let Some(ticket) = answer.ticket.filter(|_| moved) {
            self.last.insert(ticket, (place, scan.direction));
        }
    }

    fn take_back(&mut self, ticket: TicketId) {
        let (place, direction) = self.last.remove(&ticket).expect("what is undone had happened");
        self.counts.get_mut(&place).expect("it was counted").take_back(direction);
    }

    fn check_log(&self, views: &dyn Views, span: Span, ticket: TicketId, limit: usize) {
        let within = |line: &Line| span.from <= line.at && line.at < span.until;
        let expect = |which: &dyn Fn(&Line) -> bool| -> Vec<Line> {
            self.lines.iter().filter(|line| within(line) && which(line)).cloned().collect()
        };
        let read = |of| {
            let entries = pages(limit, |page| views.access_log(of, page).expect("reads"), |entry| entry.position);
            assert!(entries.windows(2).all(|two| two[0].position < two[1].position), "each has a place of its own");
            entries.iter().map(Line::from).collect::<Vec<_>>()
        };
        for device in &self.devices {
            assert_eq!(read(AccessLog::Device(*device, span)), expect(&|line| line.device == Some(*device)));
        }
        // The zone of what the office does is not the model's to know; all else is.
        let blind = |mut lines: Vec<Line>| {
            for line in lines.iter_mut().filter(|line| line.device.is_none()) {
                (line.zone, line.occupancy) = (ZoneNo(u8::MAX), 0);
                line.flags &= !FIRST_ENTRY;
            }
            lines
        };
        let of_ticket = blind(read(AccessLog::Ticket(ticket, span)));
        assert_eq!(of_ticket, expect(&|line| line.ticket == Some(ticket)));
        let mut undone_by_admin = 0;
        for zone in [0, 1].map(ZoneNo) {
            let (admin, readers): (Vec<_>, Vec<_>) =
                read(AccessLog::Zone(self.id, zone, span)).into_iter().partition(|line| line.device.is_none());
            undone_by_admin += admin.len();
            assert_eq!(readers, expect(&|line| line.zone == zone));
        }
        assert_eq!(undone_by_admin, expect(&|line| line.device.is_none()).len());
    }

    fn check_counts(&self, views: &dyn Views, span: Span, limit: usize) {
        let of = Counts { festival: self.id, span };
        let rows = pages(limit, |page| views.counts(of, page).expect("reads"), |row| row.position);
        let within = |place: &CountPosition| span.from <= place.minute && place.minute < span.until;
        let expected: Vec<_> = self.counts.iter().filter(|(place, _)| within(place)).collect();
        assert_eq!(rows.iter().map(|row| (&row.position, &row.tally)).collect::<Vec<_>>(), expected);
    }

    fn check_tickets(&self, views: &dyn Views, home: &Shard, limit: usize) {
        let mut rows: Vec<TicketRow> = self.tickets.iter().map(|(id, holder)| row(home, *id, *holder)).collect();
        rows.sort_by_key(|row| (row.ticket.category(), row.ticket.serial()));
        let all = [None].into_iter().chain(TicketStatus::ALL.iter().copied().map(Some));
        let all =
            all.flat_map(|status| [None, Some(CategoryNo(0)), Some(CategoryNo(1))].map(|category| (status, category)));
        for (status, category) in all {
            for holder in [None, Some(HOLDERS[0]), Some(HOLDERS[2]), Some(99)] {
                let of = Tickets { festival: self.id, status, category, holder };
                let expected: Vec<_> = rows
                    .iter()
                    .filter(|row| status.is_none_or(|status| row.status == status))
                    .filter(|row| category.is_none_or(|category| row.ticket.category() == category))
                    .filter(|row| holder.is_none() || row.holder == holder)
                    .copied()
                    .collect();
                let found = pages(limit, |page| views.tickets(of, page).expect("reads"), |row| row.ticket);
                assert_eq!(found, expected, "{of:?}");
            }
        }
    }
}

fn row(home: &Shard, ticket: TicketId, holder: Option<u128>) -> TicketRow {
    let View::Ticket(view) = home.query(&Query::Ticket(ticket)) else { panic!("issued") };
    TicketRow { ticket, status: view.status, blocked: view.blocked, holder }
}

/// Reads a list page by page, forwards, and again backwards; both give the same.
fn pages<P: Copy + std::fmt::Debug, R: PartialEq + std::fmt::Debug>(
    limit: usize,
    read: impl Fn(Page<P>) -> Vec<R>,
    place: impl Fn(&R) -> P,
) -> Vec<R> {
    let one_way = |backwards| {
        let mut rows = Vec::new();
        loop {
            let page = read(Page { after: rows.last().map(&place), limit, backwards });
            assert!(page.len() <= limit);
            let last = page.len() < limit;
            rows.extend(page);
            if last {
                return rows;
            }
        }
    };
    let (forwards, mut backwards) = (one_way(false), one_way(true));
    backwards.reverse();
    assert_eq!(forwards, backwards, "the same from both ends");
    forwards
}

/// The night's journal as one of several nodes sees it, of which each has some of the shards.
pub struct Part<'n> {
    journal: &'n MemoryJournal,
    here: [AtomicBool; SHARDS as usize],
}

impl<'n> Part<'n> {
    /// It has no shard yet.
    pub fn of(night: &'n Night) -> Self {
        Self { journal: &night.journal, here: Default::default() }
    }

    /// A shard comes to this node, or goes.
    pub fn has(&self, shard: ShardId, here: bool) {
        self.here[usize::from(shard.0)].store(here, Ordering::Relaxed);
    }
}

impl Records for Part<'_> {
    fn shards(&self) -> u16 {
        SHARDS
    }

    fn end(&self) -> Cursor {
        self.journal.end()
    }

    fn reader(&self, from: &Cursor) -> Result<Box<dyn Reader>, JournalError> {
        self.journal.reader(from)
    }

    fn records_between(&self, from: &Cursor, to: &Cursor) -> u64 {
        self.journal.records_between(from, to)
    }

    fn is_here(&self, shard: ShardId) -> bool {
        self.here[usize::from(shard.0)].load(Ordering::Relaxed)
    }
}
