//! Festivals that are not in euros: a yen has no decimals, a dinar three, and every figure is spelled so.

use serde_json::{Value, json};

use crate::house::{House, vendor_id};

/// What a festival in this currency is set up with, and what a night there comes to.
struct Night {
    code: &'static str,
    limits: [&'static str; 4],
    price: &'static str,
    topup: &'static str,
    refund: &'static str,
    balance: &'static str,
    payable: &'static str,
    finer: &'static str,
}

const YEN: Night = Night {
    code: "JPY",
    limits: ["500", "50000", "100000", "1"],
    price: "650",
    topup: "5000",
    refund: "50",
    balance: "4400",
    payable: "540",
    finer: "650.5",
};
const DINAR: Night = Night {
    code: "KWD",
    limits: ["1.000", "200.000", "400.000", "0.001"],
    price: "1.255",
    topup: "20.000",
    refund: "0.255",
    balance: "19.000",
    payable: "0.900",
    finer: "1.2555",
};

#[tokio::test]
async fn a_night_in_yen() {
    night(&YEN).await;
}

#[tokio::test]
async fn a_night_in_dinars() {
    night(&DINAR).await;
}

async fn night(night: &Night) {
    let house = House::listed().await;
    let admin = house.festival("own", 10).await;
    let [min_topup, max_topup, max_balance, min_payment] = night.limits;
    let policy = json!({"currency": night.code, "minTopup": min_topup, "maxTopup": max_topup,
        "maxBalance": max_balance});
    for (missing, pointer) in [("minTopup", "/minTopup"), ("maxTopup", "/maxTopup"), ("maxBalance", "/maxBalance")] {
        let mut short = policy.clone();
        short.as_object_mut().unwrap().remove(missing);
        let refused = house.put(&admin, "/festivals/own/cashless", short).await;
        assert_eq!(
            refused.is(422, "validation").json()["errors"][0]["pointer"],
            pointer,
            "no default in {}",
            night.code
        );
    }
    house.put(&admin, "/festivals/own/cashless", policy).await.is(204, "");
    let shown = house.get(&admin, "/festivals/own/cashless").await.is(200, "").json();
    let all = json!({"currency": night.code, "minTopup": min_topup, "maxTopup": max_topup,
        "maxBalance": max_balance, "minPayment": min_payment, "foreignWallets": false});
    assert_eq!(shown, all);

    let bar = json!({"name": "Bar 7", "commissionRate": "10"});
    house.post(&admin, "/festivals/own/vendors", bar).await.is(201, "");
    let beer = |price: &str| json!({"name": "Beer", "price": price, "vatRate": "10"});
    house.post(&admin, "/festivals/own/vendors/0/products", beer(night.finer)).await.is(422, "validation");
    house.post(&admin, "/festivals/own/vendors/0/products", beer(night.price)).await.is(201, "");
    house.post(&admin, "/festivals/own/status", json!({"status": "PUBLISHED"})).await.is(204, "");
    let vendor = house.get(&admin, "/festivals/own/vendors/0").await.is(200, "").json();
    assert_eq!(vendor["products"][0]["price"], night.price);

    let wallet = house.wallet(&admin, "own", "0.00").await;
    let of = |amount: &str, more: Value| {
        let mut body = json!({"amount": amount, "currency": night.code});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let desk = json!({"wallet": wallet, "festival": "own"});
    house.post(&admin, "/cashless/topup", of(night.finer, desk.clone())).await.is(422, "invalid_amount");
    let topped = house.post(&admin, "/cashless/topup", of(night.topup, desk)).await.is(200, "").json();
    assert_eq!((&topped["amount"], &topped["balance"]), (&json!(night.topup), &json!(night.topup)));
    let lines = json!([{"product": 0, "count": 1, "price": night.price}]);
    let what = json!({"wallet": wallet, "vendorId": vendor_id("own", 0), "lines": lines});
    let paid = house.post(&admin, "/cashless/pay", of(night.price, what)).await.is(200, "").json();
    assert_eq!(paid["amount"], night.price);
    let back = of(night.refund, json!({"transactionId": paid["transactionId"]}));
    let back = house.post(&admin, "/cashless/refund", back).await.is(200, "").json();
    assert_eq!((&back["amount"], &back["balance"]), (&json!(night.refund), &json!(night.balance)));
    assert_eq!(house.balance(&admin, &wallet).await, night.balance);

    let books = house.get(&admin, "/ledger/own/accounts").await.is(200, "").json();
    assert_eq!(books["currency"], night.code);
    let balance = |name: &str| {
        let all = books["accounts"].as_array().unwrap();
        all.iter().find(|account| account["account"] == name).unwrap()["balance"].clone()
    };
    assert_eq!((balance("wallets"), balance("vendor/0")), (json!(night.balance), json!(night.payable)));
    let trial = house.get(&admin, "/ledger/own/trial-balance").await.is(200, "").json();
    assert_eq!((&trial["balanced"], &trial["debit"]), (&json!(true), &json!(night.topup)));
    house.listed_all().await;
    let history = house.get(&admin, &format!("/cashless/wallets/{wallet}/history")).await.is(200, "").json();
    let first = &history["items"].as_array().unwrap().last().unwrap()["balanceAfter"];
    assert_eq!(first, night.topup);
    let settled = house.get(&admin, "/festivals/own/settlement").await.is(200, "").json();
    assert_eq!(settled["vendors"][0]["period"]["payable"], night.payable, "{settled}");
    house.stop().await;
}

#[tokio::test]
async fn what_is_no_currency_is_refused_wherever_one_is_named() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    for code in ["ABC", "XXX", "XAU", "XTS", "eur", "EU", ""] {
        let refused = house.put(&admin, "/festivals/own/cashless", json!({"currency": code})).await;
        assert_eq!(refused.is(422, "validation").json()["errors"][0]["pointer"], "/currency", "{code}");
        let wallet = house.wallet(&admin, "own", "0.00").await;
        let cash = json!({"wallet": wallet, "festival": "own", "amount": "50.00", "currency": code});
        house.post(&admin, "/cashless/topup", cash).await.is(422, "validation");
        let mut category = crate::house::category(5);
        category["price"]["currency"] = json!(code);
        house.post(&admin, "/festivals/own/categories", category).await.is(422, "validation");
    }
    house.stop().await;
}
