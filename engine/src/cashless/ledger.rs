//! The books of one festival in one shard: what each account comes to, kept up with every posting. Added up over the
//! accounts it is zero at any moment; added up over the shards it is the festival's books.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::cashless::command::Source;
use crate::cashless::event::{Transaction, TransactionKind};
use crate::cashless::view::{GiftSums, LedgerView, RefusedCash, VendorSums};
use crate::model::ids::VendorNo;
use crate::model::rejection::Rejection;
use crate::model::time::Timestamp;

/// How many of the latest rejections are shown.
pub const RECENT_MAX: usize = 32;

/// The accounts. Sums have 128 bits: no number of transactions overflows them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    wallets: i128,
    commission: i128,
    corrections: i128,
    in_transit: i128,
    /// By account ([`Source::account`]): one for each terminal and desk that took money, and three for each festival whose
    /// wallets came here. 5,000 terminals and 1,000 desks × 80 B = 480 kB.
    sources: BTreeMap<Source, i128>,
    gifts: GiftSums,
    vendors: Vec<VendorAccount>,
    /// In the order of [`TransactionKind::ALL`]: how many, and the sum of their amounts.
    kinds: [(u64, i128); TransactionKind::ALL.len()],
    /// Rejections by number.
    rejections: Vec<u64>,
    recent: VecDeque<RefusedCash>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct VendorAccount {
    payable: i128,
    sold: i128,
    refunded: i128,
    payments: u64,
    refunds: u64,
}

impl GiftSums {
    fn enter(&mut self, t: &Transaction) {
        let gift = || t.lots.iter().filter(|lot| lot.source.is_gift()).map(|lot| i128::from(lot.amount)).sum::<i128>();
        match t.kind {
            TransactionKind::Payment => self.spent += gift(),
            TransactionKind::Refund => self.spent -= gift(),
            TransactionKind::Correction if t.amount > 0 => self.given += gift(),
            TransactionKind::Correction => self.given -= gift(),
            TransactionKind::Lapse => self.lapsed += gift(),
            TransactionKind::TopUp
            | TransactionKind::TransferOut
            | TransactionKind::TransferIn
            | TransactionKind::TransferBack
            | TransactionKind::CashOut => {}
        }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            wallets: 0,
            commission: 0,
            corrections: 0,
            in_transit: 0,
            sources: BTreeMap::new(),
            vendors: Vec::new(),
            gifts: GiftSums::default(),
            kinds: [(0, 0); TransactionKind::ALL.len()],
            rejections: vec![0; Rejection::NUMBERS],
            recent: VecDeque::new(),
        }
    }
}

impl Ledger {
    /// Enters a transaction, or a refusal.
    pub(super) fn enter(&mut self, t: &Transaction, at: Timestamp) {
        if t.serial == 0 {
            self.refused(t, at);
            return;
        }
        let posting = &t.posting;
        self.wallets += i128::from(posting.wallet);
        self.commission += i128::from(posting.commission);
        self.corrections += i128::from(posting.corrections);
        self.in_transit += i128::from(posting.in_transit);
        if posting.source != 0 {
            let sign = i128::from(posting.source.signum());
            // A correction downwards takes gifts back to where they came from; the rest goes to the corrections.
            let all = t.kind != TransactionKind::Correction;
            for lot in t.lots.iter().filter(|lot| all || lot.source.is_gift()) {
                *self.sources.entry(lot.source.account()).or_default() += sign * i128::from(lot.amount);
            }
        }
        self.gifts.enter(t);
        let (count, sum) = &mut self.kinds[t.kind as usize - 1];
        *count += 1;
        *sum += i128::from(t.amount);
        if let TransactionKind::Payment | TransactionKind::Refund = t.kind {
            let vendor = usize::from(t.vendor.0);
            if self.vendors.len() <= vendor {
                self.vendors.resize(vendor + 1, VendorAccount::default());
            }
            let account = &mut self.vendors[vendor];
            account.payable += i128::from(posting.vendor);
            if t.kind == TransactionKind::Payment {
                account.sold += i128::from(t.amount);
                account.payments += 1;
            } else {
                account.refunded += i128::from(t.amount);
                account.refunds += 1;
            }
        }
    }

    fn refused(&mut self, t: &Transaction, at: Timestamp) {
        let Some(reason) = t.rejection else { return };
        self.rejections[reason as usize] += 1;
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_back();
        }
        let (device, kind, wallet, amount) = (t.by.map(|by| by.device), t.kind, t.wallet, t.amount);
        self.recent.push_front(RefusedCash { at, device, kind, reason, wallet, amount });
    }

    /// Whether any money has moved.
    pub fn has_any(&self) -> bool {
        self.kinds.iter().any(|(count, _)| *count > 0)
    }

    /// All accounts together: zero.
    pub fn sum(&self) -> i128 {
        let vendors = self.vendors.iter().map(|vendor| vendor.payable).sum::<i128>();
        let sources = self.sources.values().sum::<i128>();
        self.wallets + self.commission + self.corrections + self.in_transit + vendors + sources
    }

    /// For whoever watches.
    pub fn view(&self) -> LedgerView {
        let vendors = self.vendors.iter().zip(0..).map(|(account, no)| VendorSums {
            vendor: VendorNo(no),
            payable: account.payable,
            sold: account.sold,
            refunded: account.refunded,
            payments: account.payments,
            refunds: account.refunds,
        });
        let counted = |&reason: &Rejection| Some((reason, self.rejections[reason as usize])).filter(|(_, n)| *n > 0);
        LedgerView {
            wallets: self.wallets,
            vendors: vendors.collect(),
            commission: self.commission,
            sources: self.sources.iter().map(|(source, sum)| (*source, *sum)).collect(),
            corrections: self.corrections,
            in_transit: self.in_transit,
            gifts: self.gifts,
            kinds: TransactionKind::ALL.iter().zip(self.kinds).map(|(kind, (n, sum))| (*kind, n, sum)).collect(),
            rejections: Rejection::ALL.iter().filter_map(counted).collect(),
            latest: self.recent.iter().copied().collect(),
            terminals: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cashless::command::SourceKind;
    use crate::model::ids::FestivalId;

    /// A sum that has to be zero proves nothing unless it can be something else.
    #[test]
    fn every_account_is_in_the_sum() {
        let source = |number| Source::new(SourceKind::Desk, FestivalId(1), number);
        let vendor = |payable| VendorAccount { payable, ..VendorAccount::default() };
        let ledger = Ledger {
            wallets: 1,
            commission: 20,
            corrections: 300,
            in_transit: 4_000,
            sources: [(source(1), 50_000), (source(2), 600_000)].into(),
            vendors: vec![vendor(7_000_000), vendor(80_000_000)],
            ..Ledger::default()
        };
        assert_eq!(ledger.sum(), 87_654_321);
    }
}
