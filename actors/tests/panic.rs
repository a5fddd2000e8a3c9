//! A bug in a decision: the shard is rebuilt from the journal, the command that did it is set aside, nobody else notices.
#![cfg(feature = "plants")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use actors::Inbox;
use common::terminal::*;
use common::*;
use engine::cashless::command::CashlessVerdict;
use engine::command::{AdminAnswer, AdminCommand};
use engine::gates::command::{Credential, DeviceAction, Verdict};
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::status::Policy;
use engine::plants::TRIPWIRE;
use engine::view::{Query, View};

#[tokio::test]
async fn a_command_that_panics_is_set_aside_and_its_neighbours_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path());
    let (festival, device, tickets) = festival(&node, 100, Policy::default()).await;
    let got = Arc::new(Got::default());
    let inbox: Arc<dyn Inbox> = got.clone();
    let mut commands: Vec<_> = tickets.iter().zip(1..).map(|(ticket, seq)| scan(device, seq, *ticket)).collect();
    let DeviceAction::Scan(bad) = &mut commands[49].action else { unreachable!() };
    bad.credential = Credential::Refused(Rejection::TamperedQr, TRIPWIRE);
    node.submit(commands, &inbox).expect("room");

    let mut replies = got.wait(100);
    replies.sort_by_key(|reply| reply.seq);
    for reply in &replies {
        let expected = if reply.seq == 50 { Verdict::Rejected(Rejection::Internal) } else { Verdict::Admitted };
        assert_eq!(reply.answer.verdict, expected, "seq {}", reply.seq);
    }
    let View::Live(live) = node.query(Query::Live(festival)).await else { panic!("no live view") };
    assert_eq!(live.zones[0].occupancy, 99, "nobody twice, nobody lost");
    assert!(node.health().ready);
    // It panics again when it is sent again, and again hurts nobody.
    let mut again = scan(device, 50, tickets[49]);
    let DeviceAction::Scan(bad) = &mut again.action else { unreachable!() };
    bad.credential = Credential::Refused(Rejection::TamperedQr, TRIPWIRE);
    node.submit(vec![again, scan(device, 101, tickets[49])], &inbox).expect("room");
    let replies = got.wait(102);
    assert_eq!(replies[100].answer.verdict, Verdict::Rejected(Rejection::Internal));
    assert_eq!(replies[101].answer.verdict, Verdict::Admitted);
    node.stop().await;
}

/// A payment that panics is set aside; its neighbours, whoever waits for another shard, and the books lose nothing.
#[tokio::test]
async fn a_payment_that_panics_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path());
    let bar = open_at(&node).await;
    let guests = wallets(16, 16);
    let theirs = guests.clone();
    at_the_admin(&node, move |mut admin| {
        theirs.iter().for_each(|wallet| bar.wallet(&mut admin, *wallet, 10_000));
    })
    .await;
    let moves = guests.windows(2).zip(1..).map(|(pair, id)| {
        let (node, transfer) = (node.clone(), bar.transfer(pair[0], pair[1], 100));
        async move { node.ask(AdminCommand { key: key(id), by: Principal::Installation, action: transfer }).await.0 }
    });
    let moves = futures_util::future::join_all(moves);
    let mut commands: Vec<_> = (1..=160).map(|seq| bar.pay(seq, guests[seq as usize % 16], 1)).collect();
    commands[79] = bar.pay(80, guests[0], i64::from(TRIPWIRE));
    let (moved, replies) = tokio::join!(moves, at_the_terminal(&node, commands));
    assert!(moved.iter().all(|answer| matches!(answer, AdminAnswer::Transaction { .. })), "{moved:?}");
    for reply in &replies {
        let expected =
            if reply.seq == 80 { CashlessVerdict::Rejected(Rejection::Internal) } else { CashlessVerdict::Paid };
        assert_eq!(reply.answer.verdict, expected, "seq {}", reply.seq);
    }
    let books = ledger(&node, bar.festival).await;
    assert_eq!((books.wallets, books.in_transit, books.trial_balance()), (160_000 - 159, 0, 0));
    assert!(node.health().ready);
    node.stop().await;
}

/// A message that panics is not skipped: what comes behind it relies on it. Its sender's messages stay where they are,
/// the node says so, and everything else goes on.
#[tokio::test]
async fn a_message_that_panics_is_kept_and_said_aloud() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path());
    let bar = open_at(&node).await;
    let guests = wallets(16, 3);
    let theirs = guests.clone();
    at_the_admin(&node, move |mut admin| {
        theirs.iter().for_each(|wallet| bar.wallet(&mut admin, *wallet, 300_000_000));
    })
    .await;
    let ask = async |from: usize, to: usize, minor: i64, id| {
        let action = bar.transfer(guests[from], guests[to], minor);
        node.ask(AdminCommand { key: key(id), by: Principal::Installation, action }).await.0
    };
    let asking = tokio::time::timeout(Duration::from_millis(500), ask(0, 1, i64::from(TRIPWIRE), 1));
    assert!(asking.await.is_err(), "the other shard cannot decide it");
    let health = node.health();
    assert!(health.ready, "all the rest works");
    let reason = health.reason.expect("said aloud");
    assert!(reason.contains("cannot take in a message"), "{reason}");
    assert!(matches!(ask(2, 1, 100, 2).await, AdminAnswer::Transaction { .. }), "other shards' messages go on");
    let paid = at_the_terminal(&node, vec![bar.pay(1, guests[1], 1)]).await;
    assert_eq!(paid[0].answer.verdict, CashlessVerdict::Paid, "and so do payments");
    let books = ledger(&node, bar.festival).await;
    assert_eq!((books.in_transit, books.trial_balance()), (i128::from(TRIPWIRE), 0), "the money is where it was");
    node.stop().await;
}
