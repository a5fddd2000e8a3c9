//! Undo: takes back what a scan has changed, all of it and nothing else.

mod common;
use common::World;
use engine::event::Event;
use engine::gates::command::{DeviceAction, DeviceCommand, Undo};
use engine::model::ids::DeviceId;

#[test]
fn the_first_entry_was_a_mistake() {
    World::open().play(
        "
        18:00 enter T1 main → admitted, first, 1 inside
        18:15 undo T1 by main-1 → undone, 0 inside
        ticket T1 → SOLD
        where T1 → outside
        quota day → 9 live, 0 used
        # As if it had not been: the ticket enters again, for the first time.
        18:16 enter T1 main by main-2 → admitted, first
        18:17 enter T1 main → rejected: already_used, since 18:16 main main-2
        ",
    );
}

#[test]
fn by_whom_and_until_when() {
    World::open().play(
        "
        18:00 enter T1 main → admitted
        undo T1 by main-2 → rejected: not_your_scan
        undo T2 by main-1 → rejected: nothing_to_undo
        undo ghost by main-1 → rejected: unknown_ticket
        undo E1 by main-1 → rejected: unknown_ticket
        18:15:00.001 undo T1 by main-1 → rejected: undo_too_late
        inside main → 1
        # The supervisor can, whoever scanned it and whenever.
        23:00 supervisor undoes T1 → done
        inside main → 0
        ticket T1 → SOLD
        supervisor undoes T1 → rejected: nothing_to_undo
        supervisor undoes T2 → rejected: nothing_to_undo
        supervisor undoes ghost → rejected: unknown_ticket
        supervisor undoes E1 → rejected: nothing_to_undo
        ",
    );
}

/// The fifteen minutes are the shard's: a clock that jumps back does not give them again.
#[test]
fn a_clock_that_jumps_back_gives_no_time() {
    World::open().play(
        "
        18:00 enter T1 main → admitted
        18:30 enter T2 main → admitted
        17:30 undo T1 by main-1 → rejected: undo_too_late
        ",
    );
}

#[test]
fn a_scan_that_was_followed_by_another() {
    World::open().play(
        "
        policy reentry
        enter T1 main by main-1 seq 1 → admitted
        exit T1 main by main-1 seq 2 → exited
        enter T1 main by main-1 seq 3 → admitted
        undo T1 by main-1 scan 1 → rejected: nothing_to_undo
        undo T1 by main-1 scan 2 → rejected: nothing_to_undo
        undo T1 by main-1 scan 3 → undone, 0 inside
        ticket T1 → USED
        # Once: what was before it stays.
        undo T1 by main-1 scan 3 → rejected: nothing_to_undo
        undo T1 by main-1 scan 2 → rejected: nothing_to_undo
        # A no changes nothing, so it can neither be undone nor stand in the way.
        enter T2 main by main-1 seq 10 → admitted
        enter T2 main by main-1 seq 11 → rejected: already_inside
        undo T2 by main-1 scan 11 → rejected: nothing_to_undo
        undo T2 by main-1 scan 10 → undone
        ",
    );
}

#[test]
fn an_exit_was_a_mistake() {
    World::open().play(
        "
        capacity main 1
        enter T1 main
        enter T1 stage
        enter T1 pit
        exit T1 main → exited, 0 inside
        enter T2 main by main-2 → admitted, 1 inside
        # She is where she was, in all three zones, and counted even though the zone has filled up meanwhile.
        undo T1 by main-1 → undone, 2 inside
        where T1 → main,stage,pit
        inside pit → 1
        ticket T1 → USED
        # Nobody was inside, so nothing was changed.
        exit T3 main → exited, was_not_inside
        undo T3 by main-1 → rejected: nothing_to_undo
        ",
    );
}

#[test]
fn an_inner_zone_was_a_mistake() {
    World::open().play(
        "
        enter T1 main
        enter T1 stage
        undo T1 by stage-1 → undone, 0 inside
        where T1 → main
        ticket T1 → USED
        undo T1 by main-1 → rejected: nothing_to_undo
        enter T1 stage → admitted
        ",
    );
}

/// Gate, zone and what is shown live say the same of a scan that was none, whoever takes it back.
#[test]
fn an_undone_scan_is_taken_out_of_its_gate() {
    World::open().play(
        "
        18:00 enter T1 main by main-1 → admitted
        enter T2 main by main-2 → admitted
        undo T1 by main-1 → undone, 1 inside
        gate main-1 → 0 in, 0 out, 1 undone, 0 rejected
        gate main-2 → 1 in, 0 out, 0 undone, 0 rejected
        # The supervisor stands at no gate: it is the scan's that counts it no more.
        exit T2 main by main-1 → exited, 0 inside
        gate main-1 → 0 in, 1 out, 1 undone, 0 rejected
        18:03 supervisor undoes T2
        last counted → 18:00:00
        gate main-1 → 0 in, 0 out, 2 undone, 0 rejected
        # What is refused was no scan.
        undo T2 by main-2 → rejected: nothing_to_undo
        gate main-2 → 1 in, 0 out, 0 undone, 0 rejected
        snapshot
        ",
    );
}

/// What the office did to the ticket meanwhile stays.
#[test]
fn the_offices_word_stands() {
    World::open().play(
        "
        enter T1 main
        refund T1
        undo T1 by main-1 → undone, 0 inside
        ticket T1 → REFUNDED
        enter T1 main → rejected: refunded
        enter T2 main
        block T2
        undo T2 by main-1 → undone
        ticket T2 → SOLD
        enter T2 main → rejected: blocked
        quota day → 8 live, 0 used
        ",
    );
}

/// An undone ticket is, to the last bit, the ticket it was (but for the memory of the scan).
#[test]
fn it_restores_exactly() {
    let mut night = World::open();
    let ticket = |night: &World| *night.here().ticket(night.tickets["C1"]).unwrap();
    let before = ticket(&night);
    night.play("18:00 enter C1 camp → admitted, first\n undo C1 by camp-1 → undone");
    let after = ticket(&night);
    assert_eq!(engine::gates::category::Ticket { last: before.last, ..after }, before);
    assert_eq!(after.last.seq, 0);
}

/// A device that undoes another festival's ticket is told so, and its own festival remembers the answer: the record
/// must not send the replay to the other festival (it did).
#[test]
fn another_festivals_ticket() {
    let mut night = World::open();
    night.play(
        "
        undo E1 by main-1 seq 5 → rejected: unknown_ticket
        undo E1 by main-1 seq 5 → rejected: unknown_ticket, again
        ",
    );
    // Also of a festival that there is not.
    let device = night.readers["main-1"].id;
    let nowhere =
        engine::model::ids::TicketId::new(engine::model::ids::FestivalId(1), engine::model::ids::CategoryNo(0), 0, 0);
    let undo = DeviceAction::Undo(Undo { ticket: nowhere, scan_seq: 1 });
    night.device(DeviceCommand { device, seq: 6, floor: 1, action: undo });
    night.replays();
}

#[test]
fn the_same_undo_twice() {
    let mut night = World::open();
    night.play(
        "
        enter T1 main by main-1 seq 1
        undo T1 by main-1 scan 1 seq 2 → undone, 0 inside
        enter T1 main by main-1 seq 3 → admitted
        undo T1 by main-1 scan 1 seq 2 → undone, again, 0 inside
        where T1 → main
        undo T1 by main-1 scan 3 seq 2 → rejected: idempotency_conflict
        ",
    );
    let undone = |bytes: &Vec<u8>| {
        let events = engine::record::read(bytes).unwrap().events;
        events.into_iter().find_map(|event| if let Event::Undone(undone) = event { Some(undone) } else { None })
    };
    let undone: Vec<_> = night.records.iter().filter_map(undone).collect();
    assert_eq!(undone.len(), 1, "it happened once");
    assert_eq!(undone[0].by.map(|by| by.device), Some(DeviceId::new(night.festival, 0)));
}
