//! The binary as a process: started on a folder, asked over HTTP, ended by a signal.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A guard against a hang, not a measurement.
const NEVER_LONGER: Duration = Duration::from_secs(120);

/// The binary that is tested.
pub fn tapgate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapgate"));
    command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A server on this folder, at addresses of its own unless they are said.
pub fn serve(data: &Path, more: &[&str]) -> Command {
    let mut command = tapgate();
    command.arg("serve").arg("--data").arg(data).args(more);
    for flag in ["--http", "--quic"].iter().filter(|flag| !more.contains(flag)) {
        command.args([flag, "127.0.0.1:0"]);
    }
    command
}

/// `tapgate key …` on this folder.
pub fn key(data: &Path, words: &[&str]) -> Output {
    tapgate().arg("key").args(words).arg("--data").arg(data).output().unwrap()
}

/// A server that has said where it is.
pub struct Running {
    pub child: Child,
    pub http: SocketAddr,
    pub quic: SocketAddr,
    pub demo_key: Option<String>,
}

impl Running {
    pub fn start(data: &Path, more: &[&str]) -> Self {
        Self::of(serve(data, more).stderr(Stdio::inherit()))
    }

    pub fn of(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut http, mut quic, mut demo_key) = (None, None, None);
        for line in said.by_ref() {
            let line = line.unwrap();
            if let Some((_, address)) = line.split_once("people    http://") {
                http = address.split('/').next().and_then(|address| address.parse().ok());
            }
            if let Some((_, address)) = line.split_once("readers   QUIC ") {
                quic = address.split(' ').next().and_then(|address| address.parse().ok());
            }
            if let Some((_, key)) = line.split_once("#key=") {
                demo_key = Some(key.to_owned());
            }
            if line.starts_with("Ctrl-C") {
                break;
            }
        }
        let (http, quic) = http.zip(quic).expect("it says where it is");
        Self { child, http, quic, demo_key }
    }

    pub fn end(mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap().code()
    }

    pub fn get(&self, path: &str, key: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(NEVER_LONGER)).unwrap();
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// Whether it takes scans, and why not.
    pub fn readyz(&self) -> (u16, String) {
        let mut reply = String::new();
        self.get("/readyz", "").read_to_string(&mut reply).unwrap();
        let status = reply.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        (status, reply.lines().last().unwrap_or_default().to_owned())
    }

    pub fn status(&self, path: &str, key: &str) -> String {
        let mut line = String::new();
        self.get(path, key).read_line(&mut line).unwrap();
        line.split(' ').nth(1).unwrap_or_default().to_owned()
    }
}

/// What an operator's call came to: the status, and the whole body.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, self.text))
    }
}

/// An operator at a running server.
pub struct Operator {
    http: SocketAddr,
    key: String,
}

impl Running {
    /// With a key that was just made.
    pub fn admin(&self, data: &Path) -> Operator {
        let made = key(data, &["create", "--role", "ADMIN"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        self.operator(String::from_utf8(made.stdout).unwrap().trim())
    }

    pub fn operator(&self, key: &str) -> Operator {
        Operator { http: self.http, key: key.to_owned() }
    }
}

impl Operator {
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Below `/api/v1`.
    pub fn get(&self, path: &str) -> Reply {
        self.call("GET", path, "application/json", "")
    }

    /// A change under an idempotency key of its own; a status of 400 and more is a failure of the test.
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        let reply = self.call("POST", path, "application/json", &body.to_string());
        assert!(reply.status < 400, "POST {path}: {reply:?}");
        reply
    }

    pub fn call(&self, method: &str, path: &str, media: &str, body: &str) -> Reply {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(NEVER_LONGER)).unwrap();
        // 1.0: the body has no chunks, and ends with the connection.
        let (key, attempt) = (&self.key, fresh());
        write!(
            stream,
            "{method} /api/v1{path} HTTP/1.0\r\nHost: test\r\nAuthorization: Bearer {key}\r\nContent-Type: {media}\r\n\
             Idempotency-Key: {attempt}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let (head, text) = reply.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no reply: {reply}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Reply { status: status.unwrap_or_else(|| panic!("no status: {head}")), text: text.to_owned() }
    }
}

fn fresh() -> String {
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).unwrap();
    uuid::Builder::from_random_bytes(random).into_uuid().to_string()
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only where a test has failed on its way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
