//! Who is thirsty, and what they do about it. Knows nothing of the network, as the crowd at the gates does not: it is
//! told the time, hands out wishes, and is told how each ended.
//!
//! People drink in waves, run low, go to a cash desk and come back. A few wishes in a hundred cannot be granted: a
//! wristband that was reported lost, a blocked wallet, somebody else's festival, a drink too many for what is left.

use std::collections::VecDeque;
use std::ops::Range;

use engine::cashless::command::{CashlessVerdict, Line, TerminalAnswer};
use engine::model::ids::{ProductNo, TagUid, TransactionId};

use crate::demo::visitors::{Chance, poisson, wave};

/// How many of the newest payments somebody may still want back.
const PAYMENTS_KEPT: usize = 512;
/// What people put on their wristbands, in cents.
const NOTES: [i64; 4] = [1_000, 2_000, 3_000, 5_000];
/// Below this they think of the cash desk first.
const LOW: i64 = 600;

pub struct Vendor {
    /// How much it draws, against the others.
    pub draws: u64,
    /// What it sells.
    pub items: Vec<Item>,
}

/// Something it sells.
#[derive(Clone, Copy)]
pub struct Item {
    /// Its number there.
    pub product: u16,
    /// What it costs, in cents.
    pub price: i64,
}

/// Somebody with a wristband.
pub struct Visitor {
    tag: TagUid,
    /// What is on it, as they were last told.
    balance: i64,
    /// At a terminal right now.
    busy: bool,
}

impl Visitor {
    /// With so much on it.
    pub fn new(tag: TagUid, balance: i64) -> Self {
        Self { tag, balance, busy: false }
    }
}

/// Where somebody steps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// A stand, by its number.
    Vendor(usize),
    /// A cash desk, whichever is near.
    Desk,
}

/// What somebody wants.
#[derive(Clone, Debug)]
pub enum Want {
    /// Something to drink or eat.
    Pay {
        /// With this wristband.
        tag: TagUid,
        /// So much, in cents.
        amount: i64,
        /// For these.
        lines: Vec<Line>,
    },
    /// Money on their wristband.
    TopUp {
        tag: TagUid,
        /// So much, in cents.
        amount: i64,
    },
    /// Money back.
    Refund {
        payment: TransactionId,
        /// So much; none: all of it.
        amount: Option<i64>,
    },
}

/// Somebody at a terminal.
#[derive(Clone, Debug)]
pub struct Wish {
    pub at: Counter,
    pub want: Want,
    /// Who, if it is one of the visitors; goes back in with [`Drinkers::ended`].
    who: Option<usize>,
}

struct Payment {
    id: TransactionId,
    vendor: usize,
    amount: i64,
}

/// Everybody with a wristband.
pub struct Drinkers {
    vendors: Vec<Vendor>,
    visitors: Vec<Visitor>,
    /// Those whose wristbands were reported lost come first, then those whose wallets are blocked.
    blocked: Range<usize>,
    payments: VecDeque<Payment>,
    chance: Chance,
}

impl Drinkers {
    /// The visitors in `blocked` are; those before them have lost their wristbands. The seed decides who does what.
    pub fn new(seed: u64, vendors: Vec<Vendor>, visitors: Vec<Visitor>, blocked: Range<usize>) -> Self {
        Self { vendors, visitors, blocked, payments: VecDeque::new(), chance: Chance::new(seed) }
    }

    /// How many step up to a terminal in the next `ms` milliseconds: 8 to 28 a second, in waves.
    pub fn arrivals(&mut self, now_ms: i64, ms: f64) -> usize {
        let per_second = 18.0 + 7.0 * wave(now_ms, 210.0) + 3.0 * wave(now_ms, 53.0);
        poisson(&mut self.chance, per_second * ms / 1_000.0)
    }

    /// What somebody wants next; `None` if whoever was thought of is busy.
    pub fn next(&mut self, now_ms: i64) -> Option<Wish> {
        match self.chance.below(1_000) {
            0..4 => self.with_trouble(0..self.blocked.start, now_ms),
            4..6 => self.with_trouble(self.blocked.clone(), now_ms),
            6..9 => {
                let vendor = self.vendor(now_ms);
                let (amount, lines) = self.order(vendor);
                let tag = TagUid::new(&self.chance.draw().to_be_bytes()[1..]).expect("seven bytes");
                Some(Wish { at: Counter::Vendor(vendor), want: Want::Pay { tag, amount, lines }, who: None })
            }
            9..18 => self.money_back(),
            _ => self.visit(now_ms),
        }
    }

    /// How a wish ended; `None`: nobody knows.
    pub fn ended(&mut self, wish: &Wish, answer: Option<TerminalAnswer>) {
        if let (Counter::Vendor(vendor), Some(answer), Want::Pay { amount, .. }) = (wish.at, answer, &wish.want)
            && let (CashlessVerdict::Paid, Some(id)) = (answer.verdict, answer.transaction())
        {
            if self.payments.len() == PAYMENTS_KEPT {
                self.payments.pop_front();
            }
            self.payments.push_back(Payment { id, vendor, amount: *amount });
        }
        let Some(visitor) = wish.who.and_then(|who| self.visitors.get_mut(who)) else { return };
        visitor.busy = false;
        if let Some(answer) = answer.filter(|answer| answer.wallet.0 != 0) {
            visitor.balance = answer.balance;
        }
    }

    /// Draws below `n`, for whoever drives them.
    pub fn below(&mut self, n: u64) -> u64 {
        self.chance.below(n)
    }

    fn visit(&mut self, now_ms: i64) -> Option<Wish> {
        let sound = self.visitors.len() - self.blocked.end;
        let who = self.blocked.end + self.chance.below(sound.max(1) as u64) as usize;
        let vendor = self.vendor(now_ms);
        let (amount, lines) = self.order(vendor);
        let visitor = self.visitors.get_mut(who).filter(|visitor| !visitor.busy)?;
        visitor.busy = true;
        // Most look at what is left first; some only hear it at the bar.
        let short = visitor.balance < amount.max(LOW);
        let tag = visitor.tag;
        if short && self.chance.share() < 0.8 {
            let amount = NOTES[self.chance.below(NOTES.len() as u64) as usize];
            return Some(Wish { at: Counter::Desk, want: Want::TopUp { tag, amount }, who: Some(who) });
        }
        Some(Wish { at: Counter::Vendor(vendor), want: Want::Pay { tag, amount, lines }, who: Some(who) })
    }

    /// Somebody whose wristband is lost or whose wallet is blocked: both say no whatever they want.
    fn with_trouble(&mut self, among: Range<usize>, now_ms: i64) -> Option<Wish> {
        let who = among.start + self.chance.below(among.len().max(1) as u64) as usize;
        let tag = self.visitors.get(who)?.tag;
        let vendor = self.vendor(now_ms);
        let (amount, lines) = self.order(vendor);
        Some(Wish { at: Counter::Vendor(vendor), want: Want::Pay { tag, amount, lines }, who: None })
    }

    /// The wrong drink, or the deposit for the cup. Now and then somebody asks twice.
    fn money_back(&mut self) -> Option<Wish> {
        let index = self.chance.below(self.payments.len().max(1) as u64) as usize;
        let payment = self.payments.get(index)?;
        let (id, at, whole) = (payment.id, Counter::Vendor(payment.vendor), payment.amount);
        let amount = (self.chance.share() < 0.5 && whole > 200).then_some(200);
        if amount.is_none() && self.chance.share() < 0.8 {
            self.payments.remove(index);
        }
        Some(Wish { at, want: Want::Refund { payment: id, amount }, who: None })
    }

    /// Everybody to the bars when the night begins, to the food when they have had some: each stand has its own wave.
    fn vendor(&mut self, now_ms: i64) -> usize {
        let draws = |(i, vendor): (usize, &Vendor)| {
            let hunger = 1.0 + 0.6 * wave(now_ms, 300.0 + 40.0 * i as f64);
            (vendor.draws as f64 * hunger * 100.0) as u64 + 1
        };
        let draws: Vec<u64> = self.vendors.iter().enumerate().map(draws).collect();
        let mut pick = self.chance.below(draws.iter().sum());
        for (i, draw) in draws.iter().enumerate() {
            match pick.checked_sub(*draw) {
                Some(rest) => pick = rest,
                None => return i,
            }
        }
        0
    }

    /// One to three different things, mostly one of each.
    fn order(&mut self, vendor: usize) -> (i64, Vec<Line>) {
        let (below, items) = (&mut self.chance, &self.vendors[vendor].items);
        let first = below.below(items.len() as u64) as usize;
        let kinds = 1 + [0, 0, 0, 1, 1, 2][below.below(6) as usize].min(items.len() - 1);
        let mut lines = Vec::with_capacity(kinds);
        for i in 0..kinds {
            let item = items[(first + i) % items.len()];
            let count = [1, 1, 1, 2, 2, 3][below.below(6) as usize];
            lines.push(Line { product: ProductNo(item.product), count, price: item.price });
        }
        (lines.iter().map(|line| line.price * i64::from(line.count)).sum(), lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::model::ids::WalletId;
    use engine::model::rejection::Rejection;
    use engine::model::time::Timestamp;

    const START_MS: i64 = 1_700_000_000_000;

    fn drinkers() -> Drinkers {
        let item = |product, price| Item { product, price };
        let vendors = vec![
            Vendor { draws: 9, items: vec![item(0, 550), item(1, 300)] },
            Vendor { draws: 1, items: vec![item(0, 3_000)] },
        ];
        let tag = |number: u32| TagUid::new(&[&[4, 0, 0], &number.to_be_bytes()[..]].concat()).unwrap();
        let visitors = (0..2_000).map(|number| Visitor::new(tag(number), 3_000)).collect();
        Drinkers::new(7, vendors, visitors, 10..20)
    }

    /// What a terminal would say to somebody with `balance`.
    fn counter(want: &Want, balance: i64, serial: u64) -> TerminalAnswer {
        let no = |why| TerminalAnswer { balance, ..TerminalAnswer::rejected(why, WalletId(1), Timestamp(0)) };
        let yes = |verdict, balance| TerminalAnswer { verdict, balance, serial, ..no(Rejection::Internal) };
        match want {
            Want::Pay { amount, .. } if *amount > balance => no(Rejection::InsufficientFunds),
            Want::Pay { amount, .. } => yes(CashlessVerdict::Paid, balance - amount),
            Want::TopUp { amount, .. } => yes(CashlessVerdict::ToppedUp, balance + amount),
            Want::Refund { .. } => yes(CashlessVerdict::Refunded, balance),
        }
    }

    #[test]
    fn people_run_low_and_fetch_money_and_the_bars_go_on() {
        let mut drinkers = drinkers();
        let (mut paid, mut topped_up, mut refunded, mut refused, mut serial) = (0, 0, 0, 0, 0);
        for second in 0..3_600 {
            let now_ms = START_MS + second * 1_000;
            for _ in 0..drinkers.arrivals(now_ms, 1_000.0) {
                let Some(wish) = drinkers.next(now_ms) else { continue };
                serial += 1;
                let balance = wish.who.map_or(10_000, |who| drinkers.visitors[who].balance);
                let answer = counter(&wish.want, balance, serial);
                match answer.verdict {
                    CashlessVerdict::Paid => paid += 1,
                    CashlessVerdict::ToppedUp => topped_up += 1,
                    CashlessVerdict::Refunded => refunded += 1,
                    _ => refused += 1,
                }
                drinkers.ended(&wish, Some(answer));
            }
        }
        assert!(paid > 20 * topped_up / 10 && topped_up > 3_000, "{paid} paid, {topped_up} topped up");
        assert!(refused > paid / 100 && refused < paid / 5, "{refused} of {paid} refused");
        assert!(refunded > 100, "{refunded} refunded");
        assert!(drinkers.visitors.iter().all(|visitor| !visitor.busy && visitor.balance >= 0));
    }

    #[test]
    fn nobody_is_at_two_tills_and_lines_add_up() {
        let mut drinkers = drinkers();
        let mut at_counters = std::collections::BTreeSet::new();
        for _ in 0..10_000 {
            let Some(wish) = drinkers.next(START_MS) else { continue };
            if let Some(who) = wish.who {
                assert!(at_counters.insert(who), "{who} twice");
            }
            if let Want::Pay { amount, lines, .. } = &wish.want {
                assert_eq!(lines.iter().map(|line| line.price * i64::from(line.count)).sum::<i64>(), *amount);
            }
        }
        assert!(at_counters.len() > 1_500, "{} came", at_counters.len());
        assert!(at_counters.iter().all(|&who| who >= 20), "who is blocked or has lost it comes as nobody");
    }

    #[test]
    fn an_unknown_end_lets_them_try_again() {
        let mut drinkers = drinkers();
        let wish = loop {
            match drinkers.next(START_MS) {
                Some(wish) if wish.who.is_some() => break wish,
                _ => {}
            }
        };
        let before = drinkers.visitors[wish.who.unwrap()].balance;
        drinkers.ended(&wish, None);
        let visitor = &drinkers.visitors[wish.who.unwrap()];
        assert_eq!((visitor.busy, visitor.balance), (false, before));
    }
}
