//! What can be asked of a shard without changing anything, and what it shows. A view is released, like any answer,
//! only when the record it depends on is durable.

pub mod question;

use serde::{Deserialize, Serialize};

use crate::cashless::command::CashlessPolicy;
use crate::cashless::event::Lots;
use crate::cashless::view::{CashlessView, LedgerView, PaymentView, TagView, WalletView};
use crate::gates::view::brief::{AboutView, StandView, StandingView};
use crate::gates::view::{DeviceView, FestivalView, LiveView, TicketView};
use crate::model::ids::{
    CategoryNo, DeviceId, FestivalId, Home, TagUid, TicketId, TransactionId, VendorNo, WalletId, ZoneNo,
};
use crate::model::rejection::Rejection;
use crate::model::status::{Role, ZoneState};
use crate::model::time::Timestamp;

/// A question to one home.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Query {
    /// All festivals of this shard, in few words. Asked of each shard in turn.
    Festivals,
    /// One festival with its zones, gates and categories.
    Festival(FestivalId),
    /// The same without those.
    About(FestivalId),
    Ticket(TicketId),
    /// The tickets of a festival with this printed code, among the next [`crate::gates::view::CODE_SCAN_MAX`] from this place on.
    TicketsByCode {
        festival: FestivalId,
        /// The code's 40 bits ([`crate::model::ids::TicketCode::bits`]).
        code: u64,
        /// Where to begin: category and serial.
        from: (CategoryNo, u32),
    },
    Device(DeviceId),
    /// One device, and what it is told when it connects.
    Standing(DeviceId),
    /// The lowest number that a terminal has not used. Asked of each shard in turn: each has answered some.
    NextSeq(DeviceId),
    /// The devices of a festival with numbers from `from`, at most `limit`.
    Devices {
        festival: FestivalId,
        /// The first number.
        from: u32,
        /// How many at most.
        limit: u32,
    },
    /// What became of an enrolment code, by its SHA-256.
    EnrolmentCode(FestivalId, [u8; 32]),
    /// Counters of gates, zones and reasons, and the latest rejections.
    Live(FestivalId),
    /// Who is in a zone: tickets after `after`, at most `limit`.
    Inside {
        festival: FestivalId,
        zone: ZoneNo,
        /// The last ticket of the page before.
        after: Option<TicketId>,
        /// How many at most.
        limit: u32,
    },
    /// The operator's key with this SHA-256.
    ApiKey([u8; 32]),
    /// All operators' keys.
    ApiKeys,
    Wallet(WalletId),
    /// The wallets of an account. Asked of each shard in turn.
    WalletsOf(u128),
    /// What a tag names.
    Tag(TagUid),
    /// A payment, while it can be refunded.
    Payment(TransactionId),
    /// A festival's cashless policy and vendors.
    Cashless(FestivalId),
    /// Where the money of a cash-out went, for the latest [`crate::cashless::payouts::PAYOUTS_MAX`] of a shard.
    CashOut(TransactionId),
    /// Its cashless policy alone.
    CashlessPolicy(FestivalId),
    /// One of its vendors, with the policy.
    Stand(FestivalId, VendorNo),
    /// One shard's part of a festival's books. Asked of each shard in turn.
    Ledger(FestivalId),
}

impl Query {
    /// Whose question it is; `None` for one that each shard answers for itself.
    pub fn home(&self) -> Option<Home> {
        match self {
            Self::Festivals | Self::Ledger(_) | Self::NextSeq(_) | Self::WalletsOf(_) => None,
            Self::Festival(f) | Self::EnrolmentCode(f, _) | Self::Live(f) | Self::Cashless(f) => {
                Some(Home::Festival(*f))
            }
            Self::Devices { festival, .. } | Self::Inside { festival, .. } | Self::TicketsByCode { festival, .. } => {
                Some(Home::Festival(*festival))
            }
            Self::Ticket(ticket) => Some(Home::Festival(ticket.festival())),
            Self::About(f) | Self::CashlessPolicy(f) | Self::Stand(f, _) => Some(Home::Festival(*f)),
            Self::Device(device) | Self::Standing(device) => Some(Home::Festival(device.festival())),
            Self::ApiKey(_) | Self::ApiKeys => Some(Home::Platform),
            Self::Wallet(wallet) => Some(Home::Wallet(*wallet)),
            Self::Tag(tag) => Some(Home::Tag(*tag)),
            Self::Payment(id) | Self::CashOut(id) => Some(Home::Wallet(id.wallet)),
        }
    }
}

/// The answer to a [`Query`], of the same name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum View {
    /// To [`Query::Festivals`].
    Festivals(Vec<AboutView>),
    /// To [`Query::Festival`].
    Festival(Box<FestivalView>),
    /// To [`Query::About`].
    About(Box<AboutView>),
    /// To [`Query::Ticket`].
    Ticket(TicketView),
    /// To [`Query::TicketsByCode`]: those found, at most [`crate::gates::view::CODE_FOUND_MAX`], and where to go on.
    TicketsByCode(Vec<TicketView>, Option<(CategoryNo, u32)>),
    /// To [`Query::Device`].
    Device(DeviceView),
    /// To [`Query::Standing`].
    Standing(Box<StandingView>),
    /// To [`Query::NextSeq`].
    NextSeq(u64),
    /// To [`Query::Devices`].
    Devices(Vec<DeviceView>),
    /// To [`Query::EnrolmentCode`]: it is good, or was.
    EnrolmentCode {
        /// The key that has used it.
        used_by: Option<[u8; 32]>,
    },
    /// To [`Query::Live`].
    Live(Box<LiveView>),
    /// To [`Query::Inside`].
    Inside(Vec<TicketId>),
    /// To [`Query::ApiKey`].
    ApiKey(ApiKeyView),
    /// To [`Query::ApiKeys`].
    ApiKeys(Vec<ApiKeyView>),
    /// To [`Query::Wallet`].
    Wallet(WalletView),
    /// To [`Query::WalletsOf`].
    Wallets(Vec<WalletView>),
    /// To [`Query::Tag`].
    Tag(TagView),
    /// To [`Query::Payment`].
    Payment(PaymentView),
    /// To [`Query::Cashless`].
    Cashless(Box<CashlessView>),
    /// To [`Query::CashOut`].
    CashOut(Box<Lots>),
    /// To [`Query::CashlessPolicy`].
    CashlessPolicy(CashlessPolicy),
    /// To [`Query::Stand`].
    Stand(Box<StandView>),
    /// To [`Query::Ledger`].
    Ledger(Box<LedgerView>),
    /// There is no such thing (`unknown_…`), or the shard cannot answer now (`busy`, `unavailable`).
    No(Rejection),
}

/// What a terminal is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// For whom it takes payments.
    pub vendor: Option<VendorNo>,
    /// Whether it tops up with cash.
    pub cashier: bool,
}

/// An operator's key, without the key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApiKeyView {
    /// Its number.
    pub no: u32,
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// At which festivals; none means all.
    pub festivals: Vec<FestivalId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Refused.
    pub revoked: bool,
}

/// Something that connected devices are told unasked, once it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// A zone opened, closed, or is being evacuated.
    Zone { festival: FestivalId, zone: ZoneNo, state: ZoneState },
    /// This device is refused from now on.
    DeviceRevoked(DeviceId),
    /// Answers leave at another moment from now on; the festival's devices are to say hello again.
    PolicyChanged(FestivalId),
}
