//! The journal: an ordered, durable sequence of records, and the little that callers need to know of it.
//!
//! One record is one batch of one shard. Records of a shard are durable in the order they were handed over, and the
//! [`Sink`] hears of them in that order. Whoever reads sees durable records only. After a failure nothing is ever
//! acknowledged again: the process ends or the shard moves, and recovery finds out what had become durable.

pub mod backup;
pub mod bench;
pub mod buffer;
#[cfg(test)]
mod contract;
pub mod disk;
pub mod file;
pub(crate) mod format;
pub mod group_writer;
mod housekeeper;
#[cfg(feature = "cluster")]
pub mod kafka;
pub mod log;
mod member;
pub mod offline;
pub mod ownership;
pub mod pack;
pub(crate) mod queue;
pub mod reached;
mod reader;
mod recent;
pub mod recover;
pub(crate) mod scan;

use std::{collections::VecDeque, io, path::PathBuf, sync::Arc};

use engine::model::ids::ShardId;
use serde::{Deserialize, Serialize};

pub use self::member::{MEMBER_BYTES_MAX, Member};

/// A place in the journal, opaque, ordered within a shard: those of two shards say nothing about each other.
///
/// In the file journal it is the log sequence number of the one log, counted in records from 0. On Kafka it is the
/// offset within the shard's partition, where some offsets hold no record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position(pub u64);

impl Position {
    /// The position that follows this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A chain hash: what all records up to a place amount to. Each is the first 16 bytes of SHA-256 over the one before
/// it and the next record.
pub type Chain = [u8; 16];

/// Where to read on, for each shard: the first position not yet read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    shards: Vec<Position>,
}

impl Cursor {
    /// The beginning of everything, for a journal of `shards` shards.
    pub fn start(shards: u16) -> Self {
        Self::at(shards, Position(0))
    }

    /// These positions, from shard 0 on.
    pub fn of(positions: impl IntoIterator<Item = Position>) -> Self {
        Self { shards: positions.into_iter().collect() }
    }

    /// The same position for each of `shards` shards: for a journal in which all of them share one log.
    pub(crate) fn at(shards: u16, position: Position) -> Self {
        Self { shards: vec![position; usize::from(shards)] }
    }

    /// How many shards it covers.
    pub fn shards(&self) -> u16 {
        self.shards.len() as u16
    }

    /// The first position of `shard` not yet read.
    ///
    /// # Panics
    /// If the cursor does not cover `shard`.
    pub fn get(&self, shard: ShardId) -> Position {
        self.shards[usize::from(shard.0)]
    }

    /// Notes that `shard` is to be read from `position` on. It never goes back: an earlier position changes nothing.
    ///
    /// # Panics
    /// If the cursor does not cover `shard`.
    pub fn advance(&mut self, shard: ShardId, position: Position) {
        let at = &mut self.shards[usize::from(shard.0)];
        *at = position.max(*at);
    }

    /// Whether no shard is read from behind `other`: all that lies before `other` lies before this as well.
    ///
    /// # Panics
    /// If the two are of another number of shards.
    pub fn covers(&self, other: &Self) -> bool {
        assert_eq!(self.shards(), other.shards(), "cursors of one journal");
        self.shards.iter().zip(&other.shards).all(|(at, other)| at >= other)
    }

    /// Whether nothing lies before it.
    pub fn is_start(&self) -> bool {
        self.shards.iter().all(|at| *at == Position(0))
    }

    /// The least position of any shard: where a log that all shards share has to be read from.
    pub(crate) fn least(&self) -> Position {
        self.shards.iter().copied().min().unwrap_or_default()
    }

    /// The greatest position of any shard: how far a log that all shards share was read.
    pub(crate) fn greatest(&self) -> Position {
        self.shards.iter().copied().max().unwrap_or_default()
    }
}

/// One durable record, as a [`Reader`] lends it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The shard that wrote it.
    pub shard: ShardId,
    /// Where it lies.
    pub position: Position,
    /// What was handed to [`Journal::append`].
    pub payload: &'a [u8],
}

/// Why [`Journal::append`] did not take a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The queue is at its bound; try again once something has become durable.
    Full,
    /// The record is longer than a group may be; no retry will help.
    TooLarge,
    /// The journal has failed or is closed, or has lost this shard; nothing will be acknowledged again.
    Failed,
}

/// A record that was not taken, and why. The buffer comes back untouched.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub reason: Reason,
    /// The record as it was handed over.
    pub record: Vec<u8>,
}

/// What can be read of a journal, be it running or only just opened: its durable records.
pub trait Records {
    /// How many shards it was created for. Written into the journal, and fixed.
    fn shards(&self) -> u16;

    /// The durable end: for each shard, the first position that is not durable yet.
    fn end(&self) -> Cursor;

    /// Reads durable records from `from` on, and tails the living journal.
    ///
    /// # Errors
    /// [`JournalError::WrongShards`] if the cursor is another journal's, [`JournalError::BeyondEnd`] if it points past
    /// what is durable, [`JournalError::Archived`] if the segment it needs is not in the folder.
    fn reader(&self, from: &Cursor) -> Result<Box<dyn Reader>, JournalError>;

    /// About how many records lie between two cursors, for whoever is told how far somebody is: only the journal knows how
    /// its positions count.
    fn records_between(&self, from: &Cursor, to: &Cursor) -> u64;

    /// Whether a shard is this process's now, and nobody else adds to it. On one machine all of them are; in a cluster each
    /// is one node's.
    fn is_here(&self, _: ShardId) -> bool {
        true
    }
}

/// A journal that is fenced and knows its end, and takes no records yet: the moment to replay. Whatever kind it is, a node
/// is started on it.
pub trait OpenedJournal: Records + Send {
    /// From now on it takes records, and `sink` hears what becomes of them.
    ///
    /// # Errors
    /// [`JournalError::Io`] if the system gives no threads.
    fn start(self: Box<Self>, sink: Arc<dyn Sink>) -> Result<Arc<dyn Journal>, JournalError>;
}

/// An ordered, durable sequence of records, shared by the shards of a node.
pub trait Journal: Records + Send + Sync + 'static {
    /// Hands over one record: one batch of one shard. Never blocks, never touches the disk on the caller's thread.
    ///
    /// # Errors
    /// [`Refused`] gives the buffer back: the queue is bounded in bytes and in records.
    ///
    /// # Panics
    /// If `shard` is not one of this journal's.
    fn append(&self, shard: ShardId, record: Vec<u8>) -> Result<(), Refused>;

    /// Makes all these records durable on the caller's thread, and tells the sink there, where that takes one write and
    /// nothing else is under way. Blocks for that write. `true`: they were taken, as by [`Journal::append`], and the sink
    /// has heard what became of them. `false`: none was; hand them over.
    fn write_here(&self, records: &mut VecDeque<(ShardId, Vec<u8>)>) -> bool;

    /// Why it has failed, if it has.
    fn failure(&self) -> Option<String>;

    /// Stops taking records, makes what is queued durable, joins the threads. A second call does nothing.
    ///
    /// # Errors
    /// [`JournalError::Failed`] if the journal has failed, before or meanwhile.
    fn close(&self) -> Result<(), JournalError>;
}

/// A walk through durable records, those of each shard in order of position. Between shards there is no order to rely on.
pub trait Reader: Send {
    /// The next record, or `None` when it has caught up; a later call may say `Some`.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] names the file and the offset; the reader does not go on behind damage.
    fn next(&mut self) -> Result<Option<Entry<'_>>, JournalError>;

    /// Moves `cursor` to where this walk is: of no shard will it give a record before that any more. So shards that have
    /// written nothing need not be looked at again.
    fn passed(&self, cursor: &mut Cursor);
}

/// Who is told what has become durable: on the thread that wrote it, in append order per shard, once per flush and shard.
/// It must not block, since the next flush waits for it.
pub trait Sink: Send + Sync + 'static {
    /// The `count` oldest unacknowledged records of `shard` are durable; the last of them lies at `last`. Their
    /// buffers come back cleared, for reuse; those left in `buffers` are dropped.
    fn durable(&self, shard: ShardId, count: usize, last: Position, buffers: &mut Vec<Vec<u8>>);

    /// The journal has failed: after this nothing is ever acknowledged again. Whether records not yet acknowledged
    /// are durable is unknown until recovery.
    fn failed(&self, why: &str);

    /// The journal has lost this shard, and the others go on: another node has claimed it, or what became of its records
    /// is not known. Of what was handed over and not acknowledged nothing ever will be; whether it is durable is unknown
    /// until recovery. [`Journal::append`] refuses more of it ([`Reason::Failed`]) until the shard is this journal's again.
    /// It is said after all that was acknowledged before, and before [`Records::end`] counts what another node has written.
    /// A journal whose shards stand and fall together never says it.
    fn lost(&self, shard: ShardId, why: &str);
}

/// What can go wrong with a journal. Each message is written for whoever is on call.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The folder does not exist. It is never created silently: a missing mount must not look like a new festival.
    #[error("journal folder {} does not exist: create it, or check that its disk is mounted", dir.display())]
    Missing {
        /// The folder asked for.
        dir: PathBuf,
    },
    /// The folder holds no journal, and the options say that one must be there.
    #[error(
        "journal folder holds no journal, and creating one was not asked for: check that the right disk is mounted"
    )]
    Empty,
    /// The folder or the file cannot be written.
    #[error("{file} cannot be written ({source}): check the mount options and the folder's owner")]
    ReadOnly {
        /// What could not be written.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the folder.
    #[error("journal is in use by process {by}: two processes never share a folder; stop that one first")]
    Locked {
        /// The other's process id, as it wrote it into the lock file, or `unknown`.
        by: String,
    },
    /// The journal, or a cursor, was made for another number of shards.
    #[error("journal has {found} shards, asked for {asked}: the number is fixed when a journal is created")]
    WrongShards {
        /// The journal's own number.
        found: u16,
        /// The number asked for.
        asked: u16,
    },
    /// A newer program wrote this folder.
    #[error("{file} has format version {found}, this program knows up to {known}: start the newer program")]
    NewerVersion {
        /// The segment that says so.
        file: String,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// A program wrote this folder while the format was still being made.
    #[error(
        "journal_too_old: {file} has format version {found}, and this program reads version {oldest} and later. Nothing was \
         changed. Start again with an empty folder; the program that wrote this one can still audit it"
    )]
    OlderVersion {
        /// The segment that says so.
        file: String,
        /// Its version.
        found: u32,
        /// The oldest version that is read.
        oldest: u32,
    },
    /// Bytes that were durable are no longer what was written. Nothing behind them is trusted without a person.
    #[error("{file} is damaged at byte {offset}: {why}; nothing was changed; run `audit` to see what is behind it")]
    Damaged {
        /// The segment.
        file: String,
        /// Where in the segment (of a compressed one: in its uncompressed bytes).
        offset: u64,
        /// What does not hold.
        why: String,
    },
    /// Records that were acknowledged are not there any more. Nothing was changed, so that what is missing can be
    /// brought back.
    #[error(
        "the journal's newest part is missing: {why}. It now ends at position {ends}. Nothing was changed: bring back what \
         is missing, or the newest backup. To go on without it, for good: `tapgate serve --accept-loss {ends}`"
    )]
    NotWhole {
        /// The first position that is not there.
        ends: u64,
        /// How that is known.
        why: String,
    },
    #[error("disk is full at {file}: free some space, then start again; what was acknowledged is safe")]
    DiskFull {
        /// What could not be written.
        file: String,
    },
    /// Any other fault of the disk.
    #[error("could not {doing} {file}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The journal has failed earlier; the first reason.
    #[error("journal has failed: {0}")]
    Failed(String),
    /// Asked to read from a position that is not durable yet.
    #[error(
        "asked to read shard {} from position {asked}, but the journal ends at {end}: whoever asks is ahead of the truth",
        shard.0
    )]
    BeyondEnd {
        shard: ShardId,
        /// The position asked for.
        asked: u64,
        /// The first position that is not durable.
        end: u64,
    },
    /// Asked to read from a position whose segment was moved away.
    #[error(
        "position {asked} of shard {} lies before {first}, the first in the folder: bring its segments back from the archive",
        shard.0
    )]
    Archived {
        shard: ShardId,
        /// The position asked for.
        asked: u64,
        /// The first position at hand.
        first: u64,
    },
    /// No broker answers.
    #[error("the Kafka brokers at {brokers} do not answer ({why}): check the addresses, the network and the brokers")]
    Unreachable { brokers: String, why: String },
    /// The topic is not what a journal needs, or holds something else.
    #[error("Kafka topic {topic} cannot hold this journal: {why}. {remedy}")]
    Topic {
        topic: String,
        why: String,
        /// What to do about it.
        remedy: String,
    },
    /// Another process has the shard.
    #[error("shard {} could not be taken over: {why}", shard.0)]
    Taken { shard: ShardId, why: String },
    /// A setting that cannot work.
    #[error("journal options: {0}")]
    Options(String),
}

impl JournalError {
    /// Sorts a fault of the system into what somebody on call can act on.
    pub(crate) fn io(doing: &'static str, file: &str, source: io::Error) -> Self {
        let file = file.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { file },
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly { file, source },
            _ => Self::Io { doing, file, source },
        }
    }

    pub(crate) fn damaged(file: &str, offset: u64, why: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_owned(), offset, why: why.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_never_goes_back() {
        let mut cursor = Cursor::start(3);
        cursor.advance(ShardId(1), Position(7));
        cursor.advance(ShardId(1), Position(5));
        assert_eq!(cursor.get(ShardId(1)), Position(7));
        assert_eq!((cursor.least(), cursor.greatest()), (Position(0), Position(7)));
    }

    #[test]
    fn cursors_are_compared_shard_by_shard() {
        let cursor = |positions: [u64; 2]| Cursor::of(positions.map(Position));
        assert!(cursor([3, 5]).covers(&cursor([3, 4])) && cursor([3, 5]).covers(&cursor([3, 5])));
        assert!(!cursor([9, 4]).covers(&cursor([3, 5])), "one shard is far ahead, the other is not there yet");
        assert!(cursor([0, 0]).is_start() && !cursor([0, 1]).is_start());
    }

    #[test]
    fn a_cursor_survives_being_stored() {
        let mut cursor = Cursor::start(2);
        cursor.advance(ShardId(0), Position(u64::MAX));
        let stored = postcard::to_allocvec(&cursor).expect("encodes");
        assert_eq!(postcard::from_bytes::<Cursor>(&stored).expect("decodes"), cursor);
    }
}
