//! How fast the read models follow a journal, by how many scans or debits a record holds: a quiet gate writes one at a
//! time, a busy one hundreds. Debits also by how many wallets there are, since each wallet's history lies elsewhere.
//! `cargo run --release -p benches --example projector_rate -- <folder> [events]`
#![allow(clippy::print_stdout)] // printing is its job

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::{Bar, World, shuffled};
use engine::command::Command;
use engine::gates::command::Direction;
use engine::model::ids::ShardId;
use engine::model::time::Timestamp;
use engine::shard::{Shard, Step};
use storage::follower::{BATCH_MS_MAX, BATCH_WEIGHT_MAX, Following, Portion};
use storage::journal::disk::FolderDisk;
use storage::journal::file::{FileJournal, Opened, Options};
use storage::journal::log::{LogOptions, LogWriter, NotStaged};
use storage::projector::Folding;
use storage::views::embedded::EmbeddedViews;

const TICKETS: u32 = 50_000;
/// Of the festival's own time, so that the counts have minutes to go by: 5,000 a second.
const EVENTS_PER_MS: u64 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("name a folder")?;
    let events: u64 = args.next().map_or(Ok(1_000_000), |events| events.parse())?;
    println!(
        "{:>16} {:>10} {:>10} {:>10} {:>10} {:>9} {:>10} {:>9}",
        "", "per record", "records", "events", "journal MB", "seconds", "events/s", "views MB"
    );
    for per_record in [1, 100, 1_000] {
        let folder = tempfile::tempdir_in(&dir)?;
        let records = scans(folder.path(), events, per_record)?;
        follow(folder.path(), "scans", per_record, records)?;
    }
    for (wallets, name) in [(20_000, "20 k wallets"), (1_000_000, "1 M wallets")] {
        for per_record in [1, 100, 1_000] {
            let folder = tempfile::tempdir_in(&dir)?;
            let records = debits(folder.path(), wallets, events, per_record)?;
            follow(folder.path(), name, per_record, records)?;
        }
    }
    Ok(())
}

/// A festival's evening, decided by the engine, as a journal in this folder. Everybody goes in, then everybody out again,
/// until there were so many scans. Gives back how many records it took.
fn scans(folder: &Path, scans: u64, per_record: usize) -> Result<u64, Box<dyn Error>> {
    let mut world = World::new(TICKETS);
    let (mut writer, _) = open(folder)?.into_parts();
    for record in std::mem::take(&mut world.records) {
        put(&mut writer, &record)?;
    }
    let (order, mut written) = (shuffled(TICKETS), 0);
    for direction in [Direction::Enter, Direction::Exit].into_iter().cycle() {
        let asked = world.scans(&order, direction, 1_024);
        if write(&mut writer, &mut world.shard, &asked, per_record, &mut written, scans)? {
            return Ok(world.shard.seq());
        }
    }
    unreachable!("it goes round for ever")
}

/// An evening at the bar: everybody pays a cent, and once more, until there were so many debits.
fn debits(folder: &Path, wallets: u32, debits: u64, per_record: usize) -> Result<u64, Box<dyn Error>> {
    let mut bar = Bar::new(wallets);
    let (mut writer, _) = open(folder)?.into_parts();
    // How the wallets came to their money is not what is measured: the read models begin behind it.
    bar.records.clear();
    let (order, mut written) = (shuffled(wallets), 0);
    loop {
        let asked = bar.debits(&order, 1_024);
        if write(&mut writer, &mut bar.shard, &asked, per_record, &mut written, debits)? {
            return Ok(written / per_record as u64);
        }
    }
}

/// Decides and writes, until there were so many; says whether there were.
fn write(
    writer: &mut LogWriter<FolderDisk>,
    shard: &mut Shard,
    asked: &[Command],
    per_record: usize,
    written: &mut u64,
    all: u64,
) -> Result<bool, Box<dyn Error>> {
    let mut step = Step::default();
    for batch in asked.chunks(per_record) {
        if *written >= all {
            writer.flush()?;
            return Ok(true);
        }
        let now = Timestamp(1_800_000_000_000).plus_ms((*written / EVENTS_PER_MS) as i64);
        shard.step(now, batch, &mut step);
        put(writer, &step.record)?;
        *written += batch.len() as u64;
    }
    Ok(false)
}

fn put(writer: &mut LogWriter<FolderDisk>, record: &[u8]) -> Result<(), Box<dyn Error>> {
    loop {
        match writer.stage(ShardId(0), record) {
            Ok(_) => return Ok(()),
            Err(NotStaged::GroupFull) => drop(writer.flush()?),
            Err(NotStaged::TooLarge) => return Err("a record that fits into no group".into()),
        }
    }
}

/// Follows it from zero to the end, as the server does.
fn follow(folder: &Path, what: &str, per_record: usize, records: u64) -> Result<(), Box<dyn Error>> {
    let journal = open(folder)?;
    let path = folder.join("views.redb");
    let mut following = Following::begin(&journal, Folding::into(Arc::new(EmbeddedViews::open(&path)?)))?;
    let portion = Portion { weight: BATCH_WEIGHT_MAX, time: Duration::from_millis(BATCH_MS_MAX) };
    let (began, mut events) = (Instant::now(), 0);
    loop {
        let step = following.step(portion)?;
        events += step.events;
        if step.at_end {
            break;
        }
    }
    following.flush()?;
    let seconds = began.elapsed().as_secs_f64();
    let end = journal.recovery().end;
    let journal_bytes = (end.segment - 1) * LogOptions::default().segment_bytes + end.offset;
    println!(
        "{what:>16} {per_record:>10} {records:>10} {events:>10} {:>10.0} {seconds:>9.2} {:>10.0} {:>9.0}",
        journal_bytes as f64 / 1e6,
        events as f64 / seconds,
        fs::metadata(&path)?.len() as f64 / 1e6
    );
    Ok(())
}

/// The journal of one shard.
fn open(folder: &Path) -> Result<Opened, Box<dyn Error>> {
    let dir = folder.join("journal");
    fs::create_dir_all(&dir)?;
    let log = LogOptions { shards: 1, ..LogOptions::default() };
    Ok(FileJournal::open(&dir, Options { log, ..Options::default() })?)
}
