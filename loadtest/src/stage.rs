//! What every run needs: a server, devices that work on it, and the figures that are the same whatever they do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::admin::Admin;
use crate::cli::Load;
use crate::link::Target;
use crate::load::{self, Home, Plan, Running, Slot};
use crate::machine::{ThreadUsage, Ticks, Usage, disk_bytes, threads, usage};
use crate::report::{Metrics, Quantiles, ViewsFigures};
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

/// Whose work is measured beside that of the devices.
#[derive(Clone, Debug)]
pub struct Watched {
    pub pid: u32,
    /// Where its read models lie.
    pub views: Option<PathBuf>,
}

/// The threads that keep the read models, by how their names begin.
const VIEWS_THREADS: [&str; 2] = ["projector", "views"];
/// Read models that have used less than this in [`QUIET_FOR`] have caught up.
const QUIET_CPU: Duration = Duration::from_millis(15);
const QUIET_FOR: Duration = Duration::from_millis(250);
/// How much later they have written what they had in memory: they do so every two seconds.
const WRITTEN_AFTER: Duration = Duration::from_millis(2_500);
/// How long is waited for that.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(30);

/// Devices at work, and what the machine had done before they began.
pub struct Working<P> {
    running: Running<P>,
    load: Load,
    window: usize,
    watched: Option<Watched>,
    server: Usage,
    threads: BTreeMap<String, ThreadUsage>,
    views_bytes: u64,
    own: Usage,
    ticks: Ticks,
}

/// What came of it.
pub struct Worked<P> {
    /// The devices, as they came home.
    pub simulated_devices: Vec<P>,
    /// What is the same for all kinds of them; how much was answered, and what the disk does, is for the caller to say.
    pub metrics: Metrics,
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
    watched: Option<Watched>,
) -> anyhow::Result<Working<P>> {
    let lasts = Duration::from_secs(load.seconds);
    let running = load::start(Plan {
        target,
        slots,
        threads: load.threads as usize,
        lasts,
        rate: load.rate,
        answer_within: None,
    })?;
    let pid = watched.as_ref().map(|watched| watched.pid);
    let (server, threads) = (pid.map(usage).unwrap_or_default(), pid.map(threads).unwrap_or_default());
    let views_bytes = watched.as_ref().and_then(|watched| watched.views.as_deref()).map_or(0, disk_bytes);
    let (own, ticks, load) = (usage(std::process::id()), Ticks::now(), load.clone());
    Ok(Working { running, load, window, watched, server, threads, views_bytes, own, ticks })
}

impl<P: SimulatedDevice> Working<P> {
    /// Waits for everybody, and adds up.
    ///
    /// # Errors
    /// One of them panicked.
    pub fn come_home(self) -> anyhow::Result<Worked<P>> {
        let Self { running, load, window, watched, server, threads: threads_before, views_bytes, own, ticks } = self;
        let context = std::sync::Arc::clone(&running.context);
        // What comes when the asking is over, balances above all, is no part of what the threads' work is shared by.
        std::thread::sleep(
            Duration::from_nanos(context.end_ns.load(Ordering::Relaxed)).saturating_sub(context.start.elapsed()),
        );
        let asked_for = context.start.elapsed().as_secs_f64();
        let server_pid = watched.as_ref().map(|watched| watched.pid);
        let threads_now = server_pid.map(threads).unwrap_or_default();
        let Home { simulated_devices, mut latencies, reconnects, complaints, done_ns } = running.come_home()?;
        let server_now = server_pid.map(usage).unwrap_or_default();
        let own_now = usage(std::process::id());
        let steal_pct = Ticks::now().steal_pct_since(&ticks);
        let unsent = unsent(&load, &simulated_devices, context.pace.as_ref(), &mut latencies);
        let seconds = done_ns as f64 / 1e9;
        let cores = |before: Usage, after: Usage| {
            (after.cpu.saturating_sub(before.cpu).as_secs_f64() / seconds * 100.0).round() / 100.0
        };
        let used = |name: &str, now: &BTreeMap<String, ThreadUsage>| {
            let usage = |of: &BTreeMap<String, ThreadUsage>| of.get(name).copied().unwrap_or_default();
            let (before, now) = (usage(&threads_before), usage(now));
            (now.cpu.saturating_sub(before.cpu), now.written.saturating_sub(before.written))
        };
        let views = watched.filter(|_| load.views).and_then(|watched| {
            let (folder, pid) = (watched.views?, watched.pid);
            let (caught_up, behind) = catch_up(pid, context.start + Duration::from_nanos(done_ns));
            let of_views = |threads: &BTreeMap<String, ThreadUsage>| {
                let names = threads.keys().filter(|name| VIEWS_THREADS.iter().any(|prefix| name.starts_with(prefix)));
                let used = names.map(|name| used(name, threads));
                used.fold((Duration::ZERO, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1))
            };
            let (cpu, written) = of_views(&caught_up);
            let all: Duration = threads_now.keys().map(|name| used(name, &threads_now).0).sum();
            let all = all - of_views(&threads_now).0 + cpu;
            Some(ViewsFigures {
                cpu_pct: (cpu.as_secs_f64() / all.as_secs_f64().max(1e-9) * 1_000.0).round() / 10.0,
                bytes_per_answer: disk_bytes(&folder).saturating_sub(views_bytes) as f64,
                written_per_answer: written as f64,
                behind_ms: behind.as_millis() as u64,
            })
        });
        let of_thread = |name: &String| {
            let cores = used(name, &threads_now).0.as_secs_f64() / asked_for;
            (cores >= 0.005).then(|| (name.clone(), (cores * 100.0).round() / 100.0))
        };
        let metrics = Metrics {
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
            server_threads: threads_now.keys().filter_map(of_thread).collect(),
            views,
            client_cores: cores(own, own_now),
            steal_pct,
            reconnects,
            resent: 0,
            slowed: 0,
        };
        Ok(Worked { simulated_devices, metrics, complaints })
    }
}

/// Waits until the read models have nothing more to do, and have written it: what the threads have used then, and how long after `since` that was.
fn catch_up(pid: u32, since: Instant) -> (BTreeMap<String, ThreadUsage>, Duration) {
    let of_views = |threads: &BTreeMap<String, ThreadUsage>| {
        let ours = threads.iter().filter(|(name, _)| VIEWS_THREADS.iter().any(|prefix| name.starts_with(prefix)));
        ours.map(|(_, usage)| usage.cpu).sum::<Duration>()
    };
    let (began, mut before) = (Instant::now(), threads(pid));
    loop {
        std::thread::sleep(QUIET_FOR);
        let now = threads(pid);
        let quiet = of_views(&now).saturating_sub(of_views(&before)) < QUIET_CPU;
        if quiet || began.elapsed() > CAUGHT_UP_WITHIN {
            let behind = since.elapsed().saturating_sub(QUIET_FOR);
            std::thread::sleep(WRITTEN_AFTER);
            return (threads(pid), behind);
        }
        before = now;
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
