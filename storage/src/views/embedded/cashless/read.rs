//! The embedded store's answers about money. A page is merged from the shards that have rows of it, each shard's in its
//! order.

use std::cmp::Ordering;
use std::ops::Bound;

use engine::cashless::event::TransactionKind;
use engine::model::ids::{DeviceId, FestivalId, Home, ProductNo, ShardId, TransactionId, VendorNo};
use engine::model::time::Timestamp;
use redb::{ReadTransaction, ReadableTable};

use crate::views::cashless::{
    CashlessPosition, Only, OrderRefund, OrderRow, ProductPosition, ProductRow, SalesPosition, SalesRow, Statement,
    TransactionRow, Transactions, TransactionsOf, VendorAccount, VendorSpan,
};
use crate::views::embedded::cashless::{
    ACCOUNTS, PRODUCTS, REFUNDS, RefundKey, SALES, TRANSACTION_TERMS, TRANSACTIONS, terminal_key,
};
use crate::views::embedded::gates::read::walk;
use crate::views::embedded::layout::cashless as layout;
use crate::views::embedded::sequence::read::{Pages, RowFilter, Walk};
use crate::views::embedded::sequence::{PageKey, Place};
use crate::views::embedded::{open, shards};
use crate::views::{PAGE_MAX, Page, Span, ViewsError};

/// From which place until before which a shard's rows of the page lie. Rows of one moment stand in the order of shards.
fn places(span: Span, page: Page<CashlessPosition>, shard: ShardId) -> (Place, Place) {
    let (mut from, mut until) = ((span.from.0, 0), (span.until.0, 0));
    if let Some(CashlessPosition { at, shard: of, order }) = page.after {
        // Of the moments and places up to there: whether the row's own is among them.
        let next = u64::from(!page.backwards);
        let edge = match shard.cmp(&of) {
            Ordering::Less => (at.0.saturating_add(1), 0),
            Ordering::Equal => (at.0, order.saturating_add(next)),
            Ordering::Greater => (at.0, 0),
        };
        match page.backwards {
            true => until = until.min(edge),
            false => from = from.max(edge),
        }
    }
    (from, until)
}

pub(in crate::views::embedded) fn transactions(
    txn: &ReadTransaction,
    of: Transactions,
    page: Page<CashlessPosition>,
) -> Result<Vec<TransactionRow>, ViewsError> {
    let mut found = rows(txn, of, page)?;
    let refunds = open(txn, REFUNDS)?;
    for row in &mut found {
        row.refunded = refunds_of_row(&refunds, row)?.iter().map(|refund| refund.amount).sum();
    }
    Ok(found)
}

/// The rows of a page, merged from the shards in which they can be.
fn rows(
    txn: &ReadTransaction,
    Transactions { of, only, span }: Transactions,
    page: Page<CashlessPosition>,
) -> Result<Vec<TransactionRow>, ViewsError> {
    let Some(shards) = shards(txn)? else { return Ok(Vec::new()) };
    let (term, shards) = match of {
        TransactionsOf::Festival(festival) => (layout::festival_term(festival), 0..shards),
        TransactionsOf::Wallet(wallet, _) => {
            let ShardId(home) = Home::Wallet(wallet).shard(shards);
            (layout::wallet_term(wallet), home..home + 1)
        }
        TransactionsOf::Terminal(terminal) => (layout::terminal_term(terminal), 0..shards),
        TransactionsOf::Vendor(festival, vendor) => (layout::vendor_term(festival, vendor), 0..shards),
    };
    let is_one = |row: &TransactionRow| match of {
        TransactionsOf::Festival(festival) => row.festival == festival,
        TransactionsOf::Wallet(wallet, at) => row.wallet == wallet && at.is_none_or(|at| row.festival == at),
        TransactionsOf::Terminal(terminal) => row.terminal == Some(terminal),
        TransactionsOf::Vendor(festival, vendor) => row.vendor_account() == Some((festival, vendor)),
    };
    let wanted = RowFilter { term, class: &|class| only.fits(class), is_one: &is_one, backwards: page.backwards };
    let (pages, runs) = (open(txn, TRANSACTIONS)?, open(txn, TRANSACTION_TERMS)?);
    let limit = page.limit.min(PAGE_MAX);
    if limit == 0 {
        return Ok(Vec::new());
    }
    let mut heads = Vec::with_capacity(shards.len());
    for shard in shards.map(ShardId) {
        let (from, until) = places(span, page, shard);
        let mut walk = Walk::begin(&wanted, (&pages, &runs), shard, from, until)?;
        if let Some(row) = walk.next()? {
            heads.push((row, walk));
        }
    }
    let mut found: Vec<TransactionRow> = Vec::new();
    while found.len() < limit {
        let order = |left: &TransactionRow, right: &TransactionRow| left.position.cmp(&right.position);
        let places = heads.iter().enumerate();
        let first = match page.backwards {
            true => places.max_by(|(_, left), (_, right)| order(&left.0, &right.0)),
            false => places.min_by(|(_, left), (_, right)| order(&left.0, &right.0)),
        };
        let Some((at, _)) = first else { break };
        let (row, walk) = &mut heads[at];
        match walk.next()? {
            Some(next) => found.push(std::mem::replace(row, next)),
            None => found.push(heads.swap_remove(at).0),
        }
    }
    Ok(found)
}

/// What was given back of a payment, in order; nothing of anything else.
fn refunds_of_row(
    table: &impl ReadableTable<RefundKey, &'static [u8]>,
    payment: &TransactionRow,
) -> Result<Vec<OrderRefund>, ViewsError> {
    match payment.id.filter(|_| payment.kind == TransactionKind::Payment) {
        Some(id) => refunds_of(table, payment.position.shard, id),
        None => Ok(Vec::new()),
    }
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
    pages: &impl ReadableTable<PageKey, &'static [u8]>,
    shard: ShardId,
    id: TransactionId,
) -> Result<Option<TransactionRow>, ViewsError> {
    let row: Option<TransactionRow> = Pages::of(pages, shard).by_serial(id.serial)?;
    Ok(row.filter(|row| row.id == Some(id)))
}

pub(in crate::views::embedded) fn transaction(
    txn: &ReadTransaction,
    id: TransactionId,
) -> Result<Option<TransactionRow>, ViewsError> {
    let Some(shards) = shards(txn)? else { return Ok(None) };
    let found = find(&open(txn, TRANSACTIONS)?, Home::Wallet(id.wallet).shard(shards), id)?;
    let Some(mut row) = found else { return Ok(None) };
    row.refunded = refunds_of_row(&open(txn, REFUNDS)?, &row)?.iter().map(|refund| refund.amount).sum();
    Ok(Some(row))
}

pub(in crate::views::embedded) fn orders(
    txn: &ReadTransaction,
    VendorSpan { festival, vendor, span }: VendorSpan,
    page: Page<CashlessPosition>,
) -> Result<Vec<OrderRow>, ViewsError> {
    let (of, only) = (TransactionsOf::Vendor(festival, vendor), Only::Kind(TransactionKind::Payment));
    let table = open(txn, REFUNDS)?;
    let order = |mut payment: TransactionRow| {
        let refunds = refunds_of_row(&table, &payment)?;
        payment.refunded = refunds.iter().map(|refund| refund.amount).sum();
        Ok(OrderRow { payment, refunds })
    };
    rows(txn, Transactions { of, only, span }, page)?.into_iter().map(order).collect()
}

fn terminal_of(festival: FestivalId, key: u64) -> Option<DeviceId> {
    Some(DeviceId::new(festival, u32::try_from(key.checked_sub(1)?).ok()?))
}

/// The range of a page over rows whose keys begin with a quarter of an hour. `key` gives the key of a row's place, `edge`
/// the least one of a quarter. `None`: nothing can be in it.
fn quarters<P: Copy, K: Copy + Ord>(
    span: Span,
    page: Page<P>,
    edge: impl Fn(i64) -> K,
    key: impl Fn(P) -> K,
) -> Option<(Bound<K>, Bound<K>)> {
    let (first, end) = (edge(span.from.0), edge(span.until.0));
    let (mut from, mut until) = (Bound::Included(first), Bound::Excluded(end));
    let (mut least, mut greatest) = (first, end);
    match page.after.map(key) {
        Some(after) if page.backwards && after < end => (until, greatest) = (Bound::Excluded(after), after),
        Some(after) if !page.backwards && after >= first => (from, least) = (Bound::Excluded(after), after),
        _ => {}
    }
    (least < greatest).then_some((from, until))
}

pub(in crate::views::embedded) fn sales(
    txn: &ReadTransaction,
    VendorSpan { festival, vendor, span }: VendorSpan,
    page: Page<SalesPosition>,
) -> Result<Vec<SalesRow>, ViewsError> {
    let edge = |quarter| (festival.0, vendor.0, quarter, 0);
    let key = |place: SalesPosition| (festival.0, vendor.0, place.quarter.0, terminal_key(place.terminal));
    let Some(range) = quarters(span, page, edge, key) else { return Ok(Vec::new()) };
    let (limit, mut found) = (page.limit.min(PAGE_MAX), Vec::new());
    walk(&open(txn, SALES)?, range, page.backwards, |(_, _, quarter, terminal), bytes| {
        if found.len() >= limit {
            return Ok(false);
        }
        let position = SalesPosition { quarter: Timestamp(quarter), terminal: terminal_of(festival, terminal) };
        found.push(SalesRow { position, tally: layout::read(bytes)? });
        Ok(true)
    })?;
    Ok(found)
}

pub(in crate::views::embedded) fn products_sold(
    txn: &ReadTransaction,
    VendorSpan { festival, vendor, span }: VendorSpan,
    page: Page<ProductPosition>,
) -> Result<Vec<ProductRow>, ViewsError> {
    let edge = |quarter| (festival.0, vendor.0, quarter, 0, 0, 0);
    let key = |place: ProductPosition| {
        let product = place.product.map_or(0, |no| u32::from(no.0) + 1);
        (festival.0, vendor.0, place.quarter.0, terminal_key(place.terminal), product, place.vat_bp)
    };
    let Some(range) = quarters(span, page, edge, key) else { return Ok(Vec::new()) };
    let (limit, mut found) = (page.limit.min(PAGE_MAX), Vec::new());
    walk(&open(txn, PRODUCTS)?, range, page.backwards, |(_, _, quarter, terminal, product, vat_bp), bytes| {
        if found.len() >= limit {
            return Ok(false);
        }
        let product = product.checked_sub(1).map(|no| ProductNo(no as u16));
        let terminal = terminal_of(festival, terminal);
        let position = ProductPosition { quarter: Timestamp(quarter), terminal, product, vat_bp };
        found.push(ProductRow { position, tally: layout::read(bytes)? });
        Ok(true)
    })?;
    Ok(found)
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
            sums.add(&layout::read::<VendorAccount>(bytes)?);
            Ok(false)
        })?;
    }
    let of = TransactionsOf::Vendor(festival, vendor);
    let since = Transactions { of, only: Only::Moved, span: Span { from: minute, until: moment } };
    let mut page = Page::first(PAGE_MAX);
    loop {
        let entries = rows(txn, since, page)?;
        entries.iter().for_each(|row| sums.add(&row.entry()));
        match entries.last() {
            Some(last) if entries.len() == PAGE_MAX => page.after = Some(last.position),
            _ => return Ok(sums),
        }
    }
}
