//! A node that has kept a shadow of another's shard takes it up without a replay, and with the same state.

mod common;

use std::sync::Arc;
use std::time::Duration;

use actors::{Node, NodeConfig, Standing, Stores, recover};
use common::terminal::*;
use engine::model::ids::{ShardId, WalletId};
use storage::testing::memory::{MemoryLog, MemorySnapshots, OpenedMemory};

const SHARDS: u16 = 4;

/// A node over this log. What is taken up first, it has claimed.
fn node(log: &Arc<MemoryLog>, number: u32, shadows: usize) -> Node {
    let journal = Box::new(OpenedMemory::shared(log, number));
    let stores = Stores { journal, snapshots: Arc::new(MemorySnapshots::new()) };
    let config = NodeConfig { threads: 2, begin_with: Some(vec![]), shadows, ..NodeConfig::default() };
    Node::start(config, stores).expect("starts")
}

async fn takes_all(log: &MemoryLog, node: &Node, number: u32) {
    for shard in (0..SHARDS).map(ShardId) {
        log.claim(shard, number);
        node.take_up(shard).await.expect("nobody else has it");
    }
}

async fn some_credit(node: &Node, guests: &[WalletId]) -> Bar {
    let theirs = guests.to_vec();
    at_the_admin(node, move |mut admin| {
        let bar = Bar::open(&mut admin);
        theirs.iter().for_each(|wallet| bar.wallet(&mut admin, *wallet, 10_000));
        bar
    })
    .await
}

/// Waits until there are so many shadows, each at the end of its shard.
async fn have_caught_up(node: &Node, count: usize) -> Vec<ShardId> {
    loop {
        let (shadows, end) = (node.shadows(), node.durable_end());
        if shadows.len() == count && shadows.iter().all(|(shard, at)| *at == end.get(*shard)) {
            return shadows.into_iter().map(|(shard, _)| shard).collect();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_shard_with_a_shadow_is_taken_up_without_a_replay() {
    let log = MemoryLog::new(SHARDS);
    let (first, with, without) = (node(&log, 1, 0), node(&log, 2, 4), node(&log, 3, 0));
    takes_all(&log, &first, 1).await;
    have_caught_up(&with, 4).await;
    let guests = wallets(SHARDS, 8);
    some_credit(&first, &guests).await;
    have_caught_up(&with, 4).await;
    assert!(without.shadows().is_empty() && first.shadows().is_empty());

    for shard in (0..SHARDS).map(ShardId) {
        let state = first.give_up(shard).await.unwrap().expect("at rest");
        // Whoever has no shadow replays what there is.
        log.claim(shard, 3);
        let replayed = without.take_up(shard).await.unwrap().events;
        assert!(replayed >= 2, "the credit of two wallets: {replayed}");
        let again = without.give_up(shard).await.unwrap().expect("at rest");
        log.claim(shard, 2);
        assert_eq!(with.take_up(shard).await.unwrap().events, 0, "the shadow had all of it");
        let shadow = with.give_up(shard).await.unwrap().expect("at rest");
        assert_eq!(state.state_hash(), again.state_hash());
        assert_eq!((state.seq(), state.state_hash()), (shadow.seq(), shadow.state_hash()), "of shard {}", shard.0);
        let from_zero = recover::one(&*with.journal(), &MemorySnapshots::new(), shard).unwrap();
        assert_eq!(from_zero.state_hash(), shadow.state_hash());
    }
    // What was given up is elsewhere again, so it has a shadow again.
    have_caught_up(&with, 4).await;
    for node in [first, with, without] {
        node.stop().await;
    }
}

#[tokio::test]
async fn no_more_shadows_are_kept_than_asked_for_and_none_of_what_is_here() {
    let log = MemoryLog::new(SHARDS);
    let (first, second) = (node(&log, 1, 0), node(&log, 2, 2));
    takes_all(&log, &first, 1).await;
    assert_eq!(have_caught_up(&second, 2).await, [ShardId(0), ShardId(1)]);
    first.give_up(ShardId(1)).await.unwrap().expect("at rest");
    log.claim(ShardId(1), 2);
    second.take_up(ShardId(1)).await.unwrap();
    // Behind the first that is here.
    while have_caught_up(&second, 2).await != [ShardId(2), ShardId(3)] {}
    first.stop().await;
    second.stop().await;
    assert_eq!(second.shadows().len(), 2, "they stand still, and nobody needs them");
}

#[tokio::test]
async fn a_shard_is_made_ready_while_another_node_still_serves_it() {
    let log = MemoryLog::new(SHARDS);
    let (first, second) = (node(&log, 1, 0), node(&log, 2, 0));
    takes_all(&log, &first, 1).await;
    let mut ready = Vec::new();
    for shard in [0, 1].map(ShardId) {
        ready.push((shard, second.prepare(shard).await.expect("it may look")));
    }
    some_credit(&first, &wallets(SHARDS, 8)).await;
    for shard in [2, 3].map(ShardId) {
        ready.push((shard, second.prepare(shard).await.expect("it may look")));
    }
    let mut losses = first.losses();
    for (shard, ready) in ready {
        assert_eq!(first.standing(shard), Standing::Serving, "nobody has noticed");
        log.claim(shard, 2);
        assert!(losses.has_changed().unwrap() && matches!(first.standing(shard), Standing::Lost(_)));
        losses.mark_unchanged();
        let events = second.take_up_prepared(ready).await.expect("it is its own").events;
        assert_eq!(events == 0, shard.0 >= 2, "what was written since is left to replay, and no more: {events}");
        let taken = second.give_up(shard).await.unwrap().expect("at rest");
        let from_zero = recover::one(&*second.journal(), &MemorySnapshots::new(), shard).unwrap();
        assert_eq!(taken.state_hash(), from_zero.state_hash());
        assert!(first.prepare(shard).await.is_err(), "nobody gets ready for what he has not given up");
    }
    first.stop().await;
    second.stop().await;
}
