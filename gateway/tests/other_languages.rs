//! A device in another language: the reader in Python, which was written from PROTOCOL.md alone, at a real server.
//!
//! It needs a Python with what `gateway/client/examples/requirements.txt` names: the one in `TAPGATE_PYTHON`, which then has
//! to be good, or else `python3`, if that has it.

mod common;

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use common::night;
use common::process::Running;
use rustix::process::Signal;
use serde_json::json;

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

/// The example, with what it says and what is typed into it.
struct Reader {
    child: Child,
    typed: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Reader {
    fn start(python: &Path, state: &Path, offer: Option<&str>) -> Self {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("client/examples/reader.py");
        let mut command = Command::new(python);
        command.arg(example).arg(state).args(offer).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (typed, said) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, typed, said: BufReader::new(said).lines() }
    }

    fn read(&mut self, line: &str) {
        writeln!(self.typed, "{line}").unwrap();
    }

    /// The next that it says, what it says of lost connections aside.
    fn said(&mut self) -> String {
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
        // Past the harness, which keeps to itself what a test that passes has to say.
        let _ = writeln!(
            std::io::stderr(),
            "PASSED OVER: the reader in Python, since there is no Python with aioquic here"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut server = Running::start(&data, &[]);
    let office = server.admin(&data);
    night::found(&office);
    let tickets = night::issue(&office, &[json!({"category": 0, "paid": true}), json!({"category": 1, "paid": true})]);
    let place = json!({"gate": 0, "name": "Python"});
    let code = office.post("/festivals/night/devices/enrolment-codes", &place).json();
    let state = folder.path().join("reader.json");

    let mut reader = Reader::start(&python, &state, Some(code["offer"].as_str().unwrap()));
    let enrolled = reader.said();
    let device = enrolled.strip_prefix("enrolled as ").unwrap_or_else(|| panic!("{enrolled}"));
    let welcome = "welcome, Python: Night, North, into Ground";
    assert_eq!(reader.said(), welcome);
    reader.read(&tickets[0].qr);
    assert_eq!(reader.said(), "1 GREEN in, 1 inside");
    reader.read("again");
    assert_eq!(reader.said(), "again the same answer");
    reader.read("reconnect");
    assert_eq!(reader.said(), welcome);
    reader.read("again");
    assert_eq!(reader.said(), "again the same answer");
    reader.read(&tickets[0].qr);
    let red = reader.said();
    assert!(red.starts_with("2 RED 6: This ticket has been used already. First at "), "{red}");

    // Printed anew by somebody: no longer packed, and a ticket all the same.
    reader.read(&tickets[1].qr.replacen(',', ", ", 1));
    assert_eq!(reader.said(), "3 GREEN in, 2 inside");
    reader.read(&format!("out {}", tickets[1].qr));
    assert_eq!(reader.said(), "4 GREEN out, 1 inside");
    reader.read("no ticket at all");
    assert_eq!(reader.said(), "5 RED 1: This is not one of our tickets.");
    reader.read("tag 04a1b2c3d4e580");
    assert_eq!(reader.said(), "6 RED 19: We do not know this wristband.");

    // The server is killed; the next one has everything, and answers what it has answered.
    let quic = server.quic.to_string();
    assert_eq!(server.end(Signal::KILL), None);
    server = Running::start(&data, &["--quic", &quic]);
    reader.read("again");
    assert_eq!(reader.said(), welcome);
    assert_eq!(reader.said(), "again the same answer");
    assert_eq!(reader.end(), (Some(0), vec![]));

    // Switched off and on: nothing but its file, which says who it is and where its numbers are.
    let mut reader = Reader::start(&python, &state, None);
    assert_eq!(reader.said(), welcome);
    reader.read(&tickets[1].qr);
    let red = reader.said();
    assert!(red.starts_with("7 RED 6: "), "{red}");
    assert_eq!(reader.end(), (Some(0), vec![]));

    // However often it has asked, each was done once.
    let office = server.operator(office.key());
    let scans = night::rows_once(&office, &format!("/festivals/night/access-log?device={device}"), 7);
    assert_eq!(scans.len(), 7, "{scans:?}");
    assert_eq!(server.end(Signal::INT), Some(0));
}
