//! What every run needs: a server, devices that work on it, and the figures that are the same whatever they do.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::admin::Admin;
use crate::cli::Load;
use crate::link::Target;
use crate::load::{self, Home, Plan, Running, Slot};
use crate::machine::{Ticks, Usage, usage};
use crate::report::{Figures, Quantiles};
use crate::server::{Program, Server, default_folder};
use crate::simulated::{Latencies, SimulatedDevice};

/// Runs something on the server that the flags name: one that is there, or one of its own, which is stopped afterwards.
/// Gives back what came of it, and why the server did not stop as it should.
///
/// # Errors
/// The server does not start, or what is run fails.
pub fn on_a_server<R>(
    load: &Load,
    run: impl FnOnce(Option<&Server>, &Admin, PathBuf) -> anyhow::Result<R>,
) -> anyhow::Result<(R, Option<String>)> {
    let folder = load.folder.clone().map_or_else(default_folder, Ok)?;
    if let Some(http) = load.connect {
        let key = std::env::var("TAPGATE_KEY").context("TAPGATE_KEY: an ADMIN's key for that server")?;
        let admin = Admin::new(http, key);
        ensure!(admin.is_ready(), "no server is ready at {http}");
        return Ok((run(None, &admin, folder)?, None));
    }
    let mut server = Server::prepare(Program::up_to_date()?, &folder)?;
    let admin = server.admin()?;
    server.start()?;
    server.wait_ready(&admin)?;
    match run(Some(&server), &admin, folder) {
        Ok(report) => Ok((report, server.stop().err().map(|error| format!("{error:#}")))),
        Err(error) => {
            // Killed, not stopped: whatever it was that went wrong, the server must not outlive it.
            server.kill()?;
            Err(error.context(server.last_words()))
        }
    }
}

/// Devices at work, and what the machine had done before they began.
pub struct Working<P> {
    running: Running<P>,
    load: Load,
    window: usize,
    server_pid: Option<u32>,
    server: Usage,
    own: Usage,
    ticks: Ticks,
}

/// What came of it.
pub struct Worked<P> {
    /// The devices, as they came home.
    pub simulated_devices: Vec<P>,
    /// What is the same for all kinds of them; how much was answered, and what the disk does, is for the caller to say.
    pub figures: Figures,
    /// Complaints of connections.
    pub complaints: Vec<String>,
}

/// Connects everybody, and starts them together. `window`: how many commands each may have under way.
///
/// # Errors
/// They cannot connect.
pub fn start<P: SimulatedDevice>(
    load: &Load,
    window: usize,
    target: Target,
    slots: Vec<Slot<P>>,
    server_pid: Option<u32>,
) -> anyhow::Result<Working<P>> {
    let (threads, lasts) = (load.threads as usize, Duration::from_secs(load.seconds));
    let running = load::start(Plan { target, slots, threads, lasts, rate: load.rate })?;
    let server = server_pid.map(usage).unwrap_or_default();
    let own = usage(std::process::id());
    Ok(Working { running, load: load.clone(), window, server_pid, server, own, ticks: Ticks::now() })
}

impl<P: SimulatedDevice> Working<P> {
    /// Waits for everybody, and adds up.
    ///
    /// # Errors
    /// One of them panicked.
    pub fn come_home(self) -> anyhow::Result<Worked<P>> {
        let Self { running, load, window, server_pid, server, own, ticks } = self;
        let context = std::sync::Arc::clone(&running.context);
        let Home { simulated_devices, mut latencies, reconnects, complaints, done_ns } = running.come_home()?;
        let server_now = server_pid.map(usage).unwrap_or_default();
        let own_now = usage(std::process::id());
        let steal_pct = Ticks::now().steal_pct_since(&ticks);
        let unsent = unsent(&load, &simulated_devices, context.pace.as_ref(), &mut latencies);
        let seconds = done_ns as f64 / 1e9;
        let cores = |before: Usage, after: Usage| {
            (after.cpu.saturating_sub(before.cpu).as_secs_f64() / seconds * 100.0).round() / 100.0
        };
        let figures = Figures {
            connections: load.connections,
            window,
            target_rate: load.rate,
            seconds: load.seconds,
            sent: simulated_devices.iter().map(SimulatedDevice::sent).sum(),
            answered: 0,
            busy: 0,
            unsent,
            lost: simulated_devices.iter().map(|simulated| simulated.open() as u64).sum(),
            took_ns: done_ns,
            rate_per_s: 0,
            latency_us: Quantiles::of(&latencies.answers),
            busy_latency_us: Quantiles::of(&latencies.busy),
            disk_us: Default::default(),
            server_rss_bytes: server_now.rss_bytes,
            server_rss_grown_bytes: server_now.rss_bytes as i64 - server.rss_bytes as i64,
            server_cores: cores(server, server_now),
            client_cores: cores(own, own_now),
            steal_pct,
            reconnects,
            resent: 0,
            slowed: 0,
        };
        Ok(Worked { simulated_devices, figures, complaints })
    }
}

/// What an open loop wanted and nobody sent. Its waiting counts as its latency.
fn unsent<P: SimulatedDevice>(
    load: &Load,
    simulated_devices: &[P],
    pace: Option<&crate::pace::Pace>,
    latencies: &mut Latencies,
) -> u64 {
    let Some(pace) = pace else { return 0 };
    let end_ns = load.seconds * 1_000_000_000;
    let mut unsent = 0;
    for simulated in simulated_devices {
        for due_ns in (simulated.sent()..).map_while(|nth| pace.due(simulated.number(), nth)) {
            unsent += 1;
            latencies.answered(due_ns, end_ns);
        }
    }
    unsent
}
