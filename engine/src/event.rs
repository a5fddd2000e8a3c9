//! What has happened, and is on disk. Events carry results (`occupancy`), so that replay never decides again and a rule
//! may change without touching old records. [`crate::record`] writes and reads them.

use crate::cashless::event::{CashlessEvent, Transaction};
use crate::command::AdminAnswer;
use crate::gates::command::CategoryValues;
use crate::gates::event::{DoneByHand, Scanned, Undone};
use crate::model::ids::{CategoryNo, DeviceId, FestivalId, GateNo, ShardId, TagUid, TicketId, WalletId, ZoneNo};
use crate::model::principal::Principal;
use crate::model::rejection::Rejection;
use crate::model::status::{FestivalStatus, Policy, Role, TicketStatus, ZoneState};
use crate::model::time::{Calendar, Timestamp};
use crate::shard::outbox::Message;

/// One thing that has happened, at the time of its record.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A reader's scan, whatever was decided.
    Scanned(Scanned),
    /// A scan was undone, or was not.
    Undone(Undone),
    /// Who asked for what follows.
    Origin(Origin),
    /// A festival was made, in DRAFT.
    FestivalCreated {
        /// Fixes its id.
        slug: String,
        name: String,
        /// When it begins.
        starts_at: Timestamp,
        ends_at: Timestamp,
        /// How its gates behave.
        policy: Policy,
        /// How its days are told.
        calendar: Calendar,
    },
    /// A festival moved on.
    FestivalStatusSet { festival: FestivalId, to: FestivalStatus },
    /// A festival's gates behave otherwise.
    PolicySet { festival: FestivalId, policy: Policy },
    /// A zone was made or changed.
    ZonePut {
        festival: FestivalId,
        /// Its number; new if it is the next.
        zone: ZoneNo,
        name: String,
        /// The zone it lies in.
        parent: Option<ZoneNo>,
        /// How many it holds.
        capacity: u32,
    },
    /// A gate was made.
    GateAdded {
        festival: FestivalId,
        /// Its number.
        gate: GateNo,
        /// The zone it leads into.
        zone: ZoneNo,
        name: String,
    },
    /// A category was made or changed.
    CategoryPut {
        festival: FestivalId,
        /// Its number; new if it is the next.
        category: CategoryNo,
        values: CategoryValues,
    },
    /// Tickets were issued.
    TicketsIssued {
        festival: FestivalId,
        category: CategoryNo,
        first_serial: u32,
        /// How many.
        count: u32,
        /// What their nonces come from.
        seed: u64,
        /// SOLD, else RESERVED.
        paid: bool,
        /// Whose each is; empty if nobody's is known.
        holders: Vec<Option<u128>>,
    },
    /// A ticket moved on by the office's word.
    TicketStatusSet { ticket: TicketId, from: TicketStatus, to: TicketStatus },
    /// A ticket was blocked or let go.
    TicketBlockSet { ticket: TicketId, blocked: bool },
    /// A wristband names a ticket.
    TagBound {
        ticket: TicketId,
        /// The tag.
        tag: TagUid,
    },
    /// A zone opened, closed, or is being evacuated.
    ZoneStateSet { festival: FestivalId, zone: ZoneNo, state: ZoneState },
    /// A device may be enrolled.
    EnrolmentOffered {
        festival: FestivalId,
        gate: GateNo,
        /// SHA-256 of the code.
        code_hash: [u8; 32],
        /// What the device will be called.
        name: String,
        until: Timestamp,
    },
    DeviceEnrolled {
        device: DeviceId,
        /// Where it stands.
        gate: GateNo,
        /// Ed25519.
        public_key: [u8; 32],
        /// What it is called.
        name: String,
        /// The code it used.
        code_hash: [u8; 32],
    },
    /// A device is refused from now on.
    DeviceRevoked { device: DeviceId },
    /// A reader has proven itself and is connected: what it captures from here on, it may show.
    DeviceConnected {
        device: DeviceId,
        /// Tells this connection from its others.
        session: u64,
    },
    /// That connection has ended. A crash leaves this out: then the next connection says so.
    DeviceLeft {
        device: DeviceId,
        /// The connection.
        session: u64,
    },
    /// By how much a terminal's clock is off, as the door saw it when that began to matter or ceased to. Of a reader's, its
    /// scans tell.
    DeviceClockSeen {
        device: DeviceId,
        /// How far it is ahead; behind, if negative.
        off_ms: i64,
    },
    /// Which of the server's keys a device trusts, as it has shown by connecting or has said.
    DevicePins {
        device: DeviceId,
        /// The first eight bytes of their SHA-256: the present one's, the next one's; 0: none.
        pins: [u64; 2],
    },
    /// QRs are signed with this version from now on; it and the one before are accepted.
    QrKeyRotated { festival: FestivalId, version: u32 },
    /// An operator's key was made.
    ApiKeyCreated {
        /// Its number.
        key: u32,
        /// SHA-256 of it.
        hash: [u8; 32],
        /// What it may do.
        role: Role,
        /// Where; nowhere named means everywhere.
        festivals: Vec<FestivalId>,
        name: String,
    },
    /// An operator's key is refused from now on.
    ApiKeyRevoked {
        /// Its number.
        key: u32,
    },
    /// Enrolment codes and idempotency keys that the record's time has outlived are forgotten.
    Expired,
    /// A transaction of a wallet, or what was refused.
    Transaction(Transaction),
    /// Something else about money.
    Cashless(CashlessEvent),
    /// Something was done by hand, against the usual course.
    ByHand(DoneByHand),
    /// A message to another shard, caused by what precedes it.
    Sent {
        to: ShardId,
        /// Dense for each pair of shards, from 1.
        n: u64,
        message: Message,
    },
    /// A message of another shard was taken in; what it caused follows.
    Received {
        /// Which shard's.
        from: ShardId,
        /// The new high-water mark.
        n: u64,
        message: Message,
    },
    /// Another shard has everything up to this number: it is not sent again.
    Delivered {
        to: ShardId,
        /// The number.
        through: u64,
    },
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
