//! A night at one terminal: people pay, top up when little is left, sometimes ask for more than they have, get something
//! back, or only want to know.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::cashless_model::{CashlessModel, Order};

/// How many people who are being served at this moment are passed over in search of the next one.
const PASSED_OVER_MAX: usize = 64;

/// Where in a draw of 1,024 each kind of order lies: 10 of 1,024 are about one in a hundred.
const TOO_MUCH: u32 = 10;
const REFUND: u32 = TOO_MUCH + 10;
const BALANCE: u32 = REFUND + 5;
const WITH_LINES: u32 = BALANCE + 256;

/// What the one product of each vendor costs, in minor units.
pub const PRICE: i64 = 450;
/// The most that somebody pays with a bare amount, in minor units.
const PAY_MAX: i64 = 1_500;
/// What is topped up, in minor units.
const TOP_UP: i64 = 5_000;

/// Picks who comes next. The same seed makes the same night.
pub struct CustomerMix {
    rng: ChaCha8Rng,
    /// The next in the queue.
    at: usize,
    /// Of 65,536 payments, so many come from the shared wallet.
    hot: u32,
}

impl CustomerMix {
    /// `hot`: the share of payments that come from the shared wallet, 0 to 1.
    pub fn new(seed: u64, hot: f64) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), at: 1, hot: (hot * 65_536.0) as u32 }
    }

    /// Who comes next, and what they want. `None` while everybody is being served.
    pub fn next(&mut self, cashless_model: &CashlessModel) -> Option<(usize, Order)> {
        let draw = self.rng.next_u32();
        let amount = 50 + i64::from(draw >> 16) % (PAY_MAX - 49);
        if self.hot > 0 && self.rng.next_u32() % 65_536 < self.hot {
            return Some((0, Order::Pay { amount, count: 0 }));
        }
        let first = usize::from(cashless_model.customers[0].shared);
        for _ in 0..PASSED_OVER_MAX.min(cashless_model.customers.len()) {
            let next = self.at.max(first);
            self.at = if next + 1 == cashless_model.customers.len() { first } else { next + 1 };
            let customer = &cashless_model.customers[next];
            if customer.under_way {
                continue;
            }
            let order = match (draw % 1_024, customer.paid) {
                (0..TOO_MUCH, _) if !customer.roams => Order::Pay { amount: customer.balance + amount, count: 0 },
                (TOO_MUCH..REFUND, Some((payment, left))) if left > 0 => {
                    // The whole of it, or a part.
                    let amount = if draw & 1 << 20 == 0 { left } else { 1 + i64::from(draw >> 16) % left };
                    Order::Refund { payment, amount }
                }
                (REFUND..BALANCE, _) if !customer.roams => Order::Balance,
                _ if !customer.roams && customer.balance < PAY_MAX => Order::TopUp { amount: TOP_UP },
                (BALANCE..WITH_LINES, _) => {
                    let count = 1 + (draw >> 16) as u16 % 3;
                    Order::Pay { amount: PRICE * i64::from(count), count }
                }
                _ => Order::Pay { amount, count: 0 },
            };
            return Some((next, order));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cashless_model::Customer;
    use engine::model::ids::{TransactionId, WalletId};

    #[test]
    fn every_kind_of_order_comes_and_nobody_is_served_twice_at_a_time() {
        let mut shared = Customer::new(WalletId(9), None, 1 << 40);
        shared.shared = true;
        let mut cashless_model = CashlessModel::new(vec![shared]);
        cashless_model.customers.extend((1..=50).map(|id| Customer::new(WalletId(id), None, 5_000)));
        cashless_model.customers[50].under_way = true;
        let mut mix = CustomerMix::new(7, 0.25);
        let mut seen = [0_u32; 7];
        for serial in 0..20_000 {
            let (at, order) = mix.next(&cashless_model).unwrap();
            let customer = &mut cashless_model.customers[at];
            assert!(!customer.under_way);
            seen[match order {
                Order::Pay { .. } if at == 0 => 0,
                Order::Pay { amount, .. } if amount > customer.balance => 1,
                Order::Pay { amount, count } => {
                    customer.balance -= amount;
                    customer.paid = Some((TransactionId { wallet: customer.wallet, serial }, amount));
                    2 + usize::from(count > 0)
                }
                Order::Refund { amount, .. } => {
                    customer.balance += amount;
                    customer.paid = customer.paid.map(|(payment, left)| (payment, left - amount));
                    assert!(amount > 0 && customer.paid.unwrap().1 >= 0);
                    4
                }
                Order::TopUp { amount } => {
                    customer.balance += amount;
                    5
                }
                Order::Balance => 6,
            }] += 1;
        }
        for (kind, least) in [4_500, 100, 6_000, 2_000, 80, 1_000, 40].into_iter().enumerate() {
            assert!(seen[kind] >= least, "kind {kind}: {seen:?}");
        }
    }
}
