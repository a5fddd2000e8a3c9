//! The path of a scan and of a debit allocates nothing once it has settled: decide, apply, remember the answer, encode
//! the record.
#![allow(unsafe_code)] // counting allocations takes an allocator, and that trait is unsafe

mod bar;
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bar::{Bar, eur};
use common::World;
use engine::cashless::command::*;
use engine::command::*;
use engine::gates::command::*;
use engine::model::time::Timestamp;
use engine::shard::Step;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A batch as it comes from one reader with 16 commands under way: entries, second tries, forgeries, inner zones,
/// exits, undone scans, repetitions.
fn batch(world: &World, credentials: &[Credential], round: u64, commands: &mut Vec<Command>) {
    commands.clear();
    let ends = [("main-1", Direction::Enter), ("main-2", Direction::Enter), ("stage-1", Direction::Enter)];
    let exits = [("stage-1", Direction::Exit), ("main-1", Direction::Exit), ("main-2", Direction::Exit)];
    for (i, (reader, direction)) in ends.into_iter().chain(exits).enumerate() {
        let reader = &world.readers[reader];
        for (j, credential) in credentials.iter().enumerate() {
            let seq = round * 64 + (i * credentials.len() + j) as u64 + 1;
            let (zone, credential) = (reader.zone, *credential);
            let scan = Scan { zone, direction, credential, captured_at: world.now, resent: false, shown: None };
            let mut push = |seq, action| {
                let floor = seq - u64::min(seq - 1, 48);
                commands.push(Command::Device(DeviceCommand { device: reader.id, seq, floor, action }));
            };
            push(seq, DeviceAction::Scan(scan));
            if j == 3 {
                push(seq, DeviceAction::Scan(scan));
            }
        }
    }
    let (reader, ticket) = (&world.readers["main-1"], world.tickets["T1"]);
    let undo = DeviceAction::Undo(Undo { ticket, scan_seq: round * 64 + 33 });
    let (seq, floor) = (round * 64 + 64, round * 64 + 40);
    commands.push(Command::Device(DeviceCommand { device: reader.id, seq, floor, action: undo }));
    commands.push(Command::Tick);
}

#[test]
fn a_scan_allocates_nothing() {
    let mut world = World::open();
    world.play("policy reentry\n wristband W1 T6\n tick");
    let words = ["T1", "T2", "T3", "forged:T4", "garbage", "E1", "W1", "T5"];
    let credentials: Vec<Credential> = words.iter().map(|word| world.credential(word)).collect();
    let (mut step, mut commands) = (Step::default(), Vec::new());
    let (mut verdicts, mut counted) = ([0_u64; 4], 0);
    for round in 0..600 {
        batch(&world, &credentials, round, &mut commands);
        let before = COUNT.get();
        world.shard.step(world.now.plus_ms(round as i64), &commands, &mut step);
        // The first rounds make the room that the others use again.
        if round >= 20 {
            counted += COUNT.get() - before;
        }
        for answer in &step.answers {
            if let Answer::Device { answer, .. } = answer {
                verdicts[match answer.verdict {
                    Verdict::Admitted => 0,
                    Verdict::Exited => 1,
                    Verdict::Undone => 2,
                    Verdict::Rejected(_) => 3,
                }] += 1;
            }
        }
    }
    assert!(verdicts.iter().all(|&n| n > 500), "all kinds of answers were given: {verdicts:?}");
    assert_eq!(counted, 0, "allocations in 580 steps of {} commands", commands.len());
}

/// A batch as it comes from two terminals of one vendor: payments by wallet and by tag, some for more than there is,
/// refunds, cash, balances, repetitions.
fn round(bar: &Bar, round: u64, paid: &mut Vec<engine::model::ids::TransactionId>, commands: &mut Vec<Command>) {
    commands.clear();
    let wallets = ["W1", "W2", "W3", "W4"].map(|name| bar.wallets[name]);
    let tap = bar.resolve(bar.tags["T1"]).expect("it was linked");
    let (terminal, desk) = (bar.terminals["bar-7"].id, bar.terminals["desk"].id);
    let mut push = |device, n: u64, action| {
        let seq = 100 + round * 64 + n;
        commands.push(Command::Terminal(TerminalCommand {
            device,
            seq,
            floor: seq - 48,
            expires_at: Timestamp(0),
            action,
        }));
    };
    for n in 0..32 {
        let (wallet, tap) = if n % 8 == 0 { (tap.0, Some(tap.1)) } else { (wallets[n as usize % 4], None) };
        let amount = eur(if n % 8 == 5 { 900_000 } else { 30 });
        push(terminal, n, TerminalAction::Pay { wallet, tap, amount, lines: [].into() });
    }
    push(terminal, 31, TerminalAction::Pay { wallet: wallets[3], tap: None, amount: eur(30), lines: [].into() });
    for (n, payment) in paid.drain(..).enumerate().take(8) {
        push(
            terminal,
            32 + n as u64,
            TerminalAction::Refund { payment, amount: (n % 2 == 0).then(|| eur(10)), lines: [].into() },
        );
    }
    for (n, wallet) in wallets.into_iter().enumerate() {
        push(desk, n as u64, TerminalAction::TopUp { wallet, tap: None, amount: eur(500) });
        push(desk, 8 + n as u64, TerminalAction::Balance { wallet, tap: None });
    }
    commands.push(Command::Tick);
}

#[test]
fn a_debit_allocates_nothing() {
    let mut bar = Bar::open(1);
    bar.play("topup W1 500.00\n topup W2 500.00\n topup W3 500.00\n topup W4 500.00\n link T1 W1\n tick");
    let (mut step, mut commands, mut paid) = (Step::default(), Vec::new(), Vec::new());
    let (mut counted, mut verdicts) = (0, [0_u64; 5]);
    for n in 0..280 {
        round(&bar, n, &mut paid, &mut commands);
        paid.reserve(64);
        let before = COUNT.get();
        bar.shards[0].step(bar.now.plus_ms(n as i64), &commands, &mut step);
        // 4,096 payments make room for as many more; the rounds that follow use it.
        if (200..280).contains(&n) {
            counted += COUNT.get() - before;
        }
        for answer in &step.answers {
            if let Answer::Terminal { answer, repeated: false, .. } = answer {
                paid.extend(answer.transaction().filter(|_| answer.verdict == CashlessVerdict::Paid));
                verdicts[match answer.verdict {
                    CashlessVerdict::Paid => 0,
                    CashlessVerdict::Refunded => 1,
                    CashlessVerdict::ToppedUp => 2,
                    CashlessVerdict::Balance => 3,
                    CashlessVerdict::Rejected(_) => 4,
                }] += 1;
            }
        }
    }
    assert!(verdicts.iter().all(|&n| n > 500), "all kinds of answers were given: {verdicts:?}");
    assert_eq!(counted, 0, "allocations in 80 steps of {} commands", commands.len());
}
