//! By hand: slips taken back, and somebody let in in spite of a rule, each for a reason.

mod common;
use common::{World, clock};
use engine::audit::Audit;
use engine::command::*;
use engine::event::Event;
use engine::gates::command::*;
use engine::gates::event::DoneByHand;
use engine::model::ids::{CategoryNo, ShardId, TicketCode};
use engine::model::rejection::Rejection;
use engine::model::time::Calendar;
use engine::record;
use engine::view::{Query, View};

/// Everything that happened is as the audit would have it.
fn audited(night: &World) {
    let mut audit = Audit::new(1);
    night.records.iter().for_each(|record| audit.record(ShardId(0), record));
    let report = audit.finish();
    assert_eq!(report.violations_total, 0, "{:?}", report.violations);
}

#[test]
fn a_festival_that_was_ended_too_early() {
    let mut night = World::open();
    night.play(
        "
        18:00 enter T1 main → admitted
        status COMPLETED → rejected: people_inside
        enter T2 main → admitted
        complete regardless
        enter T3 main → rejected: festival_not_active
        exit T1 main → exited, 1 inside
        status ONGOING → rejected: reason_needed
        reopen → rejected: invalid_value
        reopen the wrong button
        enter T3 main → admitted, 2 inside
        reopen once more → rejected: invalid_transition
        exit T2 main
        exit T3 main
        status COMPLETED
        reopen there is an encore
        status CANCELLED
        reopen never → rejected: invalid_transition
        ",
    );
    audited(&night);
}

#[test]
fn a_ticket_that_was_cancelled_by_mistake() {
    let mut night = World::open();
    night.play(
        "
        category few main quota 2
        issue X1..X2 few
        cancel X1
        restore X1 → rejected: invalid_value
        restore X1 the wrong row
        ticket X1 → SOLD
        restore X1 again → rejected: invalid_transition
        18:00 enter X1 main → admitted, first
        # Its place was given to somebody else meanwhile.
        refund X2
        issue X3 few
        restore X2 she has changed her mind → rejected: sold_out
        quota few 3
        restore X2 she has changed her mind
        quota few → 3 live, 1 used
        enter X2 main → admitted
        restore ghost nobody → rejected: unknown_ticket
        cancel X3
        exit X1 main
        exit X2 main
        status COMPLETED
        restore X3 too late → rejected: invalid_transition
        ",
    );
    audited(&night);
}

#[test]
fn a_device_that_was_revoked_by_mistake() {
    let mut night = World::open();
    night.play(
        "
        18:00 enter T1 main → admitted
        revoke main-1
        enter T2 main → rejected: device_revoked
        readmit main-1 → rejected: invalid_value
        readmit main-1 it was under the bench
        # As itself: what it was told before, it is told again, and goes on from there.
        enter T1 main seq 1 → admitted, again
        enter T2 main seq 2 → rejected: device_revoked, again
        enter T2 main → admitted
        readmit main-1 once more
        ",
    );
    audited(&night);
}

#[test]
fn a_test_day_is_taken_back_until_the_doors_are_open() {
    let mut night = World::open();
    night.play(
        "
        begins 42:00
        18:00 enter T1 main → admitted
        enter T1 stage → admitted
        enter T2 main → admitted
        exit T2 main → exited
        enter T2 main → rejected: already_used
        quota day → 9 live, 2 used
        reset → rejected: invalid_value
        reset that was a test
        quota day → 9 live, 0 used
        inside main → 0
        inside stage → 0
        where T1 → outside
        ticket T2 → SOLD
        rejected already_used → 0
        undo T2 by main-1 → rejected: nothing_to_undo
        # Repetitions of the test day's scans stay what they were.
        enter T1 main seq 1 → admitted, again
        42:00 enter T1 main → admitted, first, 1 inside
        43:00 reset only now does anybody look
        inside main → 0
        43:00:00.001 enter T1 main → admitted, first, 1 inside
        reset the festival has begun → rejected: too_late_to_reset
        complete regardless
        reset it is over → rejected: invalid_transition
        ",
    );
    let gates = &night.here().gates;
    assert_eq!(gates.iter().map(|gate| gate.admitted).sum::<u64>(), 1, "gates count from nothing");
    audited(&night);
}

#[test]
fn somebody_is_let_in_by_hand() {
    let mut night = World::open();
    night.play(
        "
        18:00 admit T1 at main-1 → rejected: invalid_value
        admit T1 at main-1 the scanner is broken
        inside main → 1
        ticket T1 → USED
        enter T1 main → rejected: already_used, since 18:00 main main-1
        exit T1 main → exited, 0 inside
        # Used, and let in all the same.
        admit T1 at main-1 she was at the medical tent
        where T1 → main
        # Inside, and somebody else stands here with the ticket: counted, so that the zone is not overfull.
        admit T1 at main-1 twins
        inside main → 2
        exit T1 main
        exit T1 main → exited, was_not_inside, 0 inside
        # Not in the zone around it, where the scan was missed.
        admit T2 at stage-1 the main gate was open
        where T2 → main,stage
        inside main → 1
        ticket T2 → USED
        # Not their area, and not their hour.
        admit T3 at camp-1 she lost her friends
        inside camp → 1
        window day 20:00 23:00
        admit T4 at main-1 early bird
        23:00 admit T5 at main-1 late bird
        inside main → 3
        # A supervisor takes it back; no reader can.
        undo T5 by main-1 → rejected: not_your_scan
        supervisor undoes T5
        inside main → 2
        ticket T5 → SOLD
        ",
    );
    let overruled: Vec<_> = night.records.iter().flat_map(|bytes| record::read(bytes).unwrap().events).collect();
    let overruled: Vec<_> = overruled
        .iter()
        .filter_map(|event| match event {
            Event::ByHand(DoneByHand::Admitted { admitted }) => Some((admitted.instead_of, admitted.reason.as_str())),
            _ => None,
        })
        .collect();
    use Rejection::*;
    assert_eq!(
        overruled,
        [
            (None, "the scanner is broken"),
            (Some(AlreadyUsed), "she was at the medical tent"),
            (Some(AlreadyUsed), "twins"),
            (Some(NotInsideParent), "the main gate was open"),
            (Some(ZoneDenied), "she lost her friends"),
            (Some(NotYetValid), "early bird"),
            (Some(NoLongerValid), "late bird"),
        ]
    );
    audited(&night);
}

#[test]
fn what_nobody_may_overrule() {
    let mut night = World::open();
    night.play(
        "
        issue X1 day unpaid
        18:00 admit X1 at main-1 why → rejected: unpaid
        cancel T1
        admit T1 at main-1 why → rejected: cancelled
        refund T2
        admit T2 at main-1 why → rejected: refunded
        block T3
        admit T3 at main-1 why → rejected: blocked
        close main
        admit T4 at main-1 why → rejected: zone_closed
        evacuate main
        admit T4 at main-1 why → rejected: zone_closed
        admit T4 at stage-1 why → rejected: zone_closed
        open main
        capacity main 1
        enter T4 main → admitted
        admit T5 at main-1 why → rejected: zone_full
        # Into the stage they would be counted in the full main area as well.
        admit T5 at stage-1 why → rejected: zone_full
        admit T4 at stage-1 why
        admit ghost at main-1 why → rejected: unknown_ticket
        complete regardless
        admit T6 at main-1 why → rejected: festival_not_active
        ",
    );
    audited(&night);
}

#[test]
fn a_ticket_is_found_by_its_printed_code() {
    let mut night = World::open();
    night.play("issue X1..X9 camper");
    let festival = night.festival;
    for name in ["T7", "X9"] {
        let ticket = night.tickets[name];
        let code = TicketCode::parse(ticket.code().as_str()).unwrap().bits();
        let query = |from| night.shard.query(&Query::TicketsByCode { festival, code, from });
        let View::TicketsByCode(found, None) = query((CategoryNo(0), 0)) else { panic!("{name}") };
        assert_eq!(found.iter().map(|view| view.id).collect::<Vec<_>>(), [ticket], "{name}");
        let behind = (ticket.category(), ticket.serial() + 1);
        let View::TicketsByCode(found, None) = query(behind) else { panic!("{name}") };
        assert!(found.is_empty(), "{name} is not behind itself");
    }
    let View::TicketsByCode(none, None) =
        night.shard.query(&Query::TicketsByCode { festival, code: 1, from: (CategoryNo(0), 0) })
    else {
        panic!("a list")
    };
    assert!(none.is_empty());
}

#[test]
fn a_festivals_details() {
    let mut night = World::open();
    let festival = night.festival;
    let details = night.here().details();
    let longer = Details {
        name: "The long night".into(),
        ends_at: clock("72:00").unwrap(),
        location: "Old airfield".into(),
        max_capacity: Some(12_000),
        calendar: Calendar { time_zone: "Europe/Berlin".into(), day_starts_min: 5 * 60 },
        ..details.clone()
    };
    let starting = |day_starts_min| Calendar { day_starts_min, ..Calendar::default() };
    let edit = |details: &Details| AdminAction::ByHand(ByHand::Edit { festival, details: details.clone() });
    assert_eq!(night.admin(edit(&longer)), AdminAnswer::Done);
    assert_eq!(night.here().details(), longer);
    for (what, bad) in [
        ("no name", Details { name: " ".into(), ..longer.clone() }),
        ("an end before the start", Details { ends_at: longer.starts_at, ..longer.clone() }),
        ("a place with 201 letters", Details { location: "x".repeat(201), ..longer.clone() }),
        ("a day that begins within a quarter", Details { calendar: starting(61), ..longer.clone() }),
        ("room for nobody", Details { max_capacity: Some(0), ..longer.clone() }),
    ] {
        assert_eq!(night.admin(edit(&bad)), AdminAnswer::Rejected(Rejection::InvalidValue), "{what}");
    }
    assert_eq!(night.here().details(), longer);
    let before = night.records.len();
    assert_eq!(night.admin(edit(&longer)), AdminAnswer::Done);
    assert_eq!(night.records.len(), before, "nothing has changed");
    night.replays();
    audited(&night);
}
