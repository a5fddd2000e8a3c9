//! Questions whose answer has one type: `node.get(GetWallet(id))` gives a [`WalletView`]. A [`Query`] and a [`View`] are what
//! travels to the shard and back.

use crate::cashless::command::CashlessPolicy;
use crate::cashless::event::Lots;
use crate::cashless::view::{CashlessView, LedgerView, PaymentView, TagView, WalletView};
use crate::gates::view::brief::{AboutView, StandView};
use crate::gates::view::{DeviceView, FestivalView, LiveView, TicketView};
use crate::model::ids::{
    CategoryNo, DeviceId, FestivalId, TagUid, TicketId, TransactionId, VendorNo, WalletId, ZoneNo,
};
use crate::view::{ApiKeyView, Query, View};

/// A question that knows the type of its answer.
pub trait Question {
    /// What it is answered with, unless it is refused.
    type Answer;
    /// What the shard is asked.
    fn query(self) -> Query;
    /// The answer out of what the shard shows; `None` if that answers something else, which would be a bug.
    fn answer(view: View) -> Option<Self::Answer>;
}

/// One question a line: its name and what it holds, the [`Query`] of the same fields, the [`View`] that answers it.
macro_rules! questions {
    (@one $(#[$doc:meta])* $name:ident, ($($of:ident: $type:ty),*), $query:ident, $view:ident, $answer:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name($(pub $type),*);
        impl Question for $name {
            type Answer = $answer;
            fn query(self) -> Query {
                let Self($($of),*) = self;
                Query::$query($($of),*)
            }
            fn answer(view: View) -> Option<$answer> {
                if let View::$view(answer) = view { Some(answer) } else { None }
            }
        }
    };
    (@one $(#[$doc:meta])* $name:ident, {$($of:ident: $type:ty),*}, $query:ident, $view:ident, $answer:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name { $(pub $of: $type),* }
        impl Question for $name {
            type Answer = $answer;
            fn query(self) -> Query {
                let Self { $($of),* } = self;
                Query::$query { $($of),* }
            }
            fn answer(view: View) -> Option<$answer> {
                if let View::$view(answer) = view { Some(answer) } else { None }
            }
        }
    };
    ($($(#[$doc:meta])* $name:ident $holds:tt as $query:ident => $view:ident($answer:ty);)*) => {
        $(questions! { @one $(#[$doc])* $name, $holds, $query, $view, $answer })*
    };
}

questions! {
    /// [`Query::Festival`].
    GetFestival(festival: FestivalId) as Festival => Festival(Box<FestivalView>);
    /// [`Query::About`].
    GetAbout(festival: FestivalId) as About => About(Box<AboutView>);
    /// [`Query::Ticket`].
    GetTicket(ticket: TicketId) as Ticket => Ticket(TicketView);
    /// [`Query::Device`].
    GetDevice(device: DeviceId) as Device => Device(DeviceView);
    /// [`Query::Devices`].
    GetDevices { festival: FestivalId, from: u32, limit: u32 } as Devices => Devices(Vec<DeviceView>);
    /// [`Query::Live`].
    GetLive(festival: FestivalId) as Live => Live(Box<LiveView>);
    /// [`Query::Inside`].
    GetInside { festival: FestivalId, zone: ZoneNo, after: Option<TicketId>, limit: u32 } as Inside
        => Inside(Vec<TicketId>);
    /// [`Query::Wallet`].
    GetWallet(wallet: WalletId) as Wallet => Wallet(WalletView);
    /// [`Query::WalletsOf`].
    GetWalletsOf(account: u128) as WalletsOf => Wallets(Vec<WalletView>);
    /// [`Query::Tag`].
    GetTag(tag: TagUid) as Tag => Tag(TagView);
    /// [`Query::Payment`].
    GetPayment(payment: TransactionId) as Payment => Payment(PaymentView);
    /// [`Query::Cashless`].
    GetCashless(festival: FestivalId) as Cashless => Cashless(Box<CashlessView>);
    /// [`Query::CashOut`].
    GetCashOut(cash_out: TransactionId) as CashOut => CashOut(Box<Lots>);
    /// [`Query::CashlessPolicy`].
    GetCashlessPolicy(festival: FestivalId) as CashlessPolicy => CashlessPolicy(CashlessPolicy);
    /// [`Query::Stand`].
    GetStand(festival: FestivalId, vendor: VendorNo) as Stand => Stand(Box<StandView>);
    /// [`Query::Ledger`].
    GetLedger(festival: FestivalId) as Ledger => Ledger(Box<LedgerView>);
}

/// [`Query::Festivals`].
#[derive(Clone, Copy, Debug)]
pub struct GetFestivals;

impl Question for GetFestivals {
    type Answer = Vec<AboutView>;
    fn query(self) -> Query {
        Query::Festivals
    }
    fn answer(view: View) -> Option<Vec<AboutView>> {
        if let View::Festivals(festivals) = view { Some(festivals) } else { None }
    }
}

/// [`Query::ApiKeys`].
#[derive(Clone, Copy, Debug)]
pub struct GetApiKeys;

impl Question for GetApiKeys {
    type Answer = Vec<ApiKeyView>;
    fn query(self) -> Query {
        Query::ApiKeys
    }
    fn answer(view: View) -> Option<Vec<ApiKeyView>> {
        if let View::ApiKeys(keys) = view { Some(keys) } else { None }
    }
}

/// [`Query::TicketsByCode`]: those found, and where to go on.
#[derive(Clone, Copy, Debug)]
pub struct GetTicketsByCode {
    pub festival: FestivalId,
    /// The code's 40 bits.
    pub code: u64,
    /// Where to begin: category and serial.
    pub from: (CategoryNo, u32),
}

impl Question for GetTicketsByCode {
    type Answer = (Vec<TicketView>, Option<(CategoryNo, u32)>);
    fn query(self) -> Query {
        let Self { festival, code, from } = self;
        Query::TicketsByCode { festival, code, from }
    }
    fn answer(view: View) -> Option<Self::Answer> {
        if let View::TicketsByCode(found, next) = view { Some((found, next)) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_another_kind_is_no_answer() {
        let wallet = WalletId(7);
        assert!(matches!(GetWallet(wallet).query(), Query::Wallet(asked) if asked == wallet));
        assert!(matches!(GetInside::answer(View::Inside(Vec::new())), Some(inside) if inside.is_empty()));
        assert!(GetWallet::answer(View::Inside(Vec::new())).is_none());
    }
}
