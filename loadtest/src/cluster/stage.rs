//! What a scenario does to nodes and servers while the crowd is at work.

use std::fmt::Display;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::nodes::Nodes;
use super::outage::{Must, Outage};
use super::servers::Servers;

/// Everything that can fail, and what has failed so far.
pub(super) struct Stage<'a> {
    nodes: Nodes,
    pub(super) servers: &'a Servers,
    began: Instant,
    rng: ChaCha8Rng,
    outages: Vec<Outage>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(nodes: Nodes, servers: &'a Servers, seed: u64) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { nodes, servers, began: Instant::now(), rng, outages: Vec::new() }
    }

    /// How many nodes there are.
    pub(super) fn nodes(&self) -> usize {
        self.nodes.all.len()
    }

    /// The load goes on, and nothing fails.
    #[expect(clippy::unused_self, reason = "it is the stage on which nothing happens")]
    pub(super) fn quiet(&self, lasts: Duration) {
        std::thread::sleep(lasts);
    }

    /// Up to a second more, so that failures come at any moment.
    pub(super) fn a_moment(&mut self) {
        std::thread::sleep(Duration::from_millis(u64::from(self.rng.next_u32() % 1_000)));
    }

    /// From here it fails.
    pub(super) fn fails(&mut self, what: impl Display, must: Must) {
        self.say(what);
        self.outages.push(Outage { began: Instant::now(), ended: None, must });
    }

    /// It is about to come back.
    pub(super) fn comes_back(&mut self) {
        self.say("it comes back");
        if let Some(outage) = self.outages.last_mut() {
            outage.ended = Some(Instant::now());
        }
    }

    /// Whoever watches sees where the run is.
    fn say(&self, what: impl Display) {
        eprintln!("loadtest: {:6.1} s: {what}", self.began.elapsed().as_secs_f64());
    }

    pub(super) fn kill_node(&mut self, number: usize) -> anyhow::Result<()> {
        self.nodes.all[number].kill()
    }

    pub(super) fn pause_node(&mut self, number: usize) -> anyhow::Result<()> {
        self.nodes.all[number].pause()
    }

    pub(super) fn resume_node(&mut self, number: usize) -> anyhow::Result<()> {
        self.nodes.all[number].resume()
    }

    pub(super) fn stop_node(&mut self, number: usize) -> anyhow::Result<()> {
        self.nodes.all[number].stop()
    }

    /// Cuts the ways of the node that has a network of its own, or mends them: to the brokers, to the other nodes.
    pub(super) fn cut(&mut self, to_kafka: bool, to_peers: bool) {
        self.nodes.to_kafka.cut(to_kafka);
        self.nodes.to_peers.cut(to_peers);
    }

    /// Waits until all nodes serve again.
    pub(super) fn all_serve(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        (0..self.nodes.all.len()).try_for_each(|number| self.nodes.wait_ready(number).map(drop))?;
        self.say(format_args!("all nodes were ready after {} ms", began.elapsed().as_millis()));
        Ok(())
    }

    /// Starts it, and waits until it serves.
    pub(super) fn start_node(&mut self, number: usize) -> anyhow::Result<()> {
        self.nodes.all[number].start()?;
        let took = self.nodes.wait_ready(number)?;
        self.say(format_args!("node {} was ready after {} ms", number + 1, took.as_millis()));
        Ok(())
    }

    /// The failures, and the nodes.
    pub(super) fn end(self) -> (Vec<Outage>, Nodes) {
        (self.outages, self.nodes)
    }
}
