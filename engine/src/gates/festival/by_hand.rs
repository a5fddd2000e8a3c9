//! What is done by hand at a festival: slips taken back, and somebody let in in spite of a rule.

use crate::command::TEXT_LEN_MAX;
use crate::event::{Already, Event};
use crate::gates::admission;
use crate::gates::category::Category;
use crate::gates::command::{ByHand, Details};
use crate::gates::event::DoneByHand;
use crate::gates::festival::{Decided, Festival, check, is_name};
use crate::gates::zone::Zone;
use crate::model::rejection::Rejection;
use crate::model::status::{FestivalStatus, TicketStatus};
use crate::model::time::{HOUR_MS, Timestamp};

/// How long after its beginning a festival's scans can be reset: a test goes on until the doors open, and whoever finds
/// out only then that the counters are those of the test is not too late.
pub const RESET_WITHIN_MS: i64 = HOUR_MS;

impl Festival {
    /// Decides what is to be done by hand.
    ///
    /// # Errors
    /// [`Rejection::InvalidValue`] without a reason, and whatever stands against it.
    pub(super) fn decide_by_hand(&self, action: &ByHand, now: Timestamp) -> Result<Decided, Rejection> {
        check(action.reason().is_none_or(is_name))?;
        let festival = self.id;
        let done = match action {
            ByHand::Complete { .. } => {
                if !self.status.may_become(FestivalStatus::Completed) {
                    return Err(Rejection::InvalidTransition);
                }
                return Ok(Decided::Event(Event::FestivalStatusSet { festival, to: FestivalStatus::Completed }));
            }
            ByHand::Reopen { reason, .. } => {
                if self.status != FestivalStatus::Completed {
                    return Err(Rejection::InvalidTransition);
                }
                DoneByHand::Reopened { festival, reason: reason.clone() }
            }
            ByHand::Edit { details, .. } => {
                let Details { name, starts_at, ends_at, location, max_capacity, calendar } = details;
                check(is_name(name) && starts_at < ends_at && calendar.is_valid())?;
                check(location.len() <= TEXT_LEN_MAX && *max_capacity != Some(0))?;
                if *details == self.details() {
                    return Ok(Decided::Already(Already::Done));
                }
                DoneByHand::Edited { festival, details: details.clone() }
            }
            ByHand::ResetScans { reason, .. } => {
                match self.status {
                    FestivalStatus::Completed | FestivalStatus::Cancelled => return Err(Rejection::InvalidTransition),
                    FestivalStatus::Ongoing if now.since_ms(self.starts_at) > RESET_WITHIN_MS => {
                        return Err(Rejection::TooLateToReset);
                    }
                    _ => {}
                }
                let tickets = self.categories.iter().map(|category| category.used).sum();
                DoneByHand::ScansReset { festival, reason: reason.clone(), tickets }
            }
            ByHand::RestoreTicket { ticket, reason } => {
                let from = self.ticket(*ticket)?.status;
                let over = matches!(self.status, FestivalStatus::Completed | FestivalStatus::Cancelled);
                if over || !matches!(from, TicketStatus::Cancelled | TicketStatus::Refunded) {
                    return Err(Rejection::InvalidTransition);
                }
                let category = &self.categories[usize::from(ticket.category().0)];
                if category.live >= category.values.quota {
                    return Err(Rejection::SoldOut);
                }
                DoneByHand::TicketRestored { ticket: *ticket, from, reason: reason.clone() }
            }
            ByHand::ReadmitDevice { device, reason } => {
                if !self.device(*device)?.revoked {
                    return Ok(Decided::Already(Already::Done));
                }
                DoneByHand::DeviceReadmitted { device: *device, reason: reason.clone() }
            }
            ByHand::Admit { ticket, gate, reason } => {
                DoneByHand::Admitted { admitted: admission::decide_by_hand(self, *ticket, *gate, reason, now)? }
            }
        };
        Ok(Decided::Event(Event::ByHand(done)))
    }

    /// What it says of itself.
    pub fn details(&self) -> Details {
        Details {
            name: self.name.clone(),
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            location: self.location.clone(),
            max_capacity: self.max_capacity,
            calendar: self.calendar.clone(),
        }
    }

    /// Writes down what was done by hand.
    pub(super) fn apply_by_hand(&mut self, done: &DoneByHand, at: Timestamp) {
        match done {
            DoneByHand::Reopened { .. } => self.status = FestivalStatus::Ongoing,
            DoneByHand::Edited { details, .. } => {
                let Details { name, starts_at, ends_at, location, max_capacity, calendar } = details.clone();
                (self.name, self.starts_at, self.ends_at) = (name, starts_at, ends_at);
                (self.location, self.max_capacity, self.calendar) = (location, max_capacity, calendar);
            }
            DoneByHand::ScansReset { tickets, .. } => {
                let taken_back: u32 = self.categories.iter_mut().map(Category::reset_scans).sum();
                assert_eq!(taken_back, *tickets, "paired with decide");
                self.zones.iter_mut().for_each(Zone::reset_scans);
                for gate in &mut self.gates {
                    gate.reset_scans();
                }
                self.rejections.fill(0);
                self.conflicts = 0;
                self.recent.clear();
            }
            DoneByHand::TicketRestored { ticket, .. } => self.set_ticket_status(*ticket, TicketStatus::Sold),
            DoneByHand::DeviceReadmitted { device, .. } => {
                self.devices[device.number() as usize].revoked = false;
            }
            DoneByHand::Admitted { admitted } => {
                self.gates[usize::from(admitted.gate.0)].admitted += 1;
                admission::apply_by_hand(self, admitted, at);
            }
        }
    }

    /// Whether anybody is inside.
    pub(super) fn is_anybody_inside(&self) -> bool {
        self.zones.iter().any(|zone| zone.occupancy > 0)
    }
}
