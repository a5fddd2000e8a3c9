//! The binary with its journal on Kafka, and read models and snapshots on CQL, as somebody on call meets it. Real servers, which
//! `deploy/servers` starts; without them this says so and does nothing.

mod common;

use std::io::{BufRead, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use common::process::{Running, serve, tapgate};
use rustix::process::Signal;
use serde_json::Value;

/// A guard against a hang, not a measurement.
const PATIENCE: Duration = Duration::from_secs(120);

/// The live page's next picture.
fn picture(stream: &mut impl BufRead) -> Value {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream ends");
        if let Some(data) = line.strip_prefix("data: ") {
            return serde_json::from_str::<Value>(data).unwrap()["now"].take();
        }
    }
}

/// Scans that came in, and payments. The books balance.
fn counts(now: &Value) -> (u64, u64) {
    assert_eq!(now["cash"]["trialBalance"], "0.00");
    let admitted = now["gates"].as_array().unwrap().iter().map(|gate| gate["admitted"].as_u64().unwrap());
    (admitted.sum(), now["cash"]["payments"].as_u64().unwrap())
}

/// What a command says, and what it ends with.
fn ended(command: &mut std::process::Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat())
}

fn settings(folder: &Path, name: &str, text: String) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_server_on_a_cluster_goes_on_where_it_was_killed() {
    let servers = (std::env::var("TAPGATE_TEST_KAFKA"), std::env::var("TAPGATE_TEST_CQL"));
    let (Ok(kafka), Ok(cql)) = servers else {
        // Past the harness, which keeps to itself what passing tests say.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED a_server_on_a_cluster_goes_on_where_it_was_killed: TAPGATE_TEST_KAFKA and TAPGATE_TEST_CQL name no servers \
             (deploy/servers)"
        );
        return;
    };
    let list = |servers: &str| servers.split(',').map(|server| format!("{server:?}")).collect::<Vec<_>>().join(", ");
    let copies = if kafka.contains(',') { 3 } else { 1 };
    let number = std::process::id();
    let text = |cluster: &str| {
        format!(
            "kafka = [{}]\nkafka_topic = 'tapgate.test.server.{number}'\nkafka_create_topic = true\nkafka_replication = {copies}\n\
             cluster = '{cluster}'\ncql = [{}]\ncql_keyspace = 'test_server_{number}'\ncql_replication = 1\n",
            list(&kafka),
            list(&cql)
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = settings(folder.path(), "cluster.toml", text("rehearsal"));
    let live = "/api/v1/festivals/demo/live/stream";

    let mut server = Running::start(&data, &["--config", &config, "--demo"]);
    let key = server.demo_key.clone().unwrap();
    let mut stream = server.get(live, &key);
    let before = loop {
        let now = picture(&mut stream);
        let (admitted, paid) = counts(&now);
        if admitted > 20 && paid > 10 {
            break (admitted, paid);
        }
    };
    // Whoever else comes to this folder would take the shards from this one.
    let (code, said) = ended(&mut serve(&data, &["--config", &config]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another process uses this data folder"), "{said}");
    // Beside the server, and claiming nothing of it.
    let (code, said) = ended(tapgate().args(["audit", "--config", &config]));
    assert_eq!(code, Some(0), "{said}");
    assert!(!data.join("journal").exists() && !data.join("views").exists(), "they lie elsewhere");
    server.child.kill().unwrap(); // SIGKILL
    server.child.wait().unwrap();

    let server = Running::start(&data, &["--config", &config, "--demo"]);
    assert_eq!(server.demo_key.as_deref(), Some(&*key), "the page's address stays");
    let mut stream = server.get(live, &key);
    let after = counts(&picture(&mut stream));
    assert!(after.0 >= before.0 && after.1 >= before.1, "what was shown was on Kafka: {before:?}, {after:?}");
    while counts(&picture(&mut stream)) == after {}

    let (operator, began) = (server.admin(&data), Instant::now());
    loop {
        let page = operator.get("/festivals/demo/transactions?limit=5");
        if page.status == 200 && page.json()["items"].as_array().is_some_and(|items| items.len() == 5) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the read models do not catch up: {page:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(server.end(Signal::TERM), Some(0));
    let (code, said) = ended(tapgate().args(["audit", "--config", &config]));
    assert_eq!(code, Some(0), "{said}");

    // What cannot be done here says what can.
    for (words, says) in [
        (vec!["rebuild", "--config", &config], "drop their keyspace"),
        (vec!["backup", "--config", &config, "--to", "copy"], "a copy on each of several brokers"),
    ] {
        let (code, said) = ended(tapgate().args(words));
        assert_ne!(code, Some(0), "{said}");
        assert!(said.contains(says), "{said}");
    }
    let theirs = settings(folder.path(), "theirs.toml", text("festival"));
    let elsewhere = folder.path().join("elsewhere");
    let (code, said) = ended(&mut serve(&elsewhere, &["--config", &theirs]));
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("another cluster's log"), "{said}");
    let away = settings(folder.path(), "away.toml", "kafka = ['127.0.0.1:1']".to_owned());
    let (code, said) = ended(&mut serve(&elsewhere, &["--config", &away]));
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("127.0.0.1:1"), "{said}");
}
