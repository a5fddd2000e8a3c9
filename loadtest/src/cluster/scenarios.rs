//! The failures, one after the other, and what each of them must show. All of them must show that nothing that was
//! acknowledged is lost or doubled, so that is not said again.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::leaders;
use super::nodes::Nodes;
use super::outage::Must;
use super::servers::Servers;
use super::stage::Stage;

/// One of them.
pub struct Scenario {
    /// As it is typed.
    pub name: &'static str,
    /// What fails.
    pub what: &'static str,
    /// What has to be seen besides.
    pub shows: &'static str,
    /// How often, unless told otherwise.
    pub cycles: u32,
    /// On how many nodes, unless told otherwise.
    pub nodes: usize,
    /// And at least.
    pub nodes_min: usize,
    /// Read models and snapshots have to lie on CQL.
    pub cql: bool,
    /// What has to be prepared before the nodes are started.
    pub(super) before: fn(&mut Nodes, &Servers) -> anyhow::Result<()>,
    /// One cycle.
    pub(super) play: fn(&mut Stage<'_>, u32) -> anyhow::Result<()>,
}

/// How long what was killed stays away, so that its work is taken over.
const AWAY: Duration = Duration::from_secs(8);
/// How long it is quiet after what failed is there again: brokers fetch what they have missed.
const SETTLE: Duration = Duration::from_secs(4);
/// How long a node is cut off: longer than a write waits for brokers.
const CUT: Duration = Duration::from_secs(20);
/// How long read models and snapshots are away.
const CQL_AWAY: Duration = Duration::from_secs(60);
/// A node that is paused for so long has been taken for dead by everybody.
const PAUSED: Duration = Duration::from_secs(15);

/// All of them.
pub const SCENARIOS: [Scenario; 12] = [
    Scenario {
        name: "node-killed",
        what: "a node is killed (SIGKILL), its shards are taken over, it is started again",
        shows: "devices go on at another node, the shards answer again within seconds",
        cycles: 5,
        nodes: 3,
        nodes_min: 1,
        cql: false,
        before: nothing,
        play: node_killed,
    },
    Scenario {
        name: "broker-killed",
        what: "one of three brokers is killed, and started again",
        shows: "two of three are enough: everything goes on once its partitions have another leader",
        cycles: 3,
        nodes: 3,
        nodes_min: 1,
        cql: false,
        before: nothing,
        play: broker_killed,
    },
    Scenario {
        name: "brokers-killed",
        what: "two of three brokers are killed, and started again",
        shows: "nothing is acknowledged meanwhile, everything afterwards",
        cycles: 2,
        nodes: 3,
        nodes_min: 1,
        cql: false,
        before: nothing,
        play: brokers_killed,
    },
    Scenario {
        name: "node-paused",
        what: "a node is paused (SIGSTOP) for 15 s, and goes on as if no time had passed",
        shows: "whoever has taken over stays: the one that wakes up acknowledges nothing of what is no more its own",
        cycles: 3,
        nodes: 3,
        nodes_min: 1,
        cql: false,
        before: nothing,
        play: node_paused,
    },
    Scenario {
        name: "rolling-nodes",
        what: "the nodes are stopped (SIGTERM) and started again, one after the other",
        shows: "each gives its shards away before it ends: nobody waits long",
        cycles: 2,
        nodes: 3,
        nodes_min: 1,
        cql: false,
        before: nothing,
        play: rolling_nodes,
    },
    Scenario {
        name: "rolling-brokers",
        what: "the brokers are stopped (SIGTERM) and started again, one after the other",
        shows: "each gives its partitions away before it ends: nobody waits long",
        cycles: 2,
        nodes: 3,
        nodes_min: 1,
        cql: false,
        before: nothing,
        play: rolling_brokers,
    },
    Scenario {
        name: "cql-killed",
        what: "the server of read models and snapshots is killed, and started again after a minute",
        shows: "gates and bars do not notice: nobody is refused",
        cycles: 1,
        nodes: 3,
        nodes_min: 1,
        cql: true,
        before: nothing,
        play: cql_killed,
    },
    Scenario {
        name: "leader-moved",
        what: "every partition gets another broker as its leader, all of them alive",
        shows: "whatever is under way is written once: nobody waits long",
        cycles: 10,
        nodes: 3,
        nodes_min: 1,
        cql: false,
        before: nothing,
        play: leader_moved,
    },
    Scenario {
        name: "cut-from-kafka",
        what: "a node is cut off from the brokers for 20 s (a network namespace): what is sent is lost, and nobody is told",
        shows: "the others take over what it has, and it acknowledges nothing more",
        cycles: 2,
        nodes: 3,
        nodes_min: 2,
        cql: false,
        before: set_apart,
        play: |stage, _| cut(stage, "the brokers", (true, false)),
    },
    Scenario {
        name: "cut-from-peers",
        what: "a node is cut off from the other nodes for 20 s (a network namespace): what is sent is lost, and nobody is told",
        shows: "whoever has a shard keeps it: each node answers for its own, and devices go where theirs is",
        cycles: 2,
        nodes: 3,
        nodes_min: 2,
        cql: false,
        before: set_apart,
        play: |stage, _| cut(stage, "the other nodes", (false, true)),
    },
    Scenario {
        name: "cut-from-both",
        what: "a node is cut off from the brokers and the other nodes for 20 s (a network namespace): what is sent is lost, and nobody is told",
        shows: "as if it were dead, but for the devices that still reach it",
        cycles: 2,
        nodes: 3,
        nodes_min: 2,
        cql: false,
        before: set_apart,
        play: |stage, _| cut(stage, "everybody", (true, true)),
    },
    Scenario {
        name: "node-added",
        what: "one more node is started, and stopped again (SIGTERM)",
        shows: "it gets its share of the shards and gives it back: nobody waits long",
        cycles: 3,
        nodes: 3,
        nodes_min: 2,
        cql: false,
        before: |nodes, _| {
            nodes.later = 1;
            Ok(())
        },
        play: node_added,
    },
];

/// The one of this name.
///
/// # Errors
/// There is none.
pub fn named(name: &str) -> anyhow::Result<&'static Scenario> {
    SCENARIOS
        .iter()
        .find(|scenario| scenario.name == name)
        .with_context(|| format!("there is no {name}; there are:\n{}", list()))
}

/// All of them, a paragraph each.
pub fn list() -> String {
    let mut text = String::new();
    for Scenario { name, what, shows, .. } in &SCENARIOS {
        let _ = writeln!(text, "{name:<16} {what}.\n{:<16} {shows}.", "");
    }
    text
}

fn nothing(_: &mut Nodes, _: &Servers) -> anyhow::Result<()> {
    Ok(())
}

fn set_apart(nodes: &mut Nodes, servers: &Servers) -> anyhow::Result<()> {
    nodes.set_apart(servers)
}

fn node_killed(stage: &mut Stage<'_>, cycle: u32) -> anyhow::Result<()> {
    let number = cycle as usize % stage.nodes();
    stage.a_moment();
    stage.fails(format_args!("node {} is killed", number + 1), Must::Wait);
    stage.kill_node(number)?;
    if stage.nodes() > 1 {
        stage.quiet(AWAY);
    }
    stage.comes_back();
    stage.start_node(number)?;
    stage.quiet(SETTLE);
    Ok(())
}

fn broker_killed(stage: &mut Stage<'_>, cycle: u32) -> anyhow::Result<()> {
    let broker = &stage.servers.kafka[cycle as usize % stage.servers.kafka.len()];
    stage.a_moment();
    stage.fails(format_args!("broker {broker} is killed"), Must::Wait);
    stage.servers.kill(broker)?;
    stage.quiet(AWAY);
    stage.comes_back();
    stage.servers.start(broker)?;
    stage.all_serve()?;
    stage.quiet(SETTLE);
    Ok(())
}

fn brokers_killed(stage: &mut Stage<'_>, cycle: u32) -> anyhow::Result<()> {
    let count = stage.servers.kafka.len();
    let two = [0, 1].map(|next| &stage.servers.kafka[(cycle as usize + next) % count]);
    stage.a_moment();
    stage.servers.kill(two[0])?;
    stage.servers.kill(two[1])?;
    stage.fails(format_args!("brokers {} and {} are gone", two[0], two[1]), Must::Refuse);
    stage.quiet(AWAY);
    stage.comes_back();
    two.into_iter().try_for_each(|broker| stage.servers.start(broker))?;
    stage.all_serve()?;
    stage.quiet(SETTLE);
    Ok(())
}

fn node_paused(stage: &mut Stage<'_>, cycle: u32) -> anyhow::Result<()> {
    let number = cycle as usize % stage.nodes();
    stage.a_moment();
    stage.fails(format_args!("node {} is paused", number + 1), Must::Wait);
    stage.pause_node(number)?;
    stage.quiet(PAUSED);
    stage.comes_back();
    stage.resume_node(number)?;
    stage.all_serve()?;
    stage.quiet(SETTLE);
    Ok(())
}

fn rolling_nodes(stage: &mut Stage<'_>, _: u32) -> anyhow::Result<()> {
    for number in 0..stage.nodes() {
        stage.fails(format_args!("node {} is stopped", number + 1), Must::Wait);
        stage.stop_node(number)?;
        stage.comes_back();
        stage.start_node(number)?;
        stage.quiet(SETTLE);
    }
    Ok(())
}

fn rolling_brokers(stage: &mut Stage<'_>, _: u32) -> anyhow::Result<()> {
    for broker in &stage.servers.kafka {
        stage.fails(format_args!("broker {broker} is stopped"), Must::Wait);
        stage.servers.stop(broker)?;
        stage.comes_back();
        stage.servers.start(broker)?;
        stage.quiet(SETTLE);
    }
    Ok(())
}

fn cql_killed(stage: &mut Stage<'_>, _: u32) -> anyhow::Result<()> {
    let server = stage.servers.cql.first().context("there is a server of CQL")?;
    stage.fails(format_args!("{server} is killed"), Must::GoOn);
    stage.servers.kill(server)?;
    stage.quiet(CQL_AWAY);
    stage.comes_back();
    stage.servers.start(server)?;
    stage.quiet(SETTLE);
    Ok(())
}

fn leader_moved(stage: &mut Stage<'_>, cycle: u32) -> anyhow::Result<()> {
    stage.a_moment();
    stage.fails("leaders are moved", Must::Wait);
    let Servers { kafka, topic, shards, .. } = stage.servers;
    let broker = kafka.first().context("there is a broker")?;
    let moved = leaders::rotate(broker, kafka.len(), topic, *shards, cycle)?;
    stage.comes_back();
    // The first time they may be where they should be.
    ensure!(cycle == 0 || moved > 0, "no partition has got another leader");
    stage.quiet(SETTLE);
    Ok(())
}

fn cut(stage: &mut Stage<'_>, from: &str, (to_kafka, to_peers): (bool, bool)) -> anyhow::Result<()> {
    stage.a_moment();
    stage.fails(format_args!("node {} is cut off from {from}", stage.nodes()), Must::Wait);
    stage.cut(to_kafka, to_peers);
    stage.quiet(CUT);
    stage.comes_back();
    stage.cut(false, false);
    stage.all_serve()?;
    stage.quiet(SETTLE);
    Ok(())
}

fn node_added(stage: &mut Stage<'_>, _: u32) -> anyhow::Result<()> {
    let number = stage.nodes() - 1;
    stage.a_moment();
    stage.fails(format_args!("node {} joins", number + 1), Must::Wait);
    stage.start_node(number)?;
    stage.quiet(SETTLE);
    stage.fails(format_args!("node {} leaves", number + 1), Must::Wait);
    stage.stop_node(number)?;
    stage.comes_back();
    stage.quiet(SETTLE);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_have_names_of_their_own() {
        for scenario in &SCENARIOS {
            assert_eq!(named(scenario.name).unwrap().what, scenario.what);
            assert!(scenario.nodes >= scenario.nodes_min && scenario.cycles > 0, "{}", scenario.name);
        }
        let none = named("node-kiled").err().unwrap().to_string();
        assert!(none.contains("node-killed"), "whoever mistypes is told what there is: {none}");
    }
}
