//! A festival's currency can be changed as long as nothing was booked in it: neither in its books, nor in a wallet that it
//! has issued, be that at another festival. Wallets, and with them the books, lie in all shards; so the festival's shard asks
//! each of the others, and each that has booked nothing there books nothing until it is told how it came out. Whoever asks
//! meanwhile is told `busy`, and nothing of it is remembered.
//!
//! ```text
//! home: CurrencyChanging      ── CurrencyAsk ──→           other: CurrencyHeld, unless it has booked something
//! home: CurrencyVoted         ←── CurrencyVote ──
//! all have said no: PolicySet ── Directory, CurrencyDecided ──→    other: CurrencyReleased
//! home: CurrencyVoted         ←── CurrencyVote ──          the last one ends the operation: everybody knows
//! ```
//! Where one has said yes, everything stays as it was, and the decision is just the release.
//!
//! Transfers come as they please. One that was sent at this festival comes from a shard which has booked it, and so will
//! say yes, or has said so: it is taken even by a shard that waits. One in the new currency may come before that shard has
//! heard of it: it is declined (`wrong_currency`), and the money is back where it was.

use crate::cashless::command::CashlessPolicy;
use crate::cashless::event::CashlessEvent;
use crate::cashless::operations::{Asker, CurrencyChange, Op, OpKind};
use crate::cashless::wallet::Wallet;
use crate::cashless::{Cashless, Finished};
use crate::command::AdminAnswer;
use crate::model::ids::FestivalId;
use crate::model::rejection::Rejection;
use crate::model::status::FestivalStatus;
use crate::model::time::Timestamp;
use crate::plants::{Plant, planted};
use crate::shard::outbox::Entry;

impl Cashless {
    /// A festival's new policy, or what has to be asked of the `others` before.
    pub(super) fn decide_policy(
        &self,
        festival: FestivalId,
        policy: CashlessPolicy,
        status: FestivalStatus,
        others: u16,
    ) -> Result<CashlessEvent, Rejection> {
        let set = CashlessEvent::PolicySet { festival, policy, status };
        let Ok(known) = self.directory.get(festival) else { return Ok(set) };
        match () {
            // The same key may come again when that is over.
            () if known.is_changing => Err(Rejection::Busy),
            () if known.policy.currency == policy.currency => Ok(set),
            () if self.has_booked(festival) => Err(Rejection::CurrencyInUse),
            () if others == 0 => Ok(set),
            () => Ok(CashlessEvent::CurrencyChanging { festival, policy, op: self.ops.next(), others }),
        }
    }

    /// Whether anything has been booked here at a festival, or in a wallet that it has issued.
    pub(crate) fn has_booked(&self, festival: FestivalId) -> bool {
        let books = self.directory.get(festival).is_ok_and(|known| known.ledger.has_any());
        let booked = books || self.wallets.any_used(festival);
        booked && !planted(Plant::CurrencyForgets)
    }

    /// Whether money may move in a wallet at a festival: the currency of neither is about to be another.
    ///
    /// # Errors
    /// [`Rejection::Busy`].
    pub(super) fn is_settled(&self, festival: FestivalId, wallet: &Wallet) -> Result<(), Rejection> {
        self.directory.get(festival)?.is_settled()?;
        if wallet.issuer == festival { Ok(()) } else { self.directory.get(wallet.issuer)?.is_settled() }
    }

    /// Whether nothing is booked here at a festival until its currency is decided.
    pub(crate) fn is_held(&self, festival: FestivalId) -> bool {
        self.directory.get(festival).is_ok_and(|known| known.is_changing)
    }

    /// The change of currency with this number, if it is not over.
    pub(crate) fn currency_change(&self, op: u64) -> Option<&CurrencyChange> {
        match &self.ops.get(op)?.kind {
            OpKind::Currency(change) => Some(change),
            OpKind::Transfer(_) | OpKind::Giving(_) | OpKind::Loss { .. } => None,
        }
    }

    /// The policy that a festival has by this change, now that all have said that nothing is booked.
    pub(crate) fn changed_policy(&self, change: &CurrencyChange) -> Option<CashlessEvent> {
        let status = self.directory.get(change.festival).ok()?.status;
        let (festival, policy) = (change.festival, change.policy);
        (change.decided && !change.booked).then_some(CashlessEvent::PolicySet { festival, policy, status })
    }

    pub(super) fn apply_currency(&mut self, event: &CashlessEvent, asker: Asker, at: Timestamp) -> Option<Finished> {
        match event {
            CashlessEvent::CurrencyChanging { festival, policy, op, others } => {
                self.set_changing(*festival, true);
                let (festival, policy, others, waits) = (*festival, *policy, *others, *others);
                let change = CurrencyChange { festival, policy, others, waits, booked: false, decided: false };
                let kind = OpKind::Currency(change);
                self.ops.begin(*op, Op { asker, since: at, cancel_asked: false, kind });
            }
            CashlessEvent::CurrencyHeld { festival } => self.set_changing(*festival, true),
            CashlessEvent::CurrencyReleased { festival } => self.set_changing(*festival, false),
            CashlessEvent::CurrencyVoted { op, booked } => {
                let change = self.ops.change_mut(*op)?;
                change.waits -= 1;
                change.booked |= *booked;
                if change.waits > 0 {
                    return None;
                }
                if !change.decided {
                    (change.decided, change.waits) = (true, change.others);
                    return None;
                }
                let (festival, booked) = (change.festival, change.booked);
                self.set_changing(festival, false);
                let over = self.ops.end(*op)?;
                let answer = if booked { AdminAnswer::Rejected(Rejection::CurrencyInUse) } else { AdminAnswer::Done };
                return Some((*op, over.asker, answer));
            }
            _ => {}
        }
        None
    }

    fn set_changing(&mut self, festival: FestivalId, is_changing: bool) {
        self.directory.get_mut(festival).expect("decided").is_changing = is_changing;
    }

    /// Writes a line of the directory down. Another currency is that of the festival's empty wallets too, and its products
    /// are off sale until their prices are said anew.
    pub(crate) fn put(&mut self, entry: &Entry, at: Timestamp) {
        if let Entry::Festival { festival, policy, .. } = entry
            && let Some(known) = self.directory.get_mut(*festival)
            && known.policy.currency != policy.currency
        {
            known.take_off_sale();
            self.wallets.redenominate(*festival, policy.currency);
        }
        self.directory.put(entry, at);
    }
}
