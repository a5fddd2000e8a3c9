//! More than there is room for: whoever comes then is told so before anything is looked at.

use std::sync::{Arc, mpsc};

use actors::limits::TERMINALS_MAX;
use actors::{Busy, TerminalInbox, TerminalReply};
use engine::cashless::command::*;
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use tapgate_client::Link;
use tapgate_wire::WalletName;

use crate::common::terminal::*;
use crate::link::*;

/// Whose answers do not matter.
struct Deaf;

impl TerminalInbox for Deaf {
    fn answered(&self, _: &[TerminalReply]) {}
    fn turned_away(&self, _: &[u64], _: Busy) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_there_is_no_room_for_is_refused_before_it_is_looked_at() {
    let house = bar().await;
    let anna = guest(&house, 11, 10_000).await;
    let identity = enrolled(&house, Some(BAR), false).await;
    let mut link = Link::open(None, &identity).await.unwrap();
    let forged = String::from_utf8(wallet_qr(&house, anna, 1)).unwrap().replace("\"version\":1", "\"version\":2");

    // The shards' thread is held up, and all its places for terminals are taken.
    let (release, held) = mpsc::channel::<()>();
    assert!(house.node.spawn_on(0, async move {
        let _ = held.recv();
    }));
    let balance = |seq| {
        let action = TerminalAction::Balance { wallet: anna, tap: None };
        TerminalCommand { device: identity.device, seq, floor: 1, expires_at: Timestamp(0), action }
    };
    let inbox: Arc<dyn TerminalInbox> = Arc::new(Deaf);
    house.node.submit_terminal((1..=TERMINALS_MAX as u64).map(balance).collect(), &inbox).expect("there is room");
    assert_eq!(house.node.room_for_terminals(), 0);
    let heard = one(&mut link, pay(1, WalletName::Raw(forged.as_bytes()), 100)).await;
    assert_eq!(heard, Heard::Busy(Rejection::Busy), "not that its signature is wrong: that would have taken work");

    drop(release);
    while house.node.room_for_terminals() < TERMINALS_MAX {
        tokio::task::yield_now().await;
    }
    let heard = one(&mut link, pay(1, WalletName::Raw(forged.as_bytes()), 100)).await;
    assert_eq!(heard.verdict(), rejected(Rejection::TamperedQr));
    link.close().await;
    house.close().await;
}
