//! An evening at the desks: stands set up, wallets found, filled, spent, refunded, passed on and emptied; wristbands; the
//! books.

use engine::model::ids::FestivalId;
use engine::model::status::Role;
use serde_json::{Value, json};

use crate::house::{House, fresh, fresh_tag, vendor_id};

fn eur(amount: &str) -> Value {
    json!({"amount": amount, "currency": "EUR"})
}

/// `body` with these fields beside its own.
fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn a_festival_sets_up_its_stands() {
    let house = House::new().await;
    let admin = house.festival("own", 10).await;
    house.get(&admin, "/festivals/own/cashless").await.is(409, "not_cashless");
    house.get(&admin, "/festivals/own/vendors").await.is(409, "not_cashless");
    let early = json!({"name": "Bar 7", "commissionRate": "10"});
    house.post(&admin, "/festivals/own/vendors", early.clone()).await.is(409, "not_cashless");
    let limits = json!({"currency": "EUR", "minTopup": "1", "maxTopup": "100.00", "maxBalance": "150.50"});
    house.put(&admin, "/festivals/own/cashless", limits).await.is(204, "");
    let shown = house.get(&admin, "/festivals/own/cashless").await.is(200, "").json();
    let all = json!({
        "currency": "EUR", "minTopup": "1.00", "maxTopup": "100.00", "maxBalance": "150.50", "minPayment": "0.01",
        "foreignWallets": false,
    });
    assert_eq!(shown, all);
    house.put(&admin, "/festivals/own/cashless", json!({"currency": "XAU"})).await.is(422, "validation");
    let francs = json!({"currency": "CHF", "minTopup": "1", "maxTopup": "100", "maxBalance": "150"});
    house.put(&admin, "/festivals/own/cashless", francs.clone()).await.is(204, "");
    assert_eq!(house.get(&admin, "/festivals/own/cashless").await.json()["currency"], "CHF");
    let euros = json!({"currency": "EUR", "minTopup": "1", "maxTopup": "100.00", "maxBalance": "150.50"});
    house.put(&admin, "/festivals/own/cashless", euros).await.is(204, "");

    let made = house.post(&admin, "/festivals/own/vendors", early).await;
    assert_eq!(made.headers["location"], "/api/v1/festivals/own/vendors/0");
    assert_eq!(made.is(201, "").json(), json!({"vendor": 0, "vendorId": vendor_id("own", 0)}));
    let lager = json!({"name": "Lager 0.5 l", "price": "5.50", "vatRate": "19"});
    let made = house.post(&admin, "/festivals/own/vendors/0/products", lager).await;
    assert_eq!(made.is(201, "").json(), json!({"product": 0}));
    let dearer = json!({"name": "Lager 0.5 l", "price": "6", "vatRate": "19", "onSale": false});
    house.put(&admin, "/festivals/own/vendors/0/products/0", dearer).await.is(204, "");
    let closed = json!({"name": "Bar 7", "commissionRate": "12.5", "open": false});
    house.put(&admin, "/festivals/own/vendors/0", closed).await.is(204, "");
    let shown = house.get(&admin, "/festivals/own/vendors/0").await.is(200, "").json();
    let bar = json!({
        "vendor": 0, "vendorId": vendor_id("own", 0), "name": "Bar 7", "type": "BAR", "commissionRate": "12.50",
        "open": false,
        "products": [{"product": 0, "name": "Lager 0.5 l", "price": "6.00", "vatRate": "19.00", "onSale": false}],
    });
    assert_eq!(shown, bar);
    let listed = house.get(&admin, "/festivals/own/vendors").await.is(200, "").json();
    assert_eq!((listed["items"].as_array().unwrap().len(), &listed["items"][0]["name"]), (1, &json!("Bar 7")));
    house.get(&admin, "/festivals/own/vendors/7").await.is(404, "unknown_vendor");
    house.stop().await;
}

#[tokio::test]
async fn an_evening_at_the_desk() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    let (cashier, staff) = (house.key(Role::Cashier, &["own"]).await, house.key(Role::Staff, &["own"]).await);
    let account = fresh();
    let path = format!("/cashless/account?account={account}&festival=own");
    house.get(&cashier, &path).await.is(404, "unknown_wallet");
    house.get(&cashier, &path).await.is(404, "unknown_wallet"); // looking makes nothing
    let body = json!({"account": account, "festival": "own"});
    let made = house.put(&cashier, "/cashless/account", body.clone()).await.is(200, "").json();
    assert_eq!(house.put(&staff, "/cashless/account", body).await.is(200, "").json(), made, "found, not made again");
    let wallet = made["wallet"].as_str().unwrap().to_owned();
    let nothing = json!({
        "wallet": wallet, "account": account, "issuer": FestivalId::of_slug("own").to_string(), "balance": "0.00",
        "reserved": "0.00", "currency": "EUR", "blocked": false, "nfcTagId": null, "tagLost": false,
        "transactions": 0, "gift": "0.00", "sources": [],
    });
    assert_eq!(made, nothing);
    assert_eq!(house.get(&staff, &path).await.is(200, "").json(), made, "found again");

    let cash = with(eur("50"), json!({"wallet": wallet, "festival": "own"}));
    let topped = house.post(&cashier, "/cashless/topup", cash).await.is(200, "").json();
    assert_eq!(
        (&topped["amount"], &topped["balance"], &topped["overLimit"]),
        (&json!("50.00"), &json!("50.00"), &json!(false))
    );
    assert!(topped.get("order").is_none());

    let pay = |amount: &str| with(eur(amount), json!({"wallet": wallet, "vendorId": vendor_id("own", 0)}));
    let paid = house.post(&staff, "/cashless/pay", pay("12.50")).await.is(200, "").json();
    assert_eq!((&paid["balance"], &paid["wallet"]), (&json!("37.50"), &json!(wallet)));
    assert!((1..=4).contains(&paid["order"].as_u64().unwrap()), "the vendor's first in its shard of four: {paid}");
    let lines = json!([{"product": 0, "count": 2, "price": "5.00"}, {"product": 1, "count": 1, "price": "2.5"}]);
    let paid_lines = house.post(&staff, "/cashless/pay", with(pay("12.50"), json!({"lines": lines}))).await;
    assert_eq!(paid_lines.is(200, "").json()["balance"], "25.00");

    let part = with(eur("2.50"), json!({"transactionId": paid["transactionId"]}));
    assert_eq!(house.post(&staff, "/cashless/refund", part).await.is(200, "").json()["balance"], "27.50");
    let rest = json!({"transactionId": paid["transactionId"]});
    let back = house.post(&staff, "/cashless/refund", rest.clone()).await.is(200, "").json();
    assert_eq!((&back["amount"], &back["balance"]), (&json!("10.00"), &json!("37.50")));
    house.post(&staff, "/cashless/refund", rest).await.is(409, "already_refunded");

    let friend = house.wallet(&cashier, "own", "0.00").await;
    let gift = with(eur("20.00"), json!({"from": wallet, "to": friend}));
    assert_eq!(house.post(&staff, "/cashless/transfer", gift).await.is(200, "").json()["balance"], "17.50");
    assert_eq!(house.balance(&staff, &friend).await, "20.00");

    let wrong = with(eur("-2.50"), json!({"wallet": friend, "reason": "Counted twice"}));
    assert_eq!(house.post(&admin, "/cashless/correction", wrong).await.is(200, "").json()["balance"], "17.50");
    house.post(&staff, &format!("/cashless/wallets/{friend}/block"), json!({})).await.is(204, "");
    house.post(&cashier, "/cashless/cash-out", json!({"wallet": friend})).await.is(409, "wallet_blocked");
    house.post(&staff, &format!("/cashless/wallets/{friend}/unblock"), json!({})).await.is(204, "");
    let out = house.post(&cashier, "/cashless/cash-out", json!({"wallet": friend})).await.is(200, "").json();
    assert_eq!((&out["amount"], &out["balance"]), (&json!("17.50"), &json!("0.00")));
    house.post(&cashier, "/cashless/cash-out", json!({"wallet": friend})).await.is(409, "nothing_left");

    let shown = house.get(&staff, &format!("/cashless/account?wallet={}", wallet.to_uppercase())).await.json();
    let no = house.get(&admin, "/keys").await.json()["items"].as_array().unwrap().len();
    let desk = (1..=no).map(|no| format!("desk/{}-{no}", FestivalId::of_slug("own")));
    let source = shown["sources"][0]["source"].as_str().unwrap();
    assert!(desk.into_iter().any(|desk| desk == source), "{source}");
    assert_eq!((shown["transactions"].clone(), shown["sources"][0]["amount"].clone()), (json!(6), json!("17.50")));
    house.stop().await;
}

#[tokio::test]
async fn the_books_add_up() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    let organizer = house.key(Role::Organizer, &["own"]).await;
    let empty = house.get(&organizer, "/ledger/own/trial-balance").await.is(200, "").json();
    assert_eq!((&empty["debit"], &empty["balanced"]), (&json!("0.00"), &json!(true)));

    let wallet = house.wallet(&admin, "own", "50.00").await;
    let francs = json!({"currency": "CHF", "minTopup": "1", "maxTopup": "100", "maxBalance": "150"});
    house.put(&admin, "/festivals/own/cashless", francs).await.is(409, "currency_in_use");
    let pay = with(eur("10.05"), json!({"wallet": wallet, "vendorId": vendor_id("own", 0)}));
    let paid = house.post(&admin, "/cashless/pay", pay).await.is(200, "").json();
    let refund = with(eur("0.05"), json!({"transactionId": paid["transactionId"]}));
    house.post(&admin, "/cashless/refund", refund).await.is(200, "");
    let back = with(eur("3.00"), json!({"wallet": wallet, "reason": "Taken twice", "givesBack": true}));
    house.post(&admin, "/cashless/correction", back).await.is(200, "");

    let accounts = house.get(&organizer, "/ledger/own/accounts").await.is(200, "").json();
    let balances: Vec<(String, String)> = accounts["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["account"].as_str().unwrap().to_owned(), row["balance"].as_str().unwrap().to_owned()))
        .collect();
    let is = |account: &str| balances.iter().find(|(known, _)| known == account).map(|(_, balance)| balance.as_str());
    assert_eq!(is("wallets"), Some("43.00"));
    // 10 % of 10.05 is 1.005: the vendor's 9.045 is rounded half-even to 9.04; of 0.05 it gives back 9.04 − 9.00.
    assert_eq!((is("vendor/0"), is("commission")), (Some("9.00"), Some("1.00")));
    assert_eq!((is("corrections"), is("in_transit")), (Some("-3.00"), Some("0.00")));
    let desks: Vec<_> = balances.iter().filter(|(account, _)| account.starts_with("desk/")).collect();
    assert_eq!((desks.len(), desks[0].1.as_str()), (1, "-50.00"));
    let sales = &accounts["accounts"][1]["sales"];
    assert_eq!(*sales, json!({"sold": "10.05", "payments": 1, "refunded": "0.05", "refunds": 1}));

    let trial = house.get(&organizer, "/ledger/own/trial-balance").await.is(200, "").json();
    assert_eq!((&trial["debit"], &trial["credit"]), (&json!("53.00"), &json!("53.00")));
    assert_eq!(trial["balanced"], true);
    house.stop().await;
}

#[tokio::test]
async fn wristbands() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    let cashier = house.key(Role::Cashier, &["own"]).await;
    let (tag, other) = (fresh_tag(), fresh_tag());
    let sold = house.post(&cashier, "/cashless/wallets", json!({"festival": "own", "tag": tag})).await;
    let wallet = sold.is(201, "").json()["wallet"].as_str().unwrap().to_owned();
    let by_tag = house.get(&cashier, &format!("/cashless/account?tag={}", tag.to_uppercase())).await.is(200, "").json();
    assert_eq!((&by_tag["wallet"], &by_tag["nfcTagId"]), (&json!(wallet), &json!(tag)));
    assert_eq!(by_tag["account"], Value::Null);
    house.post(&cashier, "/cashless/wallets", json!({"festival": "own", "tag": tag})).await.is(409, "tag_taken");

    let at = |rest: &str| format!("/cashless/wallets/{wallet}/{rest}");
    let qr = house.get(&cashier, &at("qr.svg")).await;
    assert_eq!(qr.headers["content-type"], "image/svg+xml");
    assert!(qr.is(200, "").text.starts_with("<svg"));
    house.post(&cashier, &at("tag"), json!({"tag": other})).await.is(409, "already_tagged");
    house.post(&cashier, &at("tag"), json!({"tag": other, "replace": true})).await.is(204, "");
    house.get(&cashier, &format!("/cashless/account?tag={tag}")).await.is(404, "unknown_tag");
    house.post(&cashier, &at("tag/lost"), json!({})).await.is(204, "");
    house.get(&cashier, &format!("/cashless/account?tag={other}")).await.is(409, "tag_lost");
    assert_eq!(house.get(&cashier, &format!("/cashless/account?wallet={wallet}")).await.json()["tagLost"], true);
    let plain = house.wallet(&cashier, "own", "0.00").await;
    house.post(&cashier, &format!("/cashless/wallets/{plain}/tag"), json!({"tag": other})).await.is(409, "tag_lost");
    house.post(&cashier, &format!("/cashless/wallets/{plain}/tag/lost"), json!({})).await.is(404, "unknown_tag");

    for unusable in ["08a1b2c3", "00000000", "ffffffffffffff", "88a1b2c3"] {
        let body = json!({"tag": unusable, "replace": true});
        house.post(&cashier, &at("tag"), body).await.is(422, "unusable_tag");
        let body = json!({"festival": "own", "tag": unusable});
        house.post(&cashier, "/cashless/wallets", body).await.is(422, "unusable_tag");
    }

    let account = fresh();
    house.post(&cashier, &at("claim"), json!({"account": account})).await.is(204, "");
    house.post(&admin, &at("claim"), json!({"account": account})).await.is(204, "");
    house.post(&admin, &at("claim"), json!({"account": fresh()})).await.is(409, "wallet_claimed");
    assert_eq!(house.get(&cashier, &format!("/cashless/account?wallet={wallet}")).await.json()["account"], account);
    house.stop().await;
}

/// A wallet that was claimed is the account's: it is found by the account, no other is made beside it, and where there
/// are several all are listed.
#[tokio::test]
async fn an_accounts_money_is_found() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    let cashier = house.key(Role::Cashier, &["own"]).await;
    let sold = async || {
        let body = json!({"festival": "own", "tag": fresh_tag()});
        house.post(&cashier, "/cashless/wallets", body).await.json()["wallet"].as_str().unwrap().to_owned()
    };
    let account = fresh();
    let put = json!({"account": account, "festival": "own"});
    let paths = [format!("?account={account}"), format!("?account={account}&festival=own")];
    let claimed = sold().await;
    let claim = json!({"account": account});
    house.post(&cashier, &format!("/cashless/wallets/{claimed}/claim"), claim.clone()).await.is(204, "");
    for path in &paths {
        let shown = house.get(&cashier, &format!("/cashless/account{path}")).await.is(200, "").json();
        assert_eq!((&shown["wallet"], &shown["wallets"]), (&json!(claimed), &Value::Null));
    }
    assert_eq!(house.put(&cashier, "/cashless/account", put).await.json()["wallet"], claimed, "it has one");

    // An app has made one before the wristband was bought.
    let early = fresh();
    let put = json!({"account": early, "festival": "own"});
    let made = house.put(&admin, "/cashless/account", put).await.json()["wallet"].clone();
    let claimed = sold().await;
    let claim = json!({"account": early});
    house.post(&cashier, &format!("/cashless/wallets/{claimed}/claim"), claim).await.is(204, "");
    let shown = house.get(&cashier, &format!("/cashless/account?account={early}")).await.is(200, "").json();
    assert_eq!(shown["wallet"], claimed, "the one with the wristband");
    let listed: Vec<_> = shown["wallets"].as_array().unwrap().iter().map(|one| one["wallet"].clone()).collect();
    assert_eq!(listed, [json!(claimed), made.clone()]);

    // Merged in one step: all money is behind the wristband, and asked again nothing moves twice.
    for (wallet, amount) in [(json!(claimed), "20.00"), (made.clone(), "500.00"), (made.clone(), "490.00")] {
        let cash = json!({"wallet": wallet, "festival": "own", "amount": amount, "currency": "EUR"});
        house.post(&admin, "/cashless/topup", cash).await.is(200, "");
    }
    let (body, attempt) = (json!({"account": early, "festival": "own"}), fresh());
    for _ in 0..2 {
        let merged = house.call(&admin, "POST", "/cashless/account/merge", &attempt, Some(body.clone())).await;
        let merged = merged.is(200, "").json();
        assert_eq!((&merged["wallet"], &merged["balance"]), (&json!(claimed), &json!("1010.00")), "beyond the limit");
        assert_eq!(merged["wallets"][1]["balance"], "0.00");
    }
    let nobody = json!({"account": fresh(), "festival": "own"});
    house.post(&admin, "/cashless/account/merge", nobody).await.is(404, "unknown_wallet");
    house.stop().await;
}

/// One wristband for ticket and wallet: lost is lost everywhere, and a new one takes over both in one call.
#[tokio::test]
async fn a_wristband_is_one_thing() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    let cashier = house.key(Role::Cashier, &["own"]).await;
    let ticket = house.ticket(&admin, "own").await;
    let (first, second, third) = (fresh_tag(), fresh_tag(), fresh_tag());
    let sold = house.post(&cashier, "/cashless/wallets", json!({"festival": "own", "tag": first})).await;
    let wallet = sold.is(201, "").json()["wallet"].as_str().unwrap().to_owned();
    let (of_ticket, of_wallet) = (format!("/tickets/{ticket}/tag"), format!("/cashless/wallets/{wallet}/tag"));
    house.post(&admin, &of_ticket, json!({"uid": first})).await.is(204, "");
    let shown = house.get(&cashier, &format!("/wristbands/{first}")).await.is(200, "").json();
    assert_eq!(shown, json!({"uid": first, "wallet": wallet, "ticketId": ticket, "lost": false}));

    house.post(&cashier, &of_wallet, json!({"tag": second, "replace": true})).await.is(204, "");
    assert_eq!(house.get(&admin, &format!("/tickets/{ticket}")).await.json()["nfcTagId"], second);
    house.get(&cashier, &format!("/wristbands/{first}")).await.is(404, "unknown_tag");

    house.post(&cashier, &format!("{of_wallet}/lost"), json!({})).await.is(204, "");
    let shown = house.get(&admin, &format!("/tickets/{ticket}")).await.json();
    assert_eq!((&shown["nfcTagId"], &shown["tagLost"]), (&json!(second), &json!(true)));
    let other = house.ticket(&admin, "own").await;
    house.post(&admin, &format!("/tickets/{other}/tag"), json!({"uid": second})).await.is(409, "tag_lost");

    house.post(&admin, &of_ticket, json!({"uid": third})).await.is(204, "");
    let shown = house.get(&cashier, &format!("/cashless/account?wallet={wallet}")).await.json();
    assert_eq!((&shown["nfcTagId"], &shown["tagLost"]), (&json!(third), &json!(false)));
    house.post(&admin, &format!("{of_ticket}/lost"), json!({})).await.is(204, "");
    assert_eq!(house.get(&cashier, &format!("/cashless/account?wallet={wallet}")).await.json()["tagLost"], true);

    house.festival("other", 10).await;
    let (box_of, stranger) = (fresh_tag(), house.key(Role::Organizer, &["other"]).await);
    house.post(&cashier, "/cashless/wallets", json!({"festival": "own", "tag": box_of})).await.is(201, "");
    house.post(&stranger, &format!("/wristbands/{box_of}/lost"), json!({})).await.is(404, "unknown_tag");
    house.post(&cashier, &format!("/wristbands/{box_of}/lost"), json!({})).await.is(204, "");
    assert_eq!(house.get(&cashier, &format!("/wristbands/{box_of}")).await.json()["lost"], true);
    house.get(&cashier, "/wristbands/zz").await.is(400, "invalid_path");
    house.stop().await;
}

#[tokio::test]
async fn terminals_are_offered_and_listed() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    let staff = house.key(Role::Staff, &["own"]).await;
    let path = "/festivals/own/terminals/enrolment-codes";
    let offered = house.post(&staff, path, json!({"name": "Bar 7, left", "vendor": 0})).await.is(201, "").json();
    assert!(offered["qr"].as_str().unwrap().starts_with("<svg"), "{offered}");
    assert!(offered["offer"].as_str().unwrap().contains("gates.example.org"), "{offered}");
    let desk = json!({"name": "Cash desk", "cashier": true});
    house.post(&staff, path, desk.clone()).await.is(403, "forbidden");
    let desk = house.post(&admin, path, desk).await.is(201, "").json();
    house.post(&admin, path, json!({"name": "nobody's"})).await.is(422, "invalid_value");
    house.post(&admin, path, json!({"name": "x", "vendor": 9})).await.is(404, "unknown_vendor");
    house.post(&admin, path, json!({"name": "x", "vendor": 65536})).await.is(422, "validation");
    assert_eq!(house.get(&staff, "/festivals/own/terminals").await.json(), json!({"items": [], "next": null}));

    let mut ids = Vec::new();
    for (code, key) in [(&offered, [1; 32]), (&desk, [2; 32])] {
        ids.push(house.enrol("own", code["code"].as_str().unwrap(), key).await);
    }
    let reader = house.post(&admin, "/festivals/own/devices/enrolment-codes", json!({"gate": 0, "name": "r"})).await;
    house.enrol("own", reader.is(201, "").json()["code"].as_str().unwrap(), [3; 32]).await;
    let first = house.get(&staff, "/festivals/own/terminals?limit=1").await.is(200, "").json();
    let row = &first["items"][0];
    assert_eq!((&row["deviceId"], &row["vendorId"]), (&json!(ids[0]), &json!(vendor_id("own", 0))));
    assert_eq!((&row["cashier"], &row["revoked"], &row["lastSeenAt"]), (&json!(false), &json!(false), &Value::Null));
    let next = format!("/festivals/own/terminals?cursor={}", first["next"].as_str().unwrap());
    let shown = house.get(&admin, &format!("/devices/{}", ids[1])).await.is(200, "").json();
    assert_eq!((&shown["gate"], &shown["zone"], &shown["name"]), (&Value::Null, &Value::Null, &json!("Cash desk")));
    house.post(&admin, &format!("/devices/{}/revoke", ids[1]), json!({})).await.is(204, "");
    let second = house.get(&staff, &next).await.is(200, "").json();
    assert_eq!((second["items"].as_array().unwrap().len(), &second["next"]), (1, &Value::Null), "readers are none");
    let row = &second["items"][0];
    assert_eq!((&row["vendorId"], &row["cashier"], &row["revoked"]), (&Value::Null, &json!(true), &json!(true)));
    house.stop().await;
}
