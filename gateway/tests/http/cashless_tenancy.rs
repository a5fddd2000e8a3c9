//! Nobody sees or moves another organiser's money (invariant 16). What one may not see answers as if it was never there.

use engine::model::ids::{TransactionId, WalletId};
use engine::model::status::Role;
use serde_json::{Value, json};

use crate::house::{House, fresh, fresh_tag, vendor_id};

/// A wallet of the festival with 50.00, a wristband, and a payment of 10.00.
struct Theirs {
    wallet: String,
    tag: String,
    payment: String,
}

async fn theirs(house: &House, admin: &str, slug: &str) -> Theirs {
    let wallet = house.wallet(admin, slug, "50.00").await;
    let tag = fresh_tag();
    house.post(admin, &format!("/cashless/wallets/{wallet}/tag"), json!({"tag": tag})).await.is(204, "");
    let pay = json!({"wallet": wallet, "vendorId": vendor_id(slug, 0), "amount": "10.00", "currency": "EUR"});
    let paid = house.post(admin, "/cashless/pay", pay).await.is(200, "").json();
    Theirs { wallet, tag, payment: paid["transactionId"].as_str().unwrap().to_owned() }
}

#[tokio::test]
async fn a_foreign_wallet_answers_like_one_that_never_was() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    house.bar("foreign").await;
    let own = theirs(&house, &admin, "own").await;
    let foreign = theirs(&house, &admin, "foreign").await;
    let id = WalletId(0x0123_4567_89AB_CDEF);
    let never = Theirs {
        wallet: id.to_string(),
        tag: fresh_tag(),
        payment: TransactionId { wallet: id, serial: 3 }.to_string(),
    };
    let before = house.get(&admin, "/ledger/foreign/accounts").await.text;
    for role in [Role::Admin, Role::Organizer, Role::Staff, Role::Cashier, Role::Security, Role::User] {
        let key = house.key(role, &["own"]).await;
        let asks = |it: &Theirs| -> Vec<(&'static str, String, Value)> {
            let Theirs { wallet, tag, payment } = it;
            let own_vendor = vendor_id("own", 0);
            let eur = |mut body: Value, amount: &str| {
                body["amount"] = json!(amount);
                body["currency"] = json!("EUR");
                body
            };
            let of = |rest: &str| format!("/cashless/wallets/{wallet}/{rest}");
            vec![
                ("GET", format!("/cashless/account?wallet={wallet}"), json!(null)),
                ("GET", format!("/cashless/account?wallet={wallet}&festival=own"), json!(null)),
                ("GET", format!("/cashless/account?tag={tag}"), json!(null)),
                ("POST", "/cashless/topup".into(), eur(json!({"wallet": wallet, "festival": "own"}), "5.00")),
                ("POST", "/cashless/pay".into(), eur(json!({"wallet": wallet, "vendorId": own_vendor}), "1.00")),
                ("POST", "/cashless/refund".into(), json!({"transactionId": payment})),
                ("POST", "/cashless/refund".into(), eur(json!({"transactionId": payment}), "99.00")),
                ("POST", "/cashless/transfer".into(), eur(json!({"from": wallet, "to": own.wallet}), "1.00")),
                ("POST", "/cashless/transfer".into(), eur(json!({"from": own.wallet, "to": wallet}), "1.00")),
                (
                    "POST",
                    "/cashless/transfer".into(),
                    eur(json!({"from": wallet, "to": own.wallet, "festival": "own"}), "1.00"),
                ),
                ("POST", "/cashless/cash-out".into(), json!({"wallet": wallet})),
                ("POST", "/cashless/cash-out".into(), json!({"wallet": wallet, "festival": "own"})),
                ("POST", "/cashless/correction".into(), eur(json!({"wallet": wallet, "reason": "x"}), "1.00")),
                (
                    "POST",
                    "/cashless/correction".into(),
                    eur(json!({"wallet": wallet, "reason": "x", "festival": "own"}), "1.00"),
                ),
                ("POST", of("block"), json!({})),
                ("POST", of("unblock"), json!({})),
                ("POST", of("claim"), json!({"account": fresh()})),
                ("POST", of("tag"), json!({"tag": fresh_tag(), "replace": true})),
                ("POST", of("tag/lost"), json!({})),
            ]
        };
        for ((method, path, body), (_, never_path, never_body)) in asks(&foreign).into_iter().zip(asks(&never)) {
            let ask = async |path: &str, body: Value| match method {
                "GET" => house.get(&key, path).await,
                _ => house.post(&key, path, body).await,
            };
            let (there, not) = (ask(&path, body).await, ask(&never_path, never_body).await);
            assert_eq!((there.status, &there.text), (not.status, &not.text), "{} tells {path} apart", role.word());
            assert!(matches!(there.status.as_u16(), 403 | 404), "{} {path}: {}", role.word(), there.text);
        }
        // Nor does naming their festival or their vendor help.
        for slug in ["foreign", "never"] {
            let topup = json!({"wallet": own.wallet, "festival": slug, "amount": "5.00", "currency": "EUR"});
            let pay = json!({
                "wallet": own.wallet, "vendorId": vendor_id(slug, 0), "amount": "1.00", "currency": "EUR",
            });
            for (path, body, code) in [
                ("/cashless/topup", topup, "unknown_festival"),
                ("/cashless/pay", pay, "unknown_vendor"),
                ("/cashless/wallets", json!({"festival": slug, "tag": fresh_tag()}), "unknown_festival"),
            ] {
                let reply = house.post(&key, path, body).await.code();
                assert!(reply == (404, code.into()) || reply == (403, "forbidden".into()), "{slug} {path}: {reply:?}");
            }
        }
    }
    assert_eq!(house.get(&admin, "/ledger/foreign/accounts").await.text, before, "their books are untouched");
    assert_eq!(house.balance(&admin, &foreign.wallet).await, "40.00");
    assert_eq!(house.balance(&admin, &own.wallet).await, "40.00");
    house.stop().await;
}

/// A festival that takes others' wallets tops them up and lets them pay, and no more.
#[tokio::test]
async fn where_foreign_wallets_are_taken() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    house.bar("foreign").await;
    let foreign = theirs(&house, &admin, "foreign").await;
    let key = house.key(Role::Admin, &["own"]).await;
    let of_own = house.key(Role::Admin, &["foreign"]).await;
    house.put(&key, "/festivals/own/cashless", json!({"currency": "EUR", "foreignWallets": true})).await.is(204, "");
    let wallet = &foreign.wallet;
    let pay = json!({"wallet": wallet, "vendorId": vendor_id("own", 0), "amount": "5.00", "currency": "EUR"});
    let paid = house.post(&key, "/cashless/pay", pay).await.is(200, "").json();
    assert_eq!(paid["balance"], "35.00");
    house.get(&key, &format!("/cashless/account?wallet={wallet}")).await.is(404, "unknown_wallet");
    house.get(&key, &format!("/cashless/account?wallet={wallet}&festival=own")).await.is(200, "");
    for (path, body) in [
        ("/cashless/cash-out".to_owned(), json!({"wallet": wallet, "festival": "own"})),
        (
            "/cashless/correction".into(),
            json!({"wallet": wallet, "festival": "own", "amount": "-1", "currency": "EUR", "reason": "x"}),
        ),
        (
            "/cashless/transfer".into(),
            json!({"from": wallet, "to": wallet, "festival": "own", "amount": "1", "currency": "EUR"}),
        ),
        (format!("/cashless/wallets/{wallet}/block"), json!({})),
    ] {
        house.post(&key, &path, body).await.is(404, "unknown_wallet");
    }
    // The payment is the festival's at which it was taken: its staff refund it, the wallet's own do not see it.
    let refund = json!({"transactionId": paid["transactionId"]});
    house.post(&of_own, "/cashless/refund", refund.clone()).await.is(404, "unknown_transaction");
    assert_eq!(house.post(&key, "/cashless/refund", refund).await.is(200, "").json()["balance"], "40.00");
    let of_theirs = json!({"transactionId": foreign.payment});
    house.post(&key, "/cashless/refund", of_theirs).await.is(404, "unknown_transaction");
    house.stop().await;
}

/// A person has a wallet for each issuer: none keeps another from making theirs, and to each the others' do not exist.
#[tokio::test]
async fn an_account_with_a_wallet_elsewhere() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    house.bar("foreign").await;
    let (cashier, stranger) = (house.key(Role::Cashier, &["own"]).await, house.key(Role::Cashier, &["foreign"]).await);
    let (account, tag) = (fresh(), fresh_tag());
    let body = |slug: &str| json!({"account": account, "festival": slug});
    let theirs = house.put(&stranger, "/cashless/account", body("foreign")).await.is(200, "").json();
    let their_wallet = theirs["wallet"].as_str().unwrap();
    house.post(&stranger, &format!("/cashless/wallets/{their_wallet}/tag"), json!({"tag": tag})).await.is(204, "");

    house.get(&cashier, &format!("/cashless/account?account={account}")).await.is(404, "unknown_wallet");
    house.get(&cashier, &format!("/cashless/account?account={account}&festival=own")).await.is(404, "unknown_wallet");
    house.put(&cashier, "/cashless/account", body("foreign")).await.is(404, "unknown_festival");
    let ours = house.put(&cashier, "/cashless/account", body("own")).await.is(200, "").json();
    assert_ne!(ours["wallet"], theirs["wallet"]);
    let shown = house.get(&cashier, &format!("/cashless/account?account={account}")).await;
    assert!(!shown.is(200, "").text.contains(their_wallet), "{}", shown.text);

    // Lost or not, their wristband is unknown here.
    house.get(&cashier, &format!("/cashless/account?tag={tag}")).await.is(404, "unknown_tag");
    house.post(&stranger, &format!("/cashless/wallets/{their_wallet}/tag/lost"), json!({})).await.is(204, "");
    house.get(&stranger, &format!("/cashless/account?tag={tag}")).await.is(409, "tag_lost");
    house.get(&cashier, &format!("/cashless/account?tag={tag}")).await.is(404, "unknown_tag");

    // Who sees both, is shown both.
    let both = house.get(&admin, &format!("/cashless/account?account={account}")).await.is(200, "").json();
    assert_eq!(both["wallets"].as_array().unwrap().len(), 2);
    house.stop().await;
}
