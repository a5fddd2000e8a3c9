//! The embedded store's answers about money. Lists of wallets, terminals and vendors are ways to the rows, which lie by
//! festival, class and time.

use std::ops::Bound;

use engine::cashless::event::TransactionKind;
use engine::model::ids::{DeviceId, FestivalId, Home, ProductNo, ShardId, TransactionId, VendorNo, WalletId};
use engine::model::time::Timestamp;
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};

use crate::views::cashless::{
    CashlessPosition, Only, OrderRefund, OrderRow, ProductPosition, ProductRow, ProductTally, REFUSED, SalesPosition,
    SalesRow, Statement, TransactionRow, Transactions, TransactionsOf, VendorAccount, VendorSpan,
};
use crate::views::embedded::cashless::{
    ACCOUNTS, BY_SERIAL, BY_TERMINAL, BY_VENDOR, BY_WALLET, PRODUCTS, REFUNDS, RefundKey, SALES, SerialKey,
    TRANSACTIONS, TransactionKey, terminal_key,
};
use crate::views::embedded::gates::read::walk;
use crate::views::embedded::layout::cashless as layout;
use crate::views::embedded::layout::cashless::{Pointer, Stored};
use crate::views::embedded::{ABOUT, fault, followed, open};
use crate::views::{INDEX_BITS, PAGE_MAX, Page, Span, ViewsError};

/// A place as keys have it.
type Place = (i64, u16, u64);

/// Which chunks can hold rows of the page; `None`: none can. Chunks are keyed by their first row, so the row behind which
/// a page begins may lie in a chunk that begins before it, though never in another record's.
fn places(span: Span, page: Page<CashlessPosition>) -> Option<(Bound<Place>, Bound<Place>)> {
    let mut from = (span.from.0, 0, 0);
    let mut until = (span.until.0, 0, 0);
    match page.after {
        Some(after) if page.backwards => until = until.min((after.at.0, after.shard.0, after.order)),
        Some(after) => from = from.max((after.at.0, after.shard.0, after.order >> INDEX_BITS << INDEX_BITS)),
        None => {}
    }
    (from < until).then_some((Bound::Included(from), Bound::Excluded(until)))
}

fn position((at, shard, order): Place) -> CashlessPosition {
    CashlessPosition { at: Timestamp(at), shard: ShardId(shard), order }
}

/// Whether a place belongs to the page, as far as place and time tell.
fn is_in(span: Span, page: &Page<CashlessPosition>, place: CashlessPosition) -> bool {
    let behind = page.after.is_none_or(|after| if page.backwards { place < after } else { place > after });
    behind && span.from <= place.at && place.at < span.until
}

pub(in crate::views::embedded) fn transactions(
    txn: &ReadTransaction,
    of: Transactions,
    page: Page<CashlessPosition>,
) -> Result<Vec<TransactionRow>, ViewsError> {
    let mut rows = Rows::open(txn)?;
    let mut found = match of.of {
        TransactionsOf::Festival(festival) => of_festival(&rows.table, festival, of, page)?,
        TransactionsOf::Wallet(wallet, festival) => of_wallet(txn, &mut rows, wallet, festival, of, page)?,
        TransactionsOf::Terminal(device) => of_terminal(txn, &mut rows, device, of, page)?,
        TransactionsOf::Vendor(festival, vendor) => {
            let whose = VendorSpan { festival, vendor, span: of.span };
            of_vendor(txn, &mut rows, whose, of.only, page)?
        }
    };
    for row in &mut found {
        row.refunded = rows.refunds_of(row)?.iter().map(|refund| refund.amount).sum();
    }
    Ok(found)
}

/// A page of each class that is asked for, merged.
fn of_festival(
    table: &ReadOnlyTable<TransactionKey, &'static [u8]>,
    festival: FestivalId,
    of: Transactions,
    page: Page<CashlessPosition>,
) -> Result<Vec<TransactionRow>, ViewsError> {
    let Some((from, until)) = places(of.span, page) else { return Ok(Vec::new()) };
    let limit = page.limit.min(PAGE_MAX);
    let mut found: Vec<TransactionRow> = Vec::new();
    let last = TransactionKind::ALL.len() as u8;
    for class in (REFUSED..=last).filter(|class| of.only.fits(*class)) {
        let enough = found.len() + limit;
        let key = |(at, shard, order): Place| (festival.0, class, at, shard, order);
        walk(table, (from.map(key), until.map(key)), page.backwards, |(.., at, shard, order), chunk| {
            let mut rows = layout::read_transactions(festival, position((at, shard, order)), chunk)?;
            if page.backwards {
                rows.reverse();
            }
            let room = enough - found.len();
            found.extend(rows.into_iter().filter(|row| is_in(of.span, &page, row.position)).take(room));
            Ok(found.len() < enough)
        })?;
    }
    found.sort_unstable_by_key(|row| row.position);
    if page.backwards {
        found.reverse();
    }
    found.truncate(limit);
    Ok(found)
}

fn of_wallet(
    txn: &ReadTransaction,
    rows: &mut Rows,
    wallet: WalletId,
    festival: Option<FestivalId>,
    of: Transactions,
    page: Page<CashlessPosition>,
) -> Result<Vec<TransactionRow>, ViewsError> {
    let Some((from, until)) = places(of.span, page) else { return Ok(Vec::new()) };
    let key = |(at, shard, order): Place| (wallet.0, at, shard, order);
    let mut gather = Gather { rows, only: of.only, span: of.span, page, found: Vec::new() };
    walk(&open(txn, BY_WALLET)?, (from.map(key), until.map(key)), page.backwards, |(_, at, shard, order), bytes| {
        let (at_festival, class): (FestivalId, u8) = layout::read(bytes)?;
        match festival {
            Some(festival) if at_festival != festival => Ok(true),
            _ => gather.take_one(at_festival, class, position((at, shard, order))),
        }
    })?;
    Ok(gather.found)
}

fn of_terminal(
    txn: &ReadTransaction,
    rows: &mut Rows,
    device: DeviceId,
    of: Transactions,
    page: Page<CashlessPosition>,
) -> Result<Vec<TransactionRow>, ViewsError> {
    let Some((from, until)) = places(of.span, page) else { return Ok(Vec::new()) };
    let key = |(at, shard, order): Place| (device.0, at, shard, order);
    let mut gather = Gather { rows, only: of.only, span: of.span, page, found: Vec::new() };
    walk(&open(txn, BY_TERMINAL)?, (from.map(key), until.map(key)), page.backwards, |(_, at, shard, order), chunk| {
        gather.take(device.festival(), position((at, shard, order)), chunk)
    })?;
    Ok(gather.found)
}

fn of_vendor(
    txn: &ReadTransaction,
    rows: &mut Rows,
    VendorSpan { festival, vendor, span }: VendorSpan,
    only: Only,
    page: Page<CashlessPosition>,
) -> Result<Vec<TransactionRow>, ViewsError> {
    let Some((from, until)) = places(span, page) else { return Ok(Vec::new()) };
    let key = |(at, shard, order): Place| (festival.0, vendor.0, at, shard, order);
    let mut gather = Gather { rows, only, span, page, found: Vec::new() };
    walk(&open(txn, BY_VENDOR)?, (from.map(key), until.map(key)), page.backwards, |(.., at, shard, order), chunk| {
        gather.take(festival, position((at, shard, order)), chunk)
    })?;
    Ok(gather.found)
}

/// A page as it gathers.
struct Gather<'r> {
    rows: &'r mut Rows,
    only: Only,
    span: Span,
    page: Page<CashlessPosition>,
    found: Vec<TransactionRow>,
}

impl Gather<'_> {
    /// Takes what belongs to the page from a chunk of pointers; says whether there is room for more.
    fn take(&mut self, festival: FestivalId, first: CashlessPosition, chunk: &[u8]) -> Result<bool, ViewsError> {
        let mut pointers = layout::read_pointers(chunk)?;
        if self.page.backwards {
            pointers.reverse();
        }
        for Pointer { index, class } in pointers {
            let order = first.order >> INDEX_BITS << INDEX_BITS | u64::from(index);
            if !self.take_one(festival, class, CashlessPosition { order, ..first })? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn take_one(&mut self, festival: FestivalId, class: u8, place: CashlessPosition) -> Result<bool, ViewsError> {
        let limit = self.page.limit.min(PAGE_MAX);
        if self.found.len() < limit && self.only.fits(class) && is_in(self.span, &self.page, place) {
            self.found.push(self.rows.get(festival, class, place)?);
        }
        Ok(self.found.len() < limit)
    }
}

/// Rows by where they lie.
struct Rows {
    table: ReadOnlyTable<TransactionKey, &'static [u8]>,
    refunds: ReadOnlyTable<RefundKey, &'static [u8]>,
    /// The chunk that was read last: neighbours on a page are often neighbours there.
    last: Vec<TransactionRow>,
}

impl Rows {
    fn open(txn: &ReadTransaction) -> Result<Self, ViewsError> {
        Ok(Self { table: open(txn, TRANSACTIONS)?, refunds: open(txn, REFUNDS)?, last: Vec::new() })
    }

    fn get(&mut self, festival: FestivalId, class: u8, place: CashlessPosition) -> Result<TransactionRow, ViewsError> {
        let find = |rows: &[TransactionRow]| rows.iter().find(|row| row.position == place).cloned();
        if let Some(row) = find(&self.last) {
            return Ok(row);
        }
        self.last = chunk_with(&self.table, festival, class, place)?;
        find(&self.last).ok_or_else(missing)
    }

    /// What was given back of a payment, in order; nothing of anything else.
    fn refunds_of(&self, payment: &TransactionRow) -> Result<Vec<OrderRefund>, ViewsError> {
        match payment.id.filter(|_| payment.kind == TransactionKind::Payment) {
            Some(id) => refunds_of(&self.refunds, payment.position.shard, id),
            None => Ok(Vec::new()),
        }
    }
}

/// The chunk that has a place in it, if any has.
fn chunk_with(
    table: &impl ReadableTable<TransactionKey, &'static [u8]>,
    festival: FestivalId,
    class: u8,
    place: CashlessPosition,
) -> Result<Vec<TransactionRow>, ViewsError> {
    let key = |order| (festival.0, class, place.at.0, place.shard.0, order);
    let range = (Bound::Included(key(0)), Bound::Included(key(place.order)));
    let mut found = Vec::new();
    walk(table, range, true, |(.., order), chunk| {
        found = layout::read_transactions(festival, CashlessPosition { order, ..place }, chunk)?;
        Ok(false)
    })?;
    Ok(found)
}

fn missing() -> ViewsError {
    ViewsError::Damaged("a transaction is missing".into())
}

/// What was given back of a payment, in order.
pub(in crate::views::embedded) fn refunds_of(
    table: &impl ReadableTable<RefundKey, &'static [u8]>,
    shard: ShardId,
    payment: TransactionId,
) -> Result<Vec<OrderRefund>, ViewsError> {
    let key = |refund| (shard.0, payment.serial, refund);
    let mut refunds = Vec::new();
    walk(table, (Bound::Included(key(0)), Bound::Included(key(u64::MAX))), false, |(.., serial), bytes| {
        let (at, amount) = layout::read(bytes)?;
        refunds.push(OrderRefund { id: TransactionId { serial, ..payment }, at, amount });
        Ok(true)
    })?;
    Ok(refunds)
}

/// The transaction with this id, if the shard has one.
pub(in crate::views::embedded) fn find(
    serials: &impl ReadableTable<SerialKey, &'static [u8]>,
    table: &impl ReadableTable<TransactionKey, &'static [u8]>,
    shard: ShardId,
    id: TransactionId,
) -> Result<Option<TransactionRow>, ViewsError> {
    let mut place = None;
    let until = Bound::Included((shard.0, id.serial));
    walk(serials, (Bound::Included((shard.0, 0)), until), true, |(_, first), chunk| {
        let (record, pointers) = layout::read_serials(chunk)?;
        let pointer = usize::try_from(id.serial - first).ok().and_then(|at| pointers.get(at).copied());
        place = pointer.map(|pointer| (record.festival, pointer.class, record.place(shard, pointer)));
        Ok(false)
    })?;
    let Some((festival, class, place)) = place else { return Ok(None) };
    let chunk = chunk_with(table, festival, class, place)?;
    let row = chunk.into_iter().find(|row| row.position == place).ok_or_else(missing)?;
    Ok(Some(row).filter(|row| row.id == Some(id)))
}

pub(in crate::views::embedded) fn transaction(
    txn: &ReadTransaction,
    id: TransactionId,
) -> Result<Option<TransactionRow>, ViewsError> {
    let Some(shards) = shards(txn)? else { return Ok(None) };
    let rows = Rows::open(txn)?;
    let found = find(&open(txn, BY_SERIAL)?, &rows.table, Home::Wallet(id.wallet).shard(shards), id)?;
    let Some(mut row) = found else { return Ok(None) };
    row.refunded = rows.refunds_of(&row)?.iter().map(|refund| refund.amount).sum();
    Ok(Some(row))
}

pub(in crate::views::embedded) fn orders(
    txn: &ReadTransaction,
    of: VendorSpan,
    page: Page<CashlessPosition>,
) -> Result<Vec<OrderRow>, ViewsError> {
    let mut rows = Rows::open(txn)?;
    let payments = of_vendor(txn, &mut rows, of, Only::Kind(TransactionKind::Payment), page)?;
    let order = |mut payment: TransactionRow| {
        let refunds = rows.refunds_of(&payment)?;
        payment.refunded = refunds.iter().map(|refund| refund.amount).sum();
        Ok(OrderRow { payment, refunds })
    };
    payments.into_iter().map(order).collect()
}

fn terminal_of(festival: FestivalId, key: u64) -> Option<DeviceId> {
    Some(DeviceId::new(festival, u32::try_from(key.checked_sub(1)?).ok()?))
}

/// The range of a page over rows whose keys begin with a quarter of an hour. `key` gives the least (`false`) or greatest (`true`) key
/// of a row's place, `edge` the least one of a quarter. `None`: nothing can be in it.
fn quarters<P: Copy + PartialOrd, K: Copy + Ord>(
    span: Span,
    page: Page<P>,
    edge: impl Fn(i64) -> K,
    key: impl Fn(P, bool) -> K,
) -> Option<(Bound<K>, Bound<K>)> {
    let (mut from, mut until) = (Bound::Included(edge(span.from.0)), Bound::Excluded(edge(span.until.0)));
    let (first, end) = (edge(span.from.0), edge(span.until.0));
    match page.after {
        Some(after) if page.backwards && key(after, false) < end => until = Bound::Excluded(key(after, false)),
        Some(after) if !page.backwards && key(after, true) >= first => from = Bound::Excluded(key(after, true)),
        _ => {}
    }
    let least = match from {
        Bound::Excluded(key) | Bound::Included(key) => key,
        Bound::Unbounded => first,
    };
    let greatest = match until {
        Bound::Excluded(key) | Bound::Included(key) => key,
        Bound::Unbounded => end,
    };
    (least < greatest).then_some((from, until))
}

/// Takes a shard's part of a row: it is added to the row before if that is the same one. Says whether there is room.
fn merge<P: PartialEq, T>(found: &mut Vec<(P, T)>, limit: usize, place: P, tally: T, add: impl Fn(&mut T, &T)) -> bool {
    let full = found.len() >= limit;
    match found.last_mut() {
        Some((known, sums)) if *known == place => add(sums, &tally),
        _ if full => return false,
        _ => found.push((place, tally)),
    }
    true
}

pub(in crate::views::embedded) fn sales(
    txn: &ReadTransaction,
    VendorSpan { festival, vendor, span }: VendorSpan,
    page: Page<SalesPosition>,
) -> Result<Vec<SalesRow>, ViewsError> {
    let edge = |quarter| (festival.0, vendor.0, quarter, 0, 0);
    let key = |place: SalesPosition, last: bool| {
        let shard = if last { u16::MAX } else { 0 };
        (festival.0, vendor.0, place.quarter.0, terminal_key(place.terminal), shard)
    };
    let Some(range) = quarters(span, page, edge, key) else { return Ok(Vec::new()) };
    let (limit, mut found) = (page.limit.min(PAGE_MAX), Vec::new());
    walk(&open(txn, SALES)?, range, page.backwards, |(_, _, quarter, terminal, _), bytes| {
        let place = SalesPosition { quarter: Timestamp(quarter), terminal: terminal_of(festival, terminal) };
        let Stored { sums, .. } = layout::read::<Stored<VendorAccount>>(bytes)?;
        Ok(merge(&mut found, limit, place, sums, VendorAccount::add))
    })?;
    Ok(found.into_iter().map(|(position, tally)| SalesRow { position, tally }).collect())
}

pub(in crate::views::embedded) fn products_sold(
    txn: &ReadTransaction,
    VendorSpan { festival, vendor, span }: VendorSpan,
    page: Page<ProductPosition>,
) -> Result<Vec<ProductRow>, ViewsError> {
    let edge = |quarter| (festival.0, vendor.0, quarter, 0, 0, 0, 0);
    let key = |place: ProductPosition, last: bool| {
        let (shard, terminal) = (if last { u16::MAX } else { 0 }, terminal_key(place.terminal));
        let product = place.product.map_or(0, |no| u32::from(no.0) + 1);
        (festival.0, vendor.0, place.quarter.0, terminal, product, place.vat_bp, shard)
    };
    let Some(range) = quarters(span, page, edge, key) else { return Ok(Vec::new()) };
    let (limit, mut found) = (page.limit.min(PAGE_MAX), Vec::new());
    walk(&open(txn, PRODUCTS)?, range, page.backwards, |(_, _, quarter, terminal, product, vat_bp, _), bytes| {
        let product = product.checked_sub(1).map(|no| ProductNo(no as u16));
        let terminal = terminal_of(festival, terminal);
        let place = ProductPosition { quarter: Timestamp(quarter), terminal, product, vat_bp };
        let Stored { sums, .. } = layout::read::<Stored<ProductTally>>(bytes)?;
        Ok(merge(&mut found, limit, place, sums, ProductTally::add))
    })?;
    Ok(found.into_iter().map(|(position, tally)| ProductRow { position, tally }).collect())
}

pub(in crate::views::embedded) fn statement(txn: &ReadTransaction, of: VendorSpan) -> Result<Statement, ViewsError> {
    let opening = account(txn, of.festival, of.vendor, of.span.from)?;
    let closing = account(txn, of.festival, of.vendor, of.span.until.max(of.span.from))?;
    let now = account(txn, of.festival, of.vendor, Timestamp(i64::MAX))?;
    Ok(Statement { opening, closing, now })
}

/// What a vendor's account had come to just before a moment: in each shard where it stood at the end of the last whole
/// minute, and the entries since.
fn account(
    txn: &ReadTransaction,
    festival: FestivalId,
    vendor: VendorNo,
    moment: Timestamp,
) -> Result<VendorAccount, ViewsError> {
    let mut sums = VendorAccount::default();
    let Some(shards) = shards(txn)? else { return Ok(sums) };
    let (table, minute) = (open(txn, ACCOUNTS)?, moment.minute());
    for shard in 0..shards {
        let key = |minute| (festival.0, vendor.0, shard, minute);
        let earlier = (Bound::Included(key(i64::MIN)), Bound::Included(key(minute.0.saturating_sub(1))));
        walk(&table, earlier, true, |_, bytes| {
            sums.add(&layout::read::<Stored<VendorAccount>>(bytes)?.sums);
            Ok(false)
        })?;
    }
    let since = VendorSpan { festival, vendor, span: Span { from: minute, until: moment } };
    let (mut rows, mut page) = (Rows::open(txn)?, Page::first(PAGE_MAX));
    loop {
        let entries = of_vendor(txn, &mut rows, since, Only::Moved, page)?;
        entries.iter().for_each(|row| sums.add(&row.entry()));
        match entries.last() {
            Some(last) if entries.len() == PAGE_MAX => page.after = Some(last.position),
            _ => return Ok(sums),
        }
    }
}

/// How many shards the journal has that was followed; `None` if none was.
fn shards(txn: &ReadTransaction) -> Result<Option<u16>, ViewsError> {
    let about = open(txn, ABOUT)?;
    let bytes = about.get("followed").map_err(|why| fault("read", why.into()))?;
    bytes.map(|bytes| Ok(followed(bytes.value())?.cursor.shards())).transpose()
}
