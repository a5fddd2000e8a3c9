//! A festival that is not open yet, whose office cannot make up its mind about the currency. Sooner or later somebody
//! brings money, here or to another festival that takes this one's wallets, and then it stays.

use engine::cashless::command::{CashlessAction, Source, SourceKind};
use engine::command::AdminAction;
use engine::model::ids::{FestivalId, Home, WalletId};
use engine::model::money::{Currency, Money};
use engine::model::status::{FestivalStatus, Policy};
use engine::model::time::{Calendar, Timestamp};

use super::Check;
use super::bank::{policy, product_values, vendor_values};
use super::disk::SHARDS;
use super::world::World;

/// The festival, with an empty wallet in each shard.
#[derive(Default)]
pub(super) struct Tent {
    wallets: Vec<WalletId>,
    /// What the office asked for last.
    currency: Option<Currency>,
}

/// Far from those of the bars' wallets.
const WALLETS_FROM: u64 = 1 << 40;

fn festival() -> FestivalId {
    FestivalId::of_slug("tent")
}

fn currency(code: &str) -> Currency {
    Currency::parse(code).expect("three letters")
}

impl World {
    pub(super) fn pitch(&mut self) -> Check {
        let festival = festival();
        self.order(AdminAction::CreateFestival {
            slug: "tent".into(),
            name: "tent".into(),
            starts_at: Timestamp(0),
            ends_at: Timestamp(i64::MAX),
            policy: Policy::default(),
            calendar: Calendar::default(),
        })?;
        self.order(AdminAction::SetFestivalStatus { festival, to: FestivalStatus::Published })?;
        let policy = policy(Currency::EUR, &mut self.dice);
        self.order(AdminAction::Cashless(CashlessAction::SetPolicy { festival, policy }))?;
        let values = vendor_values(true, &mut self.dice);
        let vendor = engine::model::ids::VendorNo(0);
        self.order(AdminAction::Cashless(CashlessAction::PutVendor { festival, vendor: None, values }))?;
        let values = product_values(3, true);
        self.order(AdminAction::Cashless(CashlessAction::PutProduct { festival, vendor, product: None, values }))?;
        for shard in 0..SHARDS {
            let mut ids = (WALLETS_FROM..).map(WalletId);
            let wallet = ids.find(|id| Home::Wallet(*id).shard(SHARDS).0 == shard).expect("ids do not end");
            self.order(AdminAction::Cashless(CashlessAction::CreateWallet { wallet, festival, account: None }))?;
            self.tent.wallets.push(wallet);
        }
        Ok(())
    }

    /// Another currency, perhaps while somebody brings money.
    pub(super) fn tent_thinks(&mut self) {
        let festival = festival();
        let before = self.tent.currency.unwrap_or(Currency::EUR);
        let after = currency(self.dice.pick(&["EUR", "CHF", "JPY"]));
        self.tent.currency = Some(after);
        let policy = policy(after, &mut self.dice);
        self.admin_asks(AdminAction::Cashless(CashlessAction::SetPolicy { festival, policy }));
        if !self.dice.one_in(4) {
            return;
        }
        let (wallet, at) = (self.dice.pick(&self.tent.wallets), self.sites[0].festival);
        let festival = if self.dice.one_in(3) { at } else { festival };
        let amount = Money { minor: 10, currency: self.dice.pick(&[before, after]) };
        let source = Source::new(SourceKind::Desk, festival, 1);
        self.admin_asks(AdminAction::Cashless(CashlessAction::TopUp {
            wallet,
            festival,
            amount,
            source,
            taken: false,
        }));
    }
}
