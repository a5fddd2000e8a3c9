//! `tapgate top` as somebody on call meets it: one picture of a running server, and plain words where there is none.

mod common;

use common::process::{Running, tapgate};
use rustix::process::Signal;
use serde_json::json;

/// What `tapgate top … --once` ends with, prints, and says.
fn top(words: &[&str], key: Option<&str>) -> (Option<i32>, String, String) {
    let mut command = tapgate();
    command.arg("top").args(words).arg("--once").env_remove("TAPGATE_KEY");
    if let Some(key) = key {
        command.env("TAPGATE_KEY", key);
    }
    let ended = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (ended.status.code(), text(&ended.stdout), text(&ended.stderr))
}

#[test]
fn one_picture_of_a_running_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Running::start(&data, &[]);
    let admin = server.admin(&data);
    let (at, key) = (format!("http://{}", server.http), admin.key().to_owned());
    assert_eq!(top(&[&at], Some(&key)).0, Some(1), "there is no festival yet");
    for (slug, name) in [("first", "First of May"), ("second", "Second helping")] {
        let festival = json!({"slug": slug, "name": name, "startsAt": "2026-05-01T10:00:00Z",
                              "endsAt": "2026-05-03T22:00:00Z"});
        admin.post("/festivals", &festival);
    }
    admin.post("/festivals/second/status", &json!({"status": "PUBLISHED"}));
    admin.post("/festivals/second/status", &json!({"status": "ONGOING"}));

    let (code, picture, said) = top(&[&at], Some(&key));
    assert_eq!((code, &*said), (Some(0), ""));
    assert!(picture.starts_with("Second helping  ONGOING"), "the one that is open: {picture}");
    assert!(picture.contains("╭ Gates ") && !picture.contains("Cashless"), "it takes no money: {picture}");
    let page = format!("{at}/live/first#key={key}");
    let (code, picture, _) = top(&[&page], None);
    assert_eq!(code, Some(0));
    assert!(picture.starts_with("First of May  DRAFT"), "the page's own address: {picture}");

    for (words, key, says) in [
        (vec![&*at], None, "a key is needed"),
        (vec![&*at], Some("tgk_guessed"), "this key is not known"),
        (vec![&*at, "--festival", "third"], Some(&*key), "no such festival"),
        (vec!["https://gates.example"], Some(&*key), "https"),
    ] {
        let (code, picture, said) = top(&words, key);
        assert_eq!((code, &*picture), (Some(1), ""), "{words:?}");
        assert!(said.contains(says), "{words:?}: {said}");
        assert!(!said.contains("tgk_"), "no key is repeated: {said}");
    }
    assert_eq!(server.end(Signal::INT), Some(0));
    let (code, _, said) = top(&[&at], Some(&key));
    assert_eq!(code, Some(1));
    assert!(said.contains("cannot reach the server"), "{said}");
}
