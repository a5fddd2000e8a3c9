//! Read models of a festival's gates.
//!
//! - the **access log**: each scan and undo, by zone and time, by ticket and time, by reader and time. Rejections that a
//!   festival's policy leaves out of the log are left out here;
//! - **tickets** in the order of their serials: by status, by category, by holder;
//! - **counts** per minute, gate and zone: admitted, exited, undone, rejected by reason. All scans count, logged or not,
//!   in the minute in which they were taken; what is undone is taken out of that minute.

use engine::gates::command::{Direction, FirstUse, Verdict};
use engine::model::ids::{CategoryNo, DeviceId, FestivalId, GateNo, TicketId, ZoneNo};
use engine::model::rejection::Rejection;
use engine::model::status::TicketStatus;
use engine::model::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Page, Span, ViewsError};

/// What people ask about a festival's gates.
pub trait GateViews: Send + Sync + 'static {
    /// Entries of the access log in their order, or the other way round, strictly behind `page.after`.
    ///
    /// # Errors
    /// [`ViewsError::Store`].
    fn access_log(&self, of: AccessLog, page: Page<LogPosition>) -> Result<Vec<AccessEntry>, ViewsError>;

    /// Tickets by category and serial, or the other way round, strictly behind `page.after`.
    ///
    /// # Errors
    /// [`ViewsError::Store`].
    fn tickets(&self, of: Tickets, page: Page<TicketId>) -> Result<Vec<TicketRow>, ViewsError>;

    /// Counts by minute, gate and zone, or the other way round, strictly behind `page.after`. Minutes in which nothing
    /// happened have no row.
    ///
    /// # Errors
    /// [`ViewsError::Store`].
    fn counts(&self, of: Counts, page: Page<CountPosition>) -> Result<Vec<CountRow>, ViewsError>;
}

/// Which part of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    Zone(FestivalId, ZoneNo, Span),
    /// Of one reader, whose id names its festival.
    Device(DeviceId, Span),
    /// Of one ticket, whose id names its festival.
    Ticket(TicketId, Span),
}

/// A place in a festival's access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogPosition {
    /// The shard's time of the decision.
    pub at: Timestamp,
    /// Where it lies in the shard's history, so that no two entries share a place: the number of the record and, in the
    /// low [`super::INDEX_BITS`] bits, of the event in it.
    pub order: u64,
}

/// One line of the access log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AccessEntry {
    /// Where it stands in the log.
    pub position: LogPosition,
    pub festival: FestivalId,
    /// Whose, once the QR or wristband named one of this festival's.
    pub ticket: Option<TicketId>,
    pub zone: ZoneNo,
    /// Through which gate; of no meaning where the office did it.
    pub gate: GateNo,
    /// By which reader; `None`: the office.
    pub device: Option<DeviceId>,
    /// In or out; `None`: an undo.
    pub direction: Option<Direction>,
    /// What came of it.
    pub verdict: Verdict,
    /// As in `engine::command`: `WAS_NOT_INSIDE`, `CONFLICT`, `FIRST_ENTRY`.
    pub flags: u8,
    /// How many were in the zone afterwards.
    pub occupancy: u32,
    /// For `already_used`: when and where it was.
    pub first_use: Option<FirstUse>,
    /// The reader's clock; of an undo the shard's.
    pub captured_at: Timestamp,
    /// When it counts: earlier than its position if it had waited in its reader's queue.
    pub taken_at: Timestamp,
    /// For a conflict: what would have been decided.
    pub instead_of: Option<Rejection>,
}

/// Which tickets. Filters are joined by "and".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tickets {
    pub festival: FestivalId,
    /// Only these.
    pub status: Option<TicketStatus>,
    /// Only this category's.
    pub category: Option<CategoryNo>,
    /// Only this person's.
    pub holder: Option<u128>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketRow {
    pub ticket: TicketId,
    /// Where it is in its life.
    pub status: TicketStatus,
    /// Blocked by the organiser.
    pub blocked: bool,
    /// Whose, if that is known.
    pub holder: Option<u128>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub festival: FestivalId,
    /// Which minutes: those that begin in it.
    pub span: Span,
}

/// A place in the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CountPosition {
    /// Where the minute begins.
    pub minute: Timestamp,
    /// The gate at which the reader stands.
    pub gate: GateNo,
    /// The zone that the reader named: the gate's own, but for `wrong_gate` and the like.
    pub zone: ZoneNo,
}

/// What happened at one gate in one minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountRow {
    /// Which minute, gate and zone.
    pub position: CountPosition,
    /// How often what happened.
    pub tally: Tally,
}

/// How often what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Entries, undone ones among them: what is added up is never taken off, or a record's part could be negative.
    admitted: u64,
    /// Exits, undone ones among them.
    exited: u64,
    undone_entries: u64,
    undone_exits: u64,
    /// Rejections by reason, those that occurred, in the order of their numbers.
    pub rejected: Vec<(Rejection, u64)>,
}

impl Tally {
    /// Entries, less those that were undone.
    pub fn admitted(&self) -> u64 {
        self.admitted.saturating_sub(self.undone_entries)
    }

    /// Exits, less those that were undone.
    pub fn exited(&self) -> u64 {
        self.exited.saturating_sub(self.undone_exits)
    }

    /// Entries and exits that were undone.
    pub fn undone(&self) -> u64 {
        self.undone_entries + self.undone_exits
    }

    /// Takes back what [`Tally::add`] had counted, perhaps in an earlier record's.
    pub fn take_back(&mut self, direction: Direction) {
        match direction {
            Direction::Enter => self.undone_entries += 1,
            Direction::Exit => self.undone_exits += 1,
        }
    }

    /// Counts a scan's outcome.
    pub fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Admitted => self.admitted += 1,
            Verdict::Exited | Verdict::Undone => self.exited += 1,
            Verdict::Rejected(rejection) => self.add_rejected(rejection, 1),
        }
    }

    /// Adds all of another tally.
    pub fn add_all(&mut self, other: &Self) {
        self.admitted += other.admitted;
        self.exited += other.exited;
        self.undone_entries += other.undone_entries;
        self.undone_exits += other.undone_exits;
        for &(rejection, count) in &other.rejected {
            self.add_rejected(rejection, count);
        }
    }

    /// Rejections for whatever reason.
    pub fn rejected_in_all(&self) -> u64 {
        self.rejected.iter().map(|(_, count)| count).sum()
    }

    fn add_rejected(&mut self, rejection: Rejection, count: u64) {
        match self.rejected.binary_search_by_key(&rejection, |(known, _)| *known) {
            Ok(at) => self.rejected[at].1 += count,
            Err(at) => self.rejected.insert(at, (rejection, count)),
        }
    }
}
