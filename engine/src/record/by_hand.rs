//! How what was done by hand is written and read.

use crate::gates::command::Details;
use crate::gates::event::{AdmittedByHand, DoneByHand};
use crate::model::ids::{DeviceId, FestivalId};
use crate::model::status::TicketStatus;
use crate::model::time::{Calendar, Timestamp};
use crate::record::proto::event::Kind;
use crate::record::{RecordError, gate, narrow, proto, rejection, ticket, ticket_halves, word, zone};

pub(super) fn to_proto(done: &DoneByHand) -> Kind {
    match done.clone() {
        DoneByHand::Reopened { festival, reason } => {
            Kind::FestivalReopened(proto::FestivalReopened { festival: festival.0, reason })
        }
        DoneByHand::Edited { festival, details } => {
            let Details { name, starts_at, ends_at, location, max_capacity, calendar } = details;
            Kind::FestivalEdited(proto::FestivalEdited {
                festival: festival.0,
                name,
                starts_at: starts_at.0,
                ends_at: ends_at.0,
                location,
                max_capacity,
                time_zone: calendar.time_zone,
                day_starts_min: calendar.day_starts_min.into(),
            })
        }
        DoneByHand::ScansReset { festival, reason, tickets } => {
            Kind::ScansReset(proto::ScansReset { festival: festival.0, reason, tickets })
        }
        DoneByHand::TicketRestored { ticket, from, reason } => {
            let (ticket_high, ticket_low) = ticket_halves(Some(ticket));
            Kind::TicketRestored(proto::TicketRestored { ticket_high, ticket_low, from: from as u32, reason })
        }
        DoneByHand::DeviceReadmitted { device, reason } => {
            Kind::DeviceReadmitted(proto::DeviceReadmitted { device: device.0, reason })
        }
        DoneByHand::Admitted(admitted) => {
            let AdmittedByHand { ticket, gate, zone, instead_of, first_entry, occupancy, reason } = admitted;
            let (ticket_high, ticket_low) = ticket_halves(Some(ticket));
            Kind::AdmittedByHand(proto::AdmittedByHand {
                ticket_high,
                ticket_low,
                gate: u32::from(gate.0),
                zone: u32::from(zone.0),
                instead_of: instead_of.map_or(0, |rejection| rejection as u32),
                first_entry,
                occupancy,
                reason,
            })
        }
    }
}

pub(super) fn from_proto(kind: Kind) -> Result<DoneByHand, RecordError> {
    Ok(match kind {
        Kind::FestivalReopened(reopened) => {
            DoneByHand::Reopened { festival: FestivalId(reopened.festival), reason: reopened.reason }
        }
        Kind::FestivalEdited(edited) => DoneByHand::Edited {
            festival: FestivalId(edited.festival),
            details: Details {
                name: edited.name,
                starts_at: Timestamp(edited.starts_at),
                ends_at: Timestamp(edited.ends_at),
                location: edited.location,
                max_capacity: edited.max_capacity,
                calendar: Calendar {
                    time_zone: edited.time_zone,
                    day_starts_min: narrow(edited.day_starts_min, "day start")?,
                },
            },
        },
        Kind::ScansReset(reset) => DoneByHand::ScansReset {
            festival: FestivalId(reset.festival),
            reason: reset.reason,
            tickets: reset.tickets,
        },
        Kind::TicketRestored(restored) => DoneByHand::TicketRestored {
            ticket: ticket(restored.ticket_high, restored.ticket_low)?,
            from: word(TicketStatus::from_number(restored.from), "ticket status")?,
            reason: restored.reason,
        },
        Kind::DeviceReadmitted(readmitted) => {
            DoneByHand::DeviceReadmitted { device: DeviceId(readmitted.device), reason: readmitted.reason }
        }
        Kind::AdmittedByHand(admitted) => DoneByHand::Admitted(AdmittedByHand {
            ticket: ticket(admitted.ticket_high, admitted.ticket_low)?,
            gate: gate(admitted.gate)?,
            zone: zone(narrow(admitted.zone, "zone")?)?,
            instead_of: rejection(admitted.instead_of)?,
            first_entry: admitted.first_entry,
            occupancy: admitted.occupancy,
            reason: admitted.reason,
        }),
        _ => return Err(RecordError::Malformed("by hand")),
    })
}
