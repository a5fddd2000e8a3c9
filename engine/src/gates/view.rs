//! What is shown of a festival and its gates.

pub mod brief;

use serde::{Deserialize, Serialize};

use crate::gates::command::{CategoryValues, FirstUse};
use crate::model::ids::{CategoryNo, DeviceId, FestivalId, GateNo, TagUid, TicketId, ZoneNo};
use crate::model::rejection::Rejection;
use crate::model::status::{FestivalStatus, Policy, TicketStatus, ZoneState};
use crate::model::time::{Calendar, Timestamp};
use crate::view::Terminal;

/// How many tickets one [`crate::view::Query::TicketsByCode`] looks at: 262,144 × 64 B are 16 MiB, about 2 ms of the festival's shard.
pub const CODE_SCAN_MAX: usize = 1 << 18;
/// How many tickets one [`crate::view::Query::TicketsByCode`] finds at most. A code has 40 bits: two of a million tickets share theirs
/// at one festival in two.
pub const CODE_FOUND_MAX: usize = 16;

#[derive(Clone, Debug, Serialize, Deserialize)]
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

#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
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

#[derive(Clone, Debug, Serialize, Deserialize)]
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

#[derive(Clone, Debug, Serialize, Deserialize)]
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

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceView {
    pub id: DeviceId,
    /// What it is called.
    pub name: String,
    /// Where it stands; of no meaning for a terminal.
    pub gate: GateNo,
    /// The zone that gate leads into; of no meaning for a terminal.
    pub zone: ZoneNo,
    /// What it is allowed, if it is a terminal; else it is a reader.
    pub terminal: Option<Terminal>,
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
    pub ack: crate::model::status::ScanAck,
}

/// A festival's counters at one moment. Rates are differences of two.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
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
