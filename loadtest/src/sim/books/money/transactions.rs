//! Each transaction, judged by the table in the design, and what it does to the accounts.

use std::collections::BTreeMap;

use engine::cashless::command::{OVER_LIMIT, RefundLine, Source, SourceKind};
use engine::cashless::event::{Posting, Transaction, TransactionKind};
use engine::gates::event::ByDevice;
use engine::model::ids::{FestivalId, ProductNo, TransactionId, VendorNo, WalletId};
use engine::model::money::AMOUNT_LIMIT;
use engine::model::rejection::Rejection;
use engine::model::status::FestivalStatus;
use engine::model::time::Timestamp;

use super::{CashlessBook, Ended, MoneyBook, PaymentBook, WalletBook};
use crate::sim::{Check, breach};

type Judged = Result<(), Rejection>;

impl MoneyBook {
    pub(super) fn transaction(&mut self, t: &Transaction, record: u64, at: Timestamp) -> Check<Ended> {
        if let Some(by) = t.by {
            self.answered(by, t, at)?;
        }
        let right = self.judge(t);
        let said = match t.rejection {
            Some(_) if t.kind == TransactionKind::TransferBack => Ok(()),
            Some(rejection) => Err(rejection),
            None => Ok(()),
        };
        if said != right || said.is_ok() != (t.serial > 0) {
            let rule = match (said, right) {
                (Ok(()), Err(Rejection::DeviceRevoked)) => "a revoked device is refused by the next decision",
                (Ok(()), Err(Rejection::InsufficientFunds)) => "nobody spends what they do not have",
                (Ok(()), Err(Rejection::TagLost | Rejection::TagMoved)) => "a wristband pays by its present link",
                _ => "money is decided by the table",
            };
            return breach(rule, format!("decided {said:?}, by the books {right:?}: {t:?}"));
        }
        if said.is_err() {
            self.count("cash_refused");
            let nothing = t.posting == Posting::default() && t.before == t.after;
            let foreign = self.wallets.get(&t.wallet).zip(self.festivals.get(&t.festival));
            let foreign = foreign.is_some_and(|(wallet, page)| {
                wallet.issuer != t.festival && !page.policy.foreign_wallets && t.by.is_some()
            });
            if foreign && (t.after != 0 || t.rejection == Some(Rejection::ForeignWallet)) {
                return breach("another issuer's wallet does not exist for staff", format!("{t:?}"));
            }
            return if nothing { Ok(None) } else { breach("a refusal moves nothing", format!("{t:?}")) };
        }
        self.moved(t, record)?;
        match (t.kind, t.other) {
            (TransactionKind::TransferOut, Some(to)) => self.left(t, to)?,
            (TransactionKind::TransferIn, Some(from)) => self.came(t, from)?,
            (TransactionKind::TransferBack, Some(_)) => return self.is_back(t),
            (TransactionKind::Payment, None) => self.paid(t)?,
            (TransactionKind::Refund, None) => self.refunded(t)?,
            (_, None) => {}
            _ => return breach("money is decided by the table", format!("{t:?}")),
        }
        Ok(None)
    }

    fn answered(&mut self, by: ByDevice, t: &Transaction, at: Timestamp) -> Check {
        let floor = self.floors.entry(by.device).or_default();
        *floor = by.floor.max(*floor);
        if by.seq < *floor {
            return breach("below the floor nothing happens", format!("{} seq {}", by.device, by.seq));
        }
        let answer = t.answer(at);
        if let Some(before) = self.answers.insert((by.device, by.seq), answer) {
            let what = format!("{} seq {}: {before:?}, then {answer:?}", by.device, by.seq);
            return breach("every command happens once", what);
        }
        if let Some(tap) = t.tap.filter(|_| t.serial > 0) {
            self.taps.insert((by.device, by.seq), tap);
        }
        Ok(())
    }

    /// The highest floor that a terminal has told here.
    pub(in crate::sim) fn floor(&self, device: engine::model::ids::DeviceId) -> u64 {
        self.floors.get(&device).copied().unwrap_or(0)
    }

    /// The table, as far as a record tells what was asked.
    fn judge(&self, t: &Transaction) -> Judged {
        let page = self.festivals.get(&t.festival).ok_or(Rejection::NotCashless)?;
        let terminal = match t.by {
            Some(by) => Some(*page.terminals.get(&by.device.number()).ok_or(Rejection::UnknownDevice)?),
            None => None,
        };
        let tapped = |wallet: &WalletBook| t.tap.is_none_or(|tap| wallet.tag == Some(tap));
        if self.wallets.get(&t.wallet).is_some_and(|wallet| !tapped(wallet)) {
            return Err(Rejection::TagMoved); // of which nothing is recorded
        }
        // Whether its time was over, its record does not say; its terminal knows (`judge_terminal`).
        let may_expire = terminal.is_some() && matches!(t.kind, TransactionKind::Payment | TransactionKind::TopUp);
        if may_expire && t.rejection == Some(Rejection::Expired) {
            return Err(Rejection::Expired);
        }
        if terminal.is_some_and(|terminal| terminal.revoked) {
            return Err(Rejection::DeviceRevoked);
        }
        match t.kind {
            TransactionKind::Payment => {
                // The office names whom it pays.
                let vendor =
                    terminal.map_or(Some(t.vendor), |terminal| terminal.vendor).ok_or(Rejection::UnknownVendor)?;
                self.judge_payment(t, page, vendor)
            }
            TransactionKind::Refund => self.judge_refund(t, page, terminal.map(|terminal| terminal.vendor)),
            TransactionKind::TopUp if terminal.is_some_and(|terminal| !terminal.cashier) => Err(Rejection::NotACashier),
            TransactionKind::TopUp => self.judge_top_up(t, page),
            TransactionKind::TransferOut => {
                if t.other == Some(t.wallet) {
                    return Err(Rejection::SameWallet);
                }
                self.spends(t, page, t.amount)
            }
            TransactionKind::TransferIn => {
                let wallet = self.taken_here(t, page)?;
                if wallet.blocked {
                    return Err(Rejection::WalletBlocked);
                }
                if wallet.available + t.amount > page.policy.max_balance && !self.merges(t, wallet) {
                    return Err(Rejection::AboveMaxBalance);
                }
                Ok(())
            }
            TransactionKind::TransferBack => Ok(()), // judged with its operation
            TransactionKind::Correction if t.amount > 0 => {
                let gift = t.lots.first().source.kind == SourceKind::Gift;
                self.taken_here(t, page)?;
                if gift && is_over(page) { Err(Rejection::FestivalNotActive) } else { Ok(()) }
            }
            TransactionKind::Correction => {
                let wallet = self.taken_here(t, page)?;
                if wallet.spendable(t.festival) + t.amount < 0 { Err(Rejection::InsufficientFunds) } else { Ok(()) }
            }
            // It is over, here and now: that it was so for long enough, the engine's own tests say.
            TransactionKind::Lapse if is_over(page) => Ok(()),
            TransactionKind::Lapse => Err(Rejection::FestivalNotActive),
            TransactionKind::CashOut => {
                let wallet = self.taken_here(t, page)?;
                match wallet {
                    wallet if wallet.blocked => Err(Rejection::WalletBlocked),
                    wallet if wallet.paid_in() == 0 => Err(Rejection::NothingLeft),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Whether money comes from another wallet of the same account and issuer, all of it.
    fn merges(&self, t: &Transaction, wallet: &WalletBook) -> bool {
        let account = match &self.heard {
            Some((_, engine::shard::outbox::Message::Credit { op, account, .. })) if *op == t.of => *account,
            _ => t.other.and_then(|other| self.wallets.get(&other)).and_then(|other| other.account),
        };
        account.is_some() && account == wallet.account && wallet.issuer == t.festival && t.flags & OVER_LIMIT != 0
    }

    /// The wallet, if this festival takes it.
    fn taken_here(&self, t: &Transaction, page: &CashlessBook) -> Result<&WalletBook, Rejection> {
        let wallet = self.wallets.get(&t.wallet).ok_or(Rejection::UnknownWallet)?;
        if wallet.issuer != t.festival && !page.policy.foreign_wallets {
            // To a terminal it does not exist.
            return Err(if t.by.is_some() { Rejection::UnknownWallet } else { Rejection::ForeignWallet });
        }
        if wallet.currency != page.policy.currency {
            return Err(Rejection::WrongCurrency);
        }
        if t.tap.is_some() && wallet.lost {
            return Err(Rejection::TagLost);
        }
        Ok(wallet)
    }

    fn spends(&self, t: &Transaction, page: &CashlessBook, amount: i64) -> Judged {
        match self.taken_here(t, page)? {
            wallet if wallet.blocked => Err(Rejection::WalletBlocked),
            wallet if wallet.spendable(t.festival) < amount => Err(Rejection::InsufficientFunds),
            _ => Ok(()),
        }
    }

    fn judge_payment(&self, t: &Transaction, page: &CashlessBook, vendor: VendorNo) -> Judged {
        let vendor = page.vendors.get(usize::from(vendor.0)).ok_or(Rejection::UnknownVendor)?;
        is_amount(t.amount)?;
        is_active(page)?;
        if !vendor.values.open {
            return Err(Rejection::VendorClosed);
        }
        if t.amount < page.policy.min_payment {
            return Err(Rejection::BelowMinPayment);
        }
        // A refusal does not say which lines there were.
        if let Some(why @ (Rejection::LinesMismatch | Rejection::UnknownProduct)) = t.rejection {
            return Err(why);
        }
        if !t.lines.is_empty() {
            let sum: i64 = t.lines.iter().map(|line| line.price * i64::from(line.count)).sum();
            let known = t.lines.iter().all(|line| {
                let product = vendor.products.get(usize::from(line.product.0));
                product.is_some_and(|product| product.on_sale && product.vat_bp == line.vat_bp)
            });
            match () {
                () if sum != t.amount => return Err(Rejection::LinesMismatch),
                () if !known => return Err(Rejection::UnknownProduct),
                () => {}
            }
        }
        self.spends(t, page, t.amount)
    }

    fn judge_refund(&self, t: &Transaction, page: &CashlessBook, terminal: Option<Option<VendorNo>>) -> Judged {
        // A refusal does not say which payment it was about: whoever asked is looked at when it is told.
        if let Some(why) = t.rejection.filter(|why| *why != Rejection::DeviceRevoked) {
            return Err(why);
        }
        let payment = self.payments.get(&t.of).ok_or(Rejection::NotAPayment)?;
        self.may_refund(payment, t.wallet, t.festival, terminal, Some(t.amount))?;
        let bp = (payment.commission_bp, payment.vendor) == (t.commission_bp, t.vendor);
        if bp && page.vendors.len() > usize::from(t.vendor.0) { Ok(()) } else { Err(Rejection::NotYourPayment) }
    }

    fn may_refund(
        &self,
        payment: &PaymentBook,
        wallet: WalletId,
        festival: FestivalId,
        terminal: Option<Option<VendorNo>>,
        amount: Option<i64>,
    ) -> Judged {
        if payment.wallet != wallet {
            return Err(Rejection::UnknownTransaction);
        }
        if payment.festival != festival || terminal.is_some_and(|vendor| vendor != Some(payment.vendor)) {
            return Err(Rejection::NotYourPayment);
        }
        amount.map_or(Ok(()), is_amount)?;
        match amount {
            _ if payment.left == 0 => Err(Rejection::AlreadyRefunded),
            Some(amount) if amount > payment.left => Err(Rejection::RefundExceedsPayment),
            _ => Ok(()),
        }
    }

    /// Whether a refund could have been refused for this reason, by what is known now: payments are only ever given back.
    pub(in crate::sim) fn refuses_refund(
        &self,
        id: TransactionId,
        festival: FestivalId,
        terminal: Option<Option<VendorNo>>,
        amount: Option<i64>,
        why: Rejection,
    ) -> bool {
        let right = match self.payments.get(&id.serial) {
            _ if !self.wallets.contains_key(&id.wallet) => Err(Rejection::UnknownTransaction),
            None if id.serial == 0 || id.serial > self.serial => Err(Rejection::UnknownTransaction),
            None => Err(Rejection::NotAPayment),
            Some(payment) => self.may_refund(payment, id.wallet, festival, terminal, amount),
        };
        // What exceeded what was left then may find nothing left now, and what was not known then may be by now.
        let since = matches!((why, right), (Rejection::RefundExceedsPayment, Err(Rejection::AlreadyRefunded)));
        right == Err(why) || since || why == Rejection::UnknownTransaction
    }

    /// The same of a refund that names products.
    pub(in crate::sim) fn refuses_products(
        &self,
        serial: u64,
        amount: Option<i64>,
        lines: &[RefundLine],
        why: Rejection,
    ) -> bool {
        let Some(payment) = self.payments.get(&serial) else { return false };
        let sum: i64 = lines.iter().map(|line| line.price * i64::from(line.count)).sum();
        match why {
            Rejection::LinesMismatch => {
                let unsound = lines.iter().any(|line| line.count == 0 || !payment.sold.contains_key(&line.product));
                unsound || sum <= 0 || amount.is_some_and(|amount| amount != sum)
            }
            Rejection::RefundExceedsPayment => {
                let too_many = |(product, (sold, back)): (&ProductNo, &(u32, u32))| {
                    let now = lines.iter().filter(|line| line.product == *product).map(|line| u32::from(line.count));
                    back + now.sum::<u32>() > *sold
                };
                sum > payment.left || payment.sold.iter().any(too_many)
            }
            _ => false,
        }
    }

    fn judge_top_up(&self, t: &Transaction, page: &CashlessBook) -> Judged {
        is_amount(t.amount)?;
        // Money that a card was charged for has been taken, here.
        let taken = t.lots.first().source.kind == SourceKind::Card && t.rejection.is_none();
        if taken {
            return self.taken_here(t, page).map(|_| ());
        }
        is_active(page)?;
        if t.amount < page.policy.min_topup {
            return Err(Rejection::BelowMinTopup);
        }
        if t.amount > page.policy.max_topup {
            return Err(Rejection::AboveMaxTopup);
        }
        match self.taken_here(t, page)? {
            wallet if wallet.blocked => Err(Rejection::WalletBlocked),
            wallet if wallet.available + t.amount > page.policy.max_balance => Err(Rejection::AboveMaxBalance),
            _ => Ok(()),
        }
    }

    /// Money has moved: the posting is balanced and the one of its kind, the lots are the oldest, the history goes on.
    fn moved(&mut self, t: &Transaction, record: u64) -> Check {
        self.serial += 1;
        if t.serial != self.serial {
            return breach("serials are dense", format!("{} after {}: {t:?}", t.serial, self.serial - 1));
        }
        let p = t.posting;
        let legs = [p.wallet, p.vendor, p.commission, p.source, p.corrections, p.in_transit];
        if legs.iter().map(|leg| i128::from(*leg)).sum::<i128>() != 0 {
            return breach("a posting adds up to zero", format!("{t:?}"));
        }
        let expected = self.posting(t);
        if expected != p || (t.amount <= 0 && t.kind != TransactionKind::Correction) {
            return breach("a posting is that of its kind", format!("{t:?}, by the books {expected:?}"));
        }
        self.booked(t)?;
        let page = self.page(t.festival)?;
        page.wallets += i128::from(p.wallet);
        page.commission += i128::from(p.commission);
        page.corrections += i128::from(p.corrections);
        page.in_transit += i128::from(p.in_transit);
        if p.vendor != 0 {
            page.vendors[usize::from(t.vendor.0)].payable += i128::from(p.vendor);
        }
        if p.source != 0 {
            let corrected = t.kind == TransactionKind::Correction;
            for lot in t.lots.iter().filter(|lot| !corrected || lot.source.kind == SourceKind::Gift) {
                let sum = page.sources.entry(account(lot.source)).or_default();
                *sum += i128::from(lot.amount * p.source.signum());
            }
        }
        let over = t.before + p.wallet > page.policy.max_balance;
        let flagged = t.flags & OVER_LIMIT != 0;
        let may_be_over =
            matches!(t.kind, TransactionKind::TopUp | TransactionKind::Refund | TransactionKind::Correction);
        if flagged != (over && may_be_over) {
            return breach("what is over the limit says so", format!("{t:?}"));
        }
        let wallet = self.wallet(t.wallet)?;
        if t.before != wallet.available || t.after != t.before + p.wallet || t.currency != wallet.currency {
            return breach("a wallet's history has no gap", format!("{} available: {t:?}", wallet.available));
        }
        if t.after < 0 {
            return breach("nobody spends what they do not have", format!("{t:?}"));
        }
        if t.lots.sum() != p.wallet.abs() {
            return breach("every euro has a source", format!("{t:?}"));
        }
        if p.wallet < 0 {
            let paid_out = t.kind == TransactionKind::CashOut;
            let right = wallet.goes_first(t.festival, t.amount.abs(), paid_out);
            if !t.lots.iter().map(|lot| (lot.source, lot.amount)).eq(right.iter().copied()) {
                return breach(
                    "gifts are spent first, then the oldest money",
                    format!("{t:?}, by the books {right:?}"),
                );
            }
            right.iter().for_each(|(source, amount)| wallet.loses(*source, *amount));
        }
        if p.wallet > 0 {
            t.lots.iter().for_each(|lot| gives(&mut wallet.lots, lot.source, lot.amount));
        }
        if wallet.lately.0 != record {
            wallet.lately = (record, [t.before].into());
        }
        wallet.lately.1.insert(t.after);
        wallet.available = t.after;
        wallet.transactions += 1;
        Ok(())
    }

    /// What a transaction of this kind and amount is booked as.
    fn posting(&self, t: &Transaction) -> Posting {
        let (none, amount) = (Posting::default(), t.amount);
        match t.kind {
            TransactionKind::TopUp => Posting { wallet: amount, source: -amount, ..none },
            TransactionKind::CashOut => Posting { wallet: -amount, source: amount, ..none },
            TransactionKind::Lapse => Posting { wallet: -amount, source: amount, ..none },
            TransactionKind::Correction => {
                let gifts = t.lots.iter().filter(|lot| lot.source.kind == SourceKind::Gift);
                let gift = gifts.map(|lot| lot.amount).sum::<i64>() * -amount.signum();
                Posting { wallet: amount, source: gift, corrections: -amount - gift, ..none }
            }
            TransactionKind::TransferOut => Posting { wallet: -amount, in_transit: amount, ..none },
            TransactionKind::TransferIn | TransactionKind::TransferBack => {
                Posting { wallet: amount, in_transit: -amount, ..none }
            }
            TransactionKind::Payment => {
                let vendor = share(amount, t.commission_bp);
                Posting { wallet: -amount, vendor, commission: amount - vendor, ..none }
            }
            TransactionKind::Refund => {
                let Some(payment) = self.payments.get(&t.of) else { return none };
                let before = payment.amount - payment.left;
                let vendor = share(before + amount, t.commission_bp) - share(before, t.commission_bp);
                Posting { wallet: amount, vendor: -vendor, commission: vendor - amount, ..none }
            }
        }
    }

    fn paid(&mut self, t: &Transaction) -> Check {
        self.count("payments");
        let vendor = &mut self.page(t.festival)?.vendors[usize::from(t.vendor.0)];
        if vendor.values.commission_bp != t.commission_bp || !vendor.orders.insert(t.order) {
            return breach("money is decided by the table", format!("commission or number of order: {t:?}"));
        }
        let lots = t.lots.iter().map(|lot| (lot.source, lot.amount)).collect();
        let (wallet, amount, festival, vendor) = (t.wallet, t.amount, t.festival, t.vendor);
        let commission_bp = t.commission_bp;
        let mut sold = BTreeMap::<_, (u32, u32)>::new();
        for line in &t.lines {
            sold.entry(line.product).or_default().0 += u32::from(line.count);
        }
        let page = PaymentBook { wallet, amount, left: amount, festival, vendor, commission_bp, lots, sold };
        self.payments.insert(t.serial, page);
        Ok(())
    }

    fn refunded(&mut self, t: &Transaction) -> Check {
        self.count("refunds");
        let payment = self.payments.get_mut(&t.of).expect("judged");
        payment.left -= t.amount;
        let sum: i64 = t.lines.iter().map(|line| line.price * i64::from(line.count)).sum();
        if !t.lines.is_empty() && sum != t.amount {
            return breach("what comes back comes to what is given back", format!("{t:?}"));
        }
        for line in &t.lines {
            let (sold, back) = payment.sold.entry(line.product).or_default();
            *back += u32::from(line.count);
            if *back > *sold || line.count == 0 {
                return breach("no more comes back than was sold", format!("{back} of {sold}: {t:?}"));
            }
        }
        if !t.lines.is_empty() {
            self.count("products_returned");
        }
        let payment = self.payments.get_mut(&t.of).expect("judged");
        if t.lots.iter().all(|lot| takes(&mut payment.lots, lot.source, lot.amount)) {
            return Ok(());
        }
        breach("a refund goes back to where the money came from", format!("{t:?}, there was {:?}", payment.lots))
    }
}

fn is_amount(minor: i64) -> Judged {
    if minor > 0 && minor < AMOUNT_LIMIT { Ok(()) } else { Err(Rejection::InvalidAmount) }
}

fn is_active(page: &CashlessBook) -> Judged {
    let active = matches!(page.status, FestivalStatus::Published | FestivalStatus::Ongoing);
    if active { Ok(()) } else { Err(Rejection::FestivalNotActive) }
}

fn is_over(page: &CashlessBook) -> bool {
    matches!(page.status, FestivalStatus::Completed | FestivalStatus::Cancelled)
}

/// Cards, bank transfers, gifts and corrections have one account each; a terminal and a desk have their own.
fn account(source: Source) -> Source {
    let own = matches!(source.kind, SourceKind::Terminal | SourceKind::Desk);
    Source { number: if own { source.number } else { 0 }, ..source }
}

impl WalletBook {
    fn gifts(&self, which: impl Fn(FestivalId) -> bool) -> i64 {
        let gifts = self.lots.iter().filter(|(source, _)| source.kind == SourceKind::Gift && which(source.festival));
        gifts.map(|(_, amount)| amount).sum()
    }
    /// Gifts are good where they were given.
    fn spendable(&self, at: FestivalId) -> i64 {
        self.available - self.gifts(|festival| festival != at)
    }
    /// Gifts are not paid out.
    fn paid_in(&self) -> i64 {
        self.available - self.gifts(|_| true)
    }
    /// What this amount takes: the festival's own gift, then what is oldest; paid out, no gift.
    fn goes_first(&self, at: FestivalId, amount: i64, paid_out: bool) -> Vec<(Source, i64)> {
        let mut left = amount;
        let own = self.lots.iter().filter(|(source, _)| source.kind == SourceKind::Gift && source.festival == at);
        let rest = self.lots.iter().filter(|(source, _)| source.kind != SourceKind::Gift);
        let parts = own.filter(|_| !paid_out).chain(rest).map(|(source, amount)| {
            let part = left.min(*amount);
            left -= part;
            (*source, part)
        });
        parts.filter(|(_, part)| *part > 0).collect()
    }
    fn loses(&mut self, source: Source, amount: i64) {
        if let Some((_, sum)) = self.lots.iter_mut().find(|(known, _)| *known == source) {
            *sum -= amount;
        }
        self.lots.retain(|(_, sum)| *sum != 0);
    }
}

/// What is left to the vendor: half a cent goes to the even side.
fn share(amount: i64, commission_bp: u16) -> i64 {
    let exact = amount * (10_000 - i64::from(commission_bp));
    let (floor, rest) = (exact.div_euclid(10_000), exact.rem_euclid(10_000));
    match rest.cmp(&5_000) {
        core::cmp::Ordering::Less => floor,
        core::cmp::Ordering::Equal => floor + floor % 2,
        core::cmp::Ordering::Greater => floor + 1,
    }
}

/// Takes an amount from the oldest lot, which has to be this source's.
fn takes(lots: &mut Vec<(Source, i64)>, source: Source, amount: i64) -> bool {
    let Some((oldest, left)) = lots.first_mut() else { return false };
    if *oldest != source || *left < amount {
        return false;
    }
    *left -= amount;
    if *left == 0 {
        lots.remove(0);
    }
    true
}

/// Money joins what there is of its source, or stands behind everything else. Where there are 16 sources already, banknotes
/// become one lot for each kind; a payment never does, of which there are fewer here than a wallet tells apart.
fn gives(lots: &mut Vec<(Source, i64)>, source: Source, amount: i64) {
    let is_new = lots.iter().all(|(known, _)| *known != source);
    let stays_itself = matches!(source.kind, SourceKind::Card | SourceKind::Bank | SourceKind::Gift);
    let several = is_new && !stays_itself && lots.len() >= 16;
    let source = if several { Source { number: Source::SEVERAL, ..source } } else { source };
    match lots.iter_mut().find(|(known, _)| *known == source) {
        Some((_, sum)) => *sum += amount,
        None => lots.push((source, amount)),
    }
}
