//! A bar at a real server: set up over HTTP as an operator does, its terminals over QUIC, and the server killed under way.

mod common;

use std::time::{Duration, Instant};

use common::night;
use common::process::{Operator, Running};
use common::terminal::{eur, line, tag};
use engine::cashless::command::CashlessVerdict;
use engine::model::ids::{ProductNo, TransactionId, WalletId};
use engine::model::rejection::Rejection;
use rustix::process::Signal;
use serde_json::{Value, json};
use tapgate_client::{ClientError, DeviceKey, Event, Link, ReaderOptions, Shown, Terminal, enrol_key};
use tapgate_wire::{Frame, Offer, Refund, ReturnedItem};

const GUESTS: u32 = 12;

async fn terminal(admin: &Operator, what: Value, options: ReaderOptions) -> Terminal {
    let code = admin.post("/festivals/night/terminals/enrolment-codes", &what);
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
fn guests(admin: &Operator) -> Vec<Guest> {
    let uid = |n| tag(n).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines: String = (0..GUESTS).map(|n| json!({"tag": uid(n)}).to_string() + "\n").collect();
    let made = admin.call("POST", "/festivals/night/wallets", "application/x-ndjson", &lines);
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
    let admin = server.admin(&data);
    night::found(&admin);
    let limits = admin.call("PUT", "/festivals/night/cashless", "application/json", r#"{"currency":"EUR"}"#);
    assert_eq!(limits.status, 204, "{limits:?}");
    admin.post("/festivals/night/vendors", &json!({"name": "Bar 7", "commissionRate": "10"}));
    let beer = json!({"name": "Beer", "price": "5.00", "vatRate": "19"});
    admin.post("/festivals/night/vendors/0/products", &beer);
    let guests = guests(&admin);
    let desk = terminal(&admin, json!({"name": "Desk", "cashier": true}), ReaderOptions::default()).await;
    let queue = ReaderOptions::with_queue(&folder.path().join("queue"));
    let bar = terminal(&admin, json!({"name": "Left", "vendor": 0}), queue).await;
    for guest in &guests {
        let told = desk.top_up(guest.band.clone(), eur(50_000)).await.unwrap();
        assert_eq!((told.answer.verdict, told.answer.wallet), (CashlessVerdict::ToppedUp, guest.wallet));
    }

    let mut evening = tokio::task::JoinSet::new();
    for guest in &guests {
        let shown = [guest.band.clone(), Shown::Qr(guest.qr.clone()), Shown::Wallet(guest.wallet)];
        let bar = bar.clone();
        evening.spawn(async move {
            for shown in shown.iter().cycle().take(60) {
                let told = bar.pay(shown.clone(), eur(500), &[line(0, 1, 500)]).await.unwrap();
                assert_eq!(told.answer.verdict, CashlessVerdict::Paid, "{shown:?}");
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
    assert!(lately.rows.iter().all(|row| row.answer.verdict == CashlessVerdict::Paid && row.answer.amount == 500));
    assert!(lately.rows.is_sorted_by(|newer, older| newer.answer.at >= older.answer.at));
    let numbers: std::collections::BTreeSet<u64> = lately.rows.iter().map(|row| row.seq).collect();
    assert_eq!((numbers.len(), numbers.contains(&0)), (50, false), "by its own numbers");
    assert_eq!(bar.recent(3).await.unwrap().rows, lately.rows[..3]);

    // Over HTTP it is the same money.
    let admin = server.operator(admin.key());
    for guest in &guests {
        let balance = bar.balance(guest.band.clone()).await.unwrap().answer.balance;
        assert_eq!(balance, 50_000 - 60 * 500, "each payment was taken once");
        let account = admin.get(&format!("/cashless/account?wallet={}", guest.wallet)).json();
        assert_eq!(account["balance"], "200.00");
    }
    bar.close().await;
    assert_eq!(server.end(Signal::TERM), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_product_comes_back_and_every_report_says_so() {
    use Rejection::*;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Running::start(&data, &[]);
    let admin = server.admin(&data);
    night::found(&admin);
    admin.call("PUT", "/festivals/night/cashless", "application/json", r#"{"currency":"EUR"}"#);
    for bar in ["Bar 7", "Bar 8"] {
        admin.post("/festivals/night/vendors", &json!({"name": bar, "commissionRate": "10"}));
    }
    for (name, price, vat) in [("Beer", "5.00", "19"), ("Water", "2.50", "7")] {
        let product = json!({"name": name, "price": price, "vatRate": vat});
        admin.post("/festivals/night/vendors/0/products", &product);
    }
    let band = guests(&admin)[0].band.clone();
    let desk = terminal(&admin, json!({"name": "Desk", "cashier": true}), ReaderOptions::default()).await;
    let bar = terminal(&admin, json!({"name": "Left", "vendor": 0}), ReaderOptions::default()).await;
    let other = terminal(&admin, json!({"name": "Right", "vendor": 1}), ReaderOptions::default()).await;
    let topped_up = desk.top_up(band.clone(), eur(5_000)).await.unwrap().transaction().unwrap();
    let lines = [line(0, 1, 500), line(1, 2, 250), line(0, 1, 500)];
    let payment = bar.pay(band.clone(), eur(1_500), &lines).await.unwrap().transaction().unwrap();
    let bare = bar.pay(band, eur(500), &[]).await.unwrap().transaction().unwrap();
    let never = TransactionId { serial: 1 << 39, ..payment };
    let (beer, water) = (ProductNo(0), ProductNo(1));

    // Nothing of it is given back, whatever is wrong with it, and whoever asks.
    for (what, by, payment, products, rejection) in [
        ("what it does not have", &bar, payment, vec![(ProductNo(7), 1)], LinesMismatch),
        ("something it does not have", &bar, payment, vec![(beer, 1), (ProductNo(7), 1)], LinesMismatch),
        ("none of it", &bar, payment, vec![(beer, 0)], LinesMismatch),
        ("one, and none of another", &bar, payment, vec![(beer, 1), (water, 0)], LinesMismatch),
        ("one too many", &bar, payment, vec![(beer, 3)], RefundExceedsPayment),
        ("one too many in two lines", &bar, payment, vec![(water, 1), (water, 2)], RefundExceedsPayment),
        ("as many as a line can say", &bar, payment, vec![(beer, u16::MAX); 32], RefundExceedsPayment),
        ("a product of a bare amount", &bar, bare, vec![(beer, 1)], LinesMismatch),
        ("another vendor's", &other, payment, vec![(beer, 1)], NotYourPayment),
        ("another vendor's, that it does not have", &other, payment, vec![(ProductNo(7), 1)], NotYourPayment),
        ("a vendor's, at a desk", &desk, payment, vec![(beer, 1)], NotYourPayment),
        ("of a top-up", &bar, topped_up, vec![(beer, 1)], NotAPayment),
        ("of what never was", &bar, never, vec![(beer, 1)], UnknownTransaction),
    ] {
        let told = by.refund_products(payment, &products).await.expect(what);
        assert_eq!(told.answer.verdict, CashlessVerdict::Rejected(rejection), "{what}");
    }
    let many = bar.refund_products(payment, &[(beer, 1); 33]).await;
    assert!(matches!(many, Err(ClientError::TooManyLines)), "{many:?}");

    // A frame may say what it comes to, which has to be so; sent again it is the same refund.
    let code = admin.post("/festivals/night/terminals/enrolment-codes", &json!({"name": "Bare", "vendor": 0}));
    let offer: Offer = code.json()["offer"].as_str().unwrap().parse().unwrap();
    let identity = enrol_key(None, &offer, DeviceKey::generate().unwrap()).await.unwrap();
    let mut link = Link::open(None, &identity).await.unwrap();
    let returned = [ReturnedItem::new(water, 1)];
    let refund = |seq, minor, resent| {
        let amount = Some(eur(minor));
        Frame::Refund(Refund { seq, floor: 1, payment, amount, lines: &returned, resent })
    };
    let differs = CashlessVerdict::Rejected(LinesMismatch);
    for (frame, verdict, balance) in [
        (refund(1, 251, false), differs, 3_000),
        (refund(2, 500, false), differs, 3_000),
        (refund(3, 250, false), CashlessVerdict::Refunded, 3_250),
        (refund(3, 250, true), CashlessVerdict::Refunded, 3_250),
    ] {
        link.send.write_all(&frame.to_bytes()).await.unwrap();
        let mut told = None;
        while told.is_none() {
            let heard = link.frames.take(|frame| {
                if let Frame::CashlessAnswer { answer, .. } = frame {
                    told = Some((answer.verdict, answer.balance));
                }
            });
            heard.unwrap();
            assert!(told.is_some() || link.frames.fill().await.unwrap(), "the stream goes on");
        }
        assert_eq!(told, Some((verdict, balance)), "{frame:?}");
    }
    link.close().await;

    let back = bar.refund_products(payment, &[(beer, 1), (water, 1)]).await.unwrap();
    assert_eq!((back.answer.verdict, back.answer.amount, back.answer.balance), (CashlessVerdict::Refunded, 750, 4_000));
    let more = bar.refund_products(payment, &[(water, 1)]).await.unwrap();
    assert_eq!(more.answer.verdict, CashlessVerdict::Rejected(RefundExceedsPayment));

    // Products, VAT and settlement say the same, product by product and rate by rate.
    let began = Instant::now();
    let sales = |by: &str| admin.get(&format!("/festivals/night/vendors/0/sales/{by}")).json()["items"].clone();
    let products = loop {
        let products = sales("products");
        let waters = products.as_array().into_iter().flatten().find(|row| row["product"] == 1);
        if waters.is_some_and(|row| row["returned"] == 2) {
            break products;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{products}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let product = |no: u16| products.as_array().unwrap().iter().find(|row| row["product"] == no).unwrap();
    for (no, gross, refunded, returned) in [(0, "10.00", "5.00", 1), (1, "5.00", "5.00", 2)] {
        let row = product(no);
        assert_eq!((&row["gross"], &row["refunded"]), (&json!(gross), &json!(refunded)), "{row}");
        assert_eq!(row["returned"], returned);
    }
    let rates: Vec<(Value, Value)> =
        sales("vat").as_array().unwrap().iter().map(|row| (row["vatRate"].clone(), row["refunded"].clone())).collect();
    let rate = |rate: &str, refunded: &str| (json!(rate), json!(refunded));
    assert_eq!(rates, [rate("0.00", "0.00"), rate("7.00", "5.00"), rate("19.00", "5.00")]);
    let settled = admin.get("/festivals/night/settlement?vendor=0").json();
    let period = &settled["vendors"][0]["period"];
    // 20.00 were sold and 10.00 given back; a tenth of each is the organiser's.
    let sums = ["sold", "refunded", "commission", "payable"].map(|sum| period[sum].as_str().unwrap());
    assert_eq!((sums, &period["refunds"]), (["20.00", "10.00", "1.00", "9.00"], &json!(2)), "{settled}");
    assert_eq!(server.end(Signal::TERM), Some(0));
}
