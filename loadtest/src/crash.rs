//! `crash`: kill -9 under load, again and again. Everything a reader or a terminal was ever told to be on disk must be in
//! the journal, once, as it was told; whatever is asked again must get the same answer, to the last bit; and in the end
//! not a cent is missing, nor was one made.

mod bars;
mod gates;
mod journaled;
mod operators;
mod tags;
mod transfers;

use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::cli::Crash;
use crate::gate::slots;
use crate::load::{self, Plan};
use crate::reader::DeviceConfig;
use crate::report::{CrashReport, Quantiles};
use crate::server::{Program, Server, default_folder};
use bars::Bars;
use journaled::Journaled;

/// Answers a reader or a terminal holds on to, and asks for again after each crash.
const KEEP: usize = 256;
/// One kill in so many is followed by another while the server recovers.
const RECOVERING_ONE_IN: u32 = 4;
/// The load lasts as long as the cycles do; this only bounds it.
const LASTS_MAX: Duration = Duration::from_secs(24 * 3_600);
const NOTES_MAX: usize = 8;

/// Runs it.
///
/// # Errors
/// The server does not start, or does not start again.
pub fn run(args: &Crash) -> anyhow::Result<CrashReport> {
    let folder = args.folder.clone().map_or_else(default_folder, Ok)?;
    let mut server = Server::prepare(Program::up_to_date()?, &folder)?;
    let admin = server.admin()?;
    server.start()?;
    server.wait_ready(&admin)?;
    let readers = args.connections as usize;
    let window = (args.window as usize).min(args.tickets as usize / readers / 8).max(1);
    let strangers = args.tickets as usize / 64;
    let festival = admin.make_festival(args.tickets as usize - strangers, strangers, args.ack.policy())?;
    let device_config = DeviceConfig { window, keep: KEEP, remember: true, echo: false };
    let (slots, target) = slots(&admin, &festival, readers, args.seed, device_config)?;
    let bars = Bars::prepare(&admin, args, device_config, LASTS_MAX)?;
    let plan = Plan { target, slots, threads: 1, lasts: LASTS_MAX, rate: Some(args.rate) };
    let gates = load::start(plan)?;
    let bars = bars.open(&admin)?;

    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let mut below = |ms: u32| Duration::from_millis(u64::from(rng.next_u32() % ms));
    let mut report = CrashReport { cycles: args.cycles, ack: args.ack.policy().word(), ..CrashReport::default() };
    let mut ready_ms = Histogram::<u64>::new_with_bounds(1, 120_000, 3)?;
    for cycle in 1..=args.cycles {
        std::thread::sleep(Duration::from_millis(150) + below(700));
        server.kill()?;
        if cycle % RECOVERING_ONE_IN == 0 {
            server.start()?;
            std::thread::sleep(below(60));
            server.kill()?;
            report.killed_recovering += 1;
        }
        server.start()?;
        let took = server.wait_ready(&admin)?;
        ready_ms.saturating_record(took.as_millis() as u64);
        // Only now: a reader that knocks at a door that is not there yet waits a second before it knocks again.
        gates.context.incarnation.send_modify(|incarnation| *incarnation += 1);
        bars.server_is_back();
    }
    std::thread::sleep(Duration::from_millis(300));
    gates.end();
    debug_assert!(gates.context.end_ns.load(Ordering::Relaxed) < LASTS_MAX.as_nanos() as u64);
    let home = gates.come_home()?;
    let mut bars = bars.close()?;
    // The last one counts as well: what is read now is what a kill has left.
    server.kill()?;
    server.start()?;
    server.wait_ready(&admin)?;
    bars.count(&admin)?;
    server.stop()?;

    report.ready_ms = Quantiles::of(&ready_ms);
    report.notes = home.complaints.into_iter().filter(|complaint| !complaint.contains("the server has gone")).collect();
    let Journaled { gates, money, audit } = Journaled::read(&server.data().join("journal"))?;
    gates::compare(&home.simulated_devices, gates, &mut report);
    let (money, notes) = bars.compare(money);
    report.money = money;
    report.notes.extend(notes);
    report.audited = audit.records;
    report.violations = audit.violations_total;
    let found = audit.violations.into_iter();
    report.notes.extend(
        found.map(|found| format!("shard {}, record {}: {}: {}", found.shard, found.seq, found.check, found.what)),
    );
    report.notes.truncate(NOTES_MAX);
    Ok(report)
}
