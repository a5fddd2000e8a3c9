//! A node on one machine: the file journal and the snapshots, beside each other in its data folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage::journal::JournalError;
use storage::journal::file::{FileJournal, Options};
use storage::snapshots::FileSnapshots;

use crate::limits::queue_room;
use crate::node::{Node, NodeConfig, StartError, Stores};

/// A data folder, and how it is opened.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Where it is; made if it is missing.
    pub data: PathBuf,
    /// How many shards the journal has, `1 ..= 1024`. Chosen when it is created, and fixed: another number is refused.
    pub shards: u16,
    /// The journal's own settings; its number of shards is overridden by the one above.
    pub journal: Options,
}

impl Folder {
    /// The defaults: 16 shards.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into(), shards: 16, journal: Options::default() }
    }

    /// Takes the folder's lock and finds the journal's end.
    ///
    /// # Errors
    /// [`StartError`]: locked, damaged, newer version, read-only, another number of shards.
    pub fn open(self) -> Result<Stores, StartError> {
        if !(1..=1_024).contains(&self.shards) {
            return Err(StartError::Setting("shards must be 1 to 1,024".into()));
        }
        let (journal_dir, snapshot_dir) = (self.data.join("journal"), self.data.join("snapshots"));
        for dir in [&journal_dir, &snapshot_dir] {
            std::fs::create_dir_all(dir).map_err(|source| StartError::Folder { dir: dir.clone(), source })?;
        }
        let mut options = self.journal;
        options.log.shards = self.shards;
        // An empty journal in place of one that was lost would look like a festival that nobody has come to yet.
        if is_empty(&journal_dir) && !is_empty(&snapshot_dir) && options.log.accept_loss != Some(0) {
            let why = "there is none, and snapshots of one lie beside it".to_owned();
            return Err(JournalError::NotWhole { ends: 0, why }.into());
        }
        let (bytes, records) = queue_room(self.shards);
        options.queue_bytes_max = options.queue_bytes_max.max(bytes);
        options.queue_records_max = options.queue_records_max.max(records);
        let journal = FileJournal::open(&journal_dir, options)?;
        let snapshots = FileSnapshots::open(&snapshot_dir)?;
        Ok(Stores { journal: Box::new(journal), snapshots: Arc::new(snapshots) })
    }

    /// Opens the folder and starts a node on it.
    ///
    /// # Errors
    /// As [`Folder::open`] and [`Node::start`].
    pub fn start(self, config: NodeConfig) -> Result<Node, StartError> {
        Node::start(config, self.open()?)
    }
}

/// Whether nothing lies in a folder. One that cannot be read is left to whoever opens it.
fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}
