//! What the file journal costs and carries on this disk, beside the disk's own figures from the same run:
//! `cargo run --release -p storage --example journal_rate -- <folder> [seconds]`
#![allow(clippy::print_stdout)] // printing is its job

use std::{
    error::Error,
    path::Path,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use engine::model::ids::ShardId;
use storage::journal::{
    Journal, JournalError, Position, Reason, Sink,
    bench::bench_disk,
    file::{FileJournal, Options},
    offline::read_only,
};

struct Tell(mpsc::Sender<(usize, Vec<Vec<u8>>)>);

impl Sink for Tell {
    fn durable(&self, _shard: ShardId, count: usize, _last: Position, buffers: &mut Vec<Vec<u8>>) {
        // Nobody listens any more once the measurement is over.
        let _ = self.0.send((count, std::mem::take(buffers)));
    }

    fn failed(&self, why: &str) {
        println!("failed: {why}");
    }

    fn lost(&self, shard: ShardId, why: &str) {
        println!("lost shard {}: {why}", shard.0);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("name a folder")?;
    let seconds: f64 = args.next().map_or(Ok(3.0), |seconds| seconds.parse())?;
    println!("{}", bench_disk(Path::new(&dir), seconds)?);
    println!("{:>8} {:>12} {:>10} {:>8} {:>8} {:>8}", "bytes", "outstanding", "records/s", "MB/s", "p50 µs", "p99 µs");
    for (bytes, outstanding) in [(100, 1), (10_000, 1), (100, 64), (10_000, 64), (100_000, 64)] {
        measure(Path::new(&dir), bytes, outstanding, Duration::from_secs_f64(seconds))?;
    }
    Ok(())
}

fn measure(dir: &Path, bytes: usize, outstanding: usize, time: Duration) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir_in(dir)?;
    let (tell, told) = mpsc::channel();
    let journal = FileJournal::open(folder.path(), Options::default())?.start(Arc::new(Tell(tell)))?;
    let mut waiting = std::collections::VecDeque::new();
    let mut spare = Vec::new();
    let mut took_us = Vec::new();
    let started = Instant::now();
    while started.elapsed() < time {
        while waiting.len() < outstanding {
            let mut record: Vec<u8> = spare.pop().unwrap_or_default();
            record.resize(bytes, 0xA7);
            waiting.push_back(Instant::now());
            match journal.append(ShardId((took_us.len() % 16) as u16), record) {
                Ok(()) => {}
                Err(refused) if refused.reason == Reason::Full => return Err("the queue is full".into()),
                Err(_) => return Err("the journal has failed".into()),
            }
        }
        let (count, buffers) = told.recv()?;
        for sent in waiting.drain(..count) {
            took_us.push(sent.elapsed().as_micros() as u64);
        }
        spare.extend(buffers);
    }
    let seconds = started.elapsed().as_secs_f64();
    journal.close()?;
    let records = took_us.len();
    took_us.sort_unstable();
    let rate = records as f64 / seconds;
    let (p50, p99) = (took_us[records / 2], took_us[records * 99 / 100]);
    println!("{bytes:>8} {outstanding:>12} {rate:>10.0} {:>8.1} {p50:>8} {p99:>8}", rate * bytes as f64 / 1e6);
    replay(folder.path(), bytes, outstanding)?;
    Ok(())
}

fn replay(folder: &Path, bytes: usize, outstanding: usize) -> Result<(), JournalError> {
    let started = Instant::now();
    let mut offline = read_only(folder)?;
    let mut records = 0_u64;
    while offline.next()?.is_some() {
        records += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    let rate = records as f64 * bytes as f64 / seconds / 1e6;
    println!("{bytes:>8} {outstanding:>12}  audited {records} records in {seconds:.2} s, {rate:.0} MB/s");
    Ok(())
}
