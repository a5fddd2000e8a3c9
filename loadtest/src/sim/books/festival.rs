//! A festival's page in the books: who is inside, what every device was told, and each scan and undo judged by the rules
//! as the design states them.

use std::collections::{BTreeMap, BTreeSet};

use engine::gates::command::{CONFLICT, CategoryValues, DeviceAnswer, Direction, FIRST_ENTRY, Verdict, WAS_NOT_INSIDE};
use engine::gates::event::{AdmittedByHand, ByDevice, DoneByHand, Scanned, TakenBack, Undone};
use engine::model::ids::{DeviceId, TagUid, TicketId, ZoneNo};
use engine::model::rejection::Rejection;
use engine::model::status::{EntryPolicy, FestivalStatus, Policy, ScanAck, TicketStatus, ZoneState};
use engine::model::time::{MINUTE_MS, Timestamp};

use crate::sim::{Check, breach};

/// A festival's page.
#[derive(Clone)]
pub(in crate::sim) struct FestivalBook {
    starts_at: Timestamp,
    pub(in crate::sim) status: FestivalStatus,
    pub(in crate::sim) policy: Policy,
    pub(in crate::sim) qr_version: u32,
    pub(in crate::sim) zones: Vec<ZoneBook>,
    pub(in crate::sim) gates: Vec<ZoneNo>,
    pub(in crate::sim) categories: Vec<CategoryBook>,
    pub(in crate::sim) devices: Vec<DeviceBook>,
    pub(in crate::sim) tickets: BTreeMap<TicketId, TicketBook>,
    pub(super) tags: BTreeMap<TagUid, TicketId>,
    pub(in crate::sim) lost_tags: BTreeSet<TagUid>,
    pub(super) conflicts: u64,
    /// When it let readers show answers early, each time: from when until when.
    pub(super) decided: Vec<(Timestamp, Option<Timestamp>)>,
    /// By gate: entries, exits, both less what was undone; undone; rejections.
    pub(super) counted: Vec<[u64; 4]>,
}

/// A zone's page.
#[derive(Clone)]
pub(in crate::sim) struct ZoneBook {
    pub(in crate::sim) capacity: u32,
    pub(in crate::sim) state: ZoneState,
    outer: u64,
    inner: u64,
    parent: Option<ZoneNo>,
    unaccounted: u32,
    pub(super) admitted: u64,
    pub(super) left: u64,
}

/// A category's page.
#[derive(Clone)]
pub(in crate::sim) struct CategoryBook {
    pub(in crate::sim) values: CategoryValues,
    pub(in crate::sim) issued: u32,
}

/// A device's page: every answer it ever got.
#[derive(Clone)]
pub(in crate::sim) struct DeviceBook {
    pub(in crate::sim) gate: usize,
    pub(in crate::sim) revoked: bool,
    pub(in crate::sim) floor: u64,
    pub(in crate::sim) answers: BTreeMap<u64, (u32, DeviceAnswer)>,
    enrolled_at: Timestamp,
    /// Its connections: number, from when, until when.
    pub(super) connections: Vec<(u64, Timestamp, Option<Timestamp>)>,
    /// The scans that it may have shown an answer to before that was durable, should it say so.
    pub(in crate::sim) may_have_shown: BTreeSet<u64>,
}

/// A ticket's page.
#[derive(Clone)]
pub(in crate::sim) struct TicketBook {
    pub(in crate::sim) status: TicketStatus,
    pub(in crate::sim) blocked: bool,
    pub(in crate::sim) inside: u64,
    pub(super) last: Option<LastBook>,
}

#[derive(Clone, Copy)]
pub(super) struct LastBook {
    at: Timestamp,
    device: DeviceId,
    zone: ZoneNo,
    before: u64,
    first_entry: bool,
    scan: TakenBack,
}

impl DeviceBook {
    pub(super) fn new(gate: usize, enrolled_at: Timestamp) -> Self {
        let (answers, connections, may_have_shown) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        Self { gate, revoked: false, floor: 0, answers, enrolled_at, connections, may_have_shown }
    }
}

impl LastBook {
    fn of(scan: &Scanned, at: Timestamp, before: u64, first_entry: bool) -> Self {
        let minute = Timestamp(scan.taken_at.0 - scan.taken_at.0.rem_euclid(MINUTE_MS));
        let taken = TakenBack { gate: scan.gate, direction: scan.direction, minute };
        Self { at, device: scan.device, zone: scan.zone, before, first_entry, scan: taken }
    }
}

impl FestivalBook {
    pub(super) fn new(policy: Policy, starts_at: Timestamp, at: Timestamp) -> Self {
        Self {
            starts_at,
            status: FestivalStatus::Draft,
            policy,
            qr_version: 1,
            zones: Vec::new(),
            gates: Vec::new(),
            categories: Vec::new(),
            devices: Vec::new(),
            tickets: BTreeMap::new(),
            tags: BTreeMap::new(),
            lost_tags: BTreeSet::new(),
            conflicts: 0,
            decided: if policy.ack == ScanAck::Decided { vec![(at, None)] } else { Vec::new() },
            counted: Vec::new(),
        }
    }

    pub(super) fn set_policy(&mut self, policy: Policy, at: Timestamp) {
        let open = self.decided.last_mut().filter(|(_, until)| until.is_none());
        match (policy.ack, open) {
            (ScanAck::Decided, None) => self.decided.push((at, None)),
            (ScanAck::Durable, Some((_, until))) => *until = Some(at),
            _ => {}
        }
        self.policy = policy;
    }

    pub(super) fn connected(&mut self, device: DeviceId, session: u64, at: Timestamp) -> Check {
        let known = &mut self.devices[device.number() as usize];
        if known.revoked {
            return breach("a revoked device is refused by the next decision", format!("{device} connected"));
        }
        if let Some((_, _, until)) = known.connections.last_mut() {
            until.get_or_insert(at);
        }
        known.connections.push((session, at, None));
        Ok(())
    }

    pub(super) fn left(&mut self, device: DeviceId, session: u64, at: Timestamp) {
        let known = &mut self.devices[device.number() as usize];
        if let Some((last, _, until)) = known.connections.last_mut()
            && *last == session
        {
            until.get_or_insert(at);
        }
    }

    /// Whether a reader can have shown an answer to this scan that a crash has lost: while answers left early, and while
    /// it was connected, as far as its last two connections tell.
    fn may_have_shown(&self, scan: &Scanned) -> bool {
        let moment = scan.captured_at;
        let within = |from: Timestamp, until: Option<Timestamp>| from <= moment && until.is_none_or(|end| moment < end);
        let device = &self.devices[scan.device.number() as usize];
        let connected = device.connections.iter().rev().take(2).any(|&(_, from, until)| within(from, until));
        connected && self.decided.last().is_some_and(|&(from, until)| within(from, until))
    }

    /// A scan may count before it was decided, but not before its reader was enrolled.
    fn counts_when_it_can(&self, scan: &Scanned, at: Timestamp) -> Check {
        let device = &self.devices[scan.device.number() as usize];
        let late = scan.taken_at < at && scan.captured_at <= scan.taken_at && !device.connections.is_empty();
        if scan.taken_at == at || (late && scan.taken_at >= device.enrolled_at) {
            Ok(())
        } else {
            breach("a scan counts when it was taken", format!("at {at:?}: {scan:?}"))
        }
    }

    pub(super) fn put_zone(&mut self, zone: ZoneNo, parent: Option<ZoneNo>, capacity: u32) {
        if let Some(known) = self.zones.get_mut(usize::from(zone.0)) {
            known.capacity = capacity;
            return;
        }
        let outer = parent.map_or(0, |parent| self.zones[usize::from(parent.0)].outer | parent.bit());
        for (no, known) in self.zones.iter_mut().enumerate() {
            if outer >> no & 1 == 1 {
                known.inner |= zone.bit();
            }
        }
        let state = ZoneState::Open;
        self.zones.push(ZoneBook { capacity, state, outer, inner: 0, parent, unaccounted: 0, admitted: 0, left: 0 });
    }

    pub(super) fn ticket(&mut self, id: TicketId) -> Check<&mut TicketBook> {
        match self.tickets.get_mut(&id) {
            Some(ticket) => Ok(ticket),
            None => breach("events are of what exists", format!("no ticket {id}")),
        }
    }

    /// Counted, not kept.
    pub(super) fn occupancy(&self, zone: ZoneNo) -> u32 {
        let inside = self.tickets.values().filter(|ticket| ticket.inside & zone.bit() != 0).count() as u32;
        inside + self.zones[usize::from(zone.0)].unaccounted
    }

    pub(super) fn live(&self, category: usize) -> u32 {
        let of = |id: &TicketId| usize::from(id.category().0) == category;
        self.tickets.iter().filter(|(id, ticket)| of(id) && ticket.status.is_live()).count() as u32
    }

    pub(super) fn within_quota(&self, category: usize) -> Check {
        let (live, quota) = (self.live(category), self.categories[category].values.quota);
        if live <= quota { Ok(()) } else { breach("issued ≤ quota", format!("{live} live tickets, quota {quota}")) }
    }

    fn answered(&mut self, by: ByDevice, answer: DeviceAnswer) -> Check {
        let Some(device) = self.devices.get_mut(by.device.number() as usize) else {
            return breach("events are of what exists", format!("no device {}", by.device));
        };
        device.floor = device.floor.max(by.floor);
        if by.seq < device.floor {
            return breach("below the floor nothing happens", format!("{} seq {}", by.device, by.seq));
        }
        if let Some((_, before)) = device.answers.insert(by.seq, (by.fingerprint, answer)) {
            let what = format!("{} seq {}: {before:?}, then {answer:?}", by.device, by.seq);
            return breach("every command happens once", what);
        }
        Ok(())
    }

    pub(super) fn scanned(&mut self, scan: &Scanned, at: Timestamp) -> Check {
        let by = ByDevice { device: scan.device, seq: scan.seq, floor: scan.floor, fingerprint: scan.fingerprint };
        self.answered(by, scan.answer(at))?;
        self.counts_when_it_can(scan, at)?;
        let may_have_shown = self.may_have_shown(scan);
        if may_have_shown {
            self.devices[scan.device.number() as usize].may_have_shown.insert(scan.seq);
        }
        if let Some(counted) = self.counted.get_mut(usize::from(scan.gate.0)) {
            counted[match scan.verdict {
                Verdict::Admitted => 0,
                Verdict::Exited | Verdict::Undone => 1,
                Verdict::Rejected(_) => 3,
            }] += 1;
        }
        let right = self.judge(scan);
        let conflict = scan.flags & CONFLICT != 0;
        let said = match (conflict, scan.instead_of, scan.verdict) {
            (true, Some(instead), Verdict::Admitted) => Err(instead),
            // Shown red, and it would have been green by now.
            (true, None, Verdict::Rejected(_)) => right.and(Ok(scan.verdict)),
            (false, None, Verdict::Rejected(rejection)) => Err(rejection),
            (false, None, verdict) => Ok(verdict),
            _ => return breach("what was shown stands", format!("{scan:?}")),
        };
        let same = match (said, right) {
            (Ok(_), Ok(_)) => said == right || conflict,
            (Err(said), Err(right)) => said == right,
            _ => false,
        };
        if !same {
            let rule = match (said, right) {
                (Ok(_), Err(Rejection::ZoneFull)) => "occupancy ≤ capacity",
                (Ok(_), Err(Rejection::AlreadyUsed)) => "a ticket enters a perimeter once",
                (Ok(_), Err(Rejection::AlreadyInside)) => "a ticket is inside at most once",
                (Ok(_), Err(Rejection::TagLost)) => "a lost wristband opens no gate",
                (_, Err(Rejection::DeviceRevoked)) => "a revoked device is refused by the next decision",
                _ => "scans are decided by the table",
            };
            return breach(rule, format!("decided {said:?}, by the books {right:?}: {scan:?}"));
        }
        if conflict && !may_have_shown {
            return breach("only what can have been shown stands", format!("{scan:?}"));
        }
        self.conflicts += u64::from(conflict);
        match (scan.verdict, scan.ticket) {
            (Verdict::Admitted, Some(ticket)) => self.entered(ticket, scan, at)?,
            (Verdict::Exited, Some(ticket)) => self.exited(ticket, scan, at)?,
            (Verdict::Rejected(_), _) => {}
            _ => return breach("scans are decided by the table", format!("{scan:?}")),
        }
        let counted = self.zones.get(usize::from(scan.zone.0)).map_or(0, |_| self.occupancy(scan.zone));
        if counted == scan.occupancy {
            Ok(())
        } else {
            breach("occupancy = admitted − left", format!("counted {counted}: {scan:?}"))
        }
    }

    /// The table, as far as a record tells what was asked.
    fn judge(&self, scan: &Scanned) -> Result<Verdict, Rejection> {
        let device = &self.devices[scan.device.number() as usize];
        if device.revoked {
            return Err(Rejection::DeviceRevoked);
        }
        let zone = self.zones.get(usize::from(scan.zone.0)).ok_or(Rejection::UnknownZone)?;
        if self.gates[device.gate] != scan.zone {
            return Err(Rejection::WrongGate);
        }
        if let Some(tag) = scan.tag {
            let bound = self.tags.get(&tag).copied();
            let leaves = scan.direction == Direction::Exit && bound.is_some();
            if self.lost_tags.contains(&tag) && !leaves {
                return Err(Rejection::TagLost);
            }
            if bound.is_none() || scan.ticket != bound {
                return Err(Rejection::UnknownTag);
            }
        }
        let Some(id) = scan.ticket else {
            // What the credential was is not in the record: any reason that names no ticket may be true.
            use Rejection as R;
            let nameless =
                [R::InvalidQr, R::TamperedQr, R::KeyRetired, R::UnknownTicket, R::WrongFestival, R::UnknownTag];
            return Err(match scan.verdict {
                Verdict::Rejected(reason) if nameless.contains(&reason) => reason,
                _ => R::UnknownTicket,
            });
        };
        let ticket = self.tickets.get(&id).ok_or(Rejection::UnknownTicket)?;
        if scan.direction == Direction::Exit {
            return Ok(Verdict::Exited);
        }
        let retired = scan.verdict == Verdict::Rejected(Rejection::KeyRetired) && scan.flags & CONFLICT == 0;
        if self.qr_version > 2 && (retired || scan.instead_of == Some(Rejection::KeyRetired)) {
            // Which key had signed is not in the record.
            return Err(Rejection::KeyRetired);
        }
        match ticket.status {
            TicketStatus::Cancelled => return Err(Rejection::Cancelled),
            TicketStatus::Refunded => return Err(Rejection::Refunded),
            TicketStatus::Reserved | TicketStatus::Available => return Err(Rejection::Unpaid),
            TicketStatus::Sold | TicketStatus::Used => {}
        }
        let perimeter = zone.parent.is_none();
        let values = &self.categories[usize::from(id.category().0)].values;
        let evacuating = |no: usize| zone.outer >> no & 1 == 1 && self.zones[no].state == ZoneState::Evacuating;
        let single = self.policy.entry == EntryPolicy::SingleEntry;
        let no = |is_so: bool, why: Rejection| if is_so { Err(why) } else { Ok(()) };
        no(ticket.blocked, Rejection::Blocked)?;
        no(ticket.status == TicketStatus::Used && perimeter && single, Rejection::AlreadyUsed)?;
        no(self.status != FestivalStatus::Ongoing, Rejection::FestivalNotActive)?;
        no(scan.taken_at < values.valid_from, Rejection::NotYetValid)?;
        no(scan.taken_at >= values.valid_until, Rejection::NoLongerValid)?;
        no(values.zones & scan.zone.bit() == 0, Rejection::ZoneDenied)?;
        no(zone.state != ZoneState::Open || (0..self.zones.len()).any(evacuating), Rejection::ZoneClosed)?;
        no(
            if perimeter { ticket.inside != 0 } else { ticket.inside & scan.zone.bit() != 0 },
            Rejection::AlreadyInside,
        )?;
        no(zone.parent.is_some_and(|parent| ticket.inside & parent.bit() == 0), Rejection::NotInsideParent)?;
        no(self.occupancy(scan.zone) >= zone.capacity, Rejection::ZoneFull)?;
        Ok(Verdict::Admitted)
    }

    /// What was done by hand, by the rules for that.
    pub(super) fn by_hand(&mut self, done: &DoneByHand, at: Timestamp) -> Check {
        let wrong = |rule| breach(rule, format!("{done:?}"));
        match done {
            DoneByHand::Reopened { .. } => {
                if self.status != FestivalStatus::Completed {
                    return wrong("only what was ended is opened again");
                }
                self.status = FestivalStatus::Ongoing;
            }
            DoneByHand::Edited { details, .. } => self.starts_at = details.starts_at,
            DoneByHand::ScansReset { tickets, .. } => {
                let has_begun = at.since_ms(self.starts_at) > engine::gates::festival::RESET_WITHIN_MS;
                if self.status != FestivalStatus::Ongoing || has_begun {
                    return wrong("scans are reset before doors only");
                }
                let mut used = 0;
                for ticket in self.tickets.values_mut() {
                    if ticket.status == TicketStatus::Used {
                        ticket.status = TicketStatus::Sold;
                        used += 1;
                    }
                    (ticket.inside, ticket.last) = (0, None);
                }
                self.each(u64::MAX, |zone| (zone.unaccounted, zone.admitted, zone.left) = (0, 0, 0));
                self.conflicts = 0;
                self.counted.fill([0; 4]);
                if used != *tickets {
                    return wrong("a reset takes back every use");
                }
            }
            DoneByHand::TicketRestored { ticket, from, .. } => {
                let known = self.ticket(*ticket)?;
                if known.status != *from || !matches!(from, TicketStatus::Cancelled | TicketStatus::Refunded) {
                    return wrong("only what was given back is restored");
                }
                known.status = TicketStatus::Sold;
                return self.within_quota(usize::from(ticket.category().0));
            }
            DoneByHand::DeviceReadmitted { device, .. } => {
                let known = &mut self.devices[device.number() as usize];
                if !std::mem::replace(&mut known.revoked, false) {
                    return wrong("only what was revoked is readmitted");
                }
            }
            DoneByHand::Admitted { admitted } => return self.admitted_by_hand(admitted, at),
        }
        Ok(())
    }

    fn admitted_by_hand(&mut self, admitted: &AdmittedByHand, at: Timestamp) -> Check {
        let here = &self.zones[usize::from(admitted.zone.0)];
        let ticket = self.tickets.get(&admitted.ticket);
        let valid = ticket
            .is_some_and(|ticket| !ticket.blocked && matches!(ticket.status, TicketStatus::Sold | TicketStatus::Used));
        let evacuating = |no: usize| here.outer >> no & 1 == 1 && self.zones[no].state == ZoneState::Evacuating;
        let open = here.state == ZoneState::Open && !(0..self.zones.len()).any(evacuating);
        let room = self.occupancy(admitted.zone) < here.capacity;
        let place = self.gates.get(usize::from(admitted.gate.0)) == Some(&admitted.zone);
        if !(valid && open && room && place && self.status == FestivalStatus::Ongoing) {
            return breach("by hand only what may be overruled is", format!("{admitted:?}"));
        }
        self.counted[usize::from(admitted.gate.0)][0] += 1;
        let scan = admitted.as_scan(DeviceId::new(admitted.ticket.festival(), u32::MAX), at);
        self.entered(admitted.ticket, &scan, at)?;
        let counted = self.occupancy(admitted.zone);
        if counted == admitted.occupancy {
            Ok(())
        } else {
            breach("occupancy = admitted − left", format!("counted {counted}: {admitted:?}"))
        }
    }

    fn entered(&mut self, id: TicketId, scan: &Scanned, at: Timestamp) -> Check {
        let here = &self.zones[usize::from(scan.zone.0)];
        let (around, perimeter, here_now) = (scan.zone.bit() | here.outer, here.parent.is_none(), here.unaccounted + 1);
        let ticket = self.ticket(id)?;
        let before = ticket.inside;
        if before & scan.zone.bit() != 0 {
            // Somebody else stands here with the same ticket.
            ticket.last = None;
            for no in (0..self.zones.len()).filter(|no| around >> no & 1 == 1) {
                self.unaccounted(no, |now| now.max(here_now));
            }
            return Ok(());
        }
        // Whom a shown answer lets into an inner zone is in its perimeter too, and has used the ticket.
        let first = ticket.status == TicketStatus::Sold && (perimeter || scan.flags & CONFLICT != 0);
        if first != (scan.flags & FIRST_ENTRY != 0) {
            return breach("a ticket enters a perimeter once", format!("first entry {first}: {scan:?}"));
        }
        if first {
            ticket.status = TicketStatus::Used;
        }
        ticket.inside |= around;
        ticket.last = Some(LastBook::of(scan, at, before, first));
        let changed = ticket.inside & !before;
        self.each(changed, |zone| zone.admitted += 1);
        Ok(())
    }

    fn exited(&mut self, id: TicketId, scan: &Scanned, at: Timestamp) -> Check {
        let here = &self.zones[usize::from(scan.zone.0)];
        let (within, stay) = (scan.zone.bit() | here.inner, here.unaccounted.saturating_sub(1));
        let ticket = self.ticket(id)?;
        let before = ticket.inside;
        let was_not_inside = before & scan.zone.bit() == 0;
        if was_not_inside != (scan.flags & WAS_NOT_INSIDE != 0) {
            return breach("a ticket is inside at most once", format!("inside {before:b}: {scan:?}"));
        }
        if was_not_inside {
            for no in (0..self.zones.len()).filter(|no| within >> no & 1 == 1) {
                self.unaccounted(no, |now| now.min(stay));
            }
            return Ok(());
        }
        ticket.inside &= !within;
        ticket.last = Some(LastBook::of(scan, at, before, false));
        let changed = before & !ticket.inside;
        self.each(changed, |zone| zone.left += 1);
        Ok(())
    }

    fn unaccounted(&mut self, no: usize, to: impl Fn(u32) -> u32) {
        let zone = &mut self.zones[no];
        let (before, after) = (zone.unaccounted, to(zone.unaccounted));
        zone.unaccounted = after;
        zone.admitted += u64::from(after.saturating_sub(before));
        zone.left += u64::from(before.saturating_sub(after));
    }

    fn each(&mut self, mask: u64, mut change: impl FnMut(&mut ZoneBook)) {
        let of = self.zones.iter_mut().enumerate().filter(|(no, _)| mask >> no & 1 == 1);
        of.for_each(|(_, zone)| change(zone));
    }

    pub(super) fn undone(&mut self, undone: &Undone, at: Timestamp) -> Check {
        if let Some(by) = undone.by {
            self.answered(by, undone.answer(at))?;
        }
        let revoked = undone.by.is_some_and(|by| self.devices[by.device.number() as usize].revoked);
        let known = self.tickets.get(&undone.ticket);
        let last = known.and_then(|ticket| ticket.last);
        let late = last.is_some_and(|last| at.since_ms(last.at) > engine::gates::UNDO_WITHIN_MS);
        let another = last.is_some_and(|last| undone.by.is_some_and(|by| by.device != last.device));
        let true_no = match undone.verdict {
            Verdict::Undone => revoked || last.is_none() || another || (late && undone.by.is_some()),
            Verdict::Rejected(Rejection::DeviceRevoked) => !revoked,
            Verdict::Rejected(Rejection::UnknownTicket) => known.is_some(),
            Verdict::Rejected(Rejection::NotYourScan) => !another,
            Verdict::Rejected(Rejection::UndoTooLate) => !late,
            Verdict::Rejected(Rejection::NothingToUndo) => false, // which scan was meant is not in the record
            _ => true,
        };
        if true_no {
            return breach("an undo restores what the scan changed", format!("{undone:?}"));
        }
        let (Verdict::Undone, Some(last)) = (undone.verdict, last) else { return Ok(()) };
        let ticket = self.ticket(undone.ticket)?;
        let unused = last.first_entry && ticket.status == TicketStatus::Used;
        let same = undone.inside == last.before && undone.unused == unused && undone.zone == last.zone;
        if !same || undone.scan != Some(last.scan) {
            return breach("an undo restores what the scan changed", format!("{undone:?}"));
        }
        let before = core::mem::replace(&mut ticket.inside, last.before);
        ticket.last = None;
        if unused {
            ticket.status = TicketStatus::Sold;
        }
        let counted = &mut self.counted[usize::from(last.scan.gate.0)];
        counted[last.scan.direction as usize] -= 1;
        counted[2] += 1;
        self.each(before & !last.before, |zone| zone.admitted -= 1);
        self.each(last.before & !before, |zone| zone.left -= 1);
        let counted = self.occupancy(undone.zone);
        if counted == undone.occupancy {
            Ok(())
        } else {
            breach("occupancy = admitted − left", format!("counted {counted}: {undone:?}"))
        }
    }
}
