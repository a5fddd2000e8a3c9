//! Snapshots that are whole, to their checksum, and yet not what they say: a shard is never restored from one. The journal
//! has it all, or, where its beginning is gone, nobody serves.

mod common;

use std::fs;
use std::path::Path;

use actors::recover::{RecoverError, Recovering};
use actors::{Folder, Node, NodeConfig, StartError};
use common::*;
use engine::command::{AdminAction, AdminAnswer};
use engine::model::ids::{FestivalId, Home, ShardId};
use engine::model::status::Policy;
use engine::model::time::{Calendar, Timestamp};
use engine::shard::Shard;
use engine::view::{Query, View};
use storage::journal::{Cursor, Position};
use storage::snapshots::{FileSnapshots, SnapshotMeta, Snapshots};
use storage::testing::memory::MemorySnapshots;

const SHARDS: u16 = 2;
/// Of each record here: who asked, and what happened.
const EVENTS: u64 = 2;

type Snapshot = (SnapshotMeta, Vec<u8>);

/// Two shards, and segments of some 500 records.
fn folder(dir: &Path) -> Folder {
    let mut folder = Folder { shards: SHARDS, ..Folder::new(dir) };
    folder.journal.log.group_bytes_max = 2 << 20;
    folder.journal.log.segment_bytes = (2 << 20) + 4_096;
    folder
}

fn opening(dir: &Path) -> Result<Node, StartError> {
    folder(dir).start(NodeConfig { threads: 1, ..NodeConfig::default() })
}

/// Founds this many festivals whose home is this shard.
async fn found_in(node: &Node, shard: u16, count: usize) -> Vec<FestivalId> {
    let mut made = Vec::new();
    for slug in (0..).map(|number| format!("night-{number}")) {
        let id = FestivalId::of_slug(&slug);
        if Home::Festival(id).shard(SHARDS) != ShardId(shard) {
            continue;
        }
        let (name, calendar) = (format!("Night {}", made.len()), Calendar::default());
        let (starts_at, ends_at, policy) = (Timestamp(0), Timestamp(1_000), Policy::default());
        let action = AdminAction::CreateFestival { slug, name, starts_at, ends_at, policy, calendar };
        assert_eq!(ask(node, action).await, AdminAnswer::Festival(id));
        made.push(id);
        if made.len() == count {
            break;
        }
    }
    made
}

/// What a shard's newest snapshot in this folder says, and its body.
fn newest(dir: &Path, shard: u16) -> Snapshot {
    let store = FileSnapshots::open(&dir.join("snapshots")).unwrap();
    let mut found = None;
    let all = Position(u64::MAX);
    let accepted = store.newest(ShardId(shard), all, &mut |meta, body| {
        found = Some((meta.clone(), body.to_vec()));
        true
    });
    assert!(accepted.unwrap());
    found.unwrap()
}

/// Snapshots of both shards, as a clean stop leaves them.
async fn two_snapshots() -> (Snapshot, Snapshot) {
    let dir = tempfile::tempdir().unwrap();
    let node = opening(dir.path()).unwrap();
    found_in(&node, 0, 3).await;
    found_in(&node, 1, 2).await;
    node.stop().await;
    (newest(dir.path(), 0), newest(dir.path(), 1))
}

/// Whether shard 0 begins with this snapshot, rather than with nothing.
fn is_restored(meta: &SnapshotMeta, body: &[u8]) -> bool {
    let store = MemorySnapshots::new();
    store.save(meta, body).unwrap();
    let recovering =
        Recovering::from_snapshots(&store, &Cursor::of([Position(1_000); SHARDS as usize]), |_| true).unwrap();
    let (shard, position) = recovering.shard(ShardId(0)).unwrap();
    assert_eq!((shard.id(), shard.seq() > 0), (ShardId(0), position > Position(0)));
    position > Position(0)
}

#[tokio::test]
async fn a_snapshot_of_another_shard_is_not_restored() {
    let ((meta, body), (of_other, others)) = two_snapshots().await;
    assert!(is_restored(&meta, &body), "it is good");
    let others_hash = Shard::hash_of(&others);
    assert!(!is_restored(&meta, &others), "the body alone");
    // Whoever has put it there has made it fit but for one thing.
    assert!(
        !is_restored(&SnapshotMeta { state_hash: others_hash, seq: of_other.seq, ..meta.clone() }, &others),
        "whose"
    );
    assert!(!is_restored(&SnapshotMeta { seq: meta.seq + 1, ..meta.clone() }, &body), "how much of the journal");
    assert!(!is_restored(&SnapshotMeta { state_hash: others_hash, ..meta.clone() }, &body), "which state");
    assert!(!is_restored(&SnapshotMeta { format: meta.format + 1, ..meta }, &body), "in which spelling");
}

/// What another program has written may decode and mean something else: postcard has no names.
#[tokio::test]
async fn a_state_that_lacks_anything_is_not_restored() {
    let ((meta, body), _) = two_snapshots().await;
    let mut decoded = 0;
    for at in 0..body.len() {
        let (mut shorter, mut other) = (body.clone(), body.clone());
        shorter.remove(at);
        other[at] ^= 1;
        for harmed in [shorter, other] {
            let passes = |shard: &Shard| (shard.id(), shard.seq()) == (meta.shard, meta.seq);
            decoded += usize::from(Shard::restore(&harmed).as_ref().is_some_and(passes));
            assert!(!is_restored(&meta, &harmed), "byte {at}");
        }
    }
    assert!(decoded > 20, "only {decoded} of them could have been taken for the state");
    // A program that knows one thing more has put it last, where this one does not look.
    let longer = [&*body, &[0]].concat();
    assert!(Shard::restore(&longer).is_some());
    assert!(!is_restored(&SnapshotMeta { state_hash: Shard::hash_of(&longer), ..meta }, &longer));
}

#[tokio::test]
async fn what_is_passed_over_is_made_up_for_by_the_one_before_or_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let node = opening(dir.path()).unwrap();
    let first = found_in(&node, 0, 3).await;
    found_in(&node, 1, 2).await;
    node.stop().await;
    let before = newest(dir.path(), 0);
    let node = opening(dir.path()).unwrap();
    let zone = |festival| AdminAction::PutZone { festival, zone: None, name: "A".into(), parent: None, capacity: 10 };
    ask(&node, zone(first[0])).await;
    node.stop().await;
    let (good, other) = (newest(dir.path(), 0), newest(dir.path(), 1));
    assert!(good.0.seq > before.0.seq);
    let has_all = async |node: &Node| {
        for festival in &first {
            assert!(matches!(node.query(Query::Live(*festival)).await, View::Live(_)));
        }
        let View::Live(live) = node.query(Query::Live(first[0])).await else { panic!("no live view") };
        assert_eq!(live.zones.len(), 1);
    };

    // The newest is another shard's state: the one before and the journal behind it.
    let snapshots = dir.path().join("snapshots");
    let store = FileSnapshots::open(&snapshots).unwrap();
    store.save(&good.0, &other.1).unwrap();
    let node = opening(dir.path()).unwrap();
    assert_eq!(node.recovered().events, EVENTS * (good.0.seq - before.0.seq));
    has_all(&node).await;
    node.stop().await;

    // So are both, the older by its name: the journal from its beginning.
    store.save(&good.0, &other.1).unwrap();
    let names: Vec<_> = fs::read_dir(&snapshots).unwrap().map(|entry| entry.unwrap().path()).collect();
    let of = |shard: &str| {
        let mut names: Vec<_> =
            names.iter().filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(shard)).collect();
        names.sort();
        names
    };
    assert_eq!(of("00000-").len(), 2);
    fs::copy(of("00001-")[0], of("00000-")[0]).unwrap();
    let node = opening(dir.path()).unwrap();
    assert_eq!(node.recovered().events, EVENTS * good.0.seq);
    has_all(&node).await;
    node.stop().await;
}

/// Where the journal's beginning lies in an archive, a snapshot is all there is.
#[tokio::test]
async fn where_the_journal_does_not_reach_back_nobody_serves() {
    let dir = tempfile::tempdir().unwrap();
    let node = opening(dir.path()).unwrap();
    // Nothing ever happens in the other one.
    found_in(&node, 0, 700).await;
    node.stop().await;
    let (meta, body) = newest(dir.path(), 0);
    for entry in fs::read_dir(dir.path().join("journal")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("0000000001.") {
            fs::remove_file(path).unwrap();
        }
    }
    let node = opening(dir.path()).expect("the snapshots have what the archive has");
    assert_eq!(node.recovered().events, 0);
    node.stop().await;

    let store = FileSnapshots::open(&dir.path().join("snapshots")).unwrap();
    for path in fs::read_dir(dir.path().join("snapshots")).unwrap().map(|entry| entry.unwrap().path()) {
        if path.file_name().unwrap().to_str().unwrap().starts_with("00000-") {
            fs::remove_file(path).unwrap();
        }
    }
    store.save(&SnapshotMeta { state_hash: [0; 32], ..meta.clone() }, &body).unwrap();
    let refused = opening(dir.path()).err();
    assert!(
        matches!(
            refused,
            Some(StartError::Recover(RecoverError::SnapshotUnusable { shard: ShardId(0), first })) if first > 100
        ),
        "{refused:?}"
    );
    assert!(refused.unwrap().to_string().starts_with("snapshot_unusable: "));
    store.save(&meta, &body).unwrap();
    let node = opening(dir.path()).expect("nothing was changed");
    node.stop().await;
}
