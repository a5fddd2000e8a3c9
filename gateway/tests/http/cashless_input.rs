//! What cannot be, with the answer named: a table for each route.

use engine::model::status::Role;
use serde_json::{Value, json};

use crate::house::{House, fresh, fresh_tag, vendor_id};

/// `body` with one field set; `null` takes it away.
fn edited(body: &Value, field: &str, value: &Value) -> Value {
    let mut body = body.clone();
    match value {
        Value::Null => drop(body.as_object_mut().unwrap().remove(field)),
        value => body[field] = value.clone(),
    }
    body
}

/// Amounts that every route refuses alike: field, value, status, code.
fn amounts() -> Vec<(&'static str, Value, u16, &'static str)> {
    let text = |amount: &str, code| ("amount", json!(amount), 422, code);
    let mut table: Vec<_> = [
        "0",
        "0.00",
        "0.001",
        "1.005",
        "1000000000000",
        "10000000000",
        "NaN",
        "Infinity",
        "",
        "1e3",
        "5,00",
        " 5",
        "€5",
    ]
    .iter()
    .map(|amount| text(amount, "invalid_amount"))
    .collect();
    table.extend([
        ("amount", json!(5), 422, "validation"),
        ("amount", json!(12.5), 422, "validation"),
        ("amount", json!(["5"]), 422, "validation"),
        ("amount", Value::Null, 422, "validation"),
        ("currency", json!("USD"), 422, "wrong_currency"),
        ("currency", json!("eur"), 422, "validation"),
        ("currency", json!(978), 422, "validation"),
        ("currency", Value::Null, 422, "validation"),
    ]);
    table
}

/// Tries each edit of a good body; nothing may move.
async fn tables(house: &House, key: &str, path: &str, good: &Value, table: &[(&str, Value, u16, &str)]) {
    let books = house.get(key, "/ledger/own/accounts").await.text;
    for (field, value, status, code) in table {
        let body = edited(good, field, value);
        let reply = house.post(key, path, body.clone()).await;
        assert_eq!(reply.code(), (*status, (*code).to_owned()), "{path} {body}: {}", reply.text);
        let problem = reply.json();
        if matches!(*code, "invalid_amount" | "validation") {
            let pointer = problem["errors"][0]["pointer"].as_str().unwrap();
            assert_eq!(pointer.split('/').nth(1), Some(*field), "{path} {body}: {}", reply.text);
        }
        let aloud = problem["title"].as_str().unwrap();
        assert!(aloud.ends_with('.') && aloud.starts_with(char::is_uppercase), "{aloud}");
    }
    assert_eq!(house.get(key, "/ledger/own/accounts").await.text, books, "{path} moved money");
    house.post(key, path, good.clone()).await.is(200, "");
}

#[tokio::test]
async fn topups() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    let wallet = house.wallet(&admin, "own", "0.00").await;
    let good = json!({"wallet": wallet, "festival": "own", "amount": "500.00", "currency": "EUR", "method": "cash"});
    let mut table = amounts();
    table.extend([
        ("amount", json!("-1"), 422, "invalid_amount"),
        ("amount", json!("4.99"), 422, "below_min_topup"),
        ("amount", json!("500.01"), 422, "above_max_topup"),
        ("amount", json!("9999999999.99"), 422, "above_max_topup"),
        ("wallet", json!(fresh()), 404, "unknown_wallet"),
        ("wallet", json!(engine::model::ids::WalletId(7).to_string()), 404, "unknown_wallet"),
        ("wallet", json!("W1"), 422, "validation"),
        ("wallet", Value::Null, 422, "validation"),
        ("festival", json!("nowhere"), 409, "not_cashless"),
        ("festival", Value::Null, 422, "validation"),
        ("method", json!("card"), 501, "card_payments_unavailable"),
        ("method", json!("cheque"), 422, "validation"),
        ("tip", json!("1.00"), 422, "validation"),
    ]);
    tables(&house, &admin, "/cashless/topup", &good, &table).await;
    house.post(&admin, "/cashless/topup", good.clone()).await.is(200, "");
    let full = edited(&good, "amount", &json!("5.00"));
    house.post(&admin, "/cashless/topup", full.clone()).await.is(409, "above_max_balance");
    house.post(&admin, &format!("/cashless/wallets/{wallet}/block"), json!({})).await.is(204, "");
    house.post(&admin, "/cashless/topup", full).await.is(409, "wallet_blocked");
    house.post(&admin, "/festivals/own/status", json!({"status": "CANCELLED"})).await.is(204, "");
    let other = house.wallet(&admin, "own", "0.00").await;
    let late = edited(&good, "wallet", &json!(other));
    house.post(&admin, "/cashless/topup", late).await.is(409, "festival_not_active");
    house.stop().await;
}

#[tokio::test]
async fn payments() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    let wallet = house.wallet(&admin, "own", "50.00").await;
    let lines = json!([{"product": 0, "count": 2, "price": "5.00"}]);
    let good = json!({
        "wallet": wallet, "vendorId": vendor_id("own", 0), "amount": "10.00", "currency": "EUR", "lines": lines,
    });
    let line = |product: u32, count: i32, price: &str| json!([{"product": product, "count": count, "price": price}]);
    let many: Vec<Value> = (0..1_000).map(|_| json!({"product": 0, "count": 1, "price": "0.01"})).collect();
    let mut table = amounts();
    table.extend([
        ("amount", json!("-1"), 422, "invalid_amount"),
        ("amount", json!("9.99"), 422, "lines_mismatch"),
        ("lines", line(0, 2, "5.01"), 422, "lines_mismatch"),
        ("lines", line(0, 0, "10.00"), 422, "lines_mismatch"),
        ("lines", Value::Array(many[..33].to_vec()), 422, "lines_mismatch"),
        ("lines", line(0, -1, "10.00"), 422, "validation"),
        ("lines", line(0, 1, "-10.00"), 422, "validation"),
        ("lines", line(0, 1, "10.001"), 422, "validation"),
        ("lines", json!([{"product": 0, "count": 1, "price": 10}]), 422, "validation"),
        ("lines", line(9, 1, "10.00"), 404, "unknown_product"),
        ("lines", line(65_536, 1, "10.00"), 422, "validation"),
        ("vendorId", json!(vendor_id("own", 9)), 404, "unknown_vendor"),
        ("vendorId", json!(vendor_id("never", 0)), 409, "not_cashless"),
        ("vendorId", json!(0), 422, "validation"),
        ("vendorId", json!("bar 7"), 422, "validation"),
        ("wallet", json!(fresh()), 404, "unknown_wallet"),
        ("wallet", json!(""), 422, "validation"),
    ]);
    tables(&house, &admin, "/cashless/pay", &good, &table).await;
    house.post(&admin, "/cashless/pay", edited(&good, "lines", &Value::Array(many))).await.is(413, "body_too_large");
    let bare = edited(&good, "lines", &Value::Null);
    house.post(&admin, "/cashless/pay", edited(&bare, "amount", &json!("40.01"))).await.is(409, "insufficient_funds");
    let closed = json!({"name": "Bar 7", "commissionRate": "10", "open": false});
    house.put(&admin, "/festivals/own/vendors/0", closed).await.is(204, "");
    house.post(&admin, "/cashless/pay", good.clone()).await.is(409, "vendor_closed");
    let open = json!({"name": "Bar 7", "commissionRate": "10"});
    house.put(&admin, "/festivals/own/vendors/0", open).await.is(204, "");
    house.put(&admin, "/festivals/own/cashless", json!({"currency": "EUR", "minPayment": "2.00"})).await.is(204, "");
    house.post(&admin, "/cashless/pay", edited(&bare, "amount", &json!("1.99"))).await.is(422, "below_min_payment");
    house.post(&admin, &format!("/cashless/wallets/{wallet}/block"), json!({})).await.is(204, "");
    house.post(&admin, "/cashless/pay", good).await.is(409, "wallet_blocked");
    house.stop().await;
}

#[tokio::test]
async fn refunds() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    let wallet = house.wallet(&admin, "own", "50.00").await;
    let pay = json!({"wallet": wallet, "vendorId": vendor_id("own", 0), "amount": "10.00", "currency": "EUR"});
    let paid = house.post(&admin, "/cashless/pay", pay).await.is(200, "").json()["transactionId"].clone();
    let topup = json!({"wallet": wallet, "festival": "own", "amount": "5.00", "currency": "EUR"});
    let topped = house.post(&admin, "/cashless/topup", topup).await.is(200, "").json()["transactionId"].clone();
    let good = json!({"transactionId": paid, "amount": "4.00", "currency": "EUR"});
    // A refund of all that is left may leave both out, but not one of them.
    let mut table = amounts();
    table.retain(|(field, value, ..)| !(value.is_null() && matches!(*field, "amount" | "currency")));
    let id = engine::model::ids::TransactionId::parse(paid.as_str().unwrap().as_bytes()).unwrap();
    let of = |wallet, serial| json!(engine::model::ids::TransactionId { wallet, serial }.to_string());
    table.extend([
        ("amount", json!("-1"), 422, "invalid_amount"),
        ("amount", json!("10.01"), 409, "refund_exceeds_payment"),
        ("transactionId", topped, 409, "not_a_payment"),
        ("transactionId", of(id.wallet, 9_999), 404, "unknown_transaction"),
        ("transactionId", of(engine::model::ids::WalletId(7), id.serial), 404, "unknown_transaction"),
        ("transactionId", json!(wallet), 404, "unknown_transaction"),
        ("transactionId", json!(fresh()), 404, "unknown_transaction"),
        ("transactionId", json!("P1"), 422, "validation"),
        ("transactionId", json!(7), 422, "validation"),
        ("transactionId", Value::Null, 422, "validation"),
    ]);
    tables(&house, &admin, "/cashless/refund", &good, &table).await;
    for (field, missing) in [("amount", "/amount"), ("currency", "/currency")] {
        let reply = house.post(&admin, "/cashless/refund", edited(&good, field, &Value::Null)).await;
        assert_eq!(reply.is(422, "validation").json()["errors"][0]["pointer"], missing);
    }
    house
        .post(&admin, "/cashless/refund", edited(&good, "amount", &json!("6.01")))
        .await
        .is(409, "refund_exceeds_payment");
    let refund = house.post(&admin, "/cashless/refund", json!({"transactionId": paid})).await.is(200, "").json();
    assert_eq!(refund["amount"], "6.00");
    house.post(&admin, "/cashless/refund", good).await.is(409, "already_refunded");
    let of_refund = json!({"transactionId": refund["transactionId"]});
    house.post(&admin, "/cashless/refund", of_refund).await.is(409, "not_a_payment");

    // Twice at once, together more than was paid: one of them.
    let pay = json!({"wallet": wallet, "vendorId": vendor_id("own", 0), "amount": "10.00", "currency": "EUR"});
    let paid = house.post(&admin, "/cashless/pay", pay).await.is(200, "").json()["transactionId"].clone();
    let six = json!({"transactionId": paid, "amount": "6.00", "currency": "EUR"});
    let both = [house.post(&admin, "/cashless/refund", six.clone()), house.post(&admin, "/cashless/refund", six)];
    let mut codes: Vec<_> = futures_util::future::join_all(both).await.iter().map(|reply| reply.code()).collect();
    codes.sort();
    assert_eq!(codes, [(200, String::new()), (409, "refund_exceeds_payment".into())]);
    house.stop().await;
}

#[tokio::test]
async fn transfers() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    let (from, to) = (house.wallet(&admin, "own", "500.00").await, house.wallet(&admin, "own", "0.00").await);
    let (full, blocked) = (house.wallet(&admin, "own", "500.00").await, house.wallet(&admin, "own", "0.00").await);
    let topup = json!({"wallet": full, "festival": "own", "amount": "500.00", "currency": "EUR"});
    house.post(&admin, "/cashless/topup", topup).await.is(200, "");
    house.post(&admin, &format!("/cashless/wallets/{blocked}/block"), json!({})).await.is(204, "");
    let good = json!({"from": from, "to": to, "amount": "5.00", "currency": "EUR"});
    let mut table = amounts();
    table.extend([
        ("amount", json!("-1"), 422, "invalid_amount"),
        ("amount", json!("500.01"), 409, "insufficient_funds"),
        ("to", json!(from), 409, "same_wallet"),
        ("to", json!(blocked), 409, "wallet_blocked"),
        ("to", json!(full), 409, "above_max_balance"),
        ("to", json!(engine::model::ids::WalletId(7).to_string()), 404, "unknown_wallet"),
        ("to", json!("W2"), 422, "validation"),
        ("to", Value::Null, 422, "validation"),
        ("from", json!(blocked), 409, "wallet_blocked"),
        ("from", json!(engine::model::ids::WalletId(7).to_string()), 404, "unknown_wallet"),
        ("from", json!(true), 422, "validation"),
        ("festival", json!("nowhere"), 409, "not_cashless"),
    ]);
    tables(&house, &admin, "/cashless/transfer", &good, &table).await;
    assert_eq!(
        (house.balance(&admin, &from).await, house.balance(&admin, &to).await),
        ("495.00".into(), "5.00".into())
    );
    house.stop().await;
}

#[tokio::test]
async fn corrections_and_cash_out() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    let wallet = house.wallet(&admin, "own", "10.00").await;
    let good = json!({"wallet": wallet, "amount": "-2.50", "currency": "EUR", "reason": "Counted twice"});
    let mut table = amounts();
    table.extend([
        ("amount", json!("-10.01"), 409, "insufficient_funds"),
        ("amount", json!("-0.001"), 422, "invalid_amount"),
        ("amount", json!("--1"), 422, "invalid_amount"),
        ("amount", json!("-10000000000"), 422, "invalid_amount"),
        ("reason", json!(" "), 422, "validation"),
        ("reason", json!("x".repeat(201)), 422, "validation"),
        ("reason", Value::Null, 422, "validation"),
        ("wallet", json!(engine::model::ids::WalletId(7).to_string()), 404, "unknown_wallet"),
    ]);
    tables(&house, &admin, "/cashless/correction", &good, &table).await;
    let over = json!({"wallet": wallet, "amount": "5000.00", "currency": "EUR", "reason": "A prize"});
    assert_eq!(house.post(&admin, "/cashless/correction", over).await.is(200, "").json()["overLimit"], true);
    let table = [
        ("wallet", json!(engine::model::ids::WalletId(7).to_string()), 404, "unknown_wallet"),
        ("wallet", json!("W1"), 422, "validation"),
        ("wallet", Value::Null, 422, "validation"),
        ("amount", json!("1.00"), 422, "validation"),
        ("festival", json!("nowhere"), 409, "not_cashless"),
    ];
    tables(&house, &admin, "/cashless/cash-out", &json!({"wallet": wallet}), &table).await;
    house.stop().await;
}

/// What is asked for in addresses and queries, and what sets a festival up.
#[tokio::test]
async fn the_rest() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    let cashier = house.key(Role::Cashier, &["own"]).await;
    let wallet = house.wallet(&admin, "own", "0.00").await;
    let tag = fresh_tag();
    for (query, status, code) in [
        (String::new(), 400, "invalid_query"),
        ("?wallet=W1".into(), 400, "invalid_query"),
        (format!("?wallet={}", fresh()), 404, "unknown_wallet"),
        (format!("?wallet={}", engine::model::ids::WalletId(7)), 404, "unknown_wallet"),
        (format!("?wallet={wallet}&tag={tag}"), 400, "invalid_query"),
        (format!("?account={}", fresh()), 404, "unknown_wallet"),
        ("?account=me&festival=own".into(), 400, "invalid_query"),
        (format!("?account={}&festival=own", uuid::Uuid::nil()), 400, "invalid_query"),
        (format!("?account={}&festival=nowhere", fresh()), 404, "unknown_festival"),
        (format!("?tag={tag}"), 404, "unknown_tag"),
        ("?tag=04".into(), 400, "invalid_query"),
        (format!("?wallet={wallet}&colour=red"), 400, "invalid_query"),
        (format!("?wallet={wallet}"), 200, ""),
    ] {
        house.get(&cashier, &format!("/cashless/account{query}")).await.is(status, code);
    }
    for (body, status, code) in [
        (json!({"account": "me", "festival": "own"}), 422, "validation"),
        (json!({"account": uuid::Uuid::nil().to_string(), "festival": "own"}), 422, "validation"),
        (json!({"account": fresh()}), 422, "validation"),
        (json!({"account": fresh(), "festival": "nowhere"}), 404, "unknown_festival"),
    ] {
        house.put(&cashier, "/cashless/account", body).await.is(status, code);
    }
    let limits = |edit: Value| {
        let mut limits = json!({"currency": "EUR"});
        limits.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
        limits
    };
    let put: &[(&str, Value, u16, &str)] = &[
        ("/festivals/own/cashless", json!({}), 422, "validation"),
        ("/festivals/own/cashless", limits(json!({"minTopup": "0"})), 422, "invalid_value"),
        ("/festivals/own/cashless", limits(json!({"minTopup": "50", "maxTopup": "49.99"})), 422, "invalid_value"),
        ("/festivals/own/cashless", limits(json!({"maxBalance": "10000000000"})), 422, "invalid_value"),
        ("/festivals/own/cashless", limits(json!({"maxBalance": 100})), 422, "validation"),
        ("/festivals/own/cashless", limits(json!({"minPayment": "-1"})), 422, "validation"),
        ("/festivals/own/cashless", limits(json!({"minPayment": "0.001"})), 422, "validation"),
        ("/festivals/own/cashless", json!({"currency": "euro"}), 422, "validation"),
        ("/festivals/own/cashless", json!({"currency": "CHF"}), 422, "validation"),
        ("/festivals/own/vendors/0", json!({"name": "x", "commissionRate": "100.01"}), 422, "validation"),
        ("/festivals/own/vendors/0", json!({"name": "x", "commissionRate": 10}), 422, "validation"),
        ("/festivals/own/vendors/0", json!({"name": " ", "commissionRate": "0"}), 422, "invalid_value"),
        ("/festivals/own/vendors/9", json!({"name": "x", "commissionRate": "0"}), 404, "unknown_vendor"),
        ("/festivals/own/vendors/65536", json!({"name": "x", "commissionRate": "0"}), 400, "invalid_path"),
        (
            "/festivals/own/vendors/0/products/9",
            json!({"name": "x", "price": "1", "vatRate": "0"}),
            404,
            "unknown_product",
        ),
        ("/festivals/own/vendors/0/products/0", json!({"name": "x", "price": "-1", "vatRate": "0"}), 422, "validation"),
        ("/festivals/own/vendors/0/products/0", json!({"name": "x", "price": "1", "vatRate": "x"}), 422, "validation"),
        (
            "/festivals/own/vendors/0/products/0",
            json!({"name": "x", "price": "10000000000", "vatRate": "0"}),
            422,
            "invalid_value",
        ),
        (
            "/festivals/own/vendors/0/products/0",
            json!({"name": "", "price": "1", "vatRate": "0"}),
            422,
            "invalid_value",
        ),
    ];
    for (path, body, status, code) in put {
        let reply = house.put(&admin, path, body.clone()).await;
        assert_eq!(reply.code(), (*status, (*code).to_owned()), "{path} {body}: {}", reply.text);
    }
    let post: &[(String, Value, u16, &str)] = &[
        ("/cashless/wallets".into(), json!({"festival": "own"}), 422, "validation"),
        ("/cashless/wallets".into(), json!({"festival": "own", "tag": "04"}), 422, "validation"),
        ("/cashless/wallets".into(), json!({"festival": "nowhere", "tag": tag}), 409, "not_cashless"),
        (format!("/cashless/wallets/{wallet}/tag"), json!({"tag": "zz"}), 422, "validation"),
        (format!("/cashless/wallets/{wallet}/claim"), json!({"account": "me"}), 422, "validation"),
        (
            format!("/cashless/wallets/{wallet}/claim"),
            json!({"account": uuid::Uuid::nil().to_string()}),
            422,
            "validation",
        ),
        (format!("/cashless/wallets/{wallet}/block"), json!({"why": "x"}), 422, "validation"),
        ("/cashless/wallets/W1/block".into(), json!({}), 400, "invalid_path"),
        (format!("/cashless/wallets/{}/block", engine::model::ids::WalletId(7)), json!({}), 404, "unknown_wallet"),
        ("/festivals/own/vendors".into(), json!({"commissionRate": "0"}), 422, "validation"),
        (
            "/festivals/own/vendors/9/products".into(),
            json!({"name": "x", "price": "1", "vatRate": "0"}),
            404,
            "unknown_vendor",
        ),
    ];
    for (path, body, status, code) in post {
        let reply = house.post(&admin, path, body.clone()).await;
        assert_eq!(reply.code(), (*status, (*code).to_owned()), "{path} {body}: {}", reply.text);
    }
    house.stop().await;
}
