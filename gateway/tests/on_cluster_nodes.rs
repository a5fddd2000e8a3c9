//! Several nodes on one journal, as processes: who has which shard when one comes, goes, dies or sleeps. Real brokers, which
//! `deploy/servers` starts; without them this says so and does nothing.

mod common;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::process::{Running, serve, tapgate};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A guard against a hang, not a measurement.
const PATIENCE: Duration = Duration::from_secs(60);
const SHARDS: usize = 8;

/// One test at a time: three servers on two cores are enough.
static ALONE: Mutex<()> = Mutex::new(());

struct Cluster {
    kafka: String,
    folder: tempfile::TempDir,
    name: String,
    _alone: MutexGuard<'static, ()>,
}

impl Cluster {
    fn new(test: &str) -> Option<Self> {
        let Ok(kafka) = std::env::var("TAPGATE_TEST_KAFKA") else {
            // Past the harness, which keeps to itself what passing tests say.
            let _ = writeln!(std::io::stderr(), "SKIPPED {test}: TAPGATE_TEST_KAFKA names no broker (deploy/servers)");
            return None;
        };
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let devices = rcgen::generate_simple_self_signed(vec!["tapgate".to_owned()]).unwrap();
        std::fs::write(folder.path().join("devices.pem"), devices.cert.pem()).unwrap();
        std::fs::write(folder.path().join("devices.key"), devices.signing_key.serialize_pem()).unwrap();
        gateway::cluster::certificates::make(folder.path(), 3).unwrap();
        let name = format!("{test}.{}", std::process::id());
        Some(Self { kafka, folder, name, _alone: alone })
    }

    fn data(&self, folder: &str) -> PathBuf {
        self.folder.path().join(folder)
    }

    fn settings(&self, node: u32, folder: &str) -> String {
        let brokers = self.kafka.split(',').map(|server| format!("{server:?}")).collect::<Vec<_>>().join(", ");
        let copies = if self.kafka.contains(',') { 3 } else { 1 };
        let at = self.folder.path().display();
        // A port that nobody has: the system gives one, and takes it back.
        let peers = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "kafka = [{brokers}]\nkafka_topic = 'tapgate.test.{name}'\nkafka_create_topic = true\n\
             kafka_replication = {copies}\ncluster = '{name}'\nhttp_requests_per_key_s = 0\nshards = {SHARDS}\nthreads = 1\n\
             qr_secret = 'the same on all nodes, and at least 32 bytes'\n\
             tls_certificate = '{at}/devices.pem'\ntls_key = '{at}/devices.key'\n\
             node = {node}\npeers = '{peers}'\npeer_ca = '{at}/ca.pem'\n\
             peer_certificate = '{at}/node-{node}.pem'\npeer_key = '{at}/node-{node}.key'\n",
            name = self.name,
        );
        let path = self.data(&format!("{folder}.toml"));
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A node with a folder of its own; it is there when this returns.
    fn start(&self, node: u32, folder: &str) -> Running {
        let settings = self.settings(node, folder);
        let log = std::fs::File::create(self.data(&format!("{folder}.log"))).unwrap();
        Running::of(serve(&self.data(folder), &["--config", &settings]).stderr(Stdio::from(log)))
    }

    fn log(&self, folder: &str) -> String {
        std::fs::read_to_string(self.data(&format!("{folder}.log"))).unwrap_or_default()
    }
}

fn signal(running: &Running, signal: Signal) {
    kill_process(Pid::from_child(&running.child), signal).unwrap();
}

/// Which node has which shard, as `tapgate cluster status` on this folder says, of those that say they serve it themselves.
fn status(data: &Path) -> Value {
    let output = tapgate().args(["cluster", "status", "--json", "--data"]).arg(data).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// How many shards each node has in the log, as one of them sees it.
fn owners(data: &Path) -> BTreeMap<u64, usize> {
    let mut owners = BTreeMap::new();
    for shard in status(data)["shards"].as_array().unwrap() {
        *owners.entry(shard["owner"].as_u64().unwrap_or(0)).or_default() += 1;
    }
    owners
}

fn until(what: &str, so: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    began.elapsed()
}

fn shared(data: &Path, nodes: &[(u64, usize)]) -> bool {
    owners(data) == nodes.iter().copied().collect()
}

/// Creates festivals at one node, one after the other, whichever node has their shards, and asks again where it is told to.
/// Ends with what was acknowledged, and how long the longest took.
struct Load {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<(Vec<String>, Duration)>,
}

fn festival(slug: &str) -> String {
    serde_json::json!({
        "slug": slug, "name": slug,
        "startsAt": "2026-07-01T10:00:00Z", "endsAt": "2026-07-05T10:00:00Z"
    })
    .to_string()
}

impl Load {
    fn start(node: &Running, key: &str, name: &'static str) -> Self {
        let (operator, stop) = (node.operator(key), std::sync::Arc::<std::sync::atomic::AtomicBool>::default());
        let ends = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut acknowledged, mut longest) = (Vec::new(), Duration::ZERO);
            for number in 0.. {
                if ends.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let (slug, began) = (format!("{name}-{number}"), Instant::now());
                for attempt in 0.. {
                    let reply = operator.call("POST", "/festivals", "application/json", &festival(&slug));
                    match reply.status {
                        201 => break,
                        // The first attempt was in doubt, and had been done.
                        409 if attempt > 0 => break,
                        503 | 504 => std::thread::sleep(Duration::from_millis(5)),
                        _ => panic!("{slug}, attempt {attempt}: {reply:?}"),
                    }
                    assert!(began.elapsed() < PATIENCE, "{slug}: {reply:?}");
                }
                longest = longest.max(began.elapsed());
                acknowledged.push(slug);
                std::thread::sleep(Duration::from_millis(5));
            }
            (acknowledged, longest)
        });
        Self { stop, thread }
    }

    fn end(self, node: &Running, key: &str) -> (usize, Duration) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let (acknowledged, longest) = self.thread.join().unwrap();
        let operator = node.operator(key);
        for slug in &acknowledged {
            let reply = operator.get(&format!("/festivals/{slug}"));
            assert_eq!(reply.status, 200, "{slug} was acknowledged: {reply:?}");
        }
        (acknowledged.len(), longest)
    }
}

fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

#[test]
fn shards_move_to_whoever_comes_and_away_from_whoever_goes() {
    let Some(cluster) = Cluster::new("shards_move") else { return };
    let first = cluster.start(1, "n1");
    let n1 = cluster.data("n1");
    assert!(shared(&n1, &[(1, SHARDS)]), "one node has all: {:?}", owners(&n1));
    assert_eq!(first.readyz().0, 200);
    let key = first.admin(&n1).key().to_owned();

    let load = Load::start(&first, &key, "joined");
    let second = cluster.start(2, "n2");
    until("two nodes do not share", || shared(&n1, &[(1, 4), (2, 4)]));
    let third = cluster.start(3, "n3");
    let n3 = cluster.data("n3");
    let balanced = |parts: BTreeMap<u64, usize>| {
        let mut parts: Vec<usize> = parts.into_values().collect();
        parts.sort_unstable();
        parts == [2, 3, 3]
    };
    until("three nodes do not share", || balanced(owners(&n1)) && owners(&n3) == owners(&n1));
    std::thread::sleep(Duration::from_millis(500));
    let (count, longest) = load.end(&first, &key);
    say(&format!("two nodes joined: {count} commands, the longest took {} ms", longest.as_millis()));
    for (node, folder) in [(&first, "n1"), (&second, "n2"), (&third, "n3")] {
        assert_eq!(node.readyz(), (200, node.readyz().1), "{}", cluster.log(folder));
        assert!(!cluster.log(folder).contains("ERROR"), "{}", cluster.log(folder));
    }

    // Another node's number drains nobody.
    let drain = |node: &str| tapgate().args(["cluster", "drain", node, "--data"]).arg(&n3).output().unwrap();
    let refused = drain("2");
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("this is node 3"));
    let load = Load::start(&third, &key, "drained");
    let drained = drain("3");
    assert!(drained.status.success(), "{}", String::from_utf8_lossy(&drained.stderr));
    assert!(shared(&n1, &[(1, 4), (2, 4)]), "{:?}", owners(&n1));
    std::thread::sleep(Duration::from_millis(500));
    let (count, longest) = load.end(&third, &key);
    say(&format!("a node was drained: {count} commands at its door, the longest took {} ms", longest.as_millis()));
    assert!(tapgate().args(["cluster", "undrain", "3", "--data"]).arg(&n3).status().unwrap().success());
    until("it has not come back", || balanced(owners(&n1)));

    // SIGTERM, with everything it has handed over first.
    let load = Load::start(&first, &key, "stopped");
    let began = Instant::now();
    assert_eq!(third.end(Signal::TERM), Some(0), "{}", cluster.log("n3"));
    assert!(shared(&n1, &[(1, 4), (2, 4)]), "handed over before it ended: {:?}", owners(&n1));
    assert!(cluster.log("n3").contains("the other nodes have this node's shards"), "{}", cluster.log("n3"));
    let stopped_ms = began.elapsed().as_millis();
    std::thread::sleep(Duration::from_millis(500));
    let (count, longest) = load.end(&first, &key);
    say(&format!(
        "a node was stopped in {stopped_ms} ms: {count} commands, the longest took {} ms",
        longest.as_millis()
    ));

    assert_eq!(second.end(Signal::TERM), Some(0));
    assert!(shared(&n1, &[(1, SHARDS)]));
    let began = Instant::now();
    assert_eq!(first.end(Signal::TERM), Some(0));
    assert!(began.elapsed() < Duration::from_secs(12), "nobody is waited for who is not there");
}

#[test]
fn the_shards_of_a_node_that_dies_or_sleeps_serve_elsewhere() {
    let Some(cluster) = Cluster::new("node_dies") else { return };
    let first = cluster.start(1, "n1");
    let n1 = cluster.data("n1");
    let key = first.admin(&n1).key().to_owned();
    let mut second = cluster.start(2, "n2");
    until("two nodes do not share", || shared(&n1, &[(1, 4), (2, 4)]));

    let load = Load::start(&first, &key, "killed");
    second.child.kill().unwrap(); // SIGKILL
    second.child.wait().unwrap();
    let took = until("its shards are nowhere", || shared(&n1, &[(1, SHARDS)]));
    std::thread::sleep(Duration::from_millis(500));
    let (count, longest) = load.end(&first, &key);
    let taken = took.as_millis();
    say(&format!(
        "a node was killed: {taken} ms to take over, {count} commands, the longest took {} ms",
        longest.as_millis()
    ));

    let second = cluster.start(2, "n2");
    let n2 = cluster.data("n2");
    until("it has not come back", || shared(&n1, &[(1, 4), (2, 4)]));
    let before = status(&n2);
    let load = Load::start(&first, &key, "paused");
    signal(&second, Signal::STOP);
    until("its shards are nowhere", || shared(&n1, &[(1, SHARDS)]));
    std::thread::sleep(Duration::from_secs(12));
    signal(&second, Signal::CONT);
    until("it does not know what has happened", || {
        owners(&n2) != BTreeMap::from([(1, 4), (2, 4)]) || status(&n2)["shards"] != before["shards"]
    });
    until("it has not come back", || shared(&n1, &[(1, 4), (2, 4)]) && shared(&n2, &[(1, 4), (2, 4)]));
    until("it is not well", || second.readyz() == (200, second.readyz().1) && second.readyz().1.contains("\"ok\""));
    std::thread::sleep(Duration::from_millis(500));
    let (count, longest) = load.end(&second, &key);
    say(&format!("a node slept for 15 s: {count} commands, the longest took {} ms", longest.as_millis()));
    assert_eq!((second.end(Signal::TERM), first.end(Signal::TERM)), (Some(0), Some(0)));
    let settings = cluster.data("n1.toml");
    let audit = tapgate().args(["audit", "--config"]).arg(settings).output().unwrap();
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
}

#[test]
fn two_processes_with_one_number_are_both_told() {
    let Some(cluster) = Cluster::new("twins") else { return };
    let (first, second) = (cluster.start(1, "one"), cluster.start(1, "other"));
    for (node, folder) in [(&first, "one"), (&second, "other")] {
        until("it is not told", || node.readyz().1.contains("another process has the same node number"));
        assert!(cluster.log(folder).contains("ANOTHER PROCESS HAS THE SAME NODE NUMBER"), "{}", cluster.log(folder));
    }
}
