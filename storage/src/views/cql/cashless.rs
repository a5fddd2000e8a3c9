//! Answers about money.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use engine::cashless::event::TransactionKind;
use engine::model::ids::{DeviceId, FestivalId, ProductNo, ShardId, TransactionId, VendorNo};
use engine::model::time::Timestamp;
use futures_util::future::try_join_all;
use serde::de::DeserializeOwned;

use super::gates::read_body;
use super::keys::{Key, Parts};
use super::lists::{List, Place, Slice};
use super::store::{Store, Walk};
use crate::views::cashless::{
    CashlessPosition, Only, OrderRefund, OrderRow, ProductPosition, ProductRow, ProductTally, REFUSED, SalesPosition,
    SalesRow, Statement, TransactionRow, Transactions, TransactionsOf, VendorAccount, VendorSpan,
};
use crate::views::embedded::cashless::terminal_key;
use crate::views::embedded::layout::cashless::read;
use crate::views::{PAGE_MAX, Page, Span, ViewsError};

/// What was given back of a payment, by the refunds' serials: when and how much.
pub(super) type Refunds = BTreeMap<u64, (Timestamp, i64)>;

/// A sum, and the order of the last event that it has.
pub(super) type Sum<T> = (u64, T);

pub(super) fn place_key(whose: &Key, CashlessPosition { at, shard, order }: CashlessPosition) -> Key {
    whose.clone().moment(at.0).u16(shard.0).u64(order)
}

/// A page's rows, merged from the lists that have them.
async fn rows(
    store: &Store,
    Transactions { of, only, span }: Transactions,
    page: Page<CashlessPosition>,
) -> Result<Vec<TransactionRow>, ViewsError> {
    let (lists, whose) = match of {
        TransactionsOf::Festival(festival) => {
            let classes = TransactionKind::ALL.iter().map(|kind| *kind as u8).chain([REFUSED]);
            (
                classes.filter(|class| only.fits(*class)).map(|class| List::class(festival, class)).collect(),
                Key::default(),
            )
        }
        TransactionsOf::Wallet(wallet, _) => (vec![List::wallet(wallet)], Key::default().u64(wallet.0)),
        TransactionsOf::Terminal(terminal) => (vec![List::terminal(terminal)], Key::default()),
        TransactionsOf::Vendor(festival, vendor) => (vec![List::vendor(festival, vendor)], Key::default()),
    };
    let is_one = |row: &TransactionRow| {
        let here = match of {
            TransactionsOf::Wallet(_, Some(festival)) => row.festival == festival,
            _ => true,
        };
        here && only.fits(row.class())
    };
    let limit = page.limit.min(PAGE_MAX);
    // Of ten kinds no one fills a page alone.
    let chunk = if lists.len() > 1 { limit.div_ceil(4) } else { limit };
    let after = |at: CashlessPosition| (at.at, place_key(&whose, at));
    let slice = |list| Slice::of_time(list, &whose, span, page.after.map(after), page.backwards);
    let mut walks: Vec<Walk<'_>> = lists.into_iter().map(|list: List| Walk::over(store, slice(list), chunk)).collect();
    let mut found = Vec::new();
    if limit > 0 {
        try_join_all(walks.iter_mut().map(Walk::fetch)).await?;
    }
    while found.len() < limit {
        // All keys of a page begin alike, so they sort as the rows do.
        let heads = walks.iter().enumerate().filter_map(|(at, walk)| Some((&walk.first()?.0, at)));
        let Some((_, next)) = (if page.backwards { heads.max() } else { heads.min() }) else { break };
        let Some((_, body)) = walks[next].next().await? else { break };
        walks[next].fetch().await?;
        let row = read_body(&body)?;
        if is_one(&row) {
            found.push(row);
        }
    }
    Ok(found)
}

/// What was given back of each of these that is a payment.
async fn refunds_of(
    store: &Store,
    rows: &[TransactionRow],
) -> Result<HashMap<TransactionId, Vec<OrderRefund>>, ViewsError> {
    let payments = rows.iter().filter(|row| row.kind == TransactionKind::Payment).filter_map(|row| row.id);
    let places: HashMap<Place, TransactionId> = payments.map(|id| (Place::refunds(id), id)).collect();
    let found = store.read_some(&places.keys().cloned().collect::<BTreeSet<_>>()).await?;
    let refunds = |(place, body): (Place, Vec<u8>)| {
        let payment = places[&place];
        let refunds: Refunds = read(&body)?;
        let refunds = refunds.into_iter();
        let refund = |(serial, (at, amount))| OrderRefund { id: TransactionId { serial, ..payment }, at, amount };
        Ok((payment, refunds.map(refund).collect()))
    };
    found.into_iter().map(refunds).collect()
}

fn note_refunded(row: &mut TransactionRow, refunds: &HashMap<TransactionId, Vec<OrderRefund>>) {
    let refunds = row.id.and_then(|id| refunds.get(&id));
    row.refunded = refunds.map_or(0, |refunds| refunds.iter().map(|refund| refund.amount).sum());
}

pub(super) async fn transactions(
    store: &Store,
    of: Transactions,
    page: Page<CashlessPosition>,
) -> Result<Vec<TransactionRow>, ViewsError> {
    let mut found = rows(store, of, page).await?;
    let refunds = refunds_of(store, &found).await?;
    found.iter_mut().for_each(|row| note_refunded(row, &refunds));
    Ok(found)
}

pub(super) async fn transaction(store: &Store, id: TransactionId) -> Result<Option<TransactionRow>, ViewsError> {
    let Some(body) = store.read_one(Place::serial(id)).await? else { return Ok(None) };
    let mut row = read_body(&body)?;
    let refunds = refunds_of(store, std::slice::from_ref(&row)).await?;
    note_refunded(&mut row, &refunds);
    Ok(Some(row))
}

pub(super) async fn orders(
    store: &Store,
    VendorSpan { festival, vendor, span }: VendorSpan,
    page: Page<CashlessPosition>,
) -> Result<Vec<OrderRow>, ViewsError> {
    let (of, only) = (TransactionsOf::Vendor(festival, vendor), Only::Kind(TransactionKind::Payment));
    let payments = rows(store, Transactions { of, only, span }, page).await?;
    let mut refunds = refunds_of(store, &payments).await?;
    let order = |mut payment: TransactionRow| {
        note_refunded(&mut payment, &refunds);
        let refunds = payment.id.and_then(|id| refunds.remove(&id)).unwrap_or_default();
        OrderRow { payment, refunds }
    };
    Ok(payments.into_iter().map(order).collect())
}

pub(super) fn sales_key(SalesPosition { quarter, terminal }: SalesPosition) -> Key {
    Key::default().moment(quarter.0).u64(terminal_key(terminal))
}

pub(super) fn product_key(ProductPosition { quarter, terminal, product, vat_bp }: ProductPosition) -> Key {
    let product = product.map_or(0, |no| u32::from(no.0) + 1);
    sales_key(SalesPosition { quarter, terminal }).u32(product).u16(vat_bp)
}

/// Sums of all shards that begin with the same key, whose last two bytes are the shard's.
async fn summed<T: DeserializeOwned>(
    store: &Store,
    slice: Slice,
    limit: usize,
    add: fn(&mut T, &T),
) -> Result<Vec<(Vec<u8>, T)>, ViewsError> {
    let limit = limit.min(PAGE_MAX);
    let (mut walk, mut found) = (Walk::over(store, slice, PAGE_MAX), Vec::<(Vec<u8>, T)>::new());
    while limit > 0
        && let Some((mut key, body)) = walk.next().await?
    {
        key.truncate(key.len().saturating_sub(2));
        let (_, sum): Sum<T> = read(&body)?;
        let full = found.len() == limit;
        match found.last_mut() {
            Some((known, so_far)) if *known == key => add(so_far, &sum),
            _ if full => break,
            _ => found.push((key, sum)),
        }
    }
    Ok(found)
}

fn terminal_of(festival: FestivalId, key: u64) -> Option<DeviceId> {
    Some(DeviceId::new(festival, u32::try_from(key.checked_sub(1)?).ok()?))
}

fn sales_position(festival: FestivalId, key: &mut Parts<'_>) -> Result<SalesPosition, ViewsError> {
    Ok(SalesPosition { quarter: Timestamp(key.moment()?), terminal: terminal_of(festival, key.u64()?) })
}

pub(super) async fn sales(
    store: &Store,
    VendorSpan { festival, vendor, span }: VendorSpan,
    page: Page<SalesPosition>,
) -> Result<Vec<SalesRow>, ViewsError> {
    let after = page.after.map(|at| (at.quarter, sales_key(at)));
    let slice = Slice::of_time(List::sales(festival, vendor), &Key::default(), span, after, page.backwards);
    let row = |(key, tally): (Vec<u8>, VendorAccount)| {
        Ok(SalesRow { position: sales_position(festival, &mut Parts(&key))?, tally })
    };
    summed(store, slice, page.limit, VendorAccount::add).await?.into_iter().map(row).collect()
}

pub(super) async fn products_sold(
    store: &Store,
    VendorSpan { festival, vendor, span }: VendorSpan,
    page: Page<ProductPosition>,
) -> Result<Vec<ProductRow>, ViewsError> {
    let after = page.after.map(|at| (at.quarter, product_key(at)));
    let slice = Slice::of_time(List::products(festival, vendor), &Key::default(), span, after, page.backwards);
    let row = |(key, tally): (Vec<u8>, ProductTally)| {
        let mut key = Parts(&key);
        let SalesPosition { quarter, terminal } = sales_position(festival, &mut key)?;
        let product = key.u32()?.checked_sub(1).map(|no| ProductNo(no as u16));
        Ok(ProductRow { position: ProductPosition { quarter, terminal, product, vat_bp: key.u16()? }, tally })
    };
    summed(store, slice, page.limit, ProductTally::add).await?.into_iter().map(row).collect()
}

pub(super) async fn statement(store: &Store, of: VendorSpan, shards: u16) -> Result<Statement, ViewsError> {
    let moments = [of.span.from, of.span.until.max(of.span.from), Timestamp(i64::MAX)];
    let [opening, closing, now] = moments.map(|moment| account(store, of.festival, of.vendor, shards, moment));
    Ok(Statement { opening: opening.await?, closing: closing.await?, now: now.await? })
}

/// What a vendor's account had come to just before a moment: in each shard where it stood at the end of the last whole
/// minute, and the entries since.
async fn account(
    store: &Store,
    festival: FestivalId,
    vendor: VendorNo,
    shards: u16,
    moment: Timestamp,
) -> Result<VendorAccount, ViewsError> {
    let mut sums = VendorAccount::default();
    let minute = moment.minute();
    let shards = (0..shards).map(|shard| last_account(store, festival, vendor, ShardId(shard), Some(minute)));
    for (_, (_, account)) in try_join_all(shards).await?.into_iter().flatten() {
        sums.add(&account);
    }
    let (list, whose, span) = (List::vendor(festival, vendor), Key::default(), Span { from: minute, until: moment });
    let mut since = Walk::over(store, Slice::of_time(list, &whose, span, None, false), PAGE_MAX);
    while let Some((_, body)) = since.next().await? {
        sums.add(&read_body::<TransactionRow>(&body)?.entry());
    }
    Ok(sums)
}

/// Where a vendor's account stands in one shard, or stood before a minute, and since which minute.
pub(super) async fn last_account(
    store: &Store,
    festival: FestivalId,
    vendor: VendorNo,
    shard: ShardId,
    before: Option<Timestamp>,
) -> Result<Option<(Timestamp, Sum<VendorAccount>)>, ViewsError> {
    let from = Key::default().moment(i64::MIN);
    let until = before.map_or(Key(vec![u8::MAX; 9]), |before| Key::default().moment(before.0));
    let list = List::account(festival, vendor, shard);
    let slice = Slice { list, buckets: (0, 0), from, until, backwards: true };
    let Some((key, body)) = Walk::over(store, slice, 1).next().await? else { return Ok(None) };
    Ok(Some((Timestamp(Parts(&key).moment()?), read(&body)?)))
}
