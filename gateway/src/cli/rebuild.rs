//! `tapgate rebuild`: throws the read models away and builds them from the journal, while no server runs. If it is
//! broken off, the next start of the server goes on where it was.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use storage::follower::{Following, Portion};
use storage::journal::file::{FileJournal, Opened, Options};
use storage::journal::log::LogOptions;
use storage::journal::offline;
use storage::journal::{Cursor, Records};
use storage::projector::Folding;
use storage::views::ViewsError;
use storage::views::embedded::EmbeddedViews;

use crate::cli::progress::Progress;
use crate::cli::{DataFolder, journal_in};
use crate::read_models;
use crate::server::config::Config;

/// `tapgate rebuild`
#[derive(Debug, Args)]
pub struct Rebuild {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataFolder,
}

/// What it came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rebuilt {
    /// Records of the journal.
    pub records: u64,
    /// Events in them.
    pub events: u64,
    /// How long it took.
    pub took: Duration,
}

/// One transaction: larger than the server's, since nobody else needs the memory. About 30 MB.
const PORTION: Portion = Portion { weight: 100_000, time: Duration::MAX };

/// Made durable this often, in events: what a break-off costs, and how much of the file waits to be used anew.
const FLUSH_EVENTS: u64 = 1_000_000;

/// Does it, and says on standard error how far it is.
///
/// # Errors
/// [`JournalError`](storage::journal::JournalError), in use above all; [`ViewsError`].
pub fn run(config: &Config) -> anyhow::Result<Rebuilt> {
    ensure!(
        config.cluster.is_none(),
        "the journal lies on Kafka: to have the read models built anew, stop the server, drop their keyspace (or, without \
         `cql`, delete `views` in the data folder), and start it again"
    );
    let began = Instant::now();
    let data = config.data.as_path();
    let dir = journal_in(data);
    let shards = offline::read_only(&dir)?.shards().context("no segment of the journal says how many shards it has")?;
    let log = LogOptions { shards, create: false, ..LogOptions::default() };
    // Holds the folder's lock until the end.
    let journal = FileJournal::open(&dir, Options { log, ..Options::default() })?;
    let path = read_models::file_in(data);
    match fs::remove_file(&path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => {
            return Err(why).with_context(|| format!("cannot remove {}", path.display()));
        }
        _ => {}
    }
    let records = journal.records_between(&Cursor::start(shards), &journal.end());
    let events = follow(&journal, Arc::new(read_models::open(&path)?), Progress::new(Some(records)))?;
    Ok(Rebuilt { records, events, took: began.elapsed() })
}

fn follow(journal: &Opened, views: Arc<EmbeddedViews>, mut progress: Progress) -> Result<u64, ViewsError> {
    let mut following = Following::begin(journal, Folding::into(views))?;
    let start = Cursor::start(journal.shards());
    let (mut events, mut flushed) = (0, 0);
    loop {
        let step = following.step(PORTION)?;
        events += step.events;
        progress.at(journal.records_between(&start, &following.followed().cursor));
        if step.at_end || events - flushed >= FLUSH_EVENTS {
            following.flush()?;
            flushed = events;
        }
        if step.at_end {
            progress.finish();
            return Ok(events);
        }
    }
}
