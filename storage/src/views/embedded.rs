//! Read models in one file, by redb. A batch and the position behind it are one transaction; transactions in between
//! stay in memory, and [`Views::flush`] makes all of them durable at once.
//!
//! | table | key | value |
//! |---|---|---|
//! | `log` | the festival's shard, number of the first line | a page of the access log |
//! | `log_terms` | shard, number of the first line, term | which lines have it: by zone, reader, ticket |
//! | `tickets` | festival, category, serial ÷ 256 | ticket block |
//! | `holders` | festival, category, serial ÷ 256 | holder block |
//! | `tickets_by_holder` | festival, holder, category, serial | nothing |
//! | `counts` | festival, minute, gate, zone | tally |
//! | `transactions` | shard, number of the first | a page of transactions |
//! | `transaction_terms` | shard, number of the first, term | which have it: by festival, wallet, terminal, vendor |
//! | `refunds` | shard, the payment's serial, the refund's | time, amount |
//! | `sales` | festival, vendor, quarter of an hour, terminal | sums |
//! | `products_sold` | festival, vendor, quarter of an hour, terminal, product, VAT | sums |
//! | `vendor_accounts` | festival, vendor, shard, minute | sums of all until the end of that minute |
//! | `about` | `format`, `followed` | |
//!
//! Tables depend on the journal alone, and not on how it was cut into batches. `embedded/sequence.rs` has the pages and
//! terms, `embedded/layout.rs` the bytes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use redb::{
    Builder, Database, Durability, ReadOnlyDatabase, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    StorageBackend, TableDefinition,
};

use engine::model::ids::{TicketId, TransactionId};

use super::{Check, Followed, Page, Views, ViewsError};
use crate::views::cashless::{
    CashlessPosition, CashlessViews, OrderRow, ProductPosition, ProductRow, SalesPosition, SalesRow, Statement,
    TransactionRow, Transactions, VendorSpan,
};
use crate::views::fold::Batch;
use crate::views::gates::{
    AccessEntry, AccessLog, CountPosition, CountRow, Counts, GateViews, LogPosition, TicketRow, Tickets,
};

pub(super) mod cashless;
mod check;
mod gates;
pub(super) mod layout;
pub(super) mod sequence;

/// The format of the file. One of another format is built anew from the journal.
pub const FORMAT: u32 = 9;

/// What the store may keep of the file in memory, in bytes. At 30,000 scans a second it is what ten seconds write.
pub const CACHE_BYTES: usize = 64 << 20;

const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");
/// Read models in a file.
pub struct EmbeddedViews {
    db: Database,
    /// The file, if it is one.
    path: Option<PathBuf>,
}

impl EmbeddedViews {
    /// Opens the file at `path`, or makes an empty one: in a folder that exists. The checksum of every page is verified. A
    /// file of another format is removed and made anew, since the journal has it all.
    ///
    /// # Errors
    /// [`ViewsError::InUse`], [`ViewsError::Damaged`], [`ViewsError::DiskFull`], [`ViewsError::Store`].
    pub fn open(path: &Path) -> Result<Self, ViewsError> {
        let open = || builder().create(path).map_err(|why| fault("open", why.into()));
        let opened = || Ok::<_, ViewsError>(Self { db: open()?, path: Some(path.to_owned()) });
        let this = opened()?;
        if this.has_this_format()? {
            return Ok(this);
        }
        drop(this);
        tracing::warn!(file = %path.display(), "the read models have another format and are being rebuilt");
        fs::remove_file(path).map_err(|why| fault("remove the old file of", redb::Error::Io(why)))?;
        let this = opened()?;
        this.has_this_format()?;
        Ok(this)
    }

    /// On a backend of one's own, for tests that need a disk that fails.
    ///
    /// # Errors
    /// As [`EmbeddedViews::open`].
    pub fn on(backend: impl StorageBackend) -> Result<Self, ViewsError> {
        let db = builder().create_with_backend(backend).map_err(|why| fault("open", why.into()))?;
        let this = Self { db, path: None };
        if this.has_this_format()? { Ok(this) } else { Err(ViewsError::Damaged("another format".into())) }
    }

    /// How far the file at `path` has followed a journal, if it is there, whole and in nobody's use. Changes nothing.
    pub fn followed_at_rest(path: &Path) -> Option<Followed> {
        let db = ReadOnlyDatabase::open(path).ok()?;
        let txn = db.begin_read().ok()?;
        let about = txn.open_table(ABOUT).ok()?;
        let bytes = about.get("followed").ok()??.value().to_vec();
        followed(&bytes).ok()
    }

    /// Whether the file is of this format; a new one is from now on.
    fn has_this_format(&self) -> Result<bool, ViewsError> {
        attempt("open", || {
            let txn = self.db.begin_write()?;
            let found = txn.open_table(ABOUT)?.get("format")?.map(|bytes| bytes.value() == FORMAT.to_le_bytes());
            if let Some(same) = found {
                txn.abort()?;
                return Ok(same);
            }
            txn.open_table(ABOUT)?.insert("format", FORMAT.to_le_bytes().as_slice())?;
            // All of them from the beginning, so that readers find them.
            txn.open_table(gates::LOG)?;
            txn.open_table(gates::LOG_TERMS)?;
            txn.open_table(gates::TICKETS)?;
            txn.open_table(gates::HOLDERS)?;
            txn.open_table(gates::TICKETS_BY_HOLDER)?;
            txn.open_table(gates::COUNTS)?;
            cashless::create(&txn)?;
            txn.commit()?;
            Ok(true)
        })
    }

    /// Every key and value of every table, for tests that compare two stores to the last byte.
    ///
    /// # Errors
    /// As reading.
    #[cfg(test)]
    pub(crate) fn dump(&self) -> Result<Vec<(String, Vec<u8>)>, ViewsError> {
        fn all<K: redb::Key + 'static, V: redb::Value + 'static>(
            txn: &ReadTransaction,
            table: TableDefinition<'_, K, V>,
            rows: &mut Vec<(String, Vec<u8>)>,
        ) -> Result<(), redb::Error> {
            for row in txn.open_table(table)?.iter()? {
                let (key, value) = row?;
                rows.push((format!("{table} {:?}", key.value()), V::as_bytes(&value.value()).as_ref().to_vec()));
            }
            Ok(())
        }
        let mut rows = Vec::new();
        attempt("dump", || {
            let txn = self.db.begin_read()?;
            all(&txn, ABOUT, &mut rows)?;
            all(&txn, gates::LOG, &mut rows)?;
            all(&txn, gates::LOG_TERMS, &mut rows)?;
            all(&txn, gates::TICKETS, &mut rows)?;
            all(&txn, gates::HOLDERS, &mut rows)?;
            all(&txn, gates::TICKETS_BY_HOLDER, &mut rows)?;
            all(&txn, gates::COUNTS, &mut rows)?;
            all(&txn, cashless::TRANSACTIONS, &mut rows)?;
            all(&txn, cashless::TRANSACTION_TERMS, &mut rows)?;
            all(&txn, cashless::REFUNDS, &mut rows)?;
            all(&txn, cashless::SALES, &mut rows)?;
            all(&txn, cashless::PRODUCTS, &mut rows)?;
            all(&txn, cashless::ACCOUNTS, &mut rows)
        })?;
        Ok(rows)
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

impl Views for EmbeddedViews {
    fn followed(&self) -> Result<Option<Followed>, ViewsError> {
        let bytes = attempt("read", || {
            let about = self.db.begin_read()?.open_table(ABOUT)?;
            Ok(about.get("followed")?.map(|bytes| bytes.value().to_vec()))
        })?;
        bytes.map(|bytes| followed(&bytes)).transpose()
    }

    fn write(&self, batch: &Batch) -> Result<(), ViewsError> {
        let mut txn = self.db.begin_write().map_err(|why| fault("write", why.into()))?;
        txn.set_durability(Durability::None).map_err(|why| fault("write", why.into()))?;
        // Dropped on the way, it leaves no trace.
        let known =
            attempt("read", || Ok(txn.open_table(ABOUT)?.get("followed")?.map(|bytes| bytes.value().to_vec())))?;
        let at = known.map(|bytes| followed(&bytes)).transpose()?;
        if at.map_or_else(|| Followed::nothing(batch.from.shards()).cursor, |at| at.cursor) != batch.from {
            return Err(ViewsError::NotNext);
        }
        gates::write(&txn, batch)?;
        cashless::write(&txn, &batch.transactions)?;
        attempt("write", || {
            let bytes = postcard::to_allocvec(&batch.followed).expect("plain data");
            txn.open_table(ABOUT)?.insert("followed", bytes.as_slice())?;
            Ok(())
        })?;
        txn.commit().map_err(|why| fault("write", why.into()))
    }

    fn flush(&self) -> Result<(), ViewsError> {
        attempt("flush", || {
            let mut txn = self.db.begin_write()?;
            // After a crash the file is open at once, rather than after a walk through all of it.
            txn.set_quick_repair(true);
            txn.commit()?;
            Ok(())
        })
    }

    fn check(&self) -> Result<Option<Check>, ViewsError> {
        let Some(path) = &self.path else { return Ok(None) };
        self.flush()?;
        check::of(path, self.snapshot()?).map(Some)
    }
}

impl GateViews for EmbeddedViews {
    fn access_log(&self, of: AccessLog, page: Page<LogPosition>) -> Result<Vec<AccessEntry>, ViewsError> {
        gates::read::access_log(&self.snapshot()?, of, page)
    }

    fn tickets(&self, of: Tickets, page: Page<TicketId>) -> Result<Vec<TicketRow>, ViewsError> {
        gates::read::tickets(&self.snapshot()?, of, page)
    }

    fn counts(&self, of: Counts, page: Page<CountPosition>) -> Result<Vec<CountRow>, ViewsError> {
        gates::read::counts(&self.snapshot()?, of, page)
    }
}

impl CashlessViews for EmbeddedViews {
    fn transactions(&self, of: Transactions, page: Page<CashlessPosition>) -> Result<Vec<TransactionRow>, ViewsError> {
        cashless::read::transactions(&self.snapshot()?, of, page)
    }

    fn transaction(&self, id: TransactionId) -> Result<Option<TransactionRow>, ViewsError> {
        cashless::read::transaction(&self.snapshot()?, id)
    }

    fn orders(&self, of: VendorSpan, page: Page<CashlessPosition>) -> Result<Vec<OrderRow>, ViewsError> {
        cashless::read::orders(&self.snapshot()?, of, page)
    }

    fn sales(&self, of: VendorSpan, page: Page<SalesPosition>) -> Result<Vec<SalesRow>, ViewsError> {
        cashless::read::sales(&self.snapshot()?, of, page)
    }

    fn products_sold(&self, of: VendorSpan, page: Page<ProductPosition>) -> Result<Vec<ProductRow>, ViewsError> {
        cashless::read::products_sold(&self.snapshot()?, of, page)
    }

    fn statement(&self, of: VendorSpan) -> Result<Statement, ViewsError> {
        cashless::read::statement(&self.snapshot()?, of)
    }
}

impl EmbeddedViews {
    fn snapshot(&self) -> Result<ReadTransaction, ViewsError> {
        super::wanted::still()?;
        self.db.begin_read().map_err(|why| fault("read", why.into()))
    }
}

fn followed(bytes: &[u8]) -> Result<Followed, ViewsError> {
    postcard::from_bytes(bytes).map_err(|_| ViewsError::Damaged("the position".into()))
}

/// How many shards the journal has that was followed; `None` if none was.
fn shards(txn: &ReadTransaction) -> Result<Option<u16>, ViewsError> {
    let about = open(txn, ABOUT)?;
    let bytes = about.get("followed").map_err(|why| fault("read", why.into()))?;
    bytes.map(|bytes| Ok(followed(bytes.value())?.cursor.shards())).transpose()
}

type Table<'t, K> = redb::Table<'t, K, &'static [u8]>;

fn attempt<T>(doing: &'static str, work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, ViewsError> {
    work().map_err(|why| fault(doing, why))
}

/// Sorts the store's faults into what somebody on call can act on.
fn fault(doing: &'static str, why: redb::Error) -> ViewsError {
    match why {
        redb::Error::DatabaseAlreadyOpen => ViewsError::InUse,
        redb::Error::Corrupted(why) => ViewsError::Damaged(why),
        redb::Error::UpgradeRequired(version) => ViewsError::Damaged(format!("file format {version} of the store")),
        redb::Error::Io(why) => match why.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ViewsError::DiskFull,
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => ViewsError::Damaged(why.to_string()),
            _ => ViewsError::Store { doing, why: why.to_string() },
        },
        why => ViewsError::Store { doing, why: why.to_string() },
    }
}

/// A table for reading, by whatever key.
fn open<K: redb::Key + 'static, V: redb::Value + 'static>(
    txn: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<ReadOnlyTable<K, V>, ViewsError> {
    txn.open_table(table).map_err(|why| fault("read", why.into()))
}
