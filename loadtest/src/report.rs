//! What a run found, as one JSON object or as a small table.

use std::collections::BTreeMap;
use std::fmt;

use engine::model::rejection::Rejection;
use hdrhistogram::Histogram;
use serde::Serialize;
use storage::journal::bench::DiskReport;

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

/// What the read models cost, until they had caught up.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ViewsFigures {
    /// Their thread's share of the server's processor time, in percent.
    pub cpu_pct: f64,
    /// By how much their files grew for each command answered, in bytes.
    pub bytes_per_answer: f64,
    /// What their thread wrote to the disk for each command answered, in bytes.
    pub written_per_answer: f64,
    /// How long after the last answer they had caught up, in ms.
    pub behind_ms: u64,
}

/// The figures that are the same whatever devices do.
#[derive(Clone, Debug, Serialize)]
pub struct Metrics {
    /// Devices.
    pub connections: u32,
    /// Commands each of them kept under way at most.
    pub window: usize,
    /// Commands a second that an open loop wanted.
    pub target_rate: Option<u64>,
    /// How long it was meant to last.
    pub seconds: u64,
    /// Commands sent, each counted once.
    pub sent: u64,
    /// Commands answered.
    pub answered: u64,
    /// Refusals at the door; what they refused was sent again.
    pub busy: u64,
    /// Commands that were due in an open loop and never sent, since too many were under way. Their waiting counts as
    /// their latency.
    pub unsent: u64,
    /// Commands without an answer, or without its confirmation, after draining and resuming.
    pub lost: u64,
    /// How long it took, in ns.
    #[serde(skip)]
    pub took_ns: u64,
    /// Answers a second.
    pub rate_per_s: u64,
    /// From the moment a command was due to its answer.
    pub latency_us: Quantiles,
    /// From a command to its refusal at the door.
    pub busy_latency_us: Quantiles,
    /// The disk by itself.
    pub disk_us: DiskUs,
    /// Memory of the server at the end.
    pub server_rss_bytes: u64,
    /// By how much it grew during the run.
    pub server_rss_grown_bytes: i64,
    /// Cores the server kept busy.
    pub server_cores: f64,
    /// Of these, by the name of the thread, while devices were asking.
    pub server_threads: BTreeMap<String, f64>,
    /// What the read models cost, where the server was started here.
    pub views: Option<ViewsFigures>,
    /// Cores the load generator kept busy.
    pub client_cores: f64,
    /// Time that the machine's neighbours took, in percent.
    pub steal_pct: f64,
    /// Connections made again.
    pub reconnects: u64,
    /// Commands sent again on another connection.
    pub resent: u64,
    /// How often the server asked a device to slow down: its limits are too low for this run.
    pub slowed: u64,
}

impl Metrics {
    /// So many were answered until `ns` after the start.
    pub fn answered(&mut self, answered: u64, ns: u64) {
        self.answered = answered;
        if let Some(views) = &mut self.views {
            views.bytes_per_answer = (views.bytes_per_answer / answered.max(1) as f64).round();
            views.written_per_answer = (views.written_per_answer / answered.max(1) as f64).round();
        }
        self.rate_per_s = (answered as f64 / (ns.max(1) as f64 / 1e9)) as u64;
    }

    fn loop_kind(&self) -> String {
        match self.target_rate {
            Some(rate) => format!("open loop, {rate}/s"),
            None => format!("closed loop, {} under way each", self.window),
        }
    }

    fn rows(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String| writeln!(f, "  {name:<16} {value}");
        row("answers/s", self.rate_per_s.to_string())?;
        let Self { sent, answered, busy, unsent, .. } = self;
        row("commands", format!("{sent} sent, {answered} answered, {busy} busy, {unsent} unsent"))?;
        let quantiles =
            |q: &Quantiles| format!("p50 {}  p90 {}  p99 {}  p99.9 {}  max {} µs", q.p50, q.p90, q.p99, q.p999, q.max);
        row("latency", quantiles(&self.latency_us))?;
        if self.busy > 0 {
            row("refusals", quantiles(&self.busy_latency_us))?;
        }
        row("disk, 4 KiB", format!("p50 {}  p99 {} µs", self.disk_us.p50, self.disk_us.p99))?;
        let (mib, grown) = (self.server_rss_bytes >> 20, self.server_rss_grown_bytes >> 20);
        row("server", format!("{:.2} cores, {mib} MiB ({grown:+} MiB)", self.server_cores))?;
        let threads: Vec<String> =
            self.server_threads.iter().map(|(name, cores)| format!("{name} {cores:.2}")).collect();
        if !threads.is_empty() {
            row("its threads", threads.join(", "))?;
        }
        if let Some(views) = &self.views {
            let ViewsFigures { cpu_pct, bytes_per_answer, written_per_answer, behind_ms } = views;
            row(
                "read models",
                format!(
                    "{cpu_pct:.1} % of its processor time; {bytes_per_answer:.0} B an answer, {written_per_answer:.0} B \
                     written; {behind_ms} ms behind at the end"
                ),
            )?;
        }
        row("load generator", format!("{:.2} cores; {:.1} % stolen", self.client_cores, self.steal_pct))?;
        if self.reconnects + self.slowed > 0 {
            let Self { reconnects, resent, slowed, .. } = self;
            row(
                "connections",
                format!("{reconnects} made again, {resent} sent again, {slowed} times told to slow down"),
            )?;
        }
        Ok(())
    }
}

/// What `echo` found.
#[derive(Clone, Debug, Serialize)]
pub struct EchoReport {
    /// `echo`.
    pub mode: &'static str,
    /// `scans` or `payments`.
    pub frames: &'static str,
    /// As everywhere.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Broken connections, in words.
    pub notes: Vec<String>,
}

impl EchoReport {
    /// Everything came back.
    pub fn is_good(&self) -> bool {
        self.metrics.lost == 0
    }
}

impl fmt::Display for EchoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, metrics, .. } = self;
        let (connections, seconds, kind) = (metrics.connections, metrics.seconds, metrics.loop_kind());
        writeln!(f, "echo: {frames}, {connections} devices, {kind}, {seconds} s")?;
        metrics.rows(f)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  ! {note}"))
    }
}

/// What `gate` found.
#[derive(Clone, Debug, Serialize)]
pub struct GateReport {
    /// `gate`.
    pub mode: &'static str,
    /// As everywhere.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Tickets, over all readers.
    pub tickets: u32,
    /// `durable` or `decided`.
    pub ack: &'static str,
    /// Silent readers beside.
    pub idle: u32,
    /// Entries.
    pub admitted: u64,
    pub exited: u64,
    /// Rejections by code.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Answers other than the one that was due, and counters that differ from the model's.
    pub wrong: u64,
    /// Entries of somebody who was inside already.
    pub double_admitted: u64,
    /// Answers that stood against what the shard would have decided.
    pub conflicts: u64,
    /// The perimeter's counters at the end are the model's.
    pub counts_agree: bool,
    /// The first wrong answers and broken connections, in words.
    pub notes: Vec<String>,
}

impl GateReport {
    /// Nothing was wrong, lost or doubled.
    pub fn is_good(&self) -> bool {
        self.wrong == 0 && self.metrics.lost == 0 && self.double_admitted == 0 && self.counts_agree
    }
}

/// Rejections that occurred, by code.
pub fn rejected(counts: &[u64; Rejection::NUMBERS]) -> BTreeMap<&'static str, u64> {
    let all = Rejection::ALL.iter().map(|rejection| (rejection.code(), counts[*rejection as usize]));
    all.filter(|(_, count)| *count > 0).collect()
}

impl fmt::Display for GateReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, metrics, ack, idle, .. } = self;
        let (connections, seconds, kind) = (metrics.connections, metrics.seconds, metrics.loop_kind());
        writeln!(f, "{mode}: {connections} readers, {idle} idle, {kind}, {seconds} s, {ack}")?;
        metrics.rows(f)?;
        let mut row = |name: &str, value: String| writeln!(f, "  {name:<16} {value}");
        row("answers", format!("{} admitted, {} exited, {:?}", self.admitted, self.exited, self.rejected))?;
        let Self { wrong, double_admitted, conflicts, .. } = self;
        let (lost, agree) = (metrics.lost, if self.counts_agree { "agree" } else { "DIFFER" });
        row(
            "checked",
            format!(
                "{wrong} wrong, {lost} lost, {double_admitted} let in twice, {conflicts} conflicts, counters {agree}"
            ),
        )?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  ! {note}"))
    }
}

/// What `bar` found.
#[derive(Clone, Debug, Serialize)]
pub struct BarReport {
    /// `bar`.
    pub mode: &'static str,
    /// As everywhere.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Wallets, over all terminals.
    pub wallets: u32,
    pub vendors: u16,
    /// The share of payments from one wallet, and of terminals at one vendor.
    pub hot: f64,
    /// Payments.
    pub debits: u64,
    pub refunds: u64,
    /// Top-ups.
    pub topups: u64,
    /// Transfers from wallet to wallet.
    pub transfers: u64,
    /// Transfers a second.
    pub transfers_per_s: u64,
    /// Payments refused because there was not enough.
    pub insufficient: u64,
    /// Rejections by code.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Answers other than the one that was due.
    pub wrong: u64,
    /// Wallets compared at the end, each to the cent.
    pub balances_checked: u64,
    /// Of these, those that were not what they should be.
    pub balances_wrong: u64,
    /// Minor units in the wallets that came from nowhere.
    pub money_created: i64,
    /// Minor units that should be in the wallets and are not.
    pub money_lost: i64,
    /// The books add up to zero, and say of vendors and cash what the model says.
    pub books_agree: bool,
    /// The first wrong answers and broken connections, in words.
    pub notes: Vec<String>,
}

impl BarReport {
    /// Nothing was wrong or lost, to the cent.
    pub fn is_good(&self) -> bool {
        let money = self.money_created == 0 && self.money_lost == 0 && self.books_agree;
        self.wrong == 0 && self.metrics.lost == 0 && self.balances_wrong == 0 && money
    }
}

impl fmt::Display for BarReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metrics, wallets, vendors, hot, .. } = self;
        let (connections, seconds, kind) = (metrics.connections, metrics.seconds, metrics.loop_kind());
        writeln!(
            f,
            "bar: {connections} terminals, {wallets} wallets, {vendors} vendors, {hot} hot, {kind}, {seconds} s"
        )?;
        metrics.rows(f)?;
        let mut row = |name: &str, value: String| writeln!(f, "  {name:<16} {value}");
        let Self { debits, refunds, topups, transfers, transfers_per_s, rejected, .. } = self;
        row("answers", format!("{debits} paid, {refunds} refunded, {topups} topped up, {rejected:?}"))?;
        if *transfers > 0 {
            row("transfers", format!("{transfers}, {transfers_per_s} a second"))?;
        }
        let Self { wrong, balances_checked, balances_wrong, money_created, money_lost, .. } = self;
        let (lost, agree) = (metrics.lost, if self.books_agree { "agree" } else { "DIFFER" });
        row("checked", format!("{wrong} wrong, {lost} lost, {balances_wrong} of {balances_checked} balances wrong"))?;
        row("money", format!("{money_created} created, {money_lost} lost, books {agree}"))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  ! {note}"))
    }
}

/// What `mixed` found.
#[derive(Clone, Debug, Serialize)]
pub struct MixedReport {
    /// `mixed`.
    pub mode: &'static str,
    /// At the gates.
    pub gate: GateReport,
    pub bar: BarReport,
}

impl MixedReport {
    /// Nothing was wrong anywhere.
    pub fn is_good(&self) -> bool {
        self.gate.is_good() && self.bar.is_good()
    }
}

impl fmt::Display for MixedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.gate, self.bar)
    }
}

/// What `crash` found about money.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MoneyMetrics {
    pub terminals: u32,
    /// Wallets, over all terminals.
    pub wallets: u32,
    /// Answers with which money moved, as terminals were told.
    pub acknowledged: u64,
    /// Commands of terminals in the journal, refused ones too.
    pub journaled: u64,
    /// Of the acknowledged: payments.
    pub payments: u64,
    /// Of these, by a wristband that was moved meanwhile.
    pub taps: u64,
    /// Of the acknowledged: refunds.
    pub refunds: u64,
    /// Of the acknowledged: top-ups.
    pub topups: u64,
    /// Transfers acknowledged to operators.
    pub transfers: u64,
    /// Transfers that were refused, as there was not enough.
    pub transfers_refused: u64,
    /// Changes of wristbands acknowledged to operators.
    pub tag_changes: u64,
    /// Of these, reports of a loss.
    pub tags_lost: u64,
    /// Commands that terminals sent again after a crash.
    pub resent: u64,
    /// Calls that operators made again, under the same key.
    pub asked_again: u64,
    /// Of what was acknowledged, what the journal does not have, or has otherwise; and what never was answered.
    pub lost: u64,
    /// What happened twice.
    pub doubled: u64,
    /// Answers other than the one that was due, or other than before; payments from a wallet that the wristband did not
    /// name; refunds beyond their payment.
    pub wrong: u64,
    /// Wallets compared at the end, each to the cent.
    pub balances_checked: u64,
    /// Of these, those that were not what the answers say.
    pub balances_wrong: u64,
    /// What the books have between two wallets at the end, in minor units.
    pub in_transit: i64,
    /// The books add up to zero, and say of wallets, vendors and cash what the answers say.
    pub books_agree: bool,
}

impl MoneyMetrics {
    /// Nothing was lost, nothing happened twice, not a cent is missing.
    pub fn is_good(&self) -> bool {
        let books = self.balances_wrong == 0 && self.in_transit == 0 && self.books_agree;
        self.lost == 0 && self.doubled == 0 && self.wrong == 0 && books
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
    /// At the bars.
    pub money: MoneyMetrics,
    /// Records that the engine's audit read at the end.
    pub audited: u64,
    /// What it found.
    pub violations: u64,
    /// The first things that were wrong, in words.
    pub notes: Vec<String>,
}

impl CrashReport {
    /// Nothing was lost, nothing happened twice.
    pub fn is_good(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.wrong == 0 && self.money.is_good() && self.violations == 0
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
        let MoneyMetrics { acknowledged, journaled, payments, taps, refunds, topups, .. } = &self.money;
        let kinds =
            format!("{payments} paid, {taps} of them by moving wristbands; {refunds} refunded, {topups} topped up");
        row("money", format!("{acknowledged} acknowledged, {journaled} in the journal ({kinds})"))?;
        let MoneyMetrics { transfers, transfers_refused, tag_changes, tags_lost, resent, asked_again, .. } =
            &self.money;
        row(
            "office",
            format!(
                "{transfers} transfers, {transfers_refused} more refused, {tag_changes} changes of wristbands, {tags_lost} of them lost"
            ),
        )?;
        row("again", format!("{resent} commands and {asked_again} calls"))?;
        let MoneyMetrics { lost, doubled, wrong, balances_checked, balances_wrong, in_transit, .. } = &self.money;
        let agree = if self.money.books_agree { "agree" } else { "DIFFER" };
        row(
            "money checked",
            format!(
                "{lost} lost, {doubled} doubled, {wrong} wrong, {balances_wrong} of {balances_checked} balances wrong"
            ),
        )?;
        row("books", format!("{agree}, {in_transit} in transit"))?;
        row("audit", format!("{} violations in {} records", self.violations, self.audited))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  ! {note}"))
    }
}
