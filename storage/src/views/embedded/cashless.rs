//! How money's rows get into the embedded store. `layout/cashless.rs` has the bytes, the table of tables is in `embedded.rs`.

use std::collections::BTreeMap;

use engine::model::ids::{DeviceId, ShardId, TransactionId};
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::views::ViewsError;
use crate::views::cashless::{OrderRefund, ProductPosition, ProductTally, TransactionRow, VendorAccount};
use crate::views::embedded::layout::cashless as layout;
use crate::views::embedded::sequence::{self, PageTable, RunTable};
use crate::views::embedded::{Table, attempt, fault};

pub(super) mod read;

/// Shard, serial of the payment, serial of the refund.
pub(super) type RefundKey = (u16, u64, u64);
/// Festival, vendor, quarter of an hour, terminal.
pub(super) type SalesKey = (u32, u16, i64, u64);
/// Festival, vendor, quarter of an hour, terminal, product, VAT.
pub(super) type ProductKey = (u32, u16, i64, u64, u32, u16);
/// Festival, vendor, shard, minute.
pub(super) type AccountKey = (u32, u16, u16, i64);

pub(super) const TRANSACTIONS: PageTable = TableDefinition::new("transactions");
pub(super) const TRANSACTION_TERMS: RunTable = TableDefinition::new("transaction_terms");
pub(super) const REFUNDS: TableDefinition<'_, RefundKey, &[u8]> = TableDefinition::new("refunds");
pub(super) const SALES: TableDefinition<'_, SalesKey, &[u8]> = TableDefinition::new("sales");
pub(super) const PRODUCTS: TableDefinition<'_, ProductKey, &[u8]> = TableDefinition::new("products_sold");
pub(super) const ACCOUNTS: TableDefinition<'_, AccountKey, &[u8]> = TableDefinition::new("vendor_accounts");

/// Makes the tables, so that readers find them.
pub(super) fn create(txn: &WriteTransaction) -> Result<(), redb::Error> {
    txn.open_table(TRANSACTIONS)?;
    txn.open_table(TRANSACTION_TERMS)?;
    txn.open_table(REFUNDS)?;
    txn.open_table(SALES)?;
    txn.open_table(PRODUCTS)?;
    txn.open_table(ACCOUNTS)?;
    Ok(())
}

/// A terminal within its festival as keys have it; 0: the office.
pub(in crate::views) fn terminal_key(terminal: Option<DeviceId>) -> u64 {
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

/// The rows by shard, in whose order they are, and the ways from payments to their refunds.
fn write_rows(txn: &WriteTransaction, rows: &[TransactionRow]) -> Result<(), ViewsError> {
    let mut of_shards: BTreeMap<ShardId, Vec<&TransactionRow>> = BTreeMap::new();
    for row in rows {
        of_shards.entry(row.position.shard).or_default().push(row);
    }
    of_shards.into_iter().try_for_each(|(shard, rows)| sequence::append(txn, shard, &rows))?;
    attempt("write", || {
        let mut table = txn.open_table(REFUNDS)?;
        for row in rows {
            if let (Some(payment), Some(id)) = (row.refund_of, row.id) {
                let refund = layout::write(&(row.position.at, row.amount));
                table.insert((row.position.shard.0, payment.serial, id.serial), refund.as_slice())?;
            }
        }
        Ok(())
    })
}

/// Adds steps to sums: each row that they touch is read once, and written once.
fn add_up<K, T: Serialize + DeserializeOwned + Default>(
    table: &mut Table<'_, K>,
    steps: impl Iterator<Item = (K, T)>,
    add: impl Fn(&mut T, &T),
) -> Result<(), ViewsError>
where
    K: redb::Key + Ord + Copy + for<'k> redb::Value<SelfType<'k> = K> + 'static,
{
    let mut rows: BTreeMap<K, T> = BTreeMap::new();
    for (key, step) in steps {
        let sums = match rows.entry(key) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let stored = attempt("read", || Ok(table.get(key)?.map(|bytes| bytes.value().to_vec())))?;
                vacant.insert(stored.map(|bytes| layout::read(&bytes)).transpose()?.unwrap_or_default())
            }
        };
        add(sums, &step);
    }
    attempt("write", || {
        for (key, sums) in rows {
            table.insert(key, layout::write(&sums).as_slice())?;
        }
        Ok(())
    })
}

fn write_sales(txn: &WriteTransaction, rows: &[TransactionRow]) -> Result<(), ViewsError> {
    let mut table = txn.open_table(SALES).map_err(|why| fault("write", why.into()))?;
    let steps = rows.iter().filter_map(|row| {
        let (festival, vendor, place) = row.sale()?;
        Some(((festival.0, vendor.0, place.quarter.0, terminal_key(place.terminal)), row.entry()))
    });
    add_up(&mut table, steps, VendorAccount::add)
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
            ((festival.0, vendor.0, quarter, terminal, product, place.vat_bp), tally)
        }));
    }
    let mut table = txn.open_table(PRODUCTS).map_err(|why| fault("write", why.into()))?;
    add_up(&mut table, steps.into_iter(), ProductTally::add)
}

/// What a refund takes off products: its payment says which. Both are among the rows already, and what was given back
/// before it too.
fn given_back(
    txn: &WriteTransaction,
    refund: &TransactionRow,
    payment: TransactionId,
) -> Result<Vec<(ProductPosition, ProductTally)>, ViewsError> {
    let shard = refund.position.shard;
    let table = txn.open_table(TRANSACTIONS).map_err(|why| fault("read", why.into()))?;
    let paid = read::find(&table, shard, payment)?;
    let paid = paid.ok_or_else(|| ViewsError::Misfit(format!("a refund of {payment}, which nobody has seen")))?;
    let refunds = txn.open_table(REFUNDS).map_err(|why| fault("read", why.into()))?;
    let refunds = read::refunds_of(&refunds, shard, payment)?;
    let earlier = refunds.iter().take_while(|known| Some(known.id) != refund.id);
    let row = |known: &OrderRefund| {
        let row = read::find(&table, shard, known.id)?;
        row.ok_or_else(|| ViewsError::Misfit(format!("the refund {}, which nobody has seen", known.id)))
    };
    let earlier: Vec<TransactionRow> = earlier.map(row).collect::<Result<_, _>>()?;
    Ok(refund.products_given_back(&paid, &earlier))
}

/// What each vendor's account has come to at the end of each minute in which it moved, shard by shard. A shard's time
/// never goes back, so its last row is where it stands.
fn write_accounts(txn: &WriteTransaction, rows: &[TransactionRow]) -> Result<(), ViewsError> {
    let mut table = txn.open_table(ACCOUNTS).map_err(|why| fault("write", why.into()))?;
    let mut latest: BTreeMap<(u32, u16, u16), (i64, VendorAccount)> = BTreeMap::new();
    let mut ended: Vec<(AccountKey, VendorAccount)> = Vec::new();
    for row in rows {
        let Some((festival, vendor)) = row.vendor_account() else { continue };
        let whose = (festival.0, vendor.0, row.position.shard.0);
        let now = row.position.at.minute().0;
        let (minute, account) = match latest.entry(whose) {
            std::collections::btree_map::Entry::Occupied(known) => {
                let known = known.into_mut();
                if now > known.0 {
                    ended.push(((whose.0, whose.1, whose.2, known.0), known.1));
                }
                known
            }
            std::collections::btree_map::Entry::Vacant(vacant) => vacant.insert(last_account(&table, whose)?),
        };
        *minute = now.max(*minute);
        account.add(&row.entry());
    }
    let last = latest.into_iter();
    ended.extend(
        last.map(|((festival, vendor, shard), (minute, account))| ((festival, vendor, shard, minute), account)),
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
) -> Result<(i64, VendorAccount), ViewsError> {
    let all = (festival, vendor, shard, i64::MIN)..=(festival, vendor, shard, i64::MAX);
    let last = attempt("read", || {
        let last = table.range(all)?.next_back().transpose()?;
        Ok(last.map(|(key, bytes)| (key.value().3, bytes.value().to_vec())))
    })?;
    last.map_or(Ok((i64::MIN, VendorAccount::default())), |(minute, bytes)| Ok((minute, layout::read(&bytes)?)))
}
