//! From records to rows: the one place that knows what an event means to the read models. Pure, and the same for every
//! store.

use engine::event::Event;
use engine::gates::command::{BY_HAND, Direction, FIRST_ENTRY, UNLOGGED, Verdict};
use engine::gates::event::{AdmittedByHand, DoneByHand, Scanned, Undone};
use engine::model::ids::{CategoryNo, FestivalId, TicketId};
use engine::model::status::TicketStatus;
use engine::record;

use super::{Followed, LastRecord, ViewsError};
use crate::journal::{Cursor, Entry, Reader};
use crate::views::INDEX_BITS;
use crate::views::cashless::{CashlessPosition, TransactionRow};
use crate::views::gates::{AccessEntry, CountPosition, LogPosition, Tally};

/// A transaction with its lots and lines is about as large as this many entries of the access log.
const TRANSACTION_WEIGHT: usize = 3;

/// What a run of whole records comes to, in the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Where the run begins.
    pub from: Cursor,
    /// Where it ends.
    pub followed: Followed,
    /// New lines of the access log.
    pub access: Vec<AccessEntry>,
    /// What became of tickets.
    pub tickets: Vec<TicketChange>,
    /// What is to be added up.
    pub counts: Vec<CountStep>,
    /// What happened to money, and what each of it adds to sums.
    pub transactions: Vec<TransactionRow>,
    events: u64,
    weight: usize,
}

/// What became of tickets.
#[derive(Clone, Debug, PartialEq)]
pub enum TicketChange {
    /// New ones.
    Issued {
        festival: FestivalId,
        category: CategoryNo,
        first_serial: u32,
        /// How many.
        count: u32,
        /// What their nonces come from.
        seed: u64,
        /// SOLD, else RESERVED.
        paid: bool,
        /// Whose each is; empty if nobody's is known.
        holders: Vec<Option<u128>>,
    },
    /// One is this now.
    Status(TicketId, TicketStatus),
    /// One was blocked or let go.
    Blocked(TicketId, bool),
    /// All of a festival that are USED are SOLD again.
    Reset(FestivalId),
}

/// What one record adds to one row of counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountStep {
    /// At which festival, hence from which shard.
    pub festival: FestivalId,
    /// Which row.
    pub position: CountPosition,
    /// The number of the record within its shard: a row that covers it already must not count it again.
    pub seq: u64,
    /// What to add.
    pub tally: Tally,
}

impl Batch {
    /// An empty run that begins where the read models stand.
    pub fn behind(followed: &Followed) -> Self {
        Self {
            from: followed.cursor.clone(),
            followed: followed.clone(),
            access: Vec::new(),
            tickets: Vec::new(),
            counts: Vec::new(),
            transactions: Vec::new(),
            events: 0,
            weight: 0,
        }
    }

    /// Begins the next run where this one ends. Keeps the buffers.
    pub fn go_on(&mut self) {
        self.from.clone_from(&self.followed.cursor);
        self.access.clear();
        self.tickets.clear();
        self.counts.clear();
        self.transactions.clear();
        self.events = 0;
        self.weight = 0;
    }

    /// How many events it has folded in.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// What it weighs in memory, in events: an event that issues 1,024 tickets is as heavy as 1,024 others.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Whether writing it would change anything.
    pub fn is_empty(&self) -> bool {
        self.from == self.followed.cursor
    }

    /// It ends where the reader is, all of whose records were folded in: shards that have written nothing need not be
    /// looked at again up to there.
    pub fn ends_at(&mut self, reader: &dyn Reader) {
        reader.passed(&mut self.followed.cursor);
    }

    /// Folds in the next record.
    ///
    /// # Errors
    /// [`ViewsError::Record`] if it cannot be read.
    pub fn add(&mut self, entry: &Entry<'_>) -> Result<(), ViewsError> {
        let (shard, position) = (entry.shard, entry.position);
        let record = record::read(entry.payload).map_err(|why| ViewsError::Record { shard, position, why })?;
        if record.events.len() >= 1 << INDEX_BITS {
            let why = record::RecordError::Malformed("too many events");
            return Err(ViewsError::Record { shard, position, why });
        }
        let counts_before = self.counts.len();
        let orders = (record.seq << INDEX_BITS..).map(|order| LogPosition { at: record.at, order });
        let mut by = None;
        for (event, at) in record.events.into_iter().zip(orders) {
            self.events += 1;
            self.weight += 1;
            // Who asked precedes what came of it.
            let asked = match &event {
                Event::Origin(asked) if asked.answer().is_none() => Some(asked.by),
                _ => None,
            };
            match event {
                Event::Transaction(transaction) => {
                    self.weight += TRANSACTION_WEIGHT - 1;
                    let position = CashlessPosition::new(at, shard);
                    self.transactions.push(TransactionRow::new(transaction, position, by));
                }
                event => self.fold(event, at, record.seq, counts_before),
            }
            by = asked;
        }
        self.followed.cursor.advance(shard, position.next());
        self.followed.last = Some(LastRecord::of(entry));
        Ok(())
    }

    fn fold(&mut self, event: Event, at: LogPosition, seq: u64, counts_before: usize) {
        match event {
            Event::Scanned(scanned) => {
                let festival = scanned.device.festival();
                let minute = scanned.taken_at.minute();
                let place = CountPosition { minute, gate: scanned.gate, zone: scanned.zone };
                self.count(festival, place, seq, counts_before).add(scanned.verdict);
                if let Some(ticket) = scanned.ticket
                    && scanned.verdict == Verdict::Admitted
                    && scanned.flags & FIRST_ENTRY != 0
                {
                    self.tickets.push(TicketChange::Status(ticket, TicketStatus::Used));
                }
                if scanned.flags & UNLOGGED == 0 {
                    self.access.push(line_of_scan(&scanned, at));
                }
            }
            Event::Undone(undone) => {
                let line = line_of_undo(&undone, at);
                // Out of where it had counted, whoever takes it back and whenever.
                if let Some(scan) = undone.scan {
                    let place = CountPosition { minute: scan.minute, gate: scan.gate, zone: undone.zone };
                    self.count(line.festival, place, seq, counts_before).take_back(scan.direction);
                }
                if undone.verdict == Verdict::Undone && undone.unused {
                    self.tickets.push(TicketChange::Status(undone.ticket, TicketStatus::Sold));
                }
                self.access.push(line);
            }
            Event::TicketsIssued { festival, category, first_serial, count, seed, paid, holders } => {
                self.weight += count as usize;
                self.tickets.push(TicketChange::Issued {
                    festival,
                    category,
                    first_serial,
                    count,
                    seed,
                    paid,
                    holders,
                });
            }
            Event::TicketStatusSet { ticket, to, .. } => self.tickets.push(TicketChange::Status(ticket, to)),
            Event::TicketBlockSet { ticket, blocked } => self.tickets.push(TicketChange::Blocked(ticket, blocked)),
            Event::ByHand(DoneByHand::TicketRestored { ticket, .. }) => {
                self.tickets.push(TicketChange::Status(ticket, TicketStatus::Sold));
            }
            // The minutes of a test day stay what they were: they are its history.
            Event::ByHand(DoneByHand::ScansReset { festival, tickets, .. }) => {
                self.weight += tickets as usize;
                self.tickets.push(TicketChange::Reset(festival));
            }
            Event::ByHand(DoneByHand::Admitted { admitted }) => {
                let festival = admitted.ticket.festival();
                let place = CountPosition { minute: at.at.minute(), gate: admitted.gate, zone: admitted.zone };
                self.count(festival, place, seq, counts_before).add(Verdict::Admitted);
                if admitted.first_entry {
                    self.tickets.push(TicketChange::Status(admitted.ticket, TicketStatus::Used));
                }
                self.access.push(line_of_admission_by_hand(&admitted, at));
            }
            // These are state that the shards answer for themselves.
            Event::ByHand(
                DoneByHand::Reopened { .. } | DoneByHand::Edited { .. } | DoneByHand::DeviceReadmitted { .. },
            ) => {}
            Event::Origin(_)
            | Event::FestivalCreated { .. }
            | Event::FestivalStatusSet { .. }
            | Event::PolicySet { .. }
            | Event::ZonePut { .. }
            | Event::GateAdded { .. }
            | Event::CategoryPut { .. }
            | Event::TagBound { .. }
            | Event::ZoneStateSet { .. }
            | Event::EnrolmentOffered { .. }
            | Event::DeviceEnrolled { .. }
            | Event::DeviceRevoked { .. }
            | Event::DeviceConnected { .. }
            | Event::DeviceLeft { .. }
            | Event::DeviceClockSeen { .. }
            | Event::DevicePins { .. }
            | Event::QrKeyRotated { .. }
            | Event::ApiKeyCreated { .. }
            | Event::ApiKeyRevoked { .. }
            | Event::Expired
            | Event::Cashless(_)
            | Event::Sent { .. }
            | Event::Received { .. }
            | Event::Delivered { .. } => {}
            Event::Transaction(_) => unreachable!("taken before"),
        }
    }

    /// One step per row and record. A record's rows are as many as the gates that its scans came through, so a walk from
    /// the end finds the row sooner than a map would.
    fn count(&mut self, festival: FestivalId, at: CountPosition, seq: u64, counts_before: usize) -> &mut Tally {
        let of_this_record = &self.counts[counts_before..];
        let known = of_this_record.iter().rposition(|step| step.position == at && step.festival == festival);
        let index = known.map_or(self.counts.len(), |index| counts_before + index);
        if known.is_none() {
            self.counts.push(CountStep { festival, position: at, seq, tally: Tally::default() });
        }
        &mut self.counts[index].tally
    }
}

fn line_of_scan(scanned: &Scanned, position: LogPosition) -> AccessEntry {
    AccessEntry {
        position,
        festival: scanned.device.festival(),
        ticket: scanned.ticket,
        zone: scanned.zone,
        gate: scanned.gate,
        device: Some(scanned.device),
        direction: Some(scanned.direction),
        verdict: scanned.verdict,
        flags: scanned.flags,
        occupancy: scanned.occupancy,
        first_use: scanned.first_use,
        captured_at: scanned.captured_at,
        taken_at: scanned.taken_at,
        instead_of: scanned.instead_of,
    }
}

fn line_of_admission_by_hand(admitted: &AdmittedByHand, position: LogPosition) -> AccessEntry {
    AccessEntry {
        position,
        festival: admitted.ticket.festival(),
        ticket: Some(admitted.ticket),
        zone: admitted.zone,
        gate: admitted.gate,
        device: None,
        direction: Some(Direction::Enter),
        verdict: Verdict::Admitted,
        flags: BY_HAND | if admitted.first_entry { FIRST_ENTRY } else { 0 },
        occupancy: admitted.occupancy,
        first_use: None,
        captured_at: position.at,
        taken_at: position.at,
        instead_of: admitted.instead_of,
    }
}

fn line_of_undo(undone: &Undone, position: LogPosition) -> AccessEntry {
    let festival = undone.by.map_or(undone.ticket.festival(), |by| by.device.festival());
    AccessEntry {
        position,
        festival,
        // A reader may name any ticket it likes; another festival's is none of this log's business.
        ticket: Some(undone.ticket).filter(|ticket| ticket.festival() == festival),
        zone: undone.zone,
        gate: undone.scan.map_or(undone.gate, |scan| scan.gate),
        device: undone.by.map(|by| by.device),
        direction: None,
        verdict: undone.verdict,
        flags: 0,
        occupancy: undone.occupancy,
        first_use: None,
        captured_at: position.at,
        taken_at: position.at,
        instead_of: None,
    }
}
