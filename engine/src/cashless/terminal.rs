//! What a terminal asks: pay, refund, top up with cash, balance. The checks run in the order they stand in; the first
//! that fails answers.

use crate::cashless::Cashless;
use crate::cashless::command::{
    CashlessVerdict, Line, OVER_LIMIT, RefundLine, Source, Tap, TerminalAction, TerminalAnswer, TerminalCommand,
};
use crate::cashless::directory::CashlessFestival;
use crate::cashless::event::{Lots, Posting, Transaction, TransactionKind};
use crate::cashless::wallet::Wallet;
use crate::gates::event::ByDevice;
use crate::model::ids::{DeviceId, FestivalId, TransactionId, VendorNo, WalletId};
use crate::model::money::{Currency, Money, check_amount, vendor_share};
use crate::model::rejection::Rejection;
use crate::model::time::Timestamp;
use crate::plants::{Plant, planted, tripwire};

/// An answer of which nothing is remembered.
type Unrecorded = TerminalAnswer;

impl Cashless {
    /// Decides a command of a terminal that is known here and has not asked this before. `Err` is an answer that is not
    /// recorded: `tag_moved`, after which the same number may come again for another wallet; `busy`, after which it may come
    /// again as it is.
    pub(crate) fn decide_terminal(
        &self,
        by: ByDevice,
        command: &TerminalCommand,
        number_of_order: impl Fn(u32) -> u32,
        now: Timestamp,
    ) -> Result<Transaction, Unrecorded> {
        let (festival, terminal) = self.directory.terminal(by.device).expect("looked up before");
        let action = &command.action;
        let (kind, amount) = match action {
            TerminalAction::Pay { amount, .. } => (TransactionKind::Payment, Some(*amount)),
            TerminalAction::Refund { amount, .. } => (TransactionKind::Refund, *amount),
            TerminalAction::TopUp { amount, .. } => (TransactionKind::TopUp, Some(*amount)),
            TerminalAction::Balance { .. } => unreachable!("never recorded"),
        };
        let tap = match action {
            TerminalAction::Pay { tap, .. } | TerminalAction::TopUp { tap, .. } => tap.as_ref(),
            _ => None,
        };
        let wallet = self.wallets.get(action.wallet()).ok();
        let mut t = blank(kind, by.device.festival(), action.wallet(), festival.policy.currency);
        t.by = Some(by);
        t.tap = tap.map(|tap| (tap.tag, tap.version));
        t.amount = amount.map_or(0, |amount| amount.minor);
        tripwire(t.amount as u32);
        t.vendor = terminal.vendor.unwrap_or_default();
        if let Some(wallet) = wallet {
            (t.currency, t.before, t.after) = (wallet.currency, wallet.available, wallet.available);
        }
        // A revoked terminal too: what it asks again may have been decided at the wallet that the tag names now.
        if let (Some(wallet), Some(tap)) = (wallet, tap)
            && !wallet.is_tapped_by(tap)
        {
            t.rejection = Some(Rejection::TagMoved);
            hide_foreign(&mut t, festival, wallet);
            return Err(t.answer(now));
        }
        let revoked = terminal.revoked && !planted(Plant::RevocationIgnored);
        let decided = match action {
            _ if command.is_expired(now) && !planted(Plant::ExpiryIgnored) => Err(Rejection::Expired),
            _ if revoked => Err(Rejection::DeviceRevoked),
            TerminalAction::Pay { wallet, tap, amount, lines } => {
                self.pay(&mut t, (festival, terminal.vendor), *wallet, tap.as_ref(), *amount, lines, number_of_order)
            }
            TerminalAction::Refund { payment, amount, lines } => {
                self.refund(&mut t, festival, terminal.vendor, *payment, *amount, lines)
            }
            TerminalAction::TopUp { wallet, tap, amount } => {
                let source = Source::terminal(by.device);
                match terminal.cashier {
                    true => self.top_up(&mut t, festival, *wallet, tap.as_ref(), *amount, source, false),
                    false => Err(Rejection::NotACashier),
                }
            }
            TerminalAction::Balance { .. } => unreachable!("never recorded"),
        };
        t.rejection = decided.err();
        if let Some(wallet) = wallet {
            hide_foreign(&mut t, festival, wallet);
        }
        if t.rejection == Some(Rejection::Busy) { Err(t.answer(now)) } else { Ok(t) }
    }

    /// How much there is. Never recorded.
    pub(crate) fn balance(
        &self,
        device: DeviceId,
        wallet: WalletId,
        tap: Option<&Tap>,
        now: Timestamp,
    ) -> TerminalAnswer {
        let no = |rejection| TerminalAnswer::rejected(rejection, wallet, now);
        let Some((festival, terminal)) = self.directory.terminal(device) else { return no(Rejection::UnknownDevice) };
        if terminal.revoked {
            return no(Rejection::DeviceRevoked);
        }
        let found = self.usable(festival, device.festival(), wallet, tap);
        let moved = |found: &&Wallet| tap.is_some_and(|tap| !found.is_tapped_by(tap));
        match found {
            Ok(found) if moved(&found) => no(Rejection::TagMoved),
            Ok(found) => TerminalAnswer {
                verdict: CashlessVerdict::Balance,
                currency: found.currency,
                balance: found.available,
                ..no(Rejection::Internal)
            },
            Err(Rejection::ForeignWallet) => no(Rejection::UnknownWallet),
            Err(rejection) => no(rejection),
        }
    }

    /// The wallet, if it is one that this festival takes and its tag was not lost.
    fn usable(
        &self,
        festival: &CashlessFestival,
        id: FestivalId,
        wallet: WalletId,
        tap: Option<&Tap>,
    ) -> Result<&Wallet, Rejection> {
        let wallet = self.wallets.get(wallet)?;
        if wallet.issuer != id && !festival.policy.foreign_wallets {
            return Err(Rejection::ForeignWallet);
        }
        if wallet.currency != festival.policy.currency {
            return Err(Rejection::WrongCurrency);
        }
        if tap.is_some() && wallet.is_tag_lost() && !planted(Plant::LostTagPays) {
            return Err(Rejection::TagLost);
        }
        Ok(wallet)
    }

    /// Somebody pays. `vendor` is whose terminal asks, or whom the office names.
    pub(super) fn pay(
        &self,
        t: &mut Transaction,
        (festival, vendor): (&CashlessFestival, Option<VendorNo>),
        wallet: WalletId,
        tap: Option<&Tap>,
        amount: Money,
        lines: &[Line],
        number_of_order: impl Fn(u32) -> u32,
    ) -> Result<(), Rejection> {
        let vendor = festival.vendor(vendor.ok_or(Rejection::UnknownVendor)?)?;
        in_currency(amount, festival)?;
        festival.is_active()?;
        if !vendor.values.open {
            return Err(Rejection::VendorClosed);
        }
        if amount.minor < festival.policy.min_payment {
            return Err(Rejection::BelowMinPayment);
        }
        let sold = vendor.sell(lines, amount.minor)?;
        let slot = self.wallets.slot(wallet);
        let wallet = self.usable(festival, t.festival, wallet, tap)?;
        if wallet.is_blocked() && !planted(Plant::BlockIgnored) {
            return Err(Rejection::WalletBlocked);
        }
        let slot = slot.expect("it is known");
        if self.wallets.spendable(slot, t.festival) < amount.minor && !planted(Plant::NegativeBalance) {
            return Err(Rejection::InsufficientFunds);
        }
        // From here it succeeds.
        let share = vendor_share(amount.minor, vendor.values.commission_bp);
        let off = i64::from(planted(Plant::PostingOffByOne));
        t.lots = self.wallets.spent_first(slot, t.festival, amount.minor);
        t.lines = sold;
        t.order = number_of_order(vendor.payments);
        t.commission_bp = vendor.values.commission_bp;
        let commission = amount.minor - share;
        t.posting = Posting { wallet: -amount.minor, vendor: share + off, commission, ..Posting::default() };
        self.book(t)
    }

    /// Gives back a payment or a part of it. `vendor` is whose terminal asks; staff may give back anybody's.
    pub(super) fn refund(
        &self,
        t: &mut Transaction,
        festival: &CashlessFestival,
        vendor: Option<VendorNo>,
        payment: TransactionId,
        amount: Option<Money>,
        lines: &[RefundLine],
    ) -> Result<(), Rejection> {
        self.wallets.get(payment.wallet).map_err(|_| Rejection::UnknownTransaction)?;
        let found = self.refundable.find(payment, self.serial())?;
        if found.festival != t.festival || (t.by.is_some() && vendor != Some(found.vendor)) {
            return Err(Rejection::NotYourPayment);
        }
        if let Some(amount) = amount {
            in_currency(amount, festival)?;
        }
        let left = found.left();
        if left == 0 && !planted(Plant::RefundBeyondPayment) {
            return Err(Rejection::AlreadyRefunded);
        }
        let of_lines = (!lines.is_empty()).then(|| self.refundable.name(payment.serial, lines)).transpose()?;
        if let (Some(amount), Some((sum, _))) = (amount, &of_lines)
            && amount.minor != *sum
        {
            return Err(Rejection::LinesMismatch);
        }
        let (sum, named) = of_lines.unwrap_or((left, Vec::new()));
        let amount = amount.map_or(sum, |amount| amount.minor);
        if amount > left && !planted(Plant::RefundBeyondPayment) {
            return Err(Rejection::RefundExceedsPayment);
        }
        // From here it succeeds, whoever the wallet belongs to and whether it is blocked or not.
        let share = |given| vendor_share(given, found.commission_bp);
        let vendor_gives = share(found.refunded + amount) - share(found.refunded);
        t.amount = amount;
        t.lines = named;
        t.of = payment.serial;
        t.vendor = found.vendor;
        t.commission_bp = found.commission_bp;
        t.lots = found.lots_of_next(amount);
        if planted(Plant::LotsLost) {
            t.lots = Lots::one(Source::correction(t.festival), amount);
        }
        let commission = vendor_gives - amount;
        t.posting = Posting { wallet: amount, vendor: -vendor_gives, commission, ..Posting::default() };
        self.over_limit(t, festival);
        self.book(t)
    }

    /// Money comes in. If it has been taken already, no limit and no block keeps it out.
    pub(super) fn top_up(
        &self,
        t: &mut Transaction,
        festival: &CashlessFestival,
        wallet: WalletId,
        tap: Option<&Tap>,
        amount: Money,
        source: Source,
        taken: bool,
    ) -> Result<(), Rejection> {
        in_currency(amount, festival)?;
        let policy = &festival.policy;
        if !taken {
            festival.is_active()?;
            if amount.minor < policy.min_topup {
                return Err(Rejection::BelowMinTopup);
            }
            if amount.minor > policy.max_topup {
                return Err(Rejection::AboveMaxTopup);
            }
        }
        let wallet = self.usable(festival, t.festival, wallet, tap)?;
        if !taken {
            if wallet.is_blocked() {
                return Err(Rejection::WalletBlocked);
            }
            if wallet.available.saturating_add(amount.minor) > policy.max_balance {
                return Err(Rejection::AboveMaxBalance);
            }
            self.is_settled(t.festival, wallet)?;
        }
        // From here it succeeds.
        t.lots = Lots::one(source, amount.minor);
        t.posting = Posting { wallet: amount.minor, source: -amount.minor, ..Posting::default() };
        self.over_limit(t, festival);
        self.book(t)
    }

    pub(super) fn over_limit(&self, t: &mut Transaction, festival: &CashlessFestival) {
        if t.before.saturating_add(t.posting.wallet) > festival.policy.max_balance {
            t.flags |= OVER_LIMIT;
        }
    }

    /// The balance afterwards and the serial. A wallet cannot hold more than 2^63 − 1 minor units.
    pub(super) fn book(&self, t: &mut Transaction) -> Result<(), Rejection> {
        let Some(after) = t.before.checked_add(t.posting.wallet) else {
            (t.posting, t.lots) = (Posting::default(), Lots::default());
            t.flags = 0;
            return Err(Rejection::LimitReached);
        };
        t.after = after;
        t.serial = self.next_id(t.wallet).serial;
        Ok(())
    }
}

/// To the staff of a festival that does not take it another issuer's wallet does not exist: a refusal says neither that it
/// does nor what is in it.
fn hide_foreign(t: &mut Transaction, festival: &CashlessFestival, wallet: &Wallet) {
    if t.rejection.is_none() || wallet.issuer == t.festival || festival.policy.foreign_wallets {
        return;
    }
    if t.rejection == Some(Rejection::ForeignWallet) {
        t.rejection = Some(Rejection::UnknownWallet);
    }
    (t.currency, t.before, t.after) = (festival.policy.currency, 0, 0);
}

fn in_currency(amount: Money, festival: &CashlessFestival) -> Result<(), Rejection> {
    check_amount(amount.minor)?;
    if amount.currency == festival.policy.currency { Ok(()) } else { Err(Rejection::WrongCurrency) }
}

/// A transaction in which nothing moves.
pub(super) fn blank(kind: TransactionKind, festival: FestivalId, wallet: WalletId, currency: Currency) -> Transaction {
    Transaction {
        by: None,
        kind,
        rejection: None,
        flags: 0,
        festival,
        wallet,
        tap: None,
        serial: 0,
        amount: 0,
        currency,
        before: 0,
        after: 0,
        posting: Posting::default(),
        lots: Lots::default(),
        vendor: VendorNo(0),
        order: 0,
        commission_bp: 0,
        of: 0,
        other: None,
        lines: Vec::new(),
        reason: String::new(),
    }
}
