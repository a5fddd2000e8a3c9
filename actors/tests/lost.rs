//! A journal that loses one shard while the others go on: whoever asks the one is told so at once, what was on its way is
//! neither yes nor no, nothing of it is kept, and nobody else notices.

mod common;

use std::sync::Arc;
use std::time::Duration;

use actors::{Node, NodeConfig, Stores, TerminalInbox};
use common::terminal::*;
use engine::cashless::command::CashlessVerdict;
use engine::command::{AdminAnswer, AdminCommand};
use engine::model::ids::{Home, ShardId, WalletId};
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::view::{Query, View};
use storage::journal::Position;
use storage::snapshots::Snapshots;
use storage::testing::memory::{MemoryLog, MemorySnapshots, OpenedMemory};

const SHARDS: u16 = 4;
const WHY: &str = "another node has claimed it";

fn start(log: &Arc<MemoryLog>, snapshots: &Arc<MemorySnapshots>) -> Node {
    let stores = Stores { journal: Box::new(OpenedMemory::new(log)), snapshots: snapshots.clone() };
    Node::start(NodeConfig { threads: 2, ..NodeConfig::default() }, stores).expect("starts")
}

/// Asks, and waits until the shard has handed over one more record.
async fn decided(log: &MemoryLog, shard: ShardId, ask: impl FnOnce()) {
    let before = log.handed_over(shard);
    ask();
    while log.handed_over(shard) == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_shard_that_is_lost_goes_down_alone() {
    let (log, snapshots) = (MemoryLog::new(SHARDS), Arc::new(MemorySnapshots::new()));
    let node = start(&log, &snapshots);
    let bar = open_at(&node).await;
    let guests = wallets(SHARDS, usize::from(SHARDS));
    let theirs = guests.clone();
    at_the_admin(&node, move |mut admin| {
        theirs.iter().for_each(|wallet| bar.wallet(&mut admin, *wallet, 10_000));
    })
    .await;
    let home = Home::Festival(bar.festival).shard(SHARDS);
    let lost = (0..SHARDS).map(ShardId).find(|shard| *shard != home).unwrap();
    let of = |shard: ShardId| guests[usize::from(shard.0)];
    let (victim, sender) = (of(lost), of(home));

    // Two records are decided and on their way, and one command waits behind them.
    let told = Arc::new(Told::default());
    let inbox: Arc<dyn TerminalInbox> = told.clone();
    let pay = |seq: u64, wallet: WalletId| node.submit_terminal(vec![bar.pay(seq, wallet, 1)], &inbox).expect("room");
    {
        let held = log.hold();
        decided(&log, lost, || pay(1, victim)).await;
        decided(&log, lost, || pay(2, victim)).await;
        pay(3, victim);
        held.lose(lost, WHY);
    }
    let waiting = Arc::clone(&told);
    let mut away = tokio::task::spawn_blocking(move || waiting.wait_turned_away(3)).await.unwrap();
    away.sort_unstable_by_key(|(seq, _)| *seq);
    assert_eq!(away, [(1, Rejection::InDoubt), (2, Rejection::InDoubt), (3, Rejection::Unavailable)]);
    assert_eq!(told.count(), 0, "none was paid, as far as anybody knows");

    // New ones are refused at the door, those of the other shards go on.
    let away = node.submit_terminal((4..).zip(&guests).map(|(seq, guest)| bar.pay(seq, *guest, 1)).collect(), &inbox);
    let away = away.unwrap_err();
    assert_eq!((away.len(), away[0].busy.rejection, away[0].seqs.len()), (1, Rejection::Unavailable, 1));
    let paid = tokio::task::spawn_blocking(move || told.wait(usize::from(SHARDS) - 1)).await.unwrap();
    assert!(paid.iter().all(|reply| reply.answer.verdict == CashlessVerdict::Paid), "{paid:?}");
    assert!(matches!(node.query(Query::Wallet(victim)).await, View::No(Rejection::Unavailable)));
    let ask = async |from, to, id| {
        let action = bar.transfer(from, to, 100);
        node.ask(AdminCommand { key: key(id), by: Principal::Installation, action }).await.0
    };
    assert_eq!(ask(victim, sender, 1).await, AdminAnswer::Rejected(Rejection::Unavailable));
    // What needs the lost one's word goes on when that is back.
    let waiting = tokio::time::timeout(Duration::from_millis(300), ask(sender, victim, 2)).await;
    assert!(waiting.is_err(), "{waiting:?}");
    let health = node.health();
    assert!(!health.ready && health.partly_up);
    assert_eq!(health.reason, Some(format!("shard {} is lost: {WHY}", lost.0)));

    // No snapshot of what was decided and is not durable; of the others there are some.
    node.stop().await;
    for shard in (0..SHARDS).map(ShardId) {
        let kept = snapshots.newest(shard, Position(u64::MAX), &mut |_, _| true).unwrap();
        assert_eq!(kept, shard != lost, "shard {}", shard.0);
    }
    // Whoever has it next finds what was acknowledged, and nothing else; what waited for it ends.
    let node = start(&log, &snapshots);
    assert!(node.health().ready);
    let again = at_the_terminal(&node, (1..4).map(|seq| bar.pay(seq, victim, 1)).collect()).await;
    assert!(again.iter().all(|reply| reply.answer.verdict == CashlessVerdict::Paid), "under the same numbers");
    let action = bar.transfer(sender, victim, 100);
    let (answer, repeated) = node.ask(AdminCommand { key: key(2), by: Principal::Installation, action }).await;
    assert!(matches!(answer, AdminAnswer::Transaction { .. }) && repeated, "{answer:?}");
    assert_eq!(wallet(&node, victim).await.available, 10_000 - 3 + 100, "each once");
    let books = ledger(&node, bar.festival).await;
    assert_eq!((books.wallets, books.in_transit, books.trial_balance()), (40_000 - 6, 0, 0));
    node.stop().await;
}
