//! Read models of money: what has happened to wallets, what vendors sold and what is payable to them.
//!
//! - **transactions**, and what was refused: by festival, kind and time; by wallet; by terminal; by vendor;
//! - **orders**: what a vendor was paid for, line by line, with what was given back of each;
//! - **sales**: per vendor, quarter of an hour and terminal; and per product within that, with the VAT in it;
//! - **statements**: what a vendor's account had come to at any two moments. The account is kept cumulatively, as the
//!   shards' books keep it, so a statement over a year costs what one over an hour does.
//!
//! A wallet's transactions lie in its shard's records, a vendor's in many shards'. Rows stand in the order of time, then
//! shard, then place in the shard's history ([`CashlessPosition`]), so pages are stable: a row never moves, and nothing is
//! put in front of one of the same shard. A shard that is behind may still add rows between others' of the same moments.
//!
//! Names of vendors and products are the festival's own state (`Query::Cashless`); rows have their numbers.
//!
//! What a row adds to sums is said here, once, for every store: [`TransactionRow::entry`], [`TransactionRow::sale`],
//! [`TransactionRow::products`], [`TransactionRow::products_given_back`]. Stores keep absolute sums; where the position is
//! not written in the same transaction, per shard and bucket, with the number of the last record in them.

use engine::cashless::event::{Lot, Posting, SoldLine, Transaction, TransactionKind};
use engine::model::ids::{DeviceId, FestivalId, ProductNo, ShardId, TransactionId, VendorNo, WalletId};
use engine::model::money::Currency;
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::time::{MINUTE_MS, Timestamp};
use serde::{Deserialize, Serialize};

mod shares;

use crate::views::gates::LogPosition;
use crate::views::{INDEX_BITS, Page, Span, ViewsError};
use shares::{GivenBack, Left};

/// Money's half of a store of read models. All of it is written by [`super::Views::write`]; each answer is one snapshot.
pub trait CashlessViews: Send + Sync + 'static {
    /// Transactions in their order (or, `page.backwards`, newest first), strictly behind `page.after`.
    ///
    /// # Errors
    /// [`ViewsError::Store`], [`ViewsError::Damaged`].
    fn transactions(&self, of: Transactions, page: Page<CashlessPosition>) -> Result<Vec<TransactionRow>, ViewsError>;

    /// One transaction, if there is such a one.
    ///
    /// # Errors
    /// As [`CashlessViews::transactions`].
    fn transaction(&self, id: TransactionId) -> Result<Option<TransactionRow>, ViewsError>;

    /// A vendor's orders in their order, strictly behind `page.after`, each with what was given back of it until now.
    ///
    /// # Errors
    /// As [`CashlessViews::transactions`].
    fn orders(&self, of: VendorSpan, page: Page<CashlessPosition>) -> Result<Vec<OrderRow>, ViewsError>;

    /// A vendor's sales by quarter of an hour and terminal, strictly behind `page.after`. Quarters without any have no row;
    /// a quarter is in the span if it begins in it, so a span from quarter to quarter is exact.
    ///
    /// # Errors
    /// As [`CashlessViews::transactions`].
    fn sales(&self, of: VendorSpan, page: Page<SalesPosition>) -> Result<Vec<SalesRow>, ViewsError>;

    /// What a vendor sold by quarter of an hour, terminal, product and VAT, strictly behind `page.after`. As [`CashlessViews::sales`].
    ///
    /// # Errors
    /// As [`CashlessViews::transactions`].
    fn products_sold(&self, of: VendorSpan, page: Page<ProductPosition>) -> Result<Vec<ProductRow>, ViewsError>;

    /// What a vendor's account had come to when the span began and when it ended, to the millisecond, and now.
    ///
    /// # Errors
    /// As [`CashlessViews::transactions`].
    fn statement(&self, of: VendorSpan) -> Result<Statement, ViewsError>;
}

/// Which transactions. Of a span as always: from its first moment until before its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transactions {
    pub of: TransactionsOf,
    /// Of these, which.
    pub only: Only,
    /// From when until when.
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionsOf {
    /// All that happened at a festival.
    Festival(FestivalId),
    /// A wallet's history; with a festival what happened there, which is all that its staff may see of another's wallet.
    Wallet(WalletId, Option<FestivalId>),
    /// What a terminal asked; its id names its festival.
    Terminal(DeviceId),
    /// What a vendor was paid and gave back: the entries of its account. Nothing that was refused.
    Vendor(FestivalId, VendorNo),
}

/// Which kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// Whatever moved money, and what was refused.
    Everything,
    /// What moved money.
    Moved,
    /// What moved money, of this kind.
    Kind(TransactionKind),
    /// What was refused.
    Refused,
}

impl Only {
    /// Whether it lets this class in.
    pub(crate) fn fits(self, class: u8) -> bool {
        match self {
            Self::Everything => true,
            Self::Moved => class != REFUSED,
            Self::Kind(kind) => class == kind as u8,
            Self::Refused => class == REFUSED,
        }
    }
}

/// The class of what was refused; what moved money has its kind's number, from 1.
pub(crate) const REFUSED: u8 = 0;

/// A place among transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CashlessPosition {
    /// The shard's time of the decision.
    pub at: Timestamp,
    /// Which shard's.
    pub shard: ShardId,
    /// Where it lies in the shard's history: see [`LogPosition::order`].
    pub order: u64,
}

impl CashlessPosition {
    pub(crate) fn new(place: LogPosition, shard: ShardId) -> Self {
        Self { at: place.at, shard, order: place.order }
    }
    /// The number of the record within its shard.
    pub fn seq(&self) -> u64 {
        self.order >> INDEX_BITS
    }
    /// The number of the event in its record.
    pub(crate) fn index(&self) -> u32 {
        (self.order & ((1 << INDEX_BITS) - 1)) as u32
    }
}

/// A transaction, or what was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionRow {
    /// Where it stands, and when it was.
    pub position: CashlessPosition,
    /// Its id; `None`: it was refused and nothing moved.
    pub id: Option<TransactionId>,
    /// What it is, or would have been.
    pub kind: TransactionKind,
    /// Why it was refused; for a transfer that came back, why the other side would not have it.
    pub rejection: Option<Rejection>,
    /// As in `engine::command`: `OVER_LIMIT`.
    pub flags: u8,
    /// Where it happened.
    pub festival: FestivalId,
    pub wallet: WalletId,
    /// For a transfer the other wallet.
    pub other: Option<WalletId>,
    /// Who was paid or gave back; for a refused payment who would have been paid.
    pub vendor: Option<VendorNo>,
    /// For a payment the vendor's number for it.
    pub order: Option<u32>,
    /// The terminal that asked.
    pub terminal: Option<DeviceId>,
    /// The number of its command, by which the terminal knows it.
    pub asked: Option<u64>,
    /// Who asked over HTTP, or by the rules. Neither terminal nor this: the other side of a transfer.
    pub by: Option<Principal>,
    pub currency: Currency,
    /// What was asked for, in minor units; negative for a correction downwards only.
    pub amount: i64,
    /// Available in the wallet before.
    pub before: i64,
    /// Available afterwards.
    pub after: i64,
    /// For a refund the payment.
    pub refund_of: Option<TransactionId>,
    /// For a payment what was given back of it until now: it rises while everything else stays.
    pub refunded: i64,
    /// For a transfer the number of the operation at the sender's shard; both sides have it.
    pub transfer: Option<u64>,
    /// The legs: they sum to zero. `vendor` is the vendor's share, `commission` the organiser's.
    pub posting: Posting,
    /// For a payment and its refund the organiser's part, in basis points.
    pub commission_bp: u16,
    /// The parts of the wallet's money that came or went, with their sources: of a top-up where it came from.
    pub lots: Vec<Lot>,
    /// For a payment what was sold; empty for a bare amount.
    pub lines: Vec<SoldLine>,
    /// For a correction why.
    pub reason: String,
}

impl TransactionRow {
    /// What an event of a shard shows. `by`: who asked, if the office did.
    pub(crate) fn new(t: Transaction, position: CashlessPosition, by: Option<Principal>) -> Self {
        use TransactionKind::{Payment, Refund, TransferBack, TransferIn, TransferOut};
        let (id, kind) = (t.id(), t.kind);
        let moved = id.is_some();
        // A desk's terminal has no vendor, and its record says the first; it is refused for one of these reasons.
        let has_vendor = match kind {
            Payment => !matches!(t.rejection, Some(Rejection::UnknownVendor | Rejection::DeviceRevoked)),
            Refund => moved,
            _ => false,
        };
        Self {
            position,
            id,
            kind,
            rejection: t.rejection,
            flags: t.flags,
            festival: t.festival,
            wallet: t.wallet,
            other: t.other,
            vendor: has_vendor.then_some(t.vendor),
            order: (moved && kind == Payment).then_some(t.order),
            terminal: t.by.map(|by| by.device),
            asked: t.by.map(|by| by.seq),
            by,
            currency: t.currency,
            amount: t.amount,
            before: t.before,
            after: t.after,
            refund_of: (moved && kind == Refund).then_some(TransactionId { wallet: t.wallet, serial: t.of }),
            refunded: 0,
            transfer: matches!(kind, TransferOut | TransferIn | TransferBack).then_some(t.of),
            posting: t.posting,
            commission_bp: t.commission_bp,
            lots: t.lots.iter().copied().collect(),
            lines: t.lines,
            reason: t.reason,
        }
    }

    /// Its class: the kind's number, or [`REFUSED`].
    pub(crate) fn class(&self) -> u8 {
        if self.id.is_some() { self.kind as u8 } else { REFUSED }
    }

    /// Nothing moved.
    pub fn is_refused(&self) -> bool {
        self.id.is_none()
    }

    /// Whose account it is an entry of, if a vendor's.
    pub fn vendor_account(&self) -> Option<(FestivalId, VendorNo)> {
        Some((self.festival, self.vendor.filter(|_| !self.is_refused())?))
    }

    /// What it adds to a vendor's account. Nothing if it is no entry of one.
    pub fn entry(&self) -> VendorAccount {
        let mut account = VendorAccount::default();
        let amount = i128::from(self.amount);
        match self.kind {
            _ if self.vendor_account().is_none() => return account,
            TransactionKind::Payment => (account.payments, account.sold) = (1, amount),
            _ => (account.refunds, account.refunded) = (1, amount),
        }
        account.payable = i128::from(self.posting.vendor);
        account.commission = i128::from(self.posting.commission);
        account
    }

    /// Which row of sales it adds its [`TransactionRow::entry`] to.
    pub fn sale(&self) -> Option<(FestivalId, VendorNo, SalesPosition)> {
        let (festival, vendor) = self.vendor_account()?;
        Some((festival, vendor, SalesPosition { quarter: quarter_of(self.position.at), terminal: self.terminal }))
    }

    /// What a payment adds to which rows of products: its lines, or its bare amount, each with its part of the commission.
    /// Nothing of anything else.
    pub fn products(&self) -> Vec<(ProductPosition, ProductTally)> {
        let place = self.sale().filter(|_| self.kind == TransactionKind::Payment);
        let Some((.., place)) = place else { return Vec::new() };
        let row = |line: GivenBack| {
            let GivenBack { product, vat_bp, pieces: count, gross, commission } = line;
            (place.of(product, vat_bp), ProductTally { count, gross, commission, ..ProductTally::default() })
        };
        Left::of(self).whole().map(row).collect()
    }

    /// What a refund takes off which rows of products, `earlier` ones of the same payment having been given back already:
    /// the pieces that it names, and of the rest each VAT rate's part, the remainder at the highest. Adds up
    /// to the refund's [`TransactionRow::entry`].
    pub fn products_given_back(&self, payment: &Self, earlier: &[Self]) -> Vec<(ProductPosition, ProductTally)> {
        let Some((.., place)) = self.sale() else { return Vec::new() };
        let mut left = Left::of(payment);
        earlier.iter().for_each(|refund| drop(left.give_back(refund)));
        let row = |given: GivenBack| {
            let GivenBack { product, vat_bp, pieces: returned, gross: refunded, commission } = given;
            let commission = -commission;
            (place.of(product, vat_bp), ProductTally { returned, refunded, commission, ..ProductTally::default() })
        };
        left.give_back(self).into_iter().map(row).collect()
    }

    /// A sum, taken apart over a payment's lines by what they came to, to the cent: what the first lines get together is
    /// rounded down, so that the parts add up to the sum.
    fn parts(&self, sum: i64) -> Vec<i128> {
        if self.lines.is_empty() {
            return vec![sum.into()];
        }
        let (mut gross, mut given) = (0_i128, 0_i128);
        let whole = i128::from(self.amount).max(1);
        let part = |line: &SoldLine| {
            gross += i128::from(line.count) * i128::from(line.price);
            let until = gross * i128::from(sum) / whole;
            until - std::mem::replace(&mut given, until)
        };
        self.lines.iter().map(part).collect()
    }
}

/// A vendor, from when until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VendorSpan {
    pub festival: FestivalId,
    pub vendor: VendorNo,
    /// From when until when.
    pub span: Span,
}

/// An order: a payment, and what was given back of it.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderRow {
    /// The payment, with its lines.
    pub payment: TransactionRow,
    /// What was given back of it until now, in order; `payment.refunded` is their sum.
    pub refunds: Vec<OrderRefund>,
}

/// Something that was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderRefund {
    /// The refund.
    pub id: TransactionId,
    pub at: Timestamp,
    /// How much.
    pub amount: i64,
}

/// A place in a vendor's sales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SalesPosition {
    /// Where the quarter of an hour begins.
    pub quarter: Timestamp,
    /// At which terminal; `None`: through the office.
    pub terminal: Option<DeviceId>,
}

impl SalesPosition {
    fn of(self, product: Option<ProductNo>, vat_bp: u16) -> ProductPosition {
        ProductPosition { quarter: self.quarter, terminal: self.terminal, product, vat_bp }
    }
}

/// What a vendor sold in a quarter of an hour at one terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalesRow {
    /// Which quarter and terminal.
    pub position: SalesPosition,
    /// How much came and went. Refunds count where and when they were made.
    pub tally: VendorAccount,
}

/// A place in what a vendor sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProductPosition {
    /// Where the quarter of an hour begins.
    pub quarter: Timestamp,
    /// At which terminal; `None`: through the office.
    pub terminal: Option<DeviceId>,
    /// Which product; `None`: bare amounts, of which nobody said what for.
    pub product: Option<ProductNo>,
    /// The VAT in the price at that moment, in basis points; 0 for bare amounts.
    pub vat_bp: u16,
}

/// How much of a product a vendor sold in a quarter of an hour at one terminal, and what was given back in that quarter
/// there. Over the products of a quarter and terminal these add up to [`SalesRow::tally`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductRow {
    /// Which quarter, terminal, product and VAT.
    pub position: ProductPosition,
    /// How much.
    pub tally: ProductTally,
}

/// How much of a product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductTally {
    /// How many pieces were sold; of bare amounts how many payments.
    pub count: u64,
    /// How many pieces were given back by name.
    pub returned: u64,
    /// What they cost, VAT included.
    pub gross: i128,
    /// What was given back: of the products that a refund names, else each line of its payment bears its part.
    pub refunded: i128,
    /// The organiser's commission on what was sold, less that on what was given back.
    pub commission: i128,
}

impl ProductTally {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.returned += other.returned;
        self.gross += other.gross;
        self.refunded += other.refunded;
        self.commission += other.commission;
    }
}

/// What a vendor's account comes to, or what is added to it: the fields of `engine::cashless::view::VendorSums`, and what the
/// organiser got. `sold − refunded = payable + commission`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorAccount {
    /// How many payments.
    pub payments: u64,
    /// What they came to.
    pub sold: i128,
    /// How many refunds.
    pub refunds: u64,
    /// What they came to.
    pub refunded: i128,
    /// What is payable to the vendor.
    pub payable: i128,
    /// The organiser's commission.
    pub commission: i128,
}

impl VendorAccount {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.payments += other.payments;
        self.sold += other.sold;
        self.refunds += other.refunds;
        self.refunded += other.refunded;
        self.payable += other.payable;
        self.commission += other.commission;
    }

    /// What came between an earlier moment and this one.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            payments: self.payments - earlier.payments,
            sold: self.sold - earlier.sold,
            refunds: self.refunds - earlier.refunds,
            refunded: self.refunded - earlier.refunded,
            payable: self.payable - earlier.payable,
            commission: self.commission - earlier.commission,
        }
    }
}

/// A vendor's account at three moments, from one snapshot.
///
/// Its proof against the books: `now` is what the shards' ledgers say (`Query::Ledger`: `payable`, `sold`, `refunded`),
/// if `payments` and `refunds` are theirs, that is if the read models have everything; and what came in the span is the
/// sum of the entries in [`TransactionsOf::Vendor`] over the same span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// Just before the span's first moment.
    pub opening: VendorAccount,
    /// Just before the first moment that is no longer in it.
    pub closing: VendorAccount,
    /// With all that the read models know.
    pub now: VendorAccount,
}

impl Statement {
    /// What came in the span.
    pub fn sums(&self) -> VendorAccount {
        self.closing.since(&self.opening)
    }
}

/// A quarter of an hour. Every time zone there is lies whole quarters from UTC, so sums over quarters are sums over
/// anybody's hours and days.
pub const QUARTER_MS: i64 = 15 * MINUTE_MS;

/// Where the quarter of an hour of a moment begins.
pub fn quarter_of(at: Timestamp) -> Timestamp {
    Timestamp(at.0.saturating_sub(at.0.rem_euclid(QUARTER_MS)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use engine::model::money::vendor_share;
    use proptest::prelude::*;

    fn row(kind: TransactionKind, amount: i64, commission: i64, serial: u64) -> TransactionRow {
        let (wallet, at) = (WalletId(1), Timestamp(QUARTER_MS + 7));
        TransactionRow {
            position: CashlessPosition { at, shard: ShardId(0), order: serial << INDEX_BITS },
            id: Some(TransactionId { wallet, serial }),
            kind,
            rejection: None,
            flags: 0,
            festival: FestivalId(1),
            wallet,
            other: None,
            vendor: Some(VendorNo(0)),
            order: None,
            terminal: None,
            asked: None,
            by: Some(Principal::ApiKey(1)),
            currency: Currency::EUR,
            amount,
            before: 0,
            after: 0,
            refund_of: None,
            refunded: 0,
            transfer: None,
            posting: Posting { commission, ..Posting::default() },
            commission_bp: 0,
            lots: Vec::new(),
            lines: Vec::new(),
            reason: String::new(),
        }
    }

    proptest! {
        /// In however many pieces a payment is given back, by name or by amount, each line ends where it began, no line and
        /// no VAT rate ever gives back more than it had, and on the way nothing is lost.
        #[test]
        fn a_payment_wholly_given_back_leaves_no_cent_at_any_product(
            lines in prop::collection::vec((0..3_u16, 1..4_u16, 0..1_000_i64, 0..3_usize), 0..5),
            pieces in prop::collection::vec((1..700_i64, any::<prop::sample::Index>(), any::<bool>()), 1..9),
            commission_bp in 0..=10_000_u16,
        ) {
            let sold = |(product, count, price, rate)| {
                SoldLine { product: ProductNo(product), count, price, vat_bp: [0, 700, 1_900][rate] }
            };
            let lines: Vec<_> = lines.into_iter().map(sold).collect();
            let amount = match lines.iter().map(|line| i64::from(line.count) * line.price).sum() {
                0 => 583,
                sum => sum,
            };
            let kept = |sum: i64| sum - vendor_share(sum, commission_bp);
            let mut payment = row(TransactionKind::Payment, amount, kept(amount), 1);
            payment.lines = if amount == 583 { Vec::new() } else { lines };

            let mut sums = BTreeMap::<ProductPosition, ProductTally>::new();
            payment.products().iter().for_each(|(place, tally)| sums.entry(*place).or_default().add(tally));
            let whole = |of: fn(&ProductTally) -> i128, sums: &BTreeMap<_, ProductTally>| -> i128 {
                sums.values().map(of).sum()
            };
            prop_assert_eq!(whole(|tally| tally.gross, &sums), i128::from(amount));
            prop_assert_eq!(whole(|tally| tally.commission, &sums), i128::from(kept(amount)));
            let (mut before, mut earlier) = (0, Vec::new());
            // And then whatever is left.
            for step in pieces.into_iter().map(Some).chain([None]) {
                let left = amount - before;
                let by_name = |which: prop::sample::Index| SoldLine { count: 1, ..*which.get(&payment.lines) };
                let (piece, named) = match step {
                    Some((_, which, true)) if !payment.lines.is_empty() => {
                        let named = by_name(which);
                        (named.price.min(left), Some(named))
                    }
                    Some((piece, ..)) => (piece.min(left), None),
                    None => (left, None),
                };
                let commission = kept(before) - kept(before + piece);
                let mut refund = row(TransactionKind::Refund, piece, commission, 2 + earlier.len() as u64);
                refund.lines.extend(named);
                let given = refund.products_given_back(&payment, &earlier);
                for (place, tally) in &given {
                    prop_assert!(tally.refunded >= 0);
                    sums.get_mut(place).expect("a line of the payment").add(tally);
                }
                let given: BTreeMap<_, _> = given.iter().enumerate().map(|(at, (_, tally))| (at, *tally)).collect();
                let sum = |of: fn(&ProductTally) -> i128| -> i128 { given.values().map(of).sum() };
                prop_assert_eq!(sum(|tally| tally.refunded), refund.entry().refunded);
                prop_assert_eq!(sum(|tally| tally.commission), refund.entry().commission);
                for tally in sums.values() {
                    prop_assert!(tally.refunded <= tally.gross && tally.returned <= tally.count);
                }
                before += piece;
                earlier.push(refund);
            }
            for tally in sums.values() {
                prop_assert_eq!((tally.refunded, tally.commission), (tally.gross, 0));
            }
        }
    }
}
