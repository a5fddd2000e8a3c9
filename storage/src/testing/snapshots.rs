//! What every store of snapshots promises, as one suite.

use engine::model::ids::ShardId;

use crate::journal::Position;
use crate::snapshots::{SnapshotMeta, Snapshots};

/// All cases on one store, which is empty.
///
/// # Panics
/// If the store breaks a promise.
pub fn suite(store: &dyn Snapshots) {
    keeps_the_newest_two(store);
    sets_aside_what_is_ahead(store);
    offers_the_one_before(store);
}

/// A snapshot of a shard in which every third record of the journal is the shard's.
pub(crate) fn meta(shard: u16, seq: u64) -> SnapshotMeta {
    SnapshotMeta {
        shard: ShardId(shard),
        position: Position(seq * 3),
        seq,
        time_ms: 1_700_000_000_000,
        chain: [seq as u8; 16],
        state_hash: [7; 32],
        format: 1,
    }
}

/// Behind the end of every journal.
pub(crate) const ALL: Position = Position(u64::MAX);

/// The newest that there is.
pub(crate) fn newest_of(store: &dyn Snapshots, shard: u16, within: Position) -> Option<(SnapshotMeta, Vec<u8>)> {
    let mut found = None;
    let mut accept = |meta: &SnapshotMeta, body: &[u8]| {
        found = Some((meta.clone(), body.to_vec()));
        true
    };
    let there = store.newest(ShardId(shard), within, &mut accept).expect("asked");
    assert_eq!(there, found.is_some());
    found
}

fn keeps_the_newest_two(store: &dyn Snapshots) {
    assert_eq!(newest_of(store, 1, ALL), None);
    for seq in [5, 900, 40_000] {
        store.save(&meta(1, seq), &vec![seq as u8; seq as usize]).expect("saved");
    }
    store.save(&meta(2, 1), b"other").expect("saved");
    let (found, body) = newest_of(store, 1, ALL).expect("there");
    assert_eq!((found, body), (meta(1, 40_000), vec![40_000_u32 as u8; 40_000]));
    // Saved again, as after a restart.
    store.save(&meta(1, 40_000), b"again").expect("saved");
    assert_eq!(newest_of(store, 1, ALL).expect("there").1, b"again");
    assert_eq!(newest_of(store, 2, ALL).expect("there").1, b"other");
}

/// After [`keeps_the_newest_two`]: the journal ends before the newer of the two, and will reach that position again
/// with another history.
fn sets_aside_what_is_ahead(store: &dyn Snapshots) {
    for within in [Position(3 * 40_000 - 1), ALL] {
        assert_eq!(newest_of(store, 1, within).expect("there").0.seq, 900, "within {within:?}");
    }
    assert_eq!(newest_of(store, 2, ALL).expect("there").1, b"other", "the other shard's are not looked at");
}

fn offers_the_one_before(store: &dyn Snapshots) {
    for seq in [900, 5, 40_000] {
        store.save(&meta(3, seq), b"state").expect("saved");
    }
    let mut offered = Vec::new();
    let accepted = store.newest(ShardId(3), ALL, &mut |meta, _| {
        offered.push(meta.seq);
        false
    });
    assert!(!accepted.expect("asked"));
    assert_eq!(offered, [40_000, 900], "newest first, and no further than is kept");
}
