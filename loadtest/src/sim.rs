//! The seeded simulator: a whole evening at the gates and the bars, in one thread, from one number.
//!
//! It drives the real code, [`actors::pipeline::Pipeline`] over the real log and the real recovery, on a disk that
//! fails, over networks to the devices and between the shards that lose, delay, double and reorder, with a node that may
//! end between any two steps, under clocks that jump. What must always hold is checked at every step against books of its own. A run that breaks a rule names
//! its seed; the same seed runs the same evening again, to the last bit.
//!
//! ```text
//! readers, terminals, office ─→ net ─→ node: door, pipelines ─→ log ─→ disk
//!        ↑               ↑              │ couriers
//!        │               └── messages ──┤
//!        └──────────────────────────────┘ judge: what leaves, against the books of what is durable
//! ```

mod admin;
mod bank;
mod books;
mod delivery;
mod device;
mod dice;
mod disk;
mod gateway;
mod judge;
mod net;
mod node;
mod passed_on;
mod people;
mod rest;
pub mod seeds;
mod setup;
mod tent;
mod terminal;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use engine::plants::Plant;
use serde::Serialize;

/// What must always hold, and did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which rule.
    pub rule: String,
    /// What was found instead.
    pub found: String,
}

/// A step's outcome: nothing to say, or a rule is broken.
type Check<T = ()> = Result<T, Violation>;

fn breach<T>(rule: &'static str, found: String) -> Check<T> {
    Err(Violation { rule: rule.to_owned(), found })
}

/// What happened in one run, or in many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Steps of the world.
    pub steps: u64,
    /// Commands of devices and the office, repetitions not counted.
    pub commands: u64,
    /// Of these, those whose final answer was heard.
    pub acknowledged: u64,
    /// Answers that left before they were durable (`scan_ack = decided`).
    pub early: u64,
    /// Views that were shown.
    pub views: u64,
    /// Snapshots kept.
    pub snapshots: u64,
    /// Events in the journal at the end.
    pub events: u64,
    /// Records that became durable.
    pub written: u64,
    /// Records that a shard's own thread wrote, or tried to.
    pub written_here: u64,
    /// How often the node ended.
    pub crashes: u64,
    /// What became of money, by kind.
    pub money: BTreeMap<String, u64>,
    /// Everything else that went wrong, by kind.
    pub faults: BTreeMap<String, u64>,
}

impl Counts {
    fn fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind.to_owned()).or_default() += 1;
    }

    /// What became of a frame that names a wristband.
    fn resolved(&mut self, how: &'static str) {
        *self.money.entry(how.to_owned()).or_default() += 1;
    }

    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.commands += other.commands;
        self.acknowledged += other.acknowledged;
        self.early += other.early;
        self.views += other.views;
        self.snapshots += other.snapshots;
        self.events += other.events;
        self.written += other.written;
        self.written_here += other.written_here;
        self.crashes += other.crashes;
        for (kind, count) in &other.money {
            *self.money.entry(kind.clone()).or_default() += count;
        }
        for (kind, count) in &other.faults {
            *self.faults.entry(kind.clone()).or_default() += count;
        }
    }
}

/// Steps of one run before everything comes to rest.
pub const STEPS: u64 = 1_500;

/// Runs one seed to its end, or to the first rule that breaks.
pub fn run_seed(seed: u64, steps: u64) -> (Counts, Option<Violation>) {
    let mut counts = Counts::default();
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut world = match world::World::new(seed) {
            Ok(world) => world,
            Err(violation) => return Some(violation),
        };
        let violation = world.live(steps).err();
        counts = world.counted();
        violation
    }));
    let violation = ran.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let found = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned())).unwrap_or_default();
        Some(Violation { rule: "nothing panics".to_owned(), found })
    });
    (counts, violation)
}

/// `loadtest sim`: whole evenings at the gates and the bars, each from one number.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Run the seeds 0 .. N, and those that once found something.
    #[arg(long, value_name = "N", default_value_t = seeds::CI, conflicts_with = "seed")]
    pub seeds: u64,
    /// Run this seed alone, as it ran when it failed.
    #[arg(long, value_name = "K")]
    pub seed: Option<u64>,
    /// Steps of each run before everything comes to rest. A seed is another evening with another number of steps.
    #[arg(long, default_value_t = STEPS)]
    pub steps: u64,
    /// Wake a known bug (needs the feature `plants`). Exits 0 if it is caught, 1 if it is not.
    #[arg(long, value_name = "NAME")]
    pub plant: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// What a call of the simulator comes to.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How many seeds were run.
    pub seeds: u64,
    /// What happened in them.
    #[serde(flatten)]
    pub counts: Counts,
    /// The bug that was awake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plant: Option<&'static str>,
    /// The first seed that broke a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_seed: Option<u64>,
    /// Which rule, and how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub violation: Option<Violation>,
}

/// Runs seeds until one breaks a rule.
pub fn run_seeds(all: impl IntoIterator<Item = u64>, steps: u64, mut done: impl FnMut(&Report)) -> Report {
    let mut report = Report { seeds: 0, counts: Counts::default(), plant: None, failed_seed: None, violation: None };
    for seed in all {
        let (counts, violation) = run_seed(seed, steps);
        report.seeds += 1;
        report.counts.add(&counts);
        if violation.is_some() {
            report.failed_seed = Some(seed);
            report.violation = violation;
            break;
        }
        done(&report);
    }
    report
}

/// Runs what the arguments ask for and prints what came of it. The exit code is 1 if a rule was broken; with
/// `--plant`, 1 if none was.
///
/// # Errors
/// A plant that does not exist, or that is not compiled in.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let plant = args.plant.as_deref().map(plant_named).transpose()?;
    let all: Vec<u64> = match args.seed {
        Some(seed) => vec![seed],
        None => seeds::FOUND_SOMETHING.iter().copied().chain(0..args.seeds).collect(),
    };
    let began = Instant::now();
    wake(plant)?;
    let mut report = run_seeds(all, args.steps, |so_far| {
        if !args.json && so_far.seeds.is_multiple_of(100) {
            print_line(&format!("{} seeds, {} steps, no rule broken", so_far.seeds, so_far.counts.steps));
        }
    });
    wake(None).or_else(|error| if plant.is_none() { Ok(()) } else { Err(error) })?;
    report.plant = plant.map(Plant::word);
    if args.json {
        print_line(&serde_json::to_string(&report)?);
    } else {
        print_report(&report, began.elapsed().as_secs_f64());
    }
    let broken = report.violation.is_some();
    Ok(if broken == plant.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_report(report: &Report, seconds: f64) {
    let Counts { steps, commands, acknowledged, written, written_here, crashes, money, faults, .. } = &report.counts;
    print_line(&format!(
        "{} seeds in {seconds:.1} s: {steps} steps, {commands} commands, {acknowledged} acknowledged, {crashes} crashes",
        report.seeds
    ));
    print_line(&format!("  {written} records became durable; {written_here} were written on the shard's own thread"));
    for (kind, count) in money.iter().chain(faults) {
        print_line(&format!("  {kind:<18} {count}"));
    }
    if let (Some(seed), Some(Violation { rule, found })) = (report.failed_seed, &report.violation) {
        print_line(&format!("seed {seed} breaks a rule: {rule}\n  {found}\nagain: loadtest sim --seed {seed}"));
    } else {
        print_line("no rule broken");
    }
}

#[allow(clippy::print_stdout)] // a report is what this command is for
fn print_line(line: &str) {
    println!("{line}");
}

fn plant_named(name: &str) -> anyhow::Result<Plant> {
    Plant::ALL.iter().copied().find(|plant| plant.word() == name).ok_or_else(|| {
        let names: Vec<&str> = Plant::ALL.iter().map(|plant| plant.word()).collect();
        anyhow::anyhow!("no plant is called {name}; there are {}", names.join(", "))
    })
}

#[cfg(feature = "plants")]
fn wake(plant: Option<Plant>) -> anyhow::Result<()> {
    engine::plants::wake(plant);
    Ok(())
}

#[cfg(not(feature = "plants"))]
fn wake(plant: Option<Plant>) -> anyhow::Result<()> {
    anyhow::ensure!(plant.is_none(), "plants are not compiled in: build with --features plants");
    Ok(())
}
