//! The payments that can still be refunded: the latest of each shard, by serial. Older ones are `refund_too_late`.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::cashless::command::{LINES_MAX, RefundLine};
use crate::cashless::event::{Lot, Lots, SoldLine, Transaction};
use crate::cashless::view::PaymentView;
use crate::model::ids::{FestivalId, ProductNo, TransactionId, VendorNo, WalletId};
use crate::model::rejection::Rejection;
use crate::plants::{Plant, planted};

/// How many a shard remembers: 524,288 × 64 B = 32 MiB, eight million over sixteen shards.
pub const REFUNDABLE_MAX: usize = 524_288;

/// What a refund needs to know of its payment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Payment {
    /// The transaction's.
    pub serial: u64,
    /// Who paid.
    pub wallet: WalletId,
    /// How much.
    pub amount: i64,
    /// Of this, what was given back.
    pub refunded: i64,
    pub festival: FestivalId,
    pub vendor: VendorNo,
    /// The organiser's part, as it was then.
    pub commission_bp: u16,
    /// Whose money it was, if it was one source's.
    source: crate::cashless::command::Source,
    /// Else whose.
    lots: Option<Box<Lots>>,
}

const _: () = assert!(size_of::<Payment>() == 64, "half a million are 32 MiB");

impl Payment {
    pub(super) fn of(t: &Transaction) -> Self {
        Self {
            serial: t.serial,
            wallet: t.wallet,
            amount: t.amount,
            refunded: 0,
            festival: t.festival,
            vendor: t.vendor,
            commission_bp: t.commission_bp,
            source: t.lots.first().source,
            lots: (!t.lots.rest().is_empty()).then(|| Box::new(t.lots.clone())),
        }
    }

    pub fn left(&self) -> i64 {
        self.amount - self.refunded
    }

    /// The lots of the next `amount` to be given back: those that were taken first, first.
    pub(super) fn lots_of_next(&self, amount: i64) -> Lots {
        let Some(lots) = &self.lots else { return Lots::one(self.source, amount) };
        let (mut skip, mut left) = (self.refunded, amount);
        let mut next = Lots::default();
        for lot in lots.iter() {
            let skipped = lot.amount.min(skip);
            skip -= skipped;
            let part = (lot.amount - skipped).min(left);
            left -= part;
            next.push(Lot { source: lot.source, amount: part });
        }
        if left > 0 && planted(Plant::RefundBeyondPayment) {
            next.push(Lot { source: self.source, amount: left });
        }
        next
    }

    /// For whoever asks about a refund.
    pub fn view(&self) -> PaymentView {
        PaymentView {
            id: TransactionId { wallet: self.wallet, serial: self.serial },
            festival: self.festival,
            vendor: self.vendor,
            amount: self.amount,
            refunded: self.refunded,
            lots: match &self.lots {
                None => vec![Lot { source: self.source, amount: self.amount }],
                Some(lots) => lots.iter().copied().collect(),
            },
        }
    }
}

impl RefundLine {
    /// So many of a product of a payment that has these lines; `None` if it is not among them.
    pub fn of(sold: &[SoldLine], product: ProductNo, count: u16) -> Option<Self> {
        let SoldLine { price, vat_bp, .. } = *sold.iter().find(|line| line.product == product)?;
        let same = sold.iter().filter(|line| line.product == product && line.price == price);
        let bought = same.fold(0_u16, |sum, line| sum.saturating_add(line.count));
        Some(Self { product, count, price, vat_bp, bought })
    }

    /// What is not in the payment. It costs less than nothing, and no refund comes to that: `lines_mismatch`, if there is
    /// nothing else wrong with it.
    pub fn of_nothing(product: ProductNo, count: u16) -> Self {
        Self { product, count, price: -1, vat_bp: 0, bought: 0 }
    }
}

/// The latest payments of one shard, in the order of their serials.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Refundable {
    payments: VecDeque<Payment>,
    /// By payment: how many of which product refunds have named. At most 32 lines of 4 B and 100 B around them for each
    /// payment of which something was given back by name: 120 MiB if all were.
    returned: BTreeMap<u64, Vec<(ProductNo, u16)>>,
    /// The serial of the last payment that was forgotten.
    forgotten: u64,
}

impl Refundable {
    /// The payment with this id; `last` is the serial of the last transaction.
    ///
    /// # Errors
    /// [`Rejection::UnknownTransaction`], [`Rejection::RefundTooLate`], [`Rejection::NotAPayment`].
    pub fn find(&self, id: TransactionId, last: u64) -> Result<&Payment, Rejection> {
        if id.serial == 0 || id.serial > last {
            return Err(Rejection::UnknownTransaction);
        }
        if id.serial <= self.forgotten {
            return Err(Rejection::RefundTooLate);
        }
        let at = self.payments.binary_search_by_key(&id.serial, |payment| payment.serial);
        let payment = &self.payments[at.map_err(|_| Rejection::NotAPayment)?];
        if payment.wallet == id.wallet { Ok(payment) } else { Err(Rejection::UnknownTransaction) }
    }

    pub(super) fn push(&mut self, payment: Payment) {
        if self.payments.len() == REFUNDABLE_MAX {
            self.forgotten = self.payments.pop_front().expect("there are many").serial;
            self.returned.remove(&self.forgotten);
        }
        self.payments.push_back(payment);
    }

    /// What refunds that name these lines come to, and the lines as they are recorded.
    ///
    /// # Errors
    /// [`Rejection::LinesMismatch`]; [`Rejection::RefundExceedsPayment`] if so many of a product are not left.
    pub(super) fn name(&self, serial: u64, lines: &[RefundLine]) -> Result<(i64, Vec<SoldLine>), Rejection> {
        let positive = lines.iter().all(|line| line.count > 0 && line.price >= 0);
        let sum = lines.iter().map(|line| i128::from(line.price) * i128::from(line.count)).sum::<i128>();
        let sum = i64::try_from(sum).ok().filter(|sum| *sum > 0 && positive && lines.len() <= LINES_MAX);
        let sum = sum.ok_or(Rejection::LinesMismatch)?;
        let before = self.returned.get(&serial).map_or(&[][..], Vec::as_slice);
        for line in lines {
            let of_before = before.iter().filter(|(product, _)| *product == line.product).map(|(_, count)| *count);
            let of_now = lines.iter().filter(|other| other.product == line.product).map(|other| other.count);
            if of_before.chain(of_now).map(u32::from).sum::<u32>() > u32::from(line.bought) {
                return Err(Rejection::RefundExceedsPayment);
            }
        }
        let sold = |line: &RefundLine| {
            let RefundLine { product, count, price, vat_bp, .. } = *line;
            SoldLine { product, count, price, vat_bp }
        };
        Ok((sum, lines.iter().map(sold).collect()))
    }

    pub(super) fn refunded(&mut self, serial: u64, amount: i64, lines: &[SoldLine]) {
        // Whoever wrote the record may have remembered more payments; one that is forgotten here is refunded no more.
        let Ok(at) = self.payments.binary_search_by_key(&serial, |payment| payment.serial) else { return };
        if !lines.is_empty() {
            let returned = self.returned.entry(serial).or_default();
            for line in lines {
                match returned.iter_mut().find(|(product, _)| *product == line.product) {
                    Some((_, count)) => *count += line.count,
                    None => returned.push((line.product, line.count)),
                }
            }
        }
        let payment = &mut self.payments[at];
        payment.refunded += amount;
        assert!(payment.refunded <= payment.amount || planted(Plant::RefundBeyondPayment), "paired with decide");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cashless::command::{Source, SourceKind};
    use crate::cashless::event::TransactionKind;
    use crate::model::money::Currency;

    #[test]
    fn the_oldest_payments_are_forgotten_and_it_is_said() {
        let mut refundable = Refundable::default();
        let wallet = WalletId(1);
        let source = Source::new(SourceKind::Terminal, FestivalId(1), 1);
        let mut t = super::super::terminal::blank(TransactionKind::Payment, FestivalId(1), wallet, Currency::EUR);
        (t.amount, t.lots) = (5, Lots::one(source, 5));
        let last = 2 * REFUNDABLE_MAX as u64 + 4;
        for serial in (2..=last).step_by(2) {
            t.serial = serial;
            refundable.push(Payment::of(&t));
        }
        let find = |serial| refundable.find(TransactionId { wallet, serial }, last).map(|payment| payment.serial);
        assert_eq!(find(4), Err(Rejection::RefundTooLate));
        assert_eq!(find(3), Err(Rejection::RefundTooLate), "whatever it was");
        assert_eq!(find(5), Err(Rejection::NotAPayment));
        assert_eq!(find(6), Ok(6));
        assert_eq!(find(last), Ok(last));
        assert_eq!(find(last + 2), Err(Rejection::UnknownTransaction));
        let somebody_else = TransactionId { wallet: WalletId(2), serial: 6 };
        assert_eq!(refundable.find(somebody_else, last), Err(Rejection::UnknownTransaction));
    }

    /// A record of a program that remembered more payments says that one was refunded which is forgotten here.
    #[test]
    fn a_refund_of_what_is_forgotten_is_passed_over() {
        let mut refundable = Refundable::default();
        let line = SoldLine { product: ProductNo(0), count: 1, price: 5, vat_bp: 0 };
        refundable.refunded(7, 5, &[line]);
        assert_eq!(refundable, Refundable::default());
    }
}
