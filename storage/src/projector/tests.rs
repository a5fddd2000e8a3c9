use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::model::ids::{ShardId, TicketId, TransactionId};

use super::*;
use crate::follower::{Following, Portion};
use crate::journal::{Cursor, Records};
use crate::testing::memory::{MemoryJournal, MemoryLog};
use crate::testing::night::{Night, Nobody, SHARDS};
use crate::testing::views::Subject;
use crate::views::cashless::{
    CashlessPosition, CashlessViews, OrderRow, ProductPosition, ProductRow, SalesPosition, SalesRow, Statement,
    TransactionRow, Transactions, VendorSpan,
};
use crate::views::contract::Embedded;
use crate::views::embedded::{self, EmbeddedViews};
use crate::views::fold::Batch;
use crate::views::gates::{
    AccessEntry, AccessLog, CountPosition, CountRow, Counts, GateViews, LogPosition, TicketRow, Tickets,
};
use crate::views::{Check, Followed, Page};

const QUICK: Pace = Pace {
    follow: follower::Pace { pause_ms: 1, flush_ms: 5, retry_ms: 1, retry_ms_max: 4 },
    check_ms: 20,
    sample_ms: 1,
};

fn file(path: &Path) -> Open {
    let path = path.to_owned();
    Box::new(move |begin| {
        if begin == Begin::Anew {
            std::fs::remove_file(&path).expect("it is there");
        }
        Ok(Arc::new(EmbeddedViews::open(&path)?))
    })
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let began = Instant::now();
    while !reached() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn keeps_up(projector: &Projector, night: &mut Night) {
    until("it keeps up", || projector.status().lag_records == 0 && projector.views().is_some());
    night.check(&*projector.views().expect("open"));
}

#[test]
fn it_follows_stops_and_goes_on_where_it_was() {
    let (folder, mut night) = (tempfile::tempdir().unwrap(), Night::new(1));
    let path = folder.path().join("views.redb");
    for _ in 0..3 {
        (0..10).for_each(|_| night.act());
        let projector = Projector::start(Arc::clone(&night.journal) as _, file(&path), QUICK).unwrap();
        (0..10).for_each(|_| night.act());
        keeps_up(&projector, &mut night);
        assert!(projector.status().caught_up);
        let cursor = projector.views().unwrap().followed().unwrap();
        projector.stop();
        drop(projector);
        assert_eq!(EmbeddedViews::open(&path).unwrap().followed().unwrap(), cursor, "a clean stop loses nothing");
    }
}

#[test]
fn a_file_that_was_deleted_is_built_again_from_zero() {
    let (folder, mut night) = (tempfile::tempdir().unwrap(), Night::new(2));
    let path = folder.path().join("views.redb");
    let tables = |night: &mut Night| {
        let projector = Projector::start(Arc::clone(&night.journal) as _, file(&path), QUICK).unwrap();
        keeps_up(&projector, night);
        drop(projector);
        EmbeddedViews::open(&path).unwrap().dump().unwrap()
    };
    (0..30).for_each(|_| night.act());
    let before = tables(&mut night);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(tables(&mut night), before);
}

#[test]
fn a_file_of_another_format_is_built_again_from_zero() {
    // Format 7 had a table of this name with these keys.
    for format in [7, embedded::FORMAT - 1, embedded::FORMAT + 1] {
        let (folder, mut night) = (tempfile::tempdir().unwrap(), Night::new(3));
        let path = folder.path().join("views.redb");
        {
            let db = redb::Database::create(&path).unwrap();
            let txn = db.begin_write().unwrap();
            let about: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("about");
            txn.open_table(about).unwrap().insert("format", format.to_le_bytes().as_slice()).unwrap();
            let transactions: redb::TableDefinition<'_, (u32, u8, i64, u16, u64), &[u8]> =
                redb::TableDefinition::new("transactions");
            txn.open_table(transactions).unwrap().insert((1, 2, 3, 4, 5), b"as it was".as_slice()).unwrap();
            txn.commit().unwrap();
        }
        (0..30).for_each(|_| night.act());
        let projector = Projector::start(Arc::clone(&night.journal) as _, file(&path), QUICK).unwrap();
        keeps_up(&projector, &mut night);
    }
}

/// Every page is flipped somewhere, one after the other, while nobody has the file open: whatever was hit, what is served
/// afterwards is what the journal says.
#[test]
fn a_flipped_bit_is_found_on_opening_and_built_anew() {
    let (folder, mut night) = (tempfile::tempdir().unwrap(), Night::new(8));
    let path = folder.path().join("views.redb");
    (0..60).for_each(|_| night.act());
    let projector = Projector::start(Arc::clone(&night.journal) as _, file(&path), QUICK).unwrap();
    keeps_up(&projector, &mut night);
    drop(projector);
    let good = std::fs::read(&path).unwrap();
    let mut chance = crate::testing::faults::Chance(8);
    let mut rebuilt = 0;
    // Used pages only: what is zero holds nothing.
    let pages: Vec<usize> = (0..good.len() / 4_096).filter(|page| good[page * 4_096..][..64] != [0; 64]).collect();
    for page in pages.iter().step_by(1 + pages.len() / 24) {
        let mut bad = good.clone();
        bad[page * 4_096 + 4 + chance.below(200) as usize] ^= 1 << chance.below(8);
        std::fs::write(&path, &bad).unwrap();
        let projector = Projector::start(Arc::clone(&night.journal) as _, file(&path), QUICK).unwrap();
        keeps_up(&projector, &mut night);
        rebuilt += projector.status().rebuilt;
        assert_eq!(projector.status().fault, None);
    }
    assert!(rebuilt >= 5, "{rebuilt} of {} pages", pages.len());
}

/// The same while the file is open: found in the background.
#[test]
fn a_bit_that_flips_beside_the_store_is_found() {
    use std::os::unix::fs::FileExt as _;
    let (folder, mut night) = (tempfile::tempdir().unwrap(), Night::new(9));
    let path = folder.path().join("views.redb");
    (0..60).for_each(|_| night.act());
    let projector = Projector::start(Arc::clone(&night.journal) as _, file(&path), QUICK).unwrap();
    keeps_up(&projector, &mut night);
    let checked = std::fs::read(&path).unwrap();
    std::thread::sleep(Duration::from_millis(200)); // a handful of checks, which find nothing
    assert_eq!((projector.status().rebuilt, projector.status().fault), (0, None));
    let other = std::fs::File::options().write(true).open(&path).unwrap();
    let used = (1..checked.len() / 4_096).filter(|page| checked[page * 4_096..][..64] != [0; 64]);
    for page in used {
        let byte = page * 4_096 + 64;
        other.write_all_at(&[checked[byte] ^ 0x20], byte as u64).unwrap();
    }
    until("it is found", || projector.status().rebuilt > 0);
    keeps_up(&projector, &mut night);
}

/// A page that holds, with a row in it that nobody has written: what a bug, or a disk that writes elsewhere, leaves.
#[test]
fn a_sample_that_differs_is_built_anew() {
    let (folder, mut night) = (tempfile::tempdir().unwrap(), Night::new(10));
    let path = folder.path().join("views.redb");
    (0..60).for_each(|_| night.act());
    let projector = Projector::start(Arc::clone(&night.journal) as _, file(&path), QUICK).unwrap();
    keeps_up(&projector, &mut night);
    drop(projector);
    {
        let db = redb::Database::create(&path).unwrap();
        let txn = db.begin_write().unwrap();
        let log: redb::TableDefinition<'_, (u16, u64), &[u8]> = redb::TableDefinition::new("log");
        txn.open_table(log).unwrap().retain(|_, _| false).unwrap();
        txn.commit().unwrap();
    }
    let projector = Projector::start(Arc::clone(&night.journal) as _, file(&path), QUICK).unwrap();
    until("it is found", || projector.status().rebuilt == 1);
    keeps_up(&projector, &mut night);
}

/// The journal was put back from an older copy: the read models follow it from the beginning.
#[test]
fn read_models_ahead_of_their_journal_are_built_anew() {
    let (folder, mut night) = (tempfile::tempdir().unwrap(), Night::new(11));
    let path = folder.path().join("views.redb");
    (0..20).for_each(|_| night.act());
    let projector = Projector::start(Arc::clone(&night.journal) as _, file(&path), QUICK).unwrap();
    keeps_up(&projector, &mut night);
    drop(projector);
    let older: Arc<dyn Journal> = Arc::new(copy(&night, night.log.len() - 3));
    let projector = Projector::start(Arc::clone(&older), file(&path), QUICK).unwrap();
    until("it follows", || projector.status().rebuilt == 1 && projector.status().caught_up);
    let followed = projector.views().unwrap().followed().unwrap().unwrap();
    assert_eq!(followed.cursor, older.end());
}

/// The records of a night, in a journal of their own, up to `end`.
fn copy(night: &Night, end: usize) -> MemoryJournal {
    let log = MemoryLog::new(SHARDS);
    let journal = MemoryJournal::start(Arc::clone(&log), SHARDS, Arc::new(Nobody)).unwrap();
    let mut reader = night.journal.reader(&Cursor::start(SHARDS)).unwrap();
    for count in 1..=end {
        let entry = reader.next().unwrap().unwrap();
        journal.append(entry.shard, entry.payload.to_vec()).unwrap();
        until("it is durable", || log.len() == count);
    }
    journal
}

fn at_end(journal: &dyn Journal) -> Arc<dyn Views> {
    let views = Embedded::default().open();
    let mut following = Following::begin(journal, Folding::into(Arc::clone(&views))).unwrap();
    while !following.step(Portion { weight: 9, time: Duration::MAX }).unwrap().at_end {}
    views
}

#[test]
fn views_that_are_ahead_of_the_journal_say_rebuild() {
    let mut night = Night::new(4);
    (0..10).for_each(|_| night.act());
    let older = copy(&night, night.log.len() - 3);
    let why = Following::begin(&older, Folding::into(at_end(&*night.journal))).err().expect("refused");
    assert!(matches!(why, ViewsError::Ahead { .. }), "{why}");
    assert!(why.to_string().contains("rebuild"));
    // The older journal has gone on, otherwise than the lost one had, and is as long again.
    while !older.end().covers(&night.journal.end()) {
        let record = {
            let mut reader = night.journal.reader(&Cursor::start(SHARDS)).unwrap();
            reader.next().unwrap().unwrap().payload.to_vec()
        };
        let (before, end) = (older.end(), night.journal.end());
        let shard = (0..SHARDS).map(ShardId).find(|shard| before.get(*shard) < end.get(*shard)).unwrap();
        older.append(shard, record).unwrap();
        until("it is durable", || older.end() != before);
    }
    let why = Following::begin(&older, Folding::into(at_end(&*night.journal))).err().expect("refused");
    assert!(matches!(why, ViewsError::OtherJournal { .. }), "{why}");
    assert!(why.to_string().contains("rebuild"));
    // And the same journal, copied, is the same journal.
    assert!(Following::begin(&copy(&night, night.log.len()), Folding::into(at_end(&*night.journal))).is_ok());
}

#[test]
fn an_idle_shard_is_not_looked_at_again() {
    let night = Night::new(5);
    let cursor = at_end(&*night.journal).followed().unwrap().unwrap().cursor;
    assert_eq!(cursor, night.journal.end());
}

/// A store whose disk is sometimes full, and that sometimes panics.
struct Moody {
    views: Arc<dyn Views>,
    mood: Arc<AtomicU32>,
}

const FULL: u32 = 1;
const PANICS: u32 = 2;

impl Views for Moody {
    fn followed(&self) -> Result<Option<Followed>, ViewsError> {
        self.views.followed()
    }
    fn write(&self, batch: &Batch) -> Result<(), ViewsError> {
        match self.mood.load(Ordering::SeqCst) {
            FULL => Err(ViewsError::DiskFull),
            PANICS => panic!("a bug in the store"),
            _ => self.views.write(batch),
        }
    }
    fn flush(&self) -> Result<(), ViewsError> {
        self.views.flush()
    }
    fn check(&self) -> Result<Option<Check>, ViewsError> {
        self.views.check()
    }
}

impl GateViews for Moody {
    fn access_log(&self, of: AccessLog, page: Page<LogPosition>) -> Result<Vec<AccessEntry>, ViewsError> {
        self.views.access_log(of, page)
    }
    fn tickets(&self, of: Tickets, page: Page<TicketId>) -> Result<Vec<TicketRow>, ViewsError> {
        self.views.tickets(of, page)
    }
    fn counts(&self, of: Counts, page: Page<CountPosition>) -> Result<Vec<CountRow>, ViewsError> {
        self.views.counts(of, page)
    }
}

impl CashlessViews for Moody {
    fn transactions(&self, of: Transactions, page: Page<CashlessPosition>) -> Result<Vec<TransactionRow>, ViewsError> {
        self.views.transactions(of, page)
    }
    fn transaction(&self, id: TransactionId) -> Result<Option<TransactionRow>, ViewsError> {
        self.views.transaction(id)
    }
    fn orders(&self, of: VendorSpan, page: Page<CashlessPosition>) -> Result<Vec<OrderRow>, ViewsError> {
        self.views.orders(of, page)
    }
    fn sales(&self, of: VendorSpan, page: Page<SalesPosition>) -> Result<Vec<SalesRow>, ViewsError> {
        self.views.sales(of, page)
    }
    fn products_sold(&self, of: VendorSpan, page: Page<ProductPosition>) -> Result<Vec<ProductRow>, ViewsError> {
        self.views.products_sold(of, page)
    }
    fn statement(&self, of: VendorSpan) -> Result<Statement, ViewsError> {
        self.views.statement(of)
    }
}

#[test]
fn a_fault_or_a_panic_is_told_tried_again_and_forgotten() {
    let mut night = Night::new(6);
    let (subject, mood) = (Mutex::new(Embedded::default()), Arc::new(AtomicU32::new(0)));
    let open: Open = {
        let mood = Arc::clone(&mood);
        Box::new(move |_| Ok(Arc::new(Moody { views: subject.lock().unwrap().open(), mood: Arc::clone(&mood) })))
    };
    let projector = Projector::start(Arc::clone(&night.journal) as _, open, QUICK).unwrap();
    keeps_up(&projector, &mut night);
    for (trouble, words) in [(FULL, "disk is full"), (PANICS, "a bug in the store"), (FULL, "disk is full")] {
        mood.store(trouble, Ordering::SeqCst);
        // Until there is something to write, nobody notices.
        let records = night.log.len();
        while night.log.len() == records {
            night.act();
        }
        until("it says what is wrong", || projector.status().fault.is_some_and(|why| why.contains(words)));
        assert!(projector.status().lag_records > 0);
        mood.store(0, Ordering::SeqCst);
        until("it forgets", || projector.status().fault.is_none());
        keeps_up(&projector, &mut night);
    }
}

#[test]
fn a_store_that_does_not_open_keeps_nobody_from_stopping() {
    let night = Night::new(7);
    let open: Open = Box::new(|_| Err(ViewsError::InUse));
    let pace = Pace { follow: follower::Pace { retry_ms: 3_600_000, ..QUICK.follow }, ..QUICK };
    let projector = Projector::start(Arc::clone(&night.journal) as _, open, pace).unwrap();
    until("it says what is wrong", || projector.status().fault.is_some());
    assert!(projector.views().is_none() && !projector.status().caught_up);
    projector.stop();
    projector.stop();
}
