//! The shard: hosts the actors of many homes and steps them in batches, so that a thousand decisions share one record
//! and one disk flush.
//!
//! `step` decides and applies command by command, writes what happened into one record, and gives the answers in the
//! order of the commands. Nobody may be told before that record is durable; that is the host's business.

mod cashless;
pub mod dedupe;
pub mod operators;
pub mod outbox;
mod questions;
mod tags;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cashless::Cashless;
use crate::cashless::event::CashlessEvent;
use crate::command::{AdminAction, AdminAnswer, AdminCommand, Answer, Command, CommandRef};
use crate::event::{Already, Event, Origin};
use crate::gates::admission;
use crate::gates::command::{Credential, DeviceAction, DeviceAnswer, DeviceCommand};
use crate::gates::event::ByDevice;
use crate::gates::festival::{Decided, Festival};
use crate::model::ids::{FestivalId, Home, ShardId, ZoneNo};
use crate::model::principal::Principal;
use crate::model::rejection::Rejection;
use crate::model::status::ScanAck;
use crate::model::time::Timestamp;
use crate::plants::{Plant, planted};
use crate::record::{self, Record, RecordError, Writer};
use crate::shard::dedupe::{Keys, Seen, SeenKey};
use crate::shard::operators::Operators;
use crate::shard::outbox::{Entry, Message, Outbox};
use crate::view::Notice;

/// The most festivals of one shard.
pub const FESTIVALS_MAX: usize = 4_096;

/// Many actors, one thread, one journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shard {
    id: ShardId,
    /// Of the last record.
    seq: u64,
    /// How many shards there are.
    shards: u16,
    /// Never goes back.
    now: Timestamp,
    festivals: BTreeMap<FestivalId, Festival>,
    operators: Operators,
    keys: Keys,
    outbox: Outbox,
    cashless: Cashless,
}

/// What a step comes to. Kept and handed in again, so that a steady stream of steps allocates nothing.
#[derive(Debug, Default)]
pub struct Step {
    /// The record to make durable; empty if nothing has happened.
    pub record: Vec<u8>,
    /// How many events the record has.
    pub events: u32,
    /// One for each command, in order.
    pub answers: Vec<Answer>,
    /// What connected devices are to be told once the record is durable.
    pub notices: Vec<Notice>,
    /// Answers of this step that are to wait for other shards as well, beside the record.
    pub holds: Vec<Hold>,
    /// The number of the last message of this step to each shard that it has messages for: once the record is durable
    /// they may be sent.
    pub sent: Vec<(ShardId, u64)>,
    /// Operations that were answered [`AdminAnswer::Pending`] in an earlier step, with their answers now.
    pub finished: Vec<(u64, AdminAnswer)>,
}

/// An answer that is to wait until [`Shard::delivered`] says that another shard has a message: so that what was revoked
/// is refused everywhere when whoever asked hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Which of [`Step::answers`].
    pub answer: usize,
    pub to: ShardId,
    /// The message's number.
    pub n: u64,
}

impl Shard {
    /// A shard to which nothing has happened yet, one of `shards`.
    pub fn new(id: ShardId, shards: u16) -> Self {
        Self {
            id,
            shards,
            outbox: Outbox::new(shards),
            cashless: Cashless::default(),
            seq: 0,
            now: Timestamp::default(),
            festivals: BTreeMap::new(),
            operators: Operators::default(),
            keys: Keys::default(),
        }
    }

    pub fn id(&self) -> ShardId {
        self.id
    }
    /// The sequence number of the last record decided or replayed.
    pub fn seq(&self) -> u64 {
        self.seq
    }
    /// The shard's time: the highest stamp so far.
    pub fn now(&self) -> Timestamp {
        self.now
    }
    /// When answers to a festival's scans leave; durable for one that is not here.
    pub fn ack_of(&self, festival: FestivalId) -> ScanAck {
        self.festivals.get(&festival).map_or(ScanAck::Durable, |festival| festival.policy.ack)
    }
    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.shards
    }
    /// Money's part.
    pub fn cashless(&self) -> &Cashless {
        &self.cashless
    }
    /// What waits for another shard, with the number of the first. Only what is durable may be sent: up to the numbers
    /// in [`Step::sent`] of the steps whose records are; after a recovery all of it. It is sent again, from the first,
    /// until [`Command::Delivered`] says that the other shard has it.
    pub fn outgoing(&self, to: ShardId) -> (u64, impl ExactSizeIterator<Item = &Message>) {
        self.outbox.pending(to)
    }
    /// Up to which number another shard has all that this one sent it.
    pub fn delivered(&self, to: ShardId) -> u64 {
        self.outbox.delivered(to)
    }
    /// All festivals of this shard.
    pub fn festivals(&self) -> impl Iterator<Item = &Festival> {
        self.festivals.values()
    }

    /// Decides a batch at `stamp`, or at the shard's own time if that is later.
    pub fn step(&mut self, stamp: Timestamp, commands: &[Command], out: &mut Step) {
        self.step_each(stamp, commands.iter().map(Command::by_ref), out);
    }

    /// [`Shard::step`] for commands that lie in several places.
    pub fn step_each<'c>(
        &mut self,
        stamp: Timestamp,
        commands: impl IntoIterator<Item = CommandRef<'c>, IntoIter: Clone>,
        out: &mut Step,
    ) {
        let commands = commands.into_iter();
        self.warm(commands.clone());
        out.answers.clear();
        out.notices.clear();
        out.holds.clear();
        out.sent.clear();
        out.finished.clear();
        let now = if planted(Plant::TimeGoesBack) { stamp } else { self.now.max(stamp) };
        let mut record = core::mem::take(&mut out.record);
        let mut writer = Writer::begin(&mut record, self.id, self.seq + 1, now);
        for command in commands {
            let answer = match command {
                CommandRef::Device(command) => self.device(command, now, &mut writer),
                CommandRef::Terminal(command) => self.terminal(command, now, &mut writer),
                CommandRef::Admin(command) => {
                    let answer = self.admin(command, now, &mut writer, out);
                    if let Answer::Admin { answer, .. } = &answer {
                        self.hold(&command.action, answer, out.answers.len(), &mut out.holds);
                    }
                    answer
                }
                CommandRef::Deliver { from, first, messages } => {
                    self.deliver(from, first, messages, now, &mut writer, out)
                }
                CommandRef::Delivered { to, through } => self.delivered_to(to, through, now, &mut writer),
                CommandRef::Tick => self.tick(now, &mut writer, out),
            };
            out.answers.push(answer);
        }
        out.events = writer.events();
        if out.events == 0 {
            record.clear();
        } else {
            self.seq += 1;
            self.now = now;
        }
        out.record = record;
    }

    /// Looks at the wallets of a batch, all of them before the first is decided: the processor fetches many at a time
    /// while nothing depends on them. With a million wallets a debit takes nearly half the time (296 ns instead of 547).
    fn warm<'c>(&self, commands: impl Iterator<Item = CommandRef<'c>>) {
        let seen = commands.fold(0_i64, |seen, command| match command {
            CommandRef::Terminal(command) => seen ^ self.cashless.wallets.glance(command.action.wallet()),
            _ => seen,
        });
        core::hint::black_box(seen);
    }

    fn device(&mut self, command: &DeviceCommand, now: Timestamp, writer: &mut Writer<'_>) -> Answer {
        let (device, seq) = (command.device, command.seq);
        let fingerprint = fingerprint(&command.action);
        let reply = |answer, repeated| Answer::Device { device, seq, answer, repeated };
        let zone = match &command.action {
            DeviceAction::Scan(scan) => scan.zone,
            DeviceAction::Undo(_) => ZoneNo(0),
        };
        let known = self.festivals.get_mut(&device.festival()).filter(|festival| festival.device(device).is_ok());
        let Some(festival) = known else {
            return reply(DeviceAnswer::rejected(Rejection::UnknownDevice, zone, now), false);
        };
        if festival.devices[device.number() as usize].terminal.is_some() {
            return reply(DeviceAnswer::rejected(Rejection::WrongGate, zone, now), false);
        }
        let window = &festival.devices[device.number() as usize].window;
        match window.look_up(seq, command.floor, fingerprint) {
            Seen::New => {}
            Seen::Answered(answer) => return reply(answer, true),
            Seen::Refused(rejection) => return reply(DeviceAnswer::rejected(rejection, zone, now), false),
        }
        // The floor that holds: a number is less than a window above it, however old the frame's own is.
        let by = ByDevice { device, seq, floor: window.floor().max(command.floor), fingerprint };
        let answer = match &command.action {
            DeviceAction::Scan(scan) => {
                let scanned = admission::decide_scan(festival, by, scan, now);
                admission::apply_scan(festival, &scanned, now);
                writer.push(&Event::Scanned(scanned));
                scanned.answer(now)
            }
            DeviceAction::Undo(undo) => {
                let undone = admission::decide_undo(festival, Some(by), undo, now);
                admission::apply_undo(festival, &undone, now);
                writer.push(&Event::Undone(undone));
                undone.answer(now)
            }
        };
        reply(answer, false)
    }

    fn admin(&mut self, command: &AdminCommand, now: Timestamp, writer: &mut Writer<'_>, out: &mut Step) -> Answer {
        let reply = |answer, repeated| Answer::Admin { answer, repeated };
        if let Some(key) = &command.key {
            // By recorded time: what a clock says that is recorded nowhere may be taken back, and with it the refusal.
            let recorded = if writer.events() > 0 { now } else { self.now };
            match self.keys.look_up(key, command.by, recorded) {
                SeenKey::New => {}
                SeenKey::Answered(answer) => return reply(answer, true),
                SeenKey::Refused(Rejection::LimitReached)
                    if command.action.protects_people() && self.keys.have_room_for_urgent() => {}
                SeenKey::Refused(rejection) => return reply(AdminAnswer::Rejected(rejection), false),
            }
        }
        let key = command.key.map(|key| (key.id, key.fingerprint));
        let by = if planted(Plant::PrincipalForgotten) { Principal::Installation } else { command.by };
        let mut asked = Origin { by, key, rejection: None, already: None };
        match self.decide_admin(&command.action, now) {
            Ok(Decided::Event(event)) => {
                self.emit(&Event::Origin(asked), None, now, writer);
                out.finished.extend(self.emit(&event, Some(asked), now, writer));
                out.notices.extend(event.notice());
                self.follow(&event, &command.action, now, writer, out);
                return reply(self.answer_of(&event, out), false);
            }
            Ok(Decided::Already(already)) => asked.already = Some(already),
            // Nothing is decided yet: the same key may come again.
            Err(Rejection::Busy) => return reply(AdminAnswer::Rejected(Rejection::Busy), false),
            Err(rejection) => asked.rejection = Some(rejection),
        }
        if asked.rejection == Some(Rejection::CodeExpired) {
            // Recorded, so that the code stays lapsed.
            self.emit(&Event::Expired, None, now, writer);
        }
        // Nothing happens, so without a key there is nothing to remember either.
        if key.is_some() {
            self.emit(&Event::Origin(asked), None, now, writer);
        }
        reply(asked.answer().expect("nothing follows"), false)
    }

    fn decide_admin(&self, action: &AdminAction, now: Timestamp) -> Result<Decided, Rejection> {
        self.has_room_for(action)?;
        match action {
            AdminAction::CreateApiKey { hash, role, festivals, name } => {
                self.operators.decide_create(hash, *role, festivals, name).map(Decided::Event)
            }
            AdminAction::RevokeApiKey { key } => self.operators.decide_revoke(*key),
            AdminAction::CreateFestival { slug, .. } if !self.festivals.contains_key(&FestivalId::of_slug(slug)) => {
                if self.festivals.len() >= FESTIVALS_MAX {
                    return Err(Rejection::LimitReached);
                }
                Festival::decide_create(action).map(Decided::Event)
            }
            AdminAction::BindTag { ticket, tag } => {
                if !self.cashless.tags.decide_bind(*tag, *ticket)? {
                    return Ok(Decided::Already(Already::Done));
                }
                let (ticket, tag, op) = (*ticket, *tag, self.cashless.ops.next());
                Ok(Decided::Event(Event::Cashless(CashlessEvent::TagBinding { tag, ticket, op })))
            }
            AdminAction::ReportTicketTagLost { ticket } => {
                let festival = ticket.festival();
                let here = self.festivals.get(&festival).ok_or(Rejection::UnknownFestival)?;
                let (tag, fresh) = here.tag_of(*ticket)?;
                if !fresh {
                    return Ok(Decided::Already(Already::Done));
                }
                Ok(Decided::Event(Event::Cashless(CashlessEvent::TagBarred {
                    festival,
                    tag,
                    op: self.cashless.ops.next(),
                })))
            }
            AdminAction::Cashless(action) => {
                let festival = match action.home() {
                    Home::Festival(id) => self.festivals.get(&id),
                    _ => None,
                };
                let decided =
                    self.cashless.decide_admin(action, festival, self.number_of_order(), self.shards - 1, now)?;
                if let Decided::Event(event) = &decided {
                    self.check_near_side(event, action)?;
                }
                Ok(decided)
            }
            _ => {
                let Home::Festival(id) = action.home() else { return Err(Rejection::UnknownFestival) };
                self.festivals.get(&id).ok_or(Rejection::UnknownFestival)?.decide(action, now)
            }
        }
    }

    fn tick(&mut self, now: Timestamp, writer: &mut Writer<'_>, out: &mut Step) -> Answer {
        self.overdue(now, writer, out);
        self.lapse(now, writer, out);
        if self.keys.any_due(now) || self.festivals.values().any(|festival| festival.any_due(now)) {
            self.emit(&Event::Expired, None, now, writer);
        }
        Answer::Ticked
    }

    /// Gives back the operation that this event ends, with what its asker is told.
    fn emit(
        &mut self,
        event: &Event,
        asked: Option<Origin>,
        now: Timestamp,
        writer: &mut Writer<'_>,
    ) -> Option<(u64, AdminAnswer)> {
        let finished = self.apply(event, now, asked);
        writer.push(event);
        finished
    }

    /// Writes down what has happened. Cannot fail, and decides nothing: replay is this and nothing else.
    fn apply(&mut self, event: &Event, at: Timestamp, asked: Option<Origin>) -> Option<(u64, AdminAnswer)> {
        let mut finished = None;
        match event {
            Event::Origin(asked) => {
                if let (Some((id, fingerprint)), Some(answer)) = (asked.key, asked.answer()) {
                    self.keys.remember(id, asked.by, fingerprint, answer, at);
                }
                return None;
            }
            Event::FestivalCreated { slug, name, starts_at, ends_at, policy, calendar } => {
                let (slug, name, span) = (slug.clone(), name.clone(), (*starts_at, *ends_at));
                let made = Festival::new(slug, name, span, *policy, calendar.clone(), at);
                self.festivals.insert(made.id, made);
            }
            Event::ApiKeyCreated { key, hash, role, festivals, name } => {
                self.operators.created(*key, *hash, *role, festivals.clone(), name.clone(), at);
            }
            Event::ApiKeyRevoked { key } => self.operators.revoked(*key),
            Event::Expired => {
                self.keys.forget(at);
                self.festivals.values_mut().for_each(|festival| festival.apply(event, at));
            }
            Event::Transaction(t) => finished = self.cashless.apply_transaction(t, Self::asker(asked), at),
            Event::Cashless(cashless) => {
                finished = self.cashless.apply(cashless, Self::asker(asked), at);
                if let CashlessEvent::TerminalOffered { .. }
                | CashlessEvent::TerminalEnrolled { .. }
                | CashlessEvent::TagBarred { .. } = cashless
                {
                    let id = cashless.festival().expect("a festival's own");
                    self.festivals.get_mut(&id).expect("decided").apply(event, at);
                }
            }
            Event::Sent { to, n, message } => self.outbox.sent(*to, *n, message.clone()),
            Event::Received { from, n, message } => {
                self.outbox.received(*from, *n);
                if let Message::Directory(entry) = message
                    && !planted_stale(entry)
                {
                    self.cashless.put(entry, at);
                }
            }
            Event::Delivered { to, through } => self.outbox.trim(*to, *through),
            _ => {
                let id = event.festival().expect("every other event is a festival's");
                self.festivals.get_mut(&id).expect("decided").apply(event, at);
                self.note_in_directory(event, at);
            }
        }
        if let Some(Origin { by, key: Some((id, fingerprint)), .. }) = asked {
            self.keys.remember(id, by, fingerprint, event.answer(), at);
        }
        let (op, asker, answer) = finished?;
        if let Some(by) = asker {
            self.keys.remember(by.key, by.by, by.fingerprint, answer, at); // in place of `pending`
        }
        Some((op, answer))
    }

    /// Applies one record of the journal.
    ///
    /// # Errors
    /// [`RecordError`] if it cannot be read, is another shard's, or is not the next.
    pub fn replay(&mut self, bytes: &[u8]) -> Result<Record, RecordError> {
        let record = record::read(bytes)?;
        self.replay_read(&record)?;
        Ok(record)
    }

    /// [`Shard::replay`] of a record that was read already.
    ///
    /// # Errors
    /// [`RecordError`] if it is another shard's, or is not the next.
    pub fn replay_read(&mut self, record: &Record) -> Result<(), RecordError> {
        if record.shard != self.id {
            return Err(RecordError::OtherShard(record.shard));
        }
        if record.seq != self.seq + 1 {
            return Err(RecordError::OutOfOrder(self.seq + 1, record.seq));
        }
        self.warm_replay(&record.events);
        let mut asked = None;
        for event in &record.events {
            self.apply(event, record.at, asked.take());
            if let Event::Origin(by) = event
                && by.answer().is_none()
            {
                asked = Some(*by);
            }
        }
        self.seq = record.seq;
        self.now = record.at;
        Ok(())
    }

    /// [`Shard::warm`] for a record's transactions.
    fn warm_replay(&self, events: &[Event]) {
        let seen = events.iter().fold(0_i64, |seen, event| match event {
            Event::Transaction(t) => seen ^ self.cashless.wallets.glance(t.wallet),
            _ => seen,
        });
        core::hint::black_box(seen);
    }

    /// The whole state, for a snapshot. The same state gives the same bytes, whichever way it was reached.
    pub fn snapshot(&self) -> Vec<u8> {
        if planted(Plant::PresenceNotRestored) {
            let mut forgetful = self.clone();
            forgetful.festivals.values_mut().for_each(Festival::forget_presence);
            return postcard::to_allocvec(&forgetful).expect("the state is plain data");
        }
        postcard::to_allocvec(self).expect("the state is plain data")
    }

    /// The state from a snapshot's bytes, or `None` if another version wrote them: the journal has it all.
    pub fn restore(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    /// SHA-256 of the whole state. Replay from zero, replay from a snapshot and a hot shadow agree on it.
    pub fn state_hash(&self) -> [u8; 32] {
        Self::hash_of(&self.snapshot())
    }

    /// [`Shard::state_hash`] of a state that is at hand as a snapshot's bytes.
    pub fn hash_of(snapshot: &[u8]) -> [u8; 32] {
        Sha256::digest(snapshot).into()
    }
}

/// The plant `directory-stale`.
fn planted_stale(entry: &Entry) -> bool {
    matches!(entry, Entry::Terminal { revoked: true, .. }) && planted(Plant::DirectoryStale)
}

/// Tells one question of a device from another with the same number: FNV-1a over what was asked, folded to 32 bits.
/// The reader's clock and what it has shown are no part of the question. Kept in records, so it never changes.
pub fn fingerprint(action: &DeviceAction) -> u32 {
    let mut hash: u64 = 0xCBF2_9CE4_8422_2325;
    let mut mix = |word: u64| {
        hash = (hash ^ word).wrapping_mul(0x0000_0100_0000_01B3);
        hash ^= hash >> 29;
    };
    match action {
        DeviceAction::Scan(scan) => {
            mix(1 | u64::from(scan.zone.0) << 8 | (scan.direction as u64) << 16);
            match scan.credential {
                Credential::Ticket(ticket) => {
                    let id = ticket.id().as_u128();
                    mix((id >> 64) as u64);
                    mix(id as u64);
                    mix(u64::from(ticket.version()));
                }
                Credential::Refused(rejection, number) => mix(1 << 40 | (rejection as u64) << 32 | u64::from(number)),
                Credential::Tag(tag) => tag.as_bytes().iter().for_each(|&byte| mix(u64::from(byte) | 2 << 40)),
            }
        }
        DeviceAction::Undo(undo) => {
            let id = undo.ticket.as_u128();
            mix(2);
            mix((id >> 64) as u64);
            mix(id as u64);
            mix(undo.scan_seq);
        }
    }
    (hash ^ hash >> 32) as u32
}
