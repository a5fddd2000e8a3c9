//! What can be asked of a shard without changing anything, and what it shows. A view is released, like any answer,
//! only when the record it depends on is durable.

mod brief;
mod cash;

pub use brief::*;
pub use cash::*;

use crate::command::{CashPolicy, CategoryValues, FirstUse};
use crate::event::Lots;
use crate::ids::{
    CategoryNo, DeviceId, FestivalId, GateNo, Home, TagUid, TicketId, TransactionId, VendorNo, WalletId, ZoneNo,
};
use crate::rejection::Rejection;
use crate::status::{FestivalStatus, Policy, Role, TicketStatus, ZoneState};
use crate::time::{Calendar, Timestamp};

/// A question to one home.
#[derive(Clone, Copy, Debug)]
pub enum Query {
    /// All festivals of this shard, in few words. Asked of each shard in turn.
    Festivals,
    /// One festival with its zones, gates and categories.
    Festival(FestivalId),
    /// The same without those.
    About(FestivalId),
    Ticket(TicketId),
    /// The tickets of a festival with this printed code, among the next [`CODE_SCAN_MAX`] from this place on.
    TicketsByCode {
        festival: FestivalId,
        /// The code's 40 bits ([`crate::ids::TicketCode::bits`]).
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
    /// What a chip names.
    Tag(TagUid),
    /// A payment, while it can be refunded.
    Payment(TransactionId),
    /// A festival's cashless policy and vendors.
    Cash(FestivalId),
    /// Where the money of a cash-out went, for the latest [`crate::cash::payouts::PAYOUTS_MAX`] of a shard.
    CashOut(TransactionId),
    /// Its cashless policy alone.
    CashPolicy(FestivalId),
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
            Self::Festival(f) | Self::EnrolmentCode(f, _) | Self::Live(f) | Self::Cash(f) => Some(Home::Festival(*f)),
            Self::Devices { festival, .. } | Self::Inside { festival, .. } | Self::TicketsByCode { festival, .. } => {
                Some(Home::Festival(*festival))
            }
            Self::Ticket(ticket) => Some(Home::Festival(ticket.festival())),
            Self::About(f) | Self::CashPolicy(f) | Self::Stand(f, _) => Some(Home::Festival(*f)),
            Self::Device(device) | Self::Standing(device) => Some(Home::Festival(device.festival())),
            Self::ApiKey(_) | Self::ApiKeys => Some(Home::Platform),
            Self::Wallet(wallet) => Some(Home::Wallet(*wallet)),
            Self::Tag(tag) => Some(Home::Tag(*tag)),
            Self::Payment(id) | Self::CashOut(id) => Some(Home::Wallet(id.wallet)),
        }
    }
}

/// How many tickets one [`Query::TicketsByCode`] looks at: 262,144 × 64 B are 16 MiB, about 2 ms of the festival's shard.
pub const CODE_SCAN_MAX: usize = 1 << 18;
/// How many tickets one [`Query::TicketsByCode`] finds at most. A code has 40 bits: two of a million tickets share theirs
/// at one festival in two.
pub const CODE_FOUND_MAX: usize = 16;

/// The answer to a [`Query`], of the same name.
#[derive(Clone, Debug)]
pub enum View {
    /// To [`Query::Festivals`].
    Festivals(Vec<AboutView>),
    /// To [`Query::Festival`].
    Festival(Box<FestivalView>),
    /// To [`Query::About`].
    About(Box<AboutView>),
    /// To [`Query::Ticket`].
    Ticket(TicketView),
    /// To [`Query::TicketsByCode`]: those found, at most [`CODE_FOUND_MAX`], and where to go on.
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
    /// To [`Query::Cash`].
    Cash(Box<CashView>),
    /// To [`Query::CashOut`].
    CashOut(Box<Lots>),
    /// To [`Query::CashPolicy`].
    CashPolicy(CashPolicy),
    /// To [`Query::Stand`].
    Stand(Box<StandView>),
    /// To [`Query::Ledger`].
    Ledger(Box<LedgerView>),
    /// There is no such thing (`unknown_…`), or the shard cannot answer now (`busy`, `unavailable`).
    No(Rejection),
}

#[derive(Clone, Debug)]
pub struct FestivalView {
    pub id: FestivalId,
    /// Its name in addresses.
    pub slug: String,
    pub name: String,
    /// When it begins.
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    /// Where it is; empty: nobody has said so.
    pub location: String,
    /// How many people the site is meant for.
    pub max_capacity: Option<u32>,
    /// Where it is in its life.
    pub status: FestivalStatus,
    /// How its gates behave.
    pub policy: Policy,
    /// How its days are told.
    pub calendar: Calendar,
    /// The version of the key that signs QRs now; it and the one before are accepted.
    pub qr_version: u32,
    /// Its zones, by number.
    pub zones: Vec<ZoneView>,
    /// Its gates, by number.
    pub gates: Vec<GateView>,
    /// Its categories, by number.
    pub categories: Vec<CategoryView>,
    /// How many devices were ever enrolled.
    pub devices: u32,
}

#[derive(Clone, Debug)]
pub struct ZoneView {
    /// Its number.
    pub no: ZoneNo,
    pub name: String,
    /// The zone it lies in; none for a perimeter.
    pub parent: Option<ZoneNo>,
    /// How many it holds.
    pub capacity: u32,
    /// How many are in it.
    pub occupancy: u32,
    /// Entries less undone entries, ever.
    pub admitted: u64,
    /// Exits less undone exits, ever; leaving a perimeter counts for the zones inside it too.
    pub left: u64,
    /// Whether it lets people in.
    pub state: ZoneState,
}

/// A gate, with what it has done since the festival was made.
#[derive(Clone, Debug)]
pub struct GateView {
    /// Its number.
    pub no: GateNo,
    pub name: String,
    /// The zone it leads into.
    pub zone: ZoneNo,
    /// Entries less undone ones.
    pub admitted: u64,
    /// Exits less undone ones.
    pub exited: u64,
    /// Entries and exits that were undone.
    pub undone: u64,
    /// Rejections.
    pub rejected: u64,
}

#[derive(Clone, Debug)]
pub struct CategoryView {
    /// Its number.
    pub no: CategoryNo,
    pub values: CategoryValues,
    /// Tickets ever issued: the next serial.
    pub issued: u32,
    /// Tickets that take a place now (RESERVED, SOLD, USED).
    pub live: u32,
    /// Of these, those that have entered.
    pub used: u32,
}

#[derive(Clone, Debug)]
pub struct TicketView {
    /// Its wristband.
    pub tag: Option<TagUid>,
    /// The wristband was reported lost.
    pub tag_lost: bool,
    pub id: TicketId,
    /// Where it is in its life.
    pub status: TicketStatus,
    /// Blocked by the organiser.
    pub blocked: bool,
    /// The zones its holder is in, as a mask.
    pub inside: u64,
    /// When and where it first came in.
    pub first_use: Option<FirstUse>,
    /// The version with which its QR is to be signed now.
    pub qr_version: u32,
}

#[derive(Clone, Debug)]
pub struct DeviceView {
    pub id: DeviceId,
    /// What it is called.
    pub name: String,
    /// Where it stands; of no meaning for a terminal.
    pub gate: GateNo,
    /// The zone that gate leads into; of no meaning for a terminal.
    pub zone: ZoneNo,
    /// What it is allowed, if it is a terminal; else it is a reader.
    pub terminal: Option<Till>,
    /// Ed25519.
    pub public_key: [u8; 32],
    /// Refused.
    pub revoked: bool,
    pub enrolled_at: Timestamp,
    /// When it last asked something that was recorded.
    pub last_seen_at: Timestamp,
    /// By how much its clock was ahead when that could be seen last; behind, if negative.
    pub clock_off_ms: i64,
    /// The server's keys that it trusts, as in [`crate::event::Event::DevicePins`]; 0: none, or nobody knows.
    pub pins: [u64; 2],
    /// The lowest `seq` it may use next: one above the highest it has been answered.
    pub next_seq: u64,
    /// When answers leave at its festival.
    pub ack: crate::status::ScanAck,
}

/// What a terminal is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Till {
    /// For whom it takes payments.
    pub vendor: Option<VendorNo>,
    /// Whether it tops up with cash.
    pub cashier: bool,
}

/// A festival's counters at one moment. Rates are differences of two.
#[derive(Clone, Debug)]
pub struct LiveView {
    /// The shard's time.
    pub at: Timestamp,
    /// Where the festival is in its life.
    pub status: FestivalStatus,
    /// Zones with their occupancy.
    pub zones: Vec<ZoneView>,
    /// Gates with their counters.
    pub gates: Vec<GateView>,
    /// Rejections by reason, those that have occurred.
    pub rejections: Vec<(Rejection, u64)>,
    /// Scans whose shown answer stood against what would have been decided.
    pub conflicts: u64,
    /// The latest rejections, newest first, at most 32.
    pub latest: Vec<RecentRejection>,
}

/// One of the latest rejections.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct RecentRejection {
    pub at: Timestamp,
    pub gate: GateNo,
    /// By which reader.
    pub device: DeviceId,
    pub reason: Rejection,
    /// Whose, if that was known.
    pub ticket: Option<TicketId>,
    /// The reader let somebody in all the same, having shown green before a crash.
    pub conflict: bool,
}

/// An operator's key, without the key.
#[derive(Clone, Debug)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A zone opened, closed, or is being evacuated.
    Zone { festival: FestivalId, zone: ZoneNo, state: ZoneState },
    /// This device is refused from now on.
    DeviceRevoked(DeviceId),
    /// Answers leave at another moment from now on; the festival's devices are to say hello again.
    PolicyChanged(FestivalId),
}
