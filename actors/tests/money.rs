//! Money on a node as its doors see it: payments go to their wallets' shards, what crosses shards is answered when it is
//! over, and nothing is lost or doubled by a stop in the middle.

mod common;

use std::sync::Arc;
use std::time::Duration;

use actors::limits::TERMINALS_MAX;
use actors::{Folder, Inbox, Node, NodeConfig, TerminalInbox};
use common::terminal::*;
use engine::cashless::command::*;
use engine::cashless::view::TagState;
use engine::command::*;
use engine::model::ids::*;
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::view::{Query, View};
use futures_util::future::join_all;

const SHARDS: u16 = 4;

fn start(dir: &std::path::Path) -> Node {
    let mut folder = Folder { shards: SHARDS, ..Folder::new(dir) };
    folder.journal.log.segment_bytes = 16 << 20;
    folder.start(NodeConfig { threads: 2, ..NodeConfig::default() }).expect("starts")
}

async fn ask(node: &Node, key: Option<IdempotencyKey>, action: AdminAction) -> (AdminAnswer, bool) {
    node.ask(AdminCommand { key, by: Principal::ApiKey(7), action }).await
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

/// A node's books once they are at rest: nothing on its way, no part missing, all in balance.
async fn settled(node: &Node, festival: FestivalId) -> i128 {
    for _ in 0..500 {
        let books = ledger(node, festival).await;
        assert_eq!(books.trial_balance(), 0, "{books:?}");
        if books.in_transit == 0 {
            return books.wallets;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a transfer does not end");
}

#[tokio::test]
async fn a_terminals_payments_go_to_all_shards_and_the_books_are_theirs_together() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path());
    let (bar, guests) = bar_with_guests(&node).await;
    let commands: Vec<_> = (1..=80).map(|seq| bar.pay(seq, guests[seq as usize % 8], 100)).collect();
    let replies = at_the_terminal(&node, commands.clone()).await;
    assert!(replies.iter().all(|reply| reply.answer.verdict == CashlessVerdict::Paid));
    assert!(replies.iter().map(|reply| reply.seq).eq(1..=80));
    for wallet in &guests {
        let theirs: Vec<_> = replies.iter().filter(|reply| reply.answer.wallet == *wallet).collect();
        let balances: Vec<i64> = theirs.iter().map(|reply| reply.answer.balance).collect();
        assert_eq!(balances, (1..=10).map(|n| 10_000 - n * 100).collect::<Vec<_>>(), "in the order of the stream");
    }
    let again = at_the_terminal(&node, commands).await;
    assert_eq!(again, replies, "the same answers, to the bit");

    let books = ledger(&node, bar.festival).await;
    assert_eq!((books.wallets, books.trial_balance()), (8 * 10_000 - 8_000, 0), "not one shard's part");
    assert_eq!((books.vendors[0].payable, books.commission), (7_200, 800));
    assert_eq!((books.vendors[0].payments, books.terminals.len()), (80, 1));
    let nowhere = node.query(Query::Ledger(FestivalId(1))).await;
    assert!(matches!(nowhere, View::No(Rejection::UnknownFestival | Rejection::NotCashless)), "{nowhere:?}");
    node.stop().await;
    let inbox: Arc<dyn TerminalInbox> = Arc::new(Told::default());
    let refused = node.submit_terminal(vec![bar.pay(81, guests[0], 1), bar.pay(82, guests[1], 1)], &inbox).unwrap_err();
    let refused: Vec<_> = refused.iter().map(|away| (away.busy.rejection, away.seqs.len())).collect();
    assert_eq!(refused, [(Rejection::Unavailable, 1); 2], "each by its own shard");
}

#[tokio::test]
async fn a_transfer_is_answered_when_the_other_shard_has_decided() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path());
    let (bar, guests) = bar_with_guests(&node).await;
    let (here, there) = (guests[0], guests[1]);
    let (answer, repeated) = ask(&node, key(1), bar.transfer(here, there, 2_500)).await;
    let AdminAnswer::Transaction { balance: 7_500, .. } = answer else { panic!("{answer:?}") };
    assert!(!repeated);
    assert_eq!((wallet(&node, there).await.available, wallet(&node, here).await.reserved), (12_500, 0));
    assert_eq!(ask(&node, key(1), bar.transfer(here, there, 2_500)).await, (answer, true));
    // Refused by the other side: the money is back when the refusal is told.
    let block = AdminAction::Cashless(CashlessAction::Block { wallet: there, blocked: true });
    assert_eq!(ask(&node, None, block).await.0, AdminAnswer::Done);
    let refused = AdminAnswer::Rejected(Rejection::WalletBlocked);
    assert_eq!(ask(&node, key(2), bar.transfer(here, there, 100)).await, (refused, false));
    assert_eq!(ask(&node, key(2), bar.transfer(here, there, 100)).await, (refused, true));
    assert_eq!(wallet(&node, here).await.available, 7_500);
    // Whoever asks again while it is under way hears the same as whoever asked first.
    let asked = (0..20).map(|_| ask(&node, key(3), bar.transfer(here, guests[2], 100)));
    let told = join_all(asked).await;
    assert!(told.iter().all(|(answer, _)| *answer == told[0].0), "{told:?}");
    assert_eq!(told.iter().filter(|(_, repeated)| !repeated).count(), 1);
    assert_eq!(settled(&node, bar.festival).await, 80_000);
    node.stop().await;
}

/// When whoever revoked a terminal is told so, no shard takes its money any more.
#[tokio::test]
async fn a_revocation_is_answered_when_every_shard_knows() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path());
    let (bar, guests) = bar_with_guests(&node).await;
    for round in 2..22_u8 {
        let lent = at_the_admin(&node, move |mut admin| bar.enrol(&mut admin, round)).await;
        let lent = Bar { terminal: lent, ..bar };
        let pay = |from: u64| (0..8).map(move |n| lent.pay(from + n, wallets(SHARDS, 8)[n as usize], 1)).collect();
        let paid = at_the_terminal(&node, pay(1)).await;
        let verdicts = |replies: Vec<actors::TerminalReply>| -> Vec<CashlessVerdict> {
            replies.iter().map(|reply| reply.answer.verdict).collect()
        };
        assert_eq!(verdicts(paid), [CashlessVerdict::Paid; 8], "enrolled everywhere when that is told");
        let revoke = AdminAction::RevokeDevice { device: lent.terminal };
        assert_eq!(ask(&node, None, revoke).await.0, AdminAnswer::Done);
        let refused = at_the_terminal(&node, pay(9)).await;
        assert_eq!(verdicts(refused), [CashlessVerdict::Rejected(Rejection::DeviceRevoked); 8], "round {round}");
    }
    assert_eq!(wallet(&node, guests[0]).await.available, 10_000 - 20);
    node.stop().await;
}

#[tokio::test]
async fn a_wristband_and_its_wallet_lie_in_different_shards() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path());
    let (bar, guests) = bar_with_guests(&node).await;
    for n in 0..16_u8 {
        let tag = TagUid::new(&[4, n, 1, 2, 3, 4, 5]).unwrap();
        let link = |wallet, replace| {
            let festival = bar.festival;
            AdminAction::Cashless(CashlessAction::LinkTag { tag, wallet, festival, replace, create: false })
        };
        let guest = guests[usize::from(n) % 8];
        assert_eq!(ask(&node, None, link(guest, n >= 8)).await.0, AdminAnswer::Wallet(guest));
        let taken = ask(&node, None, link(guests[(usize::from(n) + 1) % 8], true)).await.0;
        assert_eq!(taken, AdminAnswer::Rejected(Rejection::TagTaken), "one chip, one wallet");
        let View::Tag(view) = node.query(Query::Tag(tag)).await else { panic!("no tag") };
        assert_eq!((view.state, view.wallet), (TagState::Linked, Some(guest)));
        assert_eq!(wallet(&node, guest).await.tag, Some((tag, view.version)));
    }
    node.stop().await;
}

/// The node goes down while transfers are under way, again and again; whoever asks again with the same key is told how
/// each ended, and no cent is lost or made.
#[tokio::test]
async fn transfers_survive_stops_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = start(dir.path());
    let (bar, guests) = bar_with_guests(&node).await;
    let transfer = |n: usize| bar.transfer(guests[n % 8], guests[(n * 5 + 3) % 8], 10 + (n % 100) as i64);
    let mut broken_off = 0;
    for round in 0..6_usize {
        let ids = round * 500..round * 500 + 500;
        let stopped = tokio::spawn({
            let node = node.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(round as u64 / 2)).await;
                node.stop().await;
            }
        });
        let told = join_all(ids.map(|n| ask(&node, key(1 + n as u128), transfer(n)))).await;
        stopped.await.unwrap();
        let waits = |answer| matches!(answer, AdminAnswer::Rejected(Rejection::Unavailable | Rejection::StillPending));
        broken_off += told.iter().filter(|(answer, _)| waits(*answer)).count();
        drop(node);
        node = start(dir.path());
    }
    for n in 0..3_000_usize {
        let (answer, _) = ask(&node, key(1 + n as u128), transfer(n)).await;
        let known = matches!(answer, AdminAnswer::Transaction { .. })
            || matches!(answer, AdminAnswer::Rejected(Rejection::InsufficientFunds | Rejection::SameWallet));
        assert!(known, "{n}: {answer:?}");
    }
    assert!(broken_off > 0, "none was under way when the node went down");
    assert_eq!(settled(&node, bar.festival).await, 80_000);
    node.stop().await;
}

/// Gates come first: a bar is turned away when its thread has much to do, while a gate's scans still go in; and what was
/// turned away, and only that, is named.
#[tokio::test]
async fn a_bar_is_turned_away_before_a_gate_is() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path());
    let (bar, guests) = bar_with_guests(&node).await;
    let told = Arc::new(Told::default());
    let inbox: Arc<dyn TerminalInbox> = told.clone();
    // Too many for one shard's thread, and one for another's.
    let too_many = TERMINALS_MAX as u64 + 1;
    let mut commands: Vec<_> = (1..=too_many).map(|seq| bar.pay(seq, guests[0], 1)).collect();
    commands.push(TerminalCommand { floor: too_many + 1, ..bar.pay(too_many + 1, guests[1], 1) });
    let refused = node.submit_terminal(commands, &inbox).unwrap_err();
    let [refused] = &refused[..] else { panic!("{} shards", refused.len()) };
    assert_eq!(refused.busy.rejection, Rejection::Busy);
    assert!(refused.seqs.iter().copied().eq(1..=too_many), "in their order, all of that shard's, and no others");
    let paid = tokio::task::spawn_blocking(move || told.wait(1)).await.unwrap();
    assert_eq!((paid[0].seq, paid[0].answer.verdict), (too_many + 1, CashlessVerdict::Paid));

    let (_, reader, tickets) = common::festival(&node, 1, Default::default()).await;
    let got = Arc::new(common::Got::default());
    let gate: Arc<dyn Inbox> = got.clone();
    let scans = (1..=too_many).map(|seq| common::scan(reader, seq, tickets[0])).collect();
    node.submit(scans, &gate).expect("a gate has room for as many");
    got.wait(too_many as usize);
    node.stop().await;
}
