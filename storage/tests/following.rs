//! Whoever follows a living journal stands in nobody's way.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::model::ids::ShardId;
use storage::journal::{
    Cursor, Journal, Position, Reader, Records, Sink,
    file::{FileJournal, Options},
    log::LogOptions,
};
use storage::testing::faults::FaultDisk;

const PATIENCE: Duration = Duration::from_secs(20);

/// Tells of each durable record.
struct Told(Mutex<mpsc::Sender<()>>);

impl Sink for Told {
    fn durable(&self, _: ShardId, count: usize, _: Position, _: &mut Vec<Vec<u8>>) {
        let told = self.0.lock().unwrap();
        (0..count).for_each(|_| told.send(()).unwrap());
    }
    fn failed(&self, _: &str) {}
    fn lost(&self, _: ShardId, _: &str) {}
}

fn next(reader: &mut dyn Reader) -> Option<Vec<u8>> {
    reader.next().expect("holds").map(|entry| entry.payload.to_vec())
}

/// The disk is off, so what a follower still gets can come from memory only. Read from the disk it would have stood in
/// the way of the next durable write.
#[test]
fn what_has_just_been_written_is_not_read_back_from_the_disk() {
    let disk = FaultDisk::new();
    let log =
        LogOptions { shards: 1, segment_bytes: 64 << 10, group_bytes_max: 8 << 10, create: true, accept_loss: None };
    let (tell, told) = mpsc::channel();
    let journal = FileJournal::open_on(disk.clone(), Options { log, ..Options::default() }).unwrap();
    let journal = journal.start(Arc::new(Told(Mutex::new(tell)))).unwrap();
    let append = |payload: &[u8]| journal.append(ShardId(0), payload.to_vec()).expect("it has room");
    let mut reader = journal.reader(&Cursor::start(1)).unwrap();

    append(b"first");
    told.recv_timeout(PATIENCE).expect("durable");
    assert_eq!(next(&mut *reader), Some(b"first".to_vec()));
    append(b"second");
    told.recv_timeout(PATIENCE).expect("durable");
    drop(disk.killed()); // from here on this one only fails
    assert_eq!(next(&mut *reader), Some(b"second".to_vec()));
    assert_eq!(next(&mut *reader), None);
}
