//! A bug in a decision: the shard is rebuilt from the journal, the command that did it is set aside, nobody else notices.
#![cfg(feature = "plants")]

mod common;

use std::sync::Arc;

use actors::Inbox;
use common::*;
use engine::command::{Credential, DeviceAction, Verdict};
use engine::plants::TRIPWIRE;
use engine::rejection::Rejection;
use engine::status::Policy;
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
