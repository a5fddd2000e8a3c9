//! What was done by hand ([`crate::gates::command::ByHand`]), with its reason. Who did it precedes it, as with everything that the
//! office does.

use crate::gates::command::{CONFLICT, Details, Direction, FIRST_ENTRY, Verdict};
use crate::gates::event::Scanned;
use crate::model::ids::{DeviceId, FestivalId, GateNo, TicketId, ZoneNo};
use crate::model::rejection::Rejection;
use crate::model::status::TicketStatus;
use crate::model::time::Timestamp;
use crate::record::table::events;

events! {
    /// One thing that was done by hand.
    #[derive(Clone, Debug, PartialEq)]
    pub enum DoneByHand {
        /// A festival that was COMPLETED is ONGOING again.
        Reopened = 33 as FestivalReopened { festival: FestivalId = 1, reason: String = 2 },
        /// A festival says something else of itself.
        Edited = 34 as FestivalEdited { festival: FestivalId = 1, details: Details = 2 },
        /// Nobody has been scanned yet.
        ScansReset = 35 {
            festival: FestivalId = 1,
            reason: String = 2,
            /// How many tickets were USED, and are SOLD again.
            tickets: u32 = 3,
        },
        /// A ticket is SOLD again.
        TicketRestored = 36 { ticket: TicketId = 1, from: TicketStatus = 3, reason: String = 4 },
        /// A device is no longer refused.
        DeviceReadmitted = 37 { device: DeviceId = 1, reason: String = 2 },
        /// Somebody was let in.
        Admitted = 38 as AdmittedByHand { admitted: AdmittedByHand = 1 },
    }
}

/// Somebody was let in by hand.
#[derive(Clone, Debug, PartialEq)]
pub struct AdmittedByHand {
    pub ticket: TicketId,
    /// Through which gate.
    pub gate: GateNo,
    /// Into which zone.
    pub zone: ZoneNo,
    /// What a reader would have said; `None`: it would have let them in as well.
    pub instead_of: Option<Rejection>,
    /// SOLD became USED.
    pub first_entry: bool,
    /// Of the zone, afterwards.
    pub occupancy: u32,
    pub reason: String,
}

impl AdmittedByHand {
    /// The scan that would have done the same: green, whatever stood against it.
    pub fn as_scan(&self, device: DeviceId, at: Timestamp) -> Scanned {
        Scanned {
            device,
            // Not 0, so that it can be undone; and where that is to be taken out of the gate's count.
            seq: 1 + u64::from(self.gate.0),
            floor: 0,
            fingerprint: 0,
            zone: self.zone,
            gate: self.gate,
            direction: Direction::Enter,
            verdict: Verdict::Admitted,
            flags: CONFLICT | if self.first_entry { FIRST_ENTRY } else { 0 },
            ticket: Some(self.ticket),
            occupancy: self.occupancy,
            first_use: None,
            captured_at: at,
            taken_at: at,
            instead_of: self.instead_of,
            credential: 0,
            tag: None,
        }
    }
}

impl DoneByHand {
    /// Whose business it is.
    pub fn festival(&self) -> FestivalId {
        match self {
            Self::Reopened { festival, .. } | Self::Edited { festival, .. } | Self::ScansReset { festival, .. } => {
                *festival
            }
            Self::TicketRestored { ticket, .. } => ticket.festival(),
            Self::DeviceReadmitted { device, .. } => device.festival(),
            Self::Admitted { admitted } => admitted.ticket.festival(),
        }
    }
}
