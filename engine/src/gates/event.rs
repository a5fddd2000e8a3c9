//! What has happened at the gates.

pub mod by_hand;

pub use by_hand::{AdmittedByHand, DoneByHand};

use crate::gates::command::{DeviceAnswer, Direction, FirstUse, Verdict};
use crate::model::ids::{DeviceId, GateNo, TagUid, TicketId, ZoneNo};
use crate::model::rejection::Rejection;
use crate::model::time::Timestamp;

/// A scan and its outcome: one line of the access log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scanned {
    /// The reader.
    pub device: DeviceId,
    /// Its number for this scan.
    pub seq: u64,
    /// The lowest number for which it had no answer.
    pub floor: u64,
    /// Of what was asked, to tell a repetition from another question with the same number.
    pub fingerprint: u32,
    pub zone: ZoneNo,
    pub gate: GateNo,
    /// In or out.
    pub direction: Direction,
    /// The answer.
    pub verdict: Verdict,
    /// `WAS_NOT_INSIDE` and its neighbours in [`crate::command`].
    pub flags: u8,
    /// The ticket, if one was named.
    pub ticket: Option<TicketId>,
    /// Of the zone, afterwards.
    pub occupancy: u32,
    /// For `already_used`.
    pub first_use: Option<FirstUse>,
    /// The reader's clock.
    pub captured_at: Timestamp,
    /// When it counts: the record's time, but for a scan that waited in its reader's queue. See
    /// [`crate::gates::device::Device::taken_at`].
    pub taken_at: Timestamp,
    /// What would have been decided, where the answer that was shown stands.
    pub instead_of: Option<Rejection>,
    /// Tells refused QRs apart.
    pub credential: u32,
    /// The wristband that was read, if it was one.
    pub tag: Option<TagUid>,
}

impl Scanned {
    /// What the reader is told.
    pub fn answer(&self, at: Timestamp) -> DeviceAnswer {
        DeviceAnswer {
            verdict: self.verdict,
            flags: self.flags,
            zone: self.zone,
            occupancy: self.occupancy,
            ticket: self.ticket,
            at,
            first_use: self.first_use,
        }
    }
}

/// An undo and its outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Undone {
    /// The device, with its number for this command; `None`: the office.
    pub by: Option<ByDevice>,
    /// The zone of the scan.
    pub zone: ZoneNo,
    /// The gate where it was undone; of no meaning for the office.
    pub gate: GateNo,
    /// `Undone`, or a rejection.
    pub verdict: Verdict,
    pub ticket: TicketId,
    /// Where its holder is again.
    pub inside: u64,
    /// USED became SOLD again.
    pub unused: bool,
    /// Of the zone, afterwards.
    pub occupancy: u32,
    /// The scan that is taken back; none for a rejection.
    pub scan: Option<TakenBack>,
}

/// A scan that was undone: where and when it had counted, so that it is taken out of there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenBack {
    pub gate: GateNo,
    /// In or out.
    pub direction: Direction,
    /// Where the minute in which it had counted begins.
    pub minute: Timestamp,
}

/// The id of a device's command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ByDevice {
    pub device: DeviceId,
    /// Its number.
    pub seq: u64,
    /// The lowest number without an answer.
    pub floor: u64,
    /// Of what was asked.
    pub fingerprint: u32,
}

impl Undone {
    /// What whoever asked is told.
    pub fn answer(&self, at: Timestamp) -> DeviceAnswer {
        DeviceAnswer {
            verdict: self.verdict,
            flags: 0,
            zone: self.zone,
            occupancy: self.occupancy,
            ticket: Some(self.ticket),
            at,
            first_use: None,
        }
    }
}
