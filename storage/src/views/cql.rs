//! Read models in ScyllaDB, or whatever else speaks CQL, for clusters.
//!
//! Everything is rows under keys, and all tables but one look the same:
//!
//! ```text
//! (list blob, bucket bigint, key blob, body blob, PRIMARY KEY ((list, bucket), key))
//! ```
//!
//! A **list** is what somebody may ask for: the log of one zone, a vendor's sales (`lists.rs` has them all). Its rows are sorted
//! by their **keys**, whose bytes sort as what they mean does, and lie in **buckets** of time, each a partition; the table
//! `buckets` says which ones a list has. A **body** is the row as the embedded store writes it. A row lies in every list that
//! has it, whole, so that a page of a list is one slice of one partition, or of some side by side.
//!
//! | table | lists |
//! |---|---|
//! | `access_log` | of each zone, of each reader, of tickets |
//! | `transactions` | of each festival by kind, of wallets, of each terminal, of each vendor; by serial; refunds by payment |
//! | `sums` | counts by minute, sales and products by quarter of an hour, vendors' accounts |
//! | `tickets` | blocks of 256, their holders, by holder |
//! | `buckets` | which buckets each list has |
//! | `about` | not of that shape: `format`, `emptying`, `last`, and `followed/…` for each shard |
//!
//! **A batch may be written twice, and in part.** There are no transactions: the position is written last, and what a crash has
//! left is written over. New rows are what they were. Sums are absolute, one per shard, and say up to which event they go;
//! whatever they have already is passed over (`rows.rs`).
//!
//! **No clock decides which write wins.** CQL keeps the write with the higher timestamp, so a node whose clock was an hour
//! ahead would silently win over its successor for an hour. Here each row is one shard's, and its timestamp is how far that
//! shard was followed. So a projector that was stopped, and of which another has taken over, sets nothing back when it wakes
//! up; and what it had written ahead of its position stays, and is passed over. The position is a row for each shard too.
//!
//! **Each node writes the shards that are its own,** and goes on from the position of one that comes to it. While a shard
//! moves, two may write it: what a row is at a position does not depend on who wrote it. If one of them finds the read models
//! damaged, it empties them, and the others notice that theirs is not the position where they were, and begin anew too; what
//! one of them writes within the very moment of emptying is found by the samples that are compared with the journal.
//!
//! Answers are no snapshots: a page that is read while a batch is written may have a part of it already.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::model::ids::{ShardId, TicketId, TransactionId};
use scylla::statement::batch::{BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;

use crate::cql::Cql;
pub use crate::follower::Begin;
use crate::journal::{Cursor, Position};
use crate::views::cashless::{
    CashlessPosition, CashlessViews, OrderRow, ProductPosition, ProductRow, SalesPosition, SalesRow, Statement,
    TransactionRow, Transactions, VendorSpan,
};
use crate::views::embedded::layout::cashless::{read, write};
use crate::views::fold::Batch;
use crate::views::gates::{
    AccessEntry, AccessLog, CountPosition, CountRow, Counts, GateViews, LogPosition, TicketRow, Tickets,
};
use crate::views::{Check, Followed, Page, Views, ViewsError, embedded, wanted};
use store::{Store, Table, Writes, fault, timestamp};

mod cashless;
mod gates;
mod keys;
mod lists;
mod rows;
mod store;

/// The format of keys and bodies. What has another is emptied and built anew from the journal.
const FORMAT: [u32; 2] = [1, embedded::FORMAT];

/// How the names begin under which `about` has the position of each shard.
const FOLLOWED: &str = "followed/";

/// Read models in a keyspace.
pub struct CqlViews {
    cql: Arc<Cql>,
    store: Store,
    about: About,
}

/// Statements about the read models as a whole.
struct About {
    read: PreparedStatement,
    write: PreparedStatement,
}

impl CqlViews {
    /// The read models of this keyspace, as they are or emptied.
    ///
    /// # Errors
    /// [`ViewsError::Store`]; [`ViewsError::Damaged`] if they are of another format or half emptied, and are to be begun anew.
    pub fn open(cql: Arc<Cql>, begin: Begin) -> Result<Self, ViewsError> {
        let prepared = cql.wait(async {
            let read = cql.prepare("SELECT name, value FROM {}.about WHERE one = 0").await?;
            let write = "INSERT INTO {}.about (one, name, value) VALUES (0, ?, ?) USING TIMESTAMP ?";
            let write = cql.prepare(write).await?;
            Ok((Store::prepare(&cql).await?, About { read, write }))
        });
        let (store, about) = prepared.map_err(|why: String| ViewsError::Store { doing: "open", why })?;
        let this = Self { cql, store, about };
        this.cql.wait(async {
            if begin == Begin::Anew {
                this.empty().await?;
            }
            let about = this.read_about().await?;
            if about.contains_key("emptying") {
                return Err(ViewsError::Damaged("they are half emptied".into()));
            }
            if about.get("format").is_some_and(|format| *format != write(&FORMAT)) {
                return Err(ViewsError::Damaged("they have another format".into()));
            }
            Ok(())
        })?;
        Ok(this)
    }

    /// From now on only so many more partitions are written, and everything else fails: as if the program had died there.
    #[cfg(feature = "testing")]
    pub fn break_off_after(&self, partitions: u64) {
        self.store.break_off_after(partitions);
    }

    /// Writes a batch, and between finding out what to write and writing it, does something else: as if the program had been
    /// stopped there for a while.
    ///
    /// # Errors
    /// As [`Views::write`].
    #[cfg(feature = "testing")]
    pub fn write_with_a_pause(&self, batch: &Batch, meanwhile: impl FnOnce()) -> Result<(), ViewsError> {
        let writes = self.cql.wait(self.prepare_batch(batch))?;
        meanwhile();
        self.cql.wait(self.write_prepared(writes, batch))
    }

    /// Leaves nothing, and if it dies on the way, a note.
    async fn empty(&self) -> Result<(), ViewsError> {
        self.write_about([("emptying".into(), vec![1], 1)]).await?;
        let tables = Table::ALL.iter().map(|table| table.name()).chain(["buckets", "about"]);
        for table in tables {
            self.cql.run(&format!("TRUNCATE {{}}.{table}")).await.map_err(|why| fault("empty", why))?;
        }
        Ok(())
    }

    async fn read_about(&self) -> Result<BTreeMap<String, Vec<u8>>, ViewsError> {
        let found = self.cql.session.execute_unpaged(&self.about.read, ()).await;
        let found = found.map_err(|why| fault("read", why))?.into_rows_result().map_err(|why| fault("read", why))?;
        let rows = found.rows::<(String, Vec<u8>)>().map_err(|why| fault("read", why))?;
        rows.map(|row| row.map_err(|why| fault("read", why))).collect()
    }

    /// Names, values and timestamps, all of them or none.
    async fn write_about(&self, rows: impl IntoIterator<Item = (String, Vec<u8>, i64)>) -> Result<(), ViewsError> {
        let rows: Vec<_> = rows.into_iter().collect();
        let statements = rows.iter().map(|_| BatchStatement::PreparedStatement(self.about.write.clone())).collect();
        let mut batch = scylla::statement::batch::Batch::new_with_statements(BatchType::Unlogged, statements);
        batch.set_is_idempotent(true);
        self.cql.session.batch(&batch, &rows).await.map(drop).map_err(|why| fault("write", why))
    }

    async fn position(&self) -> Result<Option<Followed>, ViewsError> {
        let about = self.read_about().await?;
        let damaged = || ViewsError::Damaged("the position".into());
        let positions = about.iter().filter(|(name, _)| name.starts_with(FOLLOWED));
        let position = |(_, bytes): (_, &Vec<u8>)| bytes.as_slice().try_into().map(u64::from_be_bytes).map(Position);
        let positions: Vec<Position> = positions.map(position).collect::<Result<_, _>>().map_err(|_| damaged())?;
        if positions.is_empty() {
            return Ok(None);
        }
        let last = about.get("last").map(|bytes| read(bytes)).transpose().map_err(|_| damaged())?;
        Ok(Some(Followed { cursor: Cursor::of(positions), last }))
    }

    /// Of the shards that the batch has something of. The others' rows are there as well, for whoever counts the shards; at
    /// the beginning of time, where they change nothing.
    async fn write_position(&self, batch: &Batch) -> Result<(), ViewsError> {
        let Followed { cursor, last } = &batch.followed;
        let shards = (0..cursor.shards()).map(ShardId);
        let all = shards.clone().map(|shard| timestamp(cursor, shard)).fold(0, i64::saturating_add);
        let positions = shards.map(|shard| {
            let is_here = moved(batch).any(|moved| moved == shard);
            let (at, timestamp) = if is_here { (cursor.get(shard).0, timestamp(cursor, shard)) } else { (0, 0) };
            // Padded, so that names sort as shards do.
            (format!("{FOLLOWED}{:05}", shard.0), at.to_be_bytes().to_vec(), timestamp)
        });
        // Any record that was taken in will do, so it does not matter whose is kept.
        let last = last.map(|last| ("last".to_owned(), write(&last), all));
        self.write_about(positions.chain(last)).await
    }

    /// How many shards the journal has that was followed; `None` if none was.
    async fn shards(&self) -> Result<Option<u16>, ViewsError> {
        Ok(self.position().await?.map(|followed| followed.cursor.shards()))
    }

    /// What a batch comes to, if it begins where the read models end.
    async fn prepare_batch(&self, batch: &Batch) -> Result<Writes, ViewsError> {
        let at = self.position().await?;
        let fresh = at.is_none();
        let at = at.map_or_else(|| Cursor::start(batch.from.shards()), |at| at.cursor);
        if at.shards() != batch.from.shards() || moved(batch).any(|shard| at.get(shard) != batch.from.get(shard)) {
            return Err(ViewsError::NotNext);
        }
        if fresh {
            self.write_about([("format".into(), write(&FORMAT), 1)]).await?;
        }
        rows::of(&self.store, batch).await
    }

    /// The position last.
    async fn write_prepared(&self, writes: Writes, batch: &Batch) -> Result<(), ViewsError> {
        self.store.write(writes, &batch.followed.cursor).await?;
        self.write_position(batch).await
    }

    /// Answers a question on this thread.
    fn answer<T>(&self, question: impl Future<Output = Result<T, ViewsError>>) -> Result<T, ViewsError> {
        wanted::still()?;
        self.cql.wait(question)
    }
}

/// The shards that a batch has something of.
fn moved(batch: &Batch) -> impl Iterator<Item = ShardId> {
    let (from, to) = (&batch.from, &batch.followed.cursor);
    (0..from.shards()).map(ShardId).filter(|shard| from.get(*shard) != to.get(*shard))
}

impl Views for CqlViews {
    fn followed(&self) -> Result<Option<Followed>, ViewsError> {
        self.cql.wait(self.position())
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn begin(&self) {
        // Whatever was written behind the position before.
        self.store.forget_buckets();
    }

    fn write(&self, batch: &Batch) -> Result<(), ViewsError> {
        self.cql.wait(async { self.write_prepared(self.prepare_batch(batch).await?, batch).await })
    }

    /// A write that was acknowledged is as durable as the servers make it.
    fn flush(&self) -> Result<(), ViewsError> {
        Ok(())
    }

    /// The servers verify what they read.
    fn check(&self) -> Result<Option<Check>, ViewsError> {
        Ok(None)
    }
}

impl GateViews for CqlViews {
    fn access_log(&self, of: AccessLog, page: Page<LogPosition>) -> Result<Vec<AccessEntry>, ViewsError> {
        self.answer(gates::access_log(&self.store, of, page))
    }

    fn tickets(&self, of: Tickets, page: Page<TicketId>) -> Result<Vec<TicketRow>, ViewsError> {
        self.answer(gates::tickets(&self.store, of, page))
    }

    fn counts(&self, of: Counts, page: Page<CountPosition>) -> Result<Vec<CountRow>, ViewsError> {
        self.answer(gates::counts(&self.store, of, page))
    }
}

impl CashlessViews for CqlViews {
    fn transactions(&self, of: Transactions, page: Page<CashlessPosition>) -> Result<Vec<TransactionRow>, ViewsError> {
        self.answer(cashless::transactions(&self.store, of, page))
    }

    fn transaction(&self, id: TransactionId) -> Result<Option<TransactionRow>, ViewsError> {
        self.answer(cashless::transaction(&self.store, id))
    }

    fn orders(&self, of: VendorSpan, page: Page<CashlessPosition>) -> Result<Vec<OrderRow>, ViewsError> {
        self.answer(cashless::orders(&self.store, of, page))
    }

    fn sales(&self, of: VendorSpan, page: Page<SalesPosition>) -> Result<Vec<SalesRow>, ViewsError> {
        self.answer(cashless::sales(&self.store, of, page))
    }

    fn products_sold(&self, of: VendorSpan, page: Page<ProductPosition>) -> Result<Vec<ProductRow>, ViewsError> {
        self.answer(cashless::products_sold(&self.store, of, page))
    }

    fn statement(&self, of: VendorSpan) -> Result<Statement, ViewsError> {
        self.answer(async {
            match self.shards().await? {
                Some(shards) => cashless::statement(&self.store, of, shards).await,
                None => Ok(Statement::default()),
            }
        })
    }
}
