//! The payments that can still be refunded: the latest of each shard, by serial. Older ones are `refund_too_late`.
//!
//! Nearly all are plain: one source's money, small numbers, nothing given back yet. Those are packed into 24 bytes each; the
//! rest are kept whole beside them.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::cashless::command::{LINES_MAX, RefundLine, Source, SourceKind};
use crate::cashless::event::{Lot, Lots, SoldLine, Transaction};
use crate::cashless::view::PaymentView;
use crate::model::ids::{FestivalId, ProductNo, ProviderNo, TransactionId, VendorNo, WalletId};
use crate::model::rejection::Rejection;
use crate::plants::{Plant, planted};

/// How many a shard remembers: 196,608 × 24 B = 4.5 MiB. Over sixteen shards that is 72 MiB for three million payments,
/// three days of 100,000 guests who pay ten times a day. Those kept whole take about 80 B more each.
pub const REFUNDABLE_MAX: usize = 196_608;
/// The most that any version has remembered: how many an audit has to know.
pub(crate) const REFUNDABLE_EVER_MAX: usize = 524_288;
/// By how many rows their memory grows at a time.
const GROWTH: usize = REFUNDABLE_MAX / 8;
/// By how many the memory for those kept whole grows at a time: about 300 KiB, so that a refund seldom allocates.
const GROWTH_WHOLE: usize = 4_096;

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
    source: Source,
    /// Else whose.
    lots: Option<Box<Lots>>,
}

/// Who sold, and for which share: the same for many payments.
type Terms = (FestivalId, VendorNo, u16);

/// A plain payment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    wallet: WalletId,
    /// The last 32 bits of its serial: all that are remembered lie within so many.
    serial: u32,
    /// In minor units; of one that is kept whole, its place among those.
    amount: u32,
    /// The source's.
    number: u32,
    /// Which of the terms; [`WHOLE`]: it is not plain, and lies among those kept whole.
    terms: u16,
    kind: SourceKind,
    provider: u8,
}

const _: () = assert!(size_of::<Row>() == 24, "200,000 are 4.5 MiB");

/// Stands in a row for a payment that is kept whole.
const WHOLE: u16 = u16::MAX;

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
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(from = "Unpacked", into = "Unpacked")]
pub struct Refundable {
    rows: VecDeque<Row>,
    /// The serial of the first row.
    first: u64,
    /// At most 65,535: vendors, once for each share that they had.
    terms: Vec<Terms>,
    terms_by_value: BTreeMap<Terms, u16>,
    /// What does not fit into a row: several sources, large numbers, something given back.
    whole: Whole,
    /// By payment: how many of which product refunds have named. At most 32 lines of 4 B and 100 B around them for each
    /// payment of which something was given back by name: 45 MiB if all were.
    returned: BTreeMap<u64, Vec<(ProductNo, u16)>>,
    /// The serial of the last payment that was forgotten.
    forgotten: u64,
}

/// Payments that are kept whole: each stays in its place until it is forgotten, and then another takes it. No more than there
/// are rows: 196,608 × 80 B = 15 MiB a shard, if something was given back of every one.
#[derive(Clone, Default)]
struct Whole {
    places: Vec<Payment>,
    /// Of these, those of forgotten payments.
    free: Vec<u32>,
}

impl Whole {
    /// Keeps a payment, and says where.
    fn keep(&mut self, payment: Payment) -> u32 {
        if let Some(place) = self.free.pop() {
            self.places[place as usize] = payment;
            return place;
        }
        if self.places.len() == self.places.capacity() {
            self.places.reserve_exact(GROWTH_WHOLE);
        }
        self.places.push(payment);
        // There are no more than rows.
        self.places.len() as u32 - 1
    }

    fn forget(&mut self, place: u32) {
        self.places[place as usize].lots = None;
        self.free.push(place);
    }
}

/// The same payments are the same, however they are packed.
impl PartialEq for Refundable {
    fn eq(&self, other: &Self) -> bool {
        (self.rows.len(), &self.returned, self.forgotten) == (other.rows.len(), &other.returned, other.forgotten)
            && (0..self.rows.len()).all(|at| self.payment(at) == other.payment(at))
    }
}

impl core::fmt::Debug for Refundable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let payments: Vec<Payment> = (0..self.rows.len()).map(|at| self.payment(at)).collect();
        let Self { returned, forgotten, .. } = self;
        f.debug_struct("Refundable")
            .field("payments", &payments)
            .field("returned", returned)
            .field("forgotten", forgotten)
            .finish()
    }
}

/// As it stands in a snapshot.
#[derive(Serialize, Deserialize)]
struct Unpacked {
    payments: VecDeque<Payment>,
    returned: BTreeMap<u64, Vec<(ProductNo, u16)>>,
    forgotten: u64,
}

impl From<Refundable> for Unpacked {
    fn from(packed: Refundable) -> Self {
        let payments = (0..packed.rows.len()).map(|at| packed.payment(at)).collect();
        Self { payments, returned: packed.returned, forgotten: packed.forgotten }
    }
}

impl From<Unpacked> for Refundable {
    fn from(unpacked: Unpacked) -> Self {
        let Unpacked { payments, returned, forgotten } = unpacked;
        let mut packed = Self { returned, forgotten, ..Self::default() };
        payments.into_iter().for_each(|payment| packed.push(payment));
        packed
    }
}

impl Refundable {
    /// The payment with this id; `last` is the serial of the last transaction.
    ///
    /// # Errors
    /// [`Rejection::UnknownTransaction`], [`Rejection::RefundTooLate`], [`Rejection::NotAPayment`].
    pub fn find(&self, id: TransactionId, last: u64) -> Result<Payment, Rejection> {
        if id.serial == 0 || id.serial > last {
            return Err(Rejection::UnknownTransaction);
        }
        if id.serial <= self.forgotten {
            return Err(Rejection::RefundTooLate);
        }
        let payment = self.payment(self.at(id.serial).ok_or(Rejection::NotAPayment)?);
        if payment.wallet == id.wallet { Ok(payment) } else { Err(Rejection::UnknownTransaction) }
    }

    pub(super) fn push(&mut self, payment: Payment) {
        // That serials lie too far apart for a row takes four billion transactions that are no payments.
        while self.rows.len() >= REFUNDABLE_MAX
            || (!self.rows.is_empty() && payment.serial - self.first > u64::from(u32::MAX))
        {
            self.forget_the_first();
        }
        if self.rows.is_empty() {
            self.first = payment.serial;
        }
        if self.rows.len() == self.rows.capacity() {
            self.rows.reserve_exact(GROWTH);
        }
        let mut row = self.row(&payment);
        if row.terms == WHOLE {
            row.amount = self.whole.keep(payment);
        }
        self.rows.push_back(row);
    }

    fn forget_the_first(&mut self) {
        let Some(row) = self.rows.pop_front() else { return };
        self.forgotten = self.first;
        self.returned.remove(&self.forgotten);
        if row.terms == WHOLE {
            self.whole.forget(row.amount);
        }
        if let Some(next) = self.rows.front() {
            self.first += u64::from(next.serial.wrapping_sub(row.serial));
        }
    }

    /// The row of this payment.
    fn at(&self, serial: u64) -> Option<usize> {
        let after_first = u32::try_from(serial.checked_sub(self.first)?).ok()?;
        let first = self.rows.front()?.serial;
        self.rows.binary_search_by_key(&after_first, |row| row.serial.wrapping_sub(first)).ok()
    }

    /// As a row; with [`WHOLE`] in it if that would lose something.
    fn row(&mut self, payment: &Payment) -> Row {
        let Payment { serial, wallet, festival, vendor, commission_bp, source, .. } = *payment;
        let Source { kind, provider, .. } = source;
        let (amount, number) = (u32::try_from(payment.amount), u32::try_from(source.number));
        let provider = u8::try_from(provider.0);
        let plain = payment.lots.is_none() && payment.refunded == 0 && source.festival == festival;
        let terms = match plain && amount.is_ok() && number.is_ok() && provider.is_ok() {
            true => self.terms((festival, vendor, commission_bp)),
            false => WHOLE,
        };
        let (amount, number) = (amount.unwrap_or_default(), number.unwrap_or_default());
        let provider = provider.unwrap_or_default();
        Row { wallet, serial: serial as u32, amount, number, terms, kind, provider }
    }

    fn terms(&mut self, terms: Terms) -> u16 {
        if let Some(number) = self.terms_by_value.get(&terms) {
            return *number;
        }
        let Some(number) = u16::try_from(self.terms.len()).ok().filter(|number| *number < WHOLE) else { return WHOLE };
        self.terms.push(terms);
        self.terms_by_value.insert(terms, number);
        number
    }

    fn payment(&self, at: usize) -> Payment {
        let Row { wallet, serial, amount, number, terms, kind, provider } = self.rows[at];
        let serial = self.first + u64::from(serial.wrapping_sub(self.rows[0].serial));
        if terms == WHOLE {
            return self.whole.places[amount as usize].clone();
        }
        let (festival, vendor, commission_bp) = self.terms[usize::from(terms)];
        let source = Source { kind, festival, provider: ProviderNo(provider.into()), number: number.into() };
        let amount = amount.into();
        Payment { serial, wallet, amount, refunded: 0, festival, vendor, commission_bp, source, lots: None }
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
        let Some(at) = self.at(serial) else { return };
        if !lines.is_empty() {
            let returned = self.returned.entry(serial).or_default();
            for line in lines {
                match returned.iter_mut().find(|(product, _)| *product == line.product) {
                    Some((_, count)) => *count += line.count,
                    None => returned.push((line.product, line.count)),
                }
            }
        }
        if self.rows[at].terms != WHOLE {
            let payment = self.payment(at);
            self.rows[at].amount = self.whole.keep(payment);
            self.rows[at].terms = WHOLE;
        }
        let payment = &mut self.whole.places[self.rows[at].amount as usize];
        payment.refunded += amount;
        assert!(payment.refunded <= payment.amount || planted(Plant::RefundBeyondPayment), "paired with decide");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    /// Whatever a payment is like, it is found as it was, also after a snapshot, and what was given back of it too.
    #[test]
    fn a_payment_is_found_as_it_was_packed_or_whole() {
        let (festival, elsewhere) = (FestivalId(1), FestivalId(2));
        let plain = |serial: u64| Payment {
            serial,
            wallet: WalletId(u64::MAX - serial),
            amount: 450,
            refunded: 0,
            festival,
            vendor: VendorNo(serial as u16 % 3),
            commission_bp: 1_000,
            source: Source::new(SourceKind::Card, festival, serial % 1_000),
            lots: None,
        };
        let mut lots = Lots::one(Source::new(SourceKind::Card, festival, 1), 100);
        lots.push(Lot { source: Source::new(SourceKind::Desk, festival, 2), amount: 350 });
        let first = u64::from(u32::MAX) - 3;
        let payments = [
            plain(first),
            Payment { amount: 1 << 40, ..plain(first + 2) },
            Payment { source: Source::new(SourceKind::Card, festival, Source::SEVERAL), ..plain(first + 3) },
            Payment { source: Source::new(SourceKind::Terminal, elsewhere, 1), ..plain(first + 5) },
            Payment { lots: Some(Box::new(lots)), ..plain(first + 7) },
            plain(first + 900),
        ];
        let mut refundable = Refundable::default();
        payments.iter().for_each(|payment| refundable.push(payment.clone()));
        assert_eq!(refundable.whole.places.len(), 4);
        let restored = |refundable: &Refundable| -> Refundable {
            postcard::from_bytes(&postcard::to_allocvec(refundable).unwrap()).unwrap()
        };
        let find = |refundable: &Refundable, of: &Payment| {
            refundable.find(TransactionId { wallet: of.wallet, serial: of.serial }, u64::MAX).unwrap()
        };
        for payment in &payments {
            assert_eq!(find(&refundable, payment), *payment);
            assert_eq!(find(&restored(&refundable), payment), *payment);
        }
        for serial in [first + 1, first + 4, first + 899, first + 901] {
            let id = TransactionId { wallet: WalletId(1), serial };
            assert_eq!(refundable.find(id, u64::MAX), Err(Rejection::NotAPayment));
        }
        for payment in &payments {
            refundable.refunded(payment.serial, 50, &[]);
            refundable.refunded(payment.serial, 7, &[]);
            assert_eq!(find(&refundable, payment), Payment { refunded: 57, ..payment.clone() });
            assert_eq!(find(&restored(&refundable), payment).refunded, 57);
        }
    }

    /// A snapshot of a program that remembered more is read, and the oldest are forgotten.
    #[test]
    fn a_snapshot_with_more_payments_is_read() {
        let source = Source::new(SourceKind::Terminal, FestivalId(1), 1);
        let payment = |serial| Payment {
            serial,
            wallet: WalletId(1),
            amount: 5,
            refunded: 0,
            festival: FestivalId(1),
            vendor: VendorNo(0),
            commission_bp: 0,
            source,
            lots: None,
        };
        let last = REFUNDABLE_EVER_MAX as u64;
        let stored =
            Unpacked { payments: (1..=last).map(payment).collect(), returned: [(1, vec![])].into(), forgotten: 0 };
        let read: Refundable = postcard::from_bytes(&postcard::to_allocvec(&stored).unwrap()).unwrap();
        assert_eq!((read.rows.len(), read.returned.len()), (REFUNDABLE_MAX, 0));
        let find =
            |serial| read.find(TransactionId { wallet: WalletId(1), serial }, last).map(|payment| payment.serial);
        assert_eq!(find(last), Ok(last));
        assert_eq!(find(read.forgotten), Err(Rejection::RefundTooLate));
        assert_eq!(find(read.forgotten + 1), Ok(read.forgotten + 1));
    }
}
