//! Money's side of the simulated world: what the office and people at the bars do with few wallets, few wristbands and
//! small amounts, so that they get into each other's way.

use actors::pipeline::Work;
use engine::cashless::command::{
    CashlessAction, CashlessPolicy, CashlessVerdict, Line, ProductValues, RefundLine, Source, SourceKind,
    TerminalAction, TerminalAnswer, TerminalCommand, VendorValues,
};
use engine::cashless::event::SoldLine;
use engine::command::{AdminAction, AdminAnswer};
use engine::gates::command::ByHand;
use engine::model::ids::{DeviceId, FestivalId, Home, ProductNo, TagUid, TransactionId, VendorNo, WalletId};
use engine::model::money::{Currency, Money};
use engine::model::status::FestivalStatus;
use engine::model::time::Timestamp;
use engine::view::Query;

use super::admin::hash_of;
use super::dice::Dice;
use super::disk::SHARDS;
use super::net::Packet;
use super::terminal::{Ask, Frame, Terminal, Who};
use super::world::{Asker, World};
use super::{Check, breach};

const VAT_BP: u16 = 1_900;
/// What a vendor's products cost.
const PRICES: [i64; 3] = [3, 7, 20];
/// How many wristbands there are, for tickets and wallets alike.
pub(super) const TAGS: u64 = 12;

/// What whoever handles money knows.
#[derive(Default)]
pub(super) struct Bank {
    pub(super) shops: Vec<Shop>,
    pub(super) wallets: Vec<WalletId>,
    /// Payments that were heard of, with what was sold.
    payments: Vec<(FestivalId, TransactionId, Box<[Line]>)>,
    /// Terminals, revoked or not.
    pub(super) terminals: Vec<DeviceId>,
}

/// A festival that takes cashless payments.
#[derive(Clone, Copy)]
pub(super) struct Shop {
    pub(super) festival: FestivalId,
    pub(super) currency: Currency,
    pub(super) vendors: u64,
}

impl Bank {
    /// The next wallet, one after the other in each shard.
    pub(super) fn new_wallet(&mut self) -> WalletId {
        let shard = (self.wallets.len() % usize::from(SHARDS)) as u16;
        let from = self.wallets.iter().map(|wallet| wallet.0).max().unwrap_or(0) + 1;
        let id = (from..).map(WalletId).find(|id| Home::Wallet(*id).shard(SHARDS).0 == shard);
        let id = id.expect("ids do not end");
        self.wallets.push(id);
        id
    }

    /// Mostly one of the first few.
    fn wallet(&self, dice: &mut Dice) -> WalletId {
        match dice.below(40) {
            0 => WalletId(u64::MAX - dice.below(2)), // of nobody
            n if n < 30 => self.wallets[dice.below(self.wallets.len().min(4) as u64) as usize],
            _ => dice.pick(&self.wallets),
        }
    }

    fn who(&self, dice: &mut Dice) -> Who {
        if dice.one_in(2) { Who::Wallet(self.wallet(dice)) } else { Who::Tag(tag_of_number(dice.below(TAGS + 1))) }
    }

    /// One of the latest payments, so that several refund the same.
    fn payment(&self, dice: &mut Dice) -> Option<(FestivalId, TransactionId)> {
        self.sale(dice).map(|(festival, payment, _)| (*festival, *payment))
    }

    fn sale(&self, dice: &mut Dice) -> Option<&(FestivalId, TransactionId, Box<[Line]>)> {
        let few = self.payments.len().min(if dice.one_in(4) { 60 } else { 3 });
        (few > 0).then(|| &self.payments[self.payments.len() - 1 - dice.below(few as u64) as usize])
    }

    /// What the office has in mind.
    pub(super) fn idea(&self, dice: &mut Dice) -> Option<AdminAction> {
        let shop = self.shops[usize::from(dice.one_in(8))];
        let Shop { festival, currency, vendors } = shop;
        let wallet = self.wallet(dice);
        let money = |minor: i64| Money { minor, currency };
        let vendor = VendorNo(dice.below(vendors) as u16);
        let action = match dice.below(64) {
            0..=9 => {
                let kind = dice.pick(&[SourceKind::Desk, SourceKind::Desk, SourceKind::Card, SourceKind::Bank]);
                // Each payment has a number of its own; of the desks there are two.
                let number = 1 + dice.below(if kind == SourceKind::Desk { 2 } else { 24 });
                let source = Source::new(kind, festival, number);
                let (amount, taken) = (money(amount(dice, 50)), kind == SourceKind::Card);
                CashlessAction::TopUp { wallet, festival, amount, source, taken }
            }
            10..=31 => {
                let to = if dice.one_in(30) { wallet } else { self.wallet(dice) };
                CashlessAction::Transfer { from: wallet, to, festival, amount: money(amount(dice, 40)) }
            }
            32..=35 => {
                let (festival, payment) = self.payment(dice)?;
                let currency = self.shops.iter().find(|shop| shop.festival == festival)?.currency;
                let amount = (!dice.one_in(3)).then(|| Money { minor: amount(dice, 12), currency });
                CashlessAction::Refund { payment, festival, amount, lines: [].into() }
            }
            36..=38 => {
                let delta = money(amount(dice, 20) * if dice.one_in(2) { -1 } else { 1 });
                let gives_back = delta.minor > 0 && dice.one_in(2);
                CashlessAction::Correct { wallet, festival, delta, reason: "counted again".into(), gives_back }
            }
            39..=40 => CashlessAction::CashOut { wallet, festival },
            41..=42 => CashlessAction::Block { wallet, blocked: true },
            43..=45 => CashlessAction::Block { wallet, blocked: false },
            46..=53 => {
                let (replace, create) = (!dice.one_in(3), dice.one_in(8));
                CashlessAction::LinkTag { tag: tag_of_number(dice.below(TAGS)), wallet, festival, replace, create }
            }
            54 if dice.one_in(2) => CashlessAction::ReportLost { wallet },
            55 if dice.one_in(2) => CashlessAction::Merge { from: wallet, into: self.wallet(dice), festival },
            55 => CashlessAction::Claim { wallet, account: 1 + u128::from(dice.below(3)) },
            56 => {
                if self.terminals.len() > 3 && dice.one_in(3) {
                    return Some(AdminAction::RevokeDevice { device: dice.pick(&self.terminals) });
                }
                if !self.terminals.is_empty() && dice.one_in(3) {
                    let (device, reason) = (dice.pick(&self.terminals), "found again".into());
                    return Some(AdminAction::ByHand(ByHand::ReadmitDevice { device, reason }));
                }
                // Refused: something has been booked. Where nothing is, see `tent.rs`.
                let currency = if dice.one_in(3) { self.shops[0].currency } else { currency };
                let policy = policy(currency, dice);
                CashlessAction::SetPolicy { festival, policy }
            }
            57..=58 => {
                let values = vendor_values(!dice.one_in(4), dice);
                CashlessAction::PutVendor { festival, vendor: Some(vendor), values }
            }
            59 => {
                let product = Some(ProductNo(dice.below(PRICES.len() as u64) as u16));
                let values = product_values(dice.pick(&PRICES), !dice.one_in(3));
                CashlessAction::PutProduct { festival, vendor, product, values }
            }
            60 if dice.one_in(10) => {
                let festival = self.shops[1].festival;
                let reason = "the wrong button".into();
                return Some(match dice.below(3) {
                    0 => AdminAction::SetFestivalStatus { festival, to: FestivalStatus::Completed },
                    1 => AdminAction::ByHand(ByHand::Complete { festival }),
                    _ => AdminAction::ByHand(ByHand::Reopen { festival, reason }),
                });
            }
            61..=62 if self.terminals.len() < 14 => {
                let cashier = dice.one_in(3);
                offer_terminal(festival, Some(vendor), cashier, dice.draw())
            }
            63 => {
                let vendor = VendorNo(dice.below(vendors + 1) as u16);
                CashlessAction::Pay { wallet, festival, vendor, amount: money(amount(dice, 30)), lines: Box::new([]) }
            }
            _ => return None,
        };
        Some(AdminAction::Cashless(action))
    }

    fn ask(&self, terminal: &Terminal, dice: &mut Dice) -> Ask {
        let shop = self.shops.iter().find(|shop| shop.festival == terminal.id.festival()).expect("it stands at one");
        let currency = shop.currency;
        let money = |minor: i64| Money { minor, currency };
        let who = self.who(dice);
        match dice.below(20) {
            0 => Ask::Balance { who },
            1..=4 => match self.sale(dice) {
                Some((_, payment, sold)) if !sold.is_empty() && dice.one_in(2) => {
                    let lines: Box<[_]> = (0..1 + dice.below(2)).map(|_| returned(sold, dice)).collect();
                    let sum = lines.iter().map(|line| line.price * i64::from(line.count)).sum::<i64>();
                    let amount = dice.one_in(4).then(|| money(sum + i64::from(dice.one_in(4))));
                    Ask::Refund { payment: *payment, amount, lines }
                }
                Some((_, payment, _)) => {
                    let amount = (!dice.one_in(3)).then(|| money(amount(dice, 12)));
                    Ask::Refund { payment: *payment, amount, lines: [].into() }
                }
                None => Ask::Balance { who },
            },
            5..=8 if terminal.cashier => Ask::TopUp { who, amount: money(amount(dice, 50)) },
            9..=11 => {
                let lines: Box<[Line]> = (0..1 + dice.below(2))
                    .map(|_| {
                        let unknown = u64::from(dice.one_in(20));
                        let product = dice.below(PRICES.len() as u64 + unknown);
                        let price = PRICES.get(product as usize).copied().unwrap_or(1);
                        Line { product: ProductNo(product as u16), count: 1 + dice.below(2) as u16, price }
                    })
                    .collect();
                let sum: i64 = lines.iter().map(|line| line.price * i64::from(line.count)).sum();
                Ask::Pay { who, amount: money(sum + i64::from(dice.one_in(20))), lines }
            }
            _ => Ask::Pay { who, amount: money(amount(dice, 30)), lines: Box::new([]) },
        }
    }
}

/// A product of a payment, as the gateway looks it up; now and then none of it, or one that the payment does not have.
fn returned(sold: &[Line], dice: &mut Dice) -> RefundLine {
    let sold: Vec<SoldLine> = sold
        .iter()
        .map(|line| SoldLine { product: line.product, count: line.count, price: line.price, vat_bp: VAT_BP })
        .collect();
    let (product, count) = (dice.pick(&sold).product, dice.below(8).min(2) as u16);
    let product = if dice.one_in(12) { ProductNo(999) } else { product };
    RefundLine::of(&sold, product, count).unwrap_or_else(|| RefundLine::of_nothing(product, count))
}

/// Mostly small, now and then impossible.
fn amount(dice: &mut Dice, most: u64) -> i64 {
    if dice.one_in(60) { dice.pick(&[0, -5, 1_000_000_000_000, i64::MAX]) } else { 1 + dice.below(most) as i64 }
}

/// One of few.
pub(super) fn tag_of_number(number: u64) -> TagUid {
    TagUid::new(&[4, 1, 1, 1, 1, 1, number as u8]).expect("seven bytes are a tag")
}

/// Limits near to what wallets hold.
pub(super) fn policy(currency: Currency, dice: &mut Dice) -> CashlessPolicy {
    CashlessPolicy {
        currency,
        min_topup: 1 + dice.below(3) as i64,
        max_topup: 40 + dice.below(20) as i64,
        max_balance: dice.pick(&[40, 60, 60, 100]),
        min_payment: 1 + dice.below(2) as i64,
        foreign_wallets: !dice.one_in(3),
    }
}

pub(super) fn vendor_values(open: bool, dice: &mut Dice) -> VendorValues {
    let commission_bp = dice.pick(&[0, 500, 1_250, 3_333, 5_000]);
    VendorValues { name: "bar".into(), commission_bp, open, kind: engine::model::status::VendorKind::Bar }
}

pub(super) fn product_values(price: i64, on_sale: bool) -> ProductValues {
    ProductValues { name: "drink".into(), price, vat_bp: VAT_BP, on_sale }
}

pub(super) fn offer_terminal(
    festival: FestivalId,
    vendor: Option<VendorNo>,
    cashier: bool,
    code: u64,
) -> CashlessAction {
    CashlessAction::OfferTerminal { festival, vendor, cashier, code_hash: hash_of(code), name: "till".into() }
}

impl World {
    /// A festival takes cashless payments: two vendors, four terminals, wallets with something in them, wristbands.
    pub(super) fn open_bars(&mut self, festival: FestivalId, currency: Currency, wallets: usize) -> Check {
        let policy = policy(currency, &mut self.dice);
        let vendors = 2;
        self.cashless_order(CashlessAction::SetPolicy { festival, policy })?;
        self.bank.shops.push(Shop { festival, currency, vendors });
        for vendor in (0..vendors as u16).map(VendorNo) {
            let values = vendor_values(true, &mut self.dice);
            self.cashless_order(CashlessAction::PutVendor { festival, vendor: None, values })?;
            for price in PRICES {
                let values = product_values(price, true);
                self.cashless_order(CashlessAction::PutProduct { festival, vendor, product: None, values })?;
            }
        }
        for (vendor, cashier) in [(Some(0), false), (Some(0), true), (Some(1), false), (None, true)] {
            let code = self.dice.draw();
            self.cashless_order(offer_terminal(festival, vendor.map(VendorNo), cashier, code))?;
            let (code_hash, public_key) = (hash_of(code), hash_of(code));
            self.order(AdminAction::EnrolDevice { festival, code_hash, public_key })?;
        }
        for number in 0..wallets as u64 {
            let wallet = self.bank.new_wallet();
            self.cashless_order(CashlessAction::CreateWallet { wallet, festival, account: None })?;
            let source = Source::new(SourceKind::Card, festival, 1);
            let amount = Money { minor: 10 + self.dice.below(40) as i64, currency };
            self.cashless_order(CashlessAction::TopUp { wallet, festival, amount, source, taken: true })?;
            if number < 3 {
                let (replace, create) = (false, false);
                let tag = tag_of_number(self.bank.wallets.len() as u64 - 1);
                self.cashless_order(CashlessAction::LinkTag { tag, wallet, festival, replace, create })?;
            }
        }
        Ok(())
    }

    pub(super) fn cashless_order(&mut self, action: CashlessAction) -> Check {
        self.order(AdminAction::Cashless(action))
    }

    /// Somebody drinks, brings something back, or brings money.
    pub(super) fn somebody_pays(&mut self) {
        let index = self.dice.below(self.terminals.len() as u64) as usize;
        let (mut frames, clock) = (Vec::new(), self.clock());
        for _ in 0..1 + self.dice.below(2) {
            if !self.terminals[index].has_room() {
                break;
            }
            let ask = self.bank.ask(&self.terminals[index], &mut self.dice);
            if !self.terminals[index].takes_payments && matches!(ask, Ask::Refund { .. }) {
                continue;
            }
            let skip = self.dice.one_in(12);
            frames.push(self.terminals[index].ask((self.step, clock), ask, skip));
            self.counts.commands += 1;
        }
        self.send_frames(index, frames);
    }

    pub(super) fn send_frames(&mut self, index: usize, frames: Vec<Frame>) {
        let (device, connection) = (self.terminals[index].id, self.terminals[index].connection);
        for some in frames.chunks(3) {
            self.send(Packet::Frames { device, connection, frames: some.to_vec() });
        }
    }

    pub(super) fn terminal_reconnects(&mut self, index: usize) {
        let frames = self.terminals[index].reconnect(self.step);
        self.send_frames(index, frames);
    }

    pub(super) fn bank_thinks(&mut self) {
        if let Some(action) = self.bank.idea(&mut self.dice) {
            self.admin_asks(action);
        }
    }

    /// Somebody asks what there is.
    pub(super) fn somebody_counts_money(&mut self) {
        let wallet = self.bank.wallet(&mut self.dice);
        let query = match self.dice.below(5) {
            0 => Query::Tag(tag_of_number(self.dice.below(TAGS))),
            1 => match self.bank.payment(&mut self.dice) {
                Some((_, payment)) => Query::Payment(payment),
                None => return,
            },
            2 => {
                let festival = self.bank.shops[usize::from(self.dice.one_in(4))].festival;
                let shard = self.dice.below(u64::from(SHARDS)) as usize;
                let query = Query::Ledger(festival);
                return self.take(shard, Work::Query(query), Asker::Query(query));
            }
            _ => Query::Wallet(wallet),
        };
        self.send(Packet::Query(query));
    }

    /// A terminal, or whoever steals its number, asks something else under a number that was answered.
    pub(super) fn thief(&mut self) {
        let index = self.dice.below(self.terminals.len() as u64) as usize;
        let id = self.terminals[index].id;
        let shard = self.dice.below(u64::from(SHARDS)) as usize;
        let Some(wallet) = self.bank.wallets.iter().find(|id| Home::Wallet(**id).shard(SHARDS).0 == shard as u16)
        else {
            return;
        };
        let books = &self.ledgers[shard].books.money;
        let floor = books.floor(id);
        let numbers: Vec<u64> = books.numbers_of(id).filter(|seq| *seq >= floor).collect();
        if numbers.is_empty() {
            return;
        }
        let seq = self.dice.pick(&numbers);
        let amount = Money { minor: 400_000 + self.dice.below(1 << 16) as i64, currency: Currency::EUR };
        let action = TerminalAction::Pay { wallet: *wallet, tap: None, amount, lines: Box::new([]) };
        let command = TerminalCommand { device: id, seq, floor: 1, expires_at: Timestamp(0), action };
        self.take(shard, Work::Terminal(vec![command]), Asker::Thief { device: id });
    }

    /// A new terminal stands somewhere.
    pub(super) fn terminal_arrives(&mut self, device: DeviceId) -> Check {
        if self.terminals.iter().any(|terminal| terminal.id == device) {
            return Ok(());
        }
        for ledger in &self.ledgers {
            if ledger.books.money.terminal(device).is_none() {
                let what = format!("{device}: shard {} does not know it", ledger.books.money.number());
                return breach("what everybody was to hear, everybody has heard", what);
            }
        }
        let page = self.ledgers[0].books.money.terminal(device).expect("just looked");
        self.terminals.push(Terminal::new(device, page.vendor.is_some(), page.cashier));
        self.bank.terminals.push(device);
        Ok(())
    }

    /// A terminal is told.
    pub(super) fn terminal_hears(&mut self, index: usize, replies: &[actors::TerminalReply]) -> Check {
        for reply in replies {
            let step = self.step;
            let heard = self.terminals[index].receive(step, reply)?;
            let TerminalAnswer { verdict, .. } = reply.answer;
            let paid = (heard, verdict, reply.answer.transaction());
            if let (Some(Ask::Pay { lines, .. }), CashlessVerdict::Paid, Some(id)) = paid {
                self.bank.payments.push((self.terminals[index].id.festival(), id, lines));
            }
        }
        Ok(())
    }

    /// What the office hears about money.
    pub(super) fn bank_knows(&mut self, action: &CashlessAction, answer: AdminAnswer) {
        match (action, answer) {
            (CashlessAction::OfferTerminal { festival, code_hash, .. }, AdminAnswer::CodeUntil(_)) => {
                let (festival, code_hash, public_key) = (*festival, *code_hash, *code_hash);
                self.admin_asks(AdminAction::EnrolDevice { festival, code_hash, public_key });
            }
            (CashlessAction::LinkTag { create: true, .. }, AdminAnswer::Wallet(wallet))
                if !self.bank.wallets.contains(&wallet) =>
            {
                self.bank.wallets.push(wallet);
            }
            _ => {}
        }
    }
}
