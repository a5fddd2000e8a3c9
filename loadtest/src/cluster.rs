//! `cluster`: nodes on real brokers, under load, and a failure: whatever was acknowledged must be in the log once, as it was
//! told, and nothing else. [`scenarios`] has the failures and what each must show.
//!
//! The order of a run: servers of the cluster are found or started, nodes are started on a topic of their own, a
//! crowd begins, the failures come, the crowd goes home with all its answers, and these are compared with the fold of the
//! log. Everything that was started here is ended here, by its process id.

mod apart;
mod leaders;
mod log;
mod nodes;
pub mod outage;
pub mod report;
pub mod scenarios;
mod servers;
mod stage;

use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::cli::ClusterArgs;
use crate::crash::crowd::{Crowd, CrowdConfig};
use crate::report::CrashReport;
use crate::server::{Program, default_folder};
pub use log::Plant;
use nodes::Nodes;
use outage::Waited;
use report::ClusterReport;
use servers::Servers;
use stage::Stage;

/// How long a device waits for an answer on a connection that stands, as the device's library does.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// What comes before the first failure and after the last.
const QUIET: Duration = Duration::from_secs(3);
/// Of the brokers' three, when they are started here.
const BROKERS: usize = 3;

/// Runs it.
///
/// # Errors
/// The servers or the nodes do not start, or one does not start again. What was lost or wrong is in the report.
pub fn run(args: &ClusterArgs) -> anyhow::Result<ClusterReport> {
    let name = args.scenario.as_deref().context("which one? --list says which there are")?;
    let scenario = scenarios::named(name)?;
    let count = args.nodes.unwrap_or(scenario.nodes);
    ensure!(count >= scenario.nodes_min, "{name} needs {} nodes", scenario.nodes_min);
    let under = args.folder.clone().map_or_else(default_folder, Ok)?;
    let mut folder = tempfile::Builder::new().prefix("loadtest-cluster-").tempdir_in(&under)?;
    folder.disable_cleanup(args.keep);
    let servers = Servers::find(args, scenario, BROKERS)?;
    let program = Program::as_it_is(args.binary.clone())?;
    let mut nodes = Nodes::prepare(&program, folder.path(), &servers, count)?;
    (scenario.before)(&mut nodes, &servers)?;
    let admin = nodes.start_all()?;

    let config = CrowdConfig {
        readers: args.readers,
        window: 64,
        scans: args.scans,
        tickets: 20_000,
        terminals: args.terminals,
        payments: args.payments,
        wallets: 2_000,
        ack: engine::model::status::ScanAck::Durable,
        seed: args.seed,
        answer_within: Some(ANSWER_WITHIN),
        waits: true,
    };
    let crowd = Crowd::open(&admin, &config)?;
    let began = crowd.began();
    let cycles = args.cycles.unwrap_or(scenario.cycles);
    let mut stage = Stage::new(nodes, &servers, args.seed);
    stage.quiet(QUIET);
    for cycle in 0..cycles {
        (scenario.play)(&mut stage, cycle).with_context(|| format!("cycle {} of {name}", cycle + 1))?;
    }
    stage.quiet(QUIET);
    let mut crowd = crowd.close()?;
    crowd.count(&admin)?;
    let (outages, nodes) = stage.end();
    let mut unlike = nodes.stop_all();

    let gates = crowd.readers().iter().map(|of| Waited { began: began.0, waits: &of.waits, refusals: &of.refusals });
    let bars = crowd.terminals().iter().map(|of| Waited { began: began.1, waits: &of.waits, refusals: &of.refusals });
    let devices: Vec<Waited<'_>> = gates.chain(bars).collect();
    let office = [Waited { began: began.1, waits: crowd.office_waits(), refusals: &[] }];
    unlike.extend(outage::unlike(&outages, devices.iter().chain(&office)));
    let (unavailable_ms, office_ms) = (outage::unavailable(&outages, &devices), outage::unavailable(&outages, &office));

    let mut checked = CrashReport { cycles, ack: "durable", ..CrashReport::default() };
    let (journaled, damage) = log::read(&servers, args.plant)?;
    crowd.compare(journaled, &mut checked);
    unlike.extend(damage);
    Ok(ClusterReport::new(scenario.name, (count, servers.kafka.len()), unavailable_ms, office_ms, checked, unlike))
}
