//! What somebody does by hand against the usual course: a slip is taken back, somebody is let in in spite of a rule. Each
//! says why, and is recorded as what it is.

use serde::{Deserialize, Serialize};

use crate::model::ids::{DeviceId, FestivalId, GateNo, TicketId};
use crate::model::time::{Calendar, Timestamp};

/// What is asked. Reasons have 1 to [`crate::command::TEXT_LEN_MAX`] bytes and name nobody: they are kept for ever.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ByHand {
    /// Ends a festival though people are inside. Their exits still count them out.
    Complete { festival: FestivalId },
    /// COMPLETED → ONGOING: it was ended by mistake.
    Reopen { festival: FestivalId, reason: String },
    /// Gives a festival another name, other dates, another place.
    Edit { festival: FestivalId, details: Details },
    /// Takes back a test day: every USED ticket is SOLD again, nobody is inside, gates and zones count from nothing.
    ResetScans { festival: FestivalId, reason: String },
    /// CANCELLED or REFUNDED → SOLD, while there is room. Moves no money.
    RestoreTicket { ticket: TicketId, reason: String },
    /// A device that was revoked is itself again, with the key it has.
    ReadmitDevice { device: DeviceId, reason: String },
    /// Lets somebody in at a gate, in spite of what may be overruled.
    Admit {
        ticket: TicketId,
        /// Through which gate.
        gate: GateNo,
        reason: String,
    },
}

impl ByHand {
    /// Whose business it is.
    pub fn festival(&self) -> FestivalId {
        match self {
            Self::Complete { festival }
            | Self::Reopen { festival, .. }
            | Self::Edit { festival, .. }
            | Self::ResetScans { festival, .. } => *festival,
            Self::RestoreTicket { ticket, .. } | Self::Admit { ticket, .. } => ticket.festival(),
            Self::ReadmitDevice { device, .. } => device.festival(),
        }
    }

    /// Why, where that has to be said.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Complete { .. } | Self::Edit { .. } => None,
            Self::Reopen { reason, .. }
            | Self::ResetScans { reason, .. }
            | Self::RestoreTicket { reason, .. }
            | Self::ReadmitDevice { reason, .. }
            | Self::Admit { reason, .. } => Some(reason),
        }
    }
}

/// What a festival says of itself. None of it decides anything at the gates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    pub name: String,
    /// When it begins.
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    /// Where it is, in at most [`crate::command::TEXT_LEN_MAX`] bytes; empty: nobody has said so.
    pub location: String,
    /// How many people the whole site is meant for. Zones have the capacities that are enforced.
    pub max_capacity: Option<u32>,
    /// By which its days are told. What is recorded goes by UTC, so that reports follow from all that was.
    pub calendar: Calendar,
}
