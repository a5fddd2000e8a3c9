//! Gifts end with their festival: what is left of them lapses, a transaction for each wallet, so that the books say where
//! it went.

use crate::cashless::Cashless;
use crate::cashless::command::Source;
use crate::cashless::event::{Lots, Posting, Transaction, TransactionKind};
use crate::cashless::terminal::blank;
use crate::model::time::Timestamp;

/// So many wallets' gifts lapse at one tick: 256 × about 150 B = 38 KiB of a record. A hundred thousand wallets over
/// sixteen shards take 25 ticks.
pub const LAPSE_MAX: usize = 256;

impl Cashless {
    /// The next gift that lapses.
    pub(crate) fn decide_lapse(&self, now: Timestamp) -> Option<Transaction> {
        let mut over = self.directory.festivals().filter(|(_, festival)| festival.gifts_lapse(now));
        let (festival, slot) = over.find_map(|(id, _)| self.wallets.holder_of_gift(id).map(|slot| (id, slot)))?;
        let wallet = self.wallets.at(slot);
        let gift = self.wallets.gift(slot, festival);
        let mut t = blank(TransactionKind::Lapse, festival, wallet.id, wallet.currency);
        (t.amount, t.before, t.after) = (gift, wallet.available, wallet.available);
        t.lots = Lots::one(Source::gift(festival), gift);
        t.posting = Posting { wallet: -gift, source: gift, ..Posting::default() };
        self.book(&mut t).ok()?;
        Some(t)
    }
}
