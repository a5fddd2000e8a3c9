//! What must be answered at a bar, and whether it was, to the cent.
//!
//! Each wallet belongs to one terminal of the load test, and at most one command about it is under way at any time: so its
//! balance when a command is sent is its balance when that is decided, and the answer is known beforehand. One wallet may
//! be **shared** by all terminals, so that it is hot: it has enough for everybody, and what is left in it is compared once
//! the run is over. And a wristband may **roam**: an operator moves it from wallet to wallet meanwhile, so that whoever is
//! answered has been seen to afterwards ([`crate::crash`]).

use engine::cashless::command::{CashVerdict, TerminalAnswer};
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
pub struct Guest {
    pub wallet: WalletId,
    /// The chip that names it, if it has one.
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

impl Guest {
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
                (Order::Pay { amount, .. }, CashVerdict::Paid) => {
                    answer.amount == amount && answer.serial > 0 && answer.order > 0
                }
                (Order::Refund { payment, amount }, CashVerdict::Refunded) => {
                    (answer.amount, answer.wallet) == (amount, payment.wallet) && answer.serial > 0
                }
                (Order::Pay { .. }, CashVerdict::Rejected(rejection)) => {
                    answer.serial == 0
                        && matches!(rejection, Rejection::UnknownTag | Rejection::TagMoved | Rejection::TagLost)
                }
                _ => false,
            }
    }

    /// What a command must be answered: the verdict, the amount that it names, the balance after it.
    fn due(&self, order: Order) -> (CashVerdict, i64, i64) {
        match order {
            Order::Pay { amount, .. } if amount > self.balance && !self.shared => {
                (CashVerdict::Rejected(Rejection::InsufficientFunds), amount, self.balance)
            }
            Order::Pay { amount, .. } => (CashVerdict::Paid, amount, self.balance - amount),
            Order::Refund { amount, .. } => (CashVerdict::Refunded, amount, self.balance + amount),
            Order::TopUp { amount } => (CashVerdict::ToppedUp, amount, self.balance + amount),
            Order::Balance => (CashVerdict::Balance, 0, self.balance),
        }
    }
}

/// What the answers of one terminal, or of all, add up to.
#[derive(Clone, Debug)]
pub struct Takings {
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

impl Default for Takings {
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

impl Takings {
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
pub struct Tab {
    /// All of them; a shared one is the first.
    pub guests: Vec<Guest>,
    /// What has been answered.
    pub takings: Takings,
}

impl Tab {
    /// Of these.
    pub fn new(guests: Vec<Guest>) -> Self {
        Self { guests, takings: Takings::default() }
    }

    /// The first answer to a command: compares it with what is due, and follows it.
    pub fn answered(&mut self, guest: usize, order: Order, seq: u64, answer: &TerminalAnswer) {
        let Self { guests, takings } = self;
        let guest = &mut guests[guest];
        takings.answered += 1;
        let (verdict, amount, balance) = guest.due(order);
        let moved = matches!(answer.verdict, CashVerdict::Paid | CashVerdict::Refunded | CashVerdict::ToppedUp);
        let as_due = if guest.roams {
            guest.may_be(order, answer)
        } else {
            answer.verdict == verdict
                && answer.amount == amount
                && (answer.balance == balance || (guest.shared && answer.balance >= 0))
                && answer.wallet == guest.wallet
                && answer.currency == Currency::EUR
                && answer.flags == 0
                && (answer.serial > 0) == moved
                && (answer.order > 0) == (answer.verdict == CashVerdict::Paid)
        };
        if !as_due {
            let was = guest.balance;
            takings.wrong(|| {
                format!(
                    "command {seq}, {order:?} with {was}: due {verdict:?} {amount} leaving {balance}, was {answer:?}"
                )
            });
        }
        match answer.verdict {
            CashVerdict::Paid => {
                takings.paid += 1;
                takings.turnover += answer.amount;
                takings.from_shared += if guest.shared { answer.amount } else { 0 };
                guest.paid = answer.transaction().map(|payment| (payment, answer.amount));
            }
            CashVerdict::Refunded => {
                takings.refunded += 1;
                takings.turnover -= answer.amount;
                takings.from_shared -= if guest.shared { answer.amount } else { 0 };
                guest.paid = guest.paid.map(|(payment, left)| (payment, left - answer.amount));
            }
            CashVerdict::ToppedUp => {
                takings.topped_up += 1;
                takings.cash += answer.amount;
            }
            CashVerdict::Balance => {}
            CashVerdict::Rejected(rejection) => takings.rejected[rejection as usize] += 1,
        }
        if !guest.shared && !guest.roams {
            guest.balance = answer.balance;
        }
    }

    /// The answer to the question at the end.
    pub fn counted(&mut self, guest: usize, answer: &TerminalAnswer) {
        let guest = &self.guests[guest];
        if guest.roams {
            return;
        }
        self.takings.counted += 1;
        if guest.shared {
            return;
        }
        if (answer.verdict, answer.balance, answer.wallet) != (CashVerdict::Balance, guest.balance, guest.wallet) {
            self.takings.balances_wrong += 1;
            let (wallet, balance) = (guest.wallet, guest.balance);
            self.takings.explain(|| format!("{wallet} has {answer:?} at the end, and should have {balance}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::model::time::Timestamp;

    fn tab() -> Tab {
        let mut shared = Guest::new(WalletId(9), None, 1_000_000);
        shared.shared = true;
        Tab::new(vec![shared, Guest::new(WalletId(1), None, 1_000)])
    }

    fn answer(verdict: CashVerdict, amount: i64, balance: i64) -> TerminalAnswer {
        let moved = matches!(verdict, CashVerdict::Paid | CashVerdict::Refunded | CashVerdict::ToppedUp);
        let (serial, order) = (u64::from(moved) * 7, u32::from(verdict == CashVerdict::Paid) * 3);
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

    const POOR: CashVerdict = CashVerdict::Rejected(Rejection::InsufficientFunds);

    #[test]
    fn a_wristband_that_roams_may_be_anybodys_or_nobodys() {
        let tag = TagUid::new(&[4, 1, 2, 3]).unwrap();
        let pay = Order::Pay { amount: 600, count: 0 };
        let payment = TransactionId { wallet: WalletId(1), serial: 7 };
        let refund = Order::Refund { payment, amount: 100 };
        let no = |rejection| answer(CashVerdict::Rejected(rejection), 0, 0);
        let of_another = TerminalAnswer { wallet: WalletId(2), ..answer(CashVerdict::Refunded, 100, 1) };
        let table = [
            ("paid", pay, answer(CashVerdict::Paid, 600, 12), 0),
            ("names nothing", pay, no(Rejection::UnknownTag), 0),
            ("moved", pay, no(Rejection::TagMoved), 0),
            ("lost", pay, no(Rejection::TagLost), 0),
            ("given back", refund, answer(CashVerdict::Refunded, 100, 1), 0),
            ("another amount", pay, answer(CashVerdict::Paid, 601, 12), 1),
            ("poor", pay, no(Rejection::InsufficientFunds), 1),
            ("not given back", refund, no(Rejection::TagLost), 1),
            ("given back to another", refund, of_another, 1),
        ];
        for (what, order, answer, wrong) in table {
            let mut tab = Tab::new(vec![Guest::roaming(tag)]);
            tab.answered(0, order, 1, &answer);
            assert_eq!((tab.takings.wrong, tab.guests[0].balance), (wrong, 0), "{what}");
        }
    }

    #[test]
    fn a_right_night_has_nothing_wrong() {
        let mut tab = tab();
        let payment = TransactionId { wallet: WalletId(1), serial: 7 };
        let night = [
            (Order::Pay { amount: 600, count: 0 }, answer(CashVerdict::Paid, 600, 400)),
            (Order::Pay { amount: 401, count: 1 }, answer(POOR, 401, 400)),
            (Order::Refund { payment, amount: 100 }, answer(CashVerdict::Refunded, 100, 500)),
            (Order::TopUp { amount: 2_000 }, answer(CashVerdict::ToppedUp, 2_000, 2_500)),
            (Order::Balance, answer(CashVerdict::Balance, 0, 2_500)),
        ];
        for (seq, (order, answer)) in night.iter().enumerate() {
            tab.answered(1, *order, seq as u64, answer);
        }
        tab.counted(1, &answer(CashVerdict::Balance, 0, 2_500));
        let takings = &tab.takings;
        assert_eq!((takings.wrong, takings.balances_wrong, &takings.explained), (0, 0, &vec![]));
        assert_eq!((takings.answered, takings.turnover, takings.cash, takings.counted), (5, 500, 2_000, 1));
        assert_eq!(tab.guests[1].paid, Some((payment, 500)));
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
                answer(CashVerdict::Paid, 1_001, -1),
                |_| {},
            ),
            ("refused with enough", pay, answer(POOR, 600, 1_000), |_| {}),
            ("a cent too little taken", pay, answer(CashVerdict::Paid, 600, 401), |_| {}),
            ("another amount", pay, answer(CashVerdict::Paid, 601, 400), |_| {}),
            ("another wallet", pay, answer(CashVerdict::Paid, 600, 400), |a| a.wallet = WalletId(2)),
            ("another currency", pay, answer(CashVerdict::Paid, 600, 400), |a| {
                a.currency = Currency::parse("CHF").unwrap()
            }),
            ("no transaction", pay, answer(CashVerdict::Paid, 600, 400), |a| a.serial = 0),
            ("no order", pay, answer(CashVerdict::Paid, 600, 400), |a| a.order = 0),
            ("flagged", pay, answer(CashVerdict::Paid, 600, 400), |a| a.flags = 1),
            ("a transaction for a refusal", Order::Pay { amount: 1_001, count: 0 }, answer(POOR, 1_001, 1_000), |a| {
                a.serial = 7;
            }),
            ("topped up in place of paid", pay, answer(CashVerdict::ToppedUp, 600, 1_600), |_| {}),
        ];
        for (what, order, mut answer, plant) in plants {
            let mut tab = tab();
            plant(&mut answer);
            tab.answered(1, order, 1, &answer);
            assert_eq!((tab.takings.wrong, tab.takings.explained.len()), (1, 1), "{what}");
        }
        let mut tab = tab();
        tab.counted(1, &answer(CashVerdict::Balance, 0, 999));
        assert_eq!(tab.takings.balances_wrong, 1, "a cent is missing at the end");
    }
}
