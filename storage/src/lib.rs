//! Journal, snapshots and read models.
//!
//! What is acknowledged is on disk first. This crate owns that sentence.
//!
//! - [`journal`]: the truth. A shard hands over one record per batch and hears back when it is durable.
//!   [`journal::file`] is one log per node, shared by all its shards, so that they share one disk flush.
//! - [`snapshots`]: where a shard need not replay from zero.
//! - [`follower`]: whoever follows the journal with a durable cursor of its own.
//! - [`views`]: the read models, lists that follow the journal. [`projector`] keeps them up with it.
//! - `cql` (the feature `cluster`): a connection to ScyllaDB, where a cluster keeps read models and snapshots.
//! - `testing` (a feature, for tests alone): each trait's suite, and doubles of disk, journal and snapshots.
//!
//! ```no_run
//! # use std::{path::Path, sync::Arc};
//! # use storage::journal::{Journal, JournalError, Records, Sink, file::{FileJournal, Options}};
//! # fn open(sink: Arc<dyn Sink>) -> Result<(), JournalError> {
//! let opened = FileJournal::open(Path::new("data/journal"), Options::default())?; // fence, recovery
//! let _end = opened.end(); // replay up to here with `opened.reader(..)`
//! let journal = opened.start(sink)?; // from now on it takes records
//! journal.close()
//! # }
//! ```

mod background;
#[cfg(feature = "cluster")]
pub mod cql;
pub mod follower;
pub mod journal;
pub mod projector;
pub mod snapshots;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod views;
