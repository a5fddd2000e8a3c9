//! `crash`: kill -9 under load, again and again. Everything a reader or a terminal was ever told to be on disk must be in
//! the journal, once, as it was told; whatever is asked again must get the same answer, to the last bit; and in the end
//! not a cent is missing, nor was one made.

mod bars;
#[cfg_attr(not(feature = "cluster"), expect(dead_code, reason = "how long somebody waits is asked of a cluster"))]
pub(crate) mod crowd;
mod gates;
pub(crate) mod journaled;
mod operators;
mod tags;
mod transfers;

use std::time::Duration;

use hdrhistogram::Histogram;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::cli::Crash;
use crate::report::{CrashReport, Quantiles};
use crate::server::{Program, Server, default_folder};
use crowd::{Crowd, CrowdConfig};
use journaled::Journaled;

/// One kill in so many is followed by another while the server recovers.
const RECOVERING_ONE_IN: u32 = 4;

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
    let crowd = Crowd::open(
        &admin,
        &CrowdConfig {
            readers: args.connections,
            window: args.window,
            scans: args.rate,
            tickets: args.tickets,
            terminals: args.terminals,
            payments: args.payments,
            wallets: args.wallets,
            ack: args.ack.policy(),
            seed: args.seed,
            answer_within: None,
            waits: false,
        },
    )?;

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
        crowd.server_is_back();
    }
    std::thread::sleep(Duration::from_millis(300));
    let mut crowd = crowd.close()?;
    // The last one counts as well: what is read now is what a kill has left.
    server.kill()?;
    server.start()?;
    server.wait_ready(&admin)?;
    crowd.count(&admin)?;
    server.stop()?;

    report.ready_ms = Quantiles::of(&ready_ms);
    crowd.compare(Journaled::read(&server.data().join("journal"))?, &mut report);
    Ok(report)
}
