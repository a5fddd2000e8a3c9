//! The binary itself, as somebody on call meets it: what it says, what it ends with, and what is there after it was
//! killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A guard against a hang, not a measurement.
const NEVER_LONGER: Duration = Duration::from_secs(120);

fn tapgate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapgate"));
    command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn serve(data: &Path, more: &[&str]) -> Command {
    let mut command = tapgate();
    command.args(["serve", "--http", "127.0.0.1:0", "--quic", "127.0.0.1:0", "--data"]).arg(data).args(more);
    command
}

fn key(data: &Path, words: &[&str]) -> Output {
    tapgate().arg("key").args(words).arg("--data").arg(data).output().unwrap()
}

/// A server that has said where it is.
struct Running {
    child: Child,
    http: SocketAddr,
    demo_key: Option<String>,
}

impl Running {
    fn start(data: &Path, more: &[&str]) -> Self {
        let mut child = serve(data, more).stderr(Stdio::inherit()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut http, mut demo_key) = (None, None);
        for line in said.by_ref() {
            let line = line.unwrap();
            if let Some((_, address)) = line.split_once("people    http://") {
                http = address.split('/').next().and_then(|address| address.parse().ok());
            }
            if let Some((_, key)) = line.split_once("#key=") {
                demo_key = Some(key.to_owned());
            }
            if line.starts_with("Ctrl-C") {
                break;
            }
        }
        Self { child, http: http.expect("it says where it is"), demo_key }
    }

    fn end(mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap().code()
    }

    fn get(&self, path: &str, key: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(NEVER_LONGER)).unwrap();
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    fn status(&self, path: &str, key: &str) -> String {
        let mut line = String::new();
        self.get(path, key).read_line(&mut line).unwrap();
        line.split(' ').nth(1).unwrap_or_default().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only where a test has failed on its way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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
        if admitted(&data["now"]) > 40 {
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
    let mut body = String::new();
    server.get("/api/v1/festivals/demo", &first_key).read_to_string(&mut body).unwrap();
    let festival: Value = serde_json::from_str(body.lines().last().unwrap()).unwrap();
    let issued = festival["categories"].as_array().unwrap().iter().map(|c| c["issued"].as_u64().unwrap());
    assert_eq!(issued.collect::<Vec<_>>(), [44_000, 5_000, 1_000], "no ticket was issued again");
    let moving = loop {
        let (_, data) = event(&mut stream).unwrap();
        if admitted(&data["now"]) > admitted(&after["now"]) {
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
