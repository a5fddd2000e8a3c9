//! A node as its doors see it: commands in, durable answers out, through a stop and a start.

mod common;

use std::sync::Arc;

use actors::limits::PENDING_MAX;
use actors::{Folder, Inbox, Node, NodeConfig, Stores};
use common::*;
use engine::command::{AdminAction, AdminAnswer, AdminCommand};
use engine::gates::command::Verdict;
use engine::model::ids::ZoneNo;
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::status::{Policy, ScanAck, ZoneState};
use engine::view::{Query, View};
use storage::testing::memory::{MemoryLog, MemorySnapshots, OpenedMemory};

#[tokio::test]
async fn answers_survive_a_stop_and_a_start_and_are_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path());
    let (festival, device, tickets) = festival(&node, 2_500, Policy::default()).await;
    let got = Arc::new(Got::default());
    let inbox: Arc<dyn Inbox> = got.clone();
    for (chunk, seq) in tickets.chunks(100).zip((1..).step_by(100)) {
        let commands = chunk.iter().zip(seq..).map(|(ticket, seq)| scan(device, seq, *ticket)).collect();
        node.submit(commands, &inbox).expect("room");
    }
    let first = got.wait(2_500);
    assert!(first.iter().all(|reply| reply.answer.verdict == Verdict::Admitted && reply.durable));
    let View::Live(live) = node.query(Query::Live(festival)).await else { panic!("no live view") };
    assert_eq!((live.zones[0].occupancy, live.gates[0].admitted), (2_500, 2_500));
    node.stop().await;
    assert!(!node.health().ready);
    assert_eq!(
        node.submit(vec![scan(device, 9_999, tickets[0])], &inbox).unwrap_err().rejection,
        Rejection::Unavailable
    );
    drop(node);

    let node = start(dir.path());
    assert_eq!(node.recovered().events, 0, "a clean stop leaves snapshots");
    let again = Arc::new(Got::default());
    let inbox: Arc<dyn Inbox> = again.clone();
    node.submit(vec![scan(device, 1_234, tickets[1_233]), scan(device, 2_501, tickets[0])], &inbox).unwrap();
    let replies = again.wait(2);
    let before = first.iter().find(|reply| reply.seq == 1_234).unwrap();
    assert_eq!(&replies[0], before, "the same answer, to the bit");
    assert_eq!(replies[1].answer.verdict, Verdict::Rejected(Rejection::AlreadyUsed));
    node.stop().await;
}

#[tokio::test]
async fn a_decided_answer_is_confirmed_once_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path());
    let policy = Policy { ack: ScanAck::Decided, ..Policy::default() };
    let (_, device, tickets) = festival(&node, 10, policy).await;
    let got = Arc::new(Got::default());
    let inbox: Arc<dyn Inbox> = got.clone();
    node.submit(vec![scan(device, 1, tickets[0])], &inbox).unwrap();
    assert!(!got.wait(1)[0].durable);
    node.stop().await;
    assert_eq!(*got.confirmed.lock().unwrap(), [1]);
}

/// While a shard has as much to do as it takes, a zone can still be evacuated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_protects_people_passes_where_everything_else_is_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path());
    let (festival, device, tickets) = festival(&node, 1, Policy::default()).await;
    let got = Arc::new(Got::default());
    let inbox: Arc<dyn Inbox> = got.clone();
    // Its threads stand still, so that what is let in stays in.
    let held: Vec<_> = (0..node.threads())
        .map(|thread| {
            let (let_go, wait) = std::sync::mpsc::channel::<()>();
            node.spawn_on(thread, async move {
                let _ = wait.recv();
            });
            let_go
        })
        .collect();
    let scans = (1..=PENDING_MAX as u64).map(|seq| scan(device, seq, tickets[0])).collect();
    node.submit(scans, &inbox).expect("room for as many");
    let ask = |action| {
        let node = node.clone();
        async move { node.ask(AdminCommand { key: None, by: Principal::Installation, action }).await.0 }
    };
    assert_eq!(ask(AdminAction::RotateQrKey { festival }).await, AdminAnswer::Rejected(Rejection::Busy));
    let (zone, state) = (ZoneNo(0), ZoneState::Evacuating);
    let evacuated = tokio::spawn(ask(AdminAction::SetZoneState { festival, zone, state }));
    let revoked = tokio::spawn(ask(AdminAction::RevokeDevice { device }));
    drop(held);
    assert_eq!((evacuated.await.unwrap(), revoked.await.unwrap()), (AdminAnswer::Done, AdminAnswer::Done));
    got.wait(PENDING_MAX);
    node.stop().await;
}

/// A journal of another kind, whose snapshots lie elsewhere: with them, and without.
#[tokio::test]
async fn a_node_starts_on_whatever_journal_was_opened() {
    let (log, snapshots) = (MemoryLog::new(4), Arc::new(MemorySnapshots::new()));
    let start = |snapshots: &Arc<MemorySnapshots>| {
        let stores = Stores { journal: Box::new(OpenedMemory::new(&log)), snapshots: snapshots.clone() };
        Node::start(NodeConfig { threads: 2, ..NodeConfig::default() }, stores).expect("starts")
    };
    let node = start(&snapshots);
    let (festival, device, tickets) = festival(&node, 300, Policy::default()).await;
    let got = Arc::new(Got::default());
    let inbox: Arc<dyn Inbox> = got.clone();
    let commands = tickets.iter().zip(1..).map(|(ticket, seq)| scan(device, seq, *ticket)).collect();
    node.submit(commands, &inbox).expect("room");
    assert_eq!(got.wait(300).len(), 300);
    node.stop().await;
    for (snapshots, replayed) in [(snapshots, false), (Arc::default(), true)] {
        let node = start(&snapshots);
        assert_eq!(node.recovered().events > 0, replayed);
        let View::Live(live) = node.query(Query::Live(festival)).await else { panic!("no live view") };
        assert_eq!(live.zones[0].occupancy, 300);
        node.stop().await;
    }
}

#[tokio::test]
async fn a_second_node_on_the_same_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path());
    let second = tokio::task::spawn_blocking({
        let folder = Folder::new(dir.path());
        move || folder.open().err().map(|error| error.to_string())
    });
    assert!(second.await.unwrap().is_some_and(|why| why.contains("in use by process")));
    node.stop().await;
}

#[tokio::test]
async fn another_number_of_shards_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path()).stop().await;
    let folder = Folder { shards: 4, ..Folder::new(dir.path()) };
    let why = folder.open().err().expect("refused").to_string();
    assert!(why.contains("16 shards, asked for 4"), "{why}");
}

#[tokio::test]
async fn a_journal_that_has_lost_its_newest_part_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path());
    festival(&node, 10, Policy::default()).await;
    node.stop().await;
    drop(node);
    // An older copy of the journal is put back: here, the oldest there can be.
    std::fs::remove_dir_all(dir.path().join("journal")).unwrap();
    let why = Folder::new(dir.path()).open().err().expect("refused").to_string();
    assert!(why.contains("newest part is missing"), "{why}");
}
