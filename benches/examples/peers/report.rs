//! What a run found, as one JSON object or as tables.

use std::fmt;

use serde::{Serialize, Serializer};
use storage::journal::bench::DiskReport;

use crate::load::{Measured, Shape};
use crate::{Args, OUTSTANDING, Way};

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
    outstanding: usize,
    connections: usize,
    window: usize,
    rate_per_s: Vec<u64>,
    p50_us: Vec<u64>,
    p99_us: Vec<u64>,
    steal_pct: Vec<f64>,
}

/// How many times as many debits a second ours did.
#[derive(Debug, Serialize)]
struct Ratio {
    #[serde(serialize_with = "word")]
    beside: Way,
    outstanding: usize,
    min: f64,
    median: f64,
    max: f64,
}

/// Durable writes of 4 KiB through our journal's path, in µs.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct DiskRound {
    p50_us: u64,
    p99_us: u64,
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

impl DiskRound {
    /// The first row: the smallest write.
    pub(crate) fn of(report: &DiskReport) -> Self {
        let (p50_us, p99_us) = report.rows.first().map_or((0, 0), |row| (row.p50_us, row.p99_us));
        Self { p50_us, p99_us }
    }
}

impl Row {
    pub(crate) fn new(who: Way, outstanding: usize, shape: Shape) -> Self {
        let Shape { connections, window } = shape;
        let (rate_per_s, p50_us, p99_us, steal_pct) = Default::default();
        Self { who, outstanding, connections, window, rate_per_s, p50_us, p99_us, steal_pct }
    }

    pub(crate) fn add(&mut self, measured: &Measured, steal_pct: f64) {
        self.rate_per_s.push(measured.rate_per_s);
        self.p50_us.push(measured.p50_us);
        self.p99_us.push(measured.p99_us);
        self.steal_pct.push(steal_pct);
    }
}

impl Report {
    pub(crate) fn new(
        args: &Args,
        rows: Vec<Row>,
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
            disk,
            proofs,
            not_measured,
        }
    }
}

fn ratios(rows: &[Row]) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    for ours in rows.iter().filter(|row| row.who == Way::Tapgate) {
        for other in rows.iter().filter(|row| row.who != Way::Tapgate && row.outstanding == ours.outstanding) {
            let by_round = ours.rate_per_s.iter().zip(&other.rate_per_s);
            let by_round: Vec<f64> = by_round.map(|(ours, theirs)| *ours as f64 / (*theirs).max(1) as f64).collect();
            let [min, median, max] = spread(&by_round).map(|ratio| (ratio * 100.0).round() / 100.0);
            ratios.push(Ratio { beside: other.who, outstanding: ours.outstanding, min, median, max });
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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, seconds, rounds, wallets, hot, steal_pct, .. } = self;
        writeln!(
            f,
            "{rounds} rounds of {seconds} s each, {wallets} wallets, {hot} of the debits to one of them; {cores} cores, \
             {steal_pct} % stolen"
        )?;
        writeln!(
            f,
            "\n{:>8}  {:<26} {:>10}   {:>28}   {:>17}   {:>17}",
            "under way", "", "", "debits/s (min median max)", "p50 ms (median)", "p99 ms (median)"
        )?;
        for outstanding in OUTSTANDING {
            for row in self.rows.iter().filter(|row| row.outstanding == outstanding) {
                let [min, median, max] = spread(&row.rate_per_s);
                let ms = |us: &[u64]| spread(us)[1] as f64 / 1_000.0;
                writeln!(
                    f,
                    "{outstanding:>9}  {:<26} {:>10}   {min:>8} {median:>9} {max:>9}   {:>17.2}   {:>17.2}",
                    row.who.word(),
                    format!("{} × {}", row.connections, row.window),
                    ms(&row.p50_us),
                    ms(&row.p99_us),
                )?;
            }
        }
        if !self.ratios.is_empty() {
            writeln!(f, "\n{:>9}  {:<26} {:>10} {:>10} {:>10}", "under way", "tapgate beside", "min", "median", "max")?;
        }
        for Ratio { beside, outstanding, min, median, max } in &self.ratios {
            writeln!(f, "{outstanding:>9}  {:<26} {min:>9.1}× {median:>9.1}× {max:>9.1}×", beside.word())?;
        }
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
