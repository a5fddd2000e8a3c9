//! The books: what the journal's records amount to, told a second time and in another way than the engine does. There
//! are no counters of people here: occupancy is counted, ticket by ticket, and each scan is judged by the rules as the
//! design states them. Whatever the engine decides has to be right by these books, and whatever it remembers has to be
//! what they say.

use std::collections::{BTreeMap, BTreeSet};

use engine::command::{
    CONFLICT, CategoryValues, DeviceAnswer, Direction, FIRST_ENTRY, OfficeAnswer, Verdict, WAS_NOT_INSIDE,
};
use engine::dedupe::Seen;
use engine::event::{Asked, ByDevice, Event, Scanned, Undone};
use engine::ids::{DeviceId, FestivalId, TagUid, TicketId, ZoneNo};
use engine::record;
use engine::rejection::Rejection;
use engine::shard::Shard;
use engine::status::{EntryPolicy, FestivalStatus, Policy, ScanAck, TicketStatus, ZoneState};
use engine::time::Timestamp;
use engine::view::{Query, View};

use super::{Check, breach};

/// One shard's books.
#[derive(Clone, Default)]
pub(super) struct Books {
    /// Of the last record.
    pub(super) seq: u64,
    /// The time of the last record.
    pub(super) at: Timestamp,
    /// Events so far.
    pub(super) events: u64,
    pub(super) festivals: BTreeMap<FestivalId, FestivalBook>,
    /// Every idempotency key's outcome, forgotten by the shard or not.
    ever: BTreeMap<u128, OfficeAnswer>,
    api_keys: u32,
}

/// A festival's page.
#[derive(Clone)]
pub(super) struct FestivalBook {
    pub(super) status: FestivalStatus,
    pub(super) policy: Policy,
    pub(super) qr_version: u32,
    pub(super) zones: Vec<ZoneBook>,
    pub(super) gates: Vec<ZoneNo>,
    pub(super) categories: Vec<CategoryBook>,
    pub(super) devices: Vec<DeviceBook>,
    pub(super) tickets: BTreeMap<TicketId, TicketBook>,
    tags: BTreeMap<TagUid, TicketId>,
    conflicts: u64,
    /// It has let readers show answers early at some time.
    ever_decided: bool,
}

/// A zone's page.
#[derive(Clone)]
pub(super) struct ZoneBook {
    pub(super) capacity: u32,
    pub(super) state: ZoneState,
    outer: u64,
    inner: u64,
    parent: Option<ZoneNo>,
    unaccounted: u32,
    admitted: u64,
    left: u64,
}

/// A category's page.
#[derive(Clone)]
pub(super) struct CategoryBook {
    pub(super) values: CategoryValues,
    pub(super) issued: u32,
}

/// A device's page: every answer it ever got.
#[derive(Clone)]
pub(super) struct DeviceBook {
    pub(super) gate: usize,
    pub(super) revoked: bool,
    pub(super) floor: u64,
    pub(super) answers: BTreeMap<u64, (u32, DeviceAnswer)>,
}

/// A ticket's page.
#[derive(Clone)]
pub(super) struct TicketBook {
    pub(super) status: TicketStatus,
    pub(super) blocked: bool,
    pub(super) inside: u64,
    last: Option<LastBook>,
}

#[derive(Clone, Copy)]
struct LastBook {
    at: Timestamp,
    device: DeviceId,
    zone: ZoneNo,
    before: u64,
    first_entry: bool,
}

impl Books {
    /// Enters one record.
    pub(super) fn enter(&mut self, bytes: &[u8]) -> Check {
        let record = match record::read(bytes) {
            Ok(record) => record,
            Err(why) => return breach("damage is found, never skipped", format!("a record in the journal: {why}")),
        };
        if record.seq != self.seq + 1 {
            return breach("seq is dense", format!("record {} follows {}", record.seq, self.seq));
        }
        if record.at < self.at {
            return breach(
                "time never goes back",
                format!("record {} at {:?} after {:?}", record.seq, record.at, self.at),
            );
        }
        (self.seq, self.at) = (record.seq, record.at);
        let mut asked: Option<Asked> = None;
        for event in &record.events {
            self.events += 1;
            let by = asked.take();
            match event {
                Event::Asked(who) => match (who.key, who.answer()) {
                    (Some((id, _)), Some(answer)) => self.outcome(id, answer)?,
                    (_, Some(_)) => {}
                    (_, None) => asked = Some(*who),
                },
                other => {
                    self.happened(other)?;
                    if let Some((id, _)) = by.and_then(|by| by.key) {
                        self.outcome(id, told_of(other))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn outcome(&mut self, id: u128, answer: OfficeAnswer) -> Check {
        if self.ever.insert(id, answer).is_some() {
            return breach(
                "every command happens once",
                format!("idempotency key {id:x} has a second outcome: {answer:?}"),
            );
        }
        Ok(())
    }

    /// What an idempotency key came to, ever.
    pub(super) fn outcome_of(&self, id: u128) -> Option<OfficeAnswer> {
        self.ever.get(&id).copied()
    }

    /// What a device was told, ever.
    pub(super) fn answer_of(&self, device: DeviceId, seq: u64) -> Option<DeviceAnswer> {
        self.device(device)?.answers.get(&seq).map(|(_, answer)| *answer)
    }

    /// A device's page.
    pub(super) fn device(&self, device: DeviceId) -> Option<&DeviceBook> {
        self.festivals.get(&device.festival())?.devices.get(device.number() as usize)
    }

    fn happened(&mut self, event: &Event) -> Check {
        let at = self.at;
        match event {
            Event::Asked(_) => {}
            Event::Scanned(scanned) => return self.festival(scanned.device.festival())?.scanned(scanned, at),
            Event::Undone(undone) => {
                let home = undone.by.map_or(undone.ticket.festival(), |by| by.device.festival());
                return self.festival(home)?.undone(undone, at);
            }
            Event::FestivalCreated { slug, policy, .. } => {
                self.festivals.insert(FestivalId::of_slug(slug), FestivalBook::new(*policy));
            }
            Event::FestivalStatusSet { festival, to } => {
                let page = self.festival(*festival)?;
                if !page.status.may_become(*to) {
                    return breach("statuses go forward", format!("{:?} became {to:?}", page.status));
                }
                page.status = *to;
            }
            Event::PolicySet { festival, policy } => {
                let page = self.festival(*festival)?;
                page.policy = *policy;
                page.ever_decided |= policy.ack == ScanAck::Decided;
            }
            Event::ZonePut { festival, zone, parent, capacity, .. } => {
                self.festival(*festival)?.put_zone(*zone, *parent, *capacity);
            }
            Event::GateAdded { festival, zone, .. } => self.festival(*festival)?.gates.push(*zone),
            Event::CategoryPut { festival, category, values } => {
                let page = self.festival(*festival)?;
                match page.categories.get_mut(usize::from(category.0)) {
                    Some(known) => known.values = values.clone(),
                    None => page.categories.push(CategoryBook { values: values.clone(), issued: 0 }),
                }
                return page.within_quota(usize::from(category.0));
            }
            Event::TicketsIssued { festival, category, first_serial, count, seed, paid, .. } => {
                let page = self.festival(*festival)?;
                let known = &mut page.categories[usize::from(category.0)];
                if known.issued != *first_serial {
                    return breach("serials are dense", format!("{first_serial} after {}", known.issued));
                }
                known.issued += count;
                let status = if *paid { TicketStatus::Sold } else { TicketStatus::Reserved };
                for id in engine::command::issued(*festival, *category, *first_serial, *count, *seed) {
                    page.tickets.insert(id, TicketBook { status, blocked: false, inside: 0, last: None });
                }
                return page.within_quota(usize::from(category.0));
            }
            Event::TicketStatusSet { ticket, from, to } => {
                let known = self.festival(ticket.festival())?.ticket(*ticket)?;
                if known.status != *from || !from.may_become(*to) {
                    return breach(
                        "statuses go forward",
                        format!("{:?} became {to:?}, said to be {from:?}", known.status),
                    );
                }
                known.status = *to;
            }
            Event::TicketBlockSet { ticket, blocked } => {
                self.festival(ticket.festival())?.ticket(*ticket)?.blocked = *blocked;
            }
            Event::TagBound { ticket, tag } => {
                let page = self.festival(ticket.festival())?;
                page.tags.retain(|_, bound| bound != ticket);
                if page.tags.insert(*tag, *ticket).is_some() {
                    return breach("a tag names one ticket", format!("{tag:?} was another's"));
                }
            }
            Event::ZoneStateSet { festival, zone, state } => {
                self.festival(*festival)?.zones[usize::from(zone.0)].state = *state;
            }
            Event::EnrolmentOffered { .. } => {}
            Event::DeviceEnrolled { device, gate, .. } => {
                let page = self.festival(device.festival())?;
                if page.devices.len() != device.number() as usize {
                    return breach("devices are numbered densely", format!("{device}"));
                }
                let gate = usize::from(gate.0);
                page.devices.push(DeviceBook { gate, revoked: false, floor: 0, answers: BTreeMap::new() });
            }
            Event::DeviceRevoked { device } => {
                self.festival(device.festival())?.devices[device.number() as usize].revoked = true;
            }
            Event::QrKeyRotated { festival, version } => {
                let page = self.festival(*festival)?;
                if *version != page.qr_version + 1 {
                    return breach("key versions are dense", format!("{version} after {}", page.qr_version));
                }
                page.qr_version = *version;
            }
            Event::ApiKeyCreated { key, .. } => {
                self.api_keys += 1;
                if *key != self.api_keys {
                    return breach("operators' keys are numbered densely", format!("{key}"));
                }
            }
            Event::ApiKeyRevoked { .. } => {}
            Event::Expired
            | Event::Transaction(_)
            | Event::Cash(_)
            | Event::Sent { .. }
            | Event::Received { .. }
            | Event::Delivered { .. } => {}
        }
        Ok(())
    }

    fn festival(&mut self, id: FestivalId) -> Check<&mut FestivalBook> {
        match self.festivals.get_mut(&id) {
            Some(page) => Ok(page),
            None => breach("events are of what exists", format!("no festival {id}")),
        }
    }

    /// Whether a living or recovered shard says what the books say, wherever it can be asked.
    pub(super) fn agree_with(&self, shard: &Shard) -> Check {
        if (shard.seq(), shard.now()) != (self.seq, self.at) {
            let found = format!("shard {:?} at {:?}, books {:?} at {:?}", shard.seq(), shard.now(), self.seq, self.at);
            return breach("replay rebuilds the state", found);
        }
        for (id, page) in &self.festivals {
            self.shows(&Query::Live(*id), &shard.query(&Query::Live(*id)))?;
            for ticket in page.tickets.keys() {
                self.shows(&Query::Ticket(*ticket), &shard.query(&Query::Ticket(*ticket)))?;
            }
            let Some(living) = shard.festivals().find(|festival| festival.id == *id) else {
                return breach("replay rebuilds the state", format!("festival {id} is gone"));
            };
            for (number, (device, known)) in living.devices.iter().zip(&page.devices).enumerate() {
                if device.revoked != known.revoked {
                    return breach("a revoked device is refused by the next decision", format!("device {number}"));
                }
                for (seq, (fingerprint, answer)) in known.answers.range(known.floor..).rev().take(40) {
                    let seen = device.window.look_up(*seq, known.floor, *fingerprint);
                    if seen != Seen::Answered(*answer) {
                        let found = format!("device {number} seq {seq}: {seen:?}, told before {answer:?}");
                        return breach("same id, same answer", found);
                    }
                }
            }
            for (category, known) in living.categories.iter().zip(&page.categories) {
                let live = page.live(usize::from(category.no.0));
                if (category.live, category.tickets.len() as u32) != (live, known.issued) {
                    return breach(
                        "issued ≤ quota",
                        format!("category {:?}: {} of {live}", category.no, category.live),
                    );
                }
            }
        }
        Ok(())
    }

    /// Whether a view shows what is in the books, no more and no less.
    pub(super) fn shows(&self, query: &Query, view: &View) -> Check {
        let differs = |what: String| breach("no reply shows state beyond the durable position", what);
        match (query, view) {
            (Query::Live(id), View::Live(live)) => {
                let Some(page) = self.festivals.get(id) else { return differs(format!("festival {id}")) };
                if (live.status, live.conflicts, live.zones.len()) != (page.status, page.conflicts, page.zones.len()) {
                    return differs(format!("{live:?}"));
                }
                for (shown, zone) in live.zones.iter().zip(&page.zones) {
                    let said = (shown.occupancy, shown.admitted, shown.left, shown.capacity, shown.state);
                    let books = (page.occupancy(shown.no), zone.admitted, zone.left, zone.capacity, zone.state);
                    if said != books {
                        return differs(format!("zone {}: shown {said:?}, books {books:?}", shown.no.0));
                    }
                    if u64::from(shown.occupancy) + shown.left != shown.admitted {
                        return breach("occupancy = admitted − left", format!("zone {}: {said:?}", shown.no.0));
                    }
                }
                Ok(())
            }
            (Query::Ticket(id), View::Ticket(shown)) => {
                let known = self.festivals.get(&id.festival()).and_then(|page| page.tickets.get(id));
                match known {
                    Some(known)
                        if (shown.status, shown.blocked, shown.inside)
                            == (known.status, known.blocked, known.inside) =>
                    {
                        Ok(())
                    }
                    Some(known) => differs(format!(
                        "ticket {id}: shown {:?} inside {:b}, books {:?} inside {:b}",
                        shown.status, shown.inside, known.status, known.inside
                    )),
                    None => differs(format!("ticket {id} is not issued yet")),
                }
            }
            (Query::Ticket(id), View::No(_))
                if !self.festivals.get(&id.festival()).is_some_and(|page| page.tickets.contains_key(id)) =>
            {
                Ok(())
            }
            (Query::Inside { festival, zone, .. }, View::Inside(shown)) => {
                let Some(page) = self.festivals.get(festival) else { return differs(format!("festival {festival}")) };
                let inside: BTreeSet<_> =
                    page.tickets.iter().filter(|(_, t)| t.inside & zone.bit() != 0).map(|(id, _)| *id).collect();
                if inside == shown.iter().copied().collect() { Ok(()) } else { differs(format!("zone {}", zone.0)) }
            }
            (query, view) => differs(format!("{query:?} answered {view:?}")),
        }
    }
}

impl FestivalBook {
    fn new(policy: Policy) -> Self {
        Self {
            status: FestivalStatus::Draft,
            policy,
            qr_version: 1,
            zones: Vec::new(),
            gates: Vec::new(),
            categories: Vec::new(),
            devices: Vec::new(),
            tickets: BTreeMap::new(),
            tags: BTreeMap::new(),
            conflicts: 0,
            ever_decided: policy.ack == ScanAck::Decided,
        }
    }

    fn put_zone(&mut self, zone: ZoneNo, parent: Option<ZoneNo>, capacity: u32) {
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

    fn ticket(&mut self, id: TicketId) -> Check<&mut TicketBook> {
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

    fn live(&self, category: usize) -> u32 {
        let of = |id: &TicketId| usize::from(id.category().0) == category;
        self.tickets.iter().filter(|(id, ticket)| of(id) && ticket.status.is_live()).count() as u32
    }

    fn within_quota(&self, category: usize) -> Check {
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

    fn scanned(&mut self, scan: &Scanned, at: Timestamp) -> Check {
        let by = ByDevice { device: scan.device, seq: scan.seq, floor: scan.floor, fingerprint: scan.fingerprint };
        self.answered(by, scan.answer(at))?;
        let right = self.judge(scan, at);
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
                (_, Err(Rejection::DeviceRevoked)) => "a revoked device is refused by the next decision",
                _ => "scans are decided by the table",
            };
            return breach(rule, format!("decided {said:?}, by the books {right:?}: {scan:?}"));
        }
        if conflict && !self.ever_decided {
            return breach("durable answers have no conflicts", format!("{scan:?}"));
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
    fn judge(&self, scan: &Scanned, at: Timestamp) -> Result<Verdict, Rejection> {
        let device = &self.devices[scan.device.number() as usize];
        if device.revoked {
            return Err(Rejection::DeviceRevoked);
        }
        let zone = self.zones.get(usize::from(scan.zone.0)).ok_or(Rejection::UnknownZone)?;
        if self.gates[device.gate] != scan.zone {
            return Err(Rejection::WrongGate);
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
        no(at < values.valid_from, Rejection::NotYetValid)?;
        no(at >= values.valid_until, Rejection::NoLongerValid)?;
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
        let first = ticket.status == TicketStatus::Sold && perimeter;
        if first != (scan.flags & FIRST_ENTRY != 0) {
            return breach("a ticket enters a perimeter once", format!("first entry {first}: {scan:?}"));
        }
        if first {
            ticket.status = TicketStatus::Used;
        }
        ticket.inside |= around;
        ticket.last = Some(LastBook { at, device: scan.device, zone: scan.zone, before, first_entry: first });
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
        ticket.last = Some(LastBook { at, device: scan.device, zone: scan.zone, before, first_entry: false });
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

    fn undone(&mut self, undone: &Undone, at: Timestamp) -> Check {
        if let Some(by) = undone.by {
            self.answered(by, undone.answer(at))?;
        }
        let revoked = undone.by.is_some_and(|by| self.devices[by.device.number() as usize].revoked);
        let known = self.tickets.get(&undone.ticket);
        let last = known.and_then(|ticket| ticket.last);
        let late = last.is_some_and(|last| at.since_ms(last.at) > engine::UNDO_WITHIN_MS);
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
        if undone.inside != last.before || undone.unused != unused || undone.zone != last.zone {
            return breach("an undo restores what the scan changed", format!("{undone:?}"));
        }
        let before = core::mem::replace(&mut ticket.inside, last.before);
        ticket.last = None;
        if unused {
            ticket.status = TicketStatus::Sold;
        }
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

/// What the office is told of an event it asked for.
fn told_of(event: &Event) -> OfficeAnswer {
    match event {
        Event::FestivalCreated { slug, .. } => OfficeAnswer::Festival(FestivalId::of_slug(slug)),
        Event::ZonePut { zone, .. } => OfficeAnswer::Zone(*zone),
        Event::GateAdded { gate, .. } => OfficeAnswer::Gate(*gate),
        Event::CategoryPut { category, .. } => OfficeAnswer::Category(*category),
        Event::TicketsIssued { festival, category, first_serial, count, seed, .. } => OfficeAnswer::Issued {
            festival: *festival,
            category: *category,
            first_serial: *first_serial,
            count: *count,
            seed: *seed,
        },
        Event::EnrolmentOffered { until, .. } => OfficeAnswer::CodeUntil(*until),
        Event::DeviceEnrolled { device, .. } => OfficeAnswer::Device(*device),
        Event::QrKeyRotated { version, .. } => OfficeAnswer::QrKey(*version),
        Event::ApiKeyCreated { key, .. } => OfficeAnswer::ApiKey(*key),
        _ => OfficeAnswer::Done,
    }
}
