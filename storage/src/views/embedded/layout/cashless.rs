//! Money's rows as bytes.
//!
//! | value | bytes |
//! |---|---|
//! | transaction chunk | up to 32 [`Line`]s in postcard, one behind the other: about 80 B each, lots and lines included |
//! | pointer chunk | up to 256 [`Pointer`]s in postcard: 2 or 3 B each |
//! | serial chunk | where its record lies ([`Record`]), then a pointer for each serial |
//! | wallet's pointer | festival and class |
//! | sums | [`Stored`] in postcard |

use std::borrow::Cow;

use engine::cashless::event::{Lot, Posting, SoldLine, TransactionKind};
use engine::model::ids::{DeviceId, FestivalId, ProductNo, ShardId, TransactionId, VendorNo, WalletId};
use engine::model::money::Currency;
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::views::cashless::{CashlessPosition, TransactionRow};
use crate::views::embedded::layout::damaged;
use crate::views::{INDEX_BITS, ViewsError};

/// Transactions in one chunk at most: about 2.5 KB.
pub(in crate::views) const CHUNK_TRANSACTIONS: usize = 32;

/// Pointers in one chunk at most: about 600 B.
pub(in crate::views) const CHUNK_POINTERS: usize = 256;

/// A transaction without what its chunk's key says: festival, time, shard, record.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    /// The event's number in its record.
    index: u32,
    kind: u8,
    /// 0: nothing.
    rejection: u8,
    flags: u8,
    wallet: [u8; 8],
    other: Option<[u8; 8]>,
    /// 0: refused.
    serial: u64,
    vendor: Option<u16>,
    order: Option<u32>,
    /// The terminal's number at the festival.
    terminal: Option<u32>,
    /// The number of its command.
    asked: Option<u64>,
    by: Option<Principal>,
    currency: Currency,
    amount: i64,
    before: i64,
    after: i64,
    /// The serial of a refund's payment.
    refund_of: Option<u64>,
    transfer: Option<u64>,
    /// In the order of [`Posting`]'s fields.
    legs: [i64; 6],
    commission_bp: u16,
    lots: Cow<'a, [Lot]>,
    /// Product, count, price, VAT.
    lines: Vec<(u16, u16, i64, u16)>,
    reason: Cow<'a, str>,
}

/// Adds a transaction to a chunk.
pub(in crate::views) fn push_transaction(chunk: &mut Vec<u8>, row: &TransactionRow) {
    let Posting { wallet, vendor, commission, source, corrections, in_transit } = row.posting;
    push(
        chunk,
        &Line {
            index: row.position.index(),
            kind: row.kind as u8,
            rejection: row.rejection.map_or(0, |rejection| rejection as u8),
            flags: row.flags,
            wallet: row.wallet.0.to_le_bytes(),
            other: row.other.map(|wallet| wallet.0.to_le_bytes()),
            serial: row.id.map_or(0, |id| id.serial),
            vendor: row.vendor.map(|vendor| vendor.0),
            order: row.order,
            terminal: row.terminal.map(DeviceId::number),
            asked: row.asked,
            by: row.by,
            currency: row.currency,
            amount: row.amount,
            before: row.before,
            after: row.after,
            refund_of: row.refund_of.map(|payment| payment.serial),
            transfer: row.transfer,
            legs: [wallet, vendor, commission, source, corrections, in_transit],
            commission_bp: row.commission_bp,
            lots: Cow::Borrowed(&row.lots),
            lines: row.lines.iter().map(|line| (line.product.0, line.count, line.price, line.vat_bp)).collect(),
            reason: Cow::Borrowed(&row.reason),
        },
    );
}

/// All transactions of a chunk, whose key says festival and the place of its first.
///
/// # Errors
/// [`ViewsError::Damaged`].
pub(in crate::views) fn read_transactions(
    festival: FestivalId,
    first: CashlessPosition,
    mut bytes: &[u8],
) -> Result<Vec<TransactionRow>, ViewsError> {
    let mut rows = Vec::with_capacity(CHUNK_TRANSACTIONS);
    while !bytes.is_empty() {
        let (line, rest) = postcard::take_from_bytes::<Line<'_>>(bytes).map_err(|_| damaged("a transaction"))?;
        bytes = rest;
        rows.push(row(festival, first, line)?);
    }
    Ok(rows)
}

fn row(festival: FestivalId, first: CashlessPosition, line: Line<'_>) -> Result<TransactionRow, ViewsError> {
    let wallet = WalletId(u64::from_le_bytes(line.wallet));
    let id = |serial| TransactionId { wallet, serial };
    let [of_wallet, vendor, commission, source, corrections, in_transit] = line.legs;
    let sold = |(product, count, price, vat_bp)| SoldLine { product: ProductNo(product), count, price, vat_bp };
    Ok(TransactionRow {
        position: CashlessPosition { order: first.order >> INDEX_BITS << INDEX_BITS | u64::from(line.index), ..first },
        id: (line.serial > 0).then(|| id(line.serial)),
        kind: TransactionKind::from_number(u32::from(line.kind)).ok_or_else(|| damaged("a transaction's kind"))?,
        rejection: Rejection::from_number(line.rejection),
        flags: line.flags,
        festival,
        wallet,
        other: line.other.map(|wallet| WalletId(u64::from_le_bytes(wallet))),
        vendor: line.vendor.map(VendorNo),
        order: line.order,
        terminal: line.terminal.map(|number| DeviceId::new(festival, number)),
        asked: line.asked,
        by: line.by,
        currency: line.currency,
        amount: line.amount,
        before: line.before,
        after: line.after,
        refund_of: line.refund_of.map(id),
        refunded: 0,
        transfer: line.transfer,
        posting: Posting { wallet: of_wallet, vendor, commission, source, corrections, in_transit },
        commission_bp: line.commission_bp,
        lots: line.lots.into_owned(),
        lines: line.lines.into_iter().map(sold).collect(),
        reason: line.reason.into_owned(),
    })
}

/// Which of a record's transactions: the event's number in it, and its class, by which it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::views) struct Pointer {
    pub(in crate::views) index: u32,
    pub(in crate::views) class: u8,
}

impl Pointer {
    pub(in crate::views) fn to(row: &TransactionRow) -> Self {
        Self { index: row.position.index(), class: row.class() }
    }
}

/// Adds one to a chunk of them.
pub(in crate::views) fn push_pointer(chunk: &mut Vec<u8>, pointer: Pointer) {
    push(chunk, &pointer);
}

/// All pointers of a chunk.
///
/// # Errors
/// [`ViewsError::Damaged`].
pub(in crate::views) fn read_pointers(mut bytes: &[u8]) -> Result<Vec<Pointer>, ViewsError> {
    let mut pointers = Vec::new();
    while !bytes.is_empty() {
        let (pointer, rest) = postcard::take_from_bytes(bytes).map_err(|_| damaged("a pointer"))?;
        bytes = rest;
        pointers.push(pointer);
    }
    Ok(pointers)
}

/// Where a record's transactions lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::views) struct Record {
    pub(in crate::views) festival: FestivalId,
    pub(in crate::views) at: Timestamp,
    pub(in crate::views) seq: u64,
}

impl Record {
    pub(in crate::views) fn of(row: &TransactionRow) -> Self {
        Self { festival: row.festival, at: row.position.at, seq: row.position.seq() }
    }
    /// The place of one of its transactions.
    pub(in crate::views) fn place(self, shard: ShardId, pointer: Pointer) -> CashlessPosition {
        CashlessPosition { at: self.at, shard, order: self.seq << INDEX_BITS | u64::from(pointer.index) }
    }
}

pub(in crate::views) fn begin_serials(chunk: &mut Vec<u8>, record: Record) {
    push(chunk, &record);
}

/// A chunk of serials.
///
/// # Errors
/// [`ViewsError::Damaged`].
pub(in crate::views) fn read_serials(bytes: &[u8]) -> Result<(Record, Vec<Pointer>), ViewsError> {
    let (record, rest) = postcard::take_from_bytes(bytes).map_err(|_| damaged("a chunk of serials"))?;
    Ok((record, read_pointers(rest)?))
}

/// Sums up to a record, and that included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::views) struct Stored<T> {
    /// The number of the last record that they cover.
    pub(in crate::views) as_of_seq: u64,
    pub(in crate::views) sums: T,
}

/// Plain data as bytes.
pub(in crate::views) fn write<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("plain data")
}

/// What [`write`] gave.
///
/// # Errors
/// [`ViewsError::Damaged`].
pub(in crate::views) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ViewsError> {
    postcard::from_bytes(bytes).map_err(|_| damaged("a row of money"))
}

fn push<T: Serialize>(chunk: &mut Vec<u8>, value: &T) {
    let taken = std::mem::take(chunk);
    *chunk = postcard::to_extend(value, taken).expect("a Vec grows, and it is plain data");
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::cashless::command::{OVER_LIMIT, Source, SourceKind};
    use proptest::prelude::*;

    fn any_row() -> impl Strategy<Value = TransactionRow> {
        let who =
            (any::<u64>(), any::<Option<u64>>(), any::<Option<u32>>(), any::<Option<u32>>(), any::<Option<u16>>());
        let money =
            (any::<[i64; 9]>(), prop::collection::vec((0..SourceKind::ALL.len(), any::<u64>(), any::<i64>()), 0..4));
        let lines = prop::collection::vec(any::<(u16, u16, i64, u16)>(), 0..4);
        let what = (
            0..TransactionKind::ALL.len(),
            any::<Option<u64>>(),
            0..=Rejection::ALL.len(),
            any::<Option<u64>>(),
            ".{0,9}",
            lines,
        );
        (who, money, what, 0..1_u64 << INDEX_BITS).prop_map(|(who, (sums, lots), what, index)| {
            let (festival, wallet) = (FestivalId(0xC0FF_EE00), WalletId(who.0));
            let (kind, serial, rejection, of, reason, lines) = what;
            let id = |serial: u64| TransactionId { wallet, serial: serial.max(1) };
            let lot = |(kind, number, amount): (usize, u64, i64)| Lot {
                source: Source::new(SourceKind::ALL[kind], festival, number),
                amount,
            };
            let sold = |(product, count, price, vat_bp)| SoldLine { product: ProductNo(product), count, price, vat_bp };
            let [amount, before, after, wallets, vendor, commission, source, corrections, in_transit] = sums;
            TransactionRow {
                position: CashlessPosition {
                    at: Timestamp(1_780_000_000_000),
                    shard: ShardId(3),
                    order: 77 << INDEX_BITS | index,
                },
                id: serial.map(id),
                kind: TransactionKind::ALL[kind],
                rejection: Rejection::ALL.get(rejection).copied(),
                flags: OVER_LIMIT,
                festival,
                wallet,
                other: who.1.map(WalletId),
                vendor: who.4.map(VendorNo),
                order: who.2,
                terminal: who.3.map(|number| DeviceId::new(festival, number)),
                asked: who.3.map(u64::from),
                by: who.2.map(|number| Principal::from_parts(number % 8, u128::from(number))),
                currency: Currency::EUR,
                amount,
                before,
                after,
                refund_of: of.map(|serial| TransactionId { wallet, serial }),
                refunded: 0,
                transfer: of,
                posting: Posting { wallet: wallets, vendor, commission, source, corrections, in_transit },
                commission_bp: who.4.unwrap_or_default(),
                lots: lots.into_iter().map(lot).collect(),
                lines: lines.into_iter().map(sold).collect(),
                reason,
            }
        })
    }

    proptest! {
        #[test]
        fn a_chunk_gives_back_its_transactions(rows in prop::collection::vec(any_row(), 1..CHUNK_TRANSACTIONS)) {
            let mut chunk = Vec::new();
            rows.iter().for_each(|row| push_transaction(&mut chunk, row));
            prop_assert_eq!(read_transactions(rows[0].festival, rows[0].position, &chunk).unwrap(), rows);
        }

        #[test]
        fn a_cut_chunk_is_damaged_and_never_a_panic(row in any_row(), cut in 1..40_usize) {
            let mut chunk = Vec::new();
            push_transaction(&mut chunk, &row);
            let cut = &chunk[..chunk.len() - cut.min(chunk.len() - 1)];
            prop_assert!(read_transactions(row.festival, row.position, cut).is_err());
        }

        #[test]
        fn serials_lead_back_to_where_they_lie(rows in prop::collection::vec(any_row(), 1..40)) {
            let mut chunk = Vec::new();
            begin_serials(&mut chunk, Record::of(&rows[0]));
            rows.iter().for_each(|row| push_pointer(&mut chunk, Pointer::to(row)));
            let (record, pointers) = read_serials(&chunk).unwrap();
            let places: Vec<_> = pointers.iter().map(|pointer| record.place(ShardId(3), *pointer)).collect();
            prop_assert_eq!(places, rows.iter().map(|row| row.position).collect::<Vec<_>>());
        }
    }
}
