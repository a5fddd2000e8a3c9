//! Ours, over QUIC: `loadtest bar`, which starts a server of its own, and checks every answer and every balance.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::Args;
use crate::children::Running;
use crate::load::{Measured, Shape};
use crate::report::Proof;

/// How long setting up and checking may take beside the measurement.
const ELSE_WITHIN: Duration = Duration::from_secs(300);

pub(crate) struct Ours {
    loadtest: PathBuf,
    tapgate: PathBuf,
    folder: PathBuf,
    wallets: u32,
    hot: f64,
    runs: u32,
    debits: u64,
    complaints: Vec<String>,
}

impl Ours {
    /// `Err(why)` if this checkout's load generator has no bar.
    pub(crate) fn find(args: &Args, folder: &Path) -> anyhow::Result<Result<Self, String>> {
        let loadtest = std::path::absolute(&args.loadtest)?;
        let tapgate = loadtest.with_file_name("tapgate");
        for program in [&loadtest, &tapgate] {
            if !program.exists() {
                return Ok(Err(format!("there is no {}: build it first", program.display())));
            }
        }
        let help = Command::new(&loadtest).args(["bar", "--help"]).output()?;
        if !help.status.success() {
            return Ok(Err("this `loadtest` has no `bar`".into()));
        }
        let (folder, wallets, hot) = (folder.to_owned(), args.wallets, args.hot);
        Ok(Ok(Self { loadtest, tapgate, folder, wallets, hot, runs: 0, debits: 0, complaints: Vec::new() }))
    }

    pub(crate) async fn measure(&mut self, shape: Shape, lasts: Duration) -> anyhow::Result<Measured> {
        let mut command = Command::new(&self.loadtest);
        let Shape { connections, window } = shape;
        command.args(["bar", "--spawn", "--json"]);
        command.args(["--connections", &connections.to_string(), "--window", &window.to_string()]);
        command.args(["--seconds", &lasts.as_secs().to_string(), "--wallets", &self.wallets.to_string()]);
        if self.hot > 0.0 {
            command.args(["--hot", &self.hot.to_string()]);
        }
        command.arg("--folder").arg(&self.folder).env("TAPGATE_PROGRAM", &self.tapgate);
        let said = self.folder.join("said");
        let answer = std::fs::File::create(&said)?;
        command.stdin(Stdio::null()).stdout(answer);
        // With it the server that it has started: both are in one group.
        let mut running = Running::spawn(command, Signal::TERM)?;
        let status = tokio::time::timeout(lasts + ELSE_WITHIN, async {
            loop {
                match running.child().try_wait()? {
                    Some(status) => return anyhow::Ok(status),
                    None => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        let status = status.await.context("`loadtest bar` takes too long")??;
        let text = std::fs::read_to_string(&said)?;
        let report: Value = serde_json::from_str(text.trim())
            .with_context(|| format!("`loadtest bar` ended with {status}, and said: {text}"))?;
        let number = |path: &str| report.pointer(path).and_then(Value::as_u64);
        let must = |path: &str| number(path).with_context(|| format!("`loadtest bar` says no {path}: {report}"));
        self.runs += 1;
        self.debits += number("/debits").unwrap_or_default();
        for what in ["/wrong", "/lost", "/money_created", "/money_lost"] {
            if must(what)? > 0 {
                self.complaints.push(format!("{} of {connections} × {window}: {}", &what[1..], must(what)?));
            }
        }
        ensure!(status.success() || !self.complaints.is_empty(), "`loadtest bar` ended with {status}: {report}");
        Ok(Measured {
            rate_per_s: must("/rate_per_s")?,
            p50_us: must("/latency_us/p50")?,
            p99_us: must("/latency_us/p99")?,
            ..Measured::default()
        })
    }

    /// What it has said itself, each time.
    pub(crate) fn proof(&self) -> Proof {
        let says = match self.complaints.is_empty() {
            true => {
                format!("{} debits in {} runs, none wrong or lost, each balance is the model's", self.debits, self.runs)
            }
            false => self.complaints.join("; "),
        };
        Proof { who: "tapgate", holds: self.complaints.is_empty(), says }
    }
}
