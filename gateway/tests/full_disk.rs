//! The disk fills up under a serving server. Nobody is told anything wrong, whoever is on call is told why, and once there
//! is room again everything that was acknowledged is there.

mod common;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::night::{found, issue, reader, rows_once};
use common::process::{Running, serve, tapgate};
use engine::gates::command::{Direction, Verdict};
use engine::model::rejection::Rejection;
use rustix::process::Signal;
use serde_json::json;
use storage::journal::file::{FileJournal, Options};
use storage::journal::log::LogOptions;
use tapgate_client::Read;

/// A disk of this size in memory; gone when it is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where this process may not mount.
    fn of(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = mount(dir.path(), &format!("size={size}"));
        mounted.then(|| Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn grow(&self, size: &str) {
        assert!(mount(self.path(), &format!("remount,size={size}")));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // At once for the name, whoever still has files open in it.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn mount(at: &Path, options: &str) -> bool {
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A journal whose open segment holds a thousand writes, 4 MiB; what comes after it is as large as ever.
fn with_a_small_segment(data: &Path) {
    let dir = data.join("journal");
    fs::create_dir_all(&dir).unwrap();
    let usual = LogOptions::default();
    let log = LogOptions { segment_bytes: u64::from(usual.group_bytes_max) + 4_096, ..usual };
    drop(FileJournal::open(&dir, Options { log, ..Options::default() }).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_and_then_is_not() {
    // The next segment, 128 MiB, finds no room.
    let Some(disk) = SmallDisk::of("24m") else {
        // Past the harness, which keeps to itself what passing tests say.
        let _ = writeln!(std::io::stderr(), "SKIPPED full_disk: mounting a small disk takes the right to mount");
        return;
    };
    let data = disk.path().join("data");
    with_a_small_segment(&data);
    let said = tempfile::NamedTempFile::new().unwrap();
    let log = |said: &tempfile::NamedTempFile| Stdio::from(File::options().append(true).open(said.path()).unwrap());
    let server = Running::of(serve(&data, &[]).stderr(log(&said)));
    let admin = server.admin(&data);
    found(&admin);
    let tickets = issue(&admin, &vec![json!({"category": 0, "paid": true}); 1_200]);
    let gate = reader(&admin, 0).await;
    assert_eq!(server.readyz().0, 200);

    // People come until there is no answer any more.
    let read = |index: usize| Read::Qr(tickets[index].qr.as_bytes().to_vec());
    let mut admitted = 0;
    let waiting = loop {
        let asking = gate.clone();
        let read = read(admitted);
        let mut asked = tokio::spawn(async move { asking.scan(read, Direction::Enter).await });
        match tokio::time::timeout(Duration::from_secs(3), &mut asked).await {
            Ok(answered) => {
                let answered = answered.unwrap().unwrap();
                assert_eq!((answered.answer.verdict, answered.durable), (Verdict::Admitted, true), "{admitted}");
                admitted += 1;
            }
            Err(_) => break asked,
        }
    };
    assert!(admitted > 900, "only {admitted} had room");
    let (status, why) = server.readyz();
    assert_eq!(status, 503);
    assert!(why.contains("disk is full"), "{why}");
    assert_eq!(server.status("/healthz", ""), "200", "it is alive, and says so");
    // The office is told the same, also where it only looks: what is in memory may never become durable.
    let field = admin.call("POST", "/festivals/night/zones", "application/json", r#"{"name":"Field","capacity":1}"#);
    for reply in [field, admin.get("/festivals/night"), admin.get(&format!("/tickets/{}", tickets[0].id))] {
        assert_eq!((reply.status, reply.json()["code"].as_str().unwrap()), (503, "unavailable"));
    }
    // The scan without an answer still has none.
    assert!(!waiting.is_finished());
    let key = admin.key().to_owned();
    let quic = server.quic.to_string();
    server.end(Signal::TERM);
    let text = fs::read_to_string(said.path()).unwrap();
    assert!(text.contains("the journal's next segment could not be prepared"), "a warning before it happens: {text}");
    assert!(text.contains("NOTHING CAN BE RECORDED"), "{text}");

    // What was acknowledged is on the disk, full as it is.
    let audited = tapgate().arg("audit").arg("--data").arg(&data).arg("--json").output().unwrap();
    assert_eq!(audited.status.code(), Some(0), "{}", String::from_utf8_lossy(&audited.stderr));

    // Started again without more room it answers nobody either, and nothing is lost by trying.
    let server = Running::of(serve(&data, &["--quic", &quic]).stderr(log(&said)));
    let began = Instant::now();
    while server.readyz().0 == 200 {
        assert!(began.elapsed() < Duration::from_secs(60), "the reader asks again, and that cannot be recorded");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!waiting.is_finished());
    server.end(Signal::TERM);

    disk.grow("300m");
    let server = Running::of(serve(&data, &["--quic", &quic]).stderr(log(&said)));
    let admin = server.operator(&key);
    assert_eq!(server.readyz().0, 200);
    // The reader has gone on asking, and is answered now.
    let answered = tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("an answer").unwrap().unwrap();
    assert_eq!(answered.answer.verdict, Verdict::Admitted);
    let again = gate.scan(read(0), Direction::Enter).await.unwrap();
    assert_eq!(again.answer.verdict, Verdict::Rejected(Rejection::AlreadyUsed));
    let next = gate.scan(read(admitted + 1), Direction::Enter).await.unwrap();
    assert_eq!(next.answer.verdict, Verdict::Admitted);
    let live = admin.get("/festivals/night").json();
    assert_eq!(live["zones"][0]["occupancy"], admitted + 2, "each once");
    let used = rows_once(&admin, "/festivals/night/tickets?status=USED", admitted + 2);
    let used: Vec<_> = used.iter().map(|row| row["ticketId"].as_str().unwrap()).collect();
    let came: Vec<_> = tickets[..admitted + 2].iter().map(|ticket| ticket.id.as_str()).collect();
    assert_eq!(used, came, "those, and nobody else");
    gate.close().await;
    assert_eq!(server.end(Signal::TERM), Some(0));
}
