//! The servers on which a cluster stands: `deploy/servers` starts them, kills them, pauses them. Those that run already are
//! taken, and left running.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};

use super::scenarios::Scenario;
use crate::cli::ClusterArgs;

/// A cluster's servers, and what of them is this run's.
pub(crate) struct Servers {
    script: PathBuf,
    /// They were started here, and are stopped here.
    ours: bool,
    /// All brokers, `host:port`.
    pub(super) kafka: Vec<String>,
    /// The CQL servers, where the scenario needs any or some were named.
    pub(super) cql: Vec<String>,
    /// The topic of this run.
    pub(super) topic: String,
    /// The keyspace of this run.
    pub(super) keyspace: String,
    /// The name in its records.
    pub(super) cluster: String,
    pub(super) shards: u16,
}

/// As many as a server has unless it is told otherwise.
const SHARDS: u16 = 16;

impl Servers {
    /// Those that are named, or else that run, or else are started now.
    ///
    /// # Errors
    /// They do not start.
    pub(super) fn find(args: &ClusterArgs, scenario: &Scenario, brokers: usize) -> anyhow::Result<Self> {
        let named = |flag: &[String], variable: &str| {
            let from_outside = std::env::var(variable).unwrap_or_default();
            let from_outside = from_outside.split(',').filter(|address| !address.is_empty()).map(str::to_owned);
            if flag.is_empty() { from_outside.collect() } else { flag.to_vec() }
        };
        let run = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let mut this = Self {
            script: Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/servers"),
            ours: false,
            kafka: named(&args.kafka, "TAPGATE_TEST_KAFKA"),
            cql: if scenario.cql { named(&args.cql, "TAPGATE_TEST_CQL") } else { args.cql.clone() },
            topic: format!("tapgate.loadtest.{run}"),
            keyspace: format!("loadtest_{run}"),
            cluster: format!("loadtest-{run}"),
            shards: SHARDS,
        };
        let (needs_kafka, needs_cql) = (this.kafka.is_empty(), scenario.cql && this.cql.is_empty());
        if needs_kafka || needs_cql {
            this.ours = needs_kafka && this.status()?.iter().all(|(_, state, _)| state == "down");
            let brokers = brokers.to_string();
            let mut up = vec!["up"];
            up.extend(needs_kafka.then_some(["--kafka", &brokers]).into_iter().flatten());
            up.extend(needs_cql.then_some(["--cql", "1"]).into_iter().flatten());
            let said = this.servers(&up)?;
            let listed = |variable: &str| {
                let line = said.lines().find_map(|line| line.strip_prefix(&format!("export {variable}=")));
                line.map(|list| list.split(',').map(str::to_owned).collect())
                    .with_context(|| format!("no {variable}: {said}"))
            };
            if needs_kafka {
                this.kafka = listed("TAPGATE_TEST_KAFKA")?;
            }
            if needs_cql {
                this.cql = listed("TAPGATE_TEST_CQL")?;
            }
        }
        Ok(this)
    }

    /// The settings of every node that stands on them.
    pub(super) fn settings(&self) -> String {
        let list =
            |servers: &[String]| servers.iter().map(|server| format!("{server:?}")).collect::<Vec<_>>().join(", ");
        let copies = |servers: &[String]| if servers.len() >= 3 { 3 } else { 1 };
        let mut text = format!(
            "cluster = {:?}\nshards = {}\nkafka = [{}]\nkafka_topic = {:?}\nkafka_create_topic = true\nkafka_replication = {}\n",
            self.cluster,
            self.shards,
            list(&self.kafka),
            self.topic,
            copies(&self.kafka)
        );
        if !self.cql.is_empty() {
            let (cql, copies) = (list(&self.cql), copies(&self.cql));
            text += &format!("cql = [{cql}]\ncql_keyspace = {:?}\ncql_replication = {copies}\n", self.keyspace);
        }
        text
    }

    /// SIGKILL. `address`: one of [`Self::kafka`] or [`Self::cql`].
    ///
    /// # Errors
    /// It does not run, or was not started by `deploy/servers`.
    pub(super) fn kill(&self, address: &str) -> anyhow::Result<()> {
        self.servers(&["kill", &self.name_of(address)?]).map(drop)
    }

    /// Starts it again, and waits until it answers.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn start(&self, address: &str) -> anyhow::Result<()> {
        self.servers(&["start", &self.name_of(address)?]).map(drop)
    }

    /// SIGTERM, and waits until it has ended.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn stop(&self, address: &str) -> anyhow::Result<()> {
        self.servers(&["stop", &self.name_of(address)?]).map(drop)
    }

    fn name_of(&self, address: &str) -> anyhow::Result<String> {
        let all = self.status()?;
        let found = all.into_iter().find(|(_, _, at)| at == address);
        let why = || {
            format!(
                "{address} was not started by deploy/servers from its folder (TAPGATE_SERVERS), so it cannot be failed"
            )
        };
        Ok(found.with_context(why)?.0)
    }

    /// Name, state and address of each.
    fn status(&self) -> anyhow::Result<Vec<(String, String, String)>> {
        let said = self.servers(&["status"])?;
        let line = |line: &str| {
            let mut words = line.split_whitespace().map(str::to_owned);
            Some((words.next()?, words.next()?, words.next()?))
        };
        Ok(said.lines().filter_map(line).collect())
    }

    fn servers(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.script);
        let output = command.args(words).stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("there is no {}", self.script.display()))?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "deploy/servers {}: {complaint}", words.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if self.ours {
            // Nothing is left to tell anybody.
            let _ = self.servers(&["down"]);
        }
    }
}
