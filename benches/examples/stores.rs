//! redb and fjall side by side under what the projector writes: the read models' pages, runs and sums, batch by batch, made
//! durable as often. What is written is taken from the read models themselves, before anything is timed.
//! `cargo run --release -p benches --example stores -- <folder> [events]`
#![allow(clippy::print_stdout)] // printing is its job

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use benches::streams::{Records, SHARDS, payments, scans};
use fjall::{KeyspaceCreateOptions, PersistMode};
use redb::{Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use storage::journal::{Entry, Position};
use storage::views::embedded::{CACHE_BYTES, EmbeddedViews};
use storage::views::fold::Batch;
use storage::views::{Followed, Views as _};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What a step of a shard comes to, and what comes in while the projector sleeps, at 32 x 1.
const PER_RECORD: usize = 2;
const PER_BATCH: u64 = 1_500;
/// How often what was written becomes durable, in batches: every two seconds.
const FLUSH_BATCHES: usize = 40;
const LOOKUPS: usize = 20_000;

/// Which of [`TABLES`], and the key in an order that bytes have too.
type Key = (usize, Vec<u8>);
/// What a batch puts in, and what it takes out.
type Writes = Vec<(Key, Option<Vec<u8>>)>;

const TABLES: [&str; 8] =
    ["log", "log_terms", "tickets", "counts", "transactions", "transaction_terms", "sales", "vendor_accounts"];
/// Those with pages.
const PAGES: [usize; 2] = [0, 4];

/// A store of keys and values in order.
trait Store: Sized {
    const NAME: &str;
    fn open(folder: &Path) -> Result<Self>;
    /// All of it or nothing, and to be read at once.
    fn write(&self, writes: &Writes) -> Result<()>;
    /// What was written survives the loss of power.
    fn flush(&self) -> Result<()>;
    /// The last entry up to this key, as a page is found by the number of a row.
    fn last(&self, key: &Key) -> Result<Option<Vec<u8>>>;
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("name a folder")?;
    let events: u64 = args.next().map_or(Ok(300_000), |events| events.parse())?;
    println!(
        "{:>9} {:>6} {:>8} {:>12} {:>12} {:>12} {:>14} {:>10} {:>9}",
        "", "", "events", "cpu us/event", "us/event", "B stored", "B written", "lookup us", "open ms"
    );
    for (what, (before, records)) in [("scans", scans(events, PER_RECORD)), ("payments", payments(events, PER_RECORD))]
    {
        let (first, batches) = writes(Path::new(&dir), &before, &records)?;
        // Each twice, taking turns.
        for _ in 0..2 {
            measure::<Redb>(Path::new(&dir), what, events, &first, &batches)?;
            measure::<Fjall>(Path::new(&dir), what, events, &first, &batches)?;
        }
    }
    Ok(())
}

fn measure<S: Store>(dir: &Path, what: &str, events: u64, first: &Writes, batches: &[Writes]) -> Result<()> {
    let folder = tempfile::tempdir_in(dir)?;
    let store = S::open(folder.path())?;
    store.write(first)?;
    store.flush()?;
    let stored_before = bytes_in(folder.path())?;
    let (busy, written, began) = (busy()?, written_bytes()?, Instant::now());
    for (batch, number) in batches.iter().zip(1..) {
        store.write(batch)?;
        if number % FLUSH_BATCHES == 0 {
            store.flush()?;
        }
    }
    store.flush()?;
    let (took, busy, written) = (began.elapsed(), self::busy()? - busy, written_bytes()? - written);
    let stored = bytes_in(folder.path())? - stored_before;
    drop(store);
    let began = Instant::now();
    let store = S::open(folder.path())?;
    let opening = began.elapsed();
    let keys: Vec<&Key> = batches.iter().flatten().map(|(key, _)| key).filter(|(of, _)| PAGES.contains(of)).collect();
    let began = Instant::now();
    for lookup in 0..LOOKUPS {
        let (of, key) = keys[lookup * 7_919 % keys.len()];
        // A row of that page, and not just its first.
        let key = (*of, [&key[..9], &[0xFF]].concat());
        store.last(&key)?.ok_or("a page is missing")?;
    }
    let lookup = began.elapsed().as_secs_f64() * 1e6 / LOOKUPS as f64;
    let each = |took: Duration| took.as_secs_f64() * 1e6 / events as f64;
    println!(
        "{what:>9} {:>6} {events:>8} {:>12.2} {:>12.2} {:>12.1} {:>14.1} {lookup:>10.2} {:>9.1}",
        S::NAME,
        each(busy),
        each(took),
        stored as f64 / events as f64,
        written as f64 / events as f64,
        opening.as_secs_f64() * 1e3,
    );
    Ok(())
}

/// What is there before, and what each batch writes: the read models write it, and their file is looked at after each.
fn writes(dir: &Path, before: &Records, records: &Records) -> Result<(Writes, Vec<Writes>)> {
    let folder = tempfile::tempdir_in(dir)?;
    let (path, copy) = (folder.path().join("views.redb"), folder.path().join("copy.redb"));
    let views = EmbeddedViews::open(&path)?;
    let mut state = BTreeMap::new();
    let mut look = |views: &EmbeddedViews| {
        views.flush()?;
        fs::copy(&path, &copy)?;
        let now = all_of(&copy)?;
        let put = now.iter().filter(|(key, value)| state.get(*key) != Some(*value));
        let mut writes: Writes = put.map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        writes.extend(state.keys().filter(|key| !now.contains_key(*key)).map(|key| (key.clone(), None)));
        state = now;
        Ok::<_, Box<dyn Error>>(writes)
    };
    let mut batch = Batch::behind(&Followed::nothing(SHARDS));
    let mut places = (0..).map(Position);
    for (shard, payload) in before {
        batch.add(&Entry { shard: *shard, position: places.next().ok_or("no place")?, payload })?;
    }
    views.write(&batch)?;
    batch.go_on();
    let first = look(&views)?;
    let mut batches = Vec::new();
    for (shard, payload) in records {
        batch.add(&Entry { shard: *shard, position: places.next().ok_or("no place")?, payload })?;
        if batch.events() >= PER_BATCH {
            views.write(&batch)?;
            batch.go_on();
            batches.push(look(&views)?);
        }
    }
    Ok((first, batches))
}

/// All entries of the read models' file. What is left out: holders, refunds and products, of which there are none here.
fn all_of(path: &Path) -> Result<BTreeMap<Key, Vec<u8>>> {
    fn table<K: redb::Key + 'static>(
        txn: &redb::ReadTransaction,
        of: usize,
        all: &mut BTreeMap<Key, Vec<u8>>,
        key: impl Fn(K::SelfType<'_>) -> Vec<u8>,
    ) -> Result<()> {
        for row in txn.open_table(TableDefinition::<K, &[u8]>::new(TABLES[of]))?.iter()? {
            let (k, value) = row?;
            all.insert((of, key(k.value())), value.value().to_vec());
        }
        Ok(())
    }
    fn signed(value: i64) -> [u8; 8] {
        ((value as u64) ^ 1 << 63).to_be_bytes()
    }
    let db = redb::Database::open(path)?;
    let txn = db.begin_read()?;
    let mut all = BTreeMap::new();
    for of in PAGES {
        table::<(u16, u64)>(&txn, of, &mut all, |(a, b)| [&a.to_be_bytes()[..], &b.to_be_bytes()].concat())?;
        table::<(u16, u64, u32, u32)>(&txn, of + 1, &mut all, |(a, b, c, d)| {
            [&a.to_be_bytes()[..], &b.to_be_bytes(), &c.to_be_bytes(), &d.to_be_bytes()].concat()
        })?;
    }
    table::<(u32, u16, u32)>(&txn, 2, &mut all, |(a, b, c)| {
        [&a.to_be_bytes()[..], &b.to_be_bytes(), &c.to_be_bytes()].concat()
    })?;
    table::<(u32, i64, u16, u8)>(&txn, 3, &mut all, |(a, b, c, d)| {
        [&a.to_be_bytes()[..], &signed(b), &c.to_be_bytes(), &[d]].concat()
    })?;
    table::<(u32, u16, i64, u64)>(&txn, 6, &mut all, |(a, b, c, d)| {
        [&a.to_be_bytes()[..], &b.to_be_bytes(), &signed(c), &d.to_be_bytes()].concat()
    })?;
    table::<(u32, u16, u16, i64)>(&txn, 7, &mut all, |(a, b, c, d)| {
        [&a.to_be_bytes()[..], &b.to_be_bytes(), &c.to_be_bytes(), &signed(d)].concat()
    })?;
    Ok(all)
}

/// As the read models use it: transactions in memory, and from time to time a durable one.
struct Redb(redb::Database);

impl Redb {
    fn table(of: usize) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(TABLES[of])
    }
}

impl Store for Redb {
    const NAME: &str = "redb";

    fn open(folder: &Path) -> Result<Self> {
        let mut builder = redb::Builder::new();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        Ok(Self(builder.create(folder.join("store.redb"))?))
    }

    fn write(&self, writes: &Writes) -> Result<()> {
        let mut txn = self.0.begin_write()?;
        txn.set_durability(Durability::None)?;
        for of in 0..TABLES.len() {
            let mut table = txn.open_table(Self::table(of))?;
            for ((_, key), value) in writes.iter().filter(|((table, _), _)| *table == of) {
                match value {
                    Some(value) => drop(table.insert(key.as_slice(), value.as_slice())?),
                    None => drop(table.remove(key.as_slice())?),
                }
            }
        }
        Ok(txn.commit()?)
    }

    fn flush(&self) -> Result<()> {
        let mut txn = self.0.begin_write()?;
        txn.set_quick_repair(true);
        Ok(txn.commit()?)
    }

    fn last(&self, (of, key): &Key) -> Result<Option<Vec<u8>>> {
        let table = self.0.begin_read()?.open_table(Self::table(*of))?;
        let last = table.range(..=key.as_slice())?.next_back().transpose()?;
        Ok(last.map(|(_, value)| value.value().to_vec()))
    }
}

/// With the same memory: the cache, and 8 MiB for what each table has not put into sorted files yet.
struct Fjall(fjall::Database, Vec<fjall::Keyspace>);

impl Store for Fjall {
    const NAME: &str = "fjall";

    fn open(folder: &Path) -> Result<Self> {
        let db = fjall::Database::builder(folder).cache_size(CACHE_BYTES as u64).worker_threads(1).open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(8 << 20);
        let tables = TABLES.iter().map(|name| db.keyspace(name, options)).collect::<std::result::Result<_, _>>()?;
        Ok(Self(db, tables))
    }

    fn write(&self, writes: &Writes) -> Result<()> {
        let mut batch = self.0.batch();
        for ((of, key), value) in writes {
            match value {
                Some(value) => batch.insert(&self.1[*of], key.as_slice(), value.as_slice()),
                None => batch.remove(&self.1[*of], key.as_slice()),
            }
        }
        Ok(batch.commit()?)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.0.persist(PersistMode::SyncData)?)
    }

    fn last(&self, (of, key): &Key) -> Result<Option<Vec<u8>>> {
        let last = self.1[*of].range(..=key.as_slice()).next_back();
        Ok(last.map(|entry| entry.value()).transpose()?.map(|value| value.to_vec()))
    }
}

/// What the files of a folder take on the disk: blocks, and not how long they say they are.
fn bytes_in(folder: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_folder = entry.file_type()?.is_dir();
        sum += if is_folder { bytes_in(&entry.path())? } else { entry.metadata()?.blocks() * 512 };
    }
    Ok(sum)
}

/// How long this process has been at work, on all its threads. The kernel counts in hundredths of a second.
fn busy() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let mut fields = stat.rsplit(')').next().ok_or("no fields")?.split_whitespace().skip(11);
    let mut ticks = || Ok::<u64, Box<dyn Error>>(fields.next().ok_or("too few fields")?.parse()?);
    Ok(Duration::from_millis((ticks()? + ticks()?) * 10))
}

/// What this process has had written to the disk.
fn written_bytes() -> Result<u64> {
    let io = fs::read_to_string("/proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.ok_or("no such line")?.parse()?)
}
