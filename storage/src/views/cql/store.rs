//! Rows under keys: what the read models do with the servers, and all they do.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use engine::model::ids::ShardId;
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use scylla::response::query_result::QueryResult;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;

use super::keys::Key;
use super::lists::{List, Place, Slice};
use crate::cql::Cql;
use crate::journal::Cursor;
use crate::views::{ViewsError, wanted};

/// Requests that one read or one batch has under way at most. With 32 one node of Cassandra beside two busy cores does as much
/// as it ever does.
const CONCURRENCY: usize = 32;
/// Rows that are written together, all of one partition. With bodies of 150 bytes a fifth of the 128 KiB at which ScyllaDB warns.
const BATCH_ROWS: usize = 100;
/// And their bytes, beyond which no other row is added: blocks of tickets are large.
const BATCH_BYTES: usize = 32 << 10;
/// Keys of one question: ScyllaDB takes 100.
const KEYS_MAX: usize = 100;
/// Buckets whose names are asked for at a time, and that are read side by side as long as they are nearly empty.
const BUCKETS: i32 = 512;
const WINDOW_MAX: usize = 16;
/// Buckets that are known to be noted, 100 bytes each. Forgotten, they are noted again.
const KNOWN_MAX: usize = 1 << 16;

/// The tables of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    AccessLog,
    Transactions,
    Sums,
    Tickets,
}

impl Table {
    pub(super) const ALL: [Self; 4] = [Self::AccessLog, Self::Transactions, Self::Sums, Self::Tickets];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AccessLog => "access_log",
            Self::Transactions => "transactions",
            Self::Sums => "sums",
            Self::Tickets => "tickets",
        }
    }
}

/// Statements about one table.
struct Statements {
    insert: PreparedStatement,
    forwards: PreparedStatement,
    backwards: PreparedStatement,
    some: PreparedStatement,
}

/// A row's key and body.
pub(super) type Found = (Vec<u8>, Vec<u8>);

/// The rows of one partition: of which shard each is, and its body.
type Partition = BTreeMap<Key, (ShardId, Vec<u8>)>;

/// Rows to be written, each once: whoever puts one again means the same place.
#[derive(Default)]
pub(super) struct Writes(BTreeMap<(List, i64), Partition>);

impl Writes {
    pub(super) fn put(&mut self, shard: ShardId, Place { list, bucket, key }: Place, body: Vec<u8>) {
        self.0.entry((list, bucket)).or_default().insert(key, (shard, body));
    }
}

/// What decides which write of one shard's row wins: how far the shard was followed.
pub(super) fn timestamp(cursor: &Cursor, shard: ShardId) -> i64 {
    i64::try_from(cursor.get(shard).0).unwrap_or(i64::MAX)
}

/// The rows of a keyspace.
pub(super) struct Store {
    cql: Arc<Cql>,
    /// In the order of [`Table::ALL`].
    tables: Vec<Statements>,
    note_bucket: PreparedStatement,
    buckets_forwards: PreparedStatement,
    buckets_backwards: PreparedStatement,
    known_buckets: Mutex<HashSet<(List, i64)>>,
    #[cfg(feature = "testing")]
    partitions_left: std::sync::atomic::AtomicU64,
}

impl Store {
    pub(super) async fn prepare(cql: &Arc<Cql>) -> Result<Self, String> {
        let mut tables = Vec::new();
        for table in Table::ALL.map(Table::name) {
            let slice = |order: &str| {
                format!(
                    "SELECT key, body FROM {{}}.{table} WHERE list = ? AND bucket = ? AND key >= ? AND key < ? \
                     ORDER BY key {order} LIMIT ?"
                )
            };
            tables.push(Statements {
                insert: cql
                    .prepare(&format!(
                        "INSERT INTO {{}}.{table} (list, bucket, key, body) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"
                    ))
                    .await?,
                forwards: cql.prepare(&slice("ASC")).await?,
                backwards: cql.prepare(&slice("DESC")).await?,
                some: cql
                    .prepare(&format!("SELECT key, body FROM {{}}.{table} WHERE list = ? AND bucket = ? AND key IN ?"))
                    .await?,
            });
        }
        let buckets = |order: &str| {
            format!(
                "SELECT bucket FROM {{}}.buckets WHERE list = ? AND bucket >= ? AND bucket <= ? ORDER BY bucket {order} LIMIT ?"
            )
        };
        Ok(Self {
            tables,
            note_bucket: cql.prepare("INSERT INTO {}.buckets (list, bucket) VALUES (?, ?)").await?,
            buckets_forwards: cql.prepare(&buckets("ASC")).await?,
            buckets_backwards: cql.prepare(&buckets("DESC")).await?,
            known_buckets: Mutex::default(),
            cql: Arc::clone(cql),
            #[cfg(feature = "testing")]
            partitions_left: u64::MAX.into(),
        })
    }

    fn statements(&self, list: &List) -> &Statements {
        &self.tables[list.table() as usize]
    }

    /// Rows of a slice that lie in one bucket, as many as `limit` from its beginning, the way that is read.
    async fn read(&self, slice: &Slice, bucket: i64, limit: usize) -> Result<Vec<Found>, ViewsError> {
        wanted::still()?;
        let Slice { list, from, until, backwards, .. } = slice;
        let Statements { forwards, backwards: other_way, .. } = self.statements(list);
        let statement = if *backwards { other_way } else { forwards };
        let values = (&list.0, bucket, &from.0, &until.0, limit as i32);
        rows(self.cql.session.execute_unpaged(statement, values).await)
    }

    /// Whatever there is at some places.
    pub(super) async fn read_some(&self, places: &BTreeSet<Place>) -> Result<HashMap<Place, Vec<u8>>, ViewsError> {
        let mut partitions: BTreeMap<(&List, i64), Vec<&Vec<u8>>> = BTreeMap::new();
        for Place { list, bucket, key } in places {
            partitions.entry((list, *bucket)).or_default().push(&key.0);
        }
        let questions =
            partitions.iter().flat_map(|(partition, keys)| keys.chunks(KEYS_MAX).map(move |keys| (*partition, keys)));
        let read = async |(list, bucket): (&List, i64), keys: &[&Vec<u8>]| {
            wanted::still()?;
            let some = &self.statements(list).some;
            let found = rows(self.cql.session.execute_unpaged(some, (&list.0, bucket, keys)).await)?;
            Ok::<_, ViewsError>(
                found
                    .into_iter()
                    .map(|(key, body)| (Place { list: list.clone(), bucket, key: Key(key) }, body))
                    .collect::<Vec<_>>(),
            )
        };
        let mut found = HashMap::new();
        let mut answers =
            stream::iter(questions.map(|(partition, keys)| read(partition, keys))).buffer_unordered(CONCURRENCY);
        while let Some(answer) = answers.next().await {
            found.extend(answer?);
        }
        Ok(found)
    }

    /// What is at a place.
    pub(super) async fn read_one(&self, place: Place) -> Result<Option<Vec<u8>>, ViewsError> {
        let mut found = self.read_some(&BTreeSet::from([place.clone()])).await?;
        Ok(found.remove(&place))
    }

    /// The next buckets of a slice, the way that it is read: at most [`BUCKETS`].
    async fn buckets(&self, list: &List, (first, last): (i64, i64), backwards: bool) -> Result<Vec<i64>, ViewsError> {
        let statement = if backwards { &self.buckets_backwards } else { &self.buckets_forwards };
        let found = self.cql.session.execute_unpaged(statement, (&list.0, first, last, BUCKETS)).await;
        let found = found.map_err(|why| fault("read", why))?.into_rows_result().map_err(|why| fault("read", why))?;
        let buckets = found.rows::<(i64,)>().map_err(|why| fault("read", why))?;
        buckets.map(|bucket| bucket.map(|(bucket,)| bucket).map_err(|why| fault("read", why))).collect()
    }

    /// Writes all of it, each partition's rows in the order of their keys.
    pub(super) async fn write(&self, writes: Writes, followed: &Cursor) -> Result<(), ViewsError> {
        let partitions =
            writes.0.into_iter().map(|((list, bucket), rows)| self.write_partition(list, bucket, rows, followed));
        let written = stream::iter(partitions).buffer_unordered(CONCURRENCY).try_collect::<()>().await;
        if written.is_err() {
            self.forget_buckets();
        }
        written
    }

    /// A batch within one partition is done as a whole or not at all, and one after the other: of an account nobody sees a
    /// later minute without the earlier ones.
    async fn write_partition(
        &self,
        list: List,
        bucket: i64,
        rows: Partition,
        followed: &Cursor,
    ) -> Result<(), ViewsError> {
        #[cfg(feature = "testing")]
        self.count_down()?;
        let session = &self.cql.session;
        // Before its rows, or they would not be found.
        if list.has_index() && !self.known_buckets().contains(&(list.clone(), bucket)) {
            session.execute_unpaged(&self.note_bucket, (&list.0, bucket)).await.map_err(|why| fault("write", why))?;
            let mut known = self.known_buckets();
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert((list.clone(), bucket));
        }
        let insert = &self.statements(&list).insert;
        let mut rows = rows.iter().peekable();
        while rows.peek().is_some() {
            let (mut values, mut bytes) = (Vec::new(), 0);
            while values.len() < BATCH_ROWS
                && bytes < BATCH_BYTES
                && let Some((key, (shard, body))) = rows.next()
            {
                bytes += key.0.len() + body.len();
                values.push((&list.0, bucket, &key.0, body, timestamp(followed, *shard)));
            }
            let statements = values.iter().map(|_| BatchStatement::PreparedStatement(insert.clone())).collect();
            let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
            batch.set_is_idempotent(true);
            session.batch(&batch, &values).await.map_err(|why| fault("write", why))?;
        }
        Ok(())
    }

    /// A server that died may have lost the last that it had acknowledged. Rows are written again from the position that it still
    /// knows; so must be the notes of where they lie.
    pub(super) fn forget_buckets(&self) {
        self.known_buckets().clear();
    }

    fn known_buckets(&self) -> std::sync::MutexGuard<'_, HashSet<(List, i64)>> {
        self.known_buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(feature = "testing")]
    pub(super) fn break_off_after(&self, partitions: u64) {
        self.partitions_left.store(partitions, std::sync::atomic::Ordering::Relaxed);
    }

    #[cfg(feature = "testing")]
    fn count_down(&self) -> Result<(), ViewsError> {
        use std::sync::atomic::Ordering::Relaxed;
        let counted = self.partitions_left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        counted.map(drop).map_err(|_| fault("write", "broken off on purpose"))
    }
}

fn rows<E: Display>(answer: Result<QueryResult, E>) -> Result<Vec<Found>, ViewsError> {
    let answer = answer.map_err(|why| fault("read", why))?.into_rows_result().map_err(|why| fault("read", why))?;
    let rows = answer.rows::<Found>().map_err(|why| fault("read", why))?;
    rows.map(|row| row.map_err(|why| fault("read", why))).collect()
}

pub(super) fn fault(doing: &'static str, why: impl Display) -> ViewsError {
    ViewsError::Store { doing, why: why.to_string() }
}

/// A slice's rows, one after the other, fetched as they are needed.
pub(super) struct Walk<'s> {
    store: &'s Store,
    /// What has not been fetched.
    slice: Slice,
    /// Rows that are fetched at a time.
    chunk: usize,
    /// The next buckets, and whether these are all.
    buckets: VecDeque<i64>,
    all_buckets: bool,
    /// How many of them are read side by side.
    window: usize,
    found: VecDeque<Found>,
}

impl<'s> Walk<'s> {
    pub(super) fn over(store: &'s Store, slice: Slice, chunk: usize) -> Self {
        // Otherwise the buckets are asked for, when they are needed.
        let known = !slice.list.has_index();
        let buckets = if known { (slice.buckets.0..=slice.buckets.1).collect() } else { VecDeque::new() };
        let (buckets, all_buckets) = if slice.is_empty() { (VecDeque::new(), true) } else { (buckets, known) };
        Self { store, slice, chunk: chunk.max(1), buckets, all_buckets, window: 1, found: VecDeque::new() }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Found>, ViewsError> {
        self.fetch().await?;
        Ok(self.found.pop_front())
    }

    /// There is a next row at hand, or none.
    pub(super) async fn fetch(&mut self) -> Result<(), ViewsError> {
        while self.found.is_empty() {
            if self.buckets.is_empty() {
                if self.all_buckets {
                    return Ok(());
                }
                self.ask_for_buckets().await?;
                continue;
            }
            let side_by_side = self.buckets.iter().take(self.window);
            let answers = side_by_side.map(|bucket| self.store.read(&self.slice, *bucket, self.chunk));
            for rows in try_join_all(answers).await? {
                let full = rows.len() >= self.chunk;
                self.found.extend(rows);
                if full {
                    break; // It may have more, and those behind it have to wait.
                }
                self.buckets.pop_front();
            }
            match self.found.back() {
                Some((key, _)) if self.slice.backwards => self.slice.until = Key(key.clone()),
                Some((key, _)) => self.slice.from = Key(key.clone()).behind(),
                None => {}
            }
            if self.found.len() < self.chunk {
                self.window = (self.window * 2).min(WINDOW_MAX);
            }
        }
        Ok(())
    }

    pub(super) fn first(&self) -> Option<&Found> {
        self.found.front()
    }

    async fn ask_for_buckets(&mut self) -> Result<(), ViewsError> {
        let Slice { list, buckets, backwards, .. } = &mut self.slice;
        let found = self.store.buckets(list, *buckets, *backwards).await?;
        self.all_buckets = found.len() < BUCKETS as usize;
        if let Some(last) = found.last() {
            if *backwards { buckets.1 = last - 1 } else { buckets.0 = last + 1 }
        }
        self.buckets.extend(found);
        Ok(())
    }
}
