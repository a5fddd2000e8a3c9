//! Admission: ticket and zone decide together. The reference's flowchart as code, in the order of the table in the
//! design; the first check that fails answers.
//!
//! Two rules need a word more than the table has room for:
//! - Capacity is checked in every zone that the entry would newly count the person in. Whoever enters an inner zone is
//!   in its parents already, so a full perimeter does not lock its own people out of the zones in it.
//! - A person is in one perimeter at most: who is inside one and shows up at another is `already_inside`.

use crate::gates::category::Ticket;
use crate::gates::command::{
    CONFLICT, Credential, Direction, FIRST_ENTRY, FirstUse, Scan, UNLOGGED, Undo, Verdict, WAS_NOT_INSIDE,
};
use crate::gates::event::{AdmittedByHand, ByDevice, Scanned, TakenBack, Undone};
use crate::gates::festival::Festival;
use crate::gates::zone::Zone;
use crate::model::ids::{DeviceId, GateNo, TicketId, ZoneNo};
use crate::model::rejection::Rejection;
use crate::model::status::{EntryPolicy, FestivalStatus, TicketStatus, ZoneState};
use crate::model::time::{MINUTE_MS, Timestamp};
use crate::plants::{Plant, planted, tripwire};

/// How long a device may undo its own scan.
pub const UNDO_WITHIN_MS: i64 = 15 * MINUTE_MS;

/// What checking has found out so far. The answer says what is known, also when it is no.
#[derive(Default)]
struct Known {
    ticket: Option<TicketId>,
    flags: u8,
    first_use: Option<FirstUse>,
}

/// Decides a scan of a device that is known here and has not asked this before.
pub(crate) fn decide_scan(festival: &Festival, by: ByDevice, scan: &Scan, now: Timestamp) -> Scanned {
    let device = &festival.devices[by.device.number() as usize];
    let gate = device.gate;
    let mut known = Known::default();
    let decided = check(festival, by.device, gate, scan, now, &mut known);
    let (verdict, instead_of) = honour_shown_verdict(festival, by.device, scan, decided, &mut known);
    if let Verdict::Rejected(_) = verdict
        && known.flags & CONFLICT == 0
        && !by.seq.is_multiple_of(u64::from(festival.policy.log_one_rejection_in.max(1)))
    {
        known.flags |= UNLOGGED;
    }
    Scanned {
        device: by.device,
        seq: by.seq,
        floor: by.floor,
        fingerprint: by.fingerprint,
        zone: scan.zone,
        gate,
        direction: scan.direction,
        verdict,
        flags: known.flags,
        ticket: known.ticket,
        occupancy: occupancy_after(festival, scan.zone, verdict, &known),
        first_use: known.first_use,
        captured_at: scan.captured_at,
        taken_at: device.taken_at(scan, now),
        instead_of,
        credential: if let Credential::Refused(_, number) = scan.credential { number } else { 0 },
        tag: if let Credential::Tag(tag) = scan.credential { Some(tag) } else { None },
    }
}

fn check(
    festival: &Festival,
    device: DeviceId,
    gate: GateNo,
    scan: &Scan,
    now: Timestamp,
    known: &mut Known,
) -> Result<Verdict, Rejection> {
    if festival.devices[device.number() as usize].revoked && !planted(Plant::RevocationIgnored) {
        return Err(Rejection::DeviceRevoked);
    }
    let zone = festival.zone(scan.zone)?;
    if festival.gates[usize::from(gate.0)].zone != scan.zone {
        return Err(Rejection::WrongGate);
    }
    // Rows 1 to 3: which ticket?
    let id = match scan.credential {
        Credential::Refused(rejection, number) => {
            tripwire(number);
            return Err(rejection);
        }
        Credential::Ticket(verified) => {
            if verified.id().festival() == festival.id
                && let Err(rejection) = check_key(festival.qr_version, verified.version(), scan.direction)
            {
                // Named all the same, so that what a reader showed before the key was replaced can stand.
                let issued = rejection == Rejection::KeyRetired && festival.ticket(verified.id()).is_ok();
                known.ticket = issued.then(|| verified.id());
                return Err(rejection);
            }
            verified.id()
        }
        Credential::Tag(tag) => {
            let bound = festival.tags.get(&tag).copied();
            // The way out is free as long as it still says who leaves.
            let leaves = scan.direction == Direction::Exit && bound.is_some();
            if festival.lost_tags.contains(&tag) && !leaves && !planted(Plant::LostTagEnters) {
                known.ticket = bound;
                return Err(Rejection::TagLost);
            }
            bound.ok_or(Rejection::UnknownTag)?
        }
    };
    if id.festival() != festival.id {
        return Err(Rejection::WrongFestival);
    }
    let category = festival.categories.get(usize::from(id.category().0)).ok_or(Rejection::UnknownTicket)?;
    let ticket = category.ticket(id).ok_or(Rejection::UnknownTicket)?;
    known.ticket = Some(id);

    if scan.direction == Direction::Exit {
        // Nobody is held back: from here on an exit succeeds.
        if ticket.inside & zone.no.bit() == 0 {
            known.flags |= WAS_NOT_INSIDE;
        }
        return Ok(Verdict::Exited);
    }

    // Row 4: the ticket's status.
    check_paid(ticket.status)?;
    // Before `already_used`: somebody has blocked it on purpose, and whoever holds it is to be sent to the help desk. A
    // stolen ticket has mostly been used as well; "used already" would send the thief away, and the owner with them.
    if ticket.blocked {
        return Err(Rejection::Blocked);
    }
    if ticket.status == TicketStatus::Used
        && zone.is_perimeter()
        && festival.policy.entry == EntryPolicy::SingleEntry
        && !planted(Plant::SingleEntryForgotten)
    {
        known.first_use = ticket.first_use();
        return Err(Rejection::AlreadyUsed);
    }
    // Row 5: the festival's.
    if festival.status != FestivalStatus::Ongoing {
        return Err(Rejection::FestivalNotActive);
    }
    // Row 6: the category's window, when the scan was taken.
    let taken_at = festival.devices[device.number() as usize].taken_at(scan, now);
    if taken_at < category.values.valid_from {
        return Err(Rejection::NotYetValid);
    }
    if taken_at >= category.values.valid_until {
        return Err(Rejection::NoLongerValid);
    }
    // Row 7: the zone's door.
    if category.values.zones & zone.no.bit() == 0 {
        return Err(Rejection::ZoneDenied);
    }
    if zone.state != ZoneState::Open || festival.outer_of(zone).any(|outer| outer.state == ZoneState::Evacuating) {
        return Err(Rejection::ZoneClosed);
    }
    // Row 8: presence.
    let elsewhere = if zone.is_perimeter() { u64::MAX } else { zone.no.bit() };
    if ticket.inside & elsewhere != 0 {
        return Err(Rejection::AlreadyInside);
    }
    if let Some(parent) = zone.parent
        && ticket.inside & parent.bit() == 0
    {
        return Err(Rejection::NotInsideParent);
    }
    // Row 9: room.
    zone.has_room()?;
    // From here it succeeds.
    if ticket.status == TicketStatus::Sold && zone.is_perimeter() {
        known.flags |= FIRST_ENTRY;
    }
    Ok(Verdict::Admitted)
}

/// The current key and the one before are accepted. The way out takes older ones too: nobody is held back because their
/// QR was replaced while they were inside.
fn check_key(current: u32, version: u32, direction: Direction) -> Result<(), Rejection> {
    if version == 0 || version > current {
        return Err(Rejection::TamperedQr); // whoever signed with a key that there never was, it was not us
    }
    if version + 1 < current && direction == Direction::Enter { Err(Rejection::KeyRetired) } else { Ok(()) }
}

/// Where answers may leave before they are durable, a crash can lose one that a steward has acted on. It stands; if the
/// shard would now say otherwise, that is a conflict for a supervisor. Only a ticket that is one of ours can have been
/// shown green.
fn honour_shown_verdict(
    festival: &Festival,
    device: DeviceId,
    scan: &Scan,
    decided: Result<Verdict, Rejection>,
    known: &mut Known,
) -> (Verdict, Option<Rejection>) {
    let shown = scan.shown.filter(|_| festival.may_have_shown(device, scan) || planted(Plant::ShownByAnybody));
    match (shown, decided) {
        (Some(Verdict::Admitted), Err(rejection)) if known.ticket.is_some() && scan.direction == Direction::Enter => {
            known.flags |= CONFLICT;
            known.first_use = None;
            // Whose holder is inside already is not let in by this: it is somebody else who stands here.
            let sold = |ticket: &Ticket| ticket.status == TicketStatus::Sold && ticket.inside & scan.zone.bit() == 0;
            // Into an inner zone counts as well: whoever is there is in its perimeter too, and has used the ticket.
            if known.ticket.is_some_and(|id| festival.ticket(id).is_ok_and(sold)) {
                known.flags |= FIRST_ENTRY;
            }
            (Verdict::Admitted, Some(rejection))
        }
        (Some(Verdict::Rejected(shown)), Ok(_)) => {
            known.flags = CONFLICT;
            (Verdict::Rejected(shown), None)
        }
        (_, Ok(verdict)) => (verdict, None),
        (_, Err(rejection)) => (Verdict::Rejected(rejection), None),
    }
}

fn occupancy_after(festival: &Festival, zone: ZoneNo, verdict: Verdict, known: &Known) -> u32 {
    let Ok(zone) = festival.zone(zone) else { return 0 };
    match verdict {
        Verdict::Admitted => zone.occupancy + 1,
        Verdict::Exited if known.flags & WAS_NOT_INSIDE == 0 => zone.occupancy - 1,
        Verdict::Exited => zone.occupancy - zone.unaccounted.min(1),
        Verdict::Undone | Verdict::Rejected(_) => zone.occupancy,
    }
}

/// Writes a scan down. Cannot fail, and decides nothing.
pub(crate) fn apply_scan(festival: &mut Festival, scanned: &Scanned, at: Timestamp) {
    festival.tally_scan(scanned, at);
    move_holder(festival, scanned, at);
}

/// Where a ticket's holder is after a scan, and what the zones count.
fn move_holder(festival: &mut Festival, scanned: &Scanned, at: Timestamp) {
    let Some(id) = scanned.ticket else { return };
    let (entered, left) = match scanned.verdict {
        Verdict::Admitted => (true, false),
        Verdict::Exited => (false, true),
        Verdict::Undone | Verdict::Rejected(_) => return,
    };
    let zone = &mut festival.zones[usize::from(scanned.zone.0)];
    let (here, outer, inner) = (zone.no.bit(), zone.outer, zone.inner);
    let category = &mut festival.categories[usize::from(id.category().0)];
    let ticket = category.ticket_mut(id);
    let before = ticket.inside;
    if left && before & here == 0 {
        // Nobody we knew of. If somebody here is accounted for by no ticket, this was that person, and whatever zone in
        // here they were in, they have left that too.
        let stay = zone.unaccounted.saturating_sub(1);
        for zone in zones_of(&mut festival.zones, here | inner) {
            zone.set_unaccounted(zone.unaccounted.min(stay));
        }
        return;
    }
    if entered && before & here != 0 {
        // A conflict: the ticket is inside already, and yet somebody stands here with it. Around here they are counted
        // only if they were not when they came through there.
        ticket.last.seq = 0; // the scan to take back would be this one, which is on no ticket
        let here_now = zone.unaccounted + 1;
        for zone in zones_of(&mut festival.zones, here | outer) {
            zone.set_unaccounted(zone.unaccounted.max(here_now));
        }
        return;
    }
    ticket.inside = match (entered, planted(Plant::ExitForgetsInnerZones)) {
        (true, _) => before | here | outer,
        (false, false) => before & !(here | inner),
        (false, true) => before & !here,
    };
    ticket.last = crate::gates::category::LastScan {
        at,
        inside_before: before,
        seq: scanned.seq,
        device: scanned.device.number(),
        zone: scanned.zone,
        first_entry: scanned.flags & FIRST_ENTRY != 0,
        minutes_late: (at.minute().since_ms(scanned.taken_at.minute()) / MINUTE_MS) as u16,
    };
    let changed = before ^ ticket.inside;
    if scanned.flags & FIRST_ENTRY != 0 {
        ticket.first_used_at = at;
        ticket.first_zone = scanned.zone;
        ticket.first_gate = scanned.gate;
        category.set_status(id, TicketStatus::Used);
    }
    for zone in zones_of(&mut festival.zones, changed) {
        if entered { zone.enter() } else { zone.leave() }
    }
    assert_eq!(festival.zones[usize::from(scanned.zone.0)].occupancy, scanned.occupancy, "paired with decide");
}

/// Whether somebody has paid for the ticket, and it has not been taken back: nobody overrules that.
fn check_paid(status: TicketStatus) -> Result<(), Rejection> {
    match status {
        TicketStatus::Cancelled => Err(Rejection::Cancelled),
        TicketStatus::Refunded => Err(Rejection::Refunded),
        TicketStatus::Reserved | TicketStatus::Available => Err(Rejection::Unpaid),
        TicketStatus::Sold | TicketStatus::Used => Ok(()),
    }
}

/// The number under which a ticket remembers that it was let in by hand: no device has it, so that only a supervisor can
/// undo that. [`crate::gates::category::LastScan::seq`] is then one more than the gate's number.
pub(crate) const NO_DEVICE: u32 = u32::MAX;

/// Decides to let somebody in by hand. What may be overruled is what a reader can be wrong about: that the ticket was used,
/// that its holder is inside, or not in the zone around this one, the hours, the areas. What may not: a ticket that is not
/// valid or is blocked, a festival or a zone that is closed, a zone that is full.
///
/// # Errors
/// What may not be overruled.
pub(crate) fn decide_by_hand(
    festival: &Festival,
    id: TicketId,
    gate_no: GateNo,
    reason: &str,
    now: Timestamp,
) -> Result<AdmittedByHand, Rejection> {
    let gate = festival.gates.get(usize::from(gate_no.0)).ok_or(Rejection::UnknownGate)?;
    let zone = festival.zone(gate.zone)?;
    let ticket = festival.ticket(id)?;
    check_paid(ticket.status)?;
    if ticket.blocked {
        return Err(Rejection::Blocked);
    }
    if festival.status != FestivalStatus::Ongoing {
        return Err(Rejection::FestivalNotActive);
    }
    if zone.state != ZoneState::Open || festival.outer_of(zone).any(|outer| outer.state == ZoneState::Evacuating) {
        return Err(Rejection::ZoneClosed);
    }
    let here = zone.no.bit();
    let is_here = ticket.inside & here != 0;
    zone.has_room()?;
    // Around here they are counted only if they are not yet, as with a shown answer that stands.
    let counted_anew = |outer: &&Zone| match is_here {
        true => outer.unaccounted <= zone.unaccounted,
        false => ticket.inside & outer.no.bit() == 0,
    };
    festival.outer_of(zone).filter(counted_anew).try_for_each(Zone::has_room)?;
    // From here it succeeds.
    let values = &festival.categories[usize::from(id.category().0)].values;
    let perimeter = zone.is_perimeter();
    let elsewhere = if perimeter { u64::MAX } else { here };
    let single = perimeter && festival.policy.entry == EntryPolicy::SingleEntry;
    let instead_of = [
        (single && ticket.status == TicketStatus::Used, Rejection::AlreadyUsed),
        (now < values.valid_from, Rejection::NotYetValid),
        (now >= values.valid_until, Rejection::NoLongerValid),
        (values.zones & here == 0, Rejection::ZoneDenied),
        (ticket.inside & elsewhere != 0, Rejection::AlreadyInside),
        (zone.parent.is_some_and(|parent| ticket.inside & parent.bit() == 0), Rejection::NotInsideParent),
    ]
    .into_iter()
    .find_map(|(is_so, rejection)| is_so.then_some(rejection));
    Ok(AdmittedByHand {
        ticket: id,
        gate: gate_no,
        zone: zone.no,
        instead_of,
        first_entry: ticket.status == TicketStatus::Sold && !is_here,
        occupancy: zone.occupancy + 1,
        reason: reason.to_owned(),
    })
}

/// Writes down that somebody was let in by hand: as a scan would have done it.
pub(crate) fn apply_by_hand(festival: &mut Festival, admitted: &AdmittedByHand, at: Timestamp) {
    let scanned = admitted.as_scan(DeviceId::new(festival.id, NO_DEVICE), at);
    move_holder(festival, &scanned, at);
}

fn zones_of(zones: &mut [Zone], mut mask: u64) -> impl Iterator<Item = &mut Zone> {
    zones.iter_mut().filter(move |zone| {
        let wanted = mask & zone.no.bit() != 0;
        mask &= !zone.no.bit();
        wanted
    })
}

/// Decides an undo. `by` is the device, or nobody for a supervisor, who may undo what any reader scanned, at any time.
pub(crate) fn decide_undo(festival: &Festival, by: Option<ByDevice>, undo: &Undo, now: Timestamp) -> Undone {
    let gate = by.map_or(GateNo(0), |by| festival.devices[by.device.number() as usize].gate);
    let mut undone = Undone {
        by,
        zone: festival.gates.get(usize::from(gate.0)).map_or(ZoneNo(0), |gate| gate.zone),
        gate,
        verdict: Verdict::Undone,
        ticket: undo.ticket,
        inside: 0,
        unused: false,
        occupancy: 0,
        scan: None,
    };
    if let Err(rejection) = check_undo(festival, by, undo, now, &mut undone) {
        undone.verdict = Verdict::Rejected(rejection);
    }
    undone
}

fn check_undo(
    festival: &Festival,
    by: Option<ByDevice>,
    undo: &Undo,
    now: Timestamp,
    undone: &mut Undone,
) -> Result<(), Rejection> {
    if let Some(by) = by
        && festival.devices[by.device.number() as usize].revoked
    {
        return Err(Rejection::DeviceRevoked);
    }
    let ticket = festival.ticket(undo.ticket)?;
    let last = ticket.last;
    if last.seq == 0 {
        return Err(Rejection::NothingToUndo);
    }
    undone.zone = last.zone;
    undone.occupancy = festival.zones[usize::from(last.zone.0)].occupancy;
    if let Some(by) = by {
        if last.device != by.device.number() {
            return Err(Rejection::NotYourScan);
        }
        if last.seq != undo.scan_seq {
            return Err(Rejection::NothingToUndo);
        }
        if now.since_ms(last.at) > UNDO_WITHIN_MS {
            return Err(Rejection::UndoTooLate);
        }
    }
    // From here it succeeds.
    undone.inside = last.inside_before;
    undone.unused = last.first_entry && ticket.status == TicketStatus::Used;
    let zone = last.zone.bit();
    if ticket.inside & zone != 0 && last.inside_before & zone == 0 {
        undone.occupancy -= 1;
    } else if ticket.inside & zone == 0 && last.inside_before & zone != 0 {
        undone.occupancy += 1;
    }
    undone.scan = Some(TakenBack {
        gate: match last.device {
            NO_DEVICE => GateNo((last.seq - 1) as u16),
            device => festival.devices[device as usize].gate,
        },
        // Who was not inside before it came in by it.
        direction: if last.inside_before & zone == 0 { Direction::Enter } else { Direction::Exit },
        minute: last.minute(),
    });
    Ok(())
}

/// Writes an undo down.
pub(crate) fn apply_undo(festival: &mut Festival, undone: &Undone, at: Timestamp) {
    if let Some(by) = undone.by {
        let device = &mut festival.devices[by.device.number() as usize];
        device.window.remember(by.seq, by.floor, by.fingerprint, undone.answer(at));
        device.last_seen_at = at;
    }
    if undone.verdict != Verdict::Undone {
        return;
    }
    if let Some(scan) = undone.scan
        && !planted(Plant::UndoKeepsTheCount)
    {
        festival.gates[usize::from(scan.gate.0)].take_back(scan.direction);
    }
    let category = &mut festival.categories[usize::from(undone.ticket.category().0)];
    let ticket = category.ticket_mut(undone.ticket);
    let now_inside = core::mem::replace(&mut ticket.inside, undone.inside);
    ticket.last.seq = 0;
    if undone.unused {
        ticket.first_used_at = Timestamp(0);
        ticket.first_zone = ZoneNo(0);
        ticket.first_gate = GateNo(0);
        category.set_status(undone.ticket, TicketStatus::Sold);
    }
    for zone in zones_of(&mut festival.zones, now_inside & !undone.inside) {
        zone.undo_enter();
    }
    for zone in zones_of(&mut festival.zones, undone.inside & !now_inside) {
        zone.undo_leave();
    }
    assert!(
        planted(Plant::UndoKeepsOccupancy) || festival.zones[usize::from(undone.zone.0)].occupancy == undone.occupancy,
        "paired with decide"
    );
}
