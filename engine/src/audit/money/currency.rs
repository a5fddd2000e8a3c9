//! Another currency: nothing was booked in the one before, in no shard, and nothing is until all know how that came out.

use super::MoneyBooks;
use super::transfers::Op;
use crate::audit::{Check, Findings};
use crate::cashless::command::CashlessPolicy;
use crate::cashless::event::{Transaction, TransactionKind};
use crate::model::ids::FestivalId;

/// A festival of this shard's that is to have another currency.
pub(super) struct CurrencyChange {
    pub(super) festival: FestivalId,
    /// So many shards have not answered in this round.
    waits: u16,
    booked: bool,
    /// All have said whether they have booked anything; now they are told.
    decided: bool,
}

impl MoneyBooks {
    /// Nothing is booked at a festival until its currency is decided, and nothing was before.
    pub(super) fn hold(&mut self, festival: FestivalId, found: &mut Findings) {
        let first = self.held.insert(festival) && !self.has_booked(festival);
        found.check(Check::Currency, first, || format!("festival {festival} has books, and is to change its currency"));
    }

    /// Whether money has moved at a festival, or in a wallet of its own.
    fn has_booked(&self, festival: FestivalId) -> bool {
        self.accounts.contains_key(&festival)
            || self.wallets.iter().any(|(_, wallet)| wallet.issuer == festival && wallet.transactions > 0)
    }

    /// The festival's own shard asks all others.
    pub(super) fn changes(&mut self, festival: FestivalId, op: u64, others: u16, found: &mut Findings) {
        self.hold(festival, found);
        let all = others + 1 == self.of;
        found.check(Check::Currency, all, || format!("{others} shards are asked, there are {}", self.of));
        let change = CurrencyChange { festival, waits: others, booked: false, decided: false };
        self.op_begins(op, Op::Currency(change), found);
    }

    /// Another shard has said whether it has booked anything at a festival, or that it knows how that came out.
    pub(super) fn voted(&mut self, op: u64, said: bool, found: &mut Findings) {
        let heard = self.vote.take() == Some((op, said));
        let open = match self.ops.get_mut(&op) {
            Some(Op::Currency(change)) if change.waits > 0 => {
                change.booked |= said;
                change.waits -= 1;
                match (change.waits, change.decided) {
                    (0, false) => (change.decided, change.waits) = (true, self.of - 1),
                    (0, true) => {
                        self.held.remove(&change.festival);
                        self.ops.remove(&op);
                    }
                    _ => {}
                }
                true
            }
            _ => false,
        };
        found.check(Check::Currency, heard && open, || format!("operation {op} hears what nobody has said"));
    }

    /// It is decided, this shard is told.
    pub(super) fn released(&mut self, festival: FestivalId, found: &mut Findings) {
        let held = self.held.remove(&festival);
        found.check(Check::Currency, held, || format!("festival {festival} waited for nothing"));
    }

    /// Whether a shard is asked, or told that it is decided, when that is so.
    pub(super) fn agrees(&self, op: u64, of: FestivalId, decided: bool) -> bool {
        let open = self.ops.get(&op);
        matches!(open, Some(Op::Currency(change)) if (change.festival, change.decided) == (of, decided))
    }

    /// A festival has another policy, by its own shard or as told: another currency only if all have said that they have
    /// booked nothing. Its empty wallets follow, its products are off sale.
    pub(super) fn follows(&mut self, festival: FestivalId, policy: &CashlessPolicy) -> bool {
        let known = self.directory.get_mut(&festival).expect("just put");
        if known.policy.currency == policy.currency {
            return true;
        }
        let products = known.vendors.iter_mut().flat_map(|(_, products)| products);
        products.for_each(|product| product.on_sale = false);
        let own = self.wallets.iter_mut().filter(|wallet| wallet.issuer == festival && wallet.transactions == 0);
        own.for_each(|wallet| wallet.currency = policy.currency);
        let undecided = |op: &Op| matches!(op, Op::Currency(change) if change.festival == festival && (change.booked || !change.decided));
        let alone = self.of == 1 || self.held.contains(&festival);
        alone && !self.has_booked(festival) && !self.ops.values().any(undecided)
    }

    /// Money moves only where no currency is about to be another; what another shard has sent at the festival it has booked
    /// there, so that this one's stays.
    pub(super) fn not_held(&self, t: &Transaction, found: &mut Findings) {
        if self.held.is_empty() {
            return;
        }
        let issuer = self.wallets.get(t.wallet).map_or(t.festival, |wallet| wallet.issuer);
        let held = |festival| self.held.contains(&festival);
        let moves = held(issuer) && issuer != t.festival || held(t.festival) && t.kind != TransactionKind::TransferIn;
        found.check(Check::Currency, !moves, || format!("{:?} while the currency is about to change", t.id()));
    }
}
