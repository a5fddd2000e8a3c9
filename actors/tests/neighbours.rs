//! Shards move between two nodes under load, asked at the doors of both: whatever was acknowledged is in the log, once.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actors::{Busy, DeviceReply, Inbox, Node, NodeConfig, Stores, TerminalInbox, TerminalReply, Whereabouts};
use common::neighbours::Hosts;
use common::terminal::*;
use common::{festival, scan};
use engine::cashless::command::{CashlessVerdict, TerminalCommand};
use engine::command::{AdminAnswer, AdminCommand};
use engine::gates::command::{DeviceCommand, Verdict};
use engine::model::ids::{Home, NodeNo, ShardId, WalletId};
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::status::Policy;
use engine::view::{Query, View};
use futures_util::future::join_all;
use storage::testing::memory::{MemoryLog, MemorySnapshots, OpenedMemory};
use tokio::sync::oneshot;

const SHARDS: u16 = 4;
/// Payments of each guest at most, and scans at all gates: together they are fewer than a device may have open.
const GUEST_MAX: usize = 500;
const SCANS_MAX: usize = 4_000;

/// Waits for the answer to one command, or for being told to ask again.
struct One<T>(Mutex<Option<oneshot::Sender<Result<T, Busy>>>>);

impl<T> One<T> {
    fn tell(&self, told: Result<T, Busy>) {
        let waits = self.0.lock().unwrap().take().expect("told once");
        let _ = waits.send(told);
    }
}

impl TerminalInbox for One<TerminalReply> {
    fn answered(&self, replies: &[TerminalReply]) {
        self.tell(Ok(replies[0]));
    }
    fn turned_away(&self, _: &[u64], busy: Busy) {
        self.tell(Err(busy));
    }
}

impl Inbox for One<DeviceReply> {
    fn answered(&self, replies: &[DeviceReply]) {
        assert!(replies[0].durable);
        self.tell(Ok(replies[0]));
    }
    fn confirmed(&self, _: &[u64]) {}
    fn turned_away(&self, _: &[u64], busy: Busy) {
        self.tell(Err(busy));
    }
    fn not_confirmed(&self, _: &[u64], _: Busy) {}
}

async fn pay_once(node: &Node, command: TerminalCommand) -> Result<TerminalReply, Busy> {
    let (told, answer) = oneshot::channel();
    let inbox: Arc<dyn TerminalInbox> = Arc::new(One(Mutex::new(Some(told))));
    node.submit_terminal(vec![command], &inbox).map_err(|away| away[0].busy)?;
    answer.await.expect("everybody is told something")
}

async fn scan_once(node: &Node, command: DeviceCommand) -> Result<DeviceReply, Busy> {
    let (told, answer) = oneshot::channel();
    let inbox: Arc<dyn Inbox> = Arc::new(One(Mutex::new(Some(told))));
    node.submit(vec![command], &inbox)?;
    answer.await.expect("everybody is told something")
}

/// Asks at the doors of all nodes in turns, until it is answered.
async fn until_answered<T>(nodes: &[Node], in_doubt: &AtomicUsize, ask: impl AsyncFn(&Node) -> Result<T, Busy>) -> T {
    for node in nodes.iter().cycle() {
        match ask(node).await {
            Ok(answer) => return answer,
            Err(Busy { rejection: Rejection::InDoubt, .. }) => drop(in_doubt.fetch_add(1, Ordering::Relaxed)),
            Err(Busy { rejection: Rejection::Busy | Rejection::Unavailable, .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    unreachable!("there are nodes")
}

/// What a transfer came to.
async fn transfer_once(
    node: &Node,
    bar: Bar,
    (from, to): (WalletId, WalletId),
    minor: i64,
    id: u128,
) -> Result<bool, Busy> {
    let action = bar.transfer(from, to, minor);
    match node.ask(AdminCommand { key: key(id), by: Principal::ApiKey(7), action }).await.0 {
        AdminAnswer::Transaction { .. } => Ok(true),
        AdminAnswer::Rejected(Rejection::InsufficientFunds) => Ok(false),
        AdminAnswer::Rejected(Rejection::StillPending) => Err(Busy::of(Rejection::Busy)),
        AdminAnswer::Rejected(why) => Err(Busy::of(why)),
        other => panic!("{other:?}"),
    }
}

/// A shard goes to another node: handed over, or taken.
async fn moves(log: &MemoryLog, hosts: &Hosts, nodes: &[Node], shard: ShardId, to: usize, by_force: bool) {
    let (from, number) = (&nodes[1 - to], to as u32 + 1);
    if by_force {
        {
            // With something under way.
            let held = log.hold();
            tokio::time::sleep(Duration::from_millis(3)).await;
            held.claim(shard, number);
        }
        hosts.announce(shard, Some(NodeNo(number)));
        nodes[to].take_up(shard).await.unwrap();
        assert!(from.give_up(shard).await.unwrap().is_none(), "its state may be ahead of the journal");
        return;
    }
    let state = from.give_up(shard).await.unwrap().expect("it was at rest");
    log.claim(shard, number);
    hosts.announce(shard, Some(NodeNo(number)));
    match shard.0 % 2 {
        0 => drop(nodes[to].take_up(shard).await.unwrap()),
        _ => nodes[to].take_up_state(state).await.unwrap(),
    }
}

#[tokio::test]
async fn shards_move_between_two_nodes_and_nothing_acknowledged_is_lost_or_doubled() {
    let log = MemoryLog::new(SHARDS);
    let (hosts, nodes) = Hosts::start(&log, SHARDS, 2);
    // Each has two of the shards.
    for shard in (0..SHARDS).map(ShardId) {
        let to = usize::from(shard.0 % 2);
        log.claim(shard, to as u32 + 1);
        hosts.announce(shard, Some(NodeNo(to as u32 + 1)));
        nodes[to].take_up(shard).await.unwrap();
    }
    let guests = wallets(SHARDS, 8);
    let theirs = guests.clone();
    let bar = at_the_admin(&nodes[0], move |mut admin| {
        let bar = Bar::open(&mut admin);
        theirs.iter().for_each(|wallet| bar.wallet(&mut admin, *wallet, 10_000));
        bar
    })
    .await;
    let (gate, reader, tickets) = festival(&nodes[1], SCANS_MAX as u32, Policy::default()).await;
    let home = Home::Festival(gate);
    let there = 1 - usize::from(home.shard(SHARDS).0 % 2);
    assert_eq!(nodes[1 - there].whereabouts(home), Whereabouts::Here);
    assert_eq!(nodes[there].whereabouts(home), Whereabouts::At(NodeNo(2 - there as u32)));

    let (enough, in_doubt) = (AtomicBool::new(false), AtomicUsize::new(0));
    let pay = |n: usize, i: usize| bar.pay((n * GUEST_MAX + i + 1) as u64, guests[n], 1);
    let load = async {
        let guest = async |n: usize| {
            let (mut moved, mut paid) = (Vec::new(), Vec::new());
            for i in 0..GUEST_MAX {
                if enough.load(Ordering::Acquire) {
                    break;
                }
                let (pair, minor) = ((guests[n], guests[(n + 1 + i % 7) % 8]), 1 + (i as i64 * 37) % 50);
                let id = (n * 1_000 + i + 1) as u128;
                if until_answered(&nodes, &in_doubt, async |node| transfer_once(node, bar, pair, minor, id).await).await
                {
                    moved.push((pair, minor));
                }
                paid.push(until_answered(&nodes, &in_doubt, async |node| pay_once(node, pay(n, i)).await).await);
            }
            (moved, paid)
        };
        let gate = async |n: usize| {
            let mut scanned = Vec::new();
            for seq in (n..SCANS_MAX).step_by(4).map(|at| at as u64 + 1) {
                if enough.load(Ordering::Acquire) {
                    break;
                }
                let command = || scan(reader, seq, tickets[seq as usize - 1]);
                scanned.push(until_answered(&nodes, &in_doubt, async |node| scan_once(node, command()).await).await);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            scanned
        };
        tokio::join!(join_all((0..8).map(guest)), join_all((0..4).map(gate)))
    };
    let moving = async {
        for moved in 0..60 {
            let shard = ShardId((moved % usize::from(SHARDS)) as u16);
            let to = (moved / usize::from(SHARDS) + usize::from(shard.0) + 1) % 2;
            moves(&log, &hosts, &nodes, shard, to, moved % 5 == 4).await;
            // Now and then nothing comes back of what was sent.
            hosts.cut.store(moved % 9 == 8, Ordering::Release);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        hosts.cut.store(false, Ordering::Release);
        enough.store(true, Ordering::Release);
    };
    let ((guests_did, scanned), ()) = tokio::join!(load, moving);
    assert!(in_doubt.load(Ordering::Relaxed) > 0, "nothing was under way when a shard was taken");
    let transfers: Vec<_> = guests_did.iter().flat_map(|(moved, _)| moved.clone()).collect();
    let paid: BTreeMap<u64, TerminalReply> =
        guests_did.iter().flat_map(|(_, paid)| paid).map(|reply| (reply.seq, *reply)).collect();
    let scanned: BTreeMap<u64, DeviceReply> = scanned.concat().iter().map(|reply| (reply.seq, *reply)).collect();
    let counts = (transfers.len(), paid.len(), scanned.len());
    assert!(counts.0 > 80 && counts.1 > 80 && counts.2 > 80, "{counts:?}");
    for node in &nodes {
        node.stop().await;
    }
    hosts.part();

    // A node that has only the log says the same of all of it.
    let stores = Stores { journal: Box::new(OpenedMemory::new(&log)), snapshots: Arc::new(MemorySnapshots::new()) };
    let node = Node::start(NodeConfig::default(), stores).unwrap();
    for (seq, reply) in &scanned {
        assert_eq!(reply.answer.verdict, Verdict::Admitted, "{seq}: nobody had been let in before");
        let again = scan_once(&node, scan(reader, *seq, tickets[*seq as usize - 1])).await.unwrap();
        assert_eq!(again, *reply, "the same answer, to the bit");
    }
    let View::Live(live) = node.query(Query::Live(gate)).await else { panic!("no live view") };
    let (inside, admitted) = (live.zones[0].occupancy as usize, live.gates[0].admitted as usize);
    assert_eq!((inside, admitted), (scanned.len(), scanned.len()));
    for (n, i) in (0..8).flat_map(|n| (0..guests_did[n].1.len()).map(move |i| (n, i))) {
        let command = pay(n, i);
        let reply = paid[&command.seq];
        assert_eq!(reply.answer.verdict, CashlessVerdict::Paid);
        assert_eq!(pay_once(&node, command).await.unwrap(), reply, "the same answer, to the bit");
    }
    for (n, guest) in guests.iter().enumerate() {
        let of = |who: WalletId, minor: i64| if who == *guest { minor } else { 0 };
        let moved: i64 = transfers.iter().map(|&((from, to), minor)| of(to, minor) - of(from, minor)).sum();
        assert_eq!(wallet(&node, *guest).await.available, 10_000 - guests_did[n].1.len() as i64 + moved, "{guest:?}");
    }
    let books = ledger(&node, bar.festival).await;
    assert_eq!((books.wallets, books.in_transit, books.trial_balance()), (80_000 - paid.len() as i128, 0, 0));
    node.stop().await;
}

/// Whoever asks at either door while shards are handed over is answered, if a moment later.
#[tokio::test]
async fn a_move_that_is_planned_fails_nobody_who_asks_for_the_office() {
    let log = MemoryLog::new(SHARDS);
    let (hosts, nodes) = Hosts::start(&log, SHARDS, 2);
    for shard in (0..SHARDS).map(ShardId) {
        log.claim(shard, 1);
        hosts.announce(shard, Some(NodeNo(1)));
        nodes[0].take_up(shard).await.unwrap();
    }
    let guests = wallets(SHARDS, 8);
    let theirs = guests.clone();
    let bar = at_the_admin(&nodes[0], move |mut admin| {
        let bar = Bar::open(&mut admin);
        theirs.iter().for_each(|wallet| bar.wallet(&mut admin, *wallet, 10_000));
        bar
    })
    .await;
    let enough = AtomicBool::new(false);
    let asking = async {
        // Within one shard each: what needs two may end as `still_pending` when one of them is given up.
        let guest = async |n: usize| {
            let mut asked = 0;
            while !enough.load(Ordering::Acquire) {
                let (pair, door) = ((guests[n], guests[n + 4]), &nodes[asked % 2]);
                let done = transfer_once(door, bar, pair, 1, (n * 100_000 + asked + 1) as u128).await;
                assert!(done.is_ok(), "guest {n}, {asked}: {done:?}");
                assert_eq!(wallet(&nodes[(asked + 1) % 2], pair.1).await.available, 10_001 + asked as i64);
                asked += 1;
            }
            asked
        };
        join_all((0..4).map(guest)).await
    };
    let moving = async {
        for turn in 0..24 {
            let (shard, to) = (ShardId(turn % SHARDS), usize::from(1 - (turn / SHARDS) % 2));
            moves(&log, &hosts, &nodes, shard, to, false).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        enough.store(true, Ordering::Release);
    };
    let (asked, ()) = tokio::join!(asking, moving);
    assert!(asked.iter().all(|asked| *asked > 5), "{asked:?}");
    hosts.part();
    for node in nodes {
        node.stop().await;
    }
}
