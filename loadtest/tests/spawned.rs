//! The commands as somebody types them, against a server process of their own.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn loadtest(line: &str) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_loadtest"));
    let mut command = Command::new(program);
    command.args(line.split(' ')).args(["--folder".as_ref(), std::env::temp_dir().as_os_str()]);
    // A test of the whole workspace has built the server by now; a test of this package alone lets the program do it.
    let server = program.with_file_name("tapgate");
    if server.exists() {
        command.env("TAPGATE_PROGRAM", server);
    }
    command.output().unwrap()
}

fn report(line: &str) -> Value {
    let output = loadtest(line);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{line}: {said}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&said).unwrap()
}

#[test]
fn a_short_night_at_the_gates() {
    let report = report("gate --spawn --connections 4 --window 16 --tickets 4000 --seconds 1 --idle 3 --json");
    for field in ["wrong", "lost", "double_admitted", "conflicts", "slowed", "reconnects"] {
        assert_eq!(report[field], 0, "{field}: {report}");
    }
    assert_eq!(report["sent"], report["answered"]);
    assert_eq!(report["counts_agree"], true, "{report}");
    for (field, part) in [("latency_us", "p999"), ("disk_us", "p99"), ("rejected", "tampered_qr")] {
        assert!(report[field][part].as_u64().unwrap() > 0, "{field}.{part}: {report}");
    }
    assert!(report["admitted"].as_u64().unwrap() > 0 && report["server_rss_bytes"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn a_schedule_is_kept_and_answers_may_leave_early() {
    let report = report("gate --spawn --connections 4 --rate 1000 --tickets 4000 --seconds 1 --ack decided --json");
    assert_eq!((&report["wrong"], &report["lost"], &report["counts_agree"]), (&0.into(), &0.into(), &true.into()));
    let due = report["sent"].as_u64().unwrap() + report["unsent"].as_u64().unwrap();
    assert_eq!(due, 999, "the thousandth is due when the second is over: {report}");
}

#[test]
fn the_echo_answers_everything() {
    let report = report("echo --connections 2 --window 16 --tickets 1000 --seconds 1 --json");
    assert_eq!((&report["mode"], &report["lost"]), (&"echo".into(), &0.into()));
    assert!(report["answered"].as_u64().unwrap() > 100, "{report}");
    assert_eq!(report["frames"], "scans");
}

#[test]
fn the_echo_answers_payments_too() {
    let report = report("echo --payments --connections 2 --window 16 --tickets 1000 --seconds 1 --json");
    assert_eq!((&report["frames"], &report["lost"]), (&"payments".into(), &0.into()));
    assert_eq!(report["sent"], report["answered"], "{report}");
    assert!(report["answered"].as_u64().unwrap() > 100, "{report}");
}

#[test]
fn what_was_acknowledged_survives_kills() {
    for ack in ["durable", "decided"] {
        let gates = format!("--connections 3 --rate 1000 --tickets 2000 --ack {ack}");
        let report = report(&format!("crash --cycles 2 {gates} --terminals 2 --payments 500 --wallets 400 --json"));
        for field in ["lost", "doubled", "wrong", "violations"] {
            assert_eq!(report[field], 0, "{field}: {report}");
        }
        assert_eq!(report["cycles"], 2);
        assert!(report["acknowledged"].as_u64().unwrap() > 0 && report["resent"].as_u64().unwrap() > 0, "{report}");
        let money = &report["money"];
        for field in ["lost", "doubled", "wrong", "balances_wrong", "in_transit"] {
            assert_eq!(money[field], 0, "{field}: {report}");
        }
        assert_eq!(money["books_agree"], true, "{report}");
        assert_eq!(money["balances_checked"], 400 + 2 * 4 + 2, "every wallet that has money: {report}");
        for field in ["acknowledged", "payments", "taps", "topups", "transfers", "tag_changes", "resent", "asked_again"]
        {
            assert!(money[field].as_u64().unwrap() > 0, "{field}: {report}");
        }
    }
}

#[test]
fn no_server_is_said_so() {
    let output = loadtest("gate --connect 127.0.0.1:9 --seconds 1");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("TAPGATE_KEY"), "{said}");
}

#[test]
fn a_short_evening_at_the_bars() {
    let line = "bar --spawn --connections 4 --window 16 --wallets 2000 --tags 500 --vendors 3 --hot 0.2 --transfers 2 \
                --seconds 1 --views --json";
    let report = report(&line.split_whitespace().collect::<Vec<_>>().join(" "));
    for field in ["wrong", "lost", "balances_wrong", "money_created", "money_lost", "slowed", "reconnects"] {
        assert_eq!(report[field], 0, "{field}: {report}");
    }
    assert_eq!((&report["sent"], &report["books_agree"]), (&report["answered"], &true.into()), "{report}");
    assert_eq!(report["balances_checked"], 2_000 + 4, "every wallet, and the hot one by each terminal");
    let views = &report["views"];
    for part in ["cpu_pct", "bytes_per_answer", "written_per_answer"] {
        assert!(views[part].as_f64().unwrap() > 0.0, "{part}: {report}");
    }
    for field in ["debits", "refunds", "topups", "transfers", "insufficient"] {
        assert!(report[field].as_u64().unwrap() > 0, "{field}: {report}");
    }
}

#[test]
fn gates_and_bars_together() {
    let report =
        report("mixed --connections 4 --window 16 --scans 500 --tickets 4000 --wallets 2000 --seconds 1 --json");
    let (gate, bar) = (&report["gate"], &report["bar"]);
    assert_eq!((&gate["wrong"], &gate["lost"], &gate["counts_agree"]), (&0.into(), &0.into(), &true.into()), "{gate}");
    assert_eq!((&bar["wrong"], &bar["lost"], &bar["books_agree"]), (&0.into(), &0.into(), &true.into()), "{bar}");
    assert!(gate["admitted"].as_u64().unwrap() > 0 && bar["debits"].as_u64().unwrap() > 0, "{report}");
}
