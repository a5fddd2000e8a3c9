//! A wristband that goes through more hands than it remembers, while a terminal that it was held to has no network. Whether
//! that payment was taken, nobody can say afterwards.

use engine::cashless::command::{CashlessAction, Source, SourceKind};
use engine::model::ids::{FestivalId, Home, TagUid, WalletId};
use engine::model::money::Money;

use super::Check;
use super::bank::tag_of_number;
use super::disk::SHARDS;
use super::terminal::{Ask, Who};
use super::world::World;

/// Far from those of the bars' wallets, and of the tent's.
const WALLETS_FROM: u64 = 1 << 41;
/// One more than are remembered, and the one that it names in the end.
const HANDS: usize = engine::cashless::tag::EARLIER_MAX + 2;
/// Wristbands that nobody else has.
const TAGS_FROM: u64 = 100;

/// The first in a shard of its own, since a shard knows what any of its wallets has been asked.
fn hands() -> Vec<WalletId> {
    let shard = |wallet: WalletId| Home::Wallet(wallet).shard(SHARDS);
    let first = WalletId(WALLETS_FROM);
    let others = (WALLETS_FROM..).map(WalletId).filter(|wallet| shard(*wallet) != shard(first));
    std::iter::once(first).chain(others).take(HANDS).collect()
}

impl World {
    /// In one evening of four, before it begins.
    pub(super) fn goes_through_many_hands(&mut self) -> Check {
        if !self.dice.one_in(4) {
            return Ok(());
        }
        let (arrived, lost) = (self.dice.one_in(2), self.dice.one_in(4));
        let shop = self.bank.shops[0];
        let (festival, tag) = (shop.festival, tag_of_number(TAGS_FROM));
        let hands = hands();
        for &wallet in &hands {
            self.cashless_order(CashlessAction::CreateWallet { wallet, festival, account: None })?;
        }
        let money = |minor| Money { minor, currency: shop.currency };
        let source = Source::new(SourceKind::Card, festival, 1);
        self.cashless_order(CashlessAction::TopUp {
            wallet: hands[0],
            festival,
            amount: money(20),
            source,
            taken: true,
        })?;
        self.link(tag, hands[0], festival)?;
        // It is held to the first terminal, which hears nothing any more.
        let ask = Ask::Pay { who: Who::Tag(tag), amount: money(3), lines: Box::new([]) };
        let (device, connection, now) = (self.terminals[0].id, self.terminals[0].connection, (self.step, self.clock()));
        let frame = self.terminals[0].ask(now, ask, false);
        if arrived {
            self.frames_arrive(device, connection, vec![frame])?;
        }
        self.has_no_network();
        for (number, pair) in (TAGS_FROM + 1..).zip(hands.windows(2)) {
            // Another in its place makes it free.
            self.link(tag_of_number(number), pair[0], festival)?;
            self.link(tag, pair[1], festival)?;
        }
        if lost {
            self.cashless_order(CashlessAction::ReportTagLost { tag })?;
        }
        Ok(())
    }

    fn link(&mut self, tag: TagUid, wallet: WalletId, festival: FestivalId) -> Check {
        let (replace, create) = (true, false);
        self.cashless_order(CashlessAction::LinkTag { tag, wallet, festival, replace, create })?;
        self.has_no_network();
        Ok(())
    }

    /// What the first terminal sends is lost, and so is what it is told.
    fn has_no_network(&mut self) {
        drop(self.terminals[0].reconnect(self.step));
    }
}
