//! What must be answered at a bar, and whether it was, to the cent.
//!
//! Each wallet belongs to one terminal of the load test, and at most one command about it is under way at any time: so its
//! balance when a command is sent is its balance when that is decided, and the answer is known beforehand. One wallet may
//! be **shared** by all terminals, so that it is hot: it has enough for everybody, and what is left in it is compared once
//! the run is over. And a wristband may **roam**: an operator moves it from wallet to wallet meanwhile, so that whoever is
//! answered has been seen to afterwards ([`crate::crash`]).

use engine::cashless::command::{CashlessVerdict, TerminalAnswer};
use engine::model::ids::{TagUid, TransactionId, WalletId};
use engine::model::money::Currency;
use engine::model::rejection::Rejection;

use crate::model::EXPLAINED_MAX;

/// What is held to a terminal, and what is wanted. Amounts are minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Somebody pays.
    Pay {
        /// How much.
        amount: i64,
        /// For this many of the vendor's one product; 0 for a bare amount.
        count: u16,
    },
    /// The last payment is given back.
    Refund {
        payment: TransactionId,
        /// How much.
        amount: i64,
    },
    /// Cash comes in.
    TopUp {
        /// How much.
        amount: i64,
    },
    /// How much is there?
    Balance,
}

/// A wallet and whoever wears it.
#[derive(Clone, Debug)]
pub struct Customer {
    pub wallet: WalletId,
    /// The tag that names it, if it has one.
    pub tag: Option<TagUid>,
    /// What is in it, as far as answers say.
    pub balance: i64,
    /// A command about it is under way.
    pub under_way: bool,
    /// The last payment, with what is left of it.
    pub paid: Option<(TransactionId, i64)>,
    /// Other terminals serve it too.
    pub shared: bool,
    /// Its wristband is moved meanwhile: which wallet pays, if any, is not known beforehand.
    pub roams: bool,
}

impl Customer {
    /// Somebody with so much.
    pub fn new(wallet: WalletId, tag: Option<TagUid>, balance: i64) -> Self {
        Self { wallet, tag, balance, under_way: false, paid: None, shared: false, roams: false }
    }

    /// Somebody whose wristband is moved meanwhile.
    pub fn roaming(tag: TagUid) -> Self {
        Self { roams: true, ..Self::new(WalletId(0), Some(tag), 0) }
    }

    /// Whether a wristband that is moved may be answered so: it pays, or names nothing at this moment.
    fn may_be(&self, order: Order, answer: &TerminalAnswer) -> bool {
        let plain = answer.currency == Currency::EUR && answer.flags == 0;
        plain
            && match (order, answer.verdict) {
                (Order::Pay { amount, .. }, CashlessVerdict::Paid) => {
                    answer.amount == amount && answer.serial > 0 && answer.order > 0
                }
                (Order::Refund { payment, amount }, CashlessVerdict::Refunded) => {
                    (answer.amount, answer.wallet) == (amount, payment.wallet) && answer.serial > 0
                }
                (Order::Pay { .. }, CashlessVerdict::Rejected(rejection)) => {
                    answer.serial == 0
                        && matches!(rejection, Rejection::UnknownTag | Rejection::TagMoved | Rejection::TagLost)
                }
                _ => false,
            }
    }

    /// What a command must be answered: the verdict, the amount that it names, the balance after it.
    fn due(&self, order: Order) -> (CashlessVerdict, i64, i64) {
        match order {
            Order::Pay { amount, .. } if amount > self.balance && !self.shared => {
                (CashlessVerdict::Rejected(Rejection::InsufficientFunds), amount, self.balance)
            }
            Order::Pay { amount, .. } => (CashlessVerdict::Paid, amount, self.balance - amount),
            Order::Refund { amount, .. } => (CashlessVerdict::Refunded, amount, self.balance + amount),
            Order::TopUp { amount } => (CashlessVerdict::ToppedUp, amount, self.balance + amount),
            Order::Balance => (CashlessVerdict::Balance, 0, self.balance),
        }
    }
}

/// What the answers of one terminal, or of all, add up to.
#[derive(Clone, Debug)]
pub struct Totals {
    /// Commands that got their answer.
    pub answered: u64,
    /// Payments.
    pub paid: u64,
    pub refunded: u64,
    /// Top-ups.
    pub topped_up: u64,
    pub rejected: [u64; Rejection::NUMBERS],
    /// What was paid less what was given back, in minor units.
    pub turnover: i64,
    /// What was topped up, in minor units.
    pub cash: i64,
    /// Of the turnover, what came from the shared wallet.
    pub from_shared: i64,
    /// Answers other than the one that was due.
    pub wrong: u64,
    /// Balances at the end that were not the model's.
    pub balances_wrong: u64,
    /// Balances compared at the end.
    pub counted: u64,
    /// The first wrong answers, in words.
    pub explained: Vec<String>,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            answered: 0,
            paid: 0,
            refunded: 0,
            topped_up: 0,
            rejected: [0; Rejection::NUMBERS],
            turnover: 0,
            cash: 0,
            from_shared: 0,
            wrong: 0,
            balances_wrong: 0,
            counted: 0,
            explained: Vec::new(),
        }
    }
}

impl Totals {
    /// Counts a wrong answer; the first few are kept in words.
    pub fn wrong(&mut self, explain: impl FnOnce() -> String) {
        self.wrong += 1;
        self.explain(explain);
    }

    fn explain(&mut self, explain: impl FnOnce() -> String) {
        if self.explained.len() < EXPLAINED_MAX {
            self.explained.push(explain());
        }
    }

    /// Adds another terminal's.
    pub fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.paid += other.paid;
        self.refunded += other.refunded;
        self.topped_up += other.topped_up;
        self.rejected.iter_mut().zip(other.rejected).for_each(|(sum, more)| *sum += more);
        self.turnover += other.turnover;
        self.cash += other.cash;
        self.from_shared += other.from_shared;
        self.wrong += other.wrong;
        self.balances_wrong += other.balances_wrong;
        self.counted += other.counted;
        let room = EXPLAINED_MAX.saturating_sub(self.explained.len());
        self.explained.extend(other.explained.iter().take(room).cloned());
    }
}

/// The wallets of one terminal.
#[derive(Clone, Debug)]
pub struct CashlessModel {
    /// All of them; a shared one is the first.
    pub customers: Vec<Customer>,
    /// What has been answered.
    pub totals: Totals,
}

impl CashlessModel {
    /// Of these.
    pub fn new(customers: Vec<Customer>) -> Self {
        Self { customers, totals: Totals::default() }
    }

    /// The first answer to a command: compares it with what is due, and follows it.
    pub fn answered(&mut self, customer: usize, order: Order, seq: u64, answer: &TerminalAnswer) {
        let Self { customers, totals } = self;
        let customer = &mut customers[customer];
        totals.answered += 1;
        let (verdict, amount, balance) = customer.due(order);
        let moved =
            matches!(answer.verdict, CashlessVerdict::Paid | CashlessVerdict::Refunded | CashlessVerdict::ToppedUp);
        let as_due = if customer.roams {
            customer.may_be(order, answer)
        } else {
            answer.verdict == verdict
                && answer.amount == amount
                && (answer.balance == balance || (customer.shared && answer.balance >= 0))
                && answer.wallet == customer.wallet
                && answer.currency == Currency::EUR
                && answer.flags == 0
                && (answer.serial > 0) == moved
                && (answer.order > 0) == (answer.verdict == CashlessVerdict::Paid)
        };
        if !as_due {
            let was = customer.balance;
            totals.wrong(|| {
                format!(
                    "command {seq}, {order:?} with {was}: due {verdict:?} {amount} leaving {balance}, was {answer:?}"
                )
            });
        }
        match answer.verdict {
            CashlessVerdict::Paid => {
                totals.paid += 1;
                totals.turnover += answer.amount;
                totals.from_shared += if customer.shared { answer.amount } else { 0 };
                customer.paid = answer.transaction().map(|payment| (payment, answer.amount));
            }
            CashlessVerdict::Refunded => {
                totals.refunded += 1;
                totals.turnover -= answer.amount;
                totals.from_shared -= if customer.shared { answer.amount } else { 0 };
                customer.paid = customer.paid.map(|(payment, left)| (payment, left - answer.amount));
            }
            CashlessVerdict::ToppedUp => {
                totals.topped_up += 1;
                totals.cash += answer.amount;
            }
            CashlessVerdict::Balance => {}
            CashlessVerdict::Rejected(rejection) => totals.rejected[rejection as usize] += 1,
        }
        if !customer.shared && !customer.roams {
            customer.balance = answer.balance;
        }
    }

    /// The answer to the question at the end.
    pub fn counted(&mut self, customer: usize, answer: &TerminalAnswer) {
        let customer = &self.customers[customer];
        if customer.roams {
            return;
        }
        self.totals.counted += 1;
        if customer.shared {
            return;
        }
        if (answer.verdict, answer.balance, answer.wallet)
            != (CashlessVerdict::Balance, customer.balance, customer.wallet)
        {
            self.totals.balances_wrong += 1;
            let (wallet, balance) = (customer.wallet, customer.balance);
            self.totals.explain(|| format!("{wallet} has {answer:?} at the end, and should have {balance}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::model::time::Timestamp;

    fn cashless_model() -> CashlessModel {
        let mut shared = Customer::new(WalletId(9), None, 1_000_000);
        shared.shared = true;
        CashlessModel::new(vec![shared, Customer::new(WalletId(1), None, 1_000)])
    }

    fn answer(verdict: CashlessVerdict, amount: i64, balance: i64) -> TerminalAnswer {
        let moved = matches!(verdict, CashlessVerdict::Paid | CashlessVerdict::Refunded | CashlessVerdict::ToppedUp);
        let (serial, order) = (u64::from(moved) * 7, u32::from(verdict == CashlessVerdict::Paid) * 3);
        TerminalAnswer {
            verdict,
            flags: 0,
            currency: Currency::EUR,
            order,
            amount,
            balance,
            wallet: WalletId(1),
            serial,
            at: Timestamp(1),
        }
    }

    const POOR: CashlessVerdict = CashlessVerdict::Rejected(Rejection::InsufficientFunds);

    #[test]
    fn a_wristband_that_roams_may_be_anybodys_or_nobodys() {
        let tag = TagUid::new(&[4, 1, 2, 3]).unwrap();
        let pay = Order::Pay { amount: 600, count: 0 };
        let payment = TransactionId { wallet: WalletId(1), serial: 7 };
        let refund = Order::Refund { payment, amount: 100 };
        let no = |rejection| answer(CashlessVerdict::Rejected(rejection), 0, 0);
        let of_another = TerminalAnswer { wallet: WalletId(2), ..answer(CashlessVerdict::Refunded, 100, 1) };
        let table = [
            ("paid", pay, answer(CashlessVerdict::Paid, 600, 12), 0),
            ("names nothing", pay, no(Rejection::UnknownTag), 0),
            ("moved", pay, no(Rejection::TagMoved), 0),
            ("lost", pay, no(Rejection::TagLost), 0),
            ("given back", refund, answer(CashlessVerdict::Refunded, 100, 1), 0),
            ("another amount", pay, answer(CashlessVerdict::Paid, 601, 12), 1),
            ("poor", pay, no(Rejection::InsufficientFunds), 1),
            ("not given back", refund, no(Rejection::TagLost), 1),
            ("given back to another", refund, of_another, 1),
        ];
        for (what, order, answer, wrong) in table {
            let mut cashless_model = CashlessModel::new(vec![Customer::roaming(tag)]);
            cashless_model.answered(0, order, 1, &answer);
            assert_eq!((cashless_model.totals.wrong, cashless_model.customers[0].balance), (wrong, 0), "{what}");
        }
    }

    #[test]
    fn a_right_night_has_nothing_wrong() {
        let mut cashless_model = cashless_model();
        let payment = TransactionId { wallet: WalletId(1), serial: 7 };
        let night = [
            (Order::Pay { amount: 600, count: 0 }, answer(CashlessVerdict::Paid, 600, 400)),
            (Order::Pay { amount: 401, count: 1 }, answer(POOR, 401, 400)),
            (Order::Refund { payment, amount: 100 }, answer(CashlessVerdict::Refunded, 100, 500)),
            (Order::TopUp { amount: 2_000 }, answer(CashlessVerdict::ToppedUp, 2_000, 2_500)),
            (Order::Balance, answer(CashlessVerdict::Balance, 0, 2_500)),
        ];
        for (seq, (order, answer)) in night.iter().enumerate() {
            cashless_model.answered(1, *order, seq as u64, answer);
        }
        cashless_model.counted(1, &answer(CashlessVerdict::Balance, 0, 2_500));
        let totals = &cashless_model.totals;
        assert_eq!((totals.wrong, totals.balances_wrong, &totals.explained), (0, 0, &vec![]));
        assert_eq!((totals.answered, totals.turnover, totals.cash, totals.counted), (5, 500, 2_000, 1));
        assert_eq!(cashless_model.customers[1].paid, Some((payment, 500)));
    }

    /// Each line plants one thing a broken server might say; the model has to see every one of them.
    #[test]
    fn every_planted_wrong_answer_is_seen() {
        type Plant = fn(&mut TerminalAnswer);
        let pay = Order::Pay { amount: 600, count: 0 };
        let plants: [(&str, Order, TerminalAnswer, Plant); 11] = [
            (
                "paid with too little",
                Order::Pay { amount: 1_001, count: 0 },
                answer(CashlessVerdict::Paid, 1_001, -1),
                |_| {},
            ),
            ("refused with enough", pay, answer(POOR, 600, 1_000), |_| {}),
            ("a cent too little taken", pay, answer(CashlessVerdict::Paid, 600, 401), |_| {}),
            ("another amount", pay, answer(CashlessVerdict::Paid, 601, 400), |_| {}),
            ("another wallet", pay, answer(CashlessVerdict::Paid, 600, 400), |a| a.wallet = WalletId(2)),
            ("another currency", pay, answer(CashlessVerdict::Paid, 600, 400), |a| {
                a.currency = Currency::parse("CHF").unwrap()
            }),
            ("no transaction", pay, answer(CashlessVerdict::Paid, 600, 400), |a| a.serial = 0),
            ("no order", pay, answer(CashlessVerdict::Paid, 600, 400), |a| a.order = 0),
            ("flagged", pay, answer(CashlessVerdict::Paid, 600, 400), |a| a.flags = 1),
            ("a transaction for a refusal", Order::Pay { amount: 1_001, count: 0 }, answer(POOR, 1_001, 1_000), |a| {
                a.serial = 7;
            }),
            ("topped up in place of paid", pay, answer(CashlessVerdict::ToppedUp, 600, 1_600), |_| {}),
        ];
        for (what, order, mut answer, plant) in plants {
            let mut cashless_model = cashless_model();
            plant(&mut answer);
            cashless_model.answered(1, order, 1, &answer);
            assert_eq!((cashless_model.totals.wrong, cashless_model.totals.explained.len()), (1, 1), "{what}");
        }
        let mut cashless_model = cashless_model();
        cashless_model.counted(1, &answer(CashlessVerdict::Balance, 0, 999));
        assert_eq!(cashless_model.totals.balances_wrong, 1, "a cent is missing at the end");
    }
}
