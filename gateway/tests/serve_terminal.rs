//! A bar at a real server: set up over HTTP as an operator does, its terminals over QUIC, and the server killed under way.

mod common;

use std::time::{Duration, Instant};

use common::night;
use common::process::{Operator, Running};
use common::till::{eur, line, tag};
use engine::command::CashVerdict;
use engine::ids::WalletId;
use gateway::client::{ClientError, DeviceKey, Event, Offer, ReaderOptions, Shown, Terminal, enrol_key};
use rustix::process::Signal;
use serde_json::{Value, json};

const GUESTS: u32 = 12;

async fn terminal(office: &Operator, what: Value, options: ReaderOptions) -> Terminal {
    let code = office.post("/festivals/night/terminals/enrolment-codes", &what);
    let offer: Offer = code.json()["offer"].as_str().unwrap().parse().unwrap();
    let identity = enrol_key(None, &offer, DeviceKey::generate().unwrap()).await.unwrap();
    Terminal::connect(identity, options).await.unwrap()
}

struct Guest {
    wallet: WalletId,
    qr: Vec<u8>,
    band: Shown,
}

/// Wallets with wristbands, made in one call.
fn guests(office: &Operator) -> Vec<Guest> {
    let uid = |n| tag(n).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines: String = (0..GUESTS).map(|n| json!({"tag": uid(n)}).to_string() + "\n").collect();
    let made = office.call("POST", "/festivals/night/wallets", "application/x-ndjson", &lines);
    assert_eq!(made.status, 200, "{made:?}");
    let guest = |(n, made): (u32, &str)| {
        let made: Value = serde_json::from_str(made).unwrap();
        let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        Guest {
            wallet: WalletId::parse(text("wallet").as_bytes()).unwrap(),
            qr: text("qr").into_bytes(),
            band: Shown::Tag(tag(n)),
        }
    };
    (0..).zip(made.text.lines()).map(guest).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bar_goes_on_where_its_server_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut server = Running::start(&data, &[]);
    let office = server.admin(&data);
    night::found(&office);
    let limits = office.call("PUT", "/festivals/night/cashless", "application/json", r#"{"currency":"EUR"}"#);
    assert_eq!(limits.status, 204, "{limits:?}");
    office.post("/festivals/night/vendors", &json!({"name": "Bar 7", "commissionRate": "10"}));
    let beer = json!({"name": "Beer", "price": "5.00", "vatRate": "19"});
    office.post("/festivals/night/vendors/0/products", &beer);
    let guests = guests(&office);
    let desk = terminal(&office, json!({"name": "Desk", "cashier": true}), ReaderOptions::default()).await;
    let queue = ReaderOptions::with_queue(&folder.path().join("queue"));
    let bar = terminal(&office, json!({"name": "Left", "vendor": 0}), queue).await;
    for guest in &guests {
        let told = desk.top_up(guest.band.clone(), eur(50_000)).await.unwrap();
        assert_eq!((told.answer.verdict, told.answer.wallet), (CashVerdict::ToppedUp, guest.wallet));
    }

    let mut evening = tokio::task::JoinSet::new();
    for guest in &guests {
        let shown = [guest.band.clone(), Shown::Qr(guest.qr.clone()), Shown::Wallet(guest.wallet)];
        let bar = bar.clone();
        evening.spawn(async move {
            for shown in shown.iter().cycle().take(60) {
                let told = bar.pay(shown.clone(), eur(500), &[line(0, 1, 500)]).await.unwrap();
                assert_eq!(told.answer.verdict, CashVerdict::Paid, "{shown:?}");
            }
        });
    }
    let mut events = bar.events();
    tokio::time::sleep(Duration::from_millis(150)).await;
    server.child.kill().unwrap(); // SIGKILL
    server.child.wait().unwrap();
    let quic = server.quic.to_string();
    let server = Running::start(&data, &["--quic", &quic]);
    let back = Instant::now();
    while !matches!(events.recv().await.unwrap(), Event::Connected(_)) {}
    assert!(
        back.elapsed() < Duration::from_secs(10),
        "not when its patience of 30 s is at an end: {:?}",
        back.elapsed()
    );
    let each = tokio::time::timeout(Duration::from_secs(60), evening.join_all());
    each.await.expect("each payment is answered");

    // The terminal asks what became of its last ones; the lists follow, and say by how much they are behind.
    let lately = loop {
        match bar.recent(50).await {
            Ok(lately) if lately.behind == 0 => break lately,
            Ok(_) | Err(ClientError::NoLists) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(lately.rows.len(), 50);
    assert!(lately.rows.iter().all(|row| row.answer.verdict == CashVerdict::Paid && row.answer.amount == 500));
    assert!(lately.rows.is_sorted_by(|newer, older| newer.answer.at >= older.answer.at));
    let numbers: std::collections::BTreeSet<u64> = lately.rows.iter().map(|row| row.seq).collect();
    assert_eq!((numbers.len(), numbers.contains(&0)), (50, false), "by its own numbers");
    assert_eq!(bar.recent(3).await.unwrap().rows, lately.rows[..3]);

    // Over HTTP it is the same money.
    let office = server.operator(office.key());
    for guest in &guests {
        let balance = bar.balance(guest.band.clone()).await.unwrap().answer.balance;
        assert_eq!(balance, 50_000 - 60 * 500, "each payment was taken once");
        let account = office.get(&format!("/cashless/account?wallet={}", guest.wallet)).json();
        assert_eq!(account["balance"], "200.00");
    }
    bar.close().await;
    assert_eq!(server.end(Signal::TERM), Some(0));
}
