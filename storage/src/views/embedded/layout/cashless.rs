//! Money's rows as bytes.
//!
//! | value | bytes |
//! |---|---|
//! | transaction | a mask of its [`parts`], then those, as varints, the wallet in 8 B: about 30 B, lots included |
//! | refund | time and amount in postcard |
//! | sums | in postcard |

use engine::cashless::command::{Source, SourceKind};
use engine::cashless::event::{Lot, Posting, SoldLine, TransactionKind};
use engine::model::ids::{DeviceId, FestivalId, ProductNo, ProviderNo, ShardId, TransactionId, VendorNo, WalletId};
use engine::model::money::Currency;
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::views::cashless::{CashlessPosition, TransactionRow};
use crate::views::embedded::layout::damaged;
use crate::views::embedded::layout::varint::{self, Bytes};
use crate::views::embedded::sequence::{self, Before, PageTable, Place, Row, RunTable};
use crate::views::{INDEX_BITS, ViewsError};

/// Which parts of a transaction are written. What is not is as in the one before, nothing, or what follows from the rest.
mod parts {
    pub(super) const AT: u64 = 1;
    pub(super) const RECORD: u64 = 1 << 1;
    pub(super) const INDEX: u64 = 1 << 2;
    /// It was refused: no serial.
    pub(super) const REFUSED: u64 = 1 << 3;
    pub(super) const TERMINAL: u64 = 1 << 4;
    pub(super) const ASKED: u64 = 1 << 5;
    pub(super) const ORDER: u64 = 1 << 6;
    pub(super) const VENDOR: u64 = 1 << 7;
    pub(super) const LOTS: u64 = 1 << 8;
    pub(super) const KIND: u64 = 1 << 9;
    pub(super) const LEGS: u64 = 1 << 10;
    pub(super) const LINES: u64 = 1 << 11;
    pub(super) const COMMISSION_BP: u64 = 1 << 12;
    pub(super) const NO_VENDOR: u64 = 1 << 13;
    pub(super) const SERIAL: u64 = 1 << 14;
    pub(super) const REJECTION: u64 = 1 << 15;
    pub(super) const FLAGS: u64 = 1 << 16;
    pub(super) const NO_TERMINAL: u64 = 1 << 17;
    pub(super) const AFTER: u64 = 1 << 18;
    pub(super) const REFUND_OF: u64 = 1 << 19;
    pub(super) const BY: u64 = 1 << 20;
    pub(super) const FESTIVAL: u64 = 1 << 21;
    pub(super) const CURRENCY: u64 = 1 << 22;
    pub(super) const TRANSFER: u64 = 1 << 23;
    pub(super) const OTHER: u64 = 1 << 24;
    pub(super) const REASON: u64 = 1 << 25;
}

/// What transactions are looked up by.
pub(in crate::views::embedded) fn festival_term(festival: FestivalId) -> u32 {
    sequence::term(1, festival.0.into())
}
pub(in crate::views::embedded) fn wallet_term(wallet: WalletId) -> u32 {
    sequence::term(2, wallet.0)
}
pub(in crate::views::embedded) fn terminal_term(terminal: DeviceId) -> u32 {
    sequence::term(3, terminal.0)
}
pub(in crate::views::embedded) fn vendor_term(festival: FestivalId, vendor: VendorNo) -> u32 {
    sequence::term(4, u64::from(festival.0) << 16 | u64::from(vendor.0))
}

/// What is as in the transaction before; the first of a page has none.
struct Last {
    kind: TransactionKind,
    festival: FestivalId,
    vendor: Option<VendorNo>,
    terminal: Option<DeviceId>,
    currency: Currency,
    commission_bp: u16,
    source: Option<Source>,
}

impl Last {
    fn of(row: Option<&TransactionRow>) -> Self {
        let Some(row) = row else {
            let kind = TransactionKind::Payment;
            let (festival, vendor, terminal, currency) = (FestivalId(0), None, None, Currency::EUR);
            return Self { kind, festival, vendor, terminal, currency, commission_bp: 0, source: None };
        };
        Self {
            kind: row.kind,
            festival: row.festival,
            vendor: row.vendor,
            terminal: row.terminal,
            currency: row.currency,
            commission_bp: row.commission_bp,
            source: row.lots.first().map(|lot| lot.source),
        }
    }

    /// What the lots nearly always are: all of it from where the one before had its money.
    fn lot(&self, amount: i64) -> Option<Lot> {
        self.source.map(|source| Lot { source, amount })
    }
}

/// The legs nearly always: a payment's or refund's, whole and without commission; nothing of what was refused.
fn usual_legs(kind: TransactionKind, moved: bool, amount: i64) -> [i64; 6] {
    let back = amount.wrapping_neg();
    match kind {
        TransactionKind::Payment if moved => [back, amount, 0, 0, 0, 0],
        TransactionKind::Refund if moved => [amount, back, 0, 0, 0, 0],
        TransactionKind::TopUp if moved => [amount, 0, 0, back, 0, 0],
        _ => [0; 6],
    }
}

impl Row for TransactionRow {
    const PAGES: PageTable = crate::views::embedded::cashless::TRANSACTIONS;
    const RUNS: RunTable = crate::views::embedded::cashless::TRANSACTION_TERMS;

    fn place(&self) -> Place {
        (self.position.at.0, self.position.order)
    }

    fn serial(&self) -> Option<u64> {
        self.id.map(|id| id.serial)
    }

    fn class(&self) -> u8 {
        TransactionRow::class(self)
    }

    fn terms(&self, each: &mut dyn FnMut(u32)) {
        each(festival_term(self.festival));
        each(wallet_term(self.wallet));
        self.terminal.into_iter().for_each(|terminal| each(terminal_term(terminal)));
        self.vendor_account().into_iter().for_each(|(festival, vendor)| each(vendor_term(festival, vendor)));
    }

    fn write(&self, before: &Before<'_, Self>, out: &mut Vec<u8>) {
        let last = Last::of(before.row);
        let (record, index) = before.record();
        let at = self.position.at.0;
        let (this_record, this_index) = (self.position.seq(), u64::from(self.position.index()));
        let next_index = if this_record == record { index + 1 } else { 0 };
        let serial = self.id.map(|id| id.serial);
        let Posting { wallet, vendor, commission, source, corrections, in_transit } = self.posting;
        let legs = [wallet, vendor, commission, source, corrections, in_transit];
        let usual = usual_legs(self.kind, serial.is_some(), self.amount);
        let lots_differ = match self.lots.as_slice() {
            [lot] => last.lot(self.amount) != Some(*lot),
            _ => true,
        };
        let mut mask = 0;
        for (differs, part) in [
            (at != before.place.0, parts::AT),
            (this_record != record, parts::RECORD),
            (this_index != next_index, parts::INDEX),
            (serial.is_none(), parts::REFUSED),
            (self.terminal.is_some() && self.terminal != last.terminal, parts::TERMINAL),
            (self.asked.is_some(), parts::ASKED),
            (self.order.is_some(), parts::ORDER),
            (self.vendor.is_some() && self.vendor != last.vendor, parts::VENDOR),
            (lots_differ, parts::LOTS),
            (self.kind != last.kind, parts::KIND),
            (legs != usual, parts::LEGS),
            (!self.lines.is_empty(), parts::LINES),
            (self.commission_bp != last.commission_bp, parts::COMMISSION_BP),
            (self.vendor.is_none(), parts::NO_VENDOR),
            (serial.is_some_and(|serial| serial != before.serial.wrapping_add(1)), parts::SERIAL),
            (self.rejection.is_some(), parts::REJECTION),
            (self.flags != 0, parts::FLAGS),
            (self.terminal.is_none(), parts::NO_TERMINAL),
            (self.after != self.before.wrapping_add(wallet), parts::AFTER),
            (self.refund_of.is_some(), parts::REFUND_OF),
            (self.by.is_some(), parts::BY),
            (self.festival != last.festival, parts::FESTIVAL),
            (self.currency != last.currency, parts::CURRENCY),
            (self.transfer.is_some(), parts::TRANSFER),
            (self.other.is_some(), parts::OTHER),
            (!self.reason.is_empty(), parts::REASON),
        ] {
            mask |= if differs { part } else { 0 };
        }
        varint::put(out, mask);
        let mut put = |part, value| {
            if mask & part != 0 {
                varint::put(out, value);
            }
        };
        put(parts::AT, at.wrapping_sub(before.place.0) as u64);
        put(parts::RECORD, this_record.wrapping_sub(record));
        put(parts::INDEX, this_index);
        put(parts::FESTIVAL, self.festival.0.into());
        put(parts::KIND, self.kind as u64);
        put(parts::SERIAL, serial.unwrap_or(0).wrapping_sub(before.serial));
        put(parts::TERMINAL, self.terminal.map_or(0, |terminal| terminal.number().into()));
        put(parts::ASKED, self.asked.unwrap_or(0));
        put(parts::ORDER, self.order.unwrap_or(0).into());
        put(parts::VENDOR, self.vendor.map_or(0, |vendor| vendor.0.into()));
        put(parts::COMMISSION_BP, self.commission_bp.into());
        put(parts::REJECTION, self.rejection.map_or(0, |rejection| rejection as u64));
        put(parts::FLAGS, self.flags.into());
        put(parts::REFUND_OF, self.refund_of.map_or(0, |payment| payment.serial));
        put(parts::TRANSFER, self.transfer.unwrap_or(0));
        out.extend_from_slice(&self.wallet.0.to_le_bytes());
        varint::put_signed(out, self.amount);
        varint::put_signed(out, self.before);
        if mask & parts::AFTER != 0 {
            varint::put_signed(out, self.after);
        }
        if mask & parts::LEGS != 0 {
            put_legs(out, legs, usual);
        }
        if mask & parts::LOTS != 0 {
            varint::put(out, self.lots.len() as u64);
            for Lot { source, amount } in &self.lots {
                let here = source.festival == self.festival;
                out.push((source.kind as u8) << 1 | u8::from(here));
                if !here {
                    varint::put(out, source.festival.0.into());
                }
                varint::put(out, source.provider.0.into());
                varint::put(out, source.number);
                varint::put_signed(out, *amount);
            }
        }
        if mask & parts::LINES != 0 {
            varint::put(out, self.lines.len() as u64);
            for SoldLine { product, count, price, vat_bp } in &self.lines {
                varint::put(out, product.0.into());
                varint::put(out, u64::from(*count));
                varint::put_signed(out, *price);
                varint::put(out, u64::from(*vat_bp));
            }
        }
        if let Some(by) = self.by {
            let (kind, id) = by.to_parts();
            varint::put(out, kind.into());
            varint::put(out, id as u64);
            varint::put(out, (id >> 64) as u64);
        }
        if mask & parts::CURRENCY != 0 {
            out.extend_from_slice(&self.currency.as_bytes());
        }
        if let Some(other) = self.other {
            out.extend_from_slice(&other.0.to_le_bytes());
        }
        if mask & parts::REASON != 0 {
            varint::put(out, self.reason.len() as u64);
            out.extend_from_slice(self.reason.as_bytes());
        }
    }

    fn read(shard: ShardId, before: &Before<'_, Self>, bytes: &mut Bytes<'_>) -> Result<Self, ViewsError> {
        let last = Last::of(before.row);
        let (record, index) = before.record();
        let mask = bytes.varint()?;
        let has = |part: u64| mask & part != 0;
        let mut get = |part: u64| if has(part) { bytes.varint().map(Some) } else { Ok(None) };
        let at = get(parts::AT)?.map_or(before.place.0, |step| before.place.0.wrapping_add(step as i64));
        let next = get(parts::RECORD)?.map(|step| record.wrapping_add(step));
        let index = get(parts::INDEX)?.unwrap_or(if next.is_none() { index + 1 } else { 0 });
        let order = next.unwrap_or(record) << INDEX_BITS | index & ((1 << INDEX_BITS) - 1);
        let festival = get(parts::FESTIVAL)?.map_or(last.festival, |number| FestivalId(number as u32));
        let kind = match get(parts::KIND)? {
            None => last.kind,
            Some(kind) => TransactionKind::from_number(kind as u32).ok_or_else(|| damaged("a transaction's kind"))?,
        };
        let serial = before.serial.wrapping_add(get(parts::SERIAL)?.unwrap_or(1));
        let terminal = get(parts::TERMINAL)?.map(|number| DeviceId::new(festival, number as u32));
        let terminal = if has(parts::NO_TERMINAL) { None } else { terminal.or(last.terminal) };
        let asked = get(parts::ASKED)?;
        let order_no = get(parts::ORDER)?.map(|number| number as u32);
        let vendor = get(parts::VENDOR)?.map(|number| VendorNo(number as u16));
        let vendor = if has(parts::NO_VENDOR) { None } else { vendor.or(last.vendor) };
        let commission_bp = get(parts::COMMISSION_BP)?.map_or(last.commission_bp, |bp| bp as u16);
        let rejection = get(parts::REJECTION)?.and_then(|number| Rejection::from_number(number as u8));
        let flags = get(parts::FLAGS)?.map_or(0, |flags| flags as u8);
        let refund_of = get(parts::REFUND_OF)?;
        let transfer = get(parts::TRANSFER)?;
        let wallet = WalletId(u64::from_le_bytes(bytes.array()?));
        let (amount, available) = (bytes.signed()?, bytes.signed()?);
        let after = if has(parts::AFTER) { Some(bytes.signed()?) } else { None };
        let usual = usual_legs(kind, !has(parts::REFUSED), amount);
        let legs = if has(parts::LEGS) { read_legs(bytes, usual)? } else { usual };
        let lots = if has(parts::LOTS) {
            many(bytes, |bytes| lot(festival, bytes))?
        } else {
            vec![last.lot(amount).ok_or_else(|| damaged("a transaction without its lots"))?]
        };
        let lines = if has(parts::LINES) { many(bytes, line)? } else { Vec::new() };
        let by = if has(parts::BY) {
            let (kind, low, high) = (bytes.small()?, bytes.varint()?, bytes.varint()?);
            Some(Principal::from_parts(kind, u128::from(high) << 64 | u128::from(low)))
        } else {
            None
        };
        let currency = if has(parts::CURRENCY) {
            Currency::from_bytes(bytes.array()?).ok_or_else(|| damaged("a transaction's currency"))?
        } else {
            last.currency
        };
        let other = if has(parts::OTHER) { Some(WalletId(u64::from_le_bytes(bytes.array()?))) } else { None };
        let reason = if has(parts::REASON) {
            let len = bytes.small()?;
            String::from_utf8(bytes.take(len)?.to_vec()).map_err(|_| damaged("a transaction's reason"))?
        } else {
            String::new()
        };
        let id = |serial| TransactionId { wallet, serial };
        let [of_wallet, of_vendor, commission, source, corrections, in_transit] = legs;
        Ok(Self {
            position: CashlessPosition { at: Timestamp(at), shard, order },
            id: (!has(parts::REFUSED)).then(|| id(serial)),
            kind,
            rejection,
            flags,
            festival,
            wallet,
            other,
            vendor,
            order: order_no,
            terminal,
            asked,
            by,
            currency,
            amount,
            before: available,
            after: after.unwrap_or_else(|| available.wrapping_add(of_wallet)),
            refund_of: refund_of.map(id),
            refunded: 0,
            transfer,
            posting: Posting { wallet: of_wallet, vendor: of_vendor, commission, source, corrections, in_transit },
            commission_bp,
            lots,
            lines,
            reason,
        })
    }
}

/// The legs that are not as usual, but for the last of them if the sum says it.
fn put_legs(out: &mut Vec<u8>, legs: [i64; 6], usual: [i64; 6]) {
    let differ = (0..6).filter(|&leg| legs[leg] != usual[leg]);
    let mask = differ.clone().fold(0, |mask, leg| mask | 1 << leg);
    let sums = legs.iter().fold(0, |sum: i64, leg| sum.wrapping_add(*leg)) == 0;
    out.push(mask | if sums { SUMS } else { 0 });
    let last = differ.clone().next_back();
    for leg in differ.filter(|leg| !sums || Some(*leg) != last) {
        varint::put_signed(out, legs[leg].wrapping_sub(usual[leg]));
    }
}

/// The legs sum to zero.
const SUMS: u8 = 1 << 7;

fn read_legs(bytes: &mut Bytes<'_>, usual: [i64; 6]) -> Result<[i64; 6], ViewsError> {
    let (mask, mut legs) = (bytes.byte()?, usual);
    let last = (0..6).rfind(|leg| mask & 1 << leg != 0).filter(|_| mask & SUMS != 0);
    for leg in (0..6).filter(|leg| mask & 1 << leg != 0 && Some(*leg) != last) {
        legs[leg] = usual[leg].wrapping_add(bytes.signed()?);
    }
    if let Some(last) = last {
        legs[last] = 0;
        legs[last] = legs.iter().fold(0, |sum: i64, leg| sum.wrapping_sub(*leg));
    }
    Ok(legs)
}

fn many<T>(
    bytes: &mut Bytes<'_>,
    mut each: impl FnMut(&mut Bytes<'_>) -> Result<T, ViewsError>,
) -> Result<Vec<T>, ViewsError> {
    let count: u32 = bytes.small()?;
    (0..count).map(|_| each(bytes)).collect()
}

fn lot(festival: FestivalId, bytes: &mut Bytes<'_>) -> Result<Lot, ViewsError> {
    let kind = bytes.byte()?;
    let festival = if kind & 1 == 0 { FestivalId(bytes.small()?) } else { festival };
    let kind = SourceKind::from_number(u32::from(kind >> 1)).ok_or_else(|| damaged("a lot's source"))?;
    let (provider, number) = (ProviderNo(bytes.small()?), bytes.varint()?);
    Ok(Lot { source: Source { kind, festival, provider, number }, amount: bytes.signed()? })
}

fn line(bytes: &mut Bytes<'_>) -> Result<SoldLine, ViewsError> {
    let (product, count) = (ProductNo(bytes.small()?), bytes.small()?);
    Ok(SoldLine { product, count, price: bytes.signed()?, vat_bp: bytes.small()? })
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
        fn transactions_come_back(rows in prop::collection::vec(any_row(), 1..9)) {
            crate::views::embedded::sequence::tests::come_back(&rows);
        }
    }
}
