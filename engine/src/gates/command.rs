//! What a reader asks, what it is told, and what a category is made of.

pub mod by_hand;

pub use by_hand::{ByHand, Details};

use crate::model::credential::VerifiedTicket;
use crate::model::ids::{DeviceId, GateNo, TagUid, TicketId, ZoneNo};
use crate::model::money::Money;
use crate::model::rejection::Rejection;
use crate::model::status::CategoryKind;
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A device's command. `(device, seq)` is its id.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct DeviceCommand {
    /// Who asks: proven by the connection, never taken from the frame.
    pub device: DeviceId,
    /// Rises by at least one with each command of the device.
    pub seq: u64,
    /// The lowest `seq` for which the device has no final answer.
    pub floor: u64,
    /// What it asks.
    pub action: DeviceAction,
}

/// What a device can ask.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum DeviceAction {
    /// Somebody wants in or out.
    Scan(Scan),
    /// The last scan was a mistake.
    Undo(Undo),
}

/// A ticket or wristband held to a reader.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Scan {
    /// The zone the reader stands at.
    pub zone: ZoneNo,
    /// In or out.
    pub direction: Direction,
    /// What was read.
    pub credential: Credential,
    /// The reader's own clock when it read it. It counts only for what waited in the reader's queue, and only as far
    /// as the reader's connections allow: [`crate::gates::device::Device::taken_at`].
    pub captured_at: Timestamp,
    /// It was sent before, on another connection.
    pub resent: bool,
    /// What the reader has shown already, where a festival lets it show an answer before that is durable
    /// (`scan_ack = decided`). That answer stands, where it can have been shown:
    /// [`crate::gates::festival::Festival::may_have_shown`].
    pub shown: Option<Verdict>,
}

/// In or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Direction {
    /// Into the zone.
    Enter = 0,
    /// Out of it.
    Exit = 1,
}

/// What was held to the reader, checked as far as that goes without a shard.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Credential {
    /// A QR whose signature held.
    Ticket(VerifiedTicket),
    /// A QR that is none of ours ([`Rejection::InvalidQr`] or [`Rejection::TamperedQr`]); the number tells attempts apart.
    Refused(Rejection, u32),
    /// A wristband's tag.
    Tag(TagUid),
}

/// Takes back the last scan of a ticket.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Undo {
    /// The ticket, as the scan's answer named it.
    pub ticket: TicketId,
    /// The `seq` of the scan, made by the same device.
    pub scan_seq: u64,
}

/// What became of a device's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Green: in.
    Admitted,
    /// Out.
    Exited,
    /// The scan is undone.
    Undone,
    /// Red, and why.
    Rejected(Rejection),
}

impl Verdict {
    /// Its number in frames and records: rejections have their own, the rest are at 200 and above.
    pub fn number(self) -> u8 {
        match self {
            Self::Rejected(rejection) => rejection as u8,
            Self::Admitted => 200,
            Self::Exited => 201,
            Self::Undone => 202,
        }
    }
    /// The verdict with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            200 => Some(Self::Admitted),
            201 => Some(Self::Exited),
            202 => Some(Self::Undone),
            number => Rejection::from_number(number).map(Self::Rejected),
        }
    }
}

/// The answer to a device. The same `(device, seq)` gets the same one, to the last bit, however often it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAnswer {
    /// Green or red.
    pub verdict: Verdict,
    /// See the constants below.
    pub flags: u8,
    /// The zone it was about.
    pub zone: ZoneNo,
    /// How many are in that zone now.
    pub occupancy: u32,
    /// The ticket, once the QR or wristband has named one of this festival's.
    pub ticket: Option<TicketId>,
    /// The shard's time of the decision.
    pub at: Timestamp,
    /// For `already_used`: when and where it was.
    pub first_use: Option<FirstUse>,
}

/// The exit was counted for nobody: the holder was not inside.
pub const WAS_NOT_INSIDE: u8 = 1;
/// The reader had shown another answer, and that one stands; a supervisor sees it listed.
pub const CONFLICT: u8 = 2;
/// The policy leaves this rejection out of the access log.
pub const UNLOGGED: u8 = 4;
/// This was the ticket's first entry to a perimeter: SOLD became USED.
pub const FIRST_ENTRY: u8 = 8;

/// Somebody was let in by hand. In the access log only; no device is answered so.
pub const BY_HAND: u8 = 64;

impl DeviceAnswer {
    /// A no without a ticket to speak of.
    pub fn rejected(rejection: Rejection, zone: ZoneNo, at: Timestamp) -> Self {
        Self { verdict: Verdict::Rejected(rejection), flags: 0, zone, occupancy: 0, ticket: None, at, first_use: None }
    }
}

/// When and where a ticket first came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstUse {
    pub at: Timestamp,
    /// Into which perimeter.
    pub zone: ZoneNo,
    /// Through which gate.
    pub gate: GateNo,
}

/// What a category says of its tickets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CategoryValues {
    pub name: String,
    pub kind: CategoryKind,
    /// What one costs.
    pub price: Money,
    /// How many there can be.
    pub quota: u32,
    /// The zones it lets into, as a mask of [`ZoneNo::bit`].
    pub zones: u64,
    /// From when it lets in.
    pub valid_from: Timestamp,
    /// Until when; the first moment it no longer does.
    pub valid_until: Timestamp,
}

/// The most tickets in one command: their holders' ids make the record, 1,024 × 18 B = 18 KiB.
pub const ISSUE_MAX: usize = 1_024;
