//! The examples of the device's side at a real server: a reader and a terminal with the library, and a reader in Python,
//! which was written from PROTOCOL.md alone.
//!
//! That one needs a Python with what `gateway/client/examples/requirements.txt` names: the one in `TAPGATE_PYTHON`, which
//! then has to be good, or else `python3`, if that has it. The others are built with the workspace's tests; if only this
//! crate's are built they may not be there.

mod common;

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use common::night;
use common::process::Running;
use rustix::process::Signal;
use serde_json::{Value, json};

/// A Python that can be a device; `None` if there is none and nobody has said that there has to be.
fn python() -> Option<PathBuf> {
    let said = std::env::var_os("TAPGATE_PYTHON").map(PathBuf::from);
    let python = said.clone().unwrap_or_else(|| "python3".into());
    let has_it = Command::new(&python).args(["-c", "import aioquic"]).stderr(Stdio::null()).status();
    match (has_it.is_ok_and(|status| status.success()), said) {
        (true, _) => Some(python),
        (false, Some(said)) => panic!("TAPGATE_PYTHON is {}, which cannot import aioquic", said.display()),
        (false, None) => None,
    }
}

/// An example of the library; `None` if it was not built, and nobody has said that all have to run.
fn built(name: &str) -> Option<Command> {
    let example = Path::new(env!("CARGO_BIN_EXE_tapgate")).with_file_name("examples").join(name);
    let has_to_be = std::env::var_os("TAPGATE_PYTHON").is_some();
    assert!(example.exists() || !has_to_be, "{} was not built", example.display());
    example.exists().then(|| Command::new(example))
}

/// Past the harness, which keeps to itself what a test that passes has to say.
fn passed_over(what: &str) {
    let _ = writeln!(std::io::stderr(), "PASSED OVER: {what}");
}

/// An example that runs, with what it says and what is typed into it.
struct Example {
    child: Child,
    typed: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Example {
    fn start(mut command: Command, name: &Path, offer: Option<&str>) -> Self {
        command.arg(name).args(offer).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (typed, said) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, typed, said: BufReader::new(said).lines() }
    }

    fn python(python: &Path, state: &Path, offer: Option<&str>) -> Self {
        let mut command = Command::new(python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("client/examples/reader.py"));
        Self::start(command, state, offer)
    }

    fn read(&mut self, line: &str) {
        writeln!(self.typed, "{line}").unwrap();
    }

    /// The next that it says, what it says of lost connections aside.
    fn next_line(&mut self) -> String {
        let line = self.said.find(|line| !line.as_ref().unwrap().starts_with("lost the server"));
        line.expect("it says more").unwrap()
    }

    fn end(mut self) -> (Option<i32>, Vec<String>) {
        drop(self.typed);
        let rest = self.said.map(Result::unwrap).collect();
        (self.child.wait().unwrap().code(), rest)
    }
}

#[test]
fn a_reader_in_python_scans_asks_again_and_comes_back() {
    let Some(python) = python() else {
        return passed_over("the reader in Python, since there is no Python with aioquic here");
    };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut server = Running::start(&data, &[]);
    let admin = server.admin(&data);
    night::found(&admin);
    let tickets = night::issue(&admin, &[json!({"category": 0, "paid": true}), json!({"category": 1, "paid": true})]);
    let place = json!({"gate": 0, "name": "Python"});
    let code = admin.post("/festivals/night/devices/enrolment-codes", &place).json();
    let state = folder.path().join("reader.json");

    let mut reader = Example::python(&python, &state, Some(code["offer"].as_str().unwrap()));
    let enrolled = reader.next_line();
    let device = enrolled.strip_prefix("enrolled as ").unwrap_or_else(|| panic!("{enrolled}"));
    let welcome = "welcome, Python: Night, North, into Ground";
    assert_eq!(reader.next_line(), welcome);
    reader.read(&tickets[0].qr);
    assert_eq!(reader.next_line(), "1 GREEN in, 1 inside");
    reader.read("again");
    assert_eq!(reader.next_line(), "again the same answer");
    reader.read("reconnect");
    assert_eq!(reader.next_line(), welcome);
    reader.read("again");
    assert_eq!(reader.next_line(), "again the same answer");
    reader.read(&tickets[0].qr);
    let red = reader.next_line();
    assert!(red.starts_with("2 RED 6: This ticket has been used already. First at "), "{red}");

    // Printed anew by somebody: no longer packed, and a ticket all the same.
    reader.read(&tickets[1].qr.replacen(',', ", ", 1));
    assert_eq!(reader.next_line(), "3 GREEN in, 2 inside");
    reader.read(&format!("out {}", tickets[1].qr));
    assert_eq!(reader.next_line(), "4 GREEN out, 1 inside");
    reader.read("no ticket at all");
    assert_eq!(reader.next_line(), "5 RED 1: This is not one of our tickets.");
    reader.read("tag 04a1b2c3d4e580");
    assert_eq!(reader.next_line(), "6 RED 19: We do not know this wristband.");

    // The server is killed; the next one has everything, and answers what it has answered.
    let quic = server.quic.to_string();
    assert_eq!(server.end(Signal::KILL), None);
    server = Running::start(&data, &["--quic", &quic]);
    reader.read("again");
    assert_eq!(reader.next_line(), welcome);
    assert_eq!(reader.next_line(), "again the same answer");
    assert_eq!(reader.end(), (Some(0), vec![]));

    // Switched off and on: nothing but its file, which says who it is and where its numbers are.
    let mut reader = Example::python(&python, &state, None);
    assert_eq!(reader.next_line(), welcome);
    reader.read(&tickets[1].qr);
    let red = reader.next_line();
    assert!(red.starts_with("7 RED 6: "), "{red}");
    assert_eq!(reader.end(), (Some(0), vec![]));

    // However often it has asked, each was done once.
    let admin = server.operator(admin.key());
    let scans = night::rows_once(&admin, &format!("/festivals/night/access-log?device={device}"), 7);
    assert_eq!(scans.len(), 7, "{scans:?}");
    assert_eq!(server.end(Signal::INT), Some(0));
}

#[test]
fn a_reader_and_a_terminal_run_as_they_are_shown() {
    let Some((reader, terminal)) = built("reader").zip(built("terminal")) else {
        return passed_over("the examples of tapgate-client, since they were not built");
    };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Running::start(&data, &[]);
    let admin = server.admin(&data);
    night::found(&admin);
    let tickets = night::issue(&admin, &[json!({"category": 0, "paid": true})]);
    let offer = |kind: &str, place: &Value| {
        let code = admin.post(&format!("/festivals/night/{kind}/enrolment-codes"), place).json();
        code["offer"].as_str().unwrap().to_owned()
    };

    let place = offer("devices", &json!({"gate": 0, "name": "North 1"}));
    let mut reader = Example::start(reader, &folder.path().join("north-1"), Some(&place));
    assert_eq!(reader.next_line(), "welcome, North 1: Night, North, into Ground");
    for (typed, seen) in [
        (tickets[0].qr.as_str(), "GREEN in, 1 inside"),
        (tickets[0].qr.as_str(), "RED 6: This ticket has been used already."),
        ("tag 04a1b2c3d4e580", "RED 19: We do not know this wristband."),
        (&format!("out {}", tickets[0].qr), "GREEN out, 0 inside"),
        ("undo", "GREEN undone, 1 inside"),
    ] {
        reader.read(typed);
        let said = reader.next_line();
        assert_eq!(said.split_once(' ').map(|(_, said)| said), Some(seen), "{typed}: {said}");
    }
    assert_eq!(reader.end(), (Some(0), vec![]));

    let limits = admin.call("PUT", "/festivals/night/cashless", "application/json", r#"{"currency":"EUR"}"#);
    assert_eq!(limits.status, 204, "{limits:?}");
    admin.post("/festivals/night/vendors", &json!({"name": "Bar 7", "commissionRate": "10"}));
    admin.post("/cashless/wallets", &json!({"festival": "night", "tag": "04a1b2c3d4e580"}));
    let place = offer("terminals", &json!({"name": "Left", "vendor": 0, "cashier": true}));
    let mut terminal = Example::start(terminal, &folder.path().join("bar-7"), Some(&place));
    assert_eq!(terminal.next_line(), "welcome, Left: Night, Bar 7");
    for (typed, seen) in [
        ("topup 20.00 tag 04a1b2c3d4e580", "20.00 EUR topped up. 20.00 EUR on it now."),
        ("pay 5.00 tag 04a1b2c3d4e580", "5.00 EUR paid, order N. 15.00 EUR left."),
        ("pay 50.00 tag 04a1b2c3d4e580", "There is not enough money on this wristband. 15.00 EUR left."),
        ("balance tag 04a1b2c3d4e580", "15.00 EUR on it."),
        ("refund", "5.00 EUR given back. 20.00 EUR on it now."),
        ("balance tag 04ffffffffff80", "We do not know this wristband."),
    ] {
        terminal.read(typed);
        let said = terminal.next_line();
        let (_, told) = said.split_once(' ').unwrap_or_else(|| panic!("{said}"));
        // Which order number a shard gives is its own affair.
        let told = match told.split_once(", order ").and_then(|(paid, rest)| Some((paid, rest.split_once('.')?))) {
            Some((paid, (_, left))) => format!("{paid}, order N.{left}"),
            None => told.to_owned(),
        };
        assert_eq!(told, seen, "{typed}");
    }
    assert_eq!(terminal.end(), (Some(0), vec![]));
    assert_eq!(server.end(Signal::INT), Some(0));
}
