//! How money's rows get into the embedded store. `layout/cashless.rs` has the bytes, the table of tables is in `embedded.rs`.

use std::collections::BTreeMap;

use engine::model::ids::{DeviceId, TransactionId};
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::views::cashless::{OrderRefund, ProductPosition, ProductTally, TransactionRow, VendorAccount};
use crate::views::embedded::layout::cashless as layout;
use crate::views::embedded::layout::cashless::{CHUNK_POINTERS, CHUNK_TRANSACTIONS, Pointer, Record, Stored};
use crate::views::embedded::{Table, attempt, fault};
use crate::views::{INDEX_BITS, ViewsError};

pub(super) mod read;

/// Festival, class, and place: time, shard, order.
pub(super) type TransactionKey = (u32, u8, i64, u16, u64);
/// Wallet, place.
pub(super) type WalletKey = (u64, i64, u16, u64);
/// Terminal, place of the first.
pub(super) type TerminalKey = (u64, i64, u16, u64);
/// Festival, vendor, place of the first.
pub(super) type VendorKey = (u32, u16, i64, u16, u64);
/// Shard, serial of the first.
pub(super) type SerialKey = (u16, u64);
/// Shard, serial of the payment, serial of the refund.
pub(super) type RefundKey = (u16, u64, u64);
/// Festival, vendor, quarter of an hour, terminal, shard.
pub(super) type SalesKey = (u32, u16, i64, u64, u16);
/// Festival, vendor, quarter of an hour, terminal, product, VAT, shard.
pub(super) type ProductKey = (u32, u16, i64, u64, u32, u16, u16);
/// Festival, vendor, shard, minute.
pub(super) type AccountKey = (u32, u16, u16, i64);

pub(super) const TRANSACTIONS: TableDefinition<'_, TransactionKey, &[u8]> = TableDefinition::new("transactions");
pub(super) const BY_WALLET: TableDefinition<'_, WalletKey, &[u8]> = TableDefinition::new("transactions_by_wallet");
pub(super) const BY_TERMINAL: TableDefinition<'_, TerminalKey, &[u8]> =
    TableDefinition::new("transactions_by_terminal");
pub(super) const BY_VENDOR: TableDefinition<'_, VendorKey, &[u8]> = TableDefinition::new("transactions_by_vendor");
pub(super) const BY_SERIAL: TableDefinition<'_, SerialKey, &[u8]> = TableDefinition::new("transactions_by_serial");
pub(super) const REFUNDS: TableDefinition<'_, RefundKey, &[u8]> = TableDefinition::new("refunds");
pub(super) const SALES: TableDefinition<'_, SalesKey, &[u8]> = TableDefinition::new("sales");
pub(super) const PRODUCTS: TableDefinition<'_, ProductKey, &[u8]> = TableDefinition::new("products_sold");
pub(super) const ACCOUNTS: TableDefinition<'_, AccountKey, &[u8]> = TableDefinition::new("vendor_accounts");

/// Makes the tables, so that readers find them.
pub(super) fn create(txn: &WriteTransaction) -> Result<(), redb::Error> {
    txn.open_table(TRANSACTIONS)?;
    txn.open_table(BY_WALLET)?;
    txn.open_table(BY_TERMINAL)?;
    txn.open_table(BY_VENDOR)?;
    txn.open_table(BY_SERIAL)?;
    txn.open_table(REFUNDS)?;
    txn.open_table(SALES)?;
    txn.open_table(PRODUCTS)?;
    txn.open_table(ACCOUNTS)?;
    Ok(())
}

/// A terminal within its festival as keys have it; 0: the office.
pub(super) fn terminal_key(terminal: Option<DeviceId>) -> u64 {
    terminal.map_or(0, |device| u64::from(device.number()) + 1)
}

/// Writes what happened to money: the rows, the ways to them, and the sums.
pub(super) fn write(txn: &WriteTransaction, rows: &[TransactionRow]) -> Result<(), ViewsError> {
    // A quiet night at the bar costs the gates' lists nothing.
    if rows.is_empty() {
        return Ok(());
    }
    write_rows(txn, rows)?;
    write_sales(txn, rows)?;
    write_products(txn, rows)?;
    write_accounts(txn, rows)
}

type Place = (i64, u16, u64);

fn place(row: &TransactionRow) -> Place {
    (row.position.at.0, row.position.shard.0, row.position.order)
}

/// Everything is inserted in the order of its keys: what is neighbours in the batch is neighbours in the file.
fn write_rows(txn: &WriteTransaction, rows: &[TransactionRow]) -> Result<(), ViewsError> {
    attempt("write", || {
        let mut bytes = Vec::new();
        let mut table = txn.open_table(TRANSACTIONS)?;
        for_each_chunk(
            rows,
            |row| Some((row.festival.0, row.class())),
            CHUNK_TRANSACTIONS,
            |(festival, class), chunk| {
                bytes.clear();
                chunk.iter().for_each(|row| layout::push_transaction(&mut bytes, row));
                let (at, shard, order) = place(chunk[0]);
                table.insert((festival, class, at, shard, order), bytes.as_slice()).map(drop)
            },
        )?;

        let mut table = txn.open_table(BY_WALLET)?;
        let mut of_wallets: Vec<_> = rows.iter().map(|row| (row.wallet.0, place(row), row)).collect();
        of_wallets.sort_unstable_by_key(|(wallet, place, _)| (*wallet, *place));
        for (wallet, (at, shard, order), row) in of_wallets {
            let pointer = layout::write(&(row.festival, row.class()));
            table.insert((wallet, at, shard, order), pointer.as_slice())?;
        }

        let mut table = txn.open_table(BY_TERMINAL)?;
        for_each_chunk(
            rows,
            |row| Some(row.terminal?.0),
            CHUNK_POINTERS,
            |terminal, chunk| {
                point(&mut bytes, chunk);
                let (at, shard, order) = place(chunk[0]);
                table.insert((terminal, at, shard, order), bytes.as_slice()).map(drop)
            },
        )?;

        let mut table = txn.open_table(BY_VENDOR)?;
        for_each_chunk(rows, TransactionRow::vendor_account, CHUNK_POINTERS, |(festival, vendor), chunk| {
            point(&mut bytes, chunk);
            let (at, shard, order) = place(chunk[0]);
            table.insert((festival.0, vendor.0, at, shard, order), bytes.as_slice()).map(drop)
        })?;
        Ok(())
    })?;
    attempt("write", || write_serials(txn, rows))
}

fn point(bytes: &mut Vec<u8>, chunk: &[&TransactionRow]) {
    bytes.clear();
    chunk.iter().for_each(|row| layout::push_pointer(bytes, Pointer::to(row)));
}

/// Groups rows by a key, record by record, into chunks of at most `most`, and hands them on in the order of the keys.
fn for_each_chunk<K: Ord + Copy>(
    rows: &[TransactionRow],
    key: impl Fn(&TransactionRow) -> Option<K>,
    most: usize,
    mut each: impl FnMut(K, &[&TransactionRow]) -> Result<(), redb::StorageError>,
) -> Result<(), redb::Error> {
    let mut keyed: Vec<_> = rows.iter().filter_map(|row| Some((key(row)?, place(row), row))).collect();
    keyed.sort_unstable_by_key(|(key, place, _)| (*key, *place));
    let record = |row: &TransactionRow| (row.position.shard, row.position.order >> INDEX_BITS);
    let mut chunk = Vec::with_capacity(most);
    for run in keyed.chunk_by(|left, right| left.0 == right.0 && record(left.2) == record(right.2)) {
        for piece in run.chunks(most) {
            chunk.clear();
            chunk.extend(piece.iter().map(|(.., row)| *row));
            each(piece[0].0, &chunk)?;
        }
    }
    Ok(())
}

/// The way from a serial to its row, and from a payment to its refunds.
fn write_serials(txn: &WriteTransaction, rows: &[TransactionRow]) -> Result<(), redb::Error> {
    let mut table = txn.open_table(BY_SERIAL)?;
    let mut moved: Vec<_> = rows.iter().filter_map(|row| Some((row.position.shard.0, row.id?.serial, row))).collect();
    moved.sort_unstable_by_key(|(shard, serial, _)| (*shard, *serial));
    // Serials are dense within a shard, so a chunk needs its first one only.
    let together = |left: &(u16, u64, &TransactionRow), right: &(u16, u64, &TransactionRow)| {
        left.0 == right.0 && left.1 + 1 == right.1 && Record::of(left.2) == Record::of(right.2)
    };
    let mut bytes = Vec::new();
    for chunk in moved.chunk_by(together).flat_map(|run| run.chunks(CHUNK_POINTERS)) {
        let (shard, serial, first) = chunk[0];
        bytes.clear();
        layout::begin_serials(&mut bytes, Record::of(first));
        chunk.iter().for_each(|(.., row)| layout::push_pointer(&mut bytes, Pointer::to(row)));
        table.insert((shard, serial), bytes.as_slice())?;
    }
    let mut table = txn.open_table(REFUNDS)?;
    for (shard, serial, row) in moved {
        if let Some(payment) = row.refund_of {
            let refund = layout::write(&(row.position.at, row.amount));
            table.insert((shard, payment.serial, serial), refund.as_slice())?;
        }
    }
    Ok(())
}

/// A row of sums on its way: what is stored, and what the batch adds. Steps that it covers already are passed over.
struct Running<T> {
    covered: u64,
    now: Stored<T>,
}

impl<T: DeserializeOwned + Default> Running<T> {
    fn load<K: redb::Key + 'static>(table: &Table<'_, K>, key: K::SelfType<'_>) -> Result<Self, ViewsError> {
        let stored = attempt("read", || Ok(table.get(key)?.map(|bytes| bytes.value().to_vec())))?;
        let now: Stored<T> = stored.map(|bytes| layout::read(&bytes)).transpose()?.unwrap_or_default();
        Ok(Self { covered: now.as_of_seq, now })
    }

    fn step(&mut self, seq: u64, add: impl FnOnce(&mut T)) {
        if seq > self.covered {
            self.now.as_of_seq = self.now.as_of_seq.max(seq);
            add(&mut self.now.sums);
        }
    }
}

/// Loads each row that the steps touch once, and gives back what they come to.
fn add_up<K, T: DeserializeOwned + Default>(
    table: &Table<'_, K>,
    steps: impl Iterator<Item = (K, u64, T)>,
    add: impl Fn(&mut T, &T),
) -> Result<BTreeMap<K, Running<T>>, ViewsError>
where
    K: redb::Key + Ord + Copy + for<'k> redb::Value<SelfType<'k> = K> + 'static,
{
    let mut rows: BTreeMap<K, Running<T>> = BTreeMap::new();
    for (key, seq, step) in steps {
        let row = match rows.entry(key) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(vacant) => vacant.insert(Running::load(table, key)?),
        };
        row.step(seq, |sums| add(sums, &step));
    }
    Ok(rows)
}

fn put<K, T: Serialize>(table: &mut Table<'_, K>, rows: BTreeMap<K, Running<T>>) -> Result<(), ViewsError>
where
    K: redb::Key + Ord + Copy + for<'k> redb::Value<SelfType<'k> = K> + 'static,
{
    attempt("write", || {
        for (key, row) in rows {
            table.insert(key, layout::write(&row.now).as_slice())?;
        }
        Ok(())
    })
}

fn write_sales(txn: &WriteTransaction, rows: &[TransactionRow]) -> Result<(), ViewsError> {
    let mut table = txn.open_table(SALES).map_err(|why| fault("write", why.into()))?;
    let steps = rows.iter().filter_map(|row| {
        let (festival, vendor, place) = row.sale()?;
        let key = (festival.0, vendor.0, place.quarter.0, terminal_key(place.terminal), row.position.shard.0);
        Some((key, row.position.seq(), row.entry()))
    });
    let sums = add_up(&table, steps, VendorAccount::add)?;
    put(&mut table, sums)
}

fn write_products(txn: &WriteTransaction, rows: &[TransactionRow]) -> Result<(), ViewsError> {
    let mut steps = Vec::new();
    for row in rows {
        let Some((festival, vendor)) = row.vendor_account() else { continue };
        let products = match row.refund_of {
            None => row.products(),
            Some(payment) => given_back(txn, row, payment)?,
        };
        steps.extend(products.into_iter().map(|(place, tally)| {
            let (terminal, product) = (terminal_key(place.terminal), place.product.map_or(0, |no| u32::from(no.0) + 1));
            let quarter = place.quarter.0;
            let key = (festival.0, vendor.0, quarter, terminal, product, place.vat_bp, row.position.shard.0);
            (key, row.position.seq(), tally)
        }));
    }
    let mut table = txn.open_table(PRODUCTS).map_err(|why| fault("write", why.into()))?;
    let sums = add_up(&table, steps.into_iter(), ProductTally::add)?;
    put(&mut table, sums)
}

/// What a refund takes off products: its payment says which. Both are among the rows already, and what was given back
/// before it too.
fn given_back(
    txn: &WriteTransaction,
    refund: &TransactionRow,
    payment: TransactionId,
) -> Result<Vec<(ProductPosition, ProductTally)>, ViewsError> {
    let shard = refund.position.shard;
    let serials = txn.open_table(BY_SERIAL).map_err(|why| fault("read", why.into()))?;
    let table = txn.open_table(TRANSACTIONS).map_err(|why| fault("read", why.into()))?;
    let paid = read::find(&serials, &table, shard, payment)?;
    let paid = paid.ok_or_else(|| ViewsError::Misfit(format!("a refund of {payment}, which nobody has seen")))?;
    let refunds = txn.open_table(REFUNDS).map_err(|why| fault("read", why.into()))?;
    let refunds = read::refunds_of(&refunds, shard, payment)?;
    let earlier = refunds.iter().take_while(|known| Some(known.id) != refund.id);
    let row = |known: &OrderRefund| {
        let row = read::find(&serials, &table, shard, known.id)?;
        row.ok_or_else(|| ViewsError::Misfit(format!("the refund {}, which nobody has seen", known.id)))
    };
    let earlier: Vec<TransactionRow> = earlier.map(row).collect::<Result<_, _>>()?;
    Ok(refund.products_given_back(&paid, &earlier))
}

/// What each vendor's account has come to at the end of each minute in which it moved, shard by shard. A shard's time
/// never goes back, so its last row is where it stands.
fn write_accounts(txn: &WriteTransaction, rows: &[TransactionRow]) -> Result<(), ViewsError> {
    let mut table = txn.open_table(ACCOUNTS).map_err(|why| fault("write", why.into()))?;
    let mut latest: BTreeMap<(u32, u16, u16), (i64, Running<VendorAccount>)> = BTreeMap::new();
    let mut ended: Vec<(AccountKey, Stored<VendorAccount>)> = Vec::new();
    for row in rows {
        let Some((festival, vendor)) = row.vendor_account() else { continue };
        let whose = (festival.0, vendor.0, row.position.shard.0);
        let (minute, running) = match latest.entry(whose) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(vacant) => vacant.insert(last_account(&table, whose)?),
        };
        let now = row.position.at.minute().0;
        if now > *minute && row.position.seq() > running.covered {
            if running.now.as_of_seq > running.covered {
                ended.push(((whose.0, whose.1, whose.2, *minute), running.now));
            }
            *minute = now;
        }
        running.step(row.position.seq(), |sums| sums.add(&row.entry()));
    }
    let last = latest.into_iter().filter(|(_, (_, running))| running.now.as_of_seq > running.covered);
    ended.extend(
        last.map(|((festival, vendor, shard), (minute, running))| ((festival, vendor, shard, minute), running.now)),
    );
    ended.sort_unstable_by_key(|(key, _)| *key);
    attempt("write", || {
        for (key, account) in ended {
            table.insert(key, layout::write(&account).as_slice())?;
        }
        Ok(())
    })
}

/// Where a vendor's account stands in one shard, and since which minute.
fn last_account(
    table: &Table<'_, AccountKey>,
    (festival, vendor, shard): (u32, u16, u16),
) -> Result<(i64, Running<VendorAccount>), ViewsError> {
    let all = (festival, vendor, shard, i64::MIN)..=(festival, vendor, shard, i64::MAX);
    let last = attempt("read", || {
        let last = table.range(all)?.next_back().transpose()?;
        Ok(last.map(|(key, bytes)| (key.value().3, bytes.value().to_vec())))
    })?;
    let Some((minute, bytes)) = last else {
        return Ok((i64::MIN, Running { covered: 0, now: Stored::default() }));
    };
    let now: Stored<VendorAccount> = layout::read(&bytes)?;
    Ok((minute, Running { covered: now.as_of_seq, now }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Records;
    use crate::testing::night::Night;
    use crate::views::Followed;
    use crate::views::contract::disk::Disk;
    use crate::views::embedded::EmbeddedViews;
    use crate::views::fold::Batch;

    fn rows_of(night: &Night) -> Vec<TransactionRow> {
        let nothing = Followed::nothing(night.journal.end().shards());
        let mut reader = night.journal.reader(&nothing.cursor).unwrap();
        let mut batch = Batch::behind(&nothing);
        while let Some(entry) = reader.next().unwrap() {
            batch.add(&entry).unwrap();
        }
        batch.transactions
    }

    /// As a store has it to whom a crash left a batch half written: whatever is written again changes nothing.
    #[test]
    fn what_is_written_again_changes_nothing() {
        for seed in 0..6 {
            let mut night = Night::new(seed);
            (0..60).for_each(|_| night.act());
            let rows = rows_of(&night);
            let all = |pieces: &[&[TransactionRow]]| {
                let views = EmbeddedViews::on(Disk::default()).unwrap();
                for piece in pieces {
                    let txn = views.db.begin_write().unwrap();
                    write(&txn, piece).unwrap();
                    txn.commit().unwrap();
                }
                views.dump().unwrap()
            };
            let once = all(&[&rows]);
            // Batches are whole records.
            let ends: Vec<usize> = (1..rows.len())
                .filter(|&at| {
                    let (left, right) = (rows[at - 1].position, rows[at].position);
                    (left.shard, left.seq()) != (right.shard, right.seq())
                })
                .collect();
            let (third, half) = (ends[ends.len() / 3], ends[ends.len() / 2]);
            assert!(once.len() > 100, "there is something to compare");
            for pieces in [
                vec![&rows[..half], &rows[half..]],
                vec![&rows[..half], &rows[..half], &rows[half..], &rows[half..]],
                vec![&rows[..half], &rows[third..half], &rows[third..]],
                vec![&rows, &rows],
            ] {
                assert_eq!(all(&pieces), once, "seed {seed}");
            }
        }
    }
}
