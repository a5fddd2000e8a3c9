//! What is written is found again, or its loss is: a journal cut at each byte, and with bits flipped at random.

mod common;

use std::{sync::Arc, thread};

use common::{OPTIONS, Placed, build, is_prefix, name, read_all};
use storage::journal::{
    JournalError,
    faults::{Chance, FaultDisk},
    offline::Offline,
    pack::pack_segment,
    recover::recover,
};

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
    let (writer, recovery) = recover(Arc::new(disk), OPTIONS)
        .unwrap_or_else(|error| panic!("segment {segment}, cut at {cut}, zeroed {zeroed}: {error}"));
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
