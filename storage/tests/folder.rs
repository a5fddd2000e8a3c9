//! What can be wrong with a folder, each with an error of its own that somebody on call can act on.

mod common;

use std::{
    fs,
    process::Command,
    sync::{Arc, mpsc},
    time::Duration,
};

use common::{OPTIONS, build, name};
use engine::model::ids::ShardId;
use storage::journal::{
    Cursor, Journal, JournalError, Position, Records, Sink,
    bench::bench_disk,
    disk::{Disk, FolderDisk},
    file::{FileJournal, Options},
    log::LogOptions,
    offline::{Offline, read_only},
    recover::recover,
};
use storage::testing::faults::{FaultDisk, Faults};

const SMALL: Options = Options {
    log: LogOptions { shards: 4, segment_bytes: 64 << 10, group_bytes_max: 16 << 10, create: true, accept_loss: None },
    queue_bytes_max: 1 << 20,
    queue_records_max: 1024,
    spin_us: 0,
    quick_us: 1_000,
    compress: true,
};

struct Told(mpsc::SyncSender<usize>);

impl Sink for Told {
    fn durable(&self, _shard: ShardId, count: usize, _last: Position, _buffers: &mut Vec<Vec<u8>>) {
        self.0.send(count).expect("the test listens");
    }

    fn failed(&self, why: &str) {
        panic!("{why}");
    }

    fn lost(&self, _: ShardId, why: &str) {
        panic!("{why}");
    }
}

#[test]
fn a_night_in_a_real_folder() {
    let dir = tempfile::tempdir().expect("temp dir");
    for night in 0..3_usize {
        let opened = FileJournal::open(dir.path(), SMALL).expect("opens");
        assert_eq!(opened.end(), Cursor::of([Position(night as u64 * 400); 4]));
        assert_eq!(opened.recovery().torn, None);
        let (tell, told) = mpsc::sync_channel(1024);
        let journal = opened.start(Arc::new(Told(tell))).expect("starts");
        for number in 0..400_usize {
            let record = vec![number as u8; 900];
            journal.append(ShardId(number as u16 % 4), record).expect("there is room");
            if number % 8 == 7 {
                let mut durable = 0;
                while durable < 8 {
                    durable += told.recv_timeout(Duration::from_secs(10)).expect("becomes durable");
                }
            }
        }
        journal.close().expect("closes");
        let mut reader = journal.reader(&Cursor::of([Position(100); 4])).expect("opens");
        let mut count = 100;
        while let Some(entry) = reader.next().expect("holds") {
            assert_eq!((entry.position.0, entry.payload[0]), (count, (count % 400) as u8));
            count += 1;
        }
        assert_eq!(count, (night as u64 + 1) * 400);
    }
    let mut offline = read_only(dir.path()).expect("opens");
    let mut count = 0;
    while offline.next().expect("holds").is_some() {
        count += 1;
    }
    assert_eq!((count, offline.shards(), offline.ends_at()), (1200, Some(4), Some(1200)));
}

#[test]
fn a_missing_or_empty_folder() {
    let dir = tempfile::tempdir().expect("temp dir");
    let missing = dir.path().join("unmounted");
    assert!(matches!(FileJournal::open(&missing, SMALL).err(), Some(JournalError::Missing { .. })));
    assert!(matches!(read_only(dir.path()).err(), Some(JournalError::Empty)));
    let mut options = SMALL;
    options.log.create = false;
    assert!(matches!(FileJournal::open(dir.path(), options).err(), Some(JournalError::Empty)));
}

#[test]
fn another_process_is_kept_out() {
    const FOLDER: &str = "TAPGATE_TEST_FOLDER";
    if let Ok(folder) = std::env::var(FOLDER) {
        // This is the other process.
        let error = FileJournal::open(folder.as_ref(), SMALL).err().expect("locked");
        let JournalError::Locked { by } = error else { panic!("{error}") };
        assert_eq!(by, std::os::unix::process::parent_id().to_string());
        return;
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let _opened = FileJournal::open(dir.path(), SMALL).expect("opens");
    assert!(matches!(FileJournal::open(dir.path(), SMALL).err(), Some(JournalError::Locked { .. })));
    let other = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "another_process_is_kept_out"])
        .env(FOLDER, dir.path())
        .output()
        .expect("runs");
    assert!(other.status.success(), "{}", String::from_utf8_lossy(&other.stdout));
    read_only(dir.path()).expect("audit may look all the same");
}

#[test]
fn a_read_only_disk() {
    let (disk, _) = build(8 << 10, 1);
    disk.set(Faults { read_only: true, ..Faults::default() });
    assert!(matches!(recover(Arc::new(disk.clone()), OPTIONS).err(), Some(JournalError::ReadOnly { .. })));
    assert_eq!(common::read_all(&disk).1.map(|error| error.to_string()), None, "it can still be read");
}

/// A log whose last segment says that it has this format version.
fn of_version(version: u32) -> FaultDisk {
    let (disk, placed) = build(8 << 10, 1);
    let segment = placed.last().expect("some").segment;
    let mut bytes = disk.contents(&name(segment)).expect("there");
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    bytes[12..16].fill(0);
    let crc = crc32c::crc32c(&bytes[..4096]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    disk.put(&name(segment), bytes);
    disk
}

#[test]
fn a_newer_version() {
    let error = recover(Arc::new(of_version(9)), OPTIONS).err();
    assert!(matches!(error, Some(JournalError::NewerVersion { found: 9, known: 2, .. })), "{error:?}");
}

/// Version 1 was written before the format was finished: neither served nor audited, and not touched.
#[test]
fn a_version_from_before_the_first_that_is_read_for_ever() {
    let disk = of_version(1);
    let before = disk.operations();
    let error = recover(Arc::new(disk.clone()), OPTIONS).err().expect("refused");
    assert!(matches!(error, JournalError::OlderVersion { found: 1, oldest: 2, .. }), "{error:?}");
    assert!(error.to_string().starts_with("journal_too_old: "), "{error}");
    assert_eq!(disk.operations(), before, "nothing was written");
    let error = Offline::on(Arc::new(disk)).err().expect("refused too");
    assert!(error.to_string().starts_with("journal_too_old: "), "{error}");
}

#[test]
fn a_missing_segment() {
    let (disk, placed) = build(60 << 10, 1);
    let last = placed.last().expect("some").segment;
    for missing in 2..last {
        let holed = disk.killed();
        holed.remove(&name(missing)).expect("removed");
        let error = recover(Arc::new(holed), OPTIONS).err();
        assert!(
            matches!(&error, Some(JournalError::Damaged { file, .. }) if *file == name(missing)),
            "{missing}: {error:?}"
        );
    }
}

#[test]
fn the_disk_is_measured_through_the_same_path() {
    let dir = tempfile::tempdir().expect("temp dir");
    let report = bench_disk(dir.path(), 0.15).expect("measures");
    assert_eq!(report.rows.iter().map(|row| row.bytes).collect::<Vec<_>>(), [4 << 10, 64 << 10, 1 << 20]);
    assert!(report.rows.iter().all(|row| row.writes > 0 && row.p50_us <= row.p99_us && row.p99_us <= row.max_us));
    assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 0, "it leaves nothing behind");
    drop(FolderDisk::lock(dir.path()).expect("free"));
}
