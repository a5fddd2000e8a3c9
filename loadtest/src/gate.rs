//! `gate`: a festival is made, its readers are enrolled, a crowd comes, and every answer is checked.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use engine::rejection::Rejection;
use storage::journal::bench::bench_disk;

use crate::cli::Gate;
use crate::link::{Offer, Target};
use crate::load::{self, Home, Idle, Plan, Seat};
use crate::machine::{Ticks, Usage, usage};
use crate::model::{Model, Tally, Visitor};
use crate::office::{Festival, Office};
use crate::reader::{Habits, Reader};
use crate::report::{DiskUs, GateReport, Quantiles, rejected};
use crate::server::{Program, Server, default_folder};
use crate::workload::gate::Crowd;

/// One ticket in so many is for elsewhere.
const STRANGERS_ONE_IN: usize = 64;
/// How long the disk is measured beforehand, in seconds.
const DISK_S: f64 = 0.9;
/// A reader's tickets are at least so many times its window: else everybody would be under a scanner at once.
const TICKETS_PER_SCAN: usize = 5;

/// Runs it.
///
/// # Errors
/// The server does not start, or refuses to be set up. What it answers wrongly is in the report.
pub fn run(args: &Gate) -> anyhow::Result<GateReport> {
    let folder = args.folder.clone().map_or_else(default_folder, Ok)?;
    let (mut server, office) = match args.connect {
        Some(http) => {
            let key = std::env::var("TAPGATE_KEY").context("TAPGATE_KEY: an ADMIN's key for that server")?;
            let office = Office::new(http, key);
            ensure!(office.is_ready(), "no server is ready at {http}");
            (None, office)
        }
        None => {
            let mut server = Server::prepare(Program::up_to_date()?, &folder)?;
            let office = server.office()?;
            server.start()?;
            server.wait_ready(&office)?;
            (Some(server), office)
        }
    };
    let report = measure(args, server.as_ref(), &office, folder);
    match (&mut server, report) {
        (Some(server), Ok(mut report)) => {
            if let Err(error) = server.stop() {
                report.wrong += 1;
                report.notes.push(format!("{error:#}"));
            }
            Ok(report)
        }
        (Some(server), Err(error)) => {
            // Killed, not stopped: whatever it was that went wrong, the server must not outlive it.
            server.kill()?;
            Err(error.context(server.last_words()))
        }
        (None, report) => report,
    }
}

fn measure(args: &Gate, server: Option<&Server>, office: &Office, folder: PathBuf) -> anyhow::Result<GateReport> {
    let window = window(args)?;
    let (festival, target, seats) = set_up(office, args, window)?;
    let disk = bench_disk(&folder, DISK_S)?;
    let mut silent = 0;
    let idle = (args.idle > 0).then(|| {
        Idle::seat(target, || {
            silent += 1;
            if silent > args.idle {
                return Ok(None);
            }
            Ok(Some(office.offer(&festival, &format!("Silent {silent}"))?.0))
        })
    });
    let idle = idle.transpose()?;

    let pid = server.and_then(Server::pid);
    let mut report = run_readers(args, window, target, seats, || pid.map(usage).unwrap_or_default())?;
    let (counts, conflicts) = office.counts(&festival)?;
    report.report.counts_agree = (counts.occupancy, counts.admitted, counts.left)
        == (report.inside, report.report.admitted, report.left)
        && conflicts == report.report.conflicts;
    if !report.report.counts_agree {
        let (inside, left) = (report.inside, report.left);
        report.report.notes.push(format!("the server counts {counts:?}, the model {inside} inside, {left} left"));
    }
    report.report.disk_us = DiskUs::of(&disk);
    if let Some(idle) = idle {
        idle.release()?;
    }
    Ok(report.report)
}

/// A report, and what its counters are compared with.
pub struct Measured {
    /// All but the disk.
    pub report: GateReport,
    inside: u64,
    left: u64,
}

/// Scans a reader keeps under way: as asked, or as many as its tickets allow.
///
/// # Errors
/// It was asked for more than the tickets allow.
pub fn window(args: &Gate) -> anyhow::Result<usize> {
    let each = (args.tickets as usize - args.tickets as usize / STRANGERS_ONE_IN) / args.connections as usize;
    let most = each / TICKETS_PER_SCAN;
    if most == 0 || args.window.is_some_and(|window| window as usize > most) {
        bail!(
            "{} tickets are too few: each reader needs {TICKETS_PER_SCAN} for each scan under way; try --tickets {}",
            args.tickets,
            (args.window() * TICKETS_PER_SCAN + 8) * args.connections as usize * 64 / 62
        );
    }
    Ok(args.window().min(most))
}

fn set_up(office: &Office, args: &Gate, window: usize) -> anyhow::Result<(Festival, Target, Vec<Seat<Reader>>)> {
    let strangers = args.tickets as usize / STRANGERS_ONE_IN;
    let festival = office.make_festival(args.tickets as usize - strangers, strangers, args.ack.policy())?;
    let habits = Habits { window, keep: 0, remember: false, epoch_ms: now_ms(), echo: false };
    let (seats, target) = seats(office, &festival, args.connections as usize, args.seed, habits)?;
    Ok((festival, target, seats))
}

/// Readers with a share of the festival's tickets each, and where they are to connect.
///
/// # Errors
/// The server offers no places.
pub fn seats(
    office: &Office,
    festival: &Festival,
    readers: usize,
    seed: u64,
    habits: Habits,
) -> anyhow::Result<(Vec<Seat<Reader>>, Target)> {
    let offers: Vec<(Offer, Target)> = (0..readers)
        .map(|number| office.offer(festival, &format!("Reader {number}")))
        .collect::<anyhow::Result<_>>()?;
    let target = offers.first().context("there is a reader")?.1;
    let of = |all: &[engine::credential::QrClaim], number: usize, stranger: bool| -> Vec<Visitor> {
        all.iter().skip(number).step_by(readers).map(|claim| Visitor::new(*claim, stranger)).collect()
    };
    let seat = |(number, (offer, _)): (usize, (Offer, Target))| {
        let mut visitors = of(&festival.good, number, false);
        visitors.extend(of(&festival.strangers, number, true));
        let model = Model::new(visitors, festival.zone, festival.good.len() as u32);
        let crowd = Crowd::new(&model, seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
        Seat { player: Reader::new(number, model, crowd, habits), offer: Some(offer) }
    };
    Ok((offers.into_iter().enumerate().map(seat).collect(), target))
}

/// Lets the readers work, and adds up.
///
/// # Errors
/// They cannot connect.
pub fn run_readers(
    args: &Gate,
    window: usize,
    target: Target,
    seats: Vec<Seat<Reader>>,
    server: impl Fn() -> Usage,
) -> anyhow::Result<Measured> {
    let lasts = Duration::from_secs(args.seconds);
    let plan = Plan { target, seats, threads: args.threads as usize, lasts, rate: args.rate };
    let own = || usage(std::process::id());
    let running = load::start(plan)?;
    let (server_before, own_before, ticks_before) = (server(), own(), Ticks::now());
    let course = std::sync::Arc::clone(&running.course);
    let Home { players: readers, mut latencies, reconnects, mut complaints, done_ns } = running.come_home()?;
    let (server_after, own_after) = (server(), own());
    let steal_pct = Ticks::now().steal_pct_since(&ticks_before);

    let mut tally = Tally::default();
    let sum = |of: fn(&Reader) -> u64| readers.iter().map(of).sum::<u64>();
    readers.iter().for_each(|reader| tally.add(&reader.model.tally));
    let mut unsent = 0;
    if let Some(pace) = &course.pace {
        for reader in &readers {
            let end_ns = lasts.as_nanos() as u64;
            for due_ns in (reader.sent..).map_while(|nth| pace.due(reader.number, nth)) {
                unsent += 1;
                latencies.answers.saturating_record((end_ns.saturating_sub(due_ns) / 1_000).max(1));
            }
        }
    }
    let seconds = done_ns as f64 / 1e9;
    let cores = |before: Usage, after: Usage| {
        (after.cpu.saturating_sub(before.cpu).as_secs_f64() / seconds * 100.0).round() / 100.0
    };
    complaints.extend(tally.explained.iter().cloned());
    let report = GateReport {
        mode: "gate",
        connections: args.connections,
        window,
        target_rate: args.rate,
        seconds: args.seconds,
        tickets: args.tickets,
        ack: args.ack.policy().word(),
        idle: args.idle,
        sent: sum(|reader| reader.sent),
        answered: tally.answered,
        admitted: tally.admitted,
        exited: tally.exited,
        rejected: rejected(&tally),
        busy: sum(|reader| reader.busy),
        wrong: tally.wrong,
        lost: sum(Reader::lost),
        double_admitted: tally.double_admitted,
        conflicts: tally.conflicts,
        unsent,
        rate_per_s: (tally.answered as f64 / seconds) as u64,
        latency_us: Quantiles::of(&latencies.answers),
        busy_latency_us: Quantiles::of(&latencies.busy),
        disk_us: DiskUs::default(),
        server_rss_bytes: server_after.rss_bytes,
        server_rss_grown_bytes: server_after.rss_bytes as i64 - server_before.rss_bytes as i64,
        server_cores: cores(server_before, server_after),
        client_cores: cores(own_before, own_after),
        steal_pct,
        reconnects,
        resent: sum(|reader| reader.resent),
        slowed: sum(|reader| reader.slowed),
        counts_agree: true,
        notes: complaints,
    };
    // A rejection that no scan of ours can cause would be among the wrong ones; busy is never an answer.
    debug_assert_eq!(tally.rejected[Rejection::Busy as usize], 0);
    Ok(Measured { inside: readers.iter().map(|reader| reader.model.inside()).sum(), left: tally.left, report })
}

/// This machine's clock, in ms since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
