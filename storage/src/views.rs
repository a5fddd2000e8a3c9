//! Read models: what people ask about a festival's gates and terminals that the shards do not keep, as lists that follow the
//! journal.
//!
//! - [`gates`]: the access log, tickets, counts by minute and gate;
//! - [`cashless`]: transactions, orders, sales, statements.
//!
//! They are the [`fold`] of the journal at their position and nothing else, so they can be deleted and built again at
//! any time. [`crate::projector`] writes them, one [`fold::Batch`] in, and is the only one who does. [`embedded`] keeps them in
//! one file, `cql` (the feature `cluster`) in ScyllaDB; a store has to do what [`Views`] says, and passes the suite in
//! `testing/views.rs`.

pub mod cashless;
#[cfg(test)]
pub(crate) mod contract;
#[cfg(feature = "cluster")]
pub mod cql;
pub mod embedded;
pub mod fold;
pub mod gates;
pub mod wanted;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::model::ids::ShardId;
use engine::model::time::Timestamp;
use engine::record::RecordError;

use crate::follower::Mismatch;
pub use crate::follower::{Followed, LastRecord};
use crate::journal::{JournalError, Position};
use cashless::CashlessViews;
use fold::Batch;
use gates::GateViews;

/// The most rows of one answer: a door's page of 1,000 and one more, by which it sees that there is a next page.
pub const PAGE_MAX: usize = 1_024;

/// A store of read models. One writer, or in a store that is shared one for each shard; any number of readers, who see whole
/// batches only.
pub trait Views: GateViews + CashlessViews {
    /// How far they have followed the journal; `None` if nothing was ever written.
    ///
    /// # Errors
    /// [`ViewsError::Store`].
    fn followed(&self) -> Result<Option<Followed>, ViewsError>;

    /// Whether several nodes write into it, each the shards that are its own: see [`Target::is_shared`].
    ///
    /// [`Target::is_shared`]: crate::follower::Target::is_shared
    fn is_shared(&self) -> bool {
        false
    }

    /// Somebody goes on to follow from where [`Views::followed`] says they are.
    fn begin(&self) {}

    /// Writes what a run of records comes to, and the position behind it. A store that can, does so in one transaction,
    /// and refuses a batch that does not begin where it stands. Where there are no transactions the position is written
    /// last, every row is an upsert keyed by what it describes, and a [`fold::CountStep`] at or below the record that a row of
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

/// A record has at most 2^20 events: at two bytes each it would be half a group of the journal already.
pub const INDEX_BITS: u32 = 20;

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
        "the read models have followed shard {} up to position {at}, but its journal ends at {end}: if an older copy of the \
         journal was put back on purpose, run `rebuild`",
        shard.0
    )]
    Ahead {
        shard: ShardId,
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
        shard: ShardId,
        position: Position,
        /// What is wrong with it.
        why: RecordError,
    },
    /// The journal's own fault.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl From<Mismatch> for ViewsError {
    fn from(why: Mismatch) -> Self {
        match why {
            Mismatch::Ahead { shard, at, end } => Self::Ahead { shard, at, end },
            Mismatch::OtherJournal { at } => Self::OtherJournal { at },
        }
    }
}
