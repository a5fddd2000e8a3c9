//! Transfers a second from wallet to wallet, in one shard and across two, on a real node with its journal:
//! `cargo run --release -p benches --example transfers -- [SECONDS] [AT_A_TIME] [DIR]`.
//!
//! A transfer inside a shard is one record; one across shards is three, each durable before the next step: reserved here,
//! credited there, settled here. Whoever asked is told at the end.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // a report is what this program is for; what fails ends it

use std::time::{Duration, Instant};

use actors::{Folder, Node, NodeConfig};
use engine::cashless::command::{CashlessAction, CashlessPolicy, Source, SourceKind};
use engine::command::{AdminAction, AdminAnswer, AdminCommand, IdempotencyKey};
use engine::model::ids::{FestivalId, Home, WalletId};
use engine::model::money::{Currency, Money};
use engine::model::principal::Principal;
use engine::model::status::Policy;
use engine::model::time::Timestamp;
use futures_util::future::join_all;

const SHARDS: u16 = 16;

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |or: u64| args.next().map_or(or, |arg| arg.parse().expect("a number"));
    let (seconds, at_a_time) = (number(5), number(256));
    let under = args.next().unwrap_or_else(|| "target".into());
    let dir = tempfile::tempdir_in(under).unwrap();
    let node = Folder { shards: SHARDS, ..Folder::new(dir.path()) }.start(NodeConfig::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let festival = festival(&node).await;
        println!("{at_a_time} at a time, {seconds} s each, every answer durable");
        for (what, across) in [("within a shard", false), ("across shards", true)] {
            let pairs: Vec<(WalletId, WalletId)> = (0..at_a_time).map(|nth| pair(nth, across)).collect();
            for (from, to) in &pairs {
                wallet(&node, festival, *from).await;
                wallet(&node, festival, *to).await;
            }
            let began = Instant::now();
            let until = began + Duration::from_secs(seconds);
            let walked = pairs.iter().enumerate().map(|(nth, pair)| walk(&node, festival, nth as u64, *pair, until));
            let mut took: Vec<u64> = join_all(walked).await.into_iter().flatten().collect();
            let rate = took.len() as f64 / began.elapsed().as_secs_f64();
            took.sort_unstable();
            let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
            let (half, most) = (at(0.5), at(0.99));
            println!("{what:<16} {rate:>9.0}/s   p50 {half} µs  p99 {most} µs");
        }
        node.stop().await;
    });
}

/// To and fro until the time is over; how long each took, in µs.
async fn walk(
    node: &Node,
    festival: FestivalId,
    nth: u64,
    (mut from, mut to): (WalletId, WalletId),
    until: Instant,
) -> Vec<u64> {
    let mut took = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        let id = u128::from(from.0) << 64 | u128::from(nth) << 40 | took.len() as u128;
        let key = Some(IdempotencyKey { id, fingerprint: 1, made_at: None });
        let amount = Money { minor: 100, currency: Currency::EUR };
        let action = AdminAction::Cashless(CashlessAction::Transfer { from, to, festival, amount });
        match node.ask(AdminCommand { key, by: Principal::ApiKey(nth as u32 + 1), action }).await.0 {
            AdminAnswer::Transaction { .. } => took.push(began.elapsed().as_micros() as u64),
            other => panic!("{other:?}"),
        }
        core::mem::swap(&mut from, &mut to);
    }
    took
}

/// Two wallets of one shard, or of two.
fn pair(nth: u64, across: bool) -> (WalletId, WalletId) {
    let base = (nth + 1) << 20 | u64::from(across) << 50;
    let shard = |id: u64| Home::Wallet(WalletId(id)).shard(SHARDS);
    let other = (base + 1..).find(|id| (shard(*id) != shard(base)) == across).expect("ids do not end");
    (WalletId(base), WalletId(other))
}

async fn ask(node: &Node, action: AdminAction) -> AdminAnswer {
    node.ask(AdminCommand { key: None, by: Principal::Installation, action }).await.0
}

async fn festival(node: &Node) -> FestivalId {
    let (starts_at, ends_at, policy) = (Timestamp(0), Timestamp(i64::MAX), Policy::default());
    let made = AdminAction::CreateFestival {
        slug: "bench".into(),
        name: "Bench".into(),
        starts_at,
        ends_at,
        policy,
        calendar: engine::model::time::Calendar::default(),
    };
    let AdminAnswer::Festival(festival) = ask(node, made).await else { panic!("no festival") };
    let policy = CashlessAction::SetPolicy { festival, policy: CashlessPolicy::default() };
    assert_eq!(ask(node, AdminAction::Cashless(policy)).await, AdminAnswer::Done);
    festival
}

async fn wallet(node: &Node, festival: FestivalId, wallet: WalletId) {
    let make = CashlessAction::CreateWallet { wallet, festival, account: None };
    assert_eq!(ask(node, AdminAction::Cashless(make)).await, AdminAnswer::Wallet(wallet));
    let source = Source::new(SourceKind::Desk, festival, 1);
    let amount = Money { minor: 20_000, currency: Currency::EUR };
    let cash = CashlessAction::TopUp { wallet, festival, amount, source, taken: true };
    assert!(matches!(ask(node, AdminAction::Cashless(cash)).await, AdminAnswer::Transaction { .. }));
}
