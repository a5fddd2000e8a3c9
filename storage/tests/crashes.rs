//! The power goes at every operation of a journal's life, and the next start finds all that was acknowledged.

mod common;

use std::sync::Arc;

use common::{OPTIONS, build, name, payload, read_all};
use engine::model::ids::ShardId;
use storage::journal::{JournalError, log::prepare_segment, pack::pack_segment, reached, recover::recover};
use storage::testing::faults::{Chance, FaultDisk, Faults};

type Record = (ShardId, Vec<u8>);

/// What a life on `disk` wrote: all that was staged, and how much of it was acknowledged.
#[derive(Default)]
struct Life {
    staged: Vec<Record>,
    acknowledged: usize,
}

/// Opens, writes, rolls, prepares ahead and compresses, until all is done or the disk fails.
fn live(disk: &FaultDisk, life: &mut Life, chance: &mut Chance) -> Result<(), JournalError> {
    let (mut writer, _) = recover(Arc::new(disk.clone()), OPTIONS)?;
    // What had not been acknowledged may have become durable: it counts from here on, the rest never happened.
    let found = writer.end().lsn as usize;
    assert!(found >= life.acknowledged && found <= life.staged.len(), "{} <= {found}", life.acknowledged);
    life.staged.truncate(found);
    life.acknowledged = found;
    for group in 0..8 {
        for _ in 0..1 + chance.below(4) {
            let shard = ShardId(chance.below(4) as u16);
            let payload = payload(life.staged.len(), chance);
            if writer.stage(shard, &payload).is_ok() {
                life.staged.push((shard, payload));
            }
        }
        writer.flush()?;
        life.acknowledged = life.staged.len();
        if group % 2 == 1 {
            reached::write(disk, &writer.end())?;
        }
        if group % 3 == 0
            && let Some(number) = writer.wants_next()
        {
            writer.offer_next(prepare_segment(disk, number, &OPTIONS, &mut |_| true)?.expect("not abandoned"));
        }
        for number in writer.take_sealed() {
            pack_segment(disk, number, &mut |_| true)?;
        }
    }
    Ok(())
}

fn check(disk: &FaultDisk, life: &Life, what: &str) {
    let (read, stopped) = read_all(disk);
    assert!(matches!(stopped, None | Some(JournalError::Empty)), "{what}: {stopped:?}");
    assert!(read.len() >= life.acknowledged, "{what}: {} of {} acknowledged", read.len(), life.acknowledged);
    assert!(read.len() <= life.staged.len() && read == life.staged[..read.len()], "{what}: not what was written");
}

/// Lives until the power goes at operation `at`, and again after each restart; `restarts` lives in all.
fn lives(at: u64, seed: u64, restarts: u64, what: &str) {
    let mut disk = FaultDisk::new();
    let mut life = Life::default();
    let mut chance = Chance(seed);
    for restart in 0..restarts {
        // The first crash is at the operation asked for, later ones early: inside recovery, more often than not.
        let crash_at = if restart == 0 { at } else { 1 + chance.below(12) };
        disk.set(Faults { crash_at: Some(crash_at), ..Faults::default() });
        let ended = live(&disk, &mut life, &mut chance);
        assert!(ended.is_err() || !disk.is_off(), "{what}: a failure went unnoticed");
        assert!(!matches!(ended, Err(JournalError::Damaged { .. })), "{what}, life {restart}: {ended:?}");
        disk = disk.restart(chance.draw());
    }
    live(&disk, &mut life, &mut chance).unwrap_or_else(|error| panic!("{what}: {error}"));
    check(&disk, &life, what);
}

fn operations_of_a_life() -> u64 {
    let disk = FaultDisk::new();
    live(&disk, &mut Life::default(), &mut Chance(1)).expect("no faults");
    disk.operations()
}

#[test]
fn a_crash_at_every_operation() {
    for at in 1..=operations_of_a_life() {
        for seed in 0..12 {
            lives(at, seed, 1 + seed % 4, &format!("crash at {at}, seed {seed}"));
        }
    }
}

#[test]
fn a_failed_operation_ends_the_log_and_loses_nothing() {
    for at in 1..=operations_of_a_life() {
        let disk = FaultDisk::new();
        disk.set(Faults { eio_at: Some(at), ..Faults::default() });
        let mut life = Life::default();
        let ended = live(&disk, &mut life, &mut Chance(1));
        assert!(ended.is_err(), "operation {at} failed and nobody noticed");
        // The machine goes on, or it does not.
        for after in [disk.restart(at), disk.killed()] {
            let mut life = Life { staged: life.staged.clone(), acknowledged: life.acknowledged };
            live(&after, &mut life, &mut Chance(2)).unwrap_or_else(|error| panic!("EIO at {at}: {error}"));
            check(&after, &life, &format!("EIO at {at}"));
        }
    }
}

#[test]
fn a_failed_flush_is_never_tried_again() {
    let (disk, placed) = build(8 << 10, 1);
    let (mut writer, _) = recover(Arc::new(disk.clone()), OPTIONS).expect("recovers");
    writer.stage(ShardId(0), b"unlucky").expect("fits");
    disk.set(Faults { eio_at: Some(disk.operations() + 2), ..Faults::default() });
    assert!(matches!(writer.flush(), Err(JournalError::Io { doing: "flush", .. })));
    let before = disk.operations();
    assert!(matches!(writer.flush(), Err(JournalError::Failed(_))));
    assert_eq!(disk.operations(), before, "the disk was not asked again");
    assert_eq!(writer.end().lsn as usize, placed.len());
}

#[test]
fn a_full_disk_is_found_out_before_a_segment_is_used() {
    let (disk, placed) = build(8 << 10, 1);
    let (mut writer, _) = recover(Arc::new(disk.clone()), OPTIONS).expect("recovers");
    disk.set(Faults { room: Some(OPTIONS.segment_bytes - 1), ..Faults::default() });
    let mut acknowledged = placed.len();
    let error = loop {
        writer.stage(ShardId(0), &[1; 3000]).expect("fits");
        match writer.flush() {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, JournalError::DiskFull { .. }), "{error}");
    assert!(disk.contents(&name(writer.end().segment + 1)).is_none());
    let (writer, _) = recover(Arc::new(disk.killed()), OPTIONS).expect("recovers");
    assert_eq!(writer.end().lsn as usize, acknowledged);
}

#[test]
fn a_disk_that_lies_about_flushes_is_caught_or_loses_the_end_only() {
    let mut caught = 0;
    for seed in 0..300 {
        let (disk, placed) = build(8 << 10, seed);
        disk.set(Faults { lie_about_sync: true, ..Faults::default() });
        let (mut writer, _) = recover(Arc::new(disk.clone()), OPTIONS).expect("recovers");
        let more = common::fill(&mut writer, placed.len(), 8 << 10, &mut Chance(seed));
        let all: Vec<_> = placed.iter().chain(&more).cloned().collect();
        let after = disk.restart(seed);
        match recover(Arc::new(after.clone()), OPTIONS) {
            Ok(_) => {}
            Err(JournalError::Damaged { .. } | JournalError::NotWhole { .. }) => caught += 1,
            Err(other) => panic!("seed {seed}: {other}"),
        }
        assert!(common::is_prefix(&read_all(&after).0, &all), "seed {seed}");
    }
    assert!(caught > 50, "{caught}");
}

#[test]
fn compressing_survives_a_crash_at_every_step() {
    let steps = {
        let (disk, _) = build(60 << 10, 9);
        let before = disk.operations();
        pack_segment(&disk, 1, &mut |_| true).expect("packs");
        disk.operations() - before
    };
    for step in 1..=steps {
        for seed in 0..20 {
            let (disk, placed) = build(60 << 10, 9);
            disk.set(Faults { crash_at: Some(disk.operations() + step), ..Faults::default() });
            pack_segment(&disk, 1, &mut |_| true).expect_err("the power went");
            let after = disk.restart(seed);
            let (writer, recovery) = recover(Arc::new(after.clone()), OPTIONS).expect("recovers");
            assert_eq!(writer.end().lsn as usize, placed.len());
            for number in recovery.sealed {
                assert!(pack_segment(&after, number, &mut |_| true).expect("packs"));
                assert!(after.contents(&name(number)).is_none());
            }
            let (read, stopped) = read_all(&after);
            assert!(stopped.is_none() && read.len() == placed.len() && common::is_prefix(&read, &placed));
        }
    }
}

/// A log of some records, and a long group under way when `die` comes.
fn die_in_a_long_group(seed: u64, operation: u64) -> (FaultDisk, u64) {
    let (disk, placed) = build(2 << 10, seed);
    let (mut writer, _) = recover(Arc::new(disk.clone()), OPTIONS).expect("recovers");
    for shard in 0..4 {
        writer.stage(ShardId(shard), &[0x55; 1_800]).expect("fits");
    }
    disk.set(Faults { crash_at: Some(disk.operations() + operation), ..Faults::default() });
    writer.flush().expect_err("the end came");
    (disk, placed.len() as u64)
}

#[test]
fn a_torn_tail_leaves_nothing_behind_shorter_groups() {
    let mut torn = 0;
    for seed in 0..100 {
        let (disk, before) = die_in_a_long_group(seed, 1);
        let disk = disk.restart(seed);
        let (mut writer, recovery) = recover(Arc::new(disk.clone()), OPTIONS).expect("recovers");
        torn += u32::from(recovery.torn.is_some());
        assert!((before..=before + 4).contains(&writer.end().lsn));
        writer.stage(ShardId(0), b"short").expect("fits");
        writer.flush().expect("no faults");
        let (again, recovery) = recover(Arc::new(disk.restart(seed)), OPTIONS).expect("recovers");
        assert_eq!((again.end(), recovery.torn), (writer.end(), None), "seed {seed}");
    }
    assert!(torn > 20, "{torn}");
}

#[test]
fn what_a_killed_process_left_in_a_cache_is_durable_once_it_was_found() {
    for seed in 0..50 {
        // Killed between the write and the flush, started again, and then the power goes.
        let (disk, before) = die_in_a_long_group(seed, 2);
        let disk = disk.killed();
        let (writer, _) = recover(Arc::new(disk.clone()), OPTIONS).expect("recovers");
        assert_eq!(writer.end().lsn, before + 4, "the write itself had happened");
        let (again, _) = recover(Arc::new(disk.restart(seed)), OPTIONS).expect("recovers");
        assert_eq!(again.end(), writer.end());
    }
}
