//! What the latest cash-outs of each shard gave to whom: whoever asks for one is told, and so is whoever asks again with
//! the same idempotency key.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::cashless::event::{Lots, Transaction};
use crate::model::ids::{TransactionId, WalletId};
use crate::model::rejection::Rejection;

/// How many a shard remembers: 65,536 × 80 B = 5 MiB, and 24 B for each source beyond one; a million over sixteen shards.
/// What became of an older one, its transaction says.
pub const PAYOUTS_MAX: usize = 65_536;

/// The latest cash-outs of one shard, in the order of their serials.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Payouts {
    payouts: VecDeque<Payout>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Payout {
    serial: u64,
    wallet: WalletId,
    lots: Lots,
}

impl Payouts {
    pub(super) fn push(&mut self, t: &Transaction) {
        if self.payouts.len() == PAYOUTS_MAX {
            self.payouts.pop_front();
        }
        self.payouts.push_back(Payout { serial: t.serial, wallet: t.wallet, lots: t.lots.clone() });
    }

    /// Where the money of this cash-out went.
    ///
    /// # Errors
    /// [`Rejection::UnknownTransaction`]: it is none, or too old.
    pub fn find(&self, id: TransactionId) -> Result<&Lots, Rejection> {
        let at = self.payouts.binary_search_by_key(&id.serial, |payout| payout.serial);
        let found = at.ok().map(|at| &self.payouts[at]).filter(|payout| payout.wallet == id.wallet);
        found.map(|payout| &payout.lots).ok_or(Rejection::UnknownTransaction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cashless::event::TransactionKind;
    use crate::cashless::terminal::blank;
    use crate::model::ids::FestivalId;
    use crate::model::money::Currency;

    #[test]
    fn the_latest_are_remembered_and_the_oldest_forgotten() {
        let (mut payouts, wallet) = (Payouts::default(), WalletId(7));
        let mut t = blank(TransactionKind::CashOut, FestivalId(1), wallet, Currency::EUR);
        for serial in 1..=PAYOUTS_MAX as u64 {
            t.serial = serial;
            payouts.push(&t);
        }
        let known = |payouts: &Payouts, serial| payouts.find(TransactionId { wallet, serial }).is_ok();
        assert!(known(&payouts, 1) && known(&payouts, PAYOUTS_MAX as u64));
        t.serial += 1;
        payouts.push(&t);
        assert!(!known(&payouts, 1) && known(&payouts, 2) && known(&payouts, t.serial));
        let of_another = TransactionId { wallet: WalletId(8), serial: 2 };
        assert_eq!(payouts.find(of_another), Err(Rejection::UnknownTransaction));
    }
}
