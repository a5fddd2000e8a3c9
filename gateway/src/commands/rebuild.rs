//! `tapgate rebuild`: throws the read models away and builds them from the journal, while no server runs. If it is
//! broken off, the next start of the server goes on where it was.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use storage::journal::file::{FileJournal, Opened, Options};
use storage::journal::log::LogOptions;
use storage::journal::offline;
use storage::projector::{Following, Portion};
use storage::views::ViewsError;
use storage::views::embedded::EmbeddedViews;

use super::journal_in;
use crate::cli::DataFolder;
use crate::lists;

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

/// Does it, with a progress bar on the terminal, if there is one.
///
/// # Errors
/// [`JournalError`](storage::journal::JournalError), in use above all; [`ViewsError`].
pub fn run(data: &Path) -> anyhow::Result<Rebuilt> {
    let began = Instant::now();
    let dir = journal_in(data);
    let shards = offline::read_only(&dir)?.shards().context("no segment of the journal says how many shards it has")?;
    let log = LogOptions { shards, create: false, ..LogOptions::default() };
    // Holds the folder's lock until the end.
    let journal = FileJournal::open(&dir, Options { log, ..Options::default() })?;
    let path = lists::file_in(data);
    match fs::remove_file(&path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => {
            return Err(why).with_context(|| format!("remove {}", path.display()));
        }
        _ => {}
    }
    let records = journal.end().greatest().0;
    let events = follow(&journal, Arc::new(lists::open(&path)?), &bar(records))?;
    Ok(Rebuilt { records, events, took: began.elapsed() })
}

fn follow(journal: &Opened, views: Arc<EmbeddedViews>, bar: &ProgressBar) -> Result<u64, ViewsError> {
    let mut following = Following::begin(journal, views)?;
    let (mut events, mut flushed) = (0, 0);
    loop {
        let step = following.step(journal, PORTION)?;
        events += step.events;
        bar.set_position(following.followed().cursor.greatest().0);
        if step.at_end || events - flushed >= FLUSH_EVENTS {
            following.flush()?;
            flushed = events;
        }
        if step.at_end {
            bar.finish_and_clear();
            return Ok(events);
        }
    }
}

fn bar(records: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:40} {percent:>3} %  {human_pos} of {human_len} records  {eta} to go")
            .expect("the template is well formed");
    ProgressBar::new(records).with_style(style)
}
