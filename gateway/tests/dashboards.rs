//! What `deploy/grafana` draws and warns of is there: every figure that a dashboard or an alert names is one that a
//! running server shows.

mod common;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use common::process::Running;
use rustix::process::Signal;
use serde_json::Value;

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/grafana").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// All texts under these names, however deep.
fn texts<'v>(value: &'v Value, names: &[&str], found: &mut Vec<&'v str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if names.contains(&name.as_str()) {
                    found.extend(value.as_str());
                }
                texts(value, names, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, names, found)),
        _ => {}
    }
}

/// The figures that an expression names.
fn metric_names(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("tapgate_") || word.starts_with("process_"))
}

fn metrics(server: &Running) -> String {
    let mut shown = String::new();
    server.get("/metrics", "").read_to_string(&mut shown).unwrap();
    shown
}

#[test]
fn every_figure_that_is_drawn_or_warned_of_is_there() {
    let dashboard: Value = serde_json::from_str(&file("tapgate.json")).expect("a dashboard is JSON");
    let alerts: Value = serde_yaml_ng::from_str(&file("alerts.yml")).expect("alert rules are YAML");
    let (mut drawn, mut warned) = (Vec::new(), Vec::new());
    texts(&dashboard, &["expr", "definition"], &mut drawn);
    texts(&alerts, &["expr"], &mut warned);
    assert!(drawn.len() > 20 && warned.len() > 10, "{} and {} expressions", drawn.len(), warned.len());
    for rule in alerts["groups"][0]["rules"].as_array().unwrap() {
        for said in [&rule["alert"], &rule["labels"]["severity"], &rule["annotations"]["summary"]] {
            assert!(said.as_str().is_some_and(|said| !said.is_empty()), "{rule}");
        }
    }
    // Of panels that lie on each other one is not seen.
    let place = |panel: &Value| ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
    let panels: Vec<_> = dashboard["panels"].as_array().unwrap().iter().map(place).collect();
    for (i, [x, y, w, h]) in panels.iter().enumerate() {
        assert!(x + w <= 24);
        let apart = |[a, b, c, d]: &[u64; 4]| x + w <= *a || a + c <= *x || y + h <= *b || b + d <= *y;
        assert!(panels[..i].iter().all(apart), "panel {i} lies on another");
    }

    let named: BTreeSet<&str> = drawn.iter().chain(&warned).flat_map(|expression| metric_names(expression)).collect();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let first = Running::start(&data, &["--demo"]);
    let of = |shown: &str, name: &str| -> u64 {
        let value = shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().expect("a count"))
    };
    let enrolled = "tapgate_enrolments_total";
    for _ in 0..240 {
        if of(&metrics(&first), enrolled) > 20 {
            break;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    let shown = metrics(&first);
    let (enrolled, failed) = (of(&shown, enrolled), of(&shown, "tapgate_handshakes_failed_total"));
    assert!(enrolled > 20 && failed < enrolled / 2, "{enrolled} enrolled, {failed} failed: who enrols has not failed");
    assert_eq!(first.end(Signal::INT), Some(0));
    // Once more, since an orderly stop writes the first snapshots.
    let server = Running::start(&data, &["--demo"]);
    // What is counted for the first time shows within seconds; a refusal at a bar may take a few more.
    let mut missing = named;
    for _ in 0..240 {
        let shown = metrics(&server);
        let shown: BTreeSet<&str> = shown.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
        missing.retain(|figure| !shown.contains(figure));
        if missing.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    assert!(missing.is_empty(), "nobody shows {missing:?}");
    assert_eq!(server.end(Signal::INT), Some(0));
}
