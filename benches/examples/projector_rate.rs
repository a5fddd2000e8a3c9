//! How fast the read models follow a journal, by how many scans a record holds: a quiet gate writes one at a time, a busy
//! one hundreds. `cargo run --release -p benches --example projector_rate -- <folder> [scans]`
#![allow(clippy::print_stdout)] // printing is its job

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::{World, shuffled};
use engine::command::Direction;
use engine::ids::ShardId;
use engine::shard::Step;
use engine::time::Timestamp;
use storage::journal::disk::FolderDisk;
use storage::journal::file::{FileJournal, Opened, Options};
use storage::journal::log::{LogOptions, LogWriter, NotStaged};
use storage::projector::{BATCH_MS_MAX, BATCH_WEIGHT_MAX, Following, Portion};
use storage::views::embedded::EmbeddedViews;

const TICKETS: u32 = 50_000;
/// Of the festival's own time, so that the counts have minutes to go by: 5,000 a second.
const SCANS_PER_MS: u64 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("name a folder")?;
    let scans: u64 = args.next().map_or(Ok(1_000_000), |scans| scans.parse())?;
    println!(
        "{:>14} {:>10} {:>10} {:>10} {:>9} {:>10} {:>9}",
        "scans/record", "records", "events", "journal MB", "seconds", "events/s", "views MB"
    );
    for per_record in [1, 100, 1_000] {
        let folder = tempfile::tempdir_in(&dir)?;
        let records = write(folder.path(), scans, per_record)?;
        follow(folder.path(), per_record, records)?;
    }
    Ok(())
}

/// A festival's evening, decided by the engine, as a journal in this folder. Everybody goes in, then everybody out again,
/// until there were so many scans. Gives back how many records it took.
fn write(folder: &Path, scans: u64, per_record: usize) -> Result<u64, Box<dyn Error>> {
    let (mut writer, _) = open(folder)?.into_parts();
    let (mut world, mut step, mut written) = (World::new(TICKETS), Step::default(), 0);
    for record in std::mem::take(&mut world.records) {
        put(&mut writer, &record)?;
    }
    let order = shuffled(TICKETS);
    for direction in [Direction::Enter, Direction::Exit].into_iter().cycle() {
        for batch in world.scans(&order, direction, 1_024).chunks(per_record) {
            if written >= scans {
                writer.flush()?;
                return Ok(world.shard.seq());
            }
            let now = Timestamp(1_800_000_000_000).plus_ms((written / SCANS_PER_MS) as i64);
            world.shard.step(now, batch, &mut step);
            put(&mut writer, &step.record)?;
            written += batch.len() as u64;
        }
    }
    unreachable!("it goes round for ever")
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
fn follow(folder: &Path, per_record: usize, records: u64) -> Result<(), Box<dyn Error>> {
    let journal = open(folder)?;
    let path = folder.join("views.redb");
    let mut following = Following::begin(&journal, Arc::new(EmbeddedViews::open(&path)?))?;
    let portion = Portion { weight: BATCH_WEIGHT_MAX, time: Duration::from_millis(BATCH_MS_MAX) };
    let (began, mut events) = (Instant::now(), 0);
    loop {
        let step = following.step(&journal, portion)?;
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
        "{per_record:>14} {records:>10} {events:>10} {:>10.0} {seconds:>9.2} {:>10.0} {:>9.0}",
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
