//! What has happened, and is on disk. Events carry results (`occupancy`), so that replay never decides again and a rule
//! may change without touching old records. [`crate::record`] writes and reads them.

use crate::cashless::event::{CashlessEvent, Transaction, TransactionKind};
use crate::command::AdminAnswer;
use crate::gates::command::CategoryValues;
use crate::gates::event::{DoneByHand, Scanned, Undone};
use crate::model::ids::{CategoryNo, DeviceId, FestivalId, GateNo, ShardId, TagUid, TicketId, WalletId, ZoneNo};
use crate::model::money::Money;
use crate::model::principal::Principal;
use crate::model::rejection::Rejection;
use crate::model::status::{FestivalStatus, Policy, Role, TicketStatus, ZoneState};
use crate::model::time::{Calendar, Timestamp};
use crate::record::table::events;
use crate::shard::outbox::Message;
use crate::view::Notice;

events! {
    /// One thing that has happened, at the time of its record.
    #[derive(Clone, Debug, PartialEq)]
    pub enum Event of {
        /// A reader's scan, whatever was decided.
        Scanned(Scanned),
        /// A scan was undone, or was not.
        Undone(Undone),
        /// Who asked for what follows.
        Origin(Origin),
        /// A transaction of a wallet, or what was refused.
        Transaction(Transaction),
        /// Something else about money.
        Cashless(CashlessEvent),
        /// Something was done by hand, against the usual course.
        ByHand(DoneByHand),
    } {
        /// A message to another shard, caused by what precedes it.
        Sent = 5 {
            to: ShardId = 1,
            /// Dense for each pair of shards, from 1.
            n: u64 = 2,
            message: Message = 3,
        },
        /// A message of another shard was taken in; what it caused follows.
        Received = 6 {
            from: ShardId = 1,
            /// The new high-water mark.
            n: u64 = 2,
            message: Message = 3,
        },
        /// Another shard has everything up to this number: it is not sent again.
        Delivered = 7 { to: ShardId = 1, through: u64 = 2 },
        /// Enrolment codes and idempotency keys that the record's time has outlived are forgotten.
        Expired = 8,
        /// A reader has proven itself and is connected: what it captures from here on, it may show.
        DeviceConnected = 9 {
            device: DeviceId = 1,
            /// Tells this connection from its others.
            session: u64 as fixed64 = 2,
        },
        /// That connection has ended. A crash leaves this out: then the next connection says so.
        DeviceLeft = 10 { device: DeviceId = 1, session: u64 as fixed64 = 2 },
        /// By how much a terminal's clock is off, as the door saw it when that began to matter or ceased to. Of a reader's, its
        /// scans tell.
        DeviceClockSeen = 11 {
            device: DeviceId = 1,
            /// How far it is ahead; behind, if negative.
            off_ms: i64 = 2,
        },
        /// Which of the server's keys a device trusts, as it has shown by connecting or has said.
        DevicePins = 12 {
            device: DeviceId = 1,
            /// The first eight bytes of their SHA-256: the present one's, the next one's; 0: none.
            pins: [u64; 2] = 2,
        },
        /// A festival was made, in DRAFT.
        FestivalCreated = 16 {
            /// Fixes its id.
            slug: String = 1,
            name: String = 2,
            starts_at: Timestamp = 3,
            ends_at: Timestamp = 4,
            /// How its gates behave.
            policy: Policy = 5,
            /// How its days are told: by an IANA time zone, and from so many minutes after midnight there.
            calendar: Calendar = 6,
        },
        /// A festival moved on.
        FestivalStatusSet = 17 { festival: FestivalId = 1, to: FestivalStatus = 2 },
        /// A festival's gates behave otherwise.
        PolicySet = 18 { festival: FestivalId = 1, policy: Policy = 2 },
        /// A zone was made or changed.
        ZonePut = 19 {
            festival: FestivalId = 1,
            /// Its number; new if it is the next.
            zone: ZoneNo = 2,
            name: String = 3,
            /// The zone it lies in.
            parent: Option<ZoneNo> as optional = 4,
            /// How many it holds.
            capacity: u32 = 5,
        },
        /// A gate was made.
        GateAdded = 20 {
            festival: FestivalId = 1,
            gate: GateNo = 2,
            /// The zone it leads into.
            zone: ZoneNo = 3,
            name: String = 4,
        },
        /// A category was made or changed.
        CategoryPut = 21 {
            festival: FestivalId = 1,
            /// Its number; new if it is the next.
            category: CategoryNo = 2,
            values: CategoryValues = 3,
        },
        /// Tickets were issued.
        TicketsIssued = 22 {
            festival: FestivalId = 1,
            category: CategoryNo = 2,
            first_serial: u32 = 3,
            count: u32 = 4,
            /// What their nonces come from.
            seed: u64 as fixed64 = 5,
            /// SOLD, else RESERVED.
            paid: bool = 6,
            /// Whose each is; empty if nobody's is known. In a record 16 bytes each, zeros for nobody.
            holders: Vec<Option<u128>> = 7,
        },
        /// A ticket moved on by the office's word.
        TicketStatusSet = 23 { ticket: TicketId = 1, from: TicketStatus = 3, to: TicketStatus = 4 },
        /// A ticket was blocked or let go.
        TicketBlockSet = 24 { ticket: TicketId = 1, blocked: bool = 3 },
        /// A wristband names a ticket.
        TagBound = 25 { ticket: TicketId = 1, tag: TagUid = 3 },
        /// A zone opened, closed, or is being evacuated.
        ZoneStateSet = 26 { festival: FestivalId = 1, zone: ZoneNo = 2, state: ZoneState = 3 },
        /// A device may be enrolled.
        EnrolmentOffered = 27 {
            festival: FestivalId = 1,
            gate: GateNo = 2,
            /// SHA-256 of the code.
            code_hash: [u8; 32] = 3,
            /// What the device will be called.
            name: String = 4,
            until: Timestamp = 5,
        },
        DeviceEnrolled = 28 {
            device: DeviceId = 1,
            /// Where it stands.
            gate: GateNo = 2,
            public_key: [u8; 32] = 3,
            name: String = 4,
            code_hash: [u8; 32] = 5,
        },
        /// A device is refused from now on.
        DeviceRevoked = 29 { device: DeviceId = 1 },
        /// QRs are signed with this version from now on; it and the one before are accepted.
        QrKeyRotated = 30 { festival: FestivalId = 1, version: u32 = 2 },
        /// An operator's key was made.
        ApiKeyCreated = 31 {
            key: u32 = 1,
            hash: [u8; 32] = 2,
            /// What it may do.
            role: Role = 3,
            /// Where; nowhere named means everywhere.
            festivals: Vec<FestivalId> = 4,
            name: String = 5,
        },
        /// An operator's key is refused from now on.
        ApiKeyRevoked = 32 { key: u32 = 1 },
    }
}

impl Event {
    /// The festival whose own it is; none for what is a wallet's, a tag's, or the installation's.
    pub(crate) fn festival(&self) -> Option<FestivalId> {
        Some(match self {
            Self::Scanned(scanned) => scanned.device.festival(),
            // A device may have named another festival's ticket: the answer is its own festival's.
            Self::Undone(undone) => undone.by.map_or(undone.ticket.festival(), |by| by.device.festival()),
            Self::FestivalCreated { slug, .. } => FestivalId::of_slug(slug),
            Self::FestivalStatusSet { festival, .. }
            | Self::PolicySet { festival, .. }
            | Self::ZonePut { festival, .. }
            | Self::GateAdded { festival, .. }
            | Self::CategoryPut { festival, .. }
            | Self::TicketsIssued { festival, .. }
            | Self::ZoneStateSet { festival, .. }
            | Self::EnrolmentOffered { festival, .. }
            | Self::QrKeyRotated { festival, .. } => *festival,
            Self::TicketStatusSet { ticket, .. }
            | Self::TicketBlockSet { ticket, .. }
            | Self::TagBound { ticket, .. } => ticket.festival(),
            Self::DeviceEnrolled { device, .. }
            | Self::DeviceRevoked { device }
            | Self::DeviceConnected { device, .. }
            | Self::DeviceLeft { device, .. }
            | Self::DevicePins { device, .. }
            | Self::DeviceClockSeen { device, .. } => device.festival(),
            Self::Cashless(event) => return event.festival(),
            Self::ByHand(done) => done.festival(),
            Self::Origin(_)
            | Self::ApiKeyCreated { .. }
            | Self::ApiKeyRevoked { .. }
            | Self::Expired
            | Self::Transaction(_)
            | Self::Sent { .. }
            | Self::Received { .. }
            | Self::Delivered { .. } => return None,
        })
    }

    /// What the office is told of it, if it has asked for it.
    pub(crate) fn answer(&self) -> AdminAnswer {
        match self {
            Self::FestivalCreated { slug, .. } => AdminAnswer::Festival(FestivalId::of_slug(slug)),
            Self::ZonePut { zone, .. } => AdminAnswer::Zone(*zone),
            Self::GateAdded { gate, .. } => AdminAnswer::Gate(*gate),
            Self::CategoryPut { category, .. } => AdminAnswer::Category(*category),
            Self::TicketsIssued { festival, category, first_serial, count, seed, .. } => AdminAnswer::Issued {
                festival: *festival,
                category: *category,
                first_serial: *first_serial,
                count: *count,
                seed: *seed,
            },
            Self::EnrolmentOffered { until, .. } => AdminAnswer::CodeUntil(*until),
            Self::DeviceEnrolled { device, .. } => AdminAnswer::Device(*device),
            Self::QrKeyRotated { version, .. } => AdminAnswer::QrKey(*version),
            Self::ApiKeyCreated { key, .. } => AdminAnswer::ApiKey(*key),
            Self::Transaction(t) if t.kind == TransactionKind::TransferOut => AdminAnswer::Pending(t.of),
            Self::Transaction(t) => AdminAnswer::Transaction {
                id: t.id().expect("money moved"),
                amount: Money { minor: t.amount, currency: t.currency },
                balance: t.after,
                over_limit: t.is_over_limit(),
                order: t.order,
            },
            Self::Cashless(event) => event.answer(),
            _ => AdminAnswer::Done,
        }
    }

    /// What connected devices are told of it.
    pub(crate) fn notice(&self) -> Option<Notice> {
        match self {
            Self::ZoneStateSet { festival, zone, state } => {
                Some(Notice::Zone { festival: *festival, zone: *zone, state: *state })
            }
            Self::DeviceRevoked { device } => Some(Notice::DeviceRevoked(*device)),
            Self::PolicySet { festival, .. } => Some(Notice::PolicyChanged(*festival)),
            _ => None,
        }
    }
}

/// Who asked for the event that follows. With an [`Origin::answer`] nothing follows: it is remembered, so that the same
/// key gets the same answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Origin {
    /// They did.
    pub by: Principal,
    /// The idempotency key's id and the request's fingerprint.
    pub key: Option<(u128, u64)>,
    /// Why nothing follows.
    pub rejection: Option<Rejection>,
    /// Nothing follows either, since it was so before anybody asked.
    pub already: Option<Already>,
}

impl Origin {
    /// What the office was told, where nothing follows.
    pub fn answer(&self) -> Option<AdminAnswer> {
        let already = self.already.map(|already| match already {
            Already::Done => AdminAnswer::Done,
            Already::Device(device) => AdminAnswer::Device(device),
            Already::Wallet(wallet) => AdminAnswer::Wallet(wallet),
        });
        self.rejection.map(AdminAnswer::Rejected).or(already)
    }
}

/// What was so before anybody asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Already {
    /// Just that.
    Done,
    /// The code had enrolled this device.
    Device(DeviceId),
    /// There was this wallet.
    Wallet(WalletId),
}
