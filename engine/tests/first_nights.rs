//! A night at the bar and a night at the gate as they were recorded when the format was fixed. Whatever the program has become
//! since, it replays them, the audit finds nothing, and everybody has what they had that night.
//!
//! `records.golden` holds what each event looks like; this holds what becomes of them: rules that are applied when a record
//! is (which lots a wallet puts together, what is remembered for how long) must not change for what was recorded under them.
//! The two journals, `first_night_….golden`, are never made anew: the scripts here say what was played, and give things the
//! names that the facts call them by.

mod bar;
mod common;

use bar::Bar;
use common::World;
use engine::model::ids::ShardId;
use engine::shard::Shard;

const AT_THE_BAR: &str = include_str!("first_night_at_the_bar.golden");
const AT_THE_GATE: &str = include_str!("first_night_at_the_gate.golden");

/// The records of a journal, in order: each a line with its shard, a space, and itself in hexadecimal.
fn recorded(journal: &str) -> Vec<(ShardId, Vec<u8>)> {
    let lines = journal.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (shard, hex) = line.split_once(' ').expect("a shard and a record");
            let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
            let bytes = pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
            (ShardId(shard.parse().unwrap()), bytes)
        })
        .collect()
}

fn play_at_the_bar() -> Bar {
    let mut bar = Bar::open(3).with_gate();
    bar.play(
        "
        topup W1 50.00
        topup W1 20.00 from card number 101 taken
        topup W1 10.00 from card number 102 taken
        topup W1 30.00 from bank number 7
        gift W1 5.00 rained-off
        gift W3 8.00 rained-off
        ",
    );
    // Banknotes from more desks than a wallet tells apart.
    for desk in 1..=24 {
        bar.play(&format!("topup W2 5.00 from desk number {desk}"));
    }
    bar.take_snapshots();
    bar.play(
        "
        link B1 W1
        pay B1 12.50 bar-7 as P1
        pay W1 7.50 bar-7 lines 0x1@5.00,1x1@2.50 as P2
        pay W1 500.00 bar-7                   → rejected: insufficient_funds
        refund P1 2.00 by bar-7
        refund P2 lines 0x1@5.00/1 by bar-7
        transfer W1 W2 6.00
        transfer W1 W3 55.00
        transfer W1 W1 1.00                   → rejected: same_wallet
        pay W2 93.00 bar-8 as P3
        refund P3 3.00
        link B2 W2
        link B1b W1 replace
        bind B2 T1
        enter B2
        lost W2
        enter B2                              → rejected: tag_lost
        link B3 W2 replace
        exit B3
        block W3
        pay W3 1.00 bar-7                     → rejected: wallet_blocked
        unblock W3
        correct W1 -3.00 counted
        correct W4 4.00 given-back
        commission-of bar-8 5.00%
        pay W1 1.00 bar-8
        wallet W5 for 77
        topup W5 9.00
        cashless night foreign
        transfer W5 W4 2.50
        revoke bar-7b
        pay W4 1.00 bar-7b                    → rejected: device_revoked
        cashout W2
        wait 40000
        tick
        status COMPLETED
        tick
        wait 90000000
        tick
        ",
    );
    bar
}

#[test]
fn the_first_night_at_the_bar() {
    let mut bar = play_at_the_bar();
    bar.journal = recorded(AT_THE_BAR);
    assert_eq!(bar.journal.len(), 223, "nothing is taken out");
    bar.snapshots.clear();
    bar.shards = (0..3).map(|id| Shard::new(ShardId(id), 3)).collect();
    bar.records = vec![Vec::new(); 3];
    for (shard, bytes) in &bar.journal {
        bar.shards[usize::from(shard.0)].replay(bytes).expect("it was read that night");
        bar.records[usize::from(shard.0)].push(bytes.clone());
    }
    bar.play(
        "
        show W1        → 37.00, card-102 7.00, bank-7 30.00
        show W2        → 0.00
        show W3        → 55.00, till-3 36.00, card-101 19.00
        show W4        → 6.50, correction-0 4.00, till-3 2.50
        show W5        → 6.50, till-3 6.50
        payable bar-7  → 11.70 after 2 payments and 2 refunds
        payable bar-8  → 90.95 after 2 payments and 1 refunds
        commission     → 1.35
        tag-of B1      → free - 1
        tag-of B2      → lost - 1
        tag-of B3      → linked w2 1 t1
        ",
    );
}

fn play_at_the_gate() -> World {
    let mut night = World::open();
    night.play(
        "
        18:00 enter T1 main                        → admitted, first, 1 inside
        enter T1 main by main-2                    → rejected: already_used
        enter T1 stage                             → admitted
        enter T1 pit                               → admitted
        enter C1 main                              → admitted
        exit C1 main                               → exited
        enter C1 camp                              → rejected: already_used
        enter garbage main                         → rejected: invalid_qr
        enter forged:T2 main                       → rejected: tampered_qr
        wristband W1 T3
        enter W1 main                              → admitted, first
        snapshot
        enter T2 main                              → admitted, first
        undo T2 by main-1                          → undone
        supervisor undoes T3                       → done
        rotate
        enter T4@1 main                            → admitted, first
        ack decided
        enter T4 main by main-2 shown admitted     → admitted, conflict
        ack durable
        block T5
        enter T5 main                              → rejected: blocked
        unblock T5
        policy reentry
        exit T4 main
        enter T4 main
        capacity main 6
        evacuate camp
        enter C2 camp                              → rejected: zone_closed
        open camp
        category few main quota 2
        issue X1..X2 few
        cancel X1
        restore X1 the wrong row
        admit X1 at main-1 forgot her jacket
        revoke main-2
        enter T6 main by main-2                    → rejected: device_revoked
        readmit main-2 found again
        complete regardless
        reopen the wrong button
        exit T1 main
        42:00 tick
        ",
    );
    night
}

#[test]
fn the_first_night_at_the_gate() {
    let mut night = play_at_the_gate();
    night.records = recorded(AT_THE_GATE).into_iter().map(|(_, record)| record).collect();
    assert_eq!(night.records.len(), 75, "nothing is taken out");
    night.snapshots.clear();
    night.shard = Shard::new(ShardId(0), 1);
    let mut audit = engine::audit::Audit::new(1);
    for bytes in &night.records {
        night.shard.replay(bytes).expect("it was read that night");
        audit.record(ShardId(0), bytes);
    }
    let report = audit.finish();
    assert!(report.holds(), "{:#?}", report.violations);
    night.play(
        "
        where T1       → outside
        where T4       → main
        where X1       → main
        ticket T1      → USED
        ticket T2      → SOLD
        ticket T3      → SOLD
        ticket T5      → SOLD
        ticket X1      → USED
        inside main    → 3
        inside stage   → 0
        inside camp    → 0
        conflicts      → 1
        unaccounted main → 1
        quota day      → 9 live, 2 used
        quota few      → 2 live, 1 used
        gate main-1    → 5 in, 3 out, 2 undone, 3 rejected
        ",
    );
}
