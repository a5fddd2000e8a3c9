//! Read models: what people ask about a festival's gates and tills that the shards do not keep, as lists that follow the
//! journal.
//!
//! - the **access log**: each scan and undo, by zone and time, by ticket and time, by reader and time. Rejections that a
//!   festival's policy leaves out of the log are left out here;
//! - **tickets** in the order of their serials: by status, by category, by holder;
//! - **counts** per minute, gate and zone: admitted, exited, undone, rejected by reason. All scans count, logged or not,
//!   in the minute in which they were taken; what is undone is taken out of that minute;
//! - **money**: transactions, orders, sales, statements ([`cash`]).
//!
//! They are the [`fold`] of the journal at their position and nothing else, so they can be deleted and built again at
//! any time. [`crate::projector`] writes them, one [`Batch`] in, and is the only one who does. [`embedded`] keeps them in
//! one file; another store has to do what [`Views`] says, and passes the suite in `contract.rs`.

pub mod cash;
#[cfg(test)]
pub(crate) mod contract;
pub mod embedded;
pub mod fold;
#[cfg(test)]
pub(crate) mod history;
mod layout;
pub mod wanted;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::command::{Direction, FirstUse, Verdict};
use engine::ids::{CategoryNo, DeviceId, FestivalId, GateNo, ShardId, TicketId, ZoneNo};
use engine::record::RecordError;
use engine::rejection::Rejection;
use engine::status::TicketStatus;
use engine::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::journal::{Cursor, JournalError, Position};
pub use cash::{
    CashPosition, CashViews, Only, OrderRefund, OrderRow, ProductPosition, ProductRow, ProductTally, SalesPosition,
    SalesRow, Statement, TransactionRow, Transactions, TransactionsOf, VendorAccount, VendorSpan,
};
pub use fold::{Batch, CountStep, TicketChange};

/// The most rows of one answer: a door's page of 1,000 and one more, by which it sees that there is a next page.
pub const PAGE_MAX: usize = 1_024;

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

/// A store of read models. One writer, any number of readers, who see whole batches only.
pub trait Views: GateViews + CashViews {
    /// How far they have followed the journal; `None` if nothing was ever written.
    ///
    /// # Errors
    /// [`ViewsError::Store`].
    fn followed(&self) -> Result<Option<Followed>, ViewsError>;

    /// Writes what a run of records comes to, and the position behind it. A store that can, does so in one transaction,
    /// and refuses a batch that does not begin where it stands. Where there are no transactions the position is written
    /// last, every row is an upsert keyed by what it describes, and a [`CountStep`] at or below the record that a row of
    /// counts already covers is passed over: so a batch that is written again after a crash changes nothing.
    ///
    /// What is written can be read at once, and survives a crash from the next [`Views::flush`] on.
    ///
    /// # Errors
    /// [`ViewsError::NotNext`], [`ViewsError::Misfit`], [`ViewsError::DiskFull`], [`ViewsError::Store`]. The store is to
    /// be opened again after any of them; it is then where some earlier batch left it.
    fn write(&self, batch: &Batch) -> Result<(), ViewsError>;

    /// Makes everything written durable.
    ///
    /// # Errors
    /// As [`Views::write`].
    fn flush(&self) -> Result<(), ViewsError>;

    /// Makes everything written durable, and what verifies it from then on, to be run beside the store on a thread of its
    /// own; `None` if the store sees to that itself.
    ///
    /// # Errors
    /// As [`Views::write`].
    fn check(&self) -> Result<Option<Check>, ViewsError>;
}

/// Verifies all that is stored, beside its use.
pub struct Check {
    /// Does it. [`ViewsError::Damaged`] is a suspicion, for whoever opens the store anew to confirm; any other error says
    /// that it could not be done.
    pub run: Box<dyn FnOnce() -> Result<(), ViewsError> + Send>,
    /// Once set, it ends soon, with an error.
    pub cancelled: Arc<AtomicBool>,
}

/// How far read models have followed the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// Where to read on.
    pub cursor: Cursor,
    /// The last record that was folded in, by which a journal is recognised.
    pub last: Option<LastRecord>,
}

impl Followed {
    /// Nothing yet, of a journal of `shards` shards.
    pub fn nothing(shards: u16) -> Self {
        Self { cursor: Cursor::start(shards), last: None }
    }
}

/// A record, to be recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRecord {
    /// Whose.
    pub shard: ShardId,
    /// Where it lies.
    pub position: Position,
    /// CRC-32C of it.
    pub crc: u32,
}

/// Which part of a list. At most [`PAGE_MAX`] rows are given, whatever is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page<P> {
    /// The last row of the page before.
    pub after: Option<P>,
    /// How many rows at most.
    pub limit: usize,
    /// From the end backwards.
    pub backwards: bool,
}

impl<P> Page<P> {
    /// The first page from the beginning.
    pub fn first(limit: usize) -> Self {
        Self { after: None, limit, backwards: false }
    }
}

/// From `from` until before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first moment.
    pub from: Timestamp,
    /// The first moment that is no longer in it.
    pub until: Timestamp,
}

impl Span {
    /// All of time.
    pub const ALWAYS: Self = Self { from: Timestamp(i64::MIN), until: Timestamp(i64::MAX) };
}

/// Which part of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Of one zone.
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
    /// low [`INDEX_BITS`] bits, of the event in it.
    pub order: u64,
}

/// A record has at most 2^20 events: at two bytes each it would be half a group of the journal already.
pub const INDEX_BITS: u32 = 20;

/// One line of the access log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AccessEntry {
    /// Where it stands in the log.
    pub position: LogPosition,
    /// At which festival.
    pub festival: FestivalId,
    /// Whose, once the QR or wristband named one of this festival's.
    pub ticket: Option<TicketId>,
    /// Where.
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
    /// Of which festival.
    pub festival: FestivalId,
    /// Only these.
    pub status: Option<TicketStatus>,
    /// Only this category's.
    pub category: Option<CategoryNo>,
    /// Only this person's.
    pub holder: Option<u128>,
}

/// One ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketRow {
    /// Which.
    pub ticket: TicketId,
    /// Where it is in its life.
    pub status: TicketStatus,
    /// Blocked by the organiser.
    pub blocked: bool,
    /// Whose, if that is known.
    pub holder: Option<u128>,
}

/// Which counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Of which festival.
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

/// What can go wrong with read models. Each message is written for whoever is on call. The gates go on in any case.
#[derive(Debug, thiserror::Error)]
pub enum ViewsError {
    /// The store's own fault.
    #[error("could not {doing} the read models: {why}")]
    Store {
        /// What was tried.
        doing: &'static str,
        /// What the store said.
        why: String,
    },
    /// Whoever asked has gone ([`wanted`]).
    #[error("nobody waits for this read any more")]
    NobodyWaits,
    /// The disk is full.
    #[error("disk is full: the read models cannot follow until some space is free")]
    DiskFull,
    /// What is stored is not what was written.
    #[error("the read models are damaged ({0})")]
    Damaged(String),
    /// Something looks as if they were damaged; opening them anew tells.
    #[error("the read models may be damaged ({0})")]
    Suspected(String),
    /// Another process, or another handle of this one, has them open.
    #[error("the read models are in use by another process")]
    InUse,
    /// They know more than the journal does.
    #[error(
        "the read models have followed the journal up to {at}, but it ends at {end}: if an older copy of the journal was \
         put back on purpose, run `rebuild`"
    )]
    Ahead {
        /// How far they are.
        at: u64,
        /// Where the journal ends.
        end: u64,
    },
    /// They followed another journal.
    #[error("the read models belong to another journal (record {at} differs): run `rebuild`")]
    OtherJournal {
        /// The record by which that was seen.
        at: u64,
    },
    /// A batch that does not begin where the store stands: somebody else writes too.
    #[error("a batch does not begin where the read models end: there are two writers, or it is a bug")]
    NotNext,
    /// An event about something that the read models do not know.
    #[error("an event of the journal refers to something that the read models do not know ({0}): run `rebuild`")]
    Misfit(String),
    /// A record that cannot be read.
    #[error("shard {} at journal position {}: {why}", shard.0, position.0)]
    Record {
        /// Whose.
        shard: ShardId,
        /// Where.
        position: Position,
        /// What is wrong with it.
        why: RecordError,
    },
    /// The journal's own fault.
    #[error(transparent)]
    Journal(#[from] JournalError),
}
