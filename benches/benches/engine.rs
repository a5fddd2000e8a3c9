//! The engine alone, on one thread: decide, apply, remember, encode; replay; snapshot and restore; and what checking a
//! signature costs beside it.
//!
//! `cargo bench -p benches --bench engine`

use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::{Bar, World, shuffled};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use engine::audit::Audit;
use engine::gates::command::Direction;
use engine::model::credential::{KeyCache, parse, text};
use engine::model::ids::ShardId;
use engine::model::time::Timestamp;
use engine::shard::{Shard, Step};

const BATCH: usize = 256;

fn scans(c: &mut Criterion) {
    let mut group = c.benchmark_group("scan");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(4)).sample_size(10);
    for tickets in [10_000, 1_000_000] {
        let order = shuffled(tickets);
        group.bench_function(format!("decide+apply+remember+encode, {tickets} tickets"), |b| {
            let mut world = World::new(tickets);
            let mut step = Step::default();
            // Whole passes over all tickets, in and out in turn, however few scans are asked for: a few alone would
            // measure cold caches.
            b.iter_custom(|scans| {
                let (mut done, mut spent) = (0_u64, Duration::ZERO);
                while done < scans {
                    for direction in [Direction::Enter, Direction::Exit] {
                        let commands = world.scans(&order, direction, 1_024);
                        let began = Instant::now();
                        for batch in commands.chunks(BATCH) {
                            world.shard.step(Timestamp(2), batch, &mut step);
                            black_box(&step.record);
                        }
                        spent += began.elapsed();
                        done += commands.len() as u64;
                    }
                }
                spent.mul_f64(scans as f64 / done as f64)
            });
        });
    }
    let world = World::new(1_000);
    let texts: Vec<String> = world.claims().iter().map(text).collect();
    let mut keys = KeyCache::default();
    let mut next = texts.iter().cycle();
    group.bench_function("parse and verify a QR", |b| {
        b.iter(|| {
            let qr = next.next().expect("a cycle").as_bytes();
            keys.verify(&world.secret, &parse(qr).expect("ours")).expect("ours")
        });
    });
    group.finish();
}

fn debits(c: &mut Criterion) {
    let mut group = c.benchmark_group("debit");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(4)).sample_size(10);
    for wallets in [10_000, 1_000_000, 10_000_000] {
        let order = shuffled(wallets);
        let mut bar = Bar::new(wallets);
        let mut step = Step::default();
        group.bench_function(format!("decide+apply+remember+encode, {wallets} wallets"), |b| {
            b.iter_custom(|debits| {
                let (mut done, mut spent) = (0_u64, Duration::ZERO);
                while done < debits {
                    let commands = bar.debits(&order, 1_024);
                    let began = Instant::now();
                    for batch in commands.chunks(BATCH) {
                        bar.shard.step(Timestamp(2), batch, &mut step);
                        black_box(&step.record);
                    }
                    spent += began.elapsed();
                    done += commands.len() as u64;
                }
                spent.mul_f64(debits as f64 / done as f64)
            });
        });
    }
    group.finish();
}

fn restart_of_wallets(c: &mut Criterion) {
    let mut bar = Bar::new(1_000_000);
    let order = shuffled(1_000_000);
    let mut step = Step::default();
    let before = bar.records.len();
    let snapshot = bar.shard.snapshot();
    for batch in bar.debits(&order, 1_024).chunks(BATCH) {
        bar.shard.step(Timestamp(2), batch, &mut step);
        bar.records.push(step.record.clone());
    }
    let bytes: usize = bar.records[before..].iter().map(Vec::len).sum();
    eprintln!(
        "1 M wallets: {} bytes each, snapshot {} bytes, a debit's record {} bytes",
        bar.shard.cashless().wallets.bytes() / 1_000_000,
        snapshot.len(),
        bytes / 1_000_000
    );
    let mut group = c.benchmark_group("restart");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Elements(1_000_000));
    group.bench_function("replay 1 M debits", |b| {
        b.iter_batched(
            || Shard::restore(&snapshot).expect("ours"),
            |mut shard| {
                for record in &bar.records[before..] {
                    shard.replay(record).expect("whole");
                }
                shard
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("audit 1 M wallets and debits", |b| {
        b.iter(|| {
            let mut audit = Audit::new(1);
            bar.records.iter().for_each(|record| audit.record(ShardId(0), record));
            let report = audit.finish();
            assert!(report.holds() && report.debits == 1_000_000, "{:?}", report.violations);
        });
    });
    group.bench_function("snapshot 1 M wallets", |b| b.iter(|| bar.shard.snapshot()));
    group.bench_function("restore 1 M wallets", |b| b.iter(|| Shard::restore(&snapshot).expect("ours")));
    group.finish();
}

fn replay(c: &mut Criterion) {
    let mut world = World::new(1_000_000);
    let order = shuffled(1_000_000);
    let mut step = Step::default();
    for batch in world.scans(&order, Direction::Enter, 1_024).chunks(BATCH) {
        world.shard.step(Timestamp(2), batch, &mut step);
        world.records.push(step.record.clone());
    }
    let mut group = c.benchmark_group("restart");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Elements(1_000_000));
    group.bench_function("replay 1 M scans", |b| {
        b.iter_batched(
            || Shard::new(ShardId(0), 1),
            |mut shard| {
                for record in &world.records {
                    shard.replay(record).expect("whole");
                }
                shard
            },
            BatchSize::PerIteration,
        );
    });
    let snapshot = world.shard.snapshot();
    eprintln!("snapshot of 1 M tickets: {} bytes", snapshot.len());
    group.bench_function("snapshot 1 M tickets", |b| b.iter(|| world.shard.snapshot()));
    group.bench_function("restore 1 M tickets", |b| b.iter(|| Shard::restore(&snapshot).expect("ours")));
    group.finish();
}

criterion_group!(benches, scans, debits, replay, restart_of_wallets);
criterion_main!(benches);
