//! The audit's own books of one festival. Written down as the events say, checked before each is written; after a
//! violation they go on with what was recorded.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, Findings};
use crate::cashless::event::CashlessEvent;
use crate::event::Event;
use crate::gates::admission::{NO_DEVICE, UNDO_WITHIN_MS};
use crate::gates::command::{CONFLICT, CategoryValues, Direction, FIRST_ENTRY, Verdict, WAS_NOT_INSIDE};
use crate::gates::connections::LATE_MAX_MS;
use crate::gates::event::{AdmittedByHand, DoneByHand, Scanned, TakenBack, Undone};
use crate::gates::festival::{Festival, RESET_WITHIN_MS};
use crate::model::ids::{DeviceId, FestivalId, GateNo, TicketId, ZoneNo, nonce_at};
use crate::model::rejection::Rejection;
use crate::model::status::{EntryPolicy, FestivalStatus, Policy, TicketStatus, ZoneState};
use crate::model::time::Timestamp;

/// A ticket by category and serial.
type Seat = (u16, u32);

pub(super) struct Books {
    id: FestivalId,
    starts_at: Timestamp,
    status: FestivalStatus,
    policy: Policy,
    qr_version: u32,
    zones: Vec<Zone>,
    /// The zone that each gate leads into.
    gates: Vec<ZoneNo>,
    /// By gate: admitted and exited less what was undone, undone, rejected.
    counted: Vec<[u64; 4]>,
    categories: Vec<Category>,
    devices: Vec<Device>,
    /// Enrolment codes, until when, and whether one was used.
    codes: BTreeMap<[u8; 32], (Timestamp, bool)>,
    /// What an undo would take back.
    last: BTreeMap<Seat, Last>,
}

struct Zone {
    parent: Option<ZoneNo>,
    capacity: u32,
    state: ZoneState,
    inside: BTreeSet<Seat>,
    unaccounted: u32,
    came: u64,
    left: u64,
}

struct Category {
    values: CategoryValues,
    live: u32,
    tickets: Vec<Ticket>,
}

struct Ticket {
    nonce: u64,
    status: TicketStatus,
    blocked: bool,
}

struct Device {
    /// None for a terminal.
    gate: Option<u16>,
    revoked: bool,
    floor: u64,
    /// The numbers at or above the floor that had an effect.
    answered: BTreeSet<u64>,
}

struct Last {
    at: Timestamp,
    device: DeviceId,
    gate: GateNo,
    /// Of when it counts.
    minute: Timestamp,
    zone: ZoneNo,
    entered: bool,
    /// The zones entered or left.
    zones: Vec<usize>,
    first_entry: bool,
}

impl Zone {
    fn new(parent: Option<ZoneNo>) -> Self {
        let inside = BTreeSet::new();
        Self { parent, capacity: 0, state: ZoneState::Open, inside, unaccounted: 0, came: 0, left: 0 }
    }
    fn occupancy(&self) -> u32 {
        self.inside.len() as u32 + self.unaccounted
    }
    fn set_unaccounted(&mut self, count: u32) {
        self.came += u64::from(count.saturating_sub(self.unaccounted));
        self.left += u64::from(self.unaccounted.saturating_sub(count));
        self.unaccounted = count;
    }
}

impl Books {
    pub(super) fn new(id: FestivalId, policy: Policy, starts_at: Timestamp) -> Self {
        Self {
            id,
            starts_at,
            status: FestivalStatus::Draft,
            policy,
            qr_version: 1,
            zones: Vec::new(),
            gates: Vec::new(),
            categories: Vec::new(),
            devices: Vec::new(),
            codes: BTreeMap::new(),
            last: BTreeMap::new(),
            counted: Vec::new(),
        }
    }

    pub(super) fn expire(&mut self, at: Timestamp) {
        self.codes.retain(|_, (until, _)| *until >= at);
    }

    pub(super) fn event(&mut self, event: &Event, at: Timestamp, found: &mut Findings) {
        match event {
            Event::Scanned(scanned) => self.scanned(scanned, at, found),
            Event::Undone(undone) => self.undone(undone, at, found),
            Event::FestivalStatusSet { to, .. } => {
                let legal = self.status.may_become(*to);
                found.check(Check::Transition, legal, || format!("festival {} → {}", self.status.word(), to.word()));
                self.status = *to;
            }
            Event::PolicySet { policy, .. } => self.policy = *policy,
            Event::ZonePut { zone, parent, capacity, .. } => self.zone_put(*zone, *parent, *capacity, found),
            Event::GateAdded { gate, zone, .. } => {
                let next = usize::from(gate.0) == self.gates.len() && usize::from(zone.0) < self.zones.len();
                if found.check(Check::Known, next, || format!("gate {} of zone {}", gate.0, zone.0)) {
                    self.gates.push(*zone);
                    self.counted.push([0; 4]);
                }
            }
            Event::CategoryPut { category, values, .. } => {
                let no = usize::from(category.0);
                if !found.check(Check::Known, no <= self.categories.len(), || format!("category {no} is not the next"))
                {
                    return;
                }
                match self.categories.get_mut(no) {
                    Some(known) => known.values = values.clone(),
                    None => self.categories.push(Category { values: values.clone(), live: 0, tickets: Vec::new() }),
                }
                self.quota(no, found);
            }
            Event::TicketsIssued { category, first_serial, count, seed, paid, .. } => {
                let no = usize::from(category.0);
                let next = self.categories.get(no).is_some_and(|known| known.tickets.len() as u32 == *first_serial);
                if !found.check(Check::Known, next, || format!("tickets from {first_serial} of category {no}")) {
                    return;
                }
                found.report.tickets += u64::from(*count);
                let status = if *paid { TicketStatus::Sold } else { TicketStatus::Reserved };
                let made = (0..*count).map(|i| Ticket { nonce: nonce_at(*seed, i), status, blocked: false });
                self.categories[no].tickets.extend(made);
                self.categories[no].live += count;
                self.quota(no, found);
            }
            Event::TicketStatusSet { ticket, from, to } => {
                let Some(seat) = self.seat(*ticket, found) else { return };
                let is = self.ticket(seat).status;
                let legal = is == *from && from.may_become(*to);
                found.check(Check::Transition, legal, || {
                    format!("ticket {ticket}, {}, from {} to {}", is.word(), from.word(), to.word())
                });
                self.set_status(seat, *to);
                self.quota(usize::from(seat.0), found);
            }
            Event::TicketBlockSet { ticket, blocked } => {
                let Some(seat) = self.seat(*ticket, found) else { return };
                self.ticket(seat).blocked = *blocked;
            }
            // Whose it is, is in the books of wristbands.
            Event::TagBound { ticket, .. } => {
                self.seat(*ticket, found);
            }
            Event::ZoneStateSet { zone, state, .. } => {
                let known = self.zones.get_mut(usize::from(zone.0));
                if found.check(Check::Known, known.is_some(), || format!("there is no zone {}", zone.0)) {
                    known.expect("just looked").state = *state;
                }
            }
            Event::EnrolmentOffered { gate, code_hash, until, .. } => {
                let known = usize::from(gate.0) < self.gates.len();
                found.check(Check::Known, known, || format!("there is no gate {}", gate.0));
                self.offered(code_hash, *until, found);
            }
            Event::DeviceEnrolled { device, gate, code_hash, .. } => {
                let known = usize::from(gate.0) < self.gates.len();
                found.check(Check::Known, known, || format!("device {device} at gate {}", gate.0));
                self.enrolled(*device, Some(gate.0), code_hash, at, found);
            }
            Event::Cashless(CashlessEvent::TerminalOffered { code_hash, until, .. }) => {
                self.offered(code_hash, *until, found);
            }
            Event::Cashless(CashlessEvent::TerminalEnrolled { device, code_hash, .. }) => {
                self.enrolled(*device, None, code_hash, at, found);
            }
            Event::DeviceRevoked { device } => {
                if let Some(known) = self.device(*device, found) {
                    known.revoked = true;
                }
            }
            Event::DeviceConnected { device, .. } => {
                if let Some(known) = self.device(*device, found) {
                    let revoked = known.revoked;
                    found.check(Check::Revoked, !revoked, || format!("device {device} was revoked, and connected"));
                }
            }
            Event::DeviceLeft { device, .. }
            | Event::DeviceClockSeen { device, .. }
            | Event::DevicePins { device, .. } => {
                _ = self.device(*device, found);
            }
            Event::QrKeyRotated { version, .. } => {
                let next = self.qr_version + 1;
                found.check(Check::Known, *version == next, || format!("QR key {version} where {next} should follow"));
                self.qr_version = *version;
            }
            Event::ByHand(done) => self.by_hand(done, at, found),
            Event::Origin(_)
            | Event::Expired
            | Event::FestivalCreated { .. }
            | Event::ApiKeyCreated { .. }
            | Event::ApiKeyRevoked { .. }
            | Event::Transaction(_)
            | Event::Cashless(_)
            | Event::Sent { .. }
            | Event::Received { .. }
            | Event::Delivered { .. } => unreachable!("not a gate's"),
        }
    }

    fn by_hand(&mut self, done: &DoneByHand, at: Timestamp, found: &mut Findings) {
        match done {
            DoneByHand::Reopened { .. } => {
                let was = self.status;
                found.check(Check::Transition, was == FestivalStatus::Completed, || format!("{} reopened", was.word()));
                self.status = FestivalStatus::Ongoing;
            }
            DoneByHand::Edited { details, .. } => self.starts_at = details.starts_at,
            DoneByHand::ScansReset { tickets, .. } => {
                let in_time = match self.status {
                    FestivalStatus::Completed | FestivalStatus::Cancelled => false,
                    FestivalStatus::Ongoing => at.since_ms(self.starts_at) <= RESET_WITHIN_MS,
                    FestivalStatus::Draft | FestivalStatus::Published => true,
                };
                found.check(Check::Transition, in_time, || format!("scans reset, festival {}", self.status.word()));
                let mut used = 0;
                let all = self.categories.iter_mut().flat_map(|category| &mut category.tickets);
                for ticket in all.filter(|ticket| ticket.status == TicketStatus::Used) {
                    ticket.status = TicketStatus::Sold; // as live as before
                    used += 1;
                }
                found.check(Check::Undo, used == *tickets, || format!("{used} tickets reset, recorded {tickets}"));
                for zone in &mut self.zones {
                    zone.inside.clear();
                    (zone.unaccounted, zone.came, zone.left) = (0, 0, 0);
                }
                self.counted.fill([0; 4]);
                self.last.clear();
            }
            DoneByHand::TicketRestored { ticket, from, .. } => {
                let Some(seat) = self.seat(*ticket, found) else { return };
                let is = self.ticket(seat).status;
                let legal = is == *from && matches!(from, TicketStatus::Cancelled | TicketStatus::Refunded);
                found.check(Check::Transition, legal, || {
                    format!("ticket {ticket}, {}, restored from {}", is.word(), from.word())
                });
                self.set_status(seat, TicketStatus::Sold);
                self.quota(usize::from(seat.0), found);
            }
            DoneByHand::DeviceReadmitted { device, .. } => {
                let Some(known) = self.device(*device, found) else { return };
                let was = std::mem::replace(&mut known.revoked, false);
                found.check(Check::Revoked, was, || format!("{device} was readmitted and had not been revoked"));
            }
            DoneByHand::Admitted { admitted } => self.admitted_by_hand(admitted, at, found),
        }
    }

    /// As with a shown answer that stands, but for what nobody may overrule.
    fn admitted_by_hand(&mut self, admitted: &AdmittedByHand, at: Timestamp, found: &mut Findings) {
        let zone = usize::from(admitted.zone.0);
        let fits = zone < self.zones.len() && self.gates.get(usize::from(admitted.gate.0)) == Some(&admitted.zone);
        let what = || format!("{} was let in by hand to zone {zone}", admitted.ticket);
        if !found.check(Check::Known, fits, what) {
            return;
        }
        let Some(seat) = self.seat(admitted.ticket, found) else { return };
        let ticket = self.ticket(seat);
        let valid = matches!(ticket.status, TicketStatus::Sold | TicketStatus::Used) && !ticket.blocked;
        found.check(Check::Revoked, valid, what);
        found.check(Check::Active, self.status == FestivalStatus::Ongoing, what);
        let evacuating = |&zone: &usize| self.zones[zone].state == ZoneState::Evacuating;
        let open = self.zones[zone].state == ZoneState::Open && !self.around(zone).iter().any(evacuating);
        found.check(Check::Door, open, what);
        found.check(Check::Capacity, self.zones[zone].occupancy() < self.zones[zone].capacity, what);
        self.counted[usize::from(admitted.gate.0)][0] += 1;
        let nobodys = DeviceId::new(self.id, NO_DEVICE);
        self.admitted(seat, &admitted.as_scan(nobodys, at), at, found);
        self.sums(admitted.zone, admitted.occupancy, found);
    }

    fn offered(&mut self, code_hash: &[u8; 32], until: Timestamp, found: &mut Findings) {
        let before = self.codes.insert(*code_hash, (until, false));
        found.check(Check::Once, before.is_none(), || "an enrolment code again".into());
    }

    /// A reader at a gate, or a terminal at none.
    fn enrolled(
        &mut self,
        device: DeviceId,
        gate: Option<u16>,
        code_hash: &[u8; 32],
        at: Timestamp,
        found: &mut Findings,
    ) {
        let next = device.number() as usize == self.devices.len();
        found.check(Check::Known, next, || format!("device {device} is not the next"));
        let usable = matches!(self.codes.get(code_hash), Some((until, false)) if at <= *until);
        found.check(Check::Once, usable, || format!("device {device}'s code was used, had lapsed, or was none"));
        self.codes.entry(*code_hash).and_modify(|(_, used)| *used = true);
        self.devices.push(Device { gate, revoked: false, floor: 0, answered: BTreeSet::new() });
    }

    fn zone_put(&mut self, zone: ZoneNo, parent: Option<ZoneNo>, capacity: u32, found: &mut Findings) {
        let no = usize::from(zone.0);
        let fits = match self.zones.get(no) {
            Some(known) => known.parent == parent,
            None => no == self.zones.len() && parent.is_none_or(|parent| usize::from(parent.0) < no),
        };
        if !found.check(Check::Known, fits, || format!("zone {no} in {parent:?}")) {
            return;
        }
        if no == self.zones.len() {
            self.zones.push(Zone::new(parent));
        }
        self.zones[no].capacity = capacity;
    }

    /// A device's command takes effect once, at its own gate, and not after it was revoked.
    fn command(&mut self, device: DeviceId, seq: u64, floor: u64, verdict: Verdict, found: &mut Findings) {
        if let Verdict::Rejected(_) = verdict {
            found.report.rejected += 1;
        }
        let Some(known) = self.device(device, found) else { return };
        let new = seq >= known.floor && known.answered.insert(seq);
        if floor > known.floor {
            known.floor = floor;
            known.answered = known.answered.split_off(&floor);
        }
        let refused = !known.revoked || verdict == Verdict::Rejected(Rejection::DeviceRevoked);
        found.check(Check::Once, new, || format!("number {seq} of device {device} again"));
        found.check(Check::Revoked, refused, || format!("device {device} was revoked, and decided {verdict:?}"));
    }

    fn scanned(&mut self, scanned: &Scanned, at: Timestamp, found: &mut Findings) {
        let device = scanned.device;
        self.command(device, scanned.seq, scanned.floor, scanned.verdict, found);
        let gate = self.devices.get(device.number() as usize).and_then(|known| known.gate);
        found.check(Check::Known, gate == Some(scanned.gate.0), || {
            format!("{device} is not at gate {}", scanned.gate.0)
        });
        if let Some(counted) = self.counted.get_mut(usize::from(scanned.gate.0)) {
            counted[match scanned.verdict {
                Verdict::Admitted => 0,
                Verdict::Exited | Verdict::Undone => 1,
                Verdict::Rejected(_) => 3,
            }] += 1;
        }
        let taken = scanned.taken_at <= at && at.since_ms(scanned.taken_at) <= LATE_MAX_MS;
        found.check(Check::Window, taken, || format!("decided at {at:?}, counted at {:?}", scanned.taken_at));
        if scanned.flags & CONFLICT != 0 {
            found.conflict(scanned);
        }
        let own = scanned.ticket.is_none_or(|ticket| ticket.festival() == self.id);
        found.check(Check::OwnFestival, own, || format!("{device} scanned {:?}", scanned.ticket));
        if let Verdict::Admitted | Verdict::Exited = scanned.verdict {
            let enter = scanned.verdict == Verdict::Admitted;
            let zone = usize::from(scanned.zone.0);
            let at_gate = self.gates.get(usize::from(scanned.gate.0)) == Some(&scanned.zone);
            let fits = at_gate && zone < self.zones.len() && enter == (scanned.direction == Direction::Enter);
            found.check(Check::Known, fits, || format!("{:?} at zone {zone} by {device}", scanned.verdict));
            let seat = scanned.ticket.filter(|_| fits && own).and_then(|ticket| self.seat(ticket, found));
            match seat {
                Some(seat) if enter => self.admitted(seat, scanned, at, found),
                Some(seat) => self.exited(seat, scanned, at, found),
                None => {
                    found.check(Check::Known, !fits || !own || scanned.ticket.is_some(), || "nobody's ticket".into());
                }
            }
        }
        self.sums(scanned.zone, scanned.occupancy, found);
    }

    fn admitted(&mut self, seat: Seat, scanned: &Scanned, at: Timestamp, found: &mut Findings) {
        found.report.admitted += 1;
        let zone = usize::from(scanned.zone.0);
        let perimeter = self.zones[zone].parent.is_none();
        let conflict = scanned.flags & CONFLICT != 0;
        let ticket = self.ticket(seat);
        let (status, valid) =
            (ticket.status, ticket.status == TicketStatus::Sold || ticket.status == TicketStatus::Used);
        let valid = valid && !ticket.blocked;
        let what = || format!("{:?} was admitted to zone {zone}", scanned.ticket.expect("it is a seat's"));
        let used = status == TicketStatus::Used && perimeter && self.policy.entry == EntryPolicy::SingleEntry;
        let inside = |zone: &Zone| zone.inside.contains(&seat);
        let anywhere = if perimeter { self.zones.iter().any(inside) } else { inside(&self.zones[zone]) };
        let parent = self.zones[zone].parent.is_none_or(|parent| inside(&self.zones[usize::from(parent.0)]));
        let full = self.zones[zone].occupancy() >= self.zones[zone].capacity;
        found.check(Check::Revoked, conflict || valid, || format!("{}, {}", what(), status.word()));
        found.check(Check::SingleEntry, conflict || !used, || format!("{} again", what()));
        found.check(Check::Inside, conflict || !anywhere, || format!("{}, and was inside already", what()));
        found.check(Check::Inside, conflict || parent, || format!("{}, from outside its parent", what()));
        found.check(Check::Capacity, conflict || !full, || format!("{}, which was full", what()));
        let ongoing = self.status == FestivalStatus::Ongoing;
        found.check(Check::Active, conflict || ongoing, || format!("{}, festival {}", what(), self.status.word()));
        let CategoryValues { valid_from, valid_until, zones, .. } = &self.categories[usize::from(seat.0)].values;
        let within = (*valid_from..*valid_until).contains(&scanned.taken_at);
        found.check(Check::Window, conflict || within, || {
            format!("{} outside {valid_from:?} to {valid_until:?}", what())
        });
        let may = zones & scanned.zone.bit() != 0;
        found.check(Check::Door, conflict || may, || format!("{}, which its category does not open", what()));
        let around = self.around(zone);
        let open = self.zones[zone].state == ZoneState::Open
            && around.iter().all(|&zone| self.zones[zone].state != ZoneState::Evacuating);
        found.check(Check::Door, conflict || open, || format!("{}, which was closed", what()));

        // A conflict that lets somebody into an inner zone puts them into its perimeter too.
        let inside = self.zones[zone].inside.contains(&seat);
        let first_entry = status == TicketStatus::Sold && (perimeter || conflict) && !inside;
        found.check(Check::SingleEntry, first_entry == (scanned.flags & FIRST_ENTRY != 0), || {
            format!("{} with the flags {:#x}, {}", what(), scanned.flags, status.word())
        });
        if self.zones[zone].inside.contains(&seat) {
            // Somebody else with the same ticket: counted here, and around here unless they were.
            let count = self.zones[zone].unaccounted + 1;
            for zone in around {
                let zone = &mut self.zones[zone];
                zone.set_unaccounted(zone.unaccounted.max(count));
            }
            self.last.remove(&seat);
            return;
        }
        let entered: Vec<usize> = around.into_iter().filter(|&zone| self.zones[zone].inside.insert(seat)).collect();
        entered.iter().for_each(|&zone| self.zones[zone].came += 1);
        if first_entry {
            self.set_status(seat, TicketStatus::Used);
        }
        let (device, zone, gate, minute) = (scanned.device, scanned.zone, scanned.gate, scanned.taken_at.minute());
        self.last.insert(seat, Last { at, device, gate, minute, zone, entered: true, zones: entered, first_entry });
    }

    fn exited(&mut self, seat: Seat, scanned: &Scanned, at: Timestamp, found: &mut Findings) {
        found.report.exited += 1;
        let zone = usize::from(scanned.zone.0);
        let inside = self.zones[zone].inside.contains(&seat);
        found.check(Check::Inside, inside == (scanned.flags & WAS_NOT_INSIDE == 0), || {
            format!("{:?} left zone {zone}, inside: {inside}, flags {:#x}", scanned.ticket, scanned.flags)
        });
        let within: Vec<usize> = (0..self.zones.len()).filter(|&inner| self.around(inner).contains(&zone)).collect();
        if !inside {
            let stay = self.zones[zone].unaccounted.saturating_sub(1);
            for zone in within {
                let zone = &mut self.zones[zone];
                zone.set_unaccounted(zone.unaccounted.min(stay));
            }
            return;
        }
        let left: Vec<usize> = within.into_iter().filter(|&zone| self.zones[zone].inside.remove(&seat)).collect();
        left.iter().for_each(|&zone| self.zones[zone].left += 1);
        let (device, zone, gate, minute) = (scanned.device, scanned.zone, scanned.gate, scanned.taken_at.minute());
        let first_entry = false;
        self.last.insert(seat, Last { at, device, gate, minute, zone, entered: false, zones: left, first_entry });
    }

    fn undone(&mut self, undone: &Undone, at: Timestamp, found: &mut Findings) {
        if let Some(by) = undone.by {
            self.command(by.device, by.seq, by.floor, undone.verdict, found);
        }
        if undone.verdict != Verdict::Undone {
            return;
        }
        found.report.undone += 1;
        let own = undone.ticket.festival() == self.id;
        found.check(Check::OwnFestival, own, || format!("an undo of {}", undone.ticket));
        let Some(seat) = self.seat(undone.ticket, found) else { return };
        let last = self.last.remove(&seat);
        if !found.check(Check::Undo, last.is_some(), || format!("{} had nothing to undo", undone.ticket)) {
            return;
        }
        let last = last.expect("just looked");
        if let Some(by) = undone.by {
            let may = by.device == last.device && at.since_ms(last.at) <= UNDO_WITHIN_MS;
            found.check(Check::Undo, may, || {
                format!("{} undid a scan of {}, {} ms later", by.device, last.device, at.since_ms(last.at))
            });
        }
        for &zone in &last.zones {
            let zone = &mut self.zones[zone];
            if last.entered {
                zone.inside.remove(&seat);
                zone.came = zone.came.saturating_sub(1);
            } else {
                zone.inside.insert(seat);
                zone.left = zone.left.saturating_sub(1);
            }
        }
        let unused = last.first_entry && self.ticket(seat).status == TicketStatus::Used;
        if unused {
            self.set_status(seat, TicketStatus::Sold);
        }
        let direction = if last.entered { Direction::Enter } else { Direction::Exit };
        if let Some(counted) = self.counted.get_mut(usize::from(last.gate.0)) {
            let counted_as = &mut counted[direction as usize];
            *counted_as = counted_as.saturating_sub(1);
            counted[2] += 1;
        }
        let scan = Some(TakenBack { gate: last.gate, direction, minute: last.minute });
        let restored = (self.mask(seat), unused, last.zone, scan);
        let recorded = (undone.inside, undone.unused, undone.zone, undone.scan);
        found.check(Check::Undo, restored == recorded, || {
            format!("{}: recorded {recorded:?}, before the scan it was {restored:?}", undone.ticket)
        });
        self.sums(last.zone, undone.occupancy, found);
    }

    /// What the event says of the zone, against our own count.
    fn sums(&self, zone: ZoneNo, recorded: u32, found: &mut Findings) {
        let Some(zone) = self.zones.get(usize::from(zone.0)) else { return };
        let (inside, moved) = (zone.occupancy(), zone.came.saturating_sub(zone.left));
        found.check(Check::Occupancy, recorded == inside && moved == u64::from(inside), || {
            format!("recorded {recorded}, inside {inside}, came {} less left {}", zone.came, zone.left)
        });
    }

    fn quota(&self, category: usize, found: &mut Findings) {
        let Category { live, values: CategoryValues { quota, .. }, .. } = self.categories[category];
        found.check(Check::Quota, live <= quota, || format!("category {category}: {live} tickets, quota {quota}"));
    }

    /// The zone and all that it lies in.
    fn around(&self, zone: usize) -> Vec<usize> {
        std::iter::successors(Some(zone), |&zone| self.zones[zone].parent.map(|parent| usize::from(parent.0))).collect()
    }

    fn mask(&self, seat: Seat) -> u64 {
        let inside = self.zones.iter().zip(0..).filter(|(zone, _)| zone.inside.contains(&seat));
        inside.fold(0, |mask, (_, no)| mask | ZoneNo(no).bit())
    }

    fn seat(&self, id: TicketId, found: &mut Findings) -> Option<Seat> {
        let ticket =
            self.categories.get(usize::from(id.category().0)).and_then(|c| c.tickets.get(id.serial() as usize));
        let known = id.festival() == self.id && ticket.is_some_and(|ticket| ticket.nonce == id.nonce());
        found
            .check(Check::Known, known, || format!("there is no ticket {id}"))
            .then_some((id.category().0, id.serial()))
    }

    fn ticket(&mut self, seat: Seat) -> &mut Ticket {
        &mut self.categories[usize::from(seat.0)].tickets[seat.1 as usize]
    }

    fn set_status(&mut self, seat: Seat, to: TicketStatus) {
        let from = std::mem::replace(&mut self.ticket(seat).status, to);
        let category = &mut self.categories[usize::from(seat.0)];
        category.live = category.live + u32::from(to.is_live()) - u32::from(from.is_live());
    }

    fn device(&mut self, id: DeviceId, found: &mut Findings) -> Option<&mut Device> {
        let device = self.devices.get_mut(id.number() as usize).filter(|_| id.festival() == self.id);
        found.check(Check::OwnFestival, device.is_some(), || format!("{id} is no device of this festival"));
        device
    }

    /// Whether a replayed festival tells the same story.
    pub(super) fn compare(&self, replayed: &Festival, found: &mut Findings) {
        let mut same = |holds: bool, what: &str| {
            found.check(Check::Replay, holds, || format!("festival {}: {what} came out otherwise in replay", self.id));
        };
        same(
            (replayed.status, replayed.policy, replayed.qr_version) == (self.status, self.policy, self.qr_version),
            "status, policy or key",
        );
        let zone = |zone: &crate::gates::zone::Zone| {
            (zone.occupancy, zone.unaccounted, zone.admitted, zone.left, zone.capacity, zone.state)
        };
        let ours = self.zones.iter().map(|z| (z.occupancy(), z.unaccounted, z.came, z.left, z.capacity, z.state));
        same(replayed.zones.iter().map(zone).eq(ours), "the zones");
        let gate = |gate: &crate::gates::zone::Gate| [gate.admitted, gate.exited, gate.undone, gate.rejected];
        same(replayed.gates.iter().map(gate).eq(self.counted.iter().copied()), "the gates' counts");
        let gate = |device: &crate::gates::device::Device| device.terminal.is_none().then_some(device.gate.0);
        let device = |device: &crate::gates::device::Device| (gate(device), device.revoked, device.window.floor());
        let ours = self.devices.iter().map(|device| (device.gate, device.revoked, device.floor));
        same(replayed.devices.iter().map(device).eq(ours), "the devices");
        let sums = replayed.categories.iter().map(|category| (category.live, category.tickets.len(), &category.values));
        let ours = self.categories.iter().map(|category| (category.live, category.tickets.len(), &category.values));
        same(sums.eq(ours), "the categories");
        for (category, ours) in replayed.categories.iter().zip(&self.categories) {
            let agree = category.tickets.iter().zip(&ours.tickets).zip(0..).all(|((ticket, ours), serial)| {
                (ticket.nonce, ticket.status, ticket.blocked) == (ours.nonce, ours.status, ours.blocked)
                    && ticket.inside == self.mask((category.no.0, serial))
            });
            same(agree, "the tickets");
        }
    }
}
