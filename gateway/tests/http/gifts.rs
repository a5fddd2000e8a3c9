//! What a festival gives: spent first, never paid out, reported apart; and what goes where when a wallet is emptied.

use engine::model::ids::FestivalId;
use engine::model::status::Role;
use serde_json::{Value, json};

use crate::house::{House, Reply, fresh, vendor_id};

fn eur(amount: &str, mut more: Value) -> Value {
    let body = more.as_object_mut().unwrap();
    body.insert("amount".into(), json!(amount));
    body.insert("currency".into(), json!("EUR"));
    more
}

/// An account's balance in the books.
async fn balance(house: &House, key: &str, account: &str) -> Vec<String> {
    let books = house.get(key, "/ledger/own/accounts").await.is(200, "").json();
    let rows = books["accounts"].as_array().unwrap().iter().filter(|row| row["account"] == account);
    rows.map(|row| row["balance"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_gift_is_spent_first_and_never_paid_out() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    let wallet = house.wallet(&admin, "own", "20.00").await;
    let correct = |amount: &str, more: Value| {
        let mut body = eur(amount, json!({"wallet": wallet, "reason": "Rained off"}));
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        house.post(&admin, "/cashless/correction", body)
    };
    let given = correct("10.00", json!({})).await.is(200, "").json();
    assert_eq!((&given["amount"], &given["balance"]), (&json!("10.00"), &json!("30.00")));
    let refused = correct("-1.00", json!({"givesBack": true})).await;
    assert_eq!(refused.is(422, "validation").json()["errors"][0]["pointer"], "/givesBack");
    let gift = format!("gift/{}", FestivalId::of_slug("own"));
    let sources = |reply: &Reply| -> Vec<(String, String)> {
        let parts = reply.json()["sources"].as_array().unwrap().clone();
        let text = |part: &Value, field: &str| part[field].as_str().unwrap().to_owned();
        parts.iter().map(|part| (text(part, "source"), text(part, "amount"))).collect()
    };
    let account = house.get(&admin, &format!("/cashless/account?wallet={wallet}")).await;
    assert_eq!(account.json()["gift"], "10.00");
    assert!(sources(&account).contains(&(gift.clone(), "10.00".into())));

    let pay = eur("4.00", json!({"wallet": wallet, "vendorId": vendor_id("own", 0)}));
    house.post(&admin, "/cashless/pay", pay).await.is(200, "");
    let account = house.get(&admin, &format!("/cashless/account?wallet={wallet}")).await;
    assert_eq!(account.json()["gift"], "6.00", "the gift first");
    let books = house.get(&admin, "/ledger/own/accounts").await.is(200, "").json();
    assert_eq!(books["gifts"], json!({"given": "10.00", "spent": "4.00", "lapsed": "0.00", "left": "6.00"}));

    // It is emptied: what was paid in goes back, the gift stays; the same key is told the same.
    let attempt = fresh();
    let body = json!({"wallet": wallet});
    let out = house.call(&admin, "POST", "/cashless/cash-out", &attempt, Some(body.clone())).await;
    let told = out.is(200, "").json();
    assert_eq!((&told["amount"], &told["balance"]), (&json!("20.00"), &json!("6.00")));
    let parts = told["parts"].as_array().unwrap();
    assert_eq!((parts.len(), &parts[0]["amount"]), (1, &json!("20.00")));
    assert!(parts[0]["source"].as_str().unwrap().starts_with("desk/"), "{told}");
    let again = house.call(&admin, "POST", "/cashless/cash-out", &attempt, Some(body.clone())).await;
    assert_eq!(again.is(200, "").json(), told);
    house.post(&admin, "/cashless/cash-out", body).await.is(409, "nothing_left");
    assert_eq!(balance(&house, &admin, &gift).await, ["-10.00"]);
    correct("-6.00", json!({})).await.is(200, "");
    assert_eq!(balance(&house, &admin, &gift).await, ["-4.00"], "a gift that is taken back goes to where it came from");
    house.stop().await;
}

#[tokio::test]
async fn a_cash_out_says_what_each_source_gets_and_the_ledger_has_a_row_an_account() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    let cashier = house.key(Role::Cashier, &["own"]).await;
    let wallet = house.wallet(&admin, "own", "20.00").await;
    let more = eur("10.00", json!({"wallet": wallet, "festival": "own"}));
    house.post(&cashier, "/cashless/topup", more).await.is(200, "");
    let back = eur("3.00", json!({"wallet": wallet, "reason": "Taken twice", "givesBack": true}));
    house.post(&admin, "/cashless/correction", back).await.is(200, "");
    let pay = eur("12.50", json!({"wallet": wallet, "vendorId": vendor_id("own", 0)}));
    house.post(&admin, "/cashless/pay", pay).await.is(200, "");
    let told = house.post(&cashier, "/cashless/cash-out", json!({"wallet": wallet})).await.is(200, "").json();
    let parts: Vec<_> = told["parts"].as_array().unwrap().iter().map(|part| part["amount"].clone()).collect();
    assert_eq!((&told["amount"], parts), (&json!("20.50"), vec![json!("7.50"), json!("10.00"), json!("3.00")]));
    let source = |at: usize| told["parts"][at]["source"].as_str().unwrap().to_owned();
    assert!(source(0).starts_with("desk/") && source(1).starts_with("desk/") && source(0) != source(1), "{told}");
    assert_eq!(source(2), "corrections");

    assert_eq!(balance(&house, &admin, "corrections").await, ["0.00"], "given back, and paid out: one row");
    let books = house.get(&admin, "/ledger/own/accounts").await.is(200, "").json();
    let mut names: Vec<_> = books["accounts"].as_array().unwrap().iter().map(|row| row["account"].clone()).collect();
    let all = names.len();
    names.sort_by_key(ToString::to_string);
    names.dedup();
    assert_eq!(names.len(), all, "{books}");
    let trial = house.get(&admin, "/ledger/own/trial-balance").await.is(200, "").json();
    assert_eq!(trial["balanced"], true);
    house.stop().await;
}
