//! The data folder as somebody on call meets it: one that is not whole, one that is not there, its copy, its rights.

mod common;

use std::fs::{self, File, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use common::process::{Running, key, serve, tapgate};
use rustix::process::Signal;

fn ran(words: &[&str], data: &Path) -> Output {
    tapgate().args(words).arg("--data").arg(data).output().unwrap()
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

/// A folder that has been served, with so many keys, of which the last are the newest records.
fn served(data: &Path, keys: usize) {
    let server = Running::start(data, &[]);
    for number in 0..keys {
        let made = key(data, &["create", "--role", "ADMIN", "--name", &format!("key {number}")]);
        assert!(made.status.success(), "{}", text_of(&made));
    }
    // The read models are witnesses too, once they have followed.
    while !server.readyz().1.contains("\"lagRecords\":0") {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(server.end(Signal::TERM), Some(0));
}

fn keys(data: &Path) -> usize {
    let listed = key(data, &["list"]);
    assert!(listed.status.success(), "{}", text_of(&listed));
    String::from_utf8_lossy(&listed.stdout).lines().filter(|line| line.contains(" ADMIN ")).count()
}

fn segment(data: &Path) -> PathBuf {
    data.join("journal/0000000001.log")
}

/// Where the last group of the segment begins: every group begins a block, with its magic.
fn last_group(data: &Path) -> u64 {
    let mut bytes = vec![0; 1 << 20];
    File::open(segment(data)).unwrap().read_exact(&mut bytes).unwrap();
    let last = bytes.chunks(4_096).rposition(|block| block.starts_with(b"TGRP")).unwrap();
    last as u64 * 4_096
}

#[test]
fn a_folder_that_is_not_whole_is_not_served_until_somebody_decides() {
    type Cut = fn(&Path, u64);
    let cut_off: Cut = |data, at| File::options().write(true).open(segment(data)).unwrap().set_len(at + 100).unwrap();
    // The length is kept: what is gone reads as if it had never been written.
    let wiped: Cut =
        |data, at| File::options().write(true).open(segment(data)).unwrap().write_all_at(&[0; 65_536], at).unwrap();
    // And the one that was prepared behind it, or the gap would be seen.
    let removed: Cut = |data, _| {
        for number in 1..=2 {
            let _ = fs::remove_file(data.join(format!("journal/{number:010}.log")));
        }
    };
    for (what, harm, keys_left) in [("cut off", cut_off, 2), ("wiped", wiped, 2), ("removed", removed, 0)] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        served(&data, 3);
        assert!(ran(&["audit"], &data).status.success(), "it was whole");
        harm(&data, last_group(&data));
        let before = fs::read(segment(&data)).ok();

        let refused = serve(&data, &[]).output().unwrap();
        let why = text_of(&refused);
        assert_eq!(refused.status.code(), Some(3), "{what}: {why}");
        assert!(why.contains("newest part is missing"), "{what}: {why}");
        let ends: u64 = why.split("--accept-loss ").nth(1).unwrap().split('`').next().unwrap().parse().unwrap();
        // Neither do the other ways in open it.
        for other in [ran(&["rebuild"], &data), key(&data, &["create", "--role", "ADMIN"])] {
            assert!(
                !other.status.success() && text_of(&other).contains("newest part is missing"),
                "{what}: {}",
                text_of(&other)
            );
        }
        let audit = ran(&["audit"], &data);
        assert!(!audit.status.success(), "{what}: {}", text_of(&audit));
        if keys_left > 0 {
            let found = text_of(&audit);
            for witness in ["journal/reached", "snapshots/", "views/views.redb"] {
                assert!(
                    found.lines().any(|line| line.contains("MISSING") && line.contains(witness)),
                    "{witness}: {found}"
                );
            }
        }
        let elsewhere = serve(&data, &["--accept-loss", &(ends + 1).to_string()]).output().unwrap();
        assert_eq!(elsewhere.status.code(), Some(3), "{what}: the number is a decision");
        assert!(before == fs::read(segment(&data)).ok(), "{what}: nothing was rewritten");

        let server = Running::start(&data, &["--accept-loss", &ends.to_string()]);
        let (status, ready) = server.readyz();
        assert_eq!(status, 200, "{ready}");
        assert_eq!(server.end(Signal::TERM), Some(0));
        assert_eq!(keys(&data), keys_left, "{what}: what lay before is there");
        let audit = ran(&["audit"], &data);
        assert!(audit.status.success(), "{what}: from now on this is the whole: {}", text_of(&audit));
        served(&data, 1);
        assert_eq!(keys(&data), keys_left + 1);
    }
}

#[test]
fn a_copy_of_a_running_server_is_whole_and_can_be_served() {
    let folder = tempfile::tempdir().unwrap();
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    served(&data, 1);
    let server = Running::start(&data, &["--demo"]);
    let made = key(&data, &["create", "--role", "ADMIN", "--name", "before the copy"]);
    let before = String::from_utf8(made.stdout).unwrap();
    let backup = |to: &Path| tapgate().args(["backup", "--to"]).arg(to).arg("--data").arg(&data).output().unwrap();
    let copied = backup(&copy);
    assert!(copied.status.success(), "{}", text_of(&copied));
    assert!(text_of(&copied).contains("audit of the copy holds"), "{}", text_of(&copied));
    let again = backup(&copy);
    assert!(!again.status.success() && text_of(&again).contains("not empty"), "{}", text_of(&again));
    assert_eq!(server.end(Signal::TERM), Some(0));

    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read(copy.join("qr.secret")).unwrap(), fs::read(data.join("qr.secret")).unwrap());
    let restored = Running::start(&copy, &[]);
    assert_eq!(restored.status("/api/v1/festivals/demo", before.trim()), "200", "what was there before the copy");
    assert_eq!(restored.end(Signal::TERM), Some(0));
    assert!(ran(&["audit"], &copy).status.success());
    assert!(!folder.path().join("copy.incomplete").exists());
    // And of one that is not whole there is no copy.
    File::options().write(true).open(segment(&copy)).unwrap().set_len(1 << 20).unwrap();
    let refused = tapgate().args(["backup", "--to"]).arg(folder.path().join("bad")).arg("--data").arg(&copy).output();
    assert!(text_of(&refused.unwrap()).contains("newest part is missing"));
    assert!(!folder.path().join("bad").exists());
}

#[test]
fn asking_makes_no_folder_and_making_one_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("dta");
    for words in [&["list"][..], &["revoke", "1"]] {
        let refused = key(&data, words);
        assert_eq!(refused.status.code(), Some(3));
        assert!(text_of(&refused).contains("no data folder"), "{}", text_of(&refused));
        assert!(!data.exists(), "{words:?}");
    }
    let nowhere = key(&data, &["create", "--role", "STAFF"]);
    assert!(text_of(&nowhere).contains("a festival is needed: --festival"), "{}", text_of(&nowhere));
    assert!(!data.exists());
    let made = key(&data, &["create", "--role", "ADMIN"]);
    assert!(made.status.success() && text_of(&made).contains("a new one was made"), "{}", text_of(&made));
    let second = key(&data, &["create", "--role", "ADMIN"]);
    assert!(second.status.success() && !text_of(&second).contains("new one"), "{}", text_of(&second));
}

#[test]
fn the_folder_is_its_owners_only() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    served(&data, 1);
    fn wide(path: &Path, found: &mut Vec<PathBuf>) {
        if fs::symlink_metadata(path).unwrap().permissions().mode() & 0o077 != 0 {
            found.push(path.to_owned());
        }
        if path.is_dir() {
            fs::read_dir(path).unwrap().for_each(|entry| wide(&entry.unwrap().path(), found));
        }
    }
    let look = || {
        let mut found = Vec::new();
        wide(&data, &mut found);
        found
    };
    assert_eq!(look(), Vec::<PathBuf>::new());
    for (path, mode) in [("", 0o755), ("journal", 0o755), ("journal/0000000001.log", 0o644), ("qr.secret", 0o644)] {
        fs::set_permissions(data.join(path), Permissions::from_mode(mode)).unwrap();
    }
    served(&data, 1);
    assert_eq!(look(), Vec::<PathBuf>::new());
}

#[test]
fn an_orderly_stop_is_no_alarm() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let log = folder.path().join("log");
    let mut server = Running::of(serve(&data, &[]).stderr(Stdio::from(File::create(&log).unwrap())));
    // Somebody who does not hang up: the doors wait, and the node with them.
    let _open = server.get("/api/v1/festivals", "tgk_nobody");
    rustix::process::kill_process(rustix::process::Pid::from_child(&server.child), Signal::TERM).unwrap();
    assert!(server.child.wait().unwrap().success());
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("stopped") && !said.contains("NOTHING CAN BE RECORDED"), "{said}");
}

#[test]
fn it_says_its_name() {
    for flag in ["--version", "--help"] {
        let output = tapgate().arg(flag).output().unwrap();
        assert!(output.status.success() && text_of(&output).contains("tapgate"), "{}", text_of(&output));
        assert!(!text_of(&output).contains("gateway"), "{}", text_of(&output));
    }
}
