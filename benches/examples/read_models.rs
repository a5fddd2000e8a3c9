//! What the read models cost: processor time and bytes on disk for each event, as the projector hands them over while 32
//! terminals have one command each under way, and eight each; and how long a page of a hundred rows takes.
//! `cargo run --release -p benches --example read_models -- <folder> [events]`
#![allow(clippy::print_stdout)] // printing is its job

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use benches::streams::{Records, SHARDS, payments, scans};
use engine::model::ids::{DeviceId, FestivalId, VendorNo, ZoneNo};
use storage::journal::{Entry, Position};
use storage::views::cashless::{CashlessViews, Only, Transactions, TransactionsOf};
use storage::views::embedded::EmbeddedViews;
use storage::views::fold::Batch;
use storage::views::gates::{AccessLog, GateViews};
use storage::views::{Followed, Page, Span, Views, ViewsError};

/// How often the projector makes what it wrote durable, in batches: every two seconds.
const FLUSH_BATCHES: u64 = 40;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("name a folder")?;
    let events: u64 = args.next().map_or(Ok(1_000_000), |events| events.parse())?;
    println!(
        "{:>9} {:>7} {:>10} {:>8} {:>8} {:>9} {:>9} {:>8}  us a page: the first, the second, a later one",
        "", "", "per record", "a batch", "events", "fold us", "write us", "bytes"
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
    let each = |sum: u64| sum as f64 / events as f64;
    print!(
        "{what:>9} {load:>7} {per_record:>10} {per_batch:>8} {events:>8} {:>9.2} {:>9.2} {:>8.0} ",
        each(folded) / 1e3,
        each(wrote) / 1e3,
        each(bytes),
    );
    for (of, [first, second, later]) in pages(&views, what)? {
        print!(" {of} {first:.0} {second:.0} {later:.0};");
    }
    println!();
    Ok(())
}

/// A list, and how long three of its pages take.
type Timed = (&'static str, [f64; 3]);

/// What people look at, and what its first page takes, the page after that, and the one after the 3,000th row, in
/// microseconds: medians, forwards and backwards taking turns.
fn pages(views: &EmbeddedViews, what: &str) -> Result<Vec<Timed>, Box<dyn Error>> {
    let festival = FestivalId::of_slug("bench");
    let device = DeviceId::new(festival, 0);
    if what == "scans" {
        let read =
            |of| move |page| Ok(views.access_log(of, page)?.into_iter().map(|row| (row.position, row)).collect());
        let ticket = views.access_log(AccessLog::Device(device, Span::ALWAYS), Page::first(1))?[0].ticket;
        let ticket = ticket.ok_or("a scan without a ticket")?;
        return Ok(vec![
            ("reader", timed(read(AccessLog::Device(device, Span::ALWAYS)))?),
            ("zone", timed(read(AccessLog::Zone(festival, ZoneNo(0), Span::ALWAYS)))?),
            ("ticket", timed(read(AccessLog::Ticket(ticket, Span::ALWAYS)))?),
        ]);
    }
    let read = |of| {
        let of = Transactions { of, only: Only::Everything, span: Span::ALWAYS };
        move |page| Ok(views.transactions(of, page)?.into_iter().map(|row| (row.position, row)).collect())
    };
    let of = Transactions { of: TransactionsOf::Festival(festival), only: Only::Everything, span: Span::ALWAYS };
    let wallet = views.transactions(of, Page::first(1))?[0].wallet;
    Ok(vec![
        ("terminal", timed(read(TransactionsOf::Terminal(device)))?),
        ("vendor", timed(read(TransactionsOf::Vendor(festival, VendorNo(0))))?),
        ("festival", timed(read(TransactionsOf::Festival(festival)))?),
        ("wallet", timed(read(TransactionsOf::Wallet(wallet, None)))?),
    ])
}

fn timed<P: Copy, R>(read: impl Fn(Page<P>) -> Result<Vec<(P, R)>, ViewsError>) -> Result<[f64; 3], Box<dyn Error>> {
    let mut rounds = [const { Vec::new() }; 3];
    for n in 0..40 {
        let (mut after, backwards) = (None, n % 2 == 0);
        let mut page = |limit| {
            let began = Instant::now();
            let rows = read(Page { after, limit, backwards })?;
            let took = began.elapsed().as_secs_f64() * 1e6;
            after = rows.last().map(|(place, _)| *place).or(after);
            Ok::<_, Box<dyn Error>>(took)
        };
        let (first, second) = (page(100)?, page(100)?);
        for _ in 0..3 {
            page(1_000)?;
        }
        let later = page(100)?;
        rounds.iter_mut().zip([first, second, later]).for_each(|(all, took)| all.push(took));
    }
    Ok(rounds.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    }))
}

/// How long this thread has been at work.
fn busy_ns() -> Result<u64, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().ok_or("no first figure")?.parse()?)
}
