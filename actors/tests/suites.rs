//! The suites of the storage's traits can be run by whoever implements one of them, in whichever crate: here from outside,
//! with nothing but what a member of the workspace can reach.

use std::path::Path;
use std::sync::Arc;

use storage::journal::file::{FileJournal, Options};
use storage::journal::log::LogOptions;
use storage::journal::{Journal, JournalError, Sink};
use storage::snapshots::FileSnapshots;
use storage::testing::{journals, snapshots, views};
use storage::views::Views;
use storage::views::embedded::EmbeddedViews;

/// A folder whose disk does not fail.
struct InFolder(tempfile::TempDir);

impl InFolder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }
}

impl journals::Subject for InFolder {
    fn open(&mut self, shards: u16, records: usize, sink: Arc<dyn Sink>) -> Result<Box<dyn Journal>, JournalError> {
        let log = LogOptions { shards, segment_bytes: 64 << 10, group_bytes_max: 16 << 10, ..LogOptions::default() };
        let options = Options { log, queue_records_max: records, ..Options::default() };
        Ok(Box::new(FileJournal::open(self.0.path(), options)?.start(sink)?))
    }
    fn fill(&mut self) -> bool {
        false
    }
    fn fail_flush(&mut self) -> bool {
        false
    }
    fn mend(&mut self) {}
    fn tear(&mut self, _seed: u64) -> bool {
        false
    }
}

impl views::Subject for InFolder {
    fn open(&mut self) -> Arc<dyn Views> {
        Arc::new(EmbeddedViews::open(&self.0.path().join("views.redb")).expect("opens"))
    }
    /// The process dies and the machine goes on, so nothing is gone.
    fn crash(&mut self) {}
    fn fill(&mut self, _full: bool) -> bool {
        false
    }
}

#[test]
fn a_journal() {
    journals::suite(InFolder::new);
}

#[test]
fn snapshots_in_files() {
    let folder = InFolder::new();
    let path: &Path = folder.0.path();
    snapshots::suite(&FileSnapshots::open(path).expect("opens"));
}

#[test]
fn read_models() {
    views::suite(InFolder::new, 7);
}
