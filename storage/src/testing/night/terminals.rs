//! Nights at random terminals: two vendors at each festival, cash desks, wallets in every shard that pay, get back, hand over
//! and are refused. The model is a list of all that happened; what the read models say is looked up in it by walking it,
//! and what vendors are owed also in the shards' own books.

use std::collections::{BTreeMap, BTreeSet};

use engine::cashless::command::{
    CashlessAction, CashlessPolicy, CashlessVerdict, Line, ProductValues, RefundLine, Source, SourceKind,
    TerminalAction, TerminalAnswer, TerminalCommand, VendorValues,
};
use engine::cashless::event::{SoldLine, Transaction, TransactionKind};
use engine::command::{AdminAction, AdminCommand, Command, IdempotencyKey};
use engine::event::Event;
use engine::model::ids::{DeviceId, FestivalId, Home, ProductNo, ShardId, TransactionId, VendorNo, WalletId};
use engine::model::money::{Currency, Money};
use engine::model::principal::Principal;
use engine::model::time::{MINUTE_MS, Timestamp};
use engine::record;
use engine::view::{Query, View};

use crate::testing::night::{AdminAnswer, Answer, Night, SHARDS, admin, pages};
use crate::views::cashless::{
    Only, ProductPosition, ProductRow, ProductTally, SalesPosition, TransactionRow, Transactions, TransactionsOf,
    VendorAccount, VendorSpan,
};
use crate::views::{INDEX_BITS, Span, Views};

/// One thing that happened, or was refused.
struct Told {
    at: Timestamp,
    shard: ShardId,
    order: u64,
    by: Option<Principal>,
    t: Transaction,
}

/// Terminals, wallets, and all that happened.
#[derive(Default)]
pub(super) struct Terminals {
    /// Two for the first vendor, one for the second, and a cash desk; of each festival.
    devices: Vec<DeviceId>,
    seqs: BTreeMap<DeviceId, u64>,
    asked: Vec<TerminalCommand>,
    payments: Vec<TransactionId>,
    told: Vec<Told>,
}

const DEVICES: usize = 4;
const VENDORS: u16 = 2;
/// No vendor's, no wallet's, no terminal's.
const NOBODY: u64 = 0xDEAD;

fn wallet(no: u64) -> WalletId {
    WalletId(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(no + 1))
}
const WALLETS: u64 = 7;

fn eur(minor: i64) -> Money {
    Money { minor, currency: Currency::EUR }
}

fn cashless(action: CashlessAction) -> Command {
    admin(AdminAction::Cashless(action))
}

impl Terminals {
    /// Keeps what a record says happened to money.
    pub(super) fn receive(&mut self, record: &[u8]) {
        let record = record::read(record).expect("our own");
        let mut by = None;
        for (index, event) in record.events.into_iter().enumerate() {
            match event {
                Event::Origin(asked) => by = Some(asked.by).filter(|_| asked.answer().is_none()),
                Event::Transaction(t) => {
                    let order = record.seq << INDEX_BITS | index as u64;
                    self.told.push(Told { at: record.at, shard: record.shard, order, by: by.take(), t });
                }
                _ => by = None,
            }
        }
    }
}

impl Night {
    /// Vendors, products, terminals and wallets; the second festival takes the first one's wallets too.
    pub(super) fn open_terminals(&mut self) {
        for which in 0..self.festivals.len() {
            let festival = self.festivals[which].id;
            let policy = CashlessPolicy { foreign_wallets: which == 1, min_payment: 50, ..CashlessPolicy::default() };
            self.ask_one(cashless(CashlessAction::SetPolicy { festival, policy }));
            for commission_bp in [1_250, 0] {
                let values = VendorValues {
                    name: "bar".into(),
                    commission_bp,
                    open: true,
                    kind: engine::model::status::VendorKind::Bar,
                };
                self.ask_one(cashless(CashlessAction::PutVendor { festival, vendor: None, values }));
            }
            for (vendor, price, vat_bp) in [(0, 333, 1_900), (0, 250, 700), (1, 1_000, 1_900)] {
                let (vendor, values) =
                    (VendorNo(vendor), ProductValues { name: "drink".into(), price, vat_bp, on_sale: true });
                self.ask_one(cashless(CashlessAction::PutProduct { festival, vendor, product: None, values }));
            }
            for (no, vendor) in [Some(0), Some(0), Some(1), None].into_iter().enumerate() {
                let code_hash = [100 + no as u8; 32];
                let (vendor, cashier, name) = (vendor.map(VendorNo), vendor.is_none(), "T".to_owned());
                self.ask_one(cashless(CashlessAction::OfferTerminal { festival, vendor, cashier, code_hash, name }));
                let enrol = AdminAction::EnrolDevice { festival, code_hash, public_key: [100 + no as u8; 32] };
                let Answer::Admin { answer: AdminAnswer::Device(device), .. } = self.ask_one(admin(enrol)) else {
                    panic!("offered")
                };
                self.terminals.devices.push(device);
            }
        }
        self.pump();
        for no in 0..WALLETS {
            let festival = self.festivals[usize::from(no == 6)].id;
            self.ask_one(cashless(CashlessAction::CreateWallet { wallet: wallet(no), festival, account: None }));
        }
    }

    fn ask_one(&mut self, command: Command) -> Answer {
        let shard = command.home().expect("somebody's").shard(SHARDS);
        self.step(shard, &[command])[0]
    }

    /// Carries messages between shards until there are none.
    fn pump(&mut self) {
        let pairs = || (0..SHARDS).flat_map(|from| (0..SHARDS).map(move |to| (ShardId(from), ShardId(to))));
        let mut quiet = false;
        while !quiet {
            quiet = true;
            for (from, to) in pairs().filter(|(from, to)| from != to) {
                let (first, messages) = self.shards[usize::from(from.0)].outgoing(to);
                let messages: Vec<_> = messages.cloned().collect();
                if messages.is_empty() {
                    continue;
                }
                quiet = false;
                let [Answer::Acked { through, .. }] = self.step(to, &[Command::Deliver { from, first, messages }])[..]
                else {
                    panic!("acknowledged")
                };
                self.step(from, &[Command::Delivered { to, through }]);
            }
        }
    }

    /// What is asked goes to the wallets' shards, each of which makes one record of it.
    pub(super) fn act_at_terminals(&mut self) {
        if self.chance.below(8) == 0 {
            self.now = self.now.plus_ms(25 * MINUTE_MS);
        }
        // Where minutes begin, accounts are kept; what happens in the first moment of one is that minute's.
        if self.chance.below(3) == 0 {
            self.now = self.now.plus_ms(MINUTE_MS).minute();
        }
        let commands = if self.chance.below(8) == 0 { 120 } else { 1 + self.chance.below(12) };
        let mut batches: BTreeMap<ShardId, Vec<Command>> = BTreeMap::new();
        for _ in 0..commands {
            let mut command = self.any_cashless_command();
            // With a key, what is refused is remembered too: in the record, before whatever comes next.
            if let Command::Admin(command) = &mut command
                && self.chance.below(2) == 0
            {
                let id = u128::from(self.chance.draw());
                command.key = Some(IdempotencyKey { id, fingerprint: 1, made_at: None });
            }
            let shard = command.home().expect("somebody's").shard(SHARDS);
            batches.entry(shard).or_default().push(command);
        }
        for (shard, batch) in batches {
            for answer in self.step(shard, &batch) {
                if let Answer::Terminal { answer: TerminalAnswer { verdict: CashlessVerdict::Paid, .. }, .. } = answer
                    && let Answer::Terminal { answer, repeated: false, .. } = answer
                {
                    self.terminals.payments.extend(answer.transaction());
                }
            }
            // No two shards of the same time, now and then.
            self.now = self.now.plus_ms(self.chance.below(2) as i64);
        }
        if self.chance.below(2) == 0 {
            self.pump();
        }
    }

    fn any_cashless_command(&mut self) -> Command {
        let chance = &mut self.chance;
        let festival = self.festivals[usize::from(chance.below(3) == 0)].id;
        let who = wallet(chance.below(WALLETS));
        let payment = match self.terminals.payments.len() as u64 {
            0 => TransactionId { wallet: who, serial: 9_999 },
            // Mostly the latest.
            n if chance.below(3) > 0 => self.terminals.payments[(n - 1 - chance.below(n.min(5))) as usize],
            n => self.terminals.payments[chance.below(n) as usize],
        };
        let amount = [50, 200, 333, 777, 2_000, 49, 9_000][chance.below(7) as usize];
        let n = chance.below(40);
        match n {
            0..=15 => {
                let line = |product, count, price| Line { product: ProductNo(product), count, price };
                let (amount, lines): (i64, Vec<Line>) = match chance.below(5) {
                    0 | 1 => (amount, Vec::new()),
                    2 => (583, vec![line(0, 1, 333), line(1, 1, 250)]),
                    3 => (999, vec![line(0, 3, 333)]),
                    _ => (1_000, vec![line(0, 1, 1_000)]),
                };
                let action = TerminalAction::Pay { wallet: who, tap: None, amount: eur(amount), lines: lines.into() };
                self.at_terminal(action)
            }
            16..=20 => {
                let amount = (self.chance.below(3) > 0).then(|| eur(amount / 2));
                self.at_terminal(TerminalAction::Refund { payment, amount, lines: [].into() })
            }
            21..=24 => self.at_terminal(TerminalAction::TopUp { wallet: who, tap: None, amount: eur(amount * 5) }),
            25 => match self.terminals.asked.last() {
                Some(again) => Command::Terminal(again.clone()),
                None => cashless(CashlessAction::CashOut { wallet: who, festival }),
            },
            26..=29 => {
                let kind = SourceKind::ALL[1 + chance.below(3) as usize];
                let source = Source::new(kind, festival, chance.below(3));
                let taken = chance.below(2) == 0;
                cashless(CashlessAction::TopUp { wallet: who, festival, amount: eur(amount * 5), source, taken })
            }
            30..=34 => {
                let to = wallet(chance.below(WALLETS));
                cashless(CashlessAction::Transfer { from: who, to, festival, amount: eur(amount) })
            }
            35 => {
                let amount = (chance.below(2) == 0).then(|| eur(amount / 2));
                cashless(CashlessAction::Refund { payment, festival, amount, lines: [].into() })
            }
            // A product of it, or the rest of it where there is none.
            36 => {
                let paid = self.terminals.told.iter().find(|told| told.t.id() == Some(payment));
                let lines = paid.map_or(&[][..], |told| &told.t.lines);
                let line = |line: &SoldLine| {
                    let SoldLine { product, price, vat_bp, count } = *line;
                    RefundLine { product, count: 1, price, vat_bp, bought: count }
                };
                let lines: Vec<RefundLine> = lines.iter().take(1).map(line).collect();
                cashless(CashlessAction::Refund { payment, festival, amount: None, lines: lines.into() })
            }
            37 => {
                let delta = eur(if chance.below(2) == 0 { amount } else { -amount });
                let action = CashlessAction::Correct {
                    wallet: who,
                    festival,
                    delta,
                    reason: "miscounted".into(),
                    gives_back: false,
                };
                Command::Admin(Box::new(AdminCommand {
                    key: None,
                    by: Principal::ApiKey(7),
                    action: AdminAction::Cashless(action),
                }))
            }
            38 => cashless(CashlessAction::CashOut { wallet: who, festival }),
            _ => cashless(CashlessAction::Block { wallet: who, blocked: chance.below(3) == 0 }),
        }
    }

    fn at_terminal(&mut self, action: TerminalAction) -> Command {
        let device = self.terminals.devices[self.chance.below(2 * DEVICES as u64) as usize];
        let seq = self.terminals.seqs.entry(device).or_insert(0);
        *seq += 1;
        let command = TerminalCommand {
            device,
            seq: *seq,
            floor: seq.saturating_sub(1_000).max(1),
            expires_at: Timestamp(0),
            action,
        };
        self.terminals.asked.push(command.clone());
        Command::Terminal(command)
    }

    /// Whether `views`, which have followed everything so far, say of money what the model says, and the books.
    pub(super) fn check_terminals(&mut self, views: &dyn Views) {
        self.terminals.told.sort_by_key(|told| (told.at, told.shard, told.order));
        let told = &self.terminals.told;
        let any = |chance: &mut crate::testing::faults::Chance| {
            let n = told.len().max(1) as u64;
            told.get(chance.below(n) as usize).map_or(Timestamp(5), |told| told.at.plus_ms(chance.below(3) as i64 - 1))
        };
        let (one, other) = (any(&mut self.chance), any(&mut self.chance));
        let span = Span { from: one.min(other), until: one.max(other) };
        let limit = 1 + self.chance.below(70) as usize;
        let which = wallet(self.chance.below(WALLETS));
        let festivals: Vec<FestivalId> = self.festivals.iter().map(|festival| festival.id).collect();
        for span in [Span::ALWAYS, span] {
            for &festival in &festivals {
                self.check_lists(views, TransactionsOf::Festival(festival), span, limit);
                self.check_lists(views, TransactionsOf::Wallet(which, Some(festival)), span, limit);
                for vendor in (0..=VENDORS).map(VendorNo) {
                    self.check_lists(views, TransactionsOf::Vendor(festival, vendor), span, limit);
                    self.check_vendor(views, VendorSpan { festival, vendor, span }, limit);
                }
            }
            self.check_lists(views, TransactionsOf::Wallet(which, None), span, limit);
            self.check_lists(views, TransactionsOf::Wallet(WalletId(NOBODY), None), span, limit);
            for device in [self.terminals.devices[0], self.terminals.devices[7], DeviceId(NOBODY)] {
                self.check_lists(views, TransactionsOf::Terminal(device), span, limit);
            }
        }
        self.check_ids(views);
    }

    fn check_lists(&self, views: &dyn Views, of: TransactionsOf, span: Span, limit: usize) {
        let kinds = TransactionKind::ALL.iter().map(|kind| Only::Kind(*kind));
        for only in [Only::Everything, Only::Moved, Only::Refused].into_iter().chain(kinds) {
            let asked = Transactions { of, only, span };
            let read = |page| views.transactions(asked, page).expect("reads");
            let found = pages(limit, read, |row: &TransactionRow| row.position);
            let expected: Vec<&Told> = self.terminals.told.iter().filter(|told| told.is_in(asked)).collect();
            assert_eq!(found.len(), expected.len(), "{asked:?}");
            found.iter().zip(expected).for_each(|(row, told)| self.terminals.is_said(row, told));
        }
    }

    /// Orders, sales, products, and the account: by walking everything; where the account stands now also by the books.
    fn check_vendor(&self, views: &dyn Views, of: VendorSpan, limit: usize) {
        let entries = || self.terminals.told.iter().filter(move |told| told.is_of(of.festival, of.vendor));
        let in_span = |at: Timestamp| of.span.from <= at && at < of.span.until;

        let orders = pages(limit, |page| views.orders(of, page).expect("reads"), |order| order.payment.position);
        let payments = || entries().filter(|told| told.t.kind == TransactionKind::Payment && in_span(told.at));
        assert_eq!(orders.len(), payments().count());
        for (order, told) in orders.iter().zip(payments()) {
            self.terminals.is_said(&order.payment, told);
            let refunds =
                self.terminals.refunds_of(told).map(|refund| (refund.t.id().unwrap(), refund.at, refund.t.amount));
            let said = order.refunds.iter().map(|refund| (refund.id, refund.at, refund.amount));
            assert_eq!(said.collect::<Vec<_>>(), refunds.collect::<Vec<_>>());
        }
        let numbers: BTreeSet<_> = orders.iter().map(|order| order.payment.order.unwrap()).collect();
        assert_eq!(numbers.len(), orders.len(), "each order has a number of its own");

        let quarter = |at: Timestamp| Timestamp(at.0 / (15 * MINUTE_MS) * (15 * MINUTE_MS));
        let (mut sales, mut products) = (BTreeMap::new(), BTreeMap::new());
        for told in entries().filter(|told| in_span(quarter(told.at))) {
            let terminal = told.t.by.map(|by| by.device);
            let place = SalesPosition { quarter: quarter(told.at), terminal };
            told.add_to(sales.entry(place).or_insert_with(VendorAccount::default));
            let mut sold = |product, vat_bp, count: u64, gross: i64| {
                let place = ProductPosition { quarter: quarter(told.at), terminal, product, vat_bp };
                let row: &mut (u64, i128) = products.entry(place).or_default();
                row.0 += count;
                row.1 += i128::from(gross);
            };
            let payment = told.t.kind == TransactionKind::Payment;
            for line in told.t.lines.iter().filter(|_| payment) {
                sold(Some(line.product), line.vat_bp, line.count.into(), i64::from(line.count) * line.price);
            }
            if payment && told.t.lines.is_empty() {
                sold(None, 0, 1, told.t.amount);
            }
        }
        let found = pages(limit, |page| views.products_sold(of, page).expect("reads"), |row| row.position);
        let of_goods = found.iter().filter(|row| row.tally.count > 0);
        let of_goods: Vec<_> = of_goods.map(|row| (row.position, (row.tally.count, row.tally.gross))).collect();
        assert_eq!(of_goods, Vec::from_iter(products));
        // Whatever each product's part is, together they are all there is.
        let mut together: BTreeMap<SalesPosition, [i128; 3]> = BTreeMap::new();
        for ProductRow { position, tally } in &found {
            let sums =
                together.entry(SalesPosition { quarter: position.quarter, terminal: position.terminal }).or_default();
            for (sum, part) in sums.iter_mut().zip([tally.gross, tally.refunded, tally.commission]) {
                *sum += part;
            }
        }
        let found = pages(limit, |page| views.sales(of, page).expect("reads"), |row| row.position);
        let found: BTreeMap<_, _> = found.into_iter().map(|row| (row.position, row.tally)).collect();
        let whole = |tally: &VendorAccount| [tally.sold, tally.refunded, tally.commission];
        assert_eq!(found.iter().map(|(place, tally)| (*place, whole(tally))).collect::<BTreeMap<_, _>>(), together);
        assert_eq!(found, sales);

        // Quarters, products and the settlement are sums of the same cents, for any span from quarter to quarter.
        let exact = VendorSpan { span: Span { from: quarter(of.span.from), until: quarter(of.span.until) }, ..of };
        let settled = views.statement(exact).expect("reads").sums();
        let mut by_quarter = VendorAccount::default();
        let rows = pages(limit, |page| views.sales(exact, page).expect("reads"), |row| row.position);
        rows.iter().for_each(|row| by_quarter.add(&row.tally));
        assert_eq!(by_quarter, settled);
        let mut by_product = ProductTally::default();
        let rows = pages(limit, |page| views.products_sold(exact, page).expect("reads"), |row| row.position);
        rows.iter().for_each(|row| by_product.add(&row.tally));
        let sums = |tally: ProductTally| (tally.gross, tally.refunded, tally.commission);
        assert_eq!(sums(by_product), (settled.sold, settled.refunded, settled.commission));

        let last = self.terminals.told.len().saturating_sub(1);
        let moments = (0..9).filter_map(|ninth| self.terminals.told.get(last * ninth / 8)).map(|told| told.at);
        let spans = moments.flat_map(|at| {
            let next = at.plus_ms(1);
            [Span { from: at, until: next }, Span { from: at.minute(), until: next }, Span { from: next, until: at }]
        });
        for span in spans.chain([of.span]) {
            self.check_statement(views, VendorSpan { span, ..of });
        }
    }

    fn check_statement(&self, views: &dyn Views, of: VendorSpan) {
        let account = |until: Timestamp| {
            let mut sums = VendorAccount::default();
            let entries =
                self.terminals.told.iter().filter(|told| told.is_of(of.festival, of.vendor) && told.at < until);
            entries.for_each(|told| told.add_to(&mut sums));
            sums
        };
        let statement = views.statement(of).expect("reads");
        assert_eq!(statement.opening, account(of.span.from));
        assert_eq!(statement.closing, account(of.span.until.max(of.span.from)), "{of:?}");
        assert_eq!(statement.now, self.books(of.festival, of.vendor), "what the shards' books say");
        assert_eq!(statement.now.sold - statement.now.refunded, statement.now.payable + statement.now.commission);
    }

    /// A vendor's account as the shards have it; what they do not say (its commission) from what they do.
    fn books(&self, festival: FestivalId, vendor: VendorNo) -> VendorAccount {
        let mut sums = VendorAccount::default();
        for shard in &self.shards {
            let View::Ledger(ledger) = shard.query(&Query::Ledger(festival)) else { panic!("it takes payments") };
            let Some(part) = ledger.vendors.iter().find(|known| known.vendor == vendor) else { continue };
            sums.add(&VendorAccount {
                payments: part.payments,
                sold: part.sold,
                refunds: part.refunds,
                refunded: part.refunded,
                payable: part.payable,
                commission: part.sold - part.refunded - part.payable,
            });
        }
        sums
    }

    /// Counts what happened, by what is worth looking at.
    pub fn count_terminals(&self, seen: &mut BTreeMap<String, usize>) {
        for told in &self.terminals.told {
            let t = &told.t;
            let mut see = |what: String| *seen.entry(what).or_default() += 1;
            match t.rejection.filter(|_| t.serial == 0) {
                Some(rejection) => see(format!("{rejection:?}")),
                None => see(format!("{:?}", t.kind)),
            }
            for (what, is) in [
                ("by the office", told.by.is_some()),
                ("by the other side", told.by.is_none() && t.by.is_none()),
                ("twice refunded", t.kind == TransactionKind::Payment && self.terminals.refunds_of(told).count() > 1),
                ("with lines", !t.lines.is_empty()),
                ("in a large record", told.order & ((1 << INDEX_BITS) - 1) > 40),
                ("far lots", t.lots.iter().count() > 1),
            ] {
                if is {
                    see(what.to_owned());
                }
            }
        }
    }

    fn check_ids(&self, views: &dyn Views) {
        let moved: Vec<&Told> = self.terminals.told.iter().filter(|told| told.t.serial > 0).collect();
        for told in moved.iter().step_by(1 + moved.len() / 40) {
            let id = told.t.id().unwrap();
            let row = views.transaction(id).expect("reads").expect("it is there");
            self.terminals.is_said(&row, told);
            let not_its = TransactionId { wallet: wallet(WALLETS), ..id };
            assert_eq!(views.transaction(not_its).expect("reads"), None, "the serial alone is not enough");
        }
        for serial in [0, 1 << 39] {
            assert_eq!(views.transaction(TransactionId { wallet: wallet(1), serial }).expect("reads"), None);
        }
    }
}

impl Told {
    fn is_of(&self, festival: FestivalId, vendor: VendorNo) -> bool {
        let entry = matches!(self.t.kind, TransactionKind::Payment | TransactionKind::Refund) && self.t.serial > 0;
        entry && (self.t.festival, self.t.vendor) == (festival, vendor)
    }

    fn is_in(&self, Transactions { of, only, span }: Transactions) -> bool {
        let whose = match of {
            TransactionsOf::Festival(festival) => self.t.festival == festival,
            TransactionsOf::Wallet(wallet, festival) => {
                self.t.wallet == wallet && festival.is_none_or(|festival| self.t.festival == festival)
            }
            TransactionsOf::Terminal(device) => self.t.by.is_some_and(|by| by.device == device),
            TransactionsOf::Vendor(festival, vendor) => self.is_of(festival, vendor),
        };
        let fits = match only {
            Only::Everything => true,
            Only::Moved => self.t.serial > 0,
            Only::Kind(kind) => self.t.serial > 0 && self.t.kind == kind,
            Only::Refused => self.t.serial == 0,
        };
        whose && fits && span.from <= self.at && self.at < span.until
    }

    fn add_to(&self, sums: &mut VendorAccount) {
        let amount = i128::from(self.t.amount);
        if self.t.kind == TransactionKind::Payment {
            sums.payments += 1;
            sums.sold += amount;
        } else {
            sums.refunds += 1;
            sums.refunded += amount;
        }
        sums.payable += i128::from(self.t.posting.vendor);
        sums.commission += i128::from(self.t.posting.commission);
    }
}

impl Terminals {
    fn refunds_of<'t>(&'t self, payment: &'t Told) -> impl Iterator<Item = &'t Told> {
        let (shard, serial) = (payment.shard, payment.t.serial);
        self.told.iter().filter(move |told| {
            let t = &told.t;
            told.shard == shard && t.kind == TransactionKind::Refund && t.serial > 0 && t.of == serial
        })
    }

    /// Whether a row says all that happened.
    fn is_said(&self, row: &TransactionRow, told: &Told) {
        use TransactionKind::{Payment, Refund, TransferBack, TransferIn, TransferOut};
        let t = &told.t;
        let place = &row.position;
        assert_eq!((place.at, place.shard, place.order), (told.at, told.shard, told.order));
        assert_eq!(place.shard, Home::Wallet(row.wallet).shard(SHARDS));
        assert_eq!((row.id, row.kind, row.rejection, row.flags), (t.id(), t.kind, t.rejection, t.flags));
        assert_eq!((row.festival, row.wallet, row.other), (t.festival, t.wallet, t.other));
        assert_eq!((row.terminal, row.by), (t.by.map(|by| by.device), told.by));
        assert_eq!(row.asked, t.by.map(|by| by.seq));
        assert_eq!((row.currency, row.amount, row.before, row.after), (t.currency, t.amount, t.before, t.after));
        assert_eq!((row.posting, row.commission_bp), (t.posting, t.commission_bp));
        assert_eq!((&row.lots, &row.lines), (&t.lots.iter().copied().collect(), &t.lines));
        assert_eq!(row.reason, t.reason);
        let moved = t.serial > 0;
        let at_vendor = moved && matches!(t.kind, Payment | Refund);
        if at_vendor || !moved && t.kind == Payment {
            // A desk's terminal has no vendor; its name is the festival's last.
            let desk =
                t.by.is_some_and(|by| self.devices.iter().skip(DEVICES - 1).step_by(DEVICES).any(|d| *d == by.device));
            assert_eq!(row.vendor, (!desk).then_some(t.vendor));
        } else {
            assert_eq!(row.vendor, None);
        }
        assert_eq!(row.order, (moved && t.kind == Payment).then_some(t.order));
        let payment = TransactionId { wallet: t.wallet, serial: t.of };
        assert_eq!(row.refund_of, (moved && t.kind == Refund).then_some(payment));
        assert_eq!(row.transfer, matches!(t.kind, TransferOut | TransferIn | TransferBack).then_some(t.of));
        let given_back =
            if moved && t.kind == Payment { self.refunds_of(told).map(|told| told.t.amount).sum() } else { 0 };
        assert_eq!(row.refunded, given_back);
    }
}
