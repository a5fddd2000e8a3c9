//! Scans that waited in a reader's queue: they count when they were taken, as far as the reader's connections allow, and
//! validity windows are judged by that. And what a reader's clock says of itself.

mod common;
use common::World;

#[test]
fn a_queue_counts_when_it_was_captured() {
    World::open().play(
        "
        18:00 enter T1 main → admitted
        18:10 leave main-1
        # Captured at the gate, while the network was gone.
        18:40 connect main-1
        enter T2 main captured 18:20 → admitted, first
        last counted → 18:20:00
        # Unanswered when the connection broke.
        enter T3 main captured 18:09 resent → admitted
        last counted → 18:09:00
        # It cannot have captured anything before it was connected the time before, nor in the future.
        enter T4 main captured 10:00 resent → admitted
        last counted → 12:00:00
        enter T5 main captured 20:00 resent → admitted
        last counted → 18:40:00
        # While connected, the server's time is nearer.
        18:45 enter T6 main captured 18:44 → admitted
        last counted → 18:45:00
        ",
    );
}

#[test]
fn a_window_is_judged_by_when_the_ticket_was_held_to_the_reader() {
    World::open().play(
        "
        window day 17:00 18:30
        17:50 leave main-1
        18:40 connect main-1
        enter T1 main captured 18:29 → admitted, first
        enter T2 main captured 18:30 → rejected: no_longer_valid
        enter T3 main captured 18:29 by main-2 → rejected: no_longer_valid
        # Later, the same claim is that of a clock that is behind.
        18:42 enter T4 main captured 18:29 → rejected: no_longer_valid
        window day 18:35 23:00
        enter T5 main captured 18:34 resent → rejected: not_yet_valid
        enter T5 main captured 18:35 resent → admitted
        ",
    );
}

#[test]
fn an_undo_takes_a_late_scan_out_of_the_minute_in_which_it_counted() {
    World::open().play(
        "
        18:10 leave main-1
        19:40 connect main-1
        enter T1 main captured 18:20 → admitted
        gate main-1 → 1 in, 0 out, 0 undone, 0 rejected
        19:50 undo T1 by main-1 → undone
        last counted → 18:20:00
        gate main-1 → 0 in, 0 out, 1 undone, 0 rejected
        ",
    );
}

#[test]
fn a_clock_that_is_wrong_is_seen() {
    World::open().play(
        "
        18:00 clock main-1 → 0 s
        enter T1 main captured 17:59 by main-2 → admitted
        clock main-2 → -60 s
        18:01 enter T2 main captured 18:01 by main-2 → admitted
        clock main-2 → 0 s
        # Out of a queue nothing is learnt, but that no queue comes from the future.
        18:10 leave main-1
        18:40 connect main-1
        enter T3 main captured 18:20 → admitted
        clock main-1 → 0 s
        enter T4 main captured 18:50 resent → admitted
        clock main-1 → 600 s
        ",
    );
}
