//! Shards come and go while the node runs: what was taken is answered, what was not is asked again, the others do not
//! notice, and no cent is lost or made.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actors::{
    Busy, Node, NodeConfig, PlacementError, Standing, StartError, Stores, TerminalInbox, TerminalReply, recover,
};
use common::terminal::*;
use engine::cashless::command::{CashlessVerdict, TerminalCommand};
use engine::command::{AdminAnswer, AdminCommand};
use engine::model::ids::{Home, ShardId, WalletId};
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::view::{Query, View};
use futures_util::future::join_all;
use storage::testing::memory::{MemoryLog, MemorySnapshots, OpenedMemory};
use tokio::sync::oneshot;

const SHARDS: u16 = 4;
/// Payments of each guest at most: together they are fewer than a terminal may have open.
const GUEST_MAX: usize = 500;

fn starting(
    log: &Arc<MemoryLog>,
    snapshots: &Arc<MemorySnapshots>,
    begin_with: Option<Vec<ShardId>>,
) -> Result<Node, StartError> {
    let stores = Stores { journal: Box::new(OpenedMemory::new(log)), snapshots: snapshots.clone() };
    Node::start(NodeConfig { threads: 2, begin_with, ..NodeConfig::default() }, stores)
}

/// A bar with eight wallets, two a shard, of 100.00 each.
async fn bar_with_guests(node: &Node) -> (Bar, Vec<WalletId>) {
    let guests = wallets(SHARDS, 8);
    let theirs = guests.clone();
    let bar = at_the_admin(node, move |mut admin| {
        let bar = Bar::open(&mut admin);
        theirs.iter().for_each(|wallet| bar.wallet(&mut admin, *wallet, 10_000));
        bar
    });
    (bar.await, guests)
}

/// Waits for the answer to one command, or for being told to ask again.
struct One(Mutex<Option<oneshot::Sender<Result<TerminalReply, Rejection>>>>);

impl One {
    fn tell(&self, told: Result<TerminalReply, Rejection>) {
        let waits = self.0.lock().unwrap().take().expect("told once");
        waits.send(told).expect("somebody waits");
    }
}

impl TerminalInbox for One {
    fn answered(&self, replies: &[TerminalReply]) {
        self.tell(Ok(replies[0]));
    }
    fn turned_away(&self, _: &[u64], busy: Busy) {
        self.tell(Err(busy.rejection));
    }
}

async fn asked(node: &Node, command: TerminalCommand) -> Result<TerminalReply, Rejection> {
    let (told, answer) = oneshot::channel();
    let inbox: Arc<dyn TerminalInbox> = Arc::new(One(Mutex::new(Some(told))));
    node.submit_terminal(vec![command], &inbox).map_err(|away| away[0].busy.rejection)?;
    answer.await.expect("everybody is told something")
}

/// Pays, and asks again under the same number until it is answered.
async fn pays(node: &Node, command: TerminalCommand) {
    loop {
        match asked(node, command.clone()).await {
            Ok(reply) => return assert_eq!(reply.answer.verdict, CashlessVerdict::Paid),
            Err(Rejection::Busy | Rejection::Unavailable | Rejection::InDoubt) => {}
            Err(other) => panic!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// Transfers, and asks again with the same key until it is known how that ended: whether it was done.
async fn transfers(node: &Node, bar: Bar, (from, to): (WalletId, WalletId), minor: i64, id: u128) -> bool {
    loop {
        let action = bar.transfer(from, to, minor);
        match node.ask(AdminCommand { key: key(id), by: Principal::ApiKey(7), action }).await.0 {
            AdminAnswer::Transaction { .. } => return true,
            AdminAnswer::Rejected(Rejection::InsufficientFunds) => return false,
            AdminAnswer::Rejected(
                Rejection::Busy | Rejection::Unavailable | Rejection::InDoubt | Rejection::StillPending,
            ) => {}
            other => panic!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// Moves one shard after the other away and back, so often, in each way there is.
async fn moves(node: &Node, log: &MemoryLog, times: usize) {
    for moved in 0..times {
        let shard = ShardId((moved % usize::from(SHARDS)) as u16);
        if moved % 7 == 6 {
            log.lose(shard, "another node has claimed it");
            assert!(node.give_up(shard).await.unwrap().is_none(), "its state may be ahead of the journal");
            log.claim(shard, 0);
            node.take_up(shard).await.unwrap();
        } else {
            let state = node.give_up(shard).await.unwrap().expect("it was at rest");
            match moved % 2 {
                0 => drop(node.take_up(shard).await.unwrap()),
                _ => node.take_up_state(state).await.unwrap(),
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn shards_move_away_and_back_and_the_books_balance() {
    let (log, snapshots) = (MemoryLog::new(SHARDS), Arc::default());
    let node = starting(&log, &snapshots, None).unwrap();
    let (bar, guests) = bar_with_guests(&node).await;
    let enough = AtomicBool::new(false);
    let load = async {
        // Each guest pays and transfers, one after the other, and all of them at once.
        let guest = async |n: usize| {
            let (mut mine, mut paid) = (Vec::new(), 0);
            for i in 0..GUEST_MAX {
                if enough.load(Ordering::Acquire) {
                    break;
                }
                let (from, to) = (guests[n], guests[(n + 1 + i % 7) % 8]);
                let minor = 1 + (i as i64 * 37) % 50;
                if transfers(&node, bar, (from, to), minor, (n * 1_000 + i + 1) as u128).await {
                    mine.push((from, to, minor));
                }
                pays(&node, bar.pay((n * GUEST_MAX + i + 1) as u64, guests[n], 1)).await;
                paid += 1;
            }
            (mine, paid)
        };
        join_all((0..8).map(guest)).await
    };
    let moving = async {
        moves(&node, &log, 40).await;
        enough.store(true, Ordering::Release);
    };
    let (guests_did, ()) = tokio::join!(load, moving);
    let paid: Vec<i64> = guests_did.iter().map(|(_, paid)| *paid).collect();
    let done: Vec<_> = guests_did.into_iter().flat_map(|(mine, _)| mine).collect();
    assert!(done.len() > 80 && paid.iter().all(|paid| *paid > 5), "{} transfers, payments: {paid:?}", done.len());

    let expected = |n: usize| {
        let (mut cents, of) = (10_000 - paid[n], |who, minor| if who == guests[n] { minor } else { 0 });
        done.iter().for_each(|&(from, to, minor)| cents += of(to, minor) - of(from, minor));
        cents
    };
    let settled = async |node: &Node| {
        let books = ledger(node, bar.festival).await;
        let wallets = i128::from(80_000 - paid.iter().sum::<i64>());
        assert_eq!((books.wallets, books.in_transit, books.trial_balance()), (wallets, 0, 0));
        for (n, guest) in guests.iter().enumerate() {
            assert_eq!(wallet(node, *guest).await.available, expected(n), "{guest:?}");
        }
    };
    settled(&node).await;
    assert!(node.health().ready);
    node.stop().await;
    // The log alone says the same.
    let node = starting(&log, &Arc::default(), None).unwrap();
    settled(&node).await;
    node.stop().await;
}

#[tokio::test]
async fn a_node_begins_with_none_and_hands_back_what_it_took_up() {
    let (log, snapshots) = (MemoryLog::new(SHARDS), Arc::default());
    let node = starting(&log, &snapshots, Some(vec![])).unwrap();
    assert_eq!(node.health().reason, None, "it was not to have any");
    let nowhere = node.query(Query::Festivals).await;
    assert!(matches!(nowhere, View::No(Rejection::Unavailable)), "{nowhere:?}");
    for shard in (0..SHARDS).map(ShardId) {
        assert_eq!(node.standing(shard), Standing::Elsewhere);
        node.take_up(shard).await.unwrap();
        assert_eq!(node.standing(shard), Standing::Serving);
    }
    let (bar, guests) = bar_with_guests(&node).await;

    let shard = ShardId(2);
    assert_eq!(Home::Wallet(guests[2]).shard(SHARDS), shard);
    let twice = node.take_up(shard).await;
    assert!(matches!(twice, Err(PlacementError::Standing { standing: Standing::Serving, .. })), "{twice:?}");
    let state = node.give_up(shard).await.unwrap().expect("at rest");
    let journal = node.journal();
    let recovered = recover::one(&*journal, &*snapshots, shard).unwrap();
    assert_eq!((state.seq(), state.state_hash()), (recovered.seq(), recovered.state_hash()), "all of it is durable");
    let twice = node.give_up(shard).await;
    assert!(matches!(twice, Err(PlacementError::Standing { standing: Standing::Elsewhere, .. })), "{twice:?}");
    assert_eq!(asked(&node, bar.pay(1, guests[2], 1)).await.unwrap_err(), Rejection::Unavailable);
    assert!(asked(&node, bar.pay(2, guests[3], 1)).await.is_ok(), "the others do not notice");
    assert!(node.health().ready);
    node.stop().await;

    // A node that begins with some has those, and no others.
    let node = starting(&log, &snapshots, Some(vec![shard])).unwrap();
    let standings: Vec<_> = (0..SHARDS).map(|shard| node.standing(ShardId(shard)) == Standing::Serving).collect();
    assert_eq!(standings, [false, false, true, false]);
    assert_eq!(asked(&node, bar.pay(1, guests[2], 1)).await.unwrap().answer.balance, 9_999);
    node.stop().await;
    assert!(matches!(starting(&log, &snapshots, Some(vec![ShardId(SHARDS)])), Err(StartError::Setting(_))));
}

/// What was taken before a shard is given up is answered, and what comes then is told to come again soon.
#[tokio::test]
async fn a_shard_that_is_given_up_answers_what_it_has_taken() {
    let (log, snapshots) = (MemoryLog::new(SHARDS), Arc::default());
    let node = starting(&log, &snapshots, None).unwrap();
    let (bar, guests) = bar_with_guests(&node).await;
    let (shard, guest) = (ShardId(1), guests[1]);
    let told = Arc::new(Told::default());
    let inbox: Arc<dyn TerminalInbox> = told.clone();
    let held = log.hold();
    let before = log.handed_over(shard);
    node.submit_terminal((1..=20).map(|seq| bar.pay(seq, guest, 1)).collect(), &inbox).unwrap();
    while log.handed_over(shard) == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let giving_up = tokio::spawn({
        let node = node.clone();
        async move { node.give_up(shard).await }
    });
    while node.standing(shard) != Standing::Leaving {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(asked(&node, bar.pay(21, guest, 1)).await.unwrap_err(), Rejection::Busy);
    assert!(node.health().ready, "nothing is wrong");
    drop(held);
    let state = giving_up.await.unwrap().unwrap().expect("it came to rest");
    assert_eq!(told.count(), 20, "all that was taken");
    node.take_up_state(state).await.unwrap();
    assert_eq!(asked(&node, bar.pay(21, guest, 1)).await.unwrap().answer.balance, 10_000 - 21);
    node.stop().await;
}
