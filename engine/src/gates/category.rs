//! A category: quota and issue, and the status of each of its tickets. Tickets count up, so they lie in a row and are
//! found by index: one cache line each, no map.

use serde::{Deserialize, Serialize};

use crate::gates::command::{CategoryValues, FirstUse};
use crate::gates::view::CategoryView;
use crate::model::ids::{CategoryNo, GateNo, TicketId, ZoneNo, nonce_at};
use crate::model::rejection::Rejection;
use crate::model::status::TicketStatus;
use crate::model::time::{MINUTE_MS, Timestamp};
use crate::plants::{Plant, planted};

/// A kind of ticket, and its tickets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Category {
    /// Its number.
    pub no: CategoryNo,
    pub values: CategoryValues,
    /// Tickets that take a place: RESERVED, SOLD, USED.
    pub live: u32,
    /// Of these, USED.
    pub used: u32,
    /// By serial.
    pub tickets: Vec<Ticket>,
}

/// One place in a category. 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ticket {
    /// The part of its id that cannot be counted up to.
    pub nonce: u64,
    /// The zones its holder is in, as a mask.
    pub inside: u64,
    /// When it first entered a perimeter.
    pub first_used_at: Timestamp,
    /// The last scan that changed something, so that it can be undone.
    pub last: LastScan,
    /// Which perimeter it first entered.
    pub first_zone: ZoneNo,
    /// Through which gate.
    pub first_gate: GateNo,
    /// Where it is in its life.
    pub status: TicketStatus,
    /// Blocked by the organiser.
    pub blocked: bool,
}

/// What a ticket remembers of its last scan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastScan {
    pub at: Timestamp,
    /// The mask as it was before.
    pub inside_before: u64,
    /// The reader's number for the scan; 0: there is nothing to undo.
    pub seq: u64,
    /// The reader's number at the festival.
    pub device: u32,
    pub zone: ZoneNo,
    /// It made the ticket USED.
    pub first_entry: bool,
    /// By how many minutes the minute in which it counts lies before [`LastScan::at`]'s.
    pub minutes_late: u16,
}

impl LastScan {
    /// Where the minute in which it counts begins.
    pub fn minute(&self) -> Timestamp {
        self.at.minute().plus_ms(-i64::from(self.minutes_late) * MINUTE_MS)
    }
}

const _: () = assert!(size_of::<Ticket>() == 64, "a ticket is one cache line");

impl Ticket {
    fn new(nonce: u64, paid: bool) -> Self {
        Self {
            nonce,
            inside: 0,
            first_used_at: Timestamp(0),
            last: LastScan {
                at: Timestamp(0),
                inside_before: 0,
                seq: 0,
                device: 0,
                zone: ZoneNo(0),
                first_entry: false,
                minutes_late: 0,
            },
            first_zone: ZoneNo(0),
            first_gate: GateNo(0),
            status: if paid { TicketStatus::Sold } else { TicketStatus::Reserved },
            blocked: false,
        }
    }

    /// When and where it first came in, if it has.
    pub fn first_use(&self) -> Option<FirstUse> {
        (self.first_used_at != Timestamp(0)).then_some(FirstUse {
            at: self.first_used_at,
            zone: self.first_zone,
            gate: self.first_gate,
        })
    }
}

/// The most tickets of one category: 2^24 × 64 B = 1 GiB.
pub const QUOTA_MAX: u32 = 1 << 24;

impl Category {
    /// A category without tickets.
    pub fn new(no: CategoryNo, values: CategoryValues) -> Self {
        Self { no, values, live: 0, used: 0, tickets: Vec::new() }
    }

    /// Whether `count` more fit under the quota. Serials are not reused, so what was ever issued is bounded too.
    ///
    /// # Errors
    /// [`Rejection::SoldOut`]; [`Rejection::LimitReached`] past [`QUOTA_MAX`] tickets ever.
    pub fn has_places(&self, count: u32) -> Result<(), Rejection> {
        if self.live.saturating_add(count) > self.values.quota && !planted(Plant::QuotaForgotten) {
            return Err(Rejection::SoldOut);
        }
        if self.tickets.len() as u64 + u64::from(count) > u64::from(QUOTA_MAX) {
            return Err(Rejection::LimitReached);
        }
        Ok(())
    }

    /// Issues tickets.
    pub fn issue(&mut self, first_serial: u32, count: u32, seed: u64, paid: bool) {
        assert_eq!(self.tickets.len(), first_serial as usize, "serials are dense");
        self.tickets.extend((0..count).map(|i| Ticket::new(nonce_at(seed, i), paid)));
        self.live += count;
    }

    /// The ticket with this id, if it was issued here.
    pub fn ticket(&self, id: TicketId) -> Option<&Ticket> {
        self.tickets.get(id.serial() as usize).filter(|ticket| ticket.nonce == id.nonce())
    }

    /// The ticket of an event: it exists.
    pub fn ticket_mut(&mut self, id: TicketId) -> &mut Ticket {
        let ticket = &mut self.tickets[id.serial() as usize];
        assert_eq!(ticket.nonce, id.nonce(), "decided");
        ticket
    }

    /// Moves a ticket on, and the sums with it.
    pub fn set_status(&mut self, id: TicketId, to: TicketStatus) {
        let ticket = self.ticket_mut(id);
        let from = core::mem::replace(&mut ticket.status, to);
        self.live = self.live - u32::from(from.is_live()) + u32::from(to.is_live());
        self.used = self.used - u32::from(from == TicketStatus::Used) + u32::from(to == TicketStatus::Used);
    }

    /// Nobody has come in yet. How many tickets were USED.
    pub fn reset_scans(&mut self) -> u32 {
        for ticket in &mut self.tickets {
            if ticket.status == TicketStatus::Used {
                ticket.status = TicketStatus::Sold;
            }
            (ticket.inside, ticket.last.seq, ticket.first_used_at) = (0, 0, Timestamp(0));
            (ticket.first_zone, ticket.first_gate) = (ZoneNo(0), GateNo(0));
        }
        core::mem::take(&mut self.used)
    }

    /// For the office.
    pub fn view(&self) -> CategoryView {
        CategoryView {
            no: self.no,
            values: self.values.clone(),
            issued: self.tickets.len() as u32,
            live: self.live,
            used: self.used,
        }
    }
}
