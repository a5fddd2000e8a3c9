//! What the read models cost: processor time and bytes on disk for each event, as the projector hands them over while 32
//! terminals have one command each under way, and eight each.
//! `cargo run --release -p benches --example read_models -- <folder> [events]`
#![allow(clippy::print_stdout)] // printing is its job

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use benches::{Bar, World, shuffled};
use engine::command::Command;
use engine::gates::command::Direction;
use engine::model::ids::{DeviceId, FestivalId, Home, ShardId};
use engine::model::time::Timestamp;
use engine::shard::{Shard, Step};
use storage::journal::{Entry, Position};
use storage::views::cashless::{CashlessViews, Only, Transactions, TransactionsOf};
use storage::views::embedded::EmbeddedViews;
use storage::views::fold::Batch;
use storage::views::gates::{AccessLog, GateViews};
use storage::views::{Followed, Page, Span, Views};

const SHARDS: u16 = 16;
const TICKETS: u32 = 50_000;
const WALLETS: u32 = 100_000;
const TERMINALS: u16 = 32;
/// Of the festival's own time.
const EVENTS_PER_MS: u64 = 50;
/// How often the projector makes what it wrote durable, in batches: every two seconds.
const FLUSH_BATCHES: u64 = 40;

/// A stretch of the journal: for each record whose it is, and what it says.
type Records = Vec<(ShardId, Vec<u8>)>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("name a folder")?;
    let events: u64 = args.next().map_or(Ok(1_000_000), |events| events.parse())?;
    println!(
        "{:>9} {:>7} {:>10} {:>8} {:>8} {:>9} {:>9} {:>8} {:>8}",
        "", "", "per record", "a batch", "events", "fold us", "write us", "bytes", "page us"
    );
    // What a step of a shard comes to, and what comes in while the projector sleeps, at 32 x 1 and 32 x 8.
    for (load, per_record, per_batch) in [("32 x 1", 2, 1_500), ("32 x 8", 8, 6_000)] {
        for (what, (before, records)) in
            [("scans", scans(events, per_record)), ("payments", payments(events, per_record))]
        {
            let folder = tempfile::tempdir_in(&dir)?;
            follow(folder.path(), (what, load), (per_record, per_batch), &before, &records)?;
        }
    }
    Ok(())
}

/// A festival's gates: everybody in, everybody out, and so on. All of a festival is on one shard.
fn scans(events: u64, per_record: usize) -> (Records, Records) {
    let mut world = World::new(TICKETS);
    let shard = Home::Festival(world.device.festival()).shard(SHARDS);
    let before = std::mem::take(&mut world.records).into_iter().map(|record| (shard, record)).collect();
    let (order, mut written, mut records) = (shuffled(TICKETS), 0, Vec::new());
    for direction in [Direction::Enter, Direction::Exit].into_iter().cycle() {
        for asked in world.scans(&order, direction, 1_024).chunks(per_record) {
            records.push((shard, decide(&mut world.shard, asked, &mut written)));
            if written >= events {
                return (before, records);
            }
        }
    }
    unreachable!("it goes round for ever")
}

/// An evening at the bars, whose wallets lie in all shards.
fn payments(events: u64, per_record: usize) -> (Records, Records) {
    let each = WALLETS / u32::from(SHARDS);
    let mut bars: Vec<Bar> = (0..SHARDS).map(|shard| Bar::among(SHARDS, ShardId(shard), each, TERMINALS)).collect();
    let mut before = Vec::new();
    for (shard, bar) in (0..).map(ShardId).zip(&mut bars) {
        before.extend(std::mem::take(&mut bar.records).into_iter().map(|record| (shard, record)));
    }
    let (order, mut written, mut records) = (shuffled(each), 0, Vec::new());
    loop {
        let asked: Vec<Vec<Command>> = bars.iter_mut().map(|bar| bar.debits(&order, 1_024)).collect();
        for from in (0..order.len()).step_by(per_record) {
            for (shard, (bar, asked)) in (0..).map(ShardId).zip(bars.iter_mut().zip(&asked)) {
                let asked = &asked[from..asked.len().min(from + per_record)];
                records.push((shard, decide(&mut bar.shard, asked, &mut written)));
                if written >= events {
                    return (before, records);
                }
            }
        }
    }
}

fn decide(shard: &mut Shard, asked: &[Command], written: &mut u64) -> Vec<u8> {
    let mut step = Step::default();
    shard.step(Timestamp(1_800_000_000_000).plus_ms((*written / EVENTS_PER_MS) as i64), asked, &mut step);
    *written += asked.len() as u64;
    step.record
}

/// Follows it in batches, and asks for some pages.
fn follow(
    folder: &Path,
    (what, load): (&str, &str),
    (per_record, per_batch): (usize, u64),
    before: &Records,
    records: &Records,
) -> Result<(), Box<dyn Error>> {
    let path = folder.join("views.redb");
    let views = EmbeddedViews::open(&path)?;
    let mut batch = Batch::behind(&Followed::nothing(SHARDS));
    let mut places = (0..).map(Position);
    for (shard, payload) in before {
        batch.add(&Entry { shard: *shard, position: places.next().ok_or("no place")?, payload })?;
    }
    views.write(&batch)?;
    views.flush()?;
    batch.go_on();
    let bytes_before = fs::metadata(&path)?.len();
    let (mut folded, mut wrote, mut events, mut batches) = (0, 0, 0, 0);
    let mut from = busy_ns()?;
    for (shard, payload) in records {
        batch.add(&Entry { shard: *shard, position: places.next().ok_or("no place")?, payload })?;
        if batch.events() >= per_batch {
            let until = busy_ns()?;
            folded += until - from;
            events += batch.events();
            views.write(&batch)?;
            batch.go_on();
            batches += 1;
            if batches % FLUSH_BATCHES == 0 {
                views.flush()?;
            }
            from = busy_ns()?;
            wrote += from - until;
        }
    }
    views.flush()?;
    let bytes = fs::metadata(&path)?.len() - bytes_before;
    let page = page_us(&views, what)?;
    let each = |sum: u64| sum as f64 / events as f64;
    println!(
        "{what:>9} {load:>7} {per_record:>10} {per_batch:>8} {events:>8} {:>9.2} {:>9.2} {:>8.0} {page:>8.0}",
        each(folded) / 1e3,
        each(wrote) / 1e3,
        each(bytes),
    );
    Ok(())
}

/// How long a page takes of what people look at: a hundred rows of a wallet, a terminal, a reader, the festival.
fn page_us(views: &EmbeddedViews, what: &str) -> Result<f64, Box<dyn Error>> {
    let festival = FestivalId::of_slug("bench");
    let began = Instant::now();
    let rounds = 20;
    for n in 0..rounds {
        let (backwards, device) = (n % 2 == 0, DeviceId::new(festival, 0));
        let rows = if what == "scans" {
            let page = Page { after: None, limit: 100, backwards };
            views.access_log(AccessLog::Device(device, Span::ALWAYS), page)?.len()
        } else {
            let page = Page { after: None, limit: 100, backwards };
            let of = if n % 4 < 2 { TransactionsOf::Terminal(device) } else { TransactionsOf::Festival(festival) };
            views.transactions(Transactions { of, only: Only::Everything, span: Span::ALWAYS }, page)?.len()
        };
        if rows != 100 {
            return Err(format!("{rows} rows in place of 100").into());
        }
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(rounds))
}

/// How long this thread has been at work.
fn busy_ns() -> Result<u64, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().ok_or("no first figure")?.parse()?)
}
