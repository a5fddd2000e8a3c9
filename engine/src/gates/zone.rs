//! A zone: capacity, occupancy, open or closed. Who is inside is written on the tickets, as a mask of zones
//! ([`crate::gates::category::Ticket::inside`]); the zone keeps the sums.

use serde::{Deserialize, Serialize};

use crate::gates::command::Direction;
use crate::gates::view::{GateView, ZoneView};
use crate::model::ids::{GateNo, ZoneNo};
use crate::model::rejection::Rejection;
use crate::model::status::ZoneState;
use crate::plants::{Plant, planted};

/// An area with a capacity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Zone {
    /// Its number.
    pub no: ZoneNo,
    pub name: String,
    /// The zone it lies in; none for a perimeter.
    pub parent: Option<ZoneNo>,
    /// All zones it lies in, as a mask.
    pub outer: u64,
    /// All zones that lie in it, as a mask.
    pub inner: u64,
    /// How many it holds.
    pub capacity: u32,
    /// How many are in it.
    pub occupancy: u32,
    /// Of these, people whom no ticket accounts for: they were let in on an answer that a crash had lost.
    pub unaccounted: u32,
    /// Entries less undone entries.
    pub admitted: u64,
    /// Exits less undone exits.
    pub left: u64,
    /// Whether it lets people in.
    pub state: ZoneState,
}

impl Zone {
    /// An empty, open zone.
    pub fn new(no: ZoneNo, name: String, parent: Option<&Zone>, capacity: u32) -> Self {
        Self {
            no,
            name,
            parent: parent.map(|parent| parent.no),
            outer: parent.map_or(0, |parent| parent.outer | parent.no.bit()),
            inner: 0,
            capacity,
            occupancy: 0,
            unaccounted: 0,
            admitted: 0,
            left: 0,
            state: ZoneState::Open,
        }
    }

    /// A zone in no other zone.
    pub fn is_perimeter(&self) -> bool {
        self.parent.is_none()
    }

    /// # Errors
    /// [`Rejection::ZoneFull`] if nobody more fits.
    pub fn has_room(&self) -> Result<(), Rejection> {
        let capacity = self.capacity + u32::from(planted(Plant::CapacityOffByOne));
        if self.occupancy >= capacity { Err(Rejection::ZoneFull) } else { Ok(()) }
    }

    /// Somebody came in.
    pub fn enter(&mut self) {
        self.occupancy += 1;
        self.admitted += 1;
    }
    /// Somebody left.
    pub fn leave(&mut self) {
        self.occupancy = self.occupancy.checked_sub(1).expect("who leaves was counted");
        self.left += 1;
    }
    /// An entry was none.
    pub fn undo_enter(&mut self) {
        if !planted(Plant::UndoKeepsOccupancy) {
            self.occupancy = self.occupancy.checked_sub(1).expect("who is taken back was counted");
        }
        self.admitted -= 1;
    }
    /// An exit was none.
    pub fn undo_leave(&mut self) {
        self.occupancy += 1;
        self.left -= 1;
    }

    /// So many of those inside are accounted for by no ticket.
    pub fn set_unaccounted(&mut self, count: u32) {
        while self.unaccounted < count {
            self.unaccounted += 1;
            self.enter();
        }
        while self.unaccounted > count {
            self.unaccounted -= 1;
            self.leave();
        }
    }

    /// Nobody has come in yet.
    pub fn reset_scans(&mut self) {
        (self.occupancy, self.unaccounted, self.admitted, self.left) = (0, 0, 0, 0);
    }

    /// For the office.
    pub fn view(&self) -> ZoneView {
        ZoneView {
            no: self.no,
            name: self.name.clone(),
            parent: self.parent,
            capacity: self.capacity,
            occupancy: self.occupancy,
            admitted: self.admitted,
            left: self.left,
            state: self.state,
        }
    }
}

/// A named place on a zone's border, with what it has done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Gate {
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

impl Gate {
    /// Nobody has come through yet.
    pub fn reset_scans(&mut self) {
        (self.admitted, self.exited, self.rejected) = (0, 0, 0);
        self.undone = 0;
    }

    /// A scan that was counted here was none.
    pub fn take_back(&mut self, direction: Direction) {
        let counted = match direction {
            Direction::Enter => &mut self.admitted,
            Direction::Exit => &mut self.exited,
        };
        *counted = counted.checked_sub(1).expect("what is taken back was counted");
        self.undone += 1;
    }

    /// For the office.
    pub fn view(&self) -> GateView {
        GateView {
            no: self.no,
            name: self.name.clone(),
            zone: self.zone,
            admitted: self.admitted,
            exited: self.exited,
            undone: self.undone,
            rejected: self.rejected,
        }
    }
}
