//! What a run found, as one JSON object or as a small table.

use std::collections::BTreeMap;
use std::fmt;

use engine::rejection::Rejection;
use hdrhistogram::Histogram;
use serde::Serialize;
use storage::journal::bench::DiskReport;

use crate::model::Tally;

/// Quantiles, in µs.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Quantiles {
    /// Half were faster.
    pub p50: u64,
    /// 90 of 100.
    pub p90: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1,000.
    pub p999: u64,
    /// The slowest.
    pub max: u64,
}

impl Quantiles {
    /// Of a histogram in µs; zeros if it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: histogram.max() }
    }
}

/// Durable writes of 4 KiB on the server's disk, just before the run, in µs.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct DiskUs {
    /// Half were faster.
    pub p50: u64,
    /// 99 of 100.
    pub p99: u64,
}

impl DiskUs {
    /// The first row: the smallest write.
    pub fn of(report: &DiskReport) -> Self {
        report.rows.first().map(|row| Self { p50: row.p50_us, p99: row.p99_us }).unwrap_or_default()
    }
}

/// What `gate` and `echo` found.
#[derive(Clone, Debug, Serialize)]
pub struct GateReport {
    /// `gate` or `echo`.
    pub mode: &'static str,
    /// Readers.
    pub connections: u32,
    /// Scans each of them kept under way at most.
    pub window: usize,
    /// Scans a second that an open loop wanted.
    pub target_rate: Option<u64>,
    /// How long it was meant to last.
    pub seconds: u64,
    /// Tickets, over all readers.
    pub tickets: u32,
    /// `durable` or `decided`.
    pub ack: &'static str,
    /// Silent readers beside.
    pub idle: u32,
    /// Scans sent, each counted once.
    pub sent: u64,
    /// Scans answered.
    pub answered: u64,
    /// Entries.
    pub admitted: u64,
    /// Exits.
    pub exited: u64,
    /// Rejections by code.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Refusals at the door; what they refused was sent again.
    pub busy: u64,
    /// Answers other than the one that was due, and counters that differ from the model's.
    pub wrong: u64,
    /// Scans without an answer, or without its confirmation, after draining and resuming.
    pub lost: u64,
    /// Entries of somebody who was inside already.
    pub double_admitted: u64,
    /// Answers that stood against what the shard would have decided.
    pub conflicts: u64,
    /// Scans that were due in an open loop and never sent, since too many were under way. Their waiting counts as their
    /// latency.
    pub unsent: u64,
    /// Answers a second.
    pub rate_per_s: u64,
    /// From the moment a scan was due to its answer.
    pub latency_us: Quantiles,
    /// From a scan to its refusal at the door.
    pub busy_latency_us: Quantiles,
    /// The disk by itself.
    pub disk_us: DiskUs,
    /// Memory of the server at the end.
    pub server_rss_bytes: u64,
    /// By how much it grew during the run.
    pub server_rss_grown_bytes: i64,
    /// Cores the server kept busy.
    pub server_cores: f64,
    /// Cores the load generator kept busy.
    pub client_cores: f64,
    /// Time that the machine's neighbours took, in percent.
    pub steal_pct: f64,
    /// Connections made again.
    pub reconnects: u64,
    /// Scans sent again on another connection.
    pub resent: u64,
    /// How often the server asked a reader to slow down: its limits are too low for this run.
    pub slowed: u64,
    /// The perimeter's counters at the end are the model's.
    pub counts_agree: bool,
    /// The first wrong answers and broken connections, in words.
    pub notes: Vec<String>,
}

impl GateReport {
    /// Nothing was wrong, lost or doubled.
    pub fn is_good(&self) -> bool {
        self.wrong == 0 && self.lost == 0 && self.double_admitted == 0 && self.counts_agree
    }
}

/// Rejections that occurred, by code.
pub fn rejected(tally: &Tally) -> BTreeMap<&'static str, u64> {
    let all = Rejection::ALL.iter().map(|rejection| (rejection.code(), tally.rejected[*rejection as usize]));
    all.filter(|(_, count)| *count > 0).collect()
}

impl fmt::Display for GateReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loop_kind = match self.target_rate {
            Some(rate) => format!("open loop, {rate}/s"),
            None => format!("closed loop, {} under way each", self.window),
        };
        let Self { mode, connections, seconds, ack, idle, .. } = self;
        writeln!(f, "{mode}: {connections} readers, {idle} idle, {loop_kind}, {seconds} s, {ack}")?;
        let mut row = |name: &str, value: String| writeln!(f, "  {name:<16} {value}");
        row("answers/s", self.rate_per_s.to_string())?;
        row(
            "scans",
            format!("{} sent, {} answered, {} busy, {} unsent", self.sent, self.answered, self.busy, self.unsent),
        )?;
        row("answers", format!("{} admitted, {} exited, {:?}", self.admitted, self.exited, self.rejected))?;
        let quantiles =
            |q: &Quantiles| format!("p50 {}  p90 {}  p99 {}  p99.9 {}  max {} µs", q.p50, q.p90, q.p99, q.p999, q.max);
        row("latency", quantiles(&self.latency_us))?;
        if self.busy > 0 {
            row("refusals", quantiles(&self.busy_latency_us))?;
        }
        row("disk, 4 KiB", format!("p50 {}  p99 {} µs", self.disk_us.p50, self.disk_us.p99))?;
        let (mib, grown) = (self.server_rss_bytes >> 20, self.server_rss_grown_bytes >> 20);
        row("server", format!("{:.2} cores, {mib} MiB ({grown:+} MiB)", self.server_cores))?;
        row("load generator", format!("{:.2} cores; {:.1} % stolen", self.client_cores, self.steal_pct))?;
        if self.reconnects + self.slowed > 0 {
            let Self { reconnects, resent, slowed, .. } = self;
            row(
                "connections",
                format!("{reconnects} made again, {resent} scans resent, {slowed} times told to slow down"),
            )?;
        }
        let Self { wrong, lost, double_admitted, conflicts, .. } = self;
        let agree = if self.counts_agree { "agree" } else { "DIFFER" };
        row(
            "checked",
            format!(
                "{wrong} wrong, {lost} lost, {double_admitted} let in twice, {conflicts} conflicts, counters {agree}"
            ),
        )?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  ! {note}"))
    }
}

/// What `crash` found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CrashReport {
    /// How often the server was killed.
    pub cycles: u32,
    /// `durable` or `decided`.
    pub ack: &'static str,
    /// Answers on disk, as far as readers were told.
    pub acknowledged: u64,
    /// Of these, those that the journal does not have, or has otherwise, and scans never answered.
    pub lost: u64,
    /// Scans the journal has twice, and people let in while they were inside.
    pub doubled: u64,
    /// Answers that came again after a crash and were not the same, and wrong ones of any kind.
    pub wrong: u64,
    /// Answers shown before a crash that stood against what the shard would have decided.
    pub conflicts: u64,
    /// Scans in the journal.
    pub journaled: u64,
    /// Scans sent again after a crash.
    pub resent: u64,
    /// Kills in the middle of recovery.
    pub killed_recovering: u32,
    /// From the start of the process to readiness, in ms.
    pub ready_ms: Quantiles,
    /// The first things that were wrong, in words.
    pub notes: Vec<String>,
}

impl CrashReport {
    /// Nothing was lost, nothing happened twice.
    pub fn is_good(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.wrong == 0
    }
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "crash: {} kills ({} of them during recovery), {}", self.cycles, self.killed_recovering, self.ack)?;
        let mut row = |name: &str, value: String| writeln!(f, "  {name:<16} {value}");
        row("acknowledged", format!("{} of {} in the journal", self.acknowledged, self.journaled))?;
        row("resent", self.resent.to_string())?;
        row("ready again", format!("p50 {} ms, max {} ms", self.ready_ms.p50, self.ready_ms.max))?;
        let Self { lost, doubled, wrong, conflicts, .. } = self;
        row("checked", format!("{lost} lost, {doubled} doubled, {wrong} wrong, {conflicts} conflicts"))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  ! {note}"))
    }
}
