//! The money's half of the live stream, over a real node with two shards and terminals at its door.

mod common;

use std::sync::Arc;

use axum::body::BodyDataStream;
use common::terminal::{BAR, cashless, eur, guest, terminal};
use engine::cashless::command::CashlessVerdict;
use engine::model::rejection::Rejection;
use futures_util::StreamExt as _;
use gateway::live::LiveHub;
use gateway::server::latency::LatencyTracker;
use serde_json::Value;
use tapgate_client::Shown;

/// One viewer's stream.
struct Viewer(BodyDataStream);

impl Viewer {
    async fn of(house: &common::House) -> Self {
        let hub = LiveHub::new(house.node.clone(), Arc::new(LatencyTracker::new()));
        let watching = hub.watch(house.festival).await.unwrap();
        // The hub's samplers hold it; its handle here may go.
        Self(watching.into_response(false, async || true).into_body().into_data_stream())
    }

    /// The data of the next event.
    async fn next(&mut self) -> Value {
        loop {
            let bytes = self.0.next().await.expect("it goes on").unwrap();
            let text = str::from_utf8(&bytes).unwrap();
            if let Some((_, data)) = text.split_once("data: ") {
                return serde_json::from_str(data.trim()).unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_terminals_take_and_refuse_is_seen_by_whoever_watches() {
    let house = common::open().await;
    let before = Viewer::of(&house).await.next().await;
    assert_eq!(before["now"]["cash"], Value::Null, "a festival without cashless has no half");
    assert_eq!(before["now"]["gates"][0]["name"], "North");

    cashless(&house).await;
    let bar = terminal(&house, Some(BAR), false).await;
    let _desk = terminal(&house, None, true).await;
    // Wallets live in both shards: only together do their parts make the festival's books.
    let mut wallets = Vec::new();
    for number in 1..=8 {
        wallets.push(guest(&house, number, 2_000).await);
    }
    let mut viewer = Viewer::of(&house).await;
    let cash = viewer.next().await["now"]["cash"].clone();
    assert_eq!((&cash["inWallets"], &cash["sold"]), (&"160.00".into(), &"0.00".into()));
    assert_eq!((&cash["terminals"]["heard"], &cash["terminals"]["unused"]), (&0.into(), &2.into()));

    for &wallet in &wallets {
        let told = bar.pay(Shown::Wallet(wallet), eur(1_250), &[]).await.unwrap();
        assert_eq!(told.answer.verdict, CashlessVerdict::Paid);
    }
    let told = bar.pay(Shown::Wallet(wallets[3]), eur(1_250), &[]).await.unwrap();
    assert_eq!(told.answer.verdict, CashlessVerdict::Rejected(Rejection::InsufficientFunds));

    let (mut payments, mut minor, mut refused) = (0, 0, 0);
    let cash = loop {
        let second = viewer.next().await;
        let point = &second["point"]["cash"];
        payments += point["vendors"][0][0].as_u64().unwrap();
        minor += point["soldMinor"].as_u64().unwrap();
        refused += point["reasons"]["insufficient_funds"].as_u64().unwrap_or(0);
        if refused > 0 {
            break second["now"]["cash"].clone();
        }
    };
    assert_eq!((payments, minor, refused), (8, 10_000, 1), "seconds add up to what has happened");
    assert_eq!((&cash["inWallets"], &cash["sold"]), (&"60.00".into(), &"100.00".into()));
    assert_eq!((&cash["commission"], &cash["payable"]), (&"10.00".into(), &"90.00".into()));
    assert_eq!((&cash["trialBalance"], &cash["current"]), (&"0.00".into(), &true.into()));
    assert_eq!((&cash["vendors"][0]["name"], &cash["vendors"][0]["sold"]), (&"Bar 7".into(), &"100.00".into()));
    let latest = &cash["latest"][0];
    assert_eq!(
        (&latest["terminal"], &latest["vendor"], &latest["amount"]),
        (&"Till".into(), &0.into(), &"12.50".into())
    );
    assert_eq!(latest["say"], "There is not enough money on this wristband.");
    assert_eq!((&cash["terminals"]["heard"], &cash["vendors"][0]["heard"]), (&1.into(), &1.into()));

    bar.close().await;
    house.node.stop().await;
    let last = loop {
        let second = viewer.next().await;
        if second["now"]["recording"] == Value::Bool(false) {
            break second["now"]["cash"].clone();
        }
    };
    assert_eq!((&last["sold"], &last["current"]), (&"100.00".into(), &false.into()), "the last figures stand, marked");
    house.close().await;
}
