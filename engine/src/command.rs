//! What somebody asks of a shard. Everything a decision needs from outside, time, randomness, ids, arrives in here.

pub mod ask;

use serde::{Deserialize, Serialize};

use crate::cashless::command::{CashlessAction, TerminalAnswer, TerminalCommand};
use crate::gates::command::{ByHand, CategoryValues, DeviceAnswer, DeviceCommand};
use crate::model::ids::{
    CategoryNo, DeviceId, FestivalId, GateNo, Home, ProductNo, ShardId, TagUid, TicketId, TransactionId, VendorNo,
    WalletId, ZoneNo,
};
use crate::model::money::Money;
use crate::model::principal::Principal;
use crate::model::rejection::Rejection;
use crate::model::status::{FestivalStatus, Policy, Role, TicketStatus, ZoneState};
use crate::model::time::{Calendar, Timestamp};
use crate::shard::outbox::Message;

/// One command with the id that makes doing it again harmless.
#[derive(Clone, Debug)]
pub enum Command {
    /// From a device's stream.
    Device(DeviceCommand),
    /// From a terminal's stream: money.
    Terminal(TerminalCommand),
    /// From the office: whoever is signed in, over HTTP.
    Admin(Box<AdminCommand>),
    /// What another shard has to tell, from its [`crate::shard::Shard::outgoing`]: messages with the numbers `first`,
    /// `first + 1`, …, all of them durable there.
    Deliver {
        from: ShardId,
        /// The number of the first.
        first: u64,
        /// In order.
        messages: Vec<Message>,
    },
    /// Another shard has all of our messages up to this number, and has it durably.
    Delivered {
        to: ShardId,
        /// The number, as its [`Answer::Acked`] says.
        through: u64,
    },
    /// Time has passed: whatever is due expires. Sent by the host about once a second.
    Tick,
}

/// A [`Command`] that lies elsewhere.
#[derive(Clone, Copy, Debug)]
pub enum CommandRef<'a> {
    /// From a device's stream.
    Device(&'a DeviceCommand),
    /// From a terminal's stream.
    Terminal(&'a TerminalCommand),
    Admin(&'a AdminCommand),
    /// From another shard.
    Deliver {
        from: ShardId,
        /// The number of the first.
        first: u64,
        /// In order.
        messages: &'a [Message],
    },
    /// Another shard has our messages.
    Delivered {
        to: ShardId,
        /// Up to which number.
        through: u64,
    },
    /// Time has passed.
    Tick,
}

impl Command {
    /// The command where it lies.
    pub fn by_ref(&self) -> CommandRef<'_> {
        match self {
            Self::Device(command) => CommandRef::Device(command),
            Self::Terminal(command) => CommandRef::Terminal(command),
            Self::Admin(command) => CommandRef::Admin(command),
            Self::Deliver { from, first, messages } => CommandRef::Deliver { from: *from, first: *first, messages },
            Self::Delivered { to, through } => CommandRef::Delivered { to: *to, through: *through },
            Self::Tick => CommandRef::Tick,
        }
    }

    /// The home of the actor that decides it; `None` for what is one shard's or every shard's.
    pub fn home(&self) -> Option<Home> {
        match self {
            Self::Device(command) => Some(Home::Festival(command.device.festival())),
            Self::Terminal(command) => Some(Home::Wallet(command.action.wallet())),
            Self::Admin(command) => Some(command.action.home()),
            Self::Deliver { .. } | Self::Delivered { .. } | Self::Tick => None,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AdminCommand {
    /// The id of this attempt, and who makes it.
    pub key: Option<IdempotencyKey>,
    /// Who asks.
    pub by: Principal,
    /// What is asked.
    pub action: AdminAction,
}

/// An `Idempotency-Key`, made small by the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// A hash of the key and of whoever sent it: keys belong to the one who is signed in.
    pub id: u128,
    /// A hash of the request; the same key with another one is a conflict.
    pub fingerprint: u64,
    /// For a UUIDv7: when it was made. Older than what is remembered is refused rather than taken for new.
    pub made_at: Option<Timestamp>,
}

/// What the office can ask. Texts are at most [`TEXT_LEN_MAX`] bytes, slugs `[a-z0-9-]{1,64}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum AdminAction {
    /// A new festival, in DRAFT.
    CreateFestival {
        /// Its name in addresses; fixes its id.
        slug: String,
        /// Its name for people.
        name: String,
        /// When it begins.
        starts_at: Timestamp,
        ends_at: Timestamp,
        /// How its gates behave.
        policy: Policy,
        /// How its days are told.
        calendar: Calendar,
    },
    /// Along DRAFT → PUBLISHED → ONGOING → COMPLETED, or to CANCELLED.
    SetFestivalStatus { festival: FestivalId, to: FestivalStatus },
    /// How its gates behave from the next scan on.
    SetPolicy { festival: FestivalId, policy: Policy },
    /// A new zone, or new values for one.
    PutZone {
        festival: FestivalId,
        /// `None` makes a new one.
        zone: Option<ZoneNo>,
        name: String,
        /// The zone it lies in; fixed when it is made.
        parent: Option<ZoneNo>,
        /// How many people it holds.
        capacity: u32,
    },
    /// A new gate on a zone's border.
    AddGate {
        festival: FestivalId,
        /// Which zone it leads into.
        zone: ZoneNo,
        name: String,
    },
    /// A new category, or new values for one.
    PutCategory {
        festival: FestivalId,
        /// `None` makes a new one.
        category: Option<CategoryNo>,
        values: CategoryValues,
    },
    /// Tickets straight from the office: guests, crews, tickets sold elsewhere.
    IssueTickets {
        festival: FestivalId,
        category: CategoryNo,
        /// One for each ticket, at most [`crate::gates::command::ISSUE_MAX`]: whose it is, if that is known.
        holders: Vec<Option<u128>>,
        /// SOLD if paid, else RESERVED.
        paid: bool,
        /// Random; the tickets' nonces come from it.
        seed: u64,
    },
    /// RESERVED → SOLD (paid), or to CANCELLED or REFUNDED.
    SetTicketStatus { ticket: TicketId, to: TicketStatus },
    /// Blocks a ticket, or lets it go again.
    BlockTicket {
        ticket: TicketId,
        /// Blocked or not.
        blocked: bool,
    },
    /// Binds a wristband to a ticket, in place of any it had; a wallet that the one before it named comes too.
    BindTag {
        ticket: TicketId,
        /// The tag. Its home decides.
        tag: TagUid,
    },
    /// A ticket's wristband is lost: it is refused everywhere, from the next scan and the next payment on.
    ReportTicketTagLost {
        /// Which ticket's.
        ticket: TicketId,
    },
    /// A supervisor undoes a ticket's last scan.
    UndoScan { ticket: TicketId },
    /// Opens, closes or evacuates a zone.
    SetZoneState { festival: FestivalId, zone: ZoneNo, state: ZoneState },
    /// A one-time code with which a device can be enrolled within 15 minutes.
    OfferEnrolment {
        festival: FestivalId,
        gate: GateNo,
        /// SHA-256 of the code; the code itself is seen by the operator alone.
        code_hash: [u8; 32],
        /// What to call the device.
        name: String,
    },
    /// A device shows its code and the public half of the key it has made.
    EnrolDevice {
        festival: FestivalId,
        /// SHA-256 of the code.
        code_hash: [u8; 32],
        /// Ed25519.
        public_key: [u8; 32],
    },
    /// The device is refused from the next decision on.
    RevokeDevice { device: DeviceId },
    /// The door says: this reader has proven itself, and is connected. Before it is told so.
    DeviceConnected {
        device: DeviceId,
        /// Tells this connection from its others.
        session: u64,
    },
    /// The door says: that connection has ended.
    DeviceLeft {
        device: DeviceId,
        /// The connection.
        session: u64,
    },
    /// The door says: by so much is a terminal's clock off now.
    DeviceClockSeen {
        device: DeviceId,
        /// How far it is ahead; behind, if negative.
        off_ms: i64,
    },
    /// The door says: a device trusts this key of the server, and the next one too. In whichever order that is said.
    DevicePins {
        device: DeviceId,
        /// The key by which it has connected, as in [`crate::event::Event::DevicePins`].
        present: u64,
        /// The one that it has kept beside it; 0: nothing is said of it.
        next: u64,
    },
    /// New QRs are signed with the next version; the one before the present is accepted no longer.
    RotateQrKey { festival: FestivalId },
    /// A new operator's key.
    CreateApiKey {
        /// SHA-256 of the key; the key itself is shown once.
        hash: [u8; 32],
        /// What it may do.
        role: Role,
        /// At which festivals; none means all (ADMIN only).
        festivals: Vec<FestivalId>,
        name: String,
    },
    /// The key is refused from the next request on.
    RevokeApiKey {
        /// Its number.
        key: u32,
    },
    /// About money.
    Cashless(CashlessAction),
    /// Against the usual course, for a reason.
    ByHand(ByHand),
}

/// The longest text in a command, in bytes.
pub const TEXT_LEN_MAX: usize = 200;

impl AdminAction {
    /// It protects people, or what they own, from what is happening now: it has places of its own wherever others may be
    /// told to come again.
    pub fn protects_people(&self) -> bool {
        matches!(
            self,
            Self::SetZoneState { .. }
                | Self::BlockTicket { .. }
                | Self::ReportTicketTagLost { .. }
                | Self::RevokeDevice { .. }
                | Self::ByHand(ByHand::Admit { .. })
                | Self::RevokeApiKey { .. }
                | Self::Cashless(
                    CashlessAction::Block { .. }
                        | CashlessAction::ReportLost { .. }
                        | CashlessAction::ReportTagLost { .. }
                )
        )
    }

    /// The home of the actor that decides it.
    pub fn home(&self) -> Home {
        match self {
            Self::CreateFestival { slug, .. } => Home::Festival(FestivalId::of_slug(slug)),
            Self::SetFestivalStatus { festival, .. }
            | Self::SetPolicy { festival, .. }
            | Self::PutZone { festival, .. }
            | Self::AddGate { festival, .. }
            | Self::PutCategory { festival, .. }
            | Self::IssueTickets { festival, .. }
            | Self::SetZoneState { festival, .. }
            | Self::OfferEnrolment { festival, .. }
            | Self::EnrolDevice { festival, .. }
            | Self::RotateQrKey { festival } => Home::Festival(*festival),
            Self::SetTicketStatus { ticket, .. }
            | Self::BlockTicket { ticket, .. }
            | Self::ReportTicketTagLost { ticket }
            | Self::UndoScan { ticket } => Home::Festival(ticket.festival()),
            Self::BindTag { tag, .. } => Home::Tag(*tag),
            Self::RevokeDevice { device }
            | Self::DeviceConnected { device, .. }
            | Self::DeviceLeft { device, .. }
            | Self::DevicePins { device, .. }
            | Self::DeviceClockSeen { device, .. } => Home::Festival(device.festival()),
            Self::CreateApiKey { .. } | Self::RevokeApiKey { .. } => Home::Platform,
            Self::Cashless(action) => action.home(),
            Self::ByHand(action) => Home::Festival(action.festival()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdminAnswer {
    /// It is so.
    Done,
    /// The festival that was made.
    Festival(FestivalId),
    /// The zone that was made or changed.
    Zone(ZoneNo),
    /// The gate that was made.
    Gate(GateNo),
    /// The category that was made or changed.
    Category(CategoryNo),
    /// The tickets `first_serial .. first_serial + count` were issued; see [`issued`].
    Issued {
        festival: FestivalId,
        category: CategoryNo,
        first_serial: u32,
        /// How many.
        count: u32,
        /// What their nonces come from.
        seed: u64,
    },
    /// The enrolment code lapses then.
    CodeUntil(Timestamp),
    /// The device that was enrolled.
    Device(DeviceId),
    /// The version of the QR key from now on.
    QrKey(u32),
    /// The number of the operator's key that was made.
    ApiKey(u32),
    /// The vendor that was made or changed.
    Vendor(VendorNo),
    /// The product that was made or changed.
    Product(ProductNo),
    /// The wallet that was made or found.
    Wallet(WalletId),
    /// Money moved.
    Transaction {
        /// The entry in the wallet's history.
        id: TransactionId,
        /// How much it was.
        amount: Money,
        /// What is available in the wallet now.
        balance: i64,
        /// The wallet holds more than the festival allows: the money had been taken already.
        over_limit: bool,
        /// The vendor's number for a payment; 0 for anything else.
        order: u32,
    },
    /// Another shard has to decide: this operation's answer comes in [`crate::shard::Step::finished`]. Nobody outside is
    /// told this; the same idempotency key gets it again until the answer is there, and then the answer.
    Pending(u64),
    /// No.
    Rejected(Rejection),
}

/// The ids of the tickets that an [`AdminAnswer::Issued`] speaks of.
pub fn issued(
    festival: FestivalId,
    category: CategoryNo,
    first_serial: u32,
    count: u32,
    seed: u64,
) -> impl Iterator<Item = TicketId> {
    (0..count).map(move |i| TicketId::new(festival, category, first_serial + i, crate::model::ids::nonce_at(seed, i)))
}

/// The answer to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Device {
        device: DeviceId,
        /// To which of its commands.
        seq: u64,
        answer: DeviceAnswer,
        /// This is a repetition: nothing happened now.
        repeated: bool,
    },
    /// To the office; `repeated` as above.
    Admin {
        answer: AdminAnswer,
        /// This is a repetition: nothing happened now.
        repeated: bool,
    },
    /// To a terminal; `repeated` as above.
    Terminal {
        device: DeviceId,
        /// To which of its commands.
        seq: u64,
        answer: TerminalAnswer,
        /// This is a repetition: nothing happened now.
        repeated: bool,
    },
    /// To another shard, for [`Command::Delivered`]: we have its messages up to this number, once this step's record
    /// is durable.
    Acked {
        /// Which shard's.
        from: ShardId,
        /// The high-water mark.
        through: u64,
    },
    /// To [`Command::Delivered`].
    Noted,
    /// To a tick.
    Ticked,
}
