//! What a run found, as one JSON object or as tables.

use std::fmt;

use serde::{Serialize, Serializer};
use storage::journal::bench::DiskReport;

use crate::Args;
use crate::load::{Measured, Shape, ViewsCost};
use crate::rows::{At, Way};

/// All that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// All money is where it should be, and what was asked twice has happened once.
    pub(crate) holds: bool,
    cores: usize,
    seconds: u64,
    rounds: u32,
    wallets: u32,
    hot: f64,
    /// Time that the machine's neighbours took over the whole run, in percent.
    steal_pct: f64,
    rows: Vec<Row>,
    /// Ours beside each other one, taken within the same round.
    ratios: Vec<Ratio>,
    /// An entry a round.
    open_loop: Vec<OpenLoop>,
    /// An entry a round.
    overload: Vec<Overload>,
    /// The disk by itself, before each round.
    disk: Vec<DiskRound>,
    proofs: Vec<Proof>,
    not_measured: Vec<NotMeasured>,
}

/// One way at so many requests under way; an entry a round.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    #[serde(serialize_with = "word")]
    who: Way,
    #[serde(serialize_with = "at")]
    at: At,
    connections: usize,
    window: usize,
    rate_per_s: Vec<u64>,
    p50_us: Vec<u64>,
    p99_us: Vec<u64>,
    steal_pct: Vec<f64>,
    /// What ours spent on its read models.
    views: Vec<ViewsCost>,
}

/// How many times as many a second the one did as the other.
#[derive(Debug, Serialize)]
struct Ratio {
    #[serde(serialize_with = "word")]
    who: Way,
    #[serde(serialize_with = "word")]
    beside: Way,
    #[serde(serialize_with = "at")]
    at: At,
    min: f64,
    median: f64,
    max: f64,
}

/// 50,000 scans a second on 32 connections: p50 and p99 from when a scan was due, in µs.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct OpenLoop {
    pub(crate) durable_us: (u64, u64),
    pub(crate) decided_us: (u64, u64),
    pub(crate) echo_us: (u64, u64),
    /// The disk by itself, just before the durable ones.
    pub(crate) disk: DiskRound,
}

/// Twice as many commands as a closed loop got answered, beside that loop.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Overload {
    /// Answers a second of the closed loop.
    pub(crate) peak_per_s: u64,
    /// Commands that were refused.
    pub(crate) refused: u64,
    /// p50 and p99 from sending a command to its refusal, in µs.
    pub(crate) refused_us: (u64, u64),
    /// Answers a second, as a share of the closed loop's.
    pub(crate) goodput: f64,
    /// The server's memory at the end, as a share of that after the closed loop.
    pub(crate) memory: f64,
}

/// Durable writes of 4 KiB through our journal's path, in µs.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct DiskRound {
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
}

/// Whether a peer's money adds up.
#[derive(Debug, Serialize)]
pub(crate) struct Proof {
    pub(crate) who: &'static str,
    pub(crate) holds: bool,
    pub(crate) says: String,
}

/// Who was left out.
#[derive(Debug, Serialize)]
pub(crate) struct NotMeasured {
    #[serde(rename = "who", serialize_with = "word")]
    pub(crate) way: Way,
    pub(crate) why: String,
}

fn word<S: Serializer>(way: &Way, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(way.word())
}

fn at<S: Serializer>(at: &At, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(at.word())
}

impl DiskRound {
    /// The first row: the smallest write.
    pub(crate) fn of(report: &DiskReport) -> Self {
        let (p50_us, p99_us) = report.rows.first().map_or((0, 0), |row| (row.p50_us, row.p99_us));
        Self { p50_us, p99_us }
    }
}

impl Row {
    pub(crate) fn new(who: Way, at: At, shape: Shape) -> Self {
        let Shape { connections, window } = shape;
        let (rate_per_s, p50_us, p99_us, steal_pct, views) = Default::default();
        Self { who, at, connections, window, rate_per_s, p50_us, p99_us, steal_pct, views }
    }

    pub(crate) fn add(&mut self, measured: &Measured, steal_pct: f64) {
        self.rate_per_s.push(measured.rate_per_s);
        self.p50_us.push(measured.p50_us);
        self.p99_us.push(measured.p99_us);
        self.steal_pct.push(steal_pct);
        self.views.extend(measured.views);
    }
}

impl Report {
    pub(crate) fn new(
        args: &Args,
        rows: Vec<Row>,
        (open_loop, overload): (Vec<OpenLoop>, Vec<Overload>),
        disk: Vec<DiskRound>,
        steal_pct: f64,
        proofs: Vec<Proof>,
        not_measured: Vec<NotMeasured>,
    ) -> Self {
        Self {
            holds: proofs.iter().all(|proof| proof.holds),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            seconds: args.seconds,
            rounds: args.rounds,
            wallets: args.wallets,
            hot: args.hot,
            steal_pct,
            ratios: ratios(&rows),
            rows,
            open_loop,
            overload,
            disk,
            proofs,
            not_measured,
        }
    }
}

fn ratios(rows: &[Row]) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    for ours in rows {
        for other in rows.iter().filter(|row| ours.who.beside().contains(&row.who) && row.at == ours.at) {
            let by_round = ours.rate_per_s.iter().zip(&other.rate_per_s);
            let by_round: Vec<f64> = by_round.map(|(ours, theirs)| *ours as f64 / (*theirs).max(1) as f64).collect();
            let [min, median, max] = spread(&by_round).map(|ratio| (ratio * 100.0).round() / 100.0);
            ratios.push(Ratio { who: ours.who, beside: other.who, at: ours.at, min, median, max });
        }
    }
    ratios
}

/// Least, median (the lower of two), greatest.
fn spread<T: Copy + PartialOrd + Default>(values: &[T]) -> [T; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    match sorted.len() {
        0 => [T::default(); 3],
        len => [sorted[0], sorted[(len - 1) / 2], sorted[len - 1]],
    }
}

impl Report {
    /// What is no rate: read models, open loop, overload.
    fn single_figures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let three = |values: Vec<f64>| {
            let [min, median, max] = spread(&values);
            format!("{min:>9.1} {median:>9.1} {max:>9.1}")
        };
        let mut line = |name: &str, values: Vec<f64>| writeln!(f, "{name:<56} {}", three(values));
        for row in self.rows.iter().filter(|row| row.at == At::Windows && !row.views.is_empty()) {
            let each = |of: fn(&ViewsCost) -> f64| row.views.iter().map(of).collect::<Vec<f64>>();
            let who = row.who.word();
            line(&format!("{who} 32 × 8: read models, % of processor time"), each(|views| views.cpu_pct))?;
            line(&format!("{who} 32 × 8: read models, B an answer"), each(|views| views.bytes))?;
            line(&format!("{who} 32 × 8: read models, B written an answer"), each(|views| views.written))?;
            line(&format!("{who} 32 × 8: read models, ms behind"), each(|views| views.behind_ms))?;
        }
        if !self.open_loop.is_empty() {
            let each = |of: fn(&OpenLoop) -> u64| self.open_loop.iter().map(|round| of(round) as f64).collect();
            line("open loop, durable p50, µs", each(|round| round.durable_us.0))?;
            line("open loop, durable p99, µs", each(|round| round.durable_us.1))?;
            line("open loop, decided p50, µs", each(|round| round.decided_us.0))?;
            line("open loop, decided p99, µs", each(|round| round.decided_us.1))?;
            line("open loop, echo p99, µs", each(|round| round.echo_us.1))?;
            line("open loop, the disk's p99, µs", each(|round| round.disk.p99_us))?;
            let times = |round: &OpenLoop| round.durable_us.1 as f64 / round.disk.p99_us.max(1) as f64;
            line("open loop, durable p99 in the disk's p99", self.open_loop.iter().map(times).collect())?;
        }
        if !self.overload.is_empty() {
            let each = |of: fn(&Overload) -> f64| self.overload.iter().map(of).collect();
            line("overload 2 ×, refusals p50, ms", each(|round| round.refused_us.0 as f64 / 1_000.0))?;
            line("overload 2 ×, refusals p99, ms", each(|round| round.refused_us.1 as f64 / 1_000.0))?;
            line("overload 2 ×, goodput, % of the closed loop's", each(|round| round.goodput * 100.0))?;
            line("overload 2 ×, memory, % of the closed loop's", each(|round| round.memory * 100.0))?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, seconds, rounds, wallets, hot, steal_pct, .. } = self;
        writeln!(
            f,
            "{rounds} rounds of {seconds} s each, {wallets} wallets, {hot} of the debits to one of them; {cores} cores, \
             {steal_pct} % stolen"
        )?;
        if !self.rows.is_empty() {
            let (per_s, p50, p99) = ("a second (min median max)", "p50 ms (median)", "p99 ms (median)");
            writeln!(f, "\n{:>9}  {:<26} {:>10}   {per_s:>28}   {p50:>17}   {p99:>17}", "under way", "", "")?;
        }
        for row in &self.rows {
            let [min, median, max] = spread(&row.rate_per_s);
            let ms = |us: &[u64]| spread(us)[1] as f64 / 1_000.0;
            writeln!(
                f,
                "{:>9}  {:<26} {:>10}   {min:>8} {median:>9} {max:>9}   {:>17.2}   {:>17.2}",
                row.at.word(),
                row.who.word(),
                format!("{} × {}", row.connections, row.window),
                ms(&row.p50_us),
                ms(&row.p99_us),
            )?;
        }
        if !self.ratios.is_empty() {
            writeln!(
                f,
                "\n{:>9}  {:<44} {:>10} {:>10} {:>10}",
                "under way", "one beside another", "min", "median", "max"
            )?;
        }
        for Ratio { who, beside, at, min, median, max } in &self.ratios {
            let pair = format!("{} beside {}", who.word(), beside.word());
            writeln!(f, "{:>9}  {pair:<44} {min:>9.2}× {median:>9.2}× {max:>9.2}×", at.word())?;
        }
        self.single_figures(f)?;
        writeln!(f)?;
        let disk = |of: fn(&DiskRound) -> u64| spread(&self.disk.iter().map(of).collect::<Vec<_>>());
        let ([min, median, max], p99) = (disk(|round| round.p50_us), disk(|round| round.p99_us));
        writeln!(f, "disk, durable 4 KiB: p50 {min} {median} {max} µs, p99 {} {} {} µs", p99[0], p99[1], p99[2])?;
        for Proof { who, holds, says } in &self.proofs {
            writeln!(f, "{who}: {} ({says})", if *holds { "money adds up" } else { "MONEY DOES NOT ADD UP" })?;
        }
        for NotMeasured { way, why } in &self.not_measured {
            writeln!(f, "{}: not measured, because {why}", way.word())?;
        }
        Ok(())
    }
}
