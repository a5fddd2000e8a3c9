//! What the file journal costs and carries on this disk, beside the disk's own figures from the same run:
//! `cargo run --release -p storage --example journal_rate -- <folder> [seconds]`
//!
//! With `--features cluster`, and brokers as a third argument, the journal on Kafka beside it:
//! `… --example journal_rate --features cluster -- <folder> <seconds> 127.0.0.1:19092`
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

struct Tell(mpsc::Sender<(ShardId, usize, Vec<Vec<u8>>)>);

impl Sink for Tell {
    fn durable(&self, shard: ShardId, count: usize, _last: Position, buffers: &mut Vec<Vec<u8>>) {
        // Nobody listens any more once the measurement is over.
        let _ = self.0.send((shard, count, std::mem::take(buffers)));
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
    let time = Duration::from_secs_f64(seconds);
    header();
    for (bytes, outstanding) in LOADS {
        let folder = tempfile::tempdir_in(&dir)?;
        let start = |sink| Ok(Arc::new(FileJournal::open(folder.path(), Options::default())?.start(sink)?) as _);
        measure(start, bytes, outstanding, time)?;
        replay(folder.path(), bytes, outstanding)?;
    }
    match args.next() {
        Some(brokers) => on_kafka(&brokers, time),
        None => Ok(()),
    }
}

const LOADS: [(usize, usize); 5] = [(100, 1), (10_000, 1), (100, 64), (10_000, 64), (100_000, 64)];

fn header() {
    println!("{:>8} {:>12} {:>10} {:>8} {:>8} {:>8}", "bytes", "outstanding", "records/s", "MB/s", "p50 µs", "p99 µs");
}

#[cfg(not(feature = "cluster"))]
fn on_kafka(_: &str, _: Duration) -> Result<(), Box<dyn Error>> {
    Err("this was built without the feature cluster".into())
}

/// One journal for all the loads: brokers need thousands of records until they are warm, so the first load comes twice.
#[cfg(feature = "cluster")]
fn on_kafka(brokers: &str, time: Duration) -> Result<(), Box<dyn Error>> {
    use storage::journal::kafka::{self, KafkaJournal};
    let copies = if brokers.split(',').count() >= 3 { 3 } else { 1 };
    let options = kafka::Options {
        topic: format!("tapgate.rate.{}", std::process::id()),
        create: true,
        replication: copies,
        min_insync: copies.div_ceil(2),
        ..kafka::Options::new(brokers, "rate")
    };
    println!("Kafka, {copies} copies");
    header();
    for (bytes, outstanding) in [LOADS[2]].into_iter().chain(LOADS) {
        let start = |sink| Ok(Arc::new(KafkaJournal::open(options.clone())?.start(sink)?) as _);
        measure(start, bytes, outstanding, time)?;
    }
    Ok(())
}

fn measure(
    start: impl FnOnce(Arc<dyn Sink>) -> Result<Arc<dyn Journal>, JournalError>,
    bytes: usize,
    outstanding: usize,
    time: Duration,
) -> Result<(), Box<dyn Error>> {
    let (tell, told) = mpsc::channel();
    let journal = start(Arc::new(Tell(tell)))?;
    let shards = journal.shards();
    let mut waiting = vec![std::collections::VecDeque::new(); shards.into()];
    let (mut sent, mut open) = (0_u64, 0);
    let mut spare = Vec::new();
    let mut took_us = Vec::new();
    let started = Instant::now();
    while started.elapsed() < time {
        while open < outstanding {
            let mut record: Vec<u8> = spare.pop().unwrap_or_default();
            record.resize(bytes, 0xA7);
            let shard = ShardId((sent % u64::from(shards)) as u16);
            (sent, open) = (sent + 1, open + 1);
            waiting[usize::from(shard.0)].push_back(Instant::now());
            match journal.append(shard, record) {
                Ok(()) => {}
                Err(refused) if refused.reason == Reason::Full => return Err("the queue is full".into()),
                Err(_) => return Err("the journal has failed".into()),
            }
        }
        let (shard, count, buffers) = told.recv()?;
        open -= count;
        for sent in waiting[usize::from(shard.0)].drain(..count) {
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
