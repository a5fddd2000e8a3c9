//! Changes whose answer has one type: `node.ask_for(CreateZone { .. }, by, key)` gives a [`ZoneNo`]. An [`AdminAction`] and an
//! [`AdminAnswer`] are what travels to the shard and back.

use crate::cashless::command::{CashlessAction, ProductValues, VendorValues};
use crate::command::{AdminAction, AdminAnswer};
use crate::gates::command::CategoryValues;
use crate::model::ids::{
    CategoryNo, DeviceId, FestivalId, GateNo, ProductNo, TagUid, TransactionId, VendorNo, WalletId, ZoneNo,
};
use crate::model::money::Money;
use crate::model::status::{Policy, Role};
use crate::model::time::{Calendar, Timestamp};

/// A change that knows the type of its answer.
pub trait Ask {
    /// What it is answered with, unless it is refused.
    type Answer;
    /// What the shard is asked.
    fn action(self) -> AdminAction;
    /// The answer out of the shard's; `None` if that answers something else, which would be a bug.
    fn answer(answer: AdminAnswer) -> Option<Self::Answer>;
}

/// One change a line: its name and what it holds, the action that it stands for, the [`AdminAnswer`] to it.
macro_rules! asks {
    ($($(#[$doc:meta])* $name:ident { $($of:ident: $type:ty),* $(,)? } = $action:expr => $answer:ident($answered:ty);)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug)]
            pub struct $name { $(pub $of: $type),* }
            impl Ask for $name {
                type Answer = $answered;
                fn action(self) -> AdminAction {
                    let Self { $($of),* } = self;
                    $action
                }
                fn answer(answer: AdminAnswer) -> Option<$answered> {
                    if let AdminAnswer::$answer(answer) = answer { Some(answer) } else { None }
                }
            }
        )*
    };
}

asks! {
    /// [`AdminAction::CreateFestival`].
    CreateFestival {
        slug: String,
        name: String,
        starts_at: Timestamp,
        ends_at: Timestamp,
        policy: Policy,
        calendar: Calendar,
    } = AdminAction::CreateFestival { slug, name, starts_at, ends_at, policy, calendar } => Festival(FestivalId);
    /// A new zone: [`AdminAction::PutZone`].
    CreateZone { festival: FestivalId, name: String, parent: Option<ZoneNo>, capacity: u32 }
        = AdminAction::PutZone { festival, zone: None, name, parent, capacity } => Zone(ZoneNo);
    /// [`AdminAction::AddGate`].
    AddGate { festival: FestivalId, zone: ZoneNo, name: String }
        = AdminAction::AddGate { festival, zone, name } => Gate(GateNo);
    /// A new category: [`AdminAction::PutCategory`].
    CreateCategory { festival: FestivalId, values: CategoryValues }
        = AdminAction::PutCategory { festival, category: None, values } => Category(CategoryNo);
    /// [`AdminAction::OfferEnrolment`]: until when the code is good.
    OfferEnrolment { festival: FestivalId, gate: GateNo, code_hash: [u8; 32], name: String }
        = AdminAction::OfferEnrolment { festival, gate, code_hash, name } => CodeUntil(Timestamp);
    /// [`AdminAction::EnrolDevice`].
    EnrolDevice { festival: FestivalId, code_hash: [u8; 32], public_key: [u8; 32] }
        = AdminAction::EnrolDevice { festival, code_hash, public_key } => Device(DeviceId);
    /// [`AdminAction::RotateQrKey`]: the version from now on.
    RotateQrKey { festival: FestivalId } = AdminAction::RotateQrKey { festival } => QrKey(u32);
    /// [`AdminAction::CreateApiKey`]: its number.
    CreateApiKey { hash: [u8; 32], role: Role, festivals: Vec<FestivalId>, name: String }
        = AdminAction::CreateApiKey { hash, role, festivals, name } => ApiKey(u32);
    /// A new vendor: [`CashlessAction::PutVendor`].
    CreateVendor { festival: FestivalId, values: VendorValues }
        = AdminAction::Cashless(CashlessAction::PutVendor { festival, vendor: None, values }) => Vendor(VendorNo);
    /// A new product: [`CashlessAction::PutProduct`].
    CreateProduct { festival: FestivalId, vendor: VendorNo, values: ProductValues }
        = AdminAction::Cashless(CashlessAction::PutProduct { festival, vendor, product: None, values })
        => Product(ProductNo);
    /// [`CashlessAction::OfferTerminal`]: until when the code is good.
    OfferTerminal { festival: FestivalId, vendor: Option<VendorNo>, cashier: bool, code_hash: [u8; 32], name: String }
        = AdminAction::Cashless(CashlessAction::OfferTerminal { festival, vendor, cashier, code_hash, name })
        => CodeUntil(Timestamp);
    /// [`CashlessAction::CreateWallet`].
    CreateWallet { wallet: WalletId, festival: FestivalId, account: Option<u128> }
        = AdminAction::Cashless(CashlessAction::CreateWallet { wallet, festival, account }) => Wallet(WalletId);
    /// A wallet together with its wristband: [`CashlessAction::LinkTag`].
    SellWallet { tag: TagUid, wallet: WalletId, festival: FestivalId }
        = AdminAction::Cashless(CashlessAction::LinkTag { tag, wallet, festival, replace: false, create: true })
        => Wallet(WalletId);
}

/// Tickets straight from the organiser: [`AdminAction::IssueTickets`].
#[derive(Clone, Debug)]
pub struct IssueTickets {
    pub festival: FestivalId,
    pub category: CategoryNo,
    /// One for each ticket.
    pub holders: Vec<Option<u128>>,
    pub paid: bool,
    pub seed: u64,
}

/// What [`crate::command::issued`] makes the tickets of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issued {
    pub festival: FestivalId,
    pub category: CategoryNo,
    pub first_serial: u32,
    pub count: u32,
    pub seed: u64,
}

impl Ask for IssueTickets {
    type Answer = Issued;
    fn action(self) -> AdminAction {
        let Self { festival, category, holders, paid, seed } = self;
        AdminAction::IssueTickets { festival, category, holders, paid, seed }
    }
    fn answer(answer: AdminAnswer) -> Option<Issued> {
        let AdminAnswer::Issued { festival, category, first_serial, count, seed } = answer else { return None };
        Some(Issued { festival, category, first_serial, count, seed })
    }
}

/// Money moves: any [`CashlessAction`] that is answered so.
#[derive(Clone, Debug)]
pub struct MoveMoney(pub CashlessAction);

/// The fields of [`AdminAnswer::Transaction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoneyMoved {
    pub id: TransactionId,
    pub amount: Money,
    pub balance: i64,
    pub over_limit: bool,
    /// The vendor's number for a payment; 0 for anything else.
    pub order: u32,
}

impl Ask for MoveMoney {
    type Answer = MoneyMoved;
    fn action(self) -> AdminAction {
        AdminAction::Cashless(self.0)
    }
    fn answer(answer: AdminAnswer) -> Option<MoneyMoved> {
        let AdminAnswer::Transaction { id, amount, balance, over_limit, order } = answer else { return None };
        Some(MoneyMoved { id, amount, balance, over_limit, order })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_another_kind_is_no_answer() {
        let festival = FestivalId(7);
        let gate = AddGate { festival, zone: ZoneNo(1), name: "North 1".into() };
        assert!(matches!(gate.action(), AdminAction::AddGate { zone: ZoneNo(1), .. }));
        assert_eq!(AddGate::answer(AdminAnswer::Gate(GateNo(3))), Some(GateNo(3)));
        assert_eq!(AddGate::answer(AdminAnswer::Zone(ZoneNo(3))), None);
        assert_eq!(MoveMoney::answer(AdminAnswer::Done), None);
    }
}
