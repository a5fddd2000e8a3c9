//! What people ask about money afterwards: histories, orders, sales, entries, settlements and their proof.

use std::sync::Arc;

use engine::cashless::command::{Line, TerminalAction};
use engine::model::ids::{DeviceId, FestivalId, TransactionId, WalletId};
use engine::model::status::Role;
use gateway::http::kit::routes::Routes;
use gateway::http::{Limits, app};
use gateway::read_models::{Condition, ReadError, ReadModels};
use serde_json::{Value, json};
use storage::views::cashless::{
    CashlessPosition, CashlessViews, OrderRow, ProductPosition, ProductRow, SalesPosition, SalesRow, Statement,
    TransactionRow, Transactions, VendorSpan,
};
use storage::views::gates::GateViews;
use storage::views::{Page, ViewsError};

use crate::house::{House, fresh, vendor_id};

/// What an evening came to: two wallets, the payments, and the key of an organiser.
struct Evening {
    house: House,
    admin: String,
    organizer: String,
    wallet: String,
    friend: String,
    payments: Vec<String>,
    refund: String,
}

/// Two stands. W: +50.00, −12.50 in lines at bar 7, −10.00 at bar 8, −0.05 at bar 7, 2.50 of the first back, −5.00 to a
/// friend, +1.00 corrected, and one payment refused.
async fn evening() -> Evening {
    let house = House::listed().await;
    let admin = house.bar("own").await;
    let bar_8 = json!({"name": "Fish, \"chips\"", "commissionRate": "0"});
    house.post(&admin, "/festivals/own/vendors", bar_8).await.is(201, "");
    let wallet = house.wallet(&admin, "own", "50.00").await;
    let friend = house.wallet(&admin, "own", "0.00").await;
    let mut payments = Vec::new();
    let lines = json!([{"product": 0, "count": 2, "price": "5.00"}, {"product": 1, "count": 1, "price": "2.50"}]);
    for (vendor, amount, lines) in [(0, "12.50", lines), (1, "10.00", json!([])), (0, "0.05", json!([]))] {
        let pay = json!({
            "wallet": wallet, "vendorId": vendor_id("own", vendor), "amount": amount, "currency": "EUR", "lines": lines,
        });
        let paid = house.post(&admin, "/cashless/pay", pay).await.is(200, "").json();
        payments.push(paid["transactionId"].as_str().unwrap().to_owned());
    }
    let refund = json!({"transactionId": payments[0], "amount": "2.50", "currency": "EUR"});
    let refund = house.post(&admin, "/cashless/refund", refund).await.is(200, "").json()["transactionId"].clone();
    let gift = json!({"from": wallet, "to": friend, "amount": "5.00", "currency": "EUR"});
    house.post(&admin, "/cashless/transfer", gift).await.is(200, "");
    let correction = json!({"wallet": wallet, "amount": "1.00", "currency": "EUR", "reason": "Spilled"});
    house.post(&admin, "/cashless/correction", correction).await.is(200, "");
    let organizer = house.key(Role::Organizer, &["own"]).await;
    house.listed_all().await;
    Evening { house, admin, organizer, wallet, friend, payments, refund: refund.as_str().unwrap().to_owned() }
}

fn column<'a>(page: &'a Value, field: &str) -> Vec<&'a str> {
    page["items"].as_array().unwrap().iter().map(|row| row[field].as_str().unwrap_or("-")).collect()
}

#[tokio::test]
async fn a_wallets_history_newest_first_by_page() {
    let Evening { house, organizer, wallet, friend, payments, refund, .. } = evening().await;
    let path = format!("/cashless/wallets/{wallet}/history");
    let all = house.get(&organizer, &path).await.is(200, "").json();
    let kinds = ["correction", "transfer_out", "refund", "payment", "payment", "payment", "topup"];
    assert_eq!(column(&all, "kind"), kinds);
    assert_eq!(column(&all, "type")[..3], ["CORRECTION", "TRANSFER", "REFUND"]);
    let (before, after) = (column(&all, "balanceBefore"), column(&all, "balanceAfter"));
    assert_eq!(before[..kinds.len() - 1], after[1..], "each begins where the one before ended");
    assert_eq!((before[6], after[0]), ("0.00", "25.95"));
    assert_eq!(house.balance(&organizer, &wallet).await, "25.95");
    assert_eq!(all["items"][0]["reason"], "Spilled");
    assert_eq!(all["items"][1]["otherWallet"], friend);
    assert_eq!(
        (&all["items"][2]["refundOf"], &all["items"][2]["transactionId"]),
        (&json!(payments[0]), &json!(refund))
    );
    let first = &all["items"][5];
    assert_eq!((&first["refunded"], &first["deviceId"]), (&json!("2.50"), &Value::Null));
    assert!((1..=4).contains(&first["order"].as_u64().unwrap()), "the first in its shard of four");
    assert_eq!(first["lines"][1], json!({"product": 1, "count": 1, "price": "2.50", "vatRate": "7.00"}));

    let mut pages = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = house.get(&organizer, &format!("{path}?limit=3{cursor}")).await.is(200, "").json();
        pages.extend(page["items"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(json!(pages), all["items"], "page by page the same");
    let theirs = house.get(&organizer, &format!("/cashless/wallets/{friend}/history")).await.is(200, "").json();
    assert_eq!(column(&theirs, "kind"), ["transfer_in"]);
    for (path, status, code) in [
        (format!("{path}?limit=0"), 400, "invalid_query"),
        (format!("{path}?cursor=zz"), 400, "invalid_cursor"),
        (format!("{path}?festival=nowhere"), 404, "unknown_festival"),
        (format!("/cashless/wallets/{}/history", WalletId(7)), 404, "unknown_wallet"),
        (format!("/cashless/wallets/{}/history?festival=own", WalletId(7)), 404, "unknown_wallet"),
        ("/cashless/wallets/W1/history".into(), 400, "invalid_path"),
    ] {
        house.get(&organizer, &path).await.is(status, code);
    }
    house.stop().await;
}

#[tokio::test]
async fn a_festivals_transactions_by_type_and_time() {
    let Evening { house, organizer, wallet, payments, .. } = evening().await;
    let list = async |query: &str| {
        house.get(&organizer, &format!("/festivals/own/transactions{query}")).await.is(200, "").json()
    };
    let all = list("").await;
    assert_eq!(all["items"].as_array().unwrap().len(), 8);
    for (query, kinds) in [
        ("?type=PAYMENT", vec!["payment", "payment", "payment"]),
        ("?type=TRANSFER", vec!["transfer_in", "transfer_out"]),
        ("?type=REFUND", vec!["refund"]),
        ("?type=TOPUP", vec!["topup"]),
        ("?vendor=0", vec!["refund", "payment", "payment"]),
        ("?vendor=1&type=PAYMENT", vec!["payment"]),
        ("?refused=true", vec![]),
        ("?to=2001-01-01T00:00:00Z", vec![]),
    ] {
        let page = list(query).await;
        // Both sides of a transfer may be of one millisecond, in two shards.
        let mut shown = column(&page, "kind");
        shown.sort_unstable_by_key(|kind| (kind.starts_with("transfer"), kind.ends_with("out")));
        assert_eq!(shown, kinds, "{query}");
    }
    let first = list("?type=TRANSFER&limit=1").await;
    let next = list(&format!("?type=TRANSFER&limit=1&cursor={}", first["next"].as_str().unwrap())).await;
    assert_eq!(next["next"], Value::Null);
    let mut both = [column(&first, "kind"), column(&next, "kind")].concat();
    both.sort_unstable();
    assert_eq!(both, ["transfer_in", "transfer_out"], "page by page");
    let first_at = column(&all, "at")[7];
    assert_eq!(column(&list(&format!("?to={first_at}")).await, "kind"), [""; 0]);
    assert_eq!(list(&format!("?from={first_at}")).await["items"], all["items"]);
    for (query, status, code) in [
        ("?type=payment", 400, "invalid_query"),
        ("?type=PAYMENT&refused=true", 400, "invalid_query"),
        ("?vendor=0&device=1a2b3c4d-0", 400, "invalid_query"),
        ("?device=1a2b3c4d-0", 404, "unknown_device"),
        ("?from=yesterday", 400, "invalid_query"),
        ("?from=2027-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", 400, "invalid_query"),
    ] {
        house.get(&organizer, &format!("/festivals/own/transactions{query}")).await.is(status, code);
    }
    let one = house.get(&organizer, &format!("/cashless/transactions/{}", payments[0])).await.is(200, "").json();
    assert_eq!((&one["wallet"], &one["refunded"]), (&json!(wallet), &json!("2.50")));
    house.get(&organizer, &format!("/cashless/transactions/{}", fresh())).await.is(404, "unknown_transaction");
    house.get(&organizer, "/cashless/transactions/P1").await.is(400, "invalid_path");
    house.stop().await;
}

#[tokio::test]
async fn orders_and_sales() {
    let Evening { house, admin, organizer, payments, refund, .. } = evening().await;
    let orders = house.get(&organizer, "/festivals/own/vendors/0/orders").await.is(200, "").json();
    let ids: Vec<_> = orders["items"].as_array().unwrap().iter().map(|row| &row["payment"]["transactionId"]).collect();
    assert_eq!(ids, [&json!(payments[2]), &json!(payments[0])], "newest first");
    let refunds = &orders["items"][1]["refunds"];
    assert_eq!((&refunds[0]["transactionId"], &refunds[0]["amount"]), (&json!(refund), &json!("2.50")));
    let page = house.get(&organizer, "/festivals/own/vendors/0/orders?limit=1").await.json();
    let next = format!("/festivals/own/vendors/0/orders?limit=1&cursor={}", page["next"].as_str().unwrap());
    assert_eq!(house.get(&organizer, &next).await.json()["items"][0], orders["items"][1]);
    house.get(&organizer, "/festivals/own/vendors/9/orders").await.is(404, "unknown_vendor");

    let sales = async |by: &str| {
        house.get(&organizer, &format!("/festivals/own/vendors/0/sales/{by}")).await.is(200, "").json()
    };
    // 10 % of 12.50 is 1.25; of 0.05 the vendor gets 0.045, half-even 0.04; of 2.50 it gives back 2.25.
    let sums = json!({
        "payments": 2, "sold": "12.55", "refunds": 1, "refunded": "2.50", "commission": "1.01", "payable": "9.04",
    });
    let with = |name: &str, value: Value| {
        let mut row = sums.clone();
        row[name] = value;
        row
    };
    let hours = sales("hours").await;
    let hour = hours["items"][0]["hour"].clone();
    assert!(hour.as_str().unwrap().ends_with(":00:00Z"), "{hour}");
    if hours["items"].as_array().unwrap().len() == 1 {
        assert_eq!(hours["items"][0], with("hour", hour), "unless the hour struck meanwhile");
    }
    assert_eq!(sales("terminals").await["items"], json!([with("deviceId", Value::Null)]));
    // Nobody said what the 2.50 were for: of 12.50 a fifth was at 7 %, so 0.50, and 2.00 at 19 %.
    let product = |no: Value, name: Value, rate: &str, count: u64, sums: [&str; 4]| {
        let [gross, refunded, turnover, vat] = sums;
        json!({
            "product": no, "name": name, "vatRate": rate, "count": count, "returned": 0,
            "gross": gross, "refunded": refunded, "turnover": turnover, "vat": vat,
        })
    };
    let products = json!([
        product(Value::Null, Value::Null, "0.00", 1, ["0.05", "0.00", "0.05", "0.00"]),
        product(json!(1), json!("Water"), "7.00", 1, ["2.50", "0.50", "2.00", "0.13"]),
        product(json!(0), json!("Lager"), "19.00", 2, ["10.00", "2.00", "8.00", "1.28"]),
    ]);
    assert_eq!(sales("products").await["items"], products);
    let rate = |rate: &str, [gross, refunded, turnover, net, vat]: [&str; 5]| json!({"vatRate": rate, "gross": gross, "refunded": refunded, "turnover": turnover, "net": net, "vat": vat});
    let rates = json!([
        rate("0.00", ["0.05", "0.00", "0.05", "0.05", "0.00"]),
        rate("7.00", ["2.50", "0.50", "2.00", "1.87", "0.13"]),
        rate("19.00", ["10.00", "2.00", "8.00", "6.72", "1.28"]),
    ]);
    assert_eq!(sales("vat").await["items"], rates);
    let days = sales("days").await;
    if days["items"].as_array().unwrap().len() == 1 {
        let day = days["items"][0]["day"].clone();
        assert_eq!(days["items"][0], with("day", day.clone()));
        // The same day's settlement is the same sums.
        let path = format!("/festivals/own/settlement?vendor=0&day={}", day.as_str().unwrap());
        let settled = house.get(&organizer, &path).await.is(200, "").json();
        assert_eq!(settled["vendors"][0]["period"], sums);
    }
    for bad in [
        "from=2027-07-16T18:07:00Z",
        "to=2027-07-16T18:00:00.001Z",
        "day=2027-7-1",
        "day=2027-02-30",
        "day=2027-07-16&from=2027-07-16T18:00:00Z",
    ] {
        let path = format!("/festivals/own/vendors/0/sales/hours?{bad}");
        house.get(&organizer, &path).await.is(400, "invalid_query");
    }
    let none = "/festivals/own/vendors/0/sales/products?to=2001-01-01T00:00:00Z";
    assert_eq!(house.get(&organizer, none).await.json(), json!({"currency": "EUR", "items": []}));
    house.get(&organizer, "/festivals/own/vendors/9/sales/hours").await.is(404, "unknown_vendor");

    // The water comes back by name. Of its 2.50 a part was given back already, so the rest of that is the lager's.
    let by_name = |product: u16| json!({"transactionId": payments[0], "lines": [{"product": product, "count": 1}]});
    let back = house.post(&admin, "/cashless/refund", by_name(1)).await.is(200, "").json();
    assert_eq!(back["amount"], "2.50");
    house.post(&admin, "/cashless/refund", by_name(1)).await.is(409, "refund_exceeds_payment");
    house.post(&admin, "/cashless/refund", by_name(7)).await.is(422, "validation");
    let both = json!({
        "transactionId": payments[0], "amount": "1.00", "currency": "EUR", "lines": [{"product": 0, "count": 1}],
    });
    house.post(&admin, "/cashless/refund", both).await.is(422, "validation");
    house.listed_all().await;
    let products = sales("products").await;
    assert_eq!(column(&products, "refunded"), ["0.00", "2.50", "2.50"]);
    let returned: Vec<_> = products["items"].as_array().unwrap().iter().map(|row| &row["returned"]).collect();
    assert_eq!(returned, [&json!(0), &json!(1), &json!(0)]);
    house.stop().await;
}

#[tokio::test]
async fn every_entry_of_the_books_is_balanced() {
    let Evening { house, organizer, wallet, .. } = evening().await;
    let entries = house.get(&organizer, "/ledger/own/entries").await.is(200, "").json();
    let mut sums = std::collections::BTreeMap::<String, i64>::new();
    for entry in entries["items"].as_array().unwrap() {
        let mut sum = 0;
        for leg in entry["legs"].as_array().unwrap() {
            let amount: f64 = leg["amount"].as_str().unwrap().parse().unwrap();
            let minor = (amount * 100.0).round() as i64;
            let account = leg["account"].as_str().unwrap();
            let account = if account.starts_with("wallet/") { "wallets" } else { account };
            *sums.entry(account.to_owned()).or_default() += minor;
            sum += minor;
        }
        assert_eq!(sum, 0, "{entry}");
    }
    let shown = house.get(&organizer, "/ledger/own/accounts").await.json();
    for account in shown["accounts"].as_array().unwrap() {
        let name = account["account"].as_str().unwrap();
        let minor = sums.get(name).copied().unwrap_or_default();
        let text = format!("{}{}.{:02}", if minor < 0 { "-" } else { "" }, minor.abs() / 100, minor.abs() % 100);
        assert_eq!(account["balance"], text, "{name}: its entries are its balance");
    }
    assert_eq!(entries["items"].as_array().unwrap().last().unwrap()["legs"][0]["account"], format!("wallet/{wallet}"));
    let of_vendor = house.get(&organizer, "/ledger/own/entries?vendor=0").await.json();
    assert_eq!(column(&of_vendor, "kind"), ["refund", "payment", "payment"]);
    house.stop().await;
}

#[tokio::test]
async fn a_settlement_is_proven_against_the_books() {
    let Evening { house, admin, organizer, wallet, payments, .. } = evening().await;
    let statement = house.get(&organizer, "/festivals/own/settlement").await.is(200, "").json();
    assert_eq!((&statement["proven"], &statement["currency"]), (&json!(true), &json!("EUR")), "{statement}");
    let bar_7 = json!({
        "vendorId": vendor_id("own", 0), "name": "Bar 7", "opening": "0.00",
        "period": {
            "payments": 2, "sold": "12.55", "refunds": 1, "refunded": "2.50", "commission": "1.01", "payable": "9.04",
        },
        "closing": "9.04",
        "proof": {"posted": "9.04", "postings": "ADD_UP", "now": "9.04", "inBooks": "9.04", "books": "AGREE"},
    });
    assert_eq!(statement["vendors"][0], bar_7);
    assert_eq!(statement["vendors"][1]["closing"], "10.00");

    // What came before a period is its opening.
    let at = house.get(&organizer, &format!("/cashless/transactions/{}", payments[2])).await.json()["at"].clone();
    let from_then = format!("/festivals/own/settlement?vendor=0&from={}", at.as_str().unwrap());
    let later = house.get(&organizer, &from_then).await.is(200, "").json();
    let row = &later["vendors"][0];
    assert_eq!((later["vendors"].as_array().unwrap().len(), &later["proven"]), (1, &json!(true)), "{later}");
    assert_eq!((&row["closing"], &row["proof"]["now"]), (&json!("9.04"), &json!("9.04")));
    let cents = |text: &Value| text.as_str().unwrap().replace('.', "").parse::<i64>().unwrap();
    assert_eq!(cents(&row["opening"]) + cents(&row["period"]["payable"]), cents(&row["closing"]));
    let long_ago = house.get(&organizer, "/festivals/own/settlement?to=2001-01-01T00:00:00Z").await.json();
    let row = &long_ago["vendors"][0];
    assert_eq!(
        (&row["closing"], &row["proof"]["inBooks"], &long_ago["proven"]),
        (&json!("0.00"), &json!("9.04"), &json!(true))
    );

    let csv = house.get(&organizer, "/festivals/own/settlement?format=csv").await;
    assert_eq!(csv.status, 200);
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    assert_eq!(csv.headers["content-disposition"], "attachment; filename=\"settlement-own.csv\"");
    let lines: Vec<&str> = csv.text.split("\r\n").collect();
    assert!(lines[0].starts_with("vendor_id,name,currency,opening,"), "{}", lines[0]);
    let first = format!(
        "{},Bar 7,EUR,0.00,2,12.55,1,2.50,1.01,9.04,9.04,9.04,ADD_UP,9.04,9.04,AGREE,true",
        vendor_id("own", 0)
    );
    assert_eq!(lines[1], first);
    assert!(lines[2].starts_with(&format!("{},\"Fish, \"\"chips\"\"\",EUR,", vendor_id("own", 1))), "{}", lines[2]);
    assert_eq!((lines.len(), lines[3]), (4, ""));
    assert_eq!(lines[0].split(',').count(), lines[1].split(',').count());

    house.get(&organizer, "/festivals/own/settlement?vendor=9").await.is(404, "unknown_vendor");
    house.get(&organizer, "/festivals/own/settlement?format=pdf").await.is(400, "invalid_query");
    let backwards = "/festivals/own/settlement?from=2027-01-01T00:00:00Z&to=2026-01-01T00:00:00Z";
    house.get(&organizer, backwards).await.is(400, "invalid_query");

    // Asked right behind a payment it waits until its account has it.
    for n in 1..=5 {
        let pay = json!({"wallet": wallet, "vendorId": vendor_id("own", 1), "amount": "1.00", "currency": "EUR"});
        house.post(&admin, "/cashless/pay", pay).await.is(200, "");
        let now = house.get(&organizer, "/festivals/own/settlement?vendor=1").await.json();
        assert_eq!(
            (&now["vendors"][0]["closing"], &now["proven"]),
            (&json!(format!("{}.00", 10 + n)), &json!(true)),
            "{now}"
        );
    }
    house.stop().await;
}

/// Read models that are off: what the account has come to is a cent more than the books say, or a posting is missing.
struct Off {
    truly: Arc<dyn ReadModels>,
    cent_too_many: bool,
}

struct OffViews {
    truly: Arc<dyn CashlessViews>,
    cent_too_many: bool,
}

impl ReadModels for Off {
    fn gates(&self) -> Result<Arc<dyn GateViews>, ReadError> {
        self.truly.gates()
    }
    fn cashless(&self) -> Result<Arc<dyn CashlessViews>, ReadError> {
        Ok(Arc::new(OffViews { truly: self.truly.cashless()?, cent_too_many: self.cent_too_many }))
    }
    fn suspect(&self) {}
    fn condition(&self) -> Condition {
        self.truly.condition()
    }
}

impl CashlessViews for OffViews {
    fn transactions(&self, of: Transactions, page: Page<CashlessPosition>) -> Result<Vec<TransactionRow>, ViewsError> {
        let mut rows = self.truly.transactions(of, page)?;
        if !self.cent_too_many {
            rows.pop();
        }
        Ok(rows)
    }
    fn transaction(&self, id: TransactionId) -> Result<Option<TransactionRow>, ViewsError> {
        self.truly.transaction(id)
    }
    fn orders(&self, of: VendorSpan, page: Page<CashlessPosition>) -> Result<Vec<OrderRow>, ViewsError> {
        self.truly.orders(of, page)
    }
    fn sales(&self, of: VendorSpan, page: Page<SalesPosition>) -> Result<Vec<SalesRow>, ViewsError> {
        self.truly.sales(of, page)
    }
    fn products_sold(&self, of: VendorSpan, page: Page<ProductPosition>) -> Result<Vec<ProductRow>, ViewsError> {
        self.truly.products_sold(of, page)
    }
    fn statement(&self, of: VendorSpan) -> Result<Statement, ViewsError> {
        let mut statement = self.truly.statement(of)?;
        if self.cent_too_many {
            statement.closing.payable += 1;
            statement.now.payable += 1;
        }
        Ok(statement)
    }
}

/// A statement that differs from its postings or from the books by a cent says so, in either form.
#[tokio::test]
async fn a_settlement_that_is_off_by_a_cent_says_so() {
    for (cent_too_many, postings, books) in [(true, "DIFFER", "DIFFER"), (false, "DIFFER", "AGREE")] {
        let Evening { mut house, organizer, .. } = evening().await;
        let truly = house.state.read_models.take().unwrap();
        house.state.read_models = Some(Arc::new(Off { truly, cent_too_many }));
        let limits = Limits { requests_per_s: None, ..Limits::default() };
        (house.router, _) = app(house.state.clone(), Routes::new(), limits);
        let statement = house.get(&organizer, "/festivals/own/settlement").await.is(200, "").json();
        assert_eq!(statement["proven"], false, "{statement}");
        let proof = &statement["vendors"][0]["proof"];
        assert_eq!((&proof["postings"], &proof["books"]), (&json!(postings), &json!(books)), "{proof}");
        assert_eq!(proof["inBooks"], "9.04");
        let csv = house.get(&organizer, "/festivals/own/settlement?format=csv").await.text;
        assert!(csv.lines().nth(1).unwrap().ends_with(&format!(",{books},false")), "{csv}");
        house.stop().await;
    }
}

/// What a terminal did is in all of it, with its name; what it was refused as well.
#[tokio::test]
async fn a_terminals_payments_are_listed() {
    let Evening { house, admin, organizer, wallet, .. } = evening().await;
    let offer = json!({"name": "left", "vendor": 0});
    let code = house.post(&admin, "/festivals/own/terminals/enrolment-codes", offer).await.is(201, "").json();
    let device = house.enrol("own", code["code"].as_str().unwrap(), [5; 32]).await;
    let wallet = WalletId::parse(wallet.as_bytes()).unwrap();
    for (seq, minor) in [(1, 500), (2, 900_000)] {
        let lines = [Line { product: engine::model::ids::ProductNo(0), count: 1, price: minor }].into();
        let amount = engine::model::money::Money { minor, currency: engine::model::money::Currency::EUR };
        house.terminal(&device, seq, TerminalAction::Pay { wallet, tap: None, amount, lines }).await;
    }
    house.listed_all().await;
    let of_device = format!("/festivals/own/transactions?device={device}");
    let paid = house.get(&organizer, &of_device).await.is(200, "").json();
    assert_eq!((column(&paid, "deviceId"), column(&paid, "amount")), (vec![device.as_str()], vec!["5.00"]));
    let refused = house.get(&organizer, &format!("{of_device}&refused=true")).await.is(200, "").json();
    assert_eq!(column(&refused, "code"), ["insufficient_funds"]);
    assert_eq!(refused["items"][0]["transactionId"], Value::Null);
    let sales = house.get(&organizer, "/festivals/own/vendors/0/sales/terminals").await.json();
    assert_eq!(sales["items"][1]["deviceId"], device);
    assert_eq!(sales["items"][1]["payable"], "4.50");
    let listed = house.get(&organizer, "/festivals/own/terminals").await.json();
    assert!(listed["items"][0]["lastSeenAt"].is_string(), "{listed}");
    let foreign = DeviceId::new(FestivalId::of_slug("foreign"), 0);
    let path = format!("/festivals/own/transactions?device={foreign}");
    house.get(&organizer, &path).await.is(404, "unknown_device");
    house.stop().await;
}

/// What happened at another organiser's festival is theirs: the wallet's own staff see the sums of their wallet, no more.
#[tokio::test]
async fn histories_of_two_organisers() {
    let house = House::listed().await;
    let admin = house.bar("own").await;
    house.bar("foreign").await;
    let takes_all = json!({"currency": "EUR", "foreignWallets": true});
    house.put(&admin, "/festivals/own/cashless", takes_all).await.is(204, "");
    let wallet = house.wallet(&admin, "foreign", "50.00").await;
    let (ours, theirs) = (house.key(Role::Organizer, &["own"]).await, house.key(Role::Organizer, &["foreign"]).await);
    let path = format!("/cashless/wallets/{wallet}/history");
    let never = format!("/cashless/wallets/{}/history", WalletId(7));
    for query in ["", "?festival=own"] {
        house.listed_all().await;
        let (there, not) =
            (house.get(&ours, &format!("{path}{query}")).await, house.get(&ours, &format!("{never}{query}")).await);
        assert_eq!((there.status, &there.text), (not.status, &not.text), "{query}");
        there.is(404, "unknown_wallet");
    }
    // A transfer to a wallet elsewhere comes back, and its history does not say that there is one.
    let takes = async |foreign: bool| {
        let policy = json!({"currency": "EUR", "foreignWallets": foreign});
        house.put(&admin, "/festivals/own/cashless", policy).await.is(204, "");
    };
    takes(false).await;
    let from = house.wallet(&admin, "own", "50.00").await;
    for to in [wallet.as_str(), &WalletId(7).to_string()] {
        let gift = json!({"from": from, "to": to, "amount": "5.00", "currency": "EUR", "festival": "own"});
        house.post(&ours, "/cashless/transfer", gift).await.is(404, "unknown_wallet");
    }
    house.listed_all().await;
    let history = house.get(&ours, &format!("/cashless/wallets/{from}/history")).await.is(200, "").json();
    assert!(column(&history, "code").iter().all(|code| matches!(*code, "-" | "unknown_wallet")), "{history}");
    takes(true).await;

    let pay =
        |slug: &str| json!({"wallet": wallet, "vendorId": vendor_id(slug, 0), "amount": "5.00", "currency": "EUR"});
    let here = house.post(&ours, "/cashless/pay", pay("own")).await.is(200, "").json();
    let there = house.post(&theirs, "/cashless/pay", pay("foreign")).await.is(200, "").json();
    house.listed_all().await;
    house.get(&ours, &path).await.is(404, "unknown_wallet");
    let seen = house.get(&ours, &format!("{path}?festival=own")).await.is(200, "").json();
    assert_eq!(column(&seen, "transactionId"), [here["transactionId"].as_str().unwrap()]);
    let seen = house.get(&theirs, &path).await.is(200, "").json();
    assert_eq!(column(&seen, "kind"), ["payment", "payment", "topup"]);
    let (own_row, foreign_row) = (&seen["items"][0], &seen["items"][1]);
    assert_eq!((&own_row["vendorId"], &own_row["balanceAfter"]), (&json!(vendor_id("foreign", 0)), &json!("40.00")));
    assert_eq!((&foreign_row["vendorId"], &foreign_row["order"]), (&Value::Null, &Value::Null));
    assert_eq!((&foreign_row["amount"], &foreign_row["sources"]), (&json!("5.00"), &json!([])));
    for (key, id) in [(&ours, &there), (&theirs, &here)] {
        let path = format!("/cashless/transactions/{}", id["transactionId"].as_str().unwrap());
        house.get(key, &path).await.is(404, "unknown_transaction");
    }
    for key in [&ours, &theirs] {
        let other = if key == &ours { "foreign" } else { "own" };
        for path in ["transactions", "settlement", "vendors/0/orders", "vendors/0/sales/hours"] {
            house.get(key, &format!("/festivals/{other}/{path}")).await.is(404, "unknown_festival");
        }
        house.get(key, &format!("/ledger/{other}/entries")).await.is(404, "unknown_festival");
    }
    let own = house.get(&ours, "/festivals/own/transactions?type=PAYMENT").await.is(200, "").json();
    assert_eq!(column(&own, "transactionId"), [here["transactionId"].as_str().unwrap()]);
    house.stop().await;
}
