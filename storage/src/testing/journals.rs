//! What every journal promises, as one suite. Each implementation brings a [`Subject`] and passes the same cases; a
//! fault that a subject cannot play is named where it is declined.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use engine::model::ids::ShardId;

use crate::journal::{Cursor, Entry, Journal, JournalError, Position, Reason, Sink};

/// A journal to put to the test. Opening it again finds what was durable.
pub trait Subject {
    /// Opens it with room for `records` in the queue.
    ///
    /// # Errors
    /// The journal's own.
    fn open(&mut self, shards: u16, records: usize, sink: Arc<dyn Sink>) -> Result<Box<dyn Journal>, JournalError>;
    /// From now on the disk is full. `false`: it has none.
    fn fill(&mut self) -> bool;
    /// The next flush fails, then the disk is well again. `false`: it cannot.
    fn fail_flush(&mut self) -> bool;
    /// The faults are over: the next opening finds a working disk.
    fn mend(&mut self);
    /// The machine dies in the middle of a write, after the journal was closed. `false`: it has no tail to tear.
    fn tear(&mut self, seed: u64) -> bool;
}

/// How many shards each journal has.
pub const SHARDS: u16 = 4;
const PLENTY: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(20);

/// A sink that notes what it hears, and can be made to hold the journal up.
#[derive(Default)]
struct Book {
    pages: Mutex<Pages>,
    bell: Condvar,
}

#[derive(Default)]
struct Pages {
    count: [usize; SHARDS as usize],
    last: [Option<Position>; SHARDS as usize],
    failed: Option<String>,
    after_failure: bool,
    held: bool,
}

impl Book {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().expect("no test panics under this lock")
    }

    fn hold(&self, held: bool) {
        self.pages().held = held;
        self.bell.notify_all();
    }

    fn wait(&self, what: &str, until: impl Fn(&Pages) -> bool) {
        let started = Instant::now();
        let mut pages = self.pages();
        while !until(&pages) {
            assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
            pages = self.bell.wait_timeout(pages, Duration::from_millis(100)).expect("no panic").0;
        }
    }

    fn wait_for(&self, count: usize) {
        self.wait("records to become durable", |pages| pages.count.iter().sum::<usize>() == count);
    }
}

impl Sink for Book {
    fn durable(&self, shard: ShardId, count: usize, last: Position, buffers: &mut Vec<Vec<u8>>) {
        let mut pages = self.pages();
        let index = usize::from(shard.0);
        assert_eq!(buffers.len(), count);
        assert!(buffers.drain(..).all(|buffer| buffer.is_empty()));
        assert!(pages.last[index] < Some(last), "positions rise");
        pages.count[index] += count;
        pages.last[index] = Some(last);
        pages.after_failure |= pages.failed.is_some();
        self.bell.notify_all();
        while pages.held {
            pages = self.bell.wait(pages).expect("no panic");
        }
    }

    fn failed(&self, why: &str) {
        let mut pages = self.pages();
        assert!(pages.failed.is_none(), "told once");
        pages.failed = Some(why.to_owned());
        self.bell.notify_all();
    }

    fn lost(&self, shard: ShardId, why: &str) {
        panic!("nobody takes {shard:?} away: {why}");
    }
}

fn record(number: usize) -> (ShardId, Vec<u8>) {
    let mut bytes = format!("record {number} ").into_bytes();
    bytes.resize(bytes.len() + number * 37 % 900, number as u8);
    (ShardId((number * 7 % usize::from(SHARDS)) as u16), bytes)
}

fn append(journal: &dyn Journal, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let (shard, bytes) = record(number);
        journal.append(shard, bytes).expect("there is room");
    }
}

/// What is still to come of each shard, in order.
struct Expected(Vec<VecDeque<usize>>);

impl Expected {
    fn of(numbers: impl IntoIterator<Item = usize>) -> Self {
        let mut of_shards = vec![VecDeque::new(); usize::from(SHARDS)];
        for number in numbers {
            of_shards[usize::from(record(number).0.0)].push_back(number);
        }
        Self(of_shards)
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(VecDeque::is_empty)
    }

    /// The next record of its shard has come; says which it was.
    fn has_come(&mut self, entry: &Entry<'_>) -> usize {
        let number = self.0[usize::from(entry.shard.0)].pop_front().expect("no record is more than was expected");
        assert_eq!((entry.shard, entry.payload.to_vec()), record(number));
        number
    }
}

/// Reads on until there is nothing more: of each shard exactly what is expected, in order.
fn read(journal: &dyn Journal, from: &Cursor, expected: impl IntoIterator<Item = usize>) {
    let (mut reader, mut expected) = (journal.reader(from).expect("opens"), Expected::of(expected));
    while let Some(entry) = reader.next().expect("holds") {
        expected.has_come(&entry);
    }
    assert!(expected.is_empty(), "missing: {:?}", expected.0);
    let mut at = from.clone();
    reader.passed(&mut at);
    assert!(at.covers(from) && at.covers(&journal.end()), "it is where the journal ends");
}

fn order(subject: &mut dyn Subject) {
    let book = Book::new();
    let journal = subject.open(SHARDS, PLENTY, book.clone()).expect("opens");
    assert_eq!((journal.shards(), journal.end()), (SHARDS, Cursor::start(SHARDS)));
    append(&*journal, 0..500);
    book.wait_for(500);
    read(&*journal, &Cursor::start(SHARDS), 0..500);
    for shard in 0..SHARDS {
        assert!(journal.end().get(ShardId(shard)) > book.pages().last[usize::from(shard)].expect("some each"));
    }
    journal.close().expect("closes");
    journal.close().expect("closes twice");
    let refused = journal.append(ShardId(0), b"late".to_vec()).expect_err("closed");
    assert_eq!((refused.reason, refused.record.as_slice()), (Reason::Failed, b"late".as_slice()));
    assert_eq!(journal.failure(), None);
}

pub(crate) fn close_flushes_what_is_queued(subject: &mut dyn Subject) {
    let book = Book::new();
    let journal = subject.open(SHARDS, PLENTY, book.clone()).expect("opens");
    append(&*journal, 0..300);
    journal.close().expect("closes");
    assert_eq!(book.pages().count.iter().sum::<usize>(), 300);
    drop(journal);
    let journal = subject.open(SHARDS, PLENTY, Book::new()).expect("opens again");
    append(&*journal, 300..310);
    journal.close().expect("closes");
    read(&*journal, &Cursor::start(SHARDS), 0..310);
}

fn replay_from_any_position(subject: &mut dyn Subject) {
    let book = Book::new();
    let journal = subject.open(SHARDS, PLENTY, book.clone()).expect("opens");
    append(&*journal, 0..200);
    book.wait_for(200);
    let mut in_reading_order = Vec::new();
    let (mut reader, mut expected) = (journal.reader(&Cursor::start(SHARDS)).expect("opens"), Expected::of(0..200));
    while let Some(entry) = reader.next().expect("holds") {
        in_reading_order.push((entry.shard, entry.position, expected.has_come(&entry)));
    }
    let mut cursor = Cursor::start(SHARDS);
    for count in 0..=200 {
        assert_eq!(journal.records_between(&Cursor::start(SHARDS), &cursor), count as u64);
        // One cursor that is even, one in which every other shard still stands at the beginning.
        let (_, to_come) = in_reading_order.split_at(count);
        read(&*journal, &cursor, to_come.iter().map(|(.., number)| *number));
        let mut uneven = Cursor::start(SHARDS);
        uneven.advance(ShardId(1), cursor.get(ShardId(1)));
        let came =
            |number: &usize| record(*number).0 == ShardId(1) && to_come.iter().all(|(.., later)| later != number);
        read(&*journal, &uneven, (0..200).filter(|number| !came(number)));
        if let Some((shard, position, _)) = to_come.first() {
            cursor.advance(*shard, position.next());
        }
    }
    read(&*journal, &journal.end(), 0..0);
    let mut beyond = journal.end();
    beyond.advance(ShardId(0), Position(beyond.get(ShardId(0)).0 + 1));
    assert!(matches!(journal.reader(&beyond).err(), Some(JournalError::BeyondEnd { .. })));
    journal.close().expect("closes");
}

fn tail_a_living_journal(subject: &mut dyn Subject) {
    let book = Book::new();
    let journal = subject.open(SHARDS, PLENTY, book.clone()).expect("opens");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut reader = journal.reader(&Cursor::start(SHARDS)).expect("opens");
                let mut expected = Expected::of(0..2_000);
                let started = Instant::now();
                while !expected.is_empty() {
                    match reader.next().expect("holds") {
                        Some(entry) => {
                            expected.has_come(&entry);
                        }
                        None => {
                            assert!(started.elapsed() < PATIENCE, "stuck before {:?}", expected.0);
                            std::thread::sleep(Duration::from_micros(200));
                        }
                    }
                }
            });
        }
        for part in 0..20 {
            append(&*journal, part * 100..(part + 1) * 100);
            book.wait_for((part + 1) * 100);
        }
    });
    journal.close().expect("closes");
}

fn bounded_queue(subject: &mut dyn Subject) {
    let book = Book::new();
    let journal = subject.open(SHARDS, 8, book.clone()).expect("opens");
    book.hold(true);
    append(&*journal, 0..1);
    book.wait_for(1);
    append(&*journal, 1..9);
    let refused = journal.append(ShardId(1), vec![1, 2, 3]).expect_err("full");
    assert_eq!((refused.reason, refused.record), (Reason::Full, vec![1, 2, 3]));
    book.hold(false);
    book.wait_for(9);
    append(&*journal, 9..12);
    journal.close().expect("closes");
    read(&*journal, &Cursor::start(SHARDS), 0..12);
}

fn wrong_shard_count(subject: &mut dyn Subject) {
    subject.open(SHARDS, PLENTY, Book::new()).expect("opens").close().expect("closes");
    let error = subject.open(SHARDS - 1, PLENTY, Book::new()).err();
    assert!(matches!(error, Some(JournalError::WrongShards { found: SHARDS, asked: 3 })), "{error:?}");
    let journal = subject.open(SHARDS, PLENTY, Book::new()).expect("opens");
    let error = journal.reader(&Cursor::start(SHARDS + 1)).err();
    assert!(matches!(error, Some(JournalError::WrongShards { found: SHARDS, asked: 5 })), "{error:?}");
}

fn refusal_after_a_failed_flush(subject: &mut dyn Subject) {
    let book = Book::new();
    let journal = subject.open(SHARDS, PLENTY, book.clone()).expect("opens");
    append(&*journal, 0..10);
    book.wait_for(10);
    if !subject.fail_flush() {
        return;
    }
    fails_for_good(&*journal, &book, 10);
    drop(journal);
    subject.mend();
    begins_with(subject, 10);
}

fn full_disk(subject: &mut dyn Subject) {
    let book = Book::new();
    let journal = subject.open(SHARDS, PLENTY, book.clone()).expect("opens");
    append(&*journal, 0..10);
    book.wait_for(10);
    if !subject.fill() {
        return;
    }
    // What is reserved may still be filled; some time there is no more.
    let mut next = 10;
    while journal.failure().is_none() {
        let (shard, bytes) = record(next);
        if journal.append(shard, bytes).is_err() {
            break;
        }
        next += 1;
        book.wait("an answer", |pages| pages.failed.is_some() || pages.count.iter().sum::<usize>() == next);
        assert!(next < 20_000, "a full disk goes on for ever");
    }
    let acknowledged = book.pages().count.iter().sum::<usize>();
    fails_for_good(&*journal, &book, acknowledged);
    drop(journal);
    subject.mend();
    begins_with(subject, acknowledged);
}

/// Nothing is acknowledged any more, whatever is tried.
fn fails_for_good(journal: &dyn Journal, book: &Book, acknowledged: usize) {
    let _ = journal.append(ShardId(0), b"unlucky".to_vec());
    book.wait("the failure", |pages| pages.failed.is_some());
    let refused = journal.append(ShardId(0), b"later".to_vec()).expect_err("failed");
    assert_eq!((refused.reason, refused.record.as_slice()), (Reason::Failed, b"later".as_slice()));
    assert_eq!(journal.failure(), book.pages().failed);
    assert!(matches!(journal.close(), Err(JournalError::Failed(_))));
    assert_eq!(book.pages().count.iter().sum::<usize>(), acknowledged);
    assert!(!book.pages().after_failure);
    // What was durable can still be read.
    read_first(journal, acknowledged);
}

/// After recovery, all that was acknowledged is there, in order; what was not may be.
fn begins_with(subject: &mut dyn Subject, acknowledged: usize) {
    let journal = subject.open(SHARDS, PLENTY, Book::new()).expect("recovers");
    read_first(&*journal, acknowledged);
    journal.close().expect("closes");
}

fn read_first(journal: &dyn Journal, count: usize) {
    let (mut reader, mut expected) = (journal.reader(&Cursor::start(SHARDS)).expect("opens"), Expected::of(0..count));
    while !expected.is_empty() {
        let entry = reader.next().expect("holds").unwrap_or_else(|| panic!("missing: {:?}", expected.0));
        // What was not acknowledged may be there too.
        if !expected.0[usize::from(entry.shard.0)].is_empty() {
            expected.has_come(&entry);
        }
    }
}

fn torn_tail(subject: &mut dyn Subject) {
    let mut next = 0;
    for seed in 0..20 {
        let book = Book::new();
        let journal = subject.open(SHARDS, PLENTY, book.clone()).expect("recovers");
        read(&*journal, &Cursor::start(SHARDS), 0..next);
        append(&*journal, next..next + 30);
        next += 30;
        book.wait_for(30);
        journal.close().expect("closes");
        drop(journal);
        if !subject.tear(seed) {
            return;
        }
    }
}

/// All cases, each on a fresh subject.
///
/// # Panics
/// If the journal breaks a promise.
pub fn suite<S: Subject>(mut fresh: impl FnMut() -> S) {
    type Case = fn(&mut dyn Subject);
    let cases: [(&str, Case); 9] = [
        ("order", order),
        ("close flushes what is queued", close_flushes_what_is_queued),
        ("replay from any position", replay_from_any_position),
        ("tail a living journal", tail_a_living_journal),
        ("bounded queue", bounded_queue),
        ("wrong shard count", wrong_shard_count),
        ("refusal after a failed flush", refusal_after_a_failed_flush),
        ("full disk", full_disk),
        ("torn tail", torn_tail),
    ];
    for (name, case) in cases {
        // Seen when a case fails: the harness shows what a failed test wrote.
        eprintln!("case: {name}");
        case(&mut fresh());
    }
}
