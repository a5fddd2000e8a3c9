//! A night at the gates, and what people ask about it afterwards: the lists that follow the journal, `tapgate audit` and
//! `tapgate rebuild`, all by the binary itself.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use common::night::{HERS, Ticket, found, issue, reader, rows, rows_once};
use common::process::{Operator, Running, tapgate};
use engine::gates::command::Direction;
use rustix::process::Signal;
use serde_json::{Value, json};
use tapgate_client::Read;

/// All that the lists say of the night, by the question.
fn lists(admin: &Operator, tickets: &[Ticket], devices: &[String]) -> Vec<(String, Vec<Value>)> {
    let mut questions = vec![
        "/festivals/night/access-log?zone=0".to_owned(),
        "/festivals/night/access-log?zone=1".to_owned(),
        "/festivals/night/tickets".to_owned(),
        "/festivals/night/tickets?status=USED".to_owned(),
        "/festivals/night/tickets?status=SOLD".to_owned(),
        "/festivals/night/tickets?status=RESERVED".to_owned(),
        "/festivals/night/tickets?category=1".to_owned(),
        format!("/festivals/night/tickets?holder={HERS}"),
        "/festivals/night/counts".to_owned(),
    ];
    questions.extend(tickets.iter().map(|ticket| format!("/tickets/{}/history", ticket.id)));
    questions.extend(devices.iter().map(|device| format!("/festivals/night/access-log?device={device}")));
    questions.into_iter().map(|path| (path.clone(), rows(admin, &path))).collect()
}

fn ids(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["ticketId"].as_str().unwrap()).collect()
}

/// What came of each scan, and why.
fn outcomes(rows: &[Value]) -> Vec<(&str, Option<&str>)> {
    rows.iter().map(|row| (row["outcome"].as_str().unwrap(), row["code"].as_str())).collect()
}

fn tapgate_on(data: &Path, words: &[&str]) -> Output {
    let (command, more) = words.split_first().unwrap();
    tapgate().arg(command).arg("--data").arg(data).args(more).output().unwrap()
}

fn text_of(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

/// Flips a bit halfway through what was written of the journal's first segment.
fn flip_in_the_middle(data: &Path) -> (PathBuf, u64) {
    let mut segments: Vec<_> = fs::read_dir(data.join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "log"))
        .collect();
    segments.sort();
    let path = segments.swap_remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    let at = (end / 2..end).find(|&at| bytes[at] != 0).unwrap();
    bytes[at] ^= 0x10;
    fs::write(&path, bytes).unwrap();
    (path, at as u64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_night_is_listed_audited_and_rebuilt() {
    use Direction::{Enter, Exit};
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Running::start(&data, &[]);
    let admin = server.admin(&data);
    found(&admin);
    // Two weekend tickets, of which one has a holder, a day ticket, and one that is not paid.
    let tickets = issue(
        &admin,
        &[
            json!({"category": 0, "paid": true, "holder": HERS}),
            json!({"category": 0, "paid": true}),
            json!({"category": 1, "paid": true}),
            json!({"category": 1, "paid": false}),
        ],
    );
    let (north, stairs) = (reader(&admin, 0).await, reader(&admin, 1).await);
    let devices = [north.device().to_string(), stairs.device().to_string()];
    let forged = tickets[1].qr.replace("\"version\":1", "\"version\":2");
    for (who, at, direction, qr, verdict) in [
        ("she comes", &north, Enter, &*tickets[0].qr, "Admitted"),
        ("goes up", &stairs, Enter, &tickets[0].qr, "Admitted"),
        ("leaves", &north, Exit, &tickets[0].qr, "Exited"),
        ("and is refused", &north, Enter, &tickets[0].qr, "Rejected(AlreadyUsed)"),
        ("a day guest", &north, Enter, &tickets[2].qr, "Admitted"),
        ("who may not go up", &stairs, Enter, &tickets[2].qr, "Rejected(ZoneDenied)"),
        ("somebody who has not paid", &north, Enter, &tickets[3].qr, "Rejected(Unpaid)"),
        ("a forger", &north, Enter, &forged, "Rejected(TamperedQr)"),
    ] {
        let answered = at.scan(Read::Qr(qr.as_bytes().to_vec()), direction).await.unwrap();
        assert_eq!(format!("{:?}", answered.answer.verdict), verdict, "{who}");
        // No two in one millisecond: below, the log is asked for by time.
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    north.close().await;
    stairs.close().await;

    // The access log, by zone.
    let ground = rows_once(&admin, "/festivals/night/access-log?zone=0", 6);
    assert_eq!(
        outcomes(&ground),
        [
            ("ADMITTED", None),
            ("EXITED", None),
            ("REJECTED", Some("already_used")),
            ("ADMITTED", None),
            ("REJECTED", Some("unpaid")),
            ("REJECTED", Some("tampered_qr")),
        ]
    );
    assert_eq!(ground[5]["ticketId"], Value::Null, "a forged QR names nobody");
    let upstairs = rows_once(&admin, "/festivals/night/access-log?zone=1", 2);
    assert_eq!(outcomes(&upstairs), [("ADMITTED", None), ("REJECTED", Some("zone_denied"))]);
    // By time: from the moment on at which she left until before the day guest came.
    let moment = |row: &Value| row["at"].as_str().unwrap().to_owned();
    let between = format!("/festivals/night/access-log?zone=0&from={}&to={}", moment(&ground[1]), moment(&ground[3]));
    assert_eq!(rows(&admin, &between), ground[1..3]);
    // By ticket: why was she refused?
    let history = rows(&admin, &format!("/tickets/{}/history", tickets[0].id));
    let codes = [("ADMITTED", None), ("ADMITTED", None), ("EXITED", None), ("REJECTED", Some("already_used"))];
    assert_eq!(outcomes(&history), codes);
    let (came, refused) = (&history[0], &history[3]);
    assert_eq!(refused["say"], "This ticket has been used already.");
    assert_eq!(refused["firstUse"], json!({"at": came["at"], "zone": 0, "gate": 0}));
    assert_eq!((&came["firstEntry"], &came["deviceId"]), (&json!(true), &json!(devices[0])));
    // By reader.
    let by_reader = rows(&admin, &format!("/festivals/night/access-log?device={}", devices[1]));
    assert_eq!(by_reader, upstairs);
    // Tickets: by status, category, holder; in the order in which they were issued, unpaid ones of a window first.
    let id = |index: usize| tickets[index].id.as_str();
    for (filter, expected) in [
        ("", vec![id(0), id(1), id(3), id(2)]),
        ("?status=USED", vec![id(0), id(2)]),
        ("?status=SOLD", vec![id(1)]),
        ("?status=RESERVED", vec![id(3)]),
        ("?category=1", vec![id(3), id(2)]),
        (&format!("?holder={HERS}"), vec![id(0)]),
        ("?status=USED&category=1", vec![id(2)]),
    ] {
        assert_eq!(ids(&rows(&admin, &format!("/festivals/night/tickets{filter}"))), expected, "{filter}");
    }
    // Counts: the night may have run over the end of a minute.
    let counts = rows(&admin, "/festivals/night/counts");
    let sum = |gate: u64, what: &str| {
        counts.iter().filter(|row| row["gate"] == gate).map(|row| row[what].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((sum(0, "admitted"), sum(0, "exited"), sum(0, "rejected")), (2, 1, 3));
    assert_eq!((sum(1, "admitted"), sum(1, "exited"), sum(1, "rejected")), (1, 0, 1));
    assert!(counts.iter().all(|row| row["minute"].as_str().unwrap().ends_with(":00Z")), "{counts:?}");

    // Beside a running server the audit reads on; a rebuild would take the lists from under it.
    let beside = tapgate_on(&data, &["audit"]);
    assert_eq!(beside.status.code(), Some(0), "{}", text_of(&beside.stderr));
    let in_use = tapgate_on(&data, &["rebuild"]);
    assert_eq!(in_use.status.code(), Some(3), "{}", text_of(&in_use.stderr));
    assert!(text_of(&in_use.stderr).contains("in use"), "{}", text_of(&in_use.stderr));

    let before = lists(&admin, &tickets, &devices);
    let key = admin.key().to_owned();
    assert_eq!(server.end(Signal::TERM), Some(0));

    audit_holds(&data);

    // Deleted and rebuilt, they say the same.
    fs::remove_dir_all(data.join("views")).unwrap();
    let rebuilt = tapgate_on(&data, &["rebuild"]);
    assert_eq!(rebuilt.status.code(), Some(0), "{}", text_of(&rebuilt.stderr));
    assert!(text_of(&rebuilt.stdout).starts_with("read models rebuilt: "), "{}", text_of(&rebuilt.stdout));
    assert!(data.join("views").join("views.redb").is_file(), "before any server runs");
    let server = Running::start(&data, &[]);
    assert_eq!(lists(&server.operator(&key), &tickets, &devices), before);
    assert_eq!(server.end(Signal::TERM), Some(0));

    audit_finds_a_flipped_bit(&data);
}

/// A reader takes one scan back, the office another: gate, zone, minutes and what is shown live say that nobody came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undone_scan_is_taken_out_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Running::start(&data, &[]);
    let admin = server.admin(&data);
    found(&admin);
    let tickets = issue(&admin, &[json!({"category": 0, "paid": true}), json!({"category": 0, "paid": true})]);
    let north = reader(&admin, 0).await;
    let mut last = None;
    for ticket in &tickets {
        let read = Read::Qr(ticket.qr.as_bytes().to_vec());
        let answered = north.scan(read, Direction::Enter).await.unwrap();
        assert_eq!(format!("{:?}", answered.answer.verdict), "Admitted");
        last = Some(answered);
    }
    let last = last.unwrap();
    let undone = north.undo(last.seq, last.answer.ticket.unwrap()).await.unwrap();
    assert_eq!(format!("{:?}", undone.answer.verdict), "Undone");
    admin.post(&format!("/tickets/{}/undo-scan", tickets[0].id), &json!({}));
    north.close().await;

    let log = rows_once(&admin, "/festivals/night/access-log?zone=0", 4);
    assert!(log.iter().all(|row| row["gate"] == 0 && row["late"] == false), "{log:?}");
    let counts = rows(&admin, "/festivals/night/counts");
    let sums = ["admitted", "exited", "undone", "rejected"];
    let of = |row: &Value| sums.map(|name| row[name].as_u64().unwrap());
    let minutes = counts.iter().map(of).fold([0; 4], |sum, row| std::array::from_fn(|at| sum[at] + row[at]));
    assert_eq!(minutes, [0, 0, 2, 0], "{counts:?}");
    for page in ["/festivals/night", "/festivals/night/live"] {
        let shown = admin.get(page).json();
        assert_eq!(of(&shown["gates"][0]), minutes, "{page}");
        let zone = &shown["zones"][0];
        assert_eq!((&zone["occupancy"], &zone["admitted"], &zone["left"]), (&json!(0), &json!(0), &json!(0)), "{page}");
    }
    assert_eq!(server.end(Signal::TERM), Some(0));
    let audited = tapgate_on(&data, &["audit"]);
    assert_eq!(audited.status.code(), Some(0), "{}", text_of(&audited.stdout));
    assert!(
        text_of(&audited.stdout).contains("2 admitted, 0 exited, 0 rejected, 2 undone"),
        "{}",
        text_of(&audited.stdout)
    );
}

/// The fields of an object, in the order of the alphabet.
fn names(value: &Value) -> String {
    let mut names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names.join(" ")
}

fn audit_holds(data: &Path) {
    let audited = tapgate_on(data, &["audit"]);
    assert_eq!(audited.status.code(), Some(0), "{}", text_of(&audited.stderr));
    let text = text_of(&audited.stdout);
    assert!(text.contains("3 admitted, 1 exited, 4 rejected, 0 undone; 4 tickets issued"), "{text}");
    for check in engine::audit::Check::ALL {
        let line = text.lines().find(|line| line.starts_with(&format!("{} ", check.word())));
        let line = line.unwrap_or_else(|| panic!("{} is not in {text}", check.word()));
        assert!(line.contains(" holds ") && line.ends_with(check.sentence()), "{line}");
    }

    let audited = tapgate_on(data, &["audit", "--json"]);
    assert_eq!(audited.status.code(), Some(0));
    let found: Value = serde_json::from_slice(&audited.stdout).expect("one JSON object and nothing else");
    assert_eq!(names(&found), "gates holds journal");
    assert_eq!(
        names(&found["journal"]),
        "chain damage missing records records_behind_damage records_missing shards torn"
    );
    assert_eq!(
        names(&found["gates"]),
        "admitted cash_rejected checks conflicts conflicts_total debits events exited records refunds rejected shards \
         tickets transactions transfers transfers_returned undone violations violations_total"
    );
    assert_eq!(names(&found["gates"]["checks"][0]), "check checked invariants says violated");
    let (journal, gates) = (&found["journal"], &found["gates"]);
    assert_eq!((&found["holds"], &journal["damage"], &journal["torn"]), (&json!(true), &json!([]), &Value::Null));
    assert_eq!(journal["records"], gates["records"], "each was checked");
    assert!(journal["chain"].as_str().is_some_and(|chain| chain.len() == 32), "{journal}");
    let sums = ["admitted", "exited", "rejected", "undone", "tickets"].map(|name| gates[name].as_u64().unwrap());
    assert_eq!(sums, [3, 1, 4, 0, 4]);
}

fn audit_finds_a_flipped_bit(data: &Path) {
    let (segment, flipped_at) = flip_in_the_middle(data);
    let segment = segment.file_name().unwrap().to_str().unwrap();
    let audited = tapgate_on(data, &["audit", "--json"]);
    assert_eq!(audited.status.code(), Some(1));
    assert!(text_of(&audited.stderr).contains("damaged in 1 place"), "{}", text_of(&audited.stderr));
    let found: Value = serde_json::from_slice(&audited.stdout).unwrap();
    assert_eq!(found["holds"], false);
    let damage = &found["journal"]["damage"][0];
    assert_eq!(names(damage), "file missing offset resumes why");
    assert_eq!(damage["file"], segment);
    let (begins, resumes) = (damage["offset"].as_u64().unwrap(), damage["resumes"]["offset"].as_u64().unwrap());
    assert!((begins..resumes).contains(&flipped_at), "byte {flipped_at} was flipped: {damage}");
    assert!(resumes - begins <= 8 << 10, "no more than what was written at once: {damage}");
    assert!(found["journal"]["records_behind_damage"].as_u64().unwrap() > 0, "what lies behind is counted");

    let audited = tapgate_on(data, &["audit"]);
    assert_eq!(audited.status.code(), Some(1));
    let line = format!("DAMAGED   {segment} at byte {begins}: ");
    assert!(text_of(&audited.stdout).contains(&line), "{line:?} is not in {}", text_of(&audited.stdout));
}
