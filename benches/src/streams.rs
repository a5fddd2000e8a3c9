//! Stretches of a journal, as the projector reads them.

use engine::command::Command;
use engine::gates::command::Direction;
use engine::model::ids::{Home, ShardId};
use engine::model::time::Timestamp;
use engine::shard::{Shard, Step};

use crate::{Bar, World, shuffled};

pub const SHARDS: u16 = 16;
const TICKETS: u32 = 50_000;
const WALLETS: u32 = 100_000;
const TERMINALS: u16 = 32;
/// Of the festival's own time.
const EVENTS_PER_MS: u64 = 50;

/// A stretch of the journal: for each record whose it is, and what it says.
pub type Records = Vec<(ShardId, Vec<u8>)>;

/// A festival's gates: everybody in, everybody out, and so on. All of a festival is on one shard.
pub fn scans(events: u64, per_record: usize) -> (Records, Records) {
    let mut world = World::new(TICKETS);
    let shard = Home::Festival(world.device.festival()).shard(SHARDS);
    let before = std::mem::take(&mut world.records).into_iter().map(|record| (shard, record)).collect();
    let (order, mut written, mut records) = (shuffled(TICKETS), 0, Vec::new());
    for direction in [Direction::Enter, Direction::Exit].into_iter().cycle() {
        for asked in world.scans(&order, direction, 1_024).chunks(per_record) {
            records.push((shard, decide(&mut world.shard, asked, &mut written)));
            if written >= events {
                return (before, records);
            }
        }
    }
    unreachable!("it goes round for ever")
}

/// An evening at the bars, whose wallets lie in all shards.
pub fn payments(events: u64, per_record: usize) -> (Records, Records) {
    let each = WALLETS / u32::from(SHARDS);
    let mut bars: Vec<Bar> = (0..SHARDS).map(|shard| Bar::among(SHARDS, ShardId(shard), each, TERMINALS)).collect();
    let mut before = Vec::new();
    for (shard, bar) in (0..).map(ShardId).zip(&mut bars) {
        before.extend(std::mem::take(&mut bar.records).into_iter().map(|record| (shard, record)));
    }
    let (order, mut written, mut records) = (shuffled(each), 0, Vec::new());
    loop {
        let asked: Vec<Vec<Command>> = bars.iter_mut().map(|bar| bar.debits(&order, 1_024)).collect();
        for from in (0..order.len()).step_by(per_record) {
            for (shard, (bar, asked)) in (0..).map(ShardId).zip(bars.iter_mut().zip(&asked)) {
                let asked = &asked[from..asked.len().min(from + per_record)];
                records.push((shard, decide(&mut bar.shard, asked, &mut written)));
                if written >= events {
                    return (before, records);
                }
            }
        }
    }
}

fn decide(shard: &mut Shard, asked: &[Command], written: &mut u64) -> Vec<u8> {
    let mut step = Step::default();
    shard.step(Timestamp(1_800_000_000_000).plus_ms((*written / EVENTS_PER_MS) as i64), asked, &mut step);
    *written += asked.len() as u64;
    step.record
}
