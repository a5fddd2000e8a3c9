//! Every change of money, sent again: the same answer to the last byte, marked, and once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::house::{House, fresh, fresh_tag, vendor_id};

/// A UUID of version 7 that was made so long ago.
fn made_ago(ago: Duration) -> String {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - ago;
    let random = uuid::Uuid::parse_str(&fresh()).unwrap();
    let mut ten = [0; 10];
    ten.copy_from_slice(&random.as_bytes()[..10]);
    uuid::Builder::from_unix_timestamp_millis(at.as_millis() as u64, &ten).into_uuid().to_string()
}

#[tokio::test]
async fn the_same_key_the_same_answer_and_once() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    let (wallet, friend) = (house.wallet(&admin, "own", "100.00").await, house.wallet(&admin, "own", "7.00").await);
    let money = |amount: &str, mut more: Value| {
        more["amount"] = json!(amount);
        more["currency"] = json!("EUR");
        more
    };
    let pay = money("10.00", json!({"wallet": wallet, "vendorId": vendor_id("own", 0)}));
    let paid = house.post(&admin, "/cashless/pay", pay.clone()).await.is(200, "").json();
    let other = |mut body: Value, field: &str, value: Value| {
        body[field] = value;
        body
    };
    let topup = money("5.00", json!({"wallet": wallet, "festival": "own"}));
    let refund = money("1.00", json!({"transactionId": paid["transactionId"]}));
    let transfer = money("2.00", json!({"from": wallet, "to": friend}));
    let correction = money("-1.00", json!({"wallet": wallet, "reason": "why"}));
    let sell = json!({"festival": "own", "tag": fresh_tag()});
    let vendor = json!({"name": "Bar 8", "commissionRate": "5"});
    let product = json!({"name": "Stout", "price": "6", "vatRate": "19"});
    let terminal = json!({"name": "left", "vendor": 0});
    let link = json!({"tag": fresh_tag()});
    let claim = house.post(&admin, "/cashless/wallets", json!({"festival": "own", "tag": fresh_tag()})).await;
    let unclaimed = claim.is(201, "").json()["wallet"].as_str().unwrap().to_owned();
    let of = |rest: &str| format!("/cashless/wallets/{wallet}/{rest}");
    let changes = [
        ("/cashless/topup".to_owned(), topup.clone(), other(topup, "amount", json!("6.00"))),
        ("/cashless/pay".into(), pay.clone(), other(pay, "amount", json!("9.00"))),
        ("/cashless/refund".into(), refund.clone(), other(refund, "amount", json!("1.01"))),
        ("/cashless/transfer".into(), transfer.clone(), other(transfer, "amount", json!("2.01"))),
        ("/cashless/correction".into(), correction.clone(), other(correction, "reason", json!("other"))),
        ("/cashless/cash-out".into(), json!({"wallet": friend}), json!({"wallet": friend, "festival": "own"})),
        ("/cashless/wallets".into(), sell.clone(), Value::Null),
        (of("tag"), link.clone(), other(link, "replace", json!(true))),
        (of("tag/lost"), json!({}), Value::Null),
        (of("block"), json!({}), Value::Null),
        (of("unblock"), json!({}), Value::Null),
        (format!("/cashless/wallets/{unclaimed}/claim"), json!({"account": fresh()}), json!({"account": fresh()})),
        ("/festivals/own/vendors".into(), vendor.clone(), other(vendor, "open", json!(false))),
        ("/festivals/own/vendors/0/products".into(), product.clone(), other(product, "price", json!("7"))),
        ("/festivals/own/terminals/enrolment-codes".into(), terminal.clone(), other(terminal, "name", json!("right"))),
    ];
    for (path, body, another) in changes {
        let key = fresh();
        let first = house.call(&admin, "POST", &path, &key, Some(body.clone())).await;
        assert!(first.status.is_success() && !first.replayed(), "{path}: {} {}", first.status, first.text);
        let books = house.get(&admin, "/ledger/own/accounts").await.text;
        for _ in 0..2 {
            let again = house.call(&admin, "POST", &path, &key, Some(body.clone())).await;
            assert_eq!((again.status, &again.text), (first.status, &first.text), "{path}");
            assert!(again.replayed(), "{path}");
        }
        if !another.is_null() {
            house.call(&admin, "POST", &path, &key, Some(another)).await.is(409, "idempotency_conflict");
        }
        assert_eq!(house.get(&admin, "/ledger/own/accounts").await.text, books, "{path} moved money twice");
        let request = axum::http::Request::post(format!("/api/v1{path}"))
            .header("authorization", format!("Bearer {admin}"))
            .header("content-type", "application/json");
        let reply = house.send(request.body(body.to_string().into()).unwrap()).await;
        reply.is(400, "idempotency_key_missing");
    }
    house.stop().await;
}

/// A no is remembered like a yes; 72 hours later a key that says when it was made is refused, and moves nothing.
#[tokio::test]
async fn a_no_is_remembered_and_an_old_key_refused() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    let wallet = house.wallet(&admin, "own", "0.00").await;
    let pay = json!({"wallet": wallet, "vendorId": vendor_id("own", 0), "amount": "5.00", "currency": "EUR"});
    let key = fresh();
    let no = house.call(&admin, "POST", "/cashless/pay", &key, Some(pay.clone())).await;
    assert!(!no.is(409, "insufficient_funds").replayed());
    let cash = json!({"wallet": wallet, "festival": "own", "amount": "20.00", "currency": "EUR"});
    house.post(&admin, "/cashless/topup", cash.clone()).await.is(200, "");
    let again = house.call(&admin, "POST", "/cashless/pay", &key, Some(pay.clone())).await;
    assert!(again.is(409, "insufficient_funds").replayed(), "the same answer, though there is money now");

    let hour = Duration::from_secs(3_600);
    for path_and_body in [("/cashless/pay", &pay), ("/cashless/topup", &cash)] {
        let (path, body) = path_and_body;
        let old = made_ago(73 * hour);
        house.call(&admin, "POST", path, &old, Some(body.clone())).await.is(400, "idempotency_key_expired");
    }
    assert_eq!(house.balance(&admin, &wallet).await, "20.00");
    let young = made_ago(71 * hour);
    house.call(&admin, "POST", "/cashless/pay", &young, Some(pay.clone())).await.is(200, "");
    assert!(house.call(&admin, "POST", "/cashless/pay", &young, Some(pay)).await.is(200, "").replayed());
    assert_eq!(house.balance(&admin, &wallet).await, "15.00");
    house.stop().await;
}

/// A hundred at once for a wallet that holds enough for exactly one.
#[tokio::test]
async fn a_hundred_at_once_for_the_last_five_euros() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    let wallet = house.wallet(&admin, "own", "5.00").await;
    let pay = json!({"wallet": wallet, "vendorId": vendor_id("own", 0), "amount": "5.00", "currency": "EUR"});
    let all = (0..100).map(|_| house.post(&admin, "/cashless/pay", pay.clone()));
    let replies = futures_util::future::join_all(all).await;
    let paid = replies.iter().filter(|reply| reply.status == 200).count();
    let short = replies.iter().filter(|reply| reply.code() == (409, "insufficient_funds".into())).count();
    assert_eq!((paid, short), (1, 99));
    assert_eq!(house.balance(&admin, &wallet).await, "0.00");
    house.stop().await;
}
