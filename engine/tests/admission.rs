//! Admission, row by row: the table of the design, each row alone and each in front of the next.

mod common;
use common::{World, clock};

/// A ticket that violates two rows gets the earlier one's code. Each line has the row's violation and the next row's.
#[test]
fn the_rows_stand_in_their_order() {
    let mut night = World::open();
    night.tag("W9");
    night.play(
        "
        issue U1..U3 day unpaid
        rotate
        rotate → key 3
        # 1 before 2: it is not even a QR of ours, whatever key it might have meant.
        enter garbage main → rejected: invalid_qr
        # 2: signature before key before ticket. Key 1 is retired, and the ghost was never issued.
        enter forged:ghost main → rejected: tampered_qr
        enter ghost@1 main → rejected: key_retired
        enter ghost main → rejected: unknown_ticket
        # 3: another festival's ticket has no key here that could be retired.
        enter E1@1 main → rejected: wrong_festival
        enter ghost-serial main → rejected: unknown_ticket
        enter ghost-category main → rejected: unknown_ticket
        enter W9 main → rejected: unknown_tag
        # 4 before 5: the festival is over, and the tickets have their own troubles.
        enter T1 main → admitted
        cancel T2
        refund T3
        block T4
        complete regardless
        enter T1 main → rejected: already_used, since 18:00 main main-1
        enter T2 main → rejected: cancelled
        enter T3 main → rejected: refunded
        enter U1 main → rejected: unpaid
        enter T4 main → rejected: blocked
        # 5 before 6: it is over, and the window is past as well.
        window day 10:00 11:00
        enter T5 main → rejected: festival_not_active
        ",
    );
    let mut night = World::open();
    night.play(
        "
        # 6 before 7: outside the window, and the category is not let into camp; and camp is closed.
        window day 19:00 20:00
        close camp
        18:59:59.999 enter T1 camp → rejected: not_yet_valid
        20:00        enter T1 camp → rejected: no_longer_valid
        # 7, denied before closed: the camp is closed, but that is not what is wrong with this ticket.
        19:00 window day 10:00 30:00
        enter T1 camp → rejected: zone_denied
        # 7 before 8: closed, and not inside the parent; closed, and inside already.
        close stage
        enter T1 stage → rejected: zone_closed
        enter T1 main → admitted
        close main
        policy reentry
        enter T1 main → rejected: zone_closed
        # 8 before 9: full, and inside already; full, and not inside the parent.
        open main
        open stage
        capacity main 1
        enter T1 main → rejected: already_inside
        capacity stage 0
        enter T2 stage → rejected: not_inside_parent
        # 9
        enter T2 main → rejected: zone_full
        enter T1 stage → rejected: zone_full
        ",
    );
}

/// What is wrong with the reader comes before what is wrong with the ticket.
#[test]
fn the_reader_comes_first() {
    World::open().play(
        "
        enter garbage stage by main-1 → rejected: wrong_gate
        exit T1 stage by main-1 → rejected: wrong_gate
        enter garbage nowhere by main-1 → rejected: unknown_zone
        enter T1 main by main-2 → admitted
        revoke main-2
        enter garbage stage by main-2 → rejected: device_revoked
        exit T1 main by main-2 → rejected: device_revoked
        undo T1 by main-2 → rejected: device_revoked
        inside main → 1
        # Everybody else goes on.
        exit T1 main → exited, 0 inside
        ",
    );
}

#[test]
fn single_entry() {
    World::open().play(
        "
        ticket T1 → SOLD
        18:00 enter T1 main → admitted, 1 inside, first
        ticket T1 → USED
        18:01 enter T1 main by main-2 → rejected: already_used, 1 inside, since 18:00 main main-1
        18:02 exit T1 main by main-2 → exited, 0 inside
        18:03 enter T1 main → rejected: already_used, since 18:00 main main-1
        # Another perimeter is a perimeter too.
        enter C1 main → admitted
        exit C1 main
        enter C1 camp → rejected: already_used
        quota day → 9 live, 1 used
        ",
    );
}

#[test]
fn reentry() {
    World::open().play(
        "
        policy reentry
        18:00 enter T1 main → admitted, 1 inside, first
        18:01 enter T1 main by main-2 → rejected: already_inside
        18:02 exit T1 main → exited, 0 inside
        18:03 enter T1 main → admitted, 1 inside, not first
        ticket T1 → USED
        # Who is in one perimeter is not in another.
        enter C1 main → admitted
        enter C1 camp → rejected: already_inside
        exit C1 main → exited
        enter C1 camp → admitted
        where C1 → camp
        # Back to single entry: the past counts.
        policy single_entry
        exit T1 main → exited
        enter T1 main → rejected: already_used, since 18:00 main main-1
        ",
    );
}

#[test]
fn zones_in_zones() {
    World::open().play(
        "
        enter T1 stage → rejected: not_inside_parent
        enter T1 main → admitted, first
        enter T1 pit → rejected: not_inside_parent
        enter T1 stage → admitted, 1 inside, not first
        enter T1 stage → rejected: already_inside
        enter T1 pit → admitted, 1 inside
        where T1 → main,stage,pit
        # As often as they come, also under single entry.
        exit T1 pit → exited, 0 inside
        enter T1 pit → admitted
        # Leaving a zone leaves all inside it, and nothing around it.
        exit T1 stage → exited, 0 inside
        where T1 → main
        inside pit → 0
        inside main → 1
        enter T1 stage
        enter T1 pit
        exit T1 main → exited, 0 inside
        where T1 → outside
        inside stage → 0
        inside pit → 0
        ",
    );
}

#[test]
fn capacity() {
    World::open().play(
        "
        capacity main 2
        capacity stage 1
        enter T1 main → admitted, 1 inside
        enter T2 main → admitted, 2 inside
        enter T3 main → rejected: zone_full, 2 inside
        # A full perimeter keeps nobody out of what is in it who is in already.
        enter T1 stage → admitted, 1 inside
        enter T2 stage → rejected: zone_full, 1 inside
        exit T1 main → exited, 1 inside
        enter T2 stage → admitted, 1 inside
        enter T3 main → admitted, 2 inside
        # Lowered below those inside: nobody is thrown out, nobody comes in before enough have left.
        capacity main 1
        inside main → 2
        enter T4 main → rejected: zone_full
        exit T2 main
        enter T4 main → rejected: zone_full
        exit T3 main
        enter T4 main → admitted, 1 inside
        capacity main 0
        exit T4 main
        enter T5 main → rejected: zone_full, 0 inside
        ",
    );
}

#[test]
fn an_exit_is_never_refused() {
    let mut night = World::open();
    night.play(
        "
        issue U1 day unpaid
        exit T1 main → exited, was_not_inside, 0 inside
        exit U1 main → exited, was_not_inside
        exit C1 stage → exited, was_not_inside
        # Whatever has happened to the ticket, the festival or the zone meanwhile.
        enter T1 main
        enter T2 main
        enter T3 main
        enter T4 main
        enter T5 main
        block T1
        refund T2
        close main
        exit T1 main → exited, 4 inside
        exit T2 main → exited, 3 inside
        evacuate main
        exit T3 main → exited, 2 inside
        window day 10:00 11:00
        # Her QR was replaced while she was inside; she shows the old one at the way out.
        rotate
        rotate
        exit T4@1 main → exited, 1 inside
        complete regardless
        exit T5 main → exited, 0 inside
        ticket T2 → REFUNDED
        # What names nobody of ours counts nobody out, and still gets its answer.
        exit garbage main → rejected: invalid_qr
        exit forged:T1 main → rejected: tampered_qr
        exit E1 main → rejected: wrong_festival
        exit ghost main → rejected: unknown_ticket
        inside main → 0
        ",
    );
}

#[test]
fn closing_opening_evacuating() {
    World::open().play(
        "
        enter T1 main
        enter T1 stage
        close main
        enter T2 main → rejected: zone_closed
        # Those inside may go on within, and leave.
        enter T1 pit → admitted
        open main
        enter T2 main → admitted
        evacuate main
        enter T3 main → rejected: zone_closed
        enter T2 stage → rejected: zone_closed
        exit T1 pit
        enter T1 pit → rejected: zone_closed
        where T1 → main,stage
        exit T1 main → exited, 1 inside
        exit T2 main → exited, 0 inside
        open main
        enter T3 main → admitted
        # A zone in the middle: what lies in it goes with it, what lies around it does not.
        enter T3 stage
        evacuate stage
        enter T3 pit → rejected: zone_closed
        enter T4 main → admitted
        ",
    );
}

#[test]
fn who_is_inside_can_be_listed_while_a_zone_is_evacuated() {
    use engine::view::{Query, View};
    let mut night = World::open();
    night.play("enter T1 main\n enter C2 main\n enter T3 main\n enter T3 stage\n evacuate main");
    let list = |zone: &str, after, limit| {
        let query = Query::Inside { festival: night.festival, zone: night.zones[zone], after, limit };
        let Ok(View::Inside(list)) = common::view(&night, query) else { panic!("a list") };
        let name = |id| night.tickets.iter().find(|(_, known)| **known == id).expect("one of ours").0.clone();
        list.into_iter().map(name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(list("main", None, 10), "T1 T3 C2");
    assert_eq!(list("main", None, 1), "T1");
    assert_eq!(list("main", Some(night.tickets["T1"]), 10), "T3 C2", "the page after it");
    assert_eq!(list("main", Some(night.tickets["T3"]), 10), "C2");
    assert_eq!(list("main", Some(night.tickets["C2"]), 10), "");
    assert_eq!(list("stage", None, 10), "T3");
    let told: Vec<_> = night.notices.iter().map(|notice| format!("{notice:?}")).collect();
    assert!(told.iter().any(|notice| notice.contains("Evacuating")), "readers are told: {told:?}");
}

#[test]
fn keys_rotate() {
    World::open().play(
        "
        enter T1@1 main → admitted
        # There never was a key 0, and there is no key 2 yet: whoever signed with them, it was not us.
        enter T2@0 main → rejected: tampered_qr
        enter T2@2 main → rejected: tampered_qr
        enter T2@4294967295 main → rejected: tampered_qr
        exit T1@2 main → rejected: tampered_qr
        rotate → key 2
        enter T2@1 main → admitted
        enter T3@2 main → admitted
        enter T4@3 main → rejected: tampered_qr
        rotate → key 3
        enter T4@1 main → rejected: key_retired
        enter T4@2 main → admitted
        enter T5@3 main → admitted
        rotate → key 4
        enter T6@1 main → rejected: key_retired
        enter T6@2 main → rejected: key_retired
        enter T6@3 main → admitted
        ",
    );
}

#[test]
fn tags() {
    let mut night = World::open();
    night.tag("W9");
    night.play(
        "
        wristband W1 T1
        enter W1 main → admitted, first
        enter T1 main → rejected: already_used
        exit W1 main → exited, 0 inside
        enter W9 main → rejected: unknown_tag
        exit W9 main → rejected: unknown_tag
        # The same again is no harm; another's is taken; a new one takes the place of the old.
        wristband W1 T1 → done
        wristband W1 T2 → rejected: tag_taken
        wristband W2 T1 → done
        enter W1 main → rejected: unknown_tag
        enter W2 main → rejected: already_used
        wristband W1 T2 → done
        enter W1 main → admitted
        wristband W3 ghost → rejected: unknown_ticket
        # A wristband needs no QR key.
        rotate
        rotate
        wristband W4 T3
        enter W4 main → admitted
        ",
    );
}

#[test]
fn tickets_in_trouble() {
    World::open().play(
        "
        issue U1..U2 day unpaid
        enter U1 main → rejected: unpaid
        pay U1
        enter U1 main → admitted
        block T1
        enter T1 main → rejected: blocked
        unblock T1
        enter T1 main → admitted
        # Blocked while inside: no further in.
        block T1
        enter T1 stage → rejected: blocked
        # Blocked and used: that somebody has to be called is what the steward needs to know, also where she came in with it.
        enter T1 main by main-2 → rejected: blocked
        exit T1 main → exited
        enter T1 main by main-2 → rejected: blocked
        policy reentry
        enter T1 main by main-2 → rejected: blocked
        policy single_entry
        unblock T1
        enter T1 main by main-2 → rejected: already_used, since 18:00 main main-1
        # Blocked and worth nothing any more: the help desk could not help.
        block T3
        refund T3
        enter T3 main → rejected: refunded
        cancel T2
        enter T2 main → rejected: cancelled
        refund T2
        enter T2 main → rejected: refunded
        cancel U2
        enter U2 main → rejected: cancelled
        ",
    );
}

#[test]
fn the_window_has_edges() {
    World::open().play(
        "
        17:00 policy reentry
        window day 18:00 20:00
        17:59:59.999 enter T1 main → rejected: not_yet_valid
        18:00        enter T1 main → admitted
        19:59:59.999 enter T2 main → admitted
        20:00        enter T3 main → rejected: no_longer_valid
        # It is the shard's clock that counts, and inner zones close with the window too.
        enter T1 stage → rejected: no_longer_valid
        exit T1 main → exited
        ",
    );
}

#[test]
fn a_festival_that_is_not_ongoing_lets_nobody_in() {
    let mut night = World::bare();
    night.play(
        "
        zone main 10
        category day main quota 10
        reader main-1 at main
        issue T1..T3 day
        enter T1 main → rejected: festival_not_active
        status PUBLISHED
        enter T1 main → rejected: festival_not_active
        status ONGOING
        enter T1 main → admitted
        status CANCELLED
        enter T2 main → rejected: festival_not_active
        exit T1 main → exited
        ",
    );
}

/// The clock jumps back an hour: the shard's time waits where it was, and the window stays shut.
#[test]
fn time_never_goes_back() {
    let mut night = World::open();
    night.play(
        "
        window day 10:00 20:00
        19:30 enter T1 main → admitted
        20:00 enter T2 main → rejected: no_longer_valid
        19:00 enter T2 main → rejected: no_longer_valid
        ",
    );
    assert_eq!(night.shard.now(), clock("20:00").unwrap());
    let times: Vec<_> = night.records.iter().map(|bytes| engine::record::read(bytes).unwrap().at).collect();
    assert!(times.is_sorted(), "no record is older than the one before");
}

/// One rejection in three goes to the log; nothing else is ever left out, and the tallies count all of them.
#[test]
fn sampling_of_the_log() {
    World::open().play(
        "
        log one in 3
        enter T1 main by main-1 seq 1 → admitted
        enter T1 main by main-1 seq 2 → rejected: already_used, unlogged
        enter T1 main by main-1 seq 3 → rejected: already_used
        enter T1 main by main-1 seq 4 → rejected: already_used, unlogged
        enter T2 main by main-1 seq 5 → admitted
        exit  T2 main by main-1 seq 7 → exited
        rejected already_used → 3
        # Asked again, the answer is the same to the last bit, whatever the policy is now.
        log one in 1
        enter T1 main by main-1 seq 2 → rejected: already_used, unlogged, again
        enter T1 main by main-1 seq 8 → rejected: already_used
        log one in 0 → rejected: invalid_value
        log one in 1001 → rejected: invalid_value
        log one in 1000 → done
        # What a supervisor has to see is never left out.
        ack decided
        enter T3 main by main-1 seq 9 shown zone_full → rejected: zone_full, conflict
        ",
    );
}
