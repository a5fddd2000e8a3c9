//! The journals that are put to the test: the file journal on a faulty disk, in real folders of each kind, and the one in
//! memory.

use std::{
    collections::VecDeque,
    io::Write as _,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use engine::model::ids::ShardId;

use super::{
    Cursor, Journal, JournalError, Position, Reader, Records, Refused, Sink,
    disk::{Disk, FolderDisk, Way},
    file::{FileJournal, Options},
    format::GroupHeader,
    log::LogOptions,
    offline,
    recover::recover,
    scan::raw_name,
};
use crate::testing::{
    faults::{FaultDisk, Faults},
    journals::{SHARDS, Subject, close_flushes_what_is_queued, suite},
    memory::{MemoryJournal, MemoryLog},
};

/// Small segments, so that each case crosses several.
fn options(shards: u16, records: usize) -> Options {
    Options {
        log: LogOptions { shards, segment_bytes: 64 << 10, group_bytes_max: 16 << 10, create: true, accept_loss: None },
        queue_records_max: records,
        quick_us: u32::MAX, // however busy this machine is
        ..Options::default()
    }
}

/// The file journal over a disk that fails on command.
struct OnFaultyDisk(FaultDisk);

impl Subject for OnFaultyDisk {
    fn open(&mut self, shards: u16, records: usize, sink: Arc<dyn Sink>) -> Result<Box<dyn Journal>, JournalError> {
        Ok(Box::new(FileJournal::open_on(self.0.clone(), options(shards, records))?.start(sink)?))
    }

    fn fill(&mut self) -> bool {
        self.0.set(Faults { room: Some(0), ..Faults::default() });
        true
    }

    fn fail_flush(&mut self) -> bool {
        // The housekeeper may take the fault if it is still at work: let it finish first.
        let mut before = self.0.operations();
        loop {
            std::thread::sleep(Duration::from_millis(50));
            let now = self.0.operations();
            if now == before {
                break;
            }
            before = now;
        }
        self.0.set(Faults { eio_at: Some(before + 2), ..Faults::default() });
        true
    }

    fn mend(&mut self) {
        self.0 = self.0.killed();
    }

    fn tear(&mut self, seed: u64) -> bool {
        // A group of three records is under way when the power goes.
        let disk = Arc::new(self.0.clone());
        let (mut writer, _) = recover(Arc::clone(&disk), options(SHARDS, 1).log).expect("recovers");
        for index in 0..3 {
            writer.stage(ShardId(index), &[b'x'; 1500]).expect("fits");
        }
        if writer.must_roll() {
            return true; // this write would not be the one under way
        }
        disk.set(Faults { crash_at: Some(disk.operations() + 1), ..Faults::default() });
        writer.flush().expect_err("the power went");
        // Whole records of a torn write may survive, and this case counts on none: it takes the next seed that leaves none.
        let survivors = |seed: u64| {
            let after = Arc::new(self.0.restart(seed));
            let (again, _) = recover(after, options(SHARDS, 1).log).expect("recovers");
            again.end().lsn - writer.end().lsn
        };
        let seed = (seed * 100..).find(|seed| survivors(*seed) == 0).expect("most leave none");
        self.0 = self.0.restart(seed);
        true
    }
}

/// The same journal, whose records the caller's own thread writes wherever the journal lets it.
struct WritesHere<S>(S, Arc<WrittenHere>);

#[derive(Default)]
struct WrittenHere {
    records: AtomicUsize,
    /// After these the journal had failed.
    failed: AtomicUsize,
}

impl<S: Subject> Subject for WritesHere<S> {
    fn open(&mut self, shards: u16, records: usize, sink: Arc<dyn Sink>) -> Result<Box<dyn Journal>, JournalError> {
        let journal = self.0.open(shards, records, sink)?;
        // The case with a narrow queue holds the sink up, and would hold its own thread up.
        Ok(if records < 4_096 { journal } else { Box::new(Here(journal, Arc::clone(&self.1))) })
    }

    fn fill(&mut self) -> bool {
        self.0.fill()
    }

    fn fail_flush(&mut self) -> bool {
        self.0.fail_flush()
    }

    fn mend(&mut self) {
        self.0.mend();
    }

    fn tear(&mut self, seed: u64) -> bool {
        self.0.tear(seed)
    }
}

/// Counts what was written here.
struct Here(Box<dyn Journal>, Arc<WrittenHere>);

impl Records for Here {
    fn shards(&self) -> u16 {
        self.0.shards()
    }

    fn end(&self) -> Cursor {
        self.0.end()
    }

    fn reader(&self, from: &Cursor) -> Result<Box<dyn Reader>, JournalError> {
        self.0.reader(from)
    }

    fn records_between(&self, from: &Cursor, to: &Cursor) -> u64 {
        self.0.records_between(from, to)
    }
}

impl Journal for Here {
    fn append(&self, shard: ShardId, record: Vec<u8>) -> Result<(), Refused> {
        let mut records = VecDeque::from([(shard, record)]);
        if self.0.write_here(&mut records) {
            assert!(records.is_empty(), "they were taken");
            self.1.records.fetch_add(1, Ordering::Relaxed);
            self.1.failed.fetch_add(usize::from(self.0.failure().is_some()), Ordering::Relaxed);
            return Ok(());
        }
        let (shard, record) = records.pop_front().expect("it was not taken");
        self.0.append(shard, record)
    }

    fn write_here(&self, records: &mut VecDeque<(ShardId, Vec<u8>)>) -> bool {
        self.0.write_here(records)
    }

    fn failure(&self) -> Option<String> {
        self.0.failure()
    }

    fn close(&self) -> Result<(), JournalError> {
        self.0.close()
    }
}

/// The file journal in a real folder, whose disk does not fail. Writes by this way, or by the best there is.
struct InFolder(tempfile::TempDir, Option<Way>);

impl InFolder {
    fn disk(&self) -> Result<FolderDisk, JournalError> {
        let disk = FolderDisk::lock(self.0.path())?;
        Ok(match self.1 {
            Some(way) => disk.by(way),
            None => disk,
        })
    }
}

impl Subject for InFolder {
    fn open(&mut self, shards: u16, records: usize, sink: Arc<dyn Sink>) -> Result<Box<dyn Journal>, JournalError> {
        Ok(Box::new(FileJournal::open_on(self.disk()?, options(shards, records))?.start(sink)?))
    }

    fn fill(&mut self) -> bool {
        false
    }

    fn fail_flush(&mut self) -> bool {
        false
    }

    fn mend(&mut self) {}

    fn tear(&mut self, seed: u64) -> bool {
        // Half a group behind the end, as a write cut short would leave it: its header, and zeros from some byte on.
        let disk = Arc::new(self.disk().expect("free"));
        let (writer, recovery) = recover(Arc::clone(&disk), options(SHARDS, 1).log).expect("recovers");
        drop(writer);
        disk.release();
        let path = self.0.path().join(raw_name(recovery.end.segment));
        let mut bytes = std::fs::read(&path).expect("read");
        let header = GroupHeader {
            bytes: 3000,
            records: 2,
            first_lsn: recovery.end.lsn,
            zero_sectors: 0,
            chain: recovery.end.chain,
            incarnation: 1,
        };
        let at = recovery.end.offset as usize;
        if at + 4096 > bytes.len() {
            return true;
        }
        header.encode(&mut bytes[at..]);
        bytes[at + 64..at + 600 + seed as usize].fill(9);
        std::fs::write(&path, bytes).expect("written");
        true
    }
}

/// The memory journal. It has no disk to fill and no tail to tear.
struct InMemory(Arc<MemoryLog>);

impl Subject for InMemory {
    fn open(&mut self, shards: u16, records: usize, sink: Arc<dyn Sink>) -> Result<Box<dyn Journal>, JournalError> {
        Ok(Box::new(MemoryJournal::bounded(Arc::clone(&self.0), shards, 32 << 20, records, sink)?))
    }

    fn fill(&mut self) -> bool {
        false
    }

    fn fail_flush(&mut self) -> bool {
        self.0.fail(Some("told to"));
        true
    }

    fn mend(&mut self) {
        self.0.fail(None);
    }

    fn tear(&mut self, _seed: u64) -> bool {
        false
    }
}

#[test]
fn file_journal_on_a_faulty_disk() {
    suite(|| OnFaultyDisk(FaultDisk::new()));
}

/// Whichever thread writes, a disk that fails or is full ends the journal in the same way, and nothing is lost.
#[test]
fn whoever_writes_the_journal_keeps_its_promises() {
    let here = Arc::<WrittenHere>::default();
    suite(|| WritesHere(OnFaultyDisk(FaultDisk::new()), Arc::clone(&here)));
    let (written, failed) = (here.records.load(Ordering::Relaxed), here.failed.load(Ordering::Relaxed));
    assert!(written > 10, "{written} were written here");
    assert_eq!(
        failed, 1,
        "the flush that failed was this thread's; the disk is found full while the next segment is made"
    );
}

#[test]
fn shards_that_write_at_once_keep_each_its_order() {
    const EACH: u32 = 1_000;
    /// Counts what is durable, by shard.
    #[derive(Default)]
    struct Durable([AtomicUsize; SHARDS as usize]);
    impl Sink for Durable {
        fn durable(&self, shard: ShardId, count: usize, _: Position, _: &mut Vec<Vec<u8>>) {
            self.0[usize::from(shard.0)].fetch_add(count, Ordering::Release);
        }
        fn failed(&self, why: &str) {
            panic!("{why}");
        }
        fn lost(&self, _: ShardId, why: &str) {
            panic!("{why}");
        }
    }
    let durable = Arc::<Durable>::default();
    let journal = OnFaultyDisk(FaultDisk::direct()).open(SHARDS, 8_192, durable.clone()).expect("opens");
    let journal = Here(journal, Arc::default());
    std::thread::scope(|scope| {
        for shard in (0..SHARDS).map(ShardId) {
            let (journal, durable) = (&journal, &durable.0[usize::from(shard.0)]);
            scope.spawn(move || {
                for n in 0..EACH {
                    // As a shard has it: one record under way and one behind it.
                    while durable.load(Ordering::Acquire) + 1 < n as usize {
                        std::thread::yield_now();
                    }
                    let by: &dyn Journal = if n % 8 == 0 { &*journal.0 } else { journal };
                    by.append(shard, n.to_le_bytes().to_vec()).expect("there is room");
                }
            });
        }
    });
    journal.close().expect("closes");
    assert!(journal.1.records.load(Ordering::Relaxed) > 0, "both ways are taken");
    let mut next = [0_u32; SHARDS as usize];
    let mut reader = journal.reader(&Cursor::start(SHARDS)).expect("opens");
    while let Some(entry) = reader.next().expect("holds") {
        let next = &mut next[usize::from(entry.shard.0)];
        assert_eq!(entry.payload, next.to_le_bytes(), "{:?}", entry.shard);
        *next += 1;
    }
    assert_eq!(next, [EACH; SHARDS as usize]);
}

#[test]
fn file_journal_in_a_folder() {
    suite(|| InFolder(tempfile::tempdir().expect("temp dir"), None));
}

/// The ways that are taken where a file system knows no better one.
#[test]
fn file_journal_by_every_way() {
    for way in [Way::Dsync, Way::Flush] {
        suite(|| InFolder(tempfile::tempdir().expect("temp dir"), Some(way)));
    }
}

/// A file system that refuses direct access and cannot reserve room either.
struct Ramfs(tempfile::TempDir);

impl Ramfs {
    /// `None` where this process may not mount.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut mount = Command::new("mount");
        mount.args(["-t", "ramfs", "ramfs"]).arg(dir.path()).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(dir))
    }
}

impl Drop for Ramfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn file_journal_where_there_is_no_direct_access() {
    let Some(ramfs) = Ramfs::mount() else {
        // Past the harness, which keeps to itself what passing tests say.
        let _ = writeln!(std::io::stderr(), "SKIPPED no direct access: mounting a ramfs takes the right to mount");
        return;
    };
    let folder = || tempfile::tempdir_in(ramfs.0.path()).expect("temp dir");
    assert_eq!(FolderDisk::lock(folder().path()).expect("free").way(), Way::Dsync, "found out by trying");
    suite(|| InFolder(folder(), None));
    // An audit has not tried anything out when it opens the segments.
    let mut written = InFolder(folder(), None);
    close_flushes_what_is_queued(&mut written);
    let mut offline = offline::read_only(written.0.path()).expect("opens");
    let mut records = 0;
    while offline.next().expect("holds").is_some() {
        records += 1;
    }
    assert_eq!(records, 310);
    drop(written);
    let nothing = FolderDisk::read_only(ramfs.0.path()).expect("opens");
    assert!(nothing.list().expect("lists").is_empty(), "no probe is left behind");
}

#[test]
fn memory_journal() {
    suite(|| InMemory(MemoryLog::new(SHARDS)));
}
