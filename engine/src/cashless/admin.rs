//! What the office asks about money.

use crate::cashless::command::{CashlessAction, Source, SourceKind};
use crate::cashless::event::{CashlessEvent, Lots, Posting, Transaction, TransactionKind};
use crate::cashless::tag::Linking;
use crate::cashless::terminal::blank;
use crate::cashless::{Cashless, directory};
use crate::command::TEXT_LEN_MAX;
use crate::event::{Already, Event};
use crate::gates::festival::{Decided, Festival, check, is_name};
use crate::model::ids::{FestivalId, ProductNo, VendorNo, WalletId};
use crate::model::money::{AMOUNT_LIMIT, Money, WHOLE_BP, check_amount};
use crate::model::rejection::Rejection;
use crate::model::time::Timestamp;
use crate::plants::{Plant, planted};

impl Cashless {
    /// Decides what the office asks. `festival` is the action's own, where this shard is its home; `others` is how many
    /// other shards there are.
    pub(crate) fn decide_admin(
        &self,
        action: &CashlessAction,
        festival: Option<&Festival>,
        number_of_order: impl Fn(u32) -> u32,
        others: u16,
        now: Timestamp,
    ) -> Result<Decided, Rejection> {
        let event = match action {
            CashlessAction::SetPolicy { festival: id, policy } => {
                let status = festival.ok_or(Rejection::UnknownFestival)?.status;
                if !policy.currency.is_known() {
                    return Err(Rejection::UnknownCurrency);
                }
                let limits = [policy.min_topup, policy.max_topup, policy.max_balance, policy.min_payment];
                check(limits.iter().all(|limit| (1..AMOUNT_LIMIT).contains(limit)))?;
                check(policy.min_topup <= policy.max_topup)?;
                self.decide_policy(*id, *policy, status, others)?
            }
            CashlessAction::PutVendor { festival: id, vendor, values } => {
                festival.ok_or(Rejection::UnknownFestival)?;
                let known = self.directory.get(*id)?;
                check(is_name(&values.name) && values.commission_bp <= WHOLE_BP)?;
                let vendor = match vendor {
                    Some(vendor) => known.vendor(*vendor).map(|_| *vendor)?,
                    None if known.vendors_len() >= directory::VENDORS_MAX => return Err(Rejection::LimitReached),
                    None => VendorNo(known.vendors_len() as u16),
                };
                CashlessEvent::VendorPut { festival: *id, vendor, values: values.clone() }
            }
            CashlessAction::PutProduct { festival: id, vendor, product, values } => {
                festival.ok_or(Rejection::UnknownFestival)?;
                let known = self.directory.get(*id)?.vendor(*vendor)?;
                check(is_name(&values.name) && values.vat_bp <= WHOLE_BP)?;
                check((0..AMOUNT_LIMIT).contains(&values.price))?;
                let product = match product {
                    Some(product) => known.product(*product).map(|_| *product)?,
                    None if known.products_len() >= directory::PRODUCTS_MAX => return Err(Rejection::LimitReached),
                    None => ProductNo(known.products_len() as u16),
                };
                CashlessEvent::ProductPut { festival: *id, vendor: *vendor, product, values: values.clone() }
            }
            CashlessAction::OfferTerminal { festival: id, vendor, cashier, code_hash, name } => {
                let here = festival.ok_or(Rejection::UnknownFestival)?;
                let known = self.directory.get(*id)?;
                vendor.map_or(Ok(()), |vendor| known.vendor(vendor).map(|_| ()))?;
                check(vendor.is_some() || *cashier)?;
                CashlessEvent::TerminalOffered {
                    festival: *id,
                    vendor: *vendor,
                    cashier: *cashier,
                    code_hash: *code_hash,
                    name: name.clone(),
                    until: here.decide_offer(code_hash, name, now)?,
                }
            }
            CashlessAction::CreateWallet { wallet, festival, account } => {
                check(wallet.0 != 0 && account.is_none_or(|account| account != 0))?;
                if let Ok(known) = self.wallets.get(*wallet) {
                    return match known.account() == *account {
                        true => Ok(Decided::Already(Already::Wallet(*wallet))),
                        false => Err(Rejection::WalletClaimed),
                    };
                }
                self.create(*wallet, *festival, *account)?
            }
            CashlessAction::Claim { wallet, account } => {
                check(*account != 0)?;
                match self.wallets.get(*wallet)?.account() {
                    None => CashlessEvent::WalletClaimed { wallet: *wallet, account: *account },
                    Some(known) if known == *account => return Ok(Decided::Already(Already::Wallet(*wallet))),
                    Some(_) => return Err(Rejection::WalletClaimed),
                }
            }
            CashlessAction::Block { wallet, blocked } => {
                if self.wallets.get(*wallet)?.is_blocked() == *blocked {
                    return Ok(Decided::Already(Already::Done));
                }
                CashlessEvent::WalletBlockSet { wallet: *wallet, blocked: *blocked }
            }
            CashlessAction::ReportLost { wallet } => {
                let known = self.wallets.get(*wallet)?;
                let (tag, version) = known.tag().ok_or(Rejection::UnknownTag)?;
                if known.is_tag_lost() {
                    return Ok(Decided::Already(Already::Done));
                }
                CashlessEvent::WalletTagLost { wallet: *wallet, tag, version, op: self.ops.next() }
            }
            CashlessAction::ReportTagLost { tag } => {
                if !self.tags.decide_lost(*tag)? {
                    return Ok(Decided::Already(Already::Done));
                }
                CashlessEvent::TagLost { tag: *tag, op: self.ops.next() }
            }
            CashlessAction::LinkTag { tag, wallet, festival, .. } => {
                check(wallet.0 != 0)?;
                match self.tags.decide_link(*tag, *wallet, *festival)? {
                    Linking::Already => return Ok(Decided::Already(Already::Wallet(*wallet))),
                    Linking::Next(version) => {
                        let (tag, wallet, festival, op) = (*tag, *wallet, *festival, self.ops.next());
                        CashlessEvent::TagLinking { tag, wallet, version, op, festival }
                    }
                }
            }
            CashlessAction::TopUp { .. }
            | CashlessAction::Pay { .. }
            | CashlessAction::Refund { .. }
            | CashlessAction::Transfer { .. }
            | CashlessAction::Merge { .. }
            | CashlessAction::Correct { .. }
            | CashlessAction::CashOut { .. } => {
                return self.decide_money(action, number_of_order).map(|t| Decided::Event(Event::Transaction(t)));
            }
        };
        Ok(Decided::Event(Event::Cashless(event)))
    }

    /// A new wallet in its issuer's currency.
    pub(super) fn create(
        &self,
        wallet: WalletId,
        festival: FestivalId,
        account: Option<u128>,
    ) -> Result<CashlessEvent, Rejection> {
        let currency = self.directory.get(festival)?.policy.currency;
        if self.wallets.len() >= crate::cashless::wallet::WALLETS_MAX {
            return Err(Rejection::LimitReached);
        }
        Ok(CashlessEvent::WalletCreated { wallet, issuer: festival, currency, account })
    }

    fn decide_money(
        &self,
        action: &CashlessAction,
        number_of_order: impl Fn(u32) -> u32,
    ) -> Result<Transaction, Rejection> {
        match action {
            CashlessAction::TopUp { wallet, festival, amount, source, taken } => {
                let mut t = self.begin(TransactionKind::TopUp, *festival, *wallet, amount.minor)?;
                let at = self.directory.get(*festival)?;
                check(source.festival == *festival)?;
                check(!matches!(source.kind, SourceKind::Correction | SourceKind::Gift) && source.is_whole())?;
                self.top_up(&mut t, at, *wallet, None, *amount, *source, *taken)?;
                Ok(t)
            }
            CashlessAction::Pay { wallet, festival, vendor, amount, lines } => {
                let at = self.directory.get(*festival)?;
                let mut t = blank(TransactionKind::Payment, *festival, *wallet, at.policy.currency);
                (t.amount, t.vendor) = (amount.minor, *vendor);
                if let Ok(known) = self.wallets.get(*wallet) {
                    (t.currency, t.before, t.after) = (known.currency, known.available, known.available);
                }
                self.pay(&mut t, (at, Some(*vendor)), *wallet, None, *amount, lines, number_of_order)?;
                Ok(t)
            }
            CashlessAction::Refund { payment, festival, amount, lines } => {
                let known = self.begin(TransactionKind::Refund, *festival, payment.wallet, 0);
                // Whoever names a wallet that there is not names no transaction either.
                let mut t = known.map_err(|why| match why {
                    Rejection::UnknownWallet => Rejection::UnknownTransaction,
                    other => other,
                })?;
                self.refund(&mut t, self.directory.get(*festival)?, None, *payment, *amount, lines)?;
                Ok(t)
            }
            CashlessAction::Transfer { from, to, festival, amount } => {
                let mut t = self.begin(TransactionKind::TransferOut, *festival, *from, amount.minor)?;
                check_amount(amount.minor)?;
                if from == to {
                    return Err(Rejection::SameWallet);
                }
                check(to.0 != 0)?;
                self.spend(&mut t, *amount, false)?;
                t.posting = Posting { wallet: -amount.minor, in_transit: amount.minor, ..Posting::default() };
                t.of = self.ops.next();
                t.other = Some(*to);
                self.book(&mut t)?;
                Ok(t)
            }
            CashlessAction::Merge { from, into, festival } => {
                let known = self.wallets.get(*from)?;
                // What another festival gave stays where it is: it cannot be spent here.
                let all = self.wallets.spendable(self.wallets.slot(*from).expect("it is known"), *festival);
                let money = Money { minor: all, currency: known.currency };
                let mut t = self.begin(TransactionKind::TransferOut, *festival, *from, money.minor)?;
                if from == into {
                    return Err(Rejection::SameWallet);
                }
                check(into.0 != 0 && known.issuer == *festival)?;
                known.account().ok_or(Rejection::NotOneAccount)?;
                if money.minor <= 0 {
                    return Err(Rejection::NothingLeft);
                }
                self.spend(&mut t, money, false)?;
                t.posting = Posting { wallet: -money.minor, in_transit: money.minor, ..Posting::default() };
                t.of = self.ops.next();
                t.other = Some(*into);
                self.book(&mut t)?;
                Ok(t)
            }
            CashlessAction::Correct { wallet, festival, delta, reason, gives_back } => {
                let mut t = self.begin(TransactionKind::Correction, *festival, *wallet, delta.minor)?;
                let size = delta.minor.checked_abs().ok_or(Rejection::InvalidAmount)?;
                check_amount(size)?;
                check(!reason.trim().is_empty() && reason.len() <= TEXT_LEN_MAX)?;
                check(!gives_back || delta.minor > 0)?;
                let at = self.directory.get(*festival)?;
                t.reason = reason.clone();
                // What a gift comes from, and where it goes back to, is its own account.
                let gift = if delta.minor < 0 {
                    self.spend(&mut t, Money { minor: size, ..*delta }, true)?;
                    t.lots.iter().filter(|lot| lot.source.is_gift()).map(|lot| lot.amount).sum::<i64>()
                } else {
                    self.of_wallets_currency(&t, *delta)?;
                    if !gives_back && at.is_over() {
                        return Err(Rejection::FestivalNotActive);
                    }
                    t.lots = Lots::one(
                        if *gives_back { Source::correction(*festival) } else { Source::gift(*festival) },
                        size,
                    );
                    if *gives_back { 0 } else { -size }
                };
                let corrections = -delta.minor - gift;
                t.posting = Posting { wallet: delta.minor, source: gift, corrections, ..Posting::default() };
                self.over_limit(&mut t, at);
                self.book(&mut t)?;
                Ok(t)
            }
            CashlessAction::CashOut { wallet, festival } => {
                let mut t = self.begin(TransactionKind::CashOut, *festival, *wallet, 0)?;
                let known = self.wallets.get(*wallet)?;
                self.of_wallets_currency(&t, Money { minor: known.available, currency: known.currency })?;
                if known.is_blocked() {
                    return Err(Rejection::WalletBlocked);
                }
                let slot = self.wallets.slot(*wallet).expect("it is known");
                let paid_in = if planted(Plant::GiftPaidOut) { known.available } else { self.wallets.paid_in(slot) };
                if paid_in <= 0 {
                    return Err(Rejection::NothingLeft);
                }
                t.amount = paid_in;
                t.lots = match planted(Plant::GiftPaidOut) {
                    true => self.wallets.lots(slot).copied().collect(),
                    false => self.wallets.oldest(slot, paid_in),
                };
                t.posting = Posting { wallet: -t.amount, source: t.amount, ..Posting::default() };
                self.book(&mut t)?;
                Ok(t)
            }
            _ => Err(Rejection::InvalidValue),
        }
    }

    /// What a transaction of this wallet at this festival begins with.
    pub(super) fn begin(
        &self,
        kind: TransactionKind,
        festival: FestivalId,
        wallet: WalletId,
        amount: i64,
    ) -> Result<Transaction, Rejection> {
        let at = self.directory.get(festival)?;
        let known = self.wallets.get(wallet)?;
        // What was paid can be given back whatever the policy says by then.
        if known.issuer != festival && !at.policy.foreign_wallets && kind != TransactionKind::Refund {
            return Err(Rejection::ForeignWallet);
        }
        match kind {
            // Whoever sent it has booked it, so this festival's currency stays. Another issuer's may be about to change; a
            // transfer cannot be put off, so it comes back.
            TransactionKind::TransferIn if known.issuer == festival => {}
            TransactionKind::TransferIn => {
                self.directory.get(known.issuer)?.is_settled().map_err(|_| Rejection::WrongCurrency)?;
            }
            _ => self.is_settled(festival, known)?,
        }
        let mut t = blank(kind, festival, wallet, known.currency);
        (t.amount, t.before, t.after) = (amount, known.available, known.available);
        Ok(t)
    }

    fn of_wallets_currency(&self, t: &Transaction, amount: Money) -> Result<(), Rejection> {
        let policy = &self.directory.get(t.festival)?.policy;
        let one = amount.currency == t.currency && policy.currency == t.currency;
        if one { Ok(()) } else { Err(Rejection::WrongCurrency) }
    }

    /// What a wallet that has enough spends first. An operator's correction reaches a blocked one too.
    fn spend(&self, t: &mut Transaction, amount: Money, blocked_too: bool) -> Result<(), Rejection> {
        self.of_wallets_currency(t, amount)?;
        let slot = self.wallets.slot(t.wallet).ok_or(Rejection::UnknownWallet)?;
        let known = self.wallets.at(slot);
        if known.is_blocked() && !blocked_too {
            return Err(Rejection::WalletBlocked);
        }
        if self.wallets.spendable(slot, t.festival) < amount.minor {
            return Err(Rejection::InsufficientFunds);
        }
        t.lots = self.wallets.spent_first(slot, t.festival, amount.minor);
        Ok(())
    }
}
