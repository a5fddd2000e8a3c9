//! The binary itself, as somebody on call meets it: what it says, what it ends with, and what is there after it was
//! killed.

mod common;

use std::io::{BufRead, Read};
use std::net::TcpListener;

use common::process::{Running, key, serve, tapgate};
use rustix::process::Signal;
use serde_json::Value;

/// The next event of a live stream: its name and its data. `None` at the stream's end.
fn event(stream: &mut impl BufRead) -> Option<(String, Value)> {
    let (mut name, mut line) = (String::new(), String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(event) = line.strip_prefix("event: ") {
            name = event.trim().to_owned();
        }
        if let Some(data) = line.strip_prefix("data: ") {
            return Some((name, serde_json::from_str(data).unwrap()));
        }
    }
}

fn admitted(now: &Value) -> u64 {
    now["gates"].as_array().unwrap().iter().map(|gate| gate["admitted"].as_u64().unwrap()).sum()
}

/// What a picture says of money, in cents: payments, top-ups, and what is in wallets. The books balance, and what is in
/// wallets is what came in less what was spent.
fn money(now: &Value) -> (u64, u64, i64) {
    let cash = &now["cash"];
    let cents = |name: &str| cash[name].as_str().unwrap().replace('.', "").parse::<i64>().unwrap();
    assert_eq!(cents("trialBalance"), 0);
    assert_eq!(cents("inWallets"), cents("toppedUp") - cents("sold") + cents("refunded"));
    (cash["payments"].as_u64().unwrap(), cash["topUps"].as_u64().unwrap(), cents("inWallets"))
}

#[test]
fn keys_are_made_beside_a_running_server_and_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Running::start(&data, &[]);
    let made = key(&data, &["create", "--role", "ADMIN", "--name", "first"]);
    let first = String::from_utf8(made.stdout).unwrap();
    let first = first.trim();
    assert!(first.starts_with("tgk_") && !first.contains(char::is_whitespace), "nothing but the key: {first}");
    assert_eq!(server.status("/api/v1/festivals", first), "200");
    assert_eq!(server.status("/api/v1/festivals", "tgk_guessed"), "401");
    assert!(key(&data, &["revoke", "1"]).status.success());
    assert_eq!(server.status("/api/v1/festivals", first), "401", "from the next request on");
    assert_eq!(server.end(Signal::TERM), Some(0));

    let made = key(&data, &["create", "--role", "ADMIN", "--name", "second"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let listed = String::from_utf8(key(&data, &["list"]).stdout).unwrap();
    assert!(listed.contains("first") && listed.contains("revoked") && listed.contains("second"), "{listed}");
    assert!(!listed.contains("tgk_"));
}

#[test]
fn the_clock_of_a_running_server_is_accepted_through_its_socket() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let accept = || tapgate().args(["clock", "accept", "--data"]).arg(&data).output().unwrap();
    let refused = accept();
    assert!(!refused.status.success() && !data.exists(), "nothing is made where no server runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("no server answers"), "{said}");
    let server = Running::start(&data, &[]);
    let accepted = accept();
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
    let said = String::from_utf8(accepted.stdout).unwrap();
    assert!(said.starts_with("The server's clock"), "{said}");
    assert_eq!(server.end(Signal::TERM), Some(0));
}

#[test]
fn what_it_ends_with_says_where_to_look() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Running::start(&data, &[]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = taken.local_addr().unwrap().to_string();
    let bad = folder.path().join("bad.toml");
    std::fs::write(&bad, "shards = 0").unwrap();
    let elsewhere = folder.path().join("elsewhere");
    for (mut command, code, says) in [
        (serve(&data, &[]), 3, "in use"),
        (serve(&elsewhere, &["--config", bad.to_str().unwrap()]), 2, "`shards`"),
        (serve(&elsewhere, &["--config", "no-such-file.toml"]), 2, "no-such-file.toml"),
        (
            {
                let mut command = tapgate();
                command.args(["serve", "--http", &http, "--quic", "127.0.0.1:0", "--data"]).arg(&elsewhere);
                command
            },
            4,
            "--http",
        ),
    ] {
        let ended = command.output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{said}");
        assert!(said.contains(says), "{said}");
    }
    assert!(!elsewhere.exists(), "nothing was made on the way to a no");
    assert_eq!(server.end(Signal::INT), Some(0));
}

#[test]
fn a_health_check_needs_nothing_but_the_binary() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(&folder.path().join("data"), &[]);
    let at = format!("http://{}", server.http);
    let ready = || {
        let asked = tapgate().args(["ready", &at]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (asked.status.code(), text(&asked.stdout), text(&asked.stderr))
    };
    assert_eq!(ready(), (Some(0), "ok\n".to_owned(), String::new()));
    assert_eq!(server.end(Signal::TERM), Some(0));
    let (code, out, why) = ready();
    assert_eq!((code, &*out), (Some(1), ""));
    assert!(why.starts_with(&format!("tapgate: cannot reach the server at {}: ", &at[7..])), "{why}");
}

#[test]
fn the_demo_goes_on_where_it_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let path = "/api/v1/festivals/demo/live/stream";
    let mut server = Running::start(&data, &["--demo"]);
    let first_key = server.demo_key.clone().unwrap();
    let mut stream = server.get(path, &first_key);
    assert_eq!(event(&mut stream).unwrap().0, "history");
    let before = loop {
        let (name, data) = event(&mut stream).unwrap();
        assert_eq!(name, "second");
        if admitted(&data["now"]) > 40 && money(&data["now"]).0 > 20 {
            break data["now"].clone();
        }
    };
    server.child.kill().unwrap(); // SIGKILL
    server.child.wait().unwrap();

    let server = Running::start(&data, &["--demo"]);
    assert_eq!(server.demo_key.as_deref(), Some(&*first_key), "the page's address stays");
    let mut stream = server.get(path, &first_key);
    let (name, after) = event(&mut stream).unwrap();
    assert_eq!(name, "history");
    assert!(admitted(&after["now"]) >= admitted(&before), "what was shown was on disk");
    let ((paid, topped_up, _), (paid_after, topped_up_after, _)) = (money(&before), money(&after["now"]));
    assert!(paid_after >= paid, "every payment shown was on disk");
    assert!(topped_up >= 20_000 && topped_up_after - topped_up < 1_000, "no wristband was sold again");
    assert_eq!(after["now"]["cash"]["vendors"].as_array().unwrap().len(), 12);
    let mut body = String::new();
    server.get("/api/v1/festivals/demo", &first_key).read_to_string(&mut body).unwrap();
    let festival: Value = serde_json::from_str(body.lines().last().unwrap()).unwrap();
    let issued = festival["categories"].as_array().unwrap().iter().map(|c| c["issued"].as_u64().unwrap());
    assert_eq!(issued.collect::<Vec<_>>(), [44_000, 5_000, 1_000], "no ticket was issued again");
    let moving = loop {
        let (_, data) = event(&mut stream).unwrap();
        if admitted(&data["now"]) > admitted(&after["now"]) && money(&data["now"]).0 > paid_after {
            break data;
        }
    };
    assert!(moving["point"]["gates"].as_array().unwrap().len() == 6);

    // A viewer whose key is revoked is shown out.
    assert!(key(&data, &["revoke", "1"]).status.success());
    while event(&mut stream).is_some() {}
    assert_eq!(server.status(path, &first_key), "401");
    assert_eq!(server.end(Signal::INT), Some(0));
}
