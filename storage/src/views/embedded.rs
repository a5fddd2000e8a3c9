//! Read models in one file, by redb. A batch and the position behind it are one transaction; transactions in between
//! stay in memory, and [`Views::flush`] makes all of them durable at once.
//!
//! | table | key | value |
//! |---|---|---|
//! | `log_by_zone` | festival, zone, time, place | log chunk: what one record says about one zone, in pieces of 64 lines |
//! | `log_by_device` | device, time, place | log chunk |
//! | `log_by_ticket` | festival, category, serial ÷ 256, time, place | log chunk |
//! | `tickets` | festival, category, serial ÷ 256 | ticket block |
//! | `holders` | festival, category, serial ÷ 256 | holder block |
//! | `tickets_by_holder` | festival, holder, category, serial | nothing |
//! | `counts` | festival, minute, gate, zone | tally |
//! | `transactions` | festival, class, time, shard, place | transaction chunk: what one record says of one class |
//! | `transactions_by_wallet` | wallet, time, shard, place | festival and class |
//! | `transactions_by_terminal` | terminal, time, shard, place | pointer chunk |
//! | `transactions_by_vendor` | festival, vendor, time, shard, place | pointer chunk |
//! | `transactions_by_serial` | shard, serial | serial chunk |
//! | `refunds` | shard, the payment's serial, the refund's | time, amount |
//! | `sales` | festival, vendor, quarter of an hour, terminal, shard | sums |
//! | `products_sold` | festival, vendor, quarter of an hour, terminal, product, VAT, shard | sums |
//! | `vendor_accounts` | festival, vendor, shard, minute | sums of all until the end of that minute |
//! | `about` | `format`, `followed` | |
//!
//! A chunk never holds lines of two records, so the tables depend on the journal alone, and not on how it was cut into
//! batches. `layout.rs` has the bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use redb::{
    Builder, Database, Durability, ReadOnlyDatabase, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    StorageBackend, TableDefinition, WriteTransaction,
};

use engine::ids::{TicketId, TransactionId};
use engine::status::TicketStatus;

use super::layout::{self, BLOCK_TICKETS, CHUNK_LINES, Slot, StoredTally};
use super::{
    AccessEntry, AccessLog, Batch, CashPosition, CashViews, Check, CountPosition, CountRow, Counts, Followed,
    GateViews, INDEX_BITS, LogPosition, OrderRow, Page, ProductPosition, ProductRow, SalesPosition, SalesRow,
    Statement, TicketChange, TicketRow, Tickets, TransactionRow, Transactions, VendorSpan, Views, ViewsError,
};

mod cash;
mod check;
mod read;
mod read_cash;

/// The format of the file. One of another format is built anew from the journal.
pub const FORMAT: u32 = 7;

/// What the store may keep of the file in memory, in bytes. At 30,000 scans a second it is what ten seconds write.
pub const CACHE_BYTES: usize = 64 << 20;

type LogByZone = (u32, u8, i64, u64);
type LogByDevice = (u64, i64, u64);
type LogByTicket = (u32, u16, u32, i64, u64);
type BlockKey = (u32, u16, u32);
type HolderKey = (u32, u128, u16, u32);
type CountKey = (u32, i64, u16, u8);

const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");
const LOG_BY_ZONE: TableDefinition<'_, LogByZone, &[u8]> = TableDefinition::new("log_by_zone");
const LOG_BY_DEVICE: TableDefinition<'_, LogByDevice, &[u8]> = TableDefinition::new("log_by_device");
const LOG_BY_TICKET: TableDefinition<'_, LogByTicket, &[u8]> = TableDefinition::new("log_by_ticket");
const TICKETS: TableDefinition<'_, BlockKey, &[u8]> = TableDefinition::new("tickets");
const HOLDERS: TableDefinition<'_, BlockKey, &[u8]> = TableDefinition::new("holders");
const TICKETS_BY_HOLDER: TableDefinition<'_, HolderKey, ()> = TableDefinition::new("tickets_by_holder");
const COUNTS: TableDefinition<'_, CountKey, &[u8]> = TableDefinition::new("counts");

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
            txn.open_table(LOG_BY_ZONE)?;
            txn.open_table(LOG_BY_DEVICE)?;
            txn.open_table(LOG_BY_TICKET)?;
            txn.open_table(TICKETS)?;
            txn.open_table(HOLDERS)?;
            txn.open_table(TICKETS_BY_HOLDER)?;
            txn.open_table(COUNTS)?;
            cash::create(&txn)?;
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
            all(&txn, LOG_BY_ZONE, &mut rows)?;
            all(&txn, LOG_BY_DEVICE, &mut rows)?;
            all(&txn, LOG_BY_TICKET, &mut rows)?;
            all(&txn, TICKETS, &mut rows)?;
            all(&txn, HOLDERS, &mut rows)?;
            all(&txn, TICKETS_BY_HOLDER, &mut rows)?;
            all(&txn, COUNTS, &mut rows)?;
            all(&txn, cash::TRANSACTIONS, &mut rows)?;
            all(&txn, cash::BY_WALLET, &mut rows)?;
            all(&txn, cash::BY_TERMINAL, &mut rows)?;
            all(&txn, cash::BY_VENDOR, &mut rows)?;
            all(&txn, cash::BY_SERIAL, &mut rows)?;
            all(&txn, cash::REFUNDS, &mut rows)?;
            all(&txn, cash::SALES, &mut rows)?;
            all(&txn, cash::PRODUCTS, &mut rows)?;
            all(&txn, cash::ACCOUNTS, &mut rows)
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
        write_log(&txn, &batch.access)?;
        write_tickets(&txn, &batch.tickets)?;
        write_counts(&txn, batch)?;
        cash::write(&txn, &batch.transactions)?;
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
        read::access_log(&self.snapshot()?, of, page)
    }

    fn tickets(&self, of: Tickets, page: Page<TicketId>) -> Result<Vec<TicketRow>, ViewsError> {
        read::tickets(&self.snapshot()?, of, page)
    }

    fn counts(&self, of: Counts, page: Page<CountPosition>) -> Result<Vec<CountRow>, ViewsError> {
        read::counts(&self.snapshot()?, of, page)
    }
}

impl CashViews for EmbeddedViews {
    fn transactions(&self, of: Transactions, page: Page<CashPosition>) -> Result<Vec<TransactionRow>, ViewsError> {
        read_cash::transactions(&self.snapshot()?, of, page)
    }

    fn transaction(&self, id: TransactionId) -> Result<Option<TransactionRow>, ViewsError> {
        read_cash::transaction(&self.snapshot()?, id)
    }

    fn orders(&self, of: VendorSpan, page: Page<CashPosition>) -> Result<Vec<OrderRow>, ViewsError> {
        read_cash::orders(&self.snapshot()?, of, page)
    }

    fn sales(&self, of: VendorSpan, page: Page<SalesPosition>) -> Result<Vec<SalesRow>, ViewsError> {
        read_cash::sales(&self.snapshot()?, of, page)
    }

    fn products_sold(&self, of: VendorSpan, page: Page<ProductPosition>) -> Result<Vec<ProductRow>, ViewsError> {
        read_cash::products_sold(&self.snapshot()?, of, page)
    }

    fn statement(&self, of: VendorSpan) -> Result<Statement, ViewsError> {
        read_cash::statement(&self.snapshot()?, of)
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

/// Groups the batch's lines by what they are looked up by, record by record, and inserts them in the order of the keys.
fn write_log(txn: &WriteTransaction, access: &[AccessEntry]) -> Result<(), ViewsError> {
    let place = |entry: &AccessEntry| (entry.position.at.0, entry.position.order);
    attempt("write", || {
        let mut by_zone = txn.open_table(LOG_BY_ZONE)?;
        let keyed = access.iter().map(|entry| ((entry.festival.0, entry.zone.0), entry));
        write_chunks(keyed, |(festival, zone), first, chunk| {
            let (at, order) = place(first);
            by_zone.insert((festival, zone, at, order), chunk).map(drop)
        })?;
        let mut by_device = txn.open_table(LOG_BY_DEVICE)?;
        let keyed = access.iter().filter_map(|entry| Some((entry.device?.0, entry)));
        write_chunks(keyed, |device, first, chunk| {
            let (at, order) = place(first);
            by_device.insert((device, at, order), chunk).map(drop)
        })?;
        let mut by_ticket = txn.open_table(LOG_BY_TICKET)?;
        let keyed = access.iter().filter_map(|entry| Some((block_of(entry.ticket?), entry)));
        write_chunks(keyed, |(festival, category, block), first, chunk| {
            let (at, order) = place(first);
            by_ticket.insert((festival, category, block, at, order), chunk).map(drop)
        })?;
        Ok(())
    })
}

fn write_chunks<'e, K: Ord + Copy>(
    keyed: impl Iterator<Item = (K, &'e AccessEntry)>,
    mut insert: impl FnMut(K, &AccessEntry, &[u8]) -> Result<(), redb::StorageError>,
) -> Result<(), redb::Error> {
    let mut lines: Vec<(K, &AccessEntry)> = keyed.collect();
    // Stable: within a key they stay in the order in which they happened.
    lines.sort_by_key(|(key, _)| *key);
    let mut bytes = Vec::new();
    let same = |left: &(K, &AccessEntry), right: &(K, &AccessEntry)| {
        left.0 == right.0 && left.1.position.order >> INDEX_BITS == right.1.position.order >> INDEX_BITS
    };
    for chunk in lines.chunk_by(same).flat_map(|run| run.chunks(CHUNK_LINES)) {
        bytes.clear();
        for (_, entry) in chunk {
            layout::push_line(&mut bytes, entry);
        }
        let (key, first) = chunk[0];
        insert(key, first, &bytes)?;
    }
    Ok(())
}

fn block_of(ticket: TicketId) -> BlockKey {
    (ticket.festival().0, ticket.category().0, ticket.serial() / BLOCK_TICKETS)
}

/// Reads each block that the batch touches once, and writes it once.
fn write_tickets(txn: &WriteTransaction, changes: &[TicketChange]) -> Result<(), ViewsError> {
    let mut tickets = txn.open_table(TICKETS).map_err(|why| fault("write", why.into()))?;
    let mut holders = Blocks::new(txn.open_table(HOLDERS).map_err(|why| fault("write", why.into()))?);
    let mut by_holder = txn.open_table(TICKETS_BY_HOLDER).map_err(|why| fault("write", why.into()))?;
    let mut blocks: BTreeMap<BlockKey, Vec<Slot>> = BTreeMap::new();
    for change in changes {
        match change {
            TicketChange::Issued { festival, category, first_serial, count, seed, paid, holders: whose } => {
                for index in 0..*count {
                    let serial = first_serial + index;
                    let key = (festival.0, category.0, serial / BLOCK_TICKETS);
                    let block = load(&mut blocks, &tickets, key)?;
                    let at = (serial % BLOCK_TICKETS) as usize;
                    if block.len() != at {
                        return Err(misfit(
                            *festival,
                            format!("category {}, ticket {serial} issued twice or too early", category.0),
                        ));
                    }
                    block.push(Slot::issued(*seed, index, *paid));
                    if let Some(holder) = whose.get(index as usize).copied().flatten() {
                        holders.set(key, at, holder)?;
                        let whose = (festival.0, holder, category.0, serial);
                        by_holder.insert(whose, ()).map_err(|why| fault("write", why.into()))?;
                    }
                }
            }
            TicketChange::Status(ticket, status) => slot(&mut blocks, &tickets, *ticket)?.set_status(*status),
            TicketChange::Blocked(ticket, blocked) => slot(&mut blocks, &tickets, *ticket)?.set_blocked(*blocked),
            TicketChange::Reset(festival) => {
                let whole = (festival.0, 0, 0)..=(festival.0, u16::MAX, u32::MAX);
                let stored: Vec<BlockKey> = attempt("read", || {
                    tickets.range(whole.clone())?.map(|row| Ok(row?.0.value())).collect::<Result<_, redb::Error>>()
                })?;
                for key in stored {
                    load(&mut blocks, &tickets, key)?;
                }
                for (_, block) in blocks.range_mut(whole) {
                    for slot in block.iter_mut().filter(|slot| slot.status() == Some(TicketStatus::Used)) {
                        slot.set_status(TicketStatus::Sold);
                    }
                }
            }
        }
    }
    attempt("write", || {
        for (key, block) in &blocks {
            tickets.insert(*key, layout::write_block(block).as_slice())?;
        }
        Ok(())
    })?;
    holders.write()
}

type Table<'t, K> = redb::Table<'t, K, &'static [u8]>;

/// Blocks of holders on their way.
struct Blocks<'t> {
    table: Table<'t, BlockKey>,
    touched: BTreeMap<BlockKey, Vec<u128>>,
}

impl<'t> Blocks<'t> {
    fn new(table: Table<'t, BlockKey>) -> Self {
        Self { table, touched: BTreeMap::new() }
    }

    fn set(&mut self, key: BlockKey, at: usize, holder: u128) -> Result<(), ViewsError> {
        let block = match self.touched.entry(key) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let stored = attempt("read", || Ok(self.table.get(key)?.map(|bytes| bytes.value().to_vec())))?;
                vacant.insert(stored.map(|bytes| layout::read_holders(&bytes)).transpose()?.unwrap_or_default())
            }
        };
        block.resize(block.len().max(at + 1), 0);
        block[at] = holder;
        Ok(())
    }

    fn write(mut self) -> Result<(), ViewsError> {
        attempt("write", || {
            for (key, block) in &self.touched {
                self.table.insert(*key, layout::write_holders(block).as_slice())?;
            }
            Ok(())
        })
    }
}

fn load<'b>(
    blocks: &'b mut BTreeMap<BlockKey, Vec<Slot>>,
    table: &Table<'_, BlockKey>,
    key: BlockKey,
) -> Result<&'b mut Vec<Slot>, ViewsError> {
    match blocks.entry(key) {
        std::collections::btree_map::Entry::Occupied(known) => Ok(known.into_mut()),
        std::collections::btree_map::Entry::Vacant(vacant) => {
            let stored = attempt("read", || Ok(table.get(key)?.map(|bytes| bytes.value().to_vec())))?;
            Ok(vacant.insert(stored.map(|bytes| layout::read_block(&bytes)).transpose()?.unwrap_or_default()))
        }
    }
}

fn slot<'b>(
    blocks: &'b mut BTreeMap<BlockKey, Vec<Slot>>,
    table: &Table<'_, BlockKey>,
    ticket: TicketId,
) -> Result<&'b mut Slot, ViewsError> {
    let at = (ticket.serial() % BLOCK_TICKETS) as usize;
    let slot = load(blocks, table, block_of(ticket))?.get_mut(at).filter(|slot| slot.nonce() == ticket.nonce());
    slot.ok_or_else(|| misfit(ticket.festival(), format!("ticket {ticket}")))
}

fn misfit(festival: engine::ids::FestivalId, what: String) -> ViewsError {
    ViewsError::Misfit(format!("festival {festival}, {what}"))
}

/// Adds each row's steps to what is stored, which stays an absolute value.
fn write_counts(txn: &WriteTransaction, batch: &Batch) -> Result<(), ViewsError> {
    let mut table = txn.open_table(COUNTS).map_err(|why| fault("write", why.into()))?;
    let mut rows: BTreeMap<CountKey, StoredTally> = BTreeMap::new();
    for step in &batch.counts {
        let place = step.position;
        let key = (step.festival.0, place.minute.0, place.gate.0, place.zone.0);
        let row = match rows.entry(key) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let stored = attempt("read", || Ok(table.get(key)?.map(|bytes| bytes.value().to_vec())))?;
                vacant.insert(stored.map(|bytes| StoredTally::read(&bytes)).transpose()?.unwrap_or_default())
            }
        };
        if step.seq > row.as_of_seq {
            row.tally.add_all(&step.tally);
            row.as_of_seq = step.seq;
        }
    }
    attempt("write", || {
        for (key, row) in &rows {
            table.insert(*key, row.bytes().as_slice())?;
        }
        Ok(())
    })
}

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
