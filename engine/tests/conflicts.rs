//! `scan_ack = decided`: a crash may lose an answer that a steward has acted on. It stands, it is listed, and whoever
//! it let in is counted, by a ticket where one can, else as `unaccounted`.

mod common;
use common::World;

#[test]
fn honour_shown_verdict() {
    World::open().play(
        "
        ack decided
        # Nothing to disagree about.
        18:00 enter T1 main shown admitted → admitted, first, 1 inside
        enter T1 main shown already_used → rejected: already_used
        exit T1 main shown exited → exited, 0 inside
        conflicts → 0
        # She came in elsewhere meanwhile, and left: she is in again, on her ticket.
        enter T1 main by main-2 shown admitted → admitted, conflict, 1 inside, not first
        where T1 → main
        unaccounted main → 0
        conflicts → 1
        # Red was shown, and she went away, though now it would be green.
        enter T2 main shown zone_full → rejected: zone_full, conflict, 1 inside
        where T2 → outside
        ticket T2 → SOLD
        conflicts → 2
        # A sold ticket that was let in for the first time, whatever stood against it, is used.
        window day 10:00 11:00
        enter T3 main shown admitted → admitted, conflict, first
        ticket T3 → USED
        # The capacity is no argument either.
        window day 10:00 30:00
        capacity main 2
        enter T4 main shown admitted → admitted, conflict, 3 inside
        conflicts → 4
        # Blocked meanwhile.
        block T5
        enter T5 main shown admitted → admitted, conflict, 4 inside
        ",
    );
}

/// Whoever was let into an inner zone is in its perimeter too, and has used the ticket: it opens no perimeter again.
#[test]
fn an_inner_zone_uses_the_ticket_as_well() {
    World::open().play(
        "
        ack decided
        enter T1 stage shown admitted → admitted, conflict, first, 1 inside
        ticket T1 → USED
        exit T1 main
        enter T1 main → rejected: already_used
        ",
    );
}

/// Only what one of our readers could have shown.
#[test]
fn what_cannot_have_been_shown() {
    World::open().play(
        "
        ack decided
        enter garbage main shown admitted → rejected: invalid_qr
        enter forged:T1 main shown admitted → rejected: tampered_qr
        enter E1 main shown admitted → rejected: wrong_festival
        enter ghost main shown admitted → rejected: unknown_ticket
        enter T1 stage by main-1 shown admitted → rejected: wrong_gate
        revoke main-2
        enter T1 main by main-2 shown admitted → rejected: device_revoked
        ",
    );
}

#[test]
fn under_the_default_nobody_shows_what_is_not_on_disk() {
    World::open().play(
        "
        enter T1 main by main-1 shown zone_full → admitted
        enter T1 main by main-1 shown admitted → rejected: already_used
        conflicts → 0
        inside main → 1
        ",
    );
}

/// Between the answer that a crash has lost and the reader that brings it again, the office may have been busy. (Seeds
/// 3 and 33 of the simulator.)
#[test]
fn what_was_shown_stands_whatever_the_office_has_changed_since() {
    World::open().play(
        "
        18:00 ack decided
        18:20 ack durable
        enter T1 main
        enter T1 main by main-2 shown admitted captured 18:10 → admitted, conflict, 2 inside
        enter T2 main shown zone_full captured 18:10 → rejected: zone_full, conflict, 2 inside
        rotate
        rotate
        enter T3@1 main shown admitted captured 18:10 → admitted, conflict, first, 3 inside
        enter T4@1 main → rejected: key_retired
        conflicts → 3
        ",
    );
}

/// A festival that was `decided` once does not let in whomever a reader says it has shown green.
#[test]
fn a_claim_is_not_believed() {
    World::open().play(
        "
        18:00 ack decided
        18:20 ack durable
        18:30 enter T1 main → admitted, first
        # Not sent again; captured before answers left early; captured when they did not any more.
        enter T1 main by main-2 shown admitted captured 18:10 unsent → rejected: already_used
        enter T1 main by main-2 shown admitted captured 17:59 → rejected: already_used
        enter T1 main by main-2 shown admitted captured 18:20 → rejected: already_used
        enter T1 main by main-2 shown admitted → rejected: already_used
        block T2
        enter T2 main by main-2 shown admitted → rejected: blocked
        enter T3 main by main-2 shown zone_full → admitted, first
        conflicts → 0
        enter T1 main by main-2 shown admitted captured 18:19 → admitted, conflict, 3 inside
        conflicts → 1
        ",
    );
}

/// Nor one that was not connected when it says it was told: without a server there is no answer.
#[test]
fn a_claim_of_a_reader_that_was_offline() {
    World::open().play(
        "
        18:00 ack decided
        18:05 leave main-2
        18:15 connect main-2
        18:20 enter T1 main → admitted, first
        enter T1 main by main-2 shown admitted captured 18:05 → rejected: already_used
        enter T1 main by main-2 shown admitted captured 18:14 → rejected: already_used
        snapshot
        enter T1 main by main-2 shown admitted captured 18:04 → admitted, conflict, 2 inside
        enter T1 main by main-2 shown admitted captured 18:15 → admitted, conflict, 3 inside
        # Nobody saw this connection end: the node had crashed. It was connected until it came back.
        18:40 connect main-2
        enter T1 main by main-2 shown admitted captured 18:39 → admitted, conflict, 4 inside
        # Two connections are remembered.
        enter T1 main by main-2 shown admitted captured 18:04 → rejected: already_used
        conflicts → 3
        ",
    );
}

/// Two people with one ticket, both inside: the second is counted without a ticket, and counted out by the exit that
/// finds nobody.
#[test]
fn people_whom_no_ticket_accounts_for() {
    World::open().play(
        "
        ack decided
        enter T1 main → admitted, 1 inside
        enter T1 main by main-2 shown admitted → admitted, conflict, 2 inside
        unaccounted main → 1
        snapshot
        exit T1 main → exited, 1 inside
        exit T1 main → exited, was_not_inside, 0 inside
        unaccounted main → 0
        exit T1 main → exited, was_not_inside, 0 inside
        ",
    );
}

/// The second person goes on into the stage. They were counted in `main` when they came in, so they are not counted
/// there again; leaving the stage leaves them in `main`; leaving `main` leaves the stage.
#[test]
fn the_books_of_the_unaccounted_in_zones_in_zones() {
    World::open().play(
        "
        ack decided
        enter T1 main
        enter T1 stage
        enter T1 main by main-2 shown admitted → admitted, conflict, 2 inside
        enter T1 stage shown admitted → admitted, conflict, 2 inside
        unaccounted stage → 1
        unaccounted main → 1
        inside main → 2
        # One of the two leaves the stage; that is the ticket. Then the other: still in main.
        exit T1 stage → exited, 1 inside
        exit T1 stage → exited, was_not_inside, 0 inside
        inside main → 2
        unaccounted main → 1
        # Into the stage again, twice, and out at the main gate at once.
        enter T1 stage
        enter T1 stage shown admitted → admitted, conflict, 2 inside
        inside main → 2
        snapshot
        exit T1 main → exited, 1 inside
        inside stage → 1
        exit T1 main → exited, was_not_inside, 0 inside
        inside stage → 0
        unaccounted stage → 0
        ",
    );
}

/// The same when it is the stage where the second person is first heard of: then they are in main as well.
#[test]
fn an_unaccounted_person_in_the_stage_is_in_main() {
    World::open().play(
        "
        ack decided
        enter T1 main
        enter T1 stage
        enter T1 stage shown admitted → admitted, conflict, 2 inside
        inside main → 2
        exit T1 pit → exited, was_not_inside, 0 inside
        inside main → 2
        ",
    );
}

/// An undo must not hit the scan before the one that is meant.
#[test]
fn a_conflict_takes_the_undo_with_it() {
    World::open().play(
        "
        ack decided
        enter T1 main by main-1 seq 1 → admitted
        enter T1 main by main-2 seq 1 shown admitted → admitted, conflict, 2 inside
        undo T1 by main-2 scan 1 → rejected: nothing_to_undo
        supervisor undoes T1 → rejected: nothing_to_undo
        ticket T1 → USED
        # A conflict that a ticket accounts for can be undone like any scan.
        block T2
        enter T2 main shown admitted → admitted, conflict, 3 inside
        undo T2 by main-1 → undone, 2 inside
        ticket T2 → SOLD
        ",
    );
}

/// The answer to a conflict is remembered like any other.
#[test]
fn a_conflict_happens_once() {
    World::open().play(
        "
        ack decided
        enter T1 main
        enter T1 main by main-2 seq 9 shown admitted → admitted, conflict, 2 inside
        enter T1 main by main-2 seq 9 shown admitted → admitted, conflict, again, 2 inside
        enter T1 main by main-2 seq 9 → admitted, conflict, again
        conflicts → 1
        ",
    );
}
