//! Two servers that share the shards of one journal on Kafka, as somebody on call meets them: each answers for the other, and goes
//! on alone when that one is killed. Real brokers, which `deploy/servers` starts; without them this says so and does nothing.

mod common;

use std::io::{BufRead, Write as _};
use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use common::process::{Running, key as key_on, tapgate};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A guard against a hang, not a measurement.
const PATIENCE: Duration = Duration::from_secs(120);
const LIVE: &str = "/api/v1/festivals/demo/live/stream";

/// Scans that came in, and payments, as this server shows them; the books balance. `None`: it does not say now.
fn counts(server: &Running, key: &str) -> Option<(u64, u64)> {
    let mut stream = server.get(LIVE, key);
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
    }
    let now = &serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok()?["now"];
    // None while not every shard answers.
    assert_eq!(now["cash"]["trialBalance"].as_str()?, "0.00");
    let admitted = now["gates"].as_array()?.iter().map(|gate| gate["admitted"].as_u64().unwrap());
    Some((admitted.sum(), now["cash"]["payments"].as_u64()?))
}

/// Waits until this server shows so many more of both.
fn rises(server: &Running, key: &str, from: (u64, u64), by: u64) -> (u64, u64) {
    until("it goes on", || counts(server, key).filter(|now| now.0 >= from.0 + by && now.1 >= from.1 + by))
}

fn until<T>(what: &str, mut so: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(so) = so() {
            return so;
        }
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The settings of one of the nodes.
fn settings(folder: &Path, node: u32, kafka: &str) -> String {
    let (at, number, port) = (folder.display(), std::process::id(), free_port());
    let brokers: Vec<String> = kafka.split(',').map(|broker| format!("{broker:?}")).collect();
    let text = format!(
        "kafka = [{}]\nkafka_topic = 'tapgate.test.nodes.{number}'\nkafka_create_topic = true\nkafka_replication = {}\n\
         node = {node}\npeers = '127.0.0.1:{port}'\npeer_ca = '{at}/ca.pem'\npeer_certificate = '{at}/node-{node}.pem'\n\
         peer_key = '{at}/node-{node}.key'\nqr_secret = 'a secret of at least 32 bytes, for tests'\n\
         tls_certificate = '{at}/devices.pem'\ntls_key = '{at}/devices.key'\n",
        brokers.join(", "),
        if brokers.len() >= 3 { 3 } else { 1 },
    );
    let path = folder.join(format!("node-{node}.toml"));
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn two_servers_answer_for_each_other_and_one_goes_on_alone() {
    let Ok(kafka) = std::env::var("TAPGATE_TEST_KAFKA") else {
        // Past the harness, which keeps to itself what passing tests say.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED two_servers_answer_for_each_other_and_one_goes_on_alone: TAPGATE_TEST_KAFKA names no brokers \
             (deploy/servers)"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let made = tapgate().args(["cluster", "certificates"]).arg(at).args(["--nodes", "2"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let devices = rcgen::generate_simple_self_signed(["gate".to_owned()]).unwrap();
    std::fs::write(at.join("devices.pem"), devices.cert.pem()).unwrap();
    std::fs::write(at.join("devices.key"), devices.signing_key.serialize_pem()).unwrap();
    let [config_1, config_2] = [1, 2].map(|node| settings(at, node, &kafka));

    let one = Running::start(&at.join("one"), &["--config", &config_1, "--demo"]);
    let key = one.demo_key.clone().unwrap();
    let alone = rises(&one, &key, (0, 0), 10);
    // Half of the shards go there, with wallets that are in use.
    let two = Running::start(&at.join("two"), &["--config", &config_2]);
    let both = rises(&one, &key, alone, 20);
    let there = rises(&two, &key, both, 20);
    // Whichever of them has the festival, and whichever is asked.
    // `busy` while its shard moves.
    let made = until("a key is made", || {
        let made = key_on(&at.join("two"), &["create", "--role", "ADMIN"]);
        made.status.success().then(|| String::from_utf8(made.stdout).unwrap().trim().to_owned())
    });
    let (operator, asked) = (two.operator(&made), one.operator(&made));
    for no in 0..12 {
        let (starts, ends) = ("2026-05-01T10:00:00Z", "2026-05-03T10:00:00Z");
        let festival = json!({"slug": format!("f{no}"), "name": "F", "startsAt": starts, "endsAt": ends});
        let body = festival.to_string();
        let is_made = || matches!(operator.call("POST", "/festivals", "application/json", &body).status, 201 | 409);
        until("it is made", || is_made().then_some(()));
        until("the other one knows it", || (asked.get(&format!("/festivals/f{no}")).status == 200).then_some(()));
    }
    drop(two); // SIGKILL
    rises(&one, &key, there, 20);
    let all = || (0..12).all(|no| asked.get(&format!("/festivals/f{no}")).status == 200);
    until("its shards are taken over", || all().then_some(()));
    assert_eq!(one.end(Signal::TERM), Some(0));
    let audit = tapgate().args(["audit", "--config", &config_1]).output().unwrap();
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
}
