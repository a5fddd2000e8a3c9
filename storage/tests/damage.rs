//! What is written is found again, or its loss is: a journal cut at each byte, and with bits flipped at random.

mod common;

use std::{sync::Arc, thread};

use common::{OPTIONS, Placed, build, is_prefix, name, read_all};
use storage::journal::{
    JournalError, log::LogOptions, offline::Offline, pack::pack_segment, reached, recover::recover,
};
use storage::testing::faults::{Chance, FaultDisk};

/// Where each segment's file lies within the log, in order.
fn images(disk: &FaultDisk) -> Vec<(u64, Vec<u8>)> {
    (1..).map_while(|number| Some((number, disk.contents(&name(number))?))).collect()
}

fn disk_of(images: &[(u64, Vec<u8>)]) -> FaultDisk {
    let disk = FaultDisk::new();
    for (number, bytes) in images {
        disk.put(&name(*number), bytes.clone());
    }
    disk
}

/// Recovers a log cut in `segment` at `cut`; later segments are gone. `zeroed`: the cut bytes read as zeros.
fn cut_at(images: &[(u64, Vec<u8>)], placed: &[Placed], segment: u64, cut: u64, zeroed: bool) {
    let disk = FaultDisk::new();
    let index = segment as usize - 1;
    let mut bytes = images[index].1.clone();
    bytes.truncate(cut as usize);
    if zeroed {
        bytes.resize(OPTIONS.segment_bytes as usize, 0);
    }
    if index > 0 {
        disk.put(&name(segment - 1), images[index - 1].1.clone());
    }
    // Earlier segments are as good as archived.
    disk.put(&name(segment), bytes);
    let expected = placed
        .iter()
        .filter(|placed| {
            (placed.segment, placed.bytes.end) <= (segment, if placed.segment == segment { cut } else { u64::MAX })
        })
        .count();
    let what = format!("segment {segment}, cut at {cut}, zeroed {zeroed}");
    let mut options = OPTIONS;
    if !zeroed {
        // A segment is never shorter than it was made: somebody has cut it, and has to say that this is accepted.
        let refused = recover(Arc::new(disk.clone()), OPTIONS).err();
        let Some(JournalError::NotWhole { ends, .. }) = refused else { panic!("{what}: {refused:?}") };
        assert_eq!((ends as usize, disk.operations()), (expected, 0), "{what}: the decision comes first");
        let elsewhere = recover(Arc::new(disk.clone()), LogOptions { accept_loss: Some(ends + 1), ..OPTIONS }).err();
        assert!(matches!(elsewhere, Some(JournalError::NotWhole { .. })), "{what}: {elsewhere:?}");
        options.accept_loss = Some(ends);
    }
    let (writer, recovery) = recover(Arc::new(disk), options).unwrap_or_else(|error| panic!("{what}: {error}"));
    let end = writer.end();
    let found = end.lsn as usize;
    // Zeros that were cut and read as zeros are no loss.
    let whole = found == expected || zeroed && found > expected;
    assert!(whole, "segment {segment}, cut at {cut}, zeroed {zeroed}: {found}, expected {expected}: {recovery:?}");
    if found > 0 {
        // The chain hash is that of these records and no others.
        assert_eq!(end.chain, placed[found - 1].chain);
    }
}

#[test]
fn cut_at_every_byte_of_the_last_64_kb() {
    let (disk, placed) = build(100 << 10, 1);
    let images = images(&disk);
    let end = placed.last().expect("some").bytes.end;
    let last = placed.last().expect("some").segment;
    let mut cuts = Vec::new();
    for segment in (2..=last).rev() {
        let from = if segment == last { end.next_multiple_of(4096) } else { OPTIONS.segment_bytes };
        cuts.extend((0..from).rev().map(|cut| (segment, cut)));
    }
    assert!(cuts.len() >= 64 << 10);
    cuts.truncate(64 << 10);
    thread::scope(|scope| {
        for half in 0..2 {
            let (cuts, images, placed) = (&cuts, &images, &placed);
            scope.spawn(move || {
                for (index, (segment, cut)) in cuts.iter().enumerate().filter(|(index, _)| index % 2 == half) {
                    cut_at(images, placed, *segment, *cut, false);
                    if index % 7 == 0 {
                        cut_at(images, placed, *segment, *cut, true);
                    }
                }
            });
        }
    });
}

/// Cut at the end of any group, and padded with zeros to its length, a log looks whole from within. `reached` tells.
#[test]
fn a_log_that_ends_before_it_had_been_acknowledged_is_not_served() {
    let (disk, placed) = build(60 << 10, 8);
    let (writer, _) = recover(Arc::new(disk.clone()), OPTIONS).expect("recovers");
    let end = writer.end();
    reached::write(&disk, &end).expect("written");
    assert_eq!(Offline::on(Arc::new(disk.clone())).expect("opens").missing(), None);
    let images = images(&disk);
    let groups: std::collections::BTreeSet<_> = placed.iter().map(|placed| (placed.segment, placed.group)).collect();
    for &(segment, group) in &groups {
        let cut = FaultDisk::new();
        cut.put(reached::NAME, disk.contents(reached::NAME).expect("there"));
        for (number, bytes) in images.iter().filter(|(number, _)| *number <= segment) {
            let mut bytes = bytes.clone();
            if *number == segment {
                bytes[group as usize..].fill(0);
            }
            cut.put(&name(*number), bytes);
        }
        let left = placed.iter().filter(|placed| (placed.segment, placed.group) < (segment, group)).count() as u64;
        let offline = Offline::on(Arc::new(cut.clone())).expect("opens");
        assert_eq!(offline.missing().map(|(ends, _)| ends), Some(left), "audit says so");
        let refused = recover(Arc::new(cut.clone()), OPTIONS).err();
        assert!(matches!(refused, Some(JournalError::NotWhole { ends, .. }) if ends == left), "{refused:?}");
        assert_eq!(cut.operations(), 0, "nothing was rewritten");
        let accepted = LogOptions { accept_loss: Some(left), ..OPTIONS };
        let (mut writer, _) = recover(Arc::new(cut.clone()), accepted).expect("accepted");
        writer.stage(placed[0].shard, b"after the loss").expect("fits");
        writer.flush().expect("no faults");
        let (again, _) = recover(Arc::new(cut), OPTIONS).expect("from now on this is the journal");
        assert_eq!(again.end().lsn, left + 1);
    }
    assert!(groups.len() > 10, "{}", groups.len());
    // With all segments gone as well.
    let empty = FaultDisk::new();
    empty.put(reached::NAME, disk.contents(reached::NAME).expect("there"));
    assert!(matches!(recover(Arc::new(empty), OPTIONS).err(), Some(JournalError::NotWhole { ends: 0, .. })));
}

#[test]
fn another_log_in_its_place_is_not_served() {
    let (disk, _) = build(8 << 10, 9);
    let (writer, _) = recover(Arc::new(disk), OPTIONS).expect("recovers");
    let (other, _) = build(12 << 10, 10);
    reached::write(&other, &writer.end()).expect("written");
    let refused = recover(Arc::new(other), OPTIONS).err();
    let Some(JournalError::NotWhole { why, .. }) = refused else { panic!("{refused:?}") };
    assert!(why.contains("not what had been acknowledged"), "{why}");
}

#[test]
fn a_sealed_segment_that_was_cut_is_damage() {
    let (disk, _) = build(60 << 10, 11);
    assert!(pack_segment(&disk, 1, &mut |_| true).expect("packs"));
    let packed = format!("{}.lz4", name(1));
    for file in [packed, name(2)] {
        let good = disk.contents(&file).expect("there");
        for cut in (0..good.len()).step_by(97) {
            let copy = disk.killed();
            copy.put(&file, good[..cut].to_vec());
            let refused = recover(Arc::new(copy.clone()), OPTIONS).err();
            assert!(
                matches!(&refused, Some(JournalError::Damaged { file: named, .. }) if *named == file),
                "{refused:?}"
            );
            assert_eq!(copy.operations(), 0, "nothing was rewritten");
        }
    }
}

#[test]
fn ten_thousand_flipped_bits() {
    let (disk, placed) = build(60 << 10, 2);
    let images = images(&disk);
    assert!(is_prefix(&read_all(&disk).0, &placed));
    let mut chance = Chance(3);
    let (mut found, mut harmless) = (0, 0);
    for flip in 0..10_000 {
        let index = chance.below(images.len() as u64) as usize;
        let (segment, bytes) = &images[index];
        let byte = chance.below(bytes.len() as u64);
        let mut flipped = images.clone();
        flipped[index].1[byte as usize] ^= 1 << chance.below(8);
        let disk = disk_of(&flipped);
        let what = format!("flip {flip}: segment {segment}, byte {byte}");

        let in_record = placed.iter().any(|placed| placed.segment == *segment && placed.bytes.contains(&byte));
        let in_head =
            placed.iter().any(|placed| placed.segment == *segment && (placed.group..placed.group + 64).contains(&byte));
        // First as audit sees it, then as the next start does.
        let (seen, stopped) = read_all(&disk);
        assert!(is_prefix(&seen, &placed), "{what}: something was admitted that was never written");
        let recovered = recover(Arc::new(disk.clone()), OPTIONS);
        let (read, stopped_after) = read_all(&disk);
        assert!(is_prefix(&read, &placed), "{what}: something was admitted that was never written");
        if in_record || in_head {
            assert!(matches!(stopped, Some(JournalError::Damaged { .. })), "{what}: {stopped:?}");
            assert!(
                matches!(stopped_after, Some(JournalError::Damaged { .. }))
                    || matches!(recovered, Err(JournalError::Damaged { .. })),
                "{what}: a durable record was lost without a word"
            );
            found += 1;
        } else if recovered.is_ok() && stopped_after.is_none() {
            assert_eq!(read.len(), placed.len(), "{what}");
            harmless += 1;
        } else {
            found += 1;
        }
    }
    assert!(found > 3_000 && harmless > 1_000, "{found} found, {harmless} harmless");
}

#[test]
fn audit_shows_what_lies_behind_damage() {
    let (disk, placed) = build(60 << 10, 4);
    let mut chance = Chance(5);
    for _ in 0..200 {
        let mut images = images(&disk);
        let hit = &placed[chance.below(placed.len() as u64) as usize];
        let at = hit.bytes.start + chance.below(hit.bytes.end - hit.bytes.start);
        images[hit.segment as usize - 1].1[at as usize] ^= 0x10;
        let mut offline = Offline::on(Arc::new(disk_of(&images))).expect("opens");
        let (mut read, mut missing) = (Vec::new(), 0);
        loop {
            match offline.next() {
                Ok(Some(entry)) => read.push(entry.position.0),
                Ok(None) => break,
                Err(JournalError::Damaged { file, offset, .. }) => {
                    assert_eq!((file, offset <= at), (name(hit.segment), true));
                    let gap = offline.skip_damage().expect("reads").expect("there is damage");
                    missing += gap.missing;
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert!(read.is_sorted());
        let behind = placed.len() as u64 - 1 - read.last().copied().unwrap_or_default();
        assert_eq!(read.len() as u64 + missing + behind, placed.len() as u64);
        assert!(
            missing + behind <= 2,
            "one record was hit, and at most the one that follows is doubted: {missing} {behind}"
        );
    }
}

#[test]
fn damage_in_a_compressed_segment_is_found() {
    let (disk, placed) = build(60 << 10, 6);
    assert!(pack_segment(&disk, 2, &mut |_| true).expect("packs"));
    assert!(is_prefix(&read_all(&disk).0, &placed));
    let packed = format!("{}.lz4", name(2));
    let good = disk.contents(&packed).expect("there");
    let mut chance = Chance(7);
    for _ in 0..500 {
        let mut bad = good.clone();
        bad[chance.below(good.len() as u64) as usize] ^= 1 << chance.below(8);
        disk.put(&packed, bad);
        let (read, stopped) = read_all(&disk);
        assert!(is_prefix(&read, &placed));
        // A flip in a checksum of the compressed frame may leave its contents whole.
        assert!(read.len() == placed.len() || matches!(stopped, Some(JournalError::Damaged { .. })), "{stopped:?}");
    }
}
