//! The same durable debit in what people would use instead, beside ours, in one run: PostgreSQL, Redis, TigerBeetle. And
//! beside a bare echo of the same frames, scans too, an open loop, and more load than can be answered.
//! `benches/peers/run` installs what is missing, builds and starts this; `benches/peers/README.md` says what is compared.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a table is what this program is for

mod children;
mod load;
mod ours;
mod postgres;
mod redis;
mod report;
mod rows;
#[cfg(feature = "tigerbeetle")]
mod tigerbeetle;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use storage::journal::bench::bench_disk;
use tokio::signal::unix::{SignalKind, signal};

use load::{Draws, Measured, Shape, Ticks};
use report::{DiskRound, NotMeasured, Report, Row};
use rows::{At, Way};

/// The same durable debit on PostgreSQL, Redis, TigerBeetle and Tapgate, in turns.
#[derive(Clone, Debug, Parser)]
#[command(name = "peers")]
pub(crate) struct Args {
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "debits")]
    rows: Vec<Rows>,
    /// How long each measurement lasts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How often everything is measured, in turns.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Wallets. Ours needs two for each debit under way.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(16_384..=10_000_000))]
    wallets: u32,
    /// The share of debits that go to one and the same wallet.
    #[arg(long, default_value_t = 0.0)]
    hot: f64,
    /// How long the load that is too much lasts, and the closed loop before it.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    overload_seconds: u64,
    /// One JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Where all of them keep their data, in temporary folders; on a disk, not in memory.
    #[arg(long, value_name = "DIR", default_value = "target")]
    folder: PathBuf,
    /// The load generator of ours; `tapgate` lies beside it.
    #[arg(long, value_name = "FILE", default_value = "target/release/loadtest")]
    loadtest: PathBuf,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rows {
    /// Durable debits, beside the peers and the echo.
    Debits,
    /// Scans, decided and durable, beside the echo.
    Scans,
    /// 50,000 scans a second on 32 connections, whether answers come or not.
    OpenLoop,
    /// Twice as many commands as can be answered.
    Overload,
    /// Everything.
    All,
}

impl Args {
    fn wants(&self, rows: Rows) -> bool {
        self.rows.iter().any(|wanted| [rows, Rows::All].contains(wanted))
    }
}

/// 1: money was lost or made, or a repeated debit happened twice; 2: there was no run to speak of.
fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("peers: {error}");
            return ExitCode::from(2);
        }
    };
    let ended = runtime.block_on(async {
        let (mut interrupted, mut terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            report = run(&args) => report.map(Some),
            _ = interrupted.recv() => Ok(None),
            _ = terminated.recv() => Ok(None),
        }
    });
    match ended {
        Ok(Some(report)) => {
            match (args.json, serde_json::to_string(&report)) {
                (true, Ok(json)) => println!("{json}"),
                _ => print!("{report}"),
            }
            if report.holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Ok(None) => {
            eprintln!("peers: interrupted; all servers are stopped, all folders removed");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Everything that is alive. Dropped from top to bottom: servers first, the folder last.
struct Stage {
    postgres: Option<postgres::Postgres>,
    redis: Option<redis::Redis>,
    #[cfg(feature = "tigerbeetle")]
    tigerbeetle: Option<tigerbeetle::TigerBeetle>,
    ours: Option<ours::Ours>,
    folder: tempfile::TempDir,
}

async fn run(args: &Args) -> anyhow::Result<Report> {
    let (mut stage, not_measured) = Stage::set(args).await?;
    let lasts = Duration::from_secs(args.seconds);
    let mut draws = Draws::new(args.wallets, args.hot);
    let mut rows: BTreeMap<(At, Way), Row> = BTreeMap::new();
    let (mut disk, mut open_loops, mut overloads) = (Vec::new(), Vec::new(), Vec::new());
    let all = Ticks::now();
    for round in 1..=args.rounds {
        let say = |what: &str| eprintln!("round {round} of {}: {what}", args.rounds);
        disk.push(DiskRound::of(&bench_disk(stage.folder.path(), 0.9)?));
        let here = |way: &Way| not_measured.iter().all(|not| !not.way.is_of(*way));
        for way_and_at in At::ALL.into_iter().flat_map(|at| Way::ALL.map(|way| (at, way))) {
            let (at, way) = way_and_at;
            let wanted = args.wants(if way.is_scans() { Rows::Scans } else { Rows::Debits }) && here(&way);
            let Some(shape) = way.shape(at).filter(|_| wanted) else { continue };
            let what = format!("{}, {}", way.word(), at.word());
            say(&what);
            let ticks = Ticks::now();
            let measured = stage.measure(way, shape, lasts, &mut draws).await.context(what)?;
            let steal_pct = ticks.steal_pct();
            rows.entry(way_and_at).or_insert_with(|| Row::new(way, at, shape)).add(&measured, steal_pct);
        }
        let Some(ours) = &mut stage.ours else { continue };
        if args.wants(Rows::OpenLoop) {
            say("open loop");
            open_loops.push(ours.open_loop(lasts).await.context("open loop")?);
        }
        if args.wants(Rows::Overload) {
            say("overload");
            overloads.push(ours.overload(Duration::from_secs(args.overload_seconds)).await.context("overload")?);
        }
    }
    let proofs = stage.prove(&mut draws).await?;
    let rows = rows.into_values().collect();
    Ok(Report::new(args, rows, (open_loops, overloads), disk, all.steal_pct(), proofs, not_measured))
}

impl Stage {
    async fn set(args: &Args) -> anyhow::Result<(Self, Vec<NotMeasured>)> {
        let under = std::path::absolute(&args.folder)?;
        std::fs::create_dir_all(&under).with_context(|| under.display().to_string())?;
        // PostgreSQL does not run as root: its own user has to get through to its folder.
        let through = std::fs::Permissions::from_mode(0o711);
        let folder = tempfile::Builder::new().prefix("peers-").permissions(through).tempdir_in(&under)?;
        let mut not_measured = Vec::new();
        // Where nothing is compared with them, they take no memory and no time.
        let (mut postgres, mut redis) = (None, None);
        if args.wants(Rows::Debits) {
            postgres = Some(postgres::Postgres::start(&sub(&folder, "pg")?, args.wallets).await.context("PostgreSQL")?);
            redis = Some(redis::Redis::start(&sub(&folder, "redis")?, args.wallets).await.context("Redis")?);
        }
        let ours = match ours::Ours::find(args, &sub(&folder, "tapgate")?)? {
            Ok(ours) => Some(ours),
            Err(why) => {
                not_measured.push(NotMeasured { way: Way::Tapgate, why });
                None
            }
        };
        #[cfg(feature = "tigerbeetle")]
        let mut tigerbeetle = None;
        #[cfg(feature = "tigerbeetle")]
        if args.wants(Rows::Debits) {
            match tigerbeetle::TigerBeetle::start(&sub(&folder, "tigerbeetle")?, args.wallets).await? {
                Ok(running) => tigerbeetle = Some(running),
                Err(why) => not_measured.push(NotMeasured { way: Way::TigerBeetle, why }),
            }
        }
        #[cfg(not(feature = "tigerbeetle"))]
        if args.wants(Rows::Debits) {
            not_measured.push(NotMeasured {
                way: Way::TigerBeetle,
                why: "there was no `tigerbeetle` on the PATH when this was built (its client is built in only then)"
                    .into(),
            });
        }
        let stage = Self {
            postgres,
            redis,
            #[cfg(feature = "tigerbeetle")]
            tigerbeetle,
            ours,
            folder,
        };
        Ok((stage, not_measured))
    }

    async fn measure(
        &mut self,
        way: Way,
        shape: Shape,
        lasts: Duration,
        draws: &mut Draws,
    ) -> anyhow::Result<Measured> {
        match way {
            Way::PostgresFunction | Way::PostgresStatements => {
                let ask = match way {
                    Way::PostgresFunction => postgres::Ask::Function,
                    _ => postgres::Ask::Statements,
                };
                self.postgres.as_mut().context("it runs")?.measure(ask, shape, lasts, draws).await
            }
            Way::Redis => self.redis.as_mut().context("it runs")?.measure(shape, lasts, draws).await,
            #[cfg(feature = "tigerbeetle")]
            Way::TigerBeetle => self.tigerbeetle.as_mut().context("it runs")?.measure(shape, lasts, draws).await,
            #[cfg(not(feature = "tigerbeetle"))]
            Way::TigerBeetle => anyhow::bail!("its client is not built in"),
            Way::Tapgate => self.ours.as_mut().context("it is there")?.debits(shape, lasts).await,
            Way::Echo | Way::ScanEcho | Way::Decided | Way::Durable => {
                self.ours.as_mut().context("it is there")?.beside(way, shape, lasts).await
            }
        }
    }

    /// Whether each has what it said it had.
    async fn prove(&mut self, draws: &mut Draws) -> anyhow::Result<Vec<report::Proof>> {
        let mut proofs = Vec::new();
        if let Some(postgres) = &mut self.postgres {
            proofs.push(postgres.prove(draws).await.context("PostgreSQL, at the end")?);
        }
        if let Some(redis) = &mut self.redis {
            proofs.push(redis.prove(draws).await.context("Redis, at the end")?);
        }
        #[cfg(feature = "tigerbeetle")]
        if let Some(tigerbeetle) = &mut self.tigerbeetle {
            proofs.push(tigerbeetle.prove(draws).await.context("TigerBeetle, at the end")?);
        }
        proofs.extend(self.ours.as_ref().map(ours::Ours::proof));
        Ok(proofs)
    }
}

fn sub(folder: &tempfile::TempDir, name: &str) -> anyhow::Result<PathBuf> {
    let path = folder.path().join(name);
    std::fs::create_dir(&path)?;
    Ok(path)
}

/// The end of a server's log, for an error.
pub(crate) fn last_words(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(1_500)..]).into_owned()
}
