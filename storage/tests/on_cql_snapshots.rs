//! Snapshots on a real server that speaks CQL: see `on_cql.rs`.

mod cql;

use cql::Keyspace;
use engine::model::ids::ShardId;
use storage::journal::Position;
use storage::snapshots::{SnapshotMeta, Snapshots as _, cql::CqlSnapshots};
use storage::testing::snapshots;

#[test]
fn cql_keeps_what_every_store_of_snapshots_promises() {
    let Some(keyspace) = Keyspace::new("cql_keeps_what_every_store_of_snapshots_promises") else { return };
    let store = CqlSnapshots::open(keyspace.cql()).expect("opens");
    snapshots::suite(&store);
}

fn meta(seq: u64) -> SnapshotMeta {
    let (chain, state_hash) = ([seq as u8; 16], [7; 32]);
    SnapshotMeta { shard: ShardId(4), position: Position(seq), seq, time_ms: 0, chain, state_hash, format: 1 }
}

fn newest(store: &CqlSnapshots) -> Option<(u64, usize)> {
    let mut found = None;
    let mut accept = |meta: &SnapshotMeta, body: &[u8]| {
        found = Some((meta.seq, body.len()));
        true
    };
    store.newest(ShardId(4), Position(u64::MAX), &mut accept).expect("asked");
    found
}

#[test]
fn a_snapshot_counts_only_once_all_of_it_is_there() {
    let Some(keyspace) = Keyspace::new("a_snapshot_counts_only_once_all_of_it_is_there") else { return };
    let store = CqlSnapshots::open(keyspace.cql()).expect("opens");
    let body = vec![3; 1_000_000];
    for seq in 1..=3 {
        store.save(&meta(seq), &body).expect("saved");
    }
    assert_eq!(newest(&store), Some((3, body.len())));
    // Somebody died while saving another: it is passed over, and the next one to save removes it.
    keyspace.run(
        "INSERT INTO {}.snapshots (shard, seq, attempt, state, chunks, crc, meta) VALUES (4, 9, 9, 0, 4, 0, 0x00) USING TIMESTAMP 9",
    );
    keyspace
        .run("INSERT INTO {}.snapshot_chunks (shard, attempt, chunk, body) VALUES (4, 9, 0, 0x00) USING TIMESTAMP 9");
    assert_eq!(newest(&store), Some((3, body.len())));
    store.save(&meta(4), &body).expect("saved");
    assert_eq!(keyspace.count("SELECT COUNT(*) FROM {}.snapshots WHERE shard = 4"), 2);
    assert_eq!(keyspace.count("SELECT COUNT(*) FROM {}.snapshot_chunks"), 2 * 4, "those of the two that are kept");
    // The newest loses its last chunk, and the one before is taken; that one has another byte somewhere, and none is.
    let attempts = "SELECT attempt FROM {}.snapshots WHERE shard = 4 AND seq = ";
    let (older, newer) = (keyspace.count(&format!("{attempts}3")), keyspace.count(&format!("{attempts}4")));
    keyspace.run(&format!("DELETE FROM {{}}.snapshot_chunks WHERE shard = 4 AND attempt = {newer} AND chunk = 3"));
    assert_eq!(newest(&store), Some((3, body.len())));
    keyspace.run(&format!(
        "UPDATE {{}}.snapshot_chunks SET body = 0x03 WHERE shard = 4 AND attempt = {older} AND chunk = 1"
    ));
    assert_eq!(newest(&store), None);
}
