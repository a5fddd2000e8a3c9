//! A node with one shard down and fifteen up: whoever asks the one is told so at once, the others notice nothing, nothing
//! that was not recorded survives, and a restart brings everything back.

mod common;

use std::sync::Arc;

use actors::{Folder, Inbox, Node, NodeConfig, TerminalInbox};
use common::terminal::*;
use common::*;
use engine::cashless::command::CashlessVerdict;
use engine::command::{AdminAnswer, AdminCommand};
use engine::gates::command::Verdict;
use engine::model::ids::{Home, WalletId};
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::status::Policy;
use engine::view::{Query, View};

const SHARDS: u16 = 16;

/// Its journal takes short records only: one of two hundred payments is refused.
fn narrow(dir: &std::path::Path) -> Node {
    let mut folder = Folder::new(dir);
    folder.journal.log.segment_bytes = 16 << 20;
    folder.journal.log.group_bytes_max = 12 << 10;
    folder.start(NodeConfig::default()).expect("starts")
}

/// Two hundred payments in one record, each told to ask again.
async fn refused(node: &Node, bar: &Bar, wallet: WalletId) {
    let told = Arc::new(Told::default());
    let inbox: Arc<dyn TerminalInbox> = told.clone();
    node.submit_terminal((1..=200).map(|seq| bar.pay(seq, wallet, 1)).collect(), &inbox).expect("room");
    let heard = {
        let told = Arc::clone(&told);
        tokio::task::spawn_blocking(move || told.wait_turned_away(200)).await.unwrap()
    };
    assert!(heard.iter().all(|(_, why)| *why == Rejection::InDoubt), "decided, and not known to be durable");
    assert_eq!(told.count(), 0);
}

#[tokio::test]
async fn whoever_asks_a_shard_that_is_down_is_told_so_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = narrow(dir.path());
    let bar = open_at(&node).await;
    let guests = wallets(SHARDS, usize::from(SHARDS));
    let theirs = guests.clone();
    at_the_admin(&node, move |mut admin| {
        theirs.iter().for_each(|wallet| bar.wallet(&mut admin, *wallet, 10_000));
    })
    .await;
    let home = Home::Festival(bar.festival).shard(SHARDS);
    let victim = guests.iter().copied().find(|wallet| Home::Wallet(*wallet).shard(SHARDS) != home).unwrap();
    let down = Home::Wallet(victim).shard(SHARDS);
    refused(&node, &bar, victim).await;

    // New commands are refused at the door; those of the other shards go on, of the same read too.
    let told = Arc::new(Told::default());
    let inbox: Arc<dyn TerminalInbox> = told.clone();
    let payments = guests.iter().zip(201..).map(|(wallet, seq)| bar.pay(seq, *wallet, 1)).collect();
    let away = node.submit_terminal(payments, &inbox).unwrap_err();
    assert_eq!((away.len(), away[0].busy.rejection, away[0].seqs.len()), (1, Rejection::Unavailable, 1));
    assert!(away[0].busy.retry_after_ms >= 1_000, "that lasts, so nobody has to hurry");
    let paid = tokio::task::spawn_blocking(move || told.wait(15)).await.unwrap();
    assert!(paid.iter().all(|reply| reply.answer.verdict == CashlessVerdict::Paid), "{paid:?}");
    // So is the office, where it asks and where it looks.
    let another = wallets(SHARDS, 64).into_iter().rfind(|wallet| Home::Wallet(*wallet).shard(SHARDS) == down).unwrap();
    let made = at_the_admin(&node, move |mut admin| {
        let (festival, account) = (bar.festival, None);
        admin.cashless(engine::cashless::command::CashlessAction::CreateWallet { wallet: another, festival, account })
    })
    .await;
    assert_eq!(made, AdminAnswer::Rejected(Rejection::Unavailable));
    assert!(matches!(node.query(Query::Wallet(victim)).await, View::No(Rejection::Unavailable)));
    let whole = node.query(Query::Ledger(bar.festival)).await;
    assert!(matches!(whole, View::No(Rejection::Unavailable)), "no part for the whole");
    let (books, all) = node.query_those_up(Query::Ledger(bar.festival)).await;
    assert!(matches!(books, View::Ledger(_)) && !all);
    let health = node.health();
    assert!(health.partly_up);
    assert_eq!((health.ready, health.reason), (false, Some(format!("shard {} is down", down.0))));

    // What was decided beyond the journal is not kept, neither there nor in a snapshot.
    node.stop().await;
    let node = start(dir.path());
    assert!(node.health().ready);
    assert_eq!(wallet(&node, victim).await.available, 10_000, "nothing of what was refused");
    let again = at_the_terminal(&node, (1..=200).map(|seq| bar.pay(seq, victim, 1)).collect()).await;
    assert!(
        again.iter().all(|reply| reply.answer.verdict == CashlessVerdict::Paid),
        "asked again under the same numbers"
    );
    assert_eq!(wallet(&node, victim).await.available, 9_800, "once");
    let books = ledger(&node, bar.festival).await;
    assert_eq!((books.wallets, books.trial_balance()), (160_000 - 15 - 200, 0));
    node.stop().await;
}

/// A gate's shard: scans that waited, scans that were decided, and a transfer that somebody waits for.
#[tokio::test]
async fn a_gate_whose_shard_goes_down_is_told_so_too() {
    let dir = tempfile::tempdir().unwrap();
    let node = narrow(dir.path());
    let (festival, device, tickets) = festival(&node, 300, Policy::default()).await;
    let got = Arc::new(Got::default());
    let inbox: Arc<dyn Inbox> = got.clone();
    let scans: Vec<_> = tickets.iter().zip(1..).map(|(ticket, seq)| scan(device, seq, *ticket)).collect();
    node.submit(scans, &inbox).expect("room");
    let waiting = Arc::clone(&got);
    let told = tokio::task::spawn_blocking(move || waiting.wait_turned_away(300)).await.unwrap();
    assert!(told.iter().all(|(_, why)| *why == Rejection::InDoubt));
    let busy = node.submit(vec![scan(device, 301, tickets[0])], &inbox).unwrap_err();
    assert_eq!(busy.rejection, Rejection::Unavailable);
    assert_eq!(node.has_room(Home::Festival(festival)).unwrap_err().rejection, Rejection::Unavailable);
    let asked = node.ask(AdminCommand {
        key: None,
        by: Principal::Installation,
        action: engine::command::AdminAction::RotateQrKey { festival },
    });
    assert_eq!(asked.await.0, AdminAnswer::Rejected(Rejection::Unavailable));
    assert_eq!(got.replies.lock().unwrap().len(), 0, "neither green nor red");
    node.stop().await;

    let node = start(dir.path());
    node.submit(tickets.iter().zip(1..).map(|(ticket, seq)| scan(device, seq, *ticket)).collect(), &inbox).unwrap();
    let replies = tokio::task::spawn_blocking(move || got.wait(300)).await.unwrap();
    assert!(replies.iter().all(|reply| reply.answer.verdict == Verdict::Admitted), "each for the first time");
    node.stop().await;
}
