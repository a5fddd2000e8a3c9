//! Transactions: the posting, the wallet's history, what was paid and given back.

use super::{Accounts, MoneyBooks, Payment};
use crate::audit::{Check, Findings};
use crate::cashless::command::{Source, SourceKind};
use crate::cashless::event::{Lot, Posting, Transaction, TransactionKind};
use crate::cashless::refundable::REFUNDABLE_EVER_MAX;
use crate::model::ids::Home;
use crate::model::rejection::Rejection;
use crate::model::status::FestivalStatus;

impl MoneyBooks {
    pub(super) fn transaction(&mut self, t: &Transaction, found: &mut Findings) {
        self.at_home(Home::Wallet(t.wallet), found);
        self.by_terminal(t, found);
        if t.serial == 0 {
            found.report.cash_rejected += 1;
            let still = t.posting == Posting::default() && t.before == t.after && t.lots.sum() == 0;
            found.check(Check::Posting, still && t.rejection.is_some(), || format!("refused, and yet: {t:?}"));
            return;
        }
        found.report.transactions += 1;
        let next = self.serial + 1;
        found.check(Check::Sequence, t.serial == next, || format!("transaction {} where {next} follows", t.serial));
        self.serial = t.serial;
        found.check(Check::Posting, t.posting.sum() == 0, || format!("the legs of {:?} do not add up", t.id()));
        found.check(Check::Posting, legs_fit(t), || format!("{:?} with the legs {:?}", t.kind, t.posting));
        let moved = t.posting.wallet.checked_abs();
        found.check(Check::Lots, moved == Some(t.lots.sum()) && t.lots.iter().all(|lot| lot.amount > 0), || {
            format!("{:?} moved {:?}, its lots are {:?}", t.id(), moved, t.lots)
        });
        self.not_held(t, found);
        self.account(t, found);
        self.history(t, found);
        match t.kind {
            TransactionKind::Payment => self.paid(t, found),
            TransactionKind::Refund => self.refunded(t, found),
            TransactionKind::TransferOut => self.left(t, found),
            TransactionKind::TransferIn => self.came(t, found),
            TransactionKind::TransferBack => self.is_back(t, found),
            TransactionKind::Lapse => {
                let known = self.directory.get(&t.festival);
                let over = known
                    .is_some_and(|known| matches!(known.status, FestivalStatus::Completed | FestivalStatus::Cancelled));
                found.check(Check::Known, over, || format!("{:?}: a gift lapses before its festival is over", t.id()));
            }
            TransactionKind::TopUp | TransactionKind::Correction | TransactionKind::CashOut => {}
        }
    }

    /// A terminal's command takes effect once, and not after it was revoked; its tag is the wallet's.
    fn by_terminal(&mut self, t: &Transaction, found: &mut Findings) {
        let Some(by) = t.by else { return };
        let moved = t.serial > 0;
        let vendor = t.vendor;
        let kind = t.kind;
        let own = by.device.festival() == t.festival;
        let Some(terminal) = self.terminal(by.device) else {
            found.check(Check::OwnFestival, false, || format!("{} is no terminal that is known here", by.device));
            return;
        };
        found.check(Check::OwnFestival, own, || format!("{} at festival {}", by.device, t.festival));
        let new = terminal.answers(by.seq, by.floor);
        // What had lapsed says so first, whoever asks.
        let refused = !terminal.revoked || matches!(t.rejection, Some(Rejection::DeviceRevoked | Rejection::Expired));
        let allowed = match kind {
            TransactionKind::Payment | TransactionKind::Refund => terminal.vendor == Some(vendor),
            TransactionKind::TopUp => terminal.cashier,
            _ => false,
        };
        found.check(Check::Once, new, || format!("number {} of terminal {} again", by.seq, by.device));
        found.check(Check::Revoked, refused, || format!("terminal {} was revoked, and decided {kind:?}", by.device));
        found.check(Check::Known, allowed || !moved, || format!("terminal {} may not {kind:?}", by.device));
        if let Some((tag, version)) = t.tap
            && moved
        {
            let wallet = self.wallets.get(t.wallet);
            let own = wallet.is_some_and(|known| known.tag == Some((tag, version)) && !known.lost);
            found.check(Check::Tag, own, || format!("{tag:?} at {version} is not {:?}'s", t.wallet));
        }
    }

    fn account(&mut self, t: &Transaction, found: &mut Findings) {
        let accounts: &mut Accounts = self.accounts.entry(t.festival).or_default();
        accounts.wallets += i128::from(t.posting.wallet);
        accounts.commission += i128::from(t.posting.commission);
        accounts.corrections += i128::from(t.posting.corrections);
        accounts.in_transit += i128::from(t.posting.in_transit);
        if t.posting.source != 0 {
            let mut left = t.posting.source;
            let from_sources = |lot: &&Lot| t.kind != TransactionKind::Correction || is_gift(lot);
            for lot in t.lots.iter().filter(from_sources) {
                let part = if t.posting.source < 0 { -lot.amount } else { lot.amount };
                *accounts.sources.entry(account_of(lot.source)).or_default() += i128::from(part);
                left = left.wrapping_sub(part);
            }
            found.check(Check::Posting, left == 0, || format!("{:?}: its sources are {left} off", t.id()));
        }
        if let TransactionKind::Payment | TransactionKind::Refund = t.kind {
            *accounts.vendors.entry(t.vendor).or_default() += i128::from(t.posting.vendor);
        }
        if t.kind == TransactionKind::Payment {
            let before = accounts.orders.insert(t.vendor, t.order);
            let own = u64::from(t.order) % u64::from(self.of) == u64::from(self.id.0 + 1) % u64::from(self.of);
            found.check(Check::Once, own && before.is_none_or(|before| before < t.order), || {
                format!("order {} of vendor {} follows {before:?}", t.order, t.vendor.0)
            });
        }
    }

    fn history(&mut self, t: &Transaction, found: &mut Findings) {
        let known = self.wallets.get_mut(t.wallet);
        if !found.check(Check::Known, known.is_some(), || format!("there is no {:?}", t.wallet)) {
            return;
        }
        let wallet = known.expect("just looked");
        let chained = wallet.available == t.before && t.before.checked_add(t.posting.wallet) == Some(t.after);
        found.check(Check::History, chained, || {
            format!("{:?}: {} → {}, it had {}", t.id(), t.before, t.after, wallet.available)
        });
        found.check(Check::History, wallet.currency == t.currency, || {
            format!("{:?} in {}", t.id(), t.currency.as_str())
        });
        found.check(Check::Funds, t.after >= 0, || format!("{:?} leaves {}", t.id(), t.after));
        let blocked = wallet.blocked
            && matches!(t.kind, TransactionKind::Payment | TransactionKind::TransferOut | TransactionKind::CashOut);
        found.check(Check::Revoked, !blocked, || format!("{:?} is blocked, and {:?}", t.wallet, t.kind));
        wallet.available = t.after;
        wallet.transactions += 1;
        for lot in t.lots.iter() {
            let Lot { source: Source { kind, festival, .. }, amount } = *lot;
            let signed = if t.posting.wallet < 0 { -amount } else { amount };
            let left = match wallet.lots.iter_mut().find(|(source, _)| *source == (kind, festival)) {
                Some((_, sum)) => {
                    *sum += signed;
                    *sum
                }
                None => {
                    wallet.lots.push(((kind, festival), signed));
                    signed
                }
            };
            found.check(Check::Lots, left >= 0, || format!("{:?} spends {left} of {kind:?}", t.id()));
        }
        wallet.lots.retain(|(_, sum)| *sum != 0);
        let left = wallet.lots.iter().any(|(source, _)| *source == (SourceKind::Gift, t.festival));
        found.check(Check::Lots, gifts_fit(t, left), || format!("{:?}: {:?} spends {:?}", t.id(), t.kind, t.lots));
        let sum: i64 = wallet.lots.iter().map(|(_, sum)| sum).sum();
        found.check(Check::Lots, sum == t.after, || format!("{:?}: sources of {sum} for {}", t.id(), t.after));
    }

    fn paid(&mut self, t: &Transaction, found: &mut Findings) {
        found.report.debits += 1;
        let vendor = self.directory.get(&t.festival).and_then(|known| known.vendors.get(usize::from(t.vendor.0)));
        let open = vendor.is_some_and(|(values, _)| values.open && values.commission_bp == t.commission_bp);
        found.check(Check::Known, open, || format!("vendor {} is closed, or asks otherwise", t.vendor.0));
        // The share is exact but for half a minor unit.
        let exact = i128::from(t.amount) * (10_000 - i128::from(t.commission_bp));
        let off = (i128::from(t.posting.vendor) * 10_000 - exact).abs();
        found.check(Check::Posting, off <= 5_000, || {
            format!("{:?}: the commission is not {} bp", t.id(), t.commission_bp)
        });
        let lines: i128 = t.lines.iter().map(|line| i128::from(line.price) * i128::from(line.count)).sum();
        found.check(Check::Posting, t.lines.is_empty() || lines == i128::from(t.amount), || {
            format!("{:?}: its lines add up to {lines}", t.id())
        });
        if self.payments.len() == REFUNDABLE_EVER_MAX {
            self.payments.pop_front();
        }
        self.payments.push_back(Payment {
            serial: t.serial,
            wallet: t.wallet,
            amount: t.amount,
            refunded: 0,
            vendor_has: t.posting.vendor,
            festival: t.festival,
            vendor: t.vendor,
            source: t.lots.first().source,
            lots: (!t.lots.rest().is_empty()).then(|| Box::new(t.lots.clone())),
        });
    }

    fn refunded(&mut self, t: &Transaction, found: &mut Findings) {
        found.report.refunds += 1;
        let at = self.payments.binary_search_by_key(&t.of, |payment| payment.serial);
        if !found.check(Check::Refund, at.is_ok(), || format!("{:?} gives back {}, no payment", t.id(), t.of)) {
            return;
        }
        let payment = &mut self.payments[at.expect("just looked")];
        let same = (payment.wallet, payment.festival, payment.vendor) == (t.wallet, t.festival, t.vendor);
        found.check(Check::Refund, same, || format!("{:?} gives back somebody else's payment", t.id()));
        let back = back(payment, t.amount);
        found.check(Check::Refund, back.iter().eq(t.lots.iter()), || {
            format!("{:?} goes to {:?}, it came from {back:?}", t.id(), t.lots)
        });
        payment.refunded += t.amount;
        payment.vendor_has += t.posting.vendor;
        let whole = payment.refunded == payment.amount;
        let fits = payment.refunded <= payment.amount && payment.vendor_has >= 0;
        found.check(Check::Refund, fits && (!whole || payment.vendor_has == 0), || {
            format!("{} of {} given back, the vendor keeps {}", payment.refunded, payment.amount, payment.vendor_has)
        });
    }
}

/// The next `amount` of a payment, by whose money it was.
fn back(payment: &Payment, amount: i64) -> Vec<Lot> {
    let one = [Lot { source: payment.source, amount: payment.amount }];
    let all: Vec<Lot> = payment.lots.as_ref().map_or(one.to_vec(), |lots| lots.iter().copied().collect());
    let (from, to) = (payment.refunded, payment.refunded.saturating_add(amount));
    let mut begins = 0;
    let mut parts = Vec::new();
    for lot in all {
        let ends = begins + lot.amount;
        let part = ends.min(to) - begins.max(from);
        if part > 0 {
            parts.push(Lot { source: lot.source, amount: part });
        }
        begins = ends;
    }
    parts
}

fn is_gift(lot: &Lot) -> bool {
    lot.source.kind == SourceKind::Gift
}

/// The account of a source: cards, bank transfers, gifts and corrections have one each at a festival.
fn account_of(source: Source) -> Source {
    let by_itself = matches!(source.kind, SourceKind::Terminal | SourceKind::Desk);
    Source { number: if by_itself { source.number } else { 0 }, ..source }
}

/// Whether gifts are spent where they were given, before anything else, and are never paid out. `left`: some of this
/// festival's is left in the wallet.
fn gifts_fit(t: &Transaction, left: bool) -> bool {
    let own = |lot: &Lot| lot.source.festival == t.festival && lot.source.number == 0;
    let gifts_are_own = t.lots.iter().all(|lot| !is_gift(lot) || own(lot));
    let other = t.lots.iter().any(|lot| !is_gift(lot));
    match t.kind {
        TransactionKind::CashOut | TransactionKind::TopUp => !t.lots.iter().any(is_gift),
        TransactionKind::Lapse => gifts_are_own && !other && !left,
        _ if t.posting.wallet < 0 => gifts_are_own && !(other && left),
        _ => gifts_are_own,
    }
}

/// Whether only the legs are there that such a transaction has, and the wallet's is its amount.
fn legs_fit(t: &Transaction) -> bool {
    let Posting { wallet, vendor, commission, source, corrections, in_transit } = t.posting;
    let only = |legs: &[i64]| {
        let all = [vendor, commission, source, corrections, in_transit];
        all.iter().filter(|leg| **leg != 0).count() == legs.iter().filter(|leg| **leg != 0).count()
    };
    let positive = t.amount > 0;
    match t.kind {
        TransactionKind::TopUp => {
            let real = t.lots.iter().all(|lot| lot.source.kind != SourceKind::Correction);
            positive && wallet == t.amount && only(&[source]) && real
        }
        TransactionKind::Payment => {
            positive && wallet == -t.amount && vendor >= 0 && commission >= 0 && only(&[vendor, commission])
        }
        TransactionKind::Refund => {
            positive && wallet == t.amount && vendor <= 0 && commission <= 0 && only(&[vendor, commission])
        }
        TransactionKind::TransferOut => positive && wallet == -t.amount && only(&[in_transit]),
        TransactionKind::TransferIn | TransactionKind::TransferBack => {
            positive && wallet == t.amount && only(&[in_transit])
        }
        TransactionKind::Correction => {
            let gift: i64 = t.lots.iter().filter(|lot| is_gift(lot)).map(|lot| lot.amount).sum();
            let own = if t.amount < 0 { gift } else { -gift };
            t.amount != 0 && wallet == t.amount && source == own && only(&[source, corrections])
        }
        TransactionKind::Lapse => positive && wallet == -t.amount && only(&[source]),
        TransactionKind::CashOut => positive && wallet == -t.amount && only(&[source]),
    }
}
