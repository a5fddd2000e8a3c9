//! The same durable debit in what people would use instead, beside ours, in one run: PostgreSQL, Redis, TigerBeetle.
//! `benches/peers/run` installs what is missing, builds and starts this; `benches/peers/README.md` says what is compared.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a table is what this program is for

mod children;
mod load;
mod ours;
mod postgres;
mod redis;
mod report;
#[cfg(feature = "tigerbeetle")]
mod tigerbeetle;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use storage::journal::bench::bench_disk;
use tokio::signal::unix::{SignalKind, signal};

use load::{Draws, Measured, Shape, Ticks};
use report::{DiskRound, NotMeasured, Report, Row};

/// The same durable debit on PostgreSQL, Redis, TigerBeetle and Tapgate, in turns.
#[derive(Clone, Debug, Parser)]
#[command(name = "peers")]
pub(crate) struct Args {
    /// How long each measurement lasts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How often everything is measured, in turns.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Wallets.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    wallets: u32,
    /// The share of debits that go to one and the same wallet.
    #[arg(long, default_value_t = 0.0)]
    hot: f64,
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

/// Who does it. The order is that of the turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    PostgresFunction,
    PostgresStatements,
    Redis,
    TigerBeetle,
    Tapgate,
}

impl Way {
    const ALL: [Self; 5] =
        [Self::PostgresFunction, Self::PostgresStatements, Self::Redis, Self::TigerBeetle, Self::Tapgate];

    fn word(self) -> &'static str {
        match self {
            Self::PostgresFunction => "postgres, one call",
            Self::PostgresStatements => "postgres, five statements",
            Self::Redis => "redis, always",
            Self::TigerBeetle => "tigerbeetle",
            Self::Tapgate => "tapgate",
        }
    }

    /// How it keeps so many requests under way; `None` if it cannot.
    fn shape(self, outstanding: usize) -> Option<Shape> {
        let shape = |connections, window| Some(Shape { connections, window });
        match (self, outstanding) {
            (_, 1) => shape(1, 1),
            (_, 32) => shape(32, 1),
            // A transaction of several statements has its connection to itself; a process for each is how it is done.
            (Self::PostgresFunction | Self::PostgresStatements, 256) => shape(256, 1),
            (_, 256) => shape(32, 8),
            (Self::PostgresFunction, _) => shape(64, 128),
            (Self::PostgresStatements, _) => None,
            (Self::Redis, _) => shape(128, 64),
            (Self::TigerBeetle, _) => shape(1, 8_189),
            (Self::Tapgate, _) => shape(16, 512),
        }
    }
}

/// How many requests are under way: the same for all. The last is whatever pipelines best.
pub(crate) const OUTSTANDING: [usize; 4] = [1, 32, 256, 8_192];

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
    postgres: postgres::Postgres,
    redis: redis::Redis,
    #[cfg(feature = "tigerbeetle")]
    tigerbeetle: Option<tigerbeetle::TigerBeetle>,
    ours: Option<ours::Ours>,
    folder: tempfile::TempDir,
}

async fn run(args: &Args) -> anyhow::Result<Report> {
    let (mut stage, not_measured) = Stage::set(args).await?;
    let lasts = Duration::from_secs(args.seconds);
    let mut draws = Draws::new(args.wallets, args.hot);
    let mut rows: BTreeMap<(usize, Way), Row> = BTreeMap::new();
    let mut disk = Vec::new();
    let all = Ticks::now();
    for round in 1..=args.rounds {
        disk.push(DiskRound::of(&bench_disk(stage.folder.path(), 0.9)?));
        for outstanding in OUTSTANDING {
            for way in Way::ALL {
                let Some(shape) = way.shape(outstanding).filter(|_| not_measured.iter().all(|not| not.way != way))
                else {
                    continue;
                };
                let what = format!("{}, {outstanding} under way", way.word());
                eprintln!("round {round} of {}: {what}", args.rounds);
                let ticks = Ticks::now();
                let measured = stage.measure(way, shape, lasts, &mut draws).await.context(what)?;
                let steal_pct = ticks.steal_pct();
                rows.entry((outstanding, way))
                    .or_insert_with(|| Row::new(way, outstanding, shape))
                    .add(&measured, steal_pct);
            }
        }
    }
    let proofs = stage.prove(&mut draws).await?;
    Ok(Report::new(args, rows.into_values().collect(), disk, all.steal_pct(), proofs, not_measured))
}

impl Stage {
    async fn set(args: &Args) -> anyhow::Result<(Self, Vec<NotMeasured>)> {
        let under = std::path::absolute(&args.folder)?;
        std::fs::create_dir_all(&under).with_context(|| under.display().to_string())?;
        // PostgreSQL does not run as root: its own user has to get through to its folder.
        let through = std::fs::Permissions::from_mode(0o711);
        let folder = tempfile::Builder::new().prefix("peers-").permissions(through).tempdir_in(&under)?;
        let mut not_measured = Vec::new();
        let postgres = postgres::Postgres::start(&sub(&folder, "pg")?, args.wallets).await.context("PostgreSQL")?;
        let redis = redis::Redis::start(&sub(&folder, "redis")?, args.wallets).await.context("Redis")?;
        let ours = match ours::Ours::find(args, &sub(&folder, "tapgate")?)? {
            Ok(ours) => Some(ours),
            Err(why) => {
                not_measured.push(NotMeasured { way: Way::Tapgate, why });
                None
            }
        };
        #[cfg(feature = "tigerbeetle")]
        let tigerbeetle = match tigerbeetle::TigerBeetle::start(&sub(&folder, "tigerbeetle")?, args.wallets).await? {
            Ok(tigerbeetle) => Some(tigerbeetle),
            Err(why) => {
                not_measured.push(NotMeasured { way: Way::TigerBeetle, why });
                None
            }
        };
        #[cfg(not(feature = "tigerbeetle"))]
        not_measured.push(NotMeasured {
            way: Way::TigerBeetle,
            why: "there was no `tigerbeetle` on the PATH when this was built (its client is built in only then)".into(),
        });
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
            Way::PostgresFunction => self.postgres.measure(postgres::Ask::Function, shape, lasts, draws).await,
            Way::PostgresStatements => self.postgres.measure(postgres::Ask::Statements, shape, lasts, draws).await,
            Way::Redis => self.redis.measure(shape, lasts, draws).await,
            #[cfg(feature = "tigerbeetle")]
            Way::TigerBeetle => self.tigerbeetle.as_mut().context("it runs")?.measure(shape, lasts, draws).await,
            #[cfg(not(feature = "tigerbeetle"))]
            Way::TigerBeetle => anyhow::bail!("its client is not built in"),
            Way::Tapgate => self.ours.as_mut().context("it is there")?.measure(shape, lasts).await,
        }
    }

    /// Whether each has what it said it had.
    async fn prove(&mut self, draws: &mut Draws) -> anyhow::Result<Vec<report::Proof>> {
        let mut proofs = vec![
            self.postgres.prove(draws).await.context("PostgreSQL, at the end")?,
            self.redis.prove(draws).await.context("Redis, at the end")?,
        ];
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
