//! Ours, over QUIC: `loadtest`, which starts a server of its own, and checks every answer and every balance.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::Args;
use crate::children::Running;
use crate::load::{Measured, Shape, ViewsCost};
use crate::report::{DiskRound, OpenLoop, Overload, Proof};
use crate::rows::Way;

/// How long setting up and checking may take beside the measurement.
const ELSE_WITHIN: Duration = Duration::from_secs(300);

pub(crate) struct Ours {
    loadtest: PathBuf,
    tapgate: PathBuf,
    folder: PathBuf,
    wallets: u32,
    hot: f64,
    runs: u32,
    entries: i64,
    debits: i64,
    balances: i64,
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
        Ok(Ok(Self {
            loadtest,
            tapgate,
            folder,
            wallets,
            hot,
            runs: 0,
            entries: 0,
            debits: 0,
            balances: 0,
            complaints: Vec::new(),
        }))
    }

    /// What the load generator says after a run with these arguments, and whether it was content.
    async fn run(&self, line: &str, lasts: Duration) -> anyhow::Result<(Value, bool)> {
        let mut command = Command::new(&self.loadtest);
        command.args(line.split(' ')).args(["--json", "--seconds", &lasts.as_secs().to_string()]);
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
        let status = status.await.with_context(|| format!("`loadtest {line}` takes too long"))??;
        let text = std::fs::read_to_string(&said)?;
        let report = serde_json::from_str(text.trim())
            .with_context(|| format!("`loadtest {line}` ended with {status}, and said: {text}"))?;
        Ok((report, status.success()))
    }

    /// Scans, or an echo.
    pub(crate) async fn beside(&mut self, way: Way, shape: Shape, lasts: Duration) -> anyhow::Result<Measured> {
        let command = match way {
            Way::Decided => "gate --spawn --ack decided".to_owned(),
            Way::Durable => "gate --spawn".to_owned(),
            Way::Echo => format!("echo --payments --tickets {}", self.wallets),
            _ => "echo".to_owned(),
        };
        let Shape { connections, window } = shape;
        let mut line = format!("{command} --connections {connections} --window {window}");
        if way != Way::Echo && way != Way::ScanEcho {
            line.push_str(views_wanted(shape));
        }
        let (report, good) = self.run(&line, lasts).await?;
        if !good {
            self.complaints.push(format!("`loadtest {line}` found something wrong: {report}"));
        }
        Ok(Measured {
            rate_per_s: number(&report, "/rate_per_s")? as u64,
            p50_us: number(&report, "/latency_us/p50")? as u64,
            p99_us: number(&report, "/latency_us/p99")? as u64,
            views: views(&report),
            ..Measured::default()
        })
    }

    /// 50,000 scans a second on 32 connections: durable, decided, and echoed.
    pub(crate) async fn open_loop(&mut self, lasts: Duration) -> anyhow::Result<OpenLoop> {
        let mut latencies = Vec::new();
        let mut disk = DiskRound::default();
        for command in ["gate --spawn", "gate --spawn --ack decided", "echo"] {
            let line = format!("{command} --rate 50000 --connections 32");
            let (report, good) = self.run(&line, lasts).await?;
            if !good {
                self.complaints.push(format!("`loadtest {line}` found something wrong: {report}"));
            }
            if latencies.is_empty() {
                let disk_us = |quantile| number(&report, &format!("/disk_us/{quantile}")).map(|us| us as u64);
                disk = DiskRound { p50_us: disk_us("p50")?, p99_us: disk_us("p99")? };
            }
            let latency_us = |quantile| number(&report, &format!("/latency_us/{quantile}")).map(|us| us as u64);
            latencies.push((latency_us("p50")?, latency_us("p99")?));
        }
        Ok(OpenLoop { durable_us: latencies[0], decided_us: latencies[1], echo_us: latencies[2], disk })
    }

    /// A closed loop that asks as fast as it is answered; then, on a fresh server, twice as many a second for as long.
    pub(crate) async fn overload(&mut self, lasts: Duration) -> anyhow::Result<Overload> {
        let closed = "bar --spawn --wallets 1000000 --connections 16 --window 1024";
        let (peak, calm) = self.run(closed, lasts).await?;
        let rate = number(&peak, "/rate_per_s")? * 2;
        let open = format!("bar --spawn --wallets 1000000 --connections 16 --window 4096 --rate {rate}");
        let (over, good) = self.run(&open, lasts).await?;
        if !(calm && good) {
            self.complaints.push(format!("under overload something was wrong: {peak} {over}"));
        }
        let us = |quantile| number(&over, &format!("/busy_latency_us/{quantile}")).map(|us| us as u64);
        let share = |path| Ok::<_, anyhow::Error>(number(&over, path)? as f64 / number(&peak, path)?.max(1) as f64);
        let round = |share: f64| (share * 1_000.0).round() / 1_000.0;
        Ok(Overload {
            peak_per_s: number(&peak, "/rate_per_s")? as u64,
            refused: number(&over, "/busy")? as u64,
            refused_us: (us("p50")?, us("p99")?),
            goodput: round(share("/rate_per_s")?),
            memory: round(share("/server_rss_bytes")?),
        })
    }

    pub(crate) async fn debits(&mut self, shape: Shape, lasts: Duration) -> anyhow::Result<Measured> {
        let Shape { connections, window } = shape;
        let wallets = self.wallets;
        let mut line = format!("bar --spawn --connections {connections} --window {window} --wallets {wallets}");
        line.push_str(views_wanted(shape));
        if self.hot > 0.0 {
            line.push_str(&format!(" --hot {}", self.hot));
        }
        let (report, good) = self.run(&line, lasts).await?;
        let must = |path: &str| number(&report, path);
        self.runs += 1;
        self.debits += must("/debits")?;
        self.balances += must("/balances_checked")?;
        for what in ["/wrong", "/lost", "/balances_wrong", "/money_created", "/money_lost"] {
            if must(what)? != 0 {
                self.complaints.push(format!("{connections} × {window}: {} {}", must(what)?, &what[1..]));
            }
        }
        if report.pointer("/books_agree").and_then(Value::as_bool) != Some(true) {
            self.complaints.push(format!("{connections} × {window}: the books differ from the model's"));
        }
        ensure!(good || !self.complaints.is_empty(), "`loadtest {line}` found something wrong: {report}");
        // Balances that were asked and payments refused took time as well, and do not count.
        let entries = must("/debits")? + must("/topups")? + must("/refunds")?;
        let per_s = must("/rate_per_s")? as f64 * entries as f64 / must("/answered")?.max(1) as f64;
        self.entries += entries;
        Ok(Measured {
            rate_per_s: per_s as u64,
            p50_us: must("/latency_us/p50")? as u64,
            p99_us: must("/latency_us/p99")? as u64,
            views: views(&report),
            ..Measured::default()
        })
    }

    /// What it has said itself, each time.
    pub(crate) fn proof(&self) -> Proof {
        let says = match self.complaints.is_empty() {
            true => {
                format!(
                    "{} entries in {} runs, {} of them debits; no answer wrong or lost, {} balances are the model's",
                    self.entries, self.runs, self.debits, self.balances
                )
            }
            false => self.complaints.join("; "),
        };
        Proof { who: "tapgate", holds: self.complaints.is_empty(), says }
    }
}

fn number(report: &Value, path: &str) -> anyhow::Result<i64> {
    let number = report.pointer(path).and_then(Value::as_i64);
    number.with_context(|| format!("`loadtest` says no {path}: {report}"))
}

/// Waiting for the read models takes three seconds: it is done where they are compared with their target.
fn views_wanted(shape: Shape) -> &'static str {
    if shape == (Shape { connections: 32, window: 8 }) { " --views" } else { "" }
}

/// What the read models cost, if that was asked.
fn views(report: &Value) -> Option<ViewsCost> {
    let figure = |path: &str| report.pointer(path).and_then(Value::as_f64);
    Some(ViewsCost {
        cpu_pct: figure("/views/cpu_pct")?,
        bytes: figure("/views/bytes_per_answer")?,
        written: figure("/views/written_per_answer")?,
        behind_ms: figure("/views/behind_ms")?,
    })
}
