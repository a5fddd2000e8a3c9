//! Roles × routes, and what a key may not see.

use axum::body::Body;
use axum::http::Request;
use engine::model::ids::{DeviceId, FestivalId};
use engine::model::status::Role;
use serde_json::{Value, json};

use crate::house::{House, category, festival, fresh, fresh_tag, vendor_id};

/// Every route of the API with the roles that may use it at their own festival: A(DMIN without festivals), a (ADMIN of
/// this festival), O(RGANIZER), T (STAFF), C(ASHIER), S(ECURITY), U(SER).
pub(crate) const ROUTES: &[(&str, &str, &str)] = &[
    ("A.. ....", "POST", "/festivals"),
    ("AaO T.S.", "GET", "/festivals"),
    ("AaO T.S.", "GET", "/festivals/{slug}"),
    ("AaO ....", "POST", "/festivals/{slug}/status"),
    ("AaO ....", "PUT", "/festivals/{slug}"),
    ("AaO ....", "POST", "/festivals/{slug}/reset-scans"),
    ("AaO ....", "PUT", "/festivals/{slug}/policy"),
    ("AaO ....", "POST", "/festivals/{slug}/qr-keys/rotate"),
    ("AaO ....", "POST", "/festivals/{slug}/zones"),
    ("AaO ....", "PUT", "/festivals/{slug}/zones/{zone}"),
    ("AaO ..S.", "POST", "/festivals/{slug}/zones/{zone}/state"),
    ("AaO T.S.", "GET", "/festivals/{slug}/zones/{zone}/inside"),
    ("AaO ....", "POST", "/festivals/{slug}/gates"),
    ("AaO ....", "POST", "/festivals/{slug}/categories"),
    ("AaO ....", "PUT", "/festivals/{slug}/categories/{category}"),
    ("AaO T.S.", "GET", "/festivals/{slug}/live"),
    ("AaO T.S.", "GET", "/festivals/{slug}/live/stream"),
    ("AaO T...", "POST", "/festivals/{slug}/tickets"),
    ("AaO T...", "GET", "/festivals/{slug}/tickets"),
    ("AaO T.S.", "GET", "/festivals/{slug}/access-log"),
    ("AaO T.S.", "GET", "/festivals/{slug}/counts"),
    ("AaO T...", "POST", "/festivals/{slug}/devices/enrolment-codes"),
    ("AaO T...", "GET", "/festivals/{slug}/devices"),
    ("AaO T...", "GET", "/devices/{device}"),
    ("AaO T...", "POST", "/devices/{device}/revoke"),
    ("AaO ....", "POST", "/devices/{device}/readmit"),
    ("AaO T.S.", "GET", "/festivals/{slug}/tickets/by-code/{code}"),
    ("AaO ....", "POST", "/tickets/{ticket}/restore"),
    ("AaO ..S.", "POST", "/tickets/{ticket}/admit"),
    ("AaO T.S.", "GET", "/tickets/{ticket}"),
    ("AaO T...", "GET", "/tickets/{ticket}/qr.svg"),
    ("AaO T.S.", "GET", "/tickets/{ticket}/history"),
    ("AaO T...", "POST", "/tickets/{ticket}/status"),
    ("AaO ..S.", "POST", "/tickets/{ticket}/block"),
    ("AaO ..S.", "POST", "/tickets/{ticket}/unblock"),
    ("AaO T...", "POST", "/tickets/{ticket}/tag"),
    ("AaO T...", "POST", "/tickets/{ticket}/tag/lost"),
    ("AaO TC..", "GET", "/wristbands/{uid}"),
    ("AaO TC..", "POST", "/wristbands/{uid}/lost"),
    ("AaO T...", "POST", "/tickets/{ticket}/undo-scan"),
    ("AaO TC..", "GET", "/festivals/{slug}/cashless"),
    ("AaO ....", "PUT", "/festivals/{slug}/cashless"),
    ("AaO TC..", "GET", "/festivals/{slug}/vendors"),
    ("AaO ....", "POST", "/festivals/{slug}/vendors"),
    ("AaO TC..", "GET", "/festivals/{slug}/vendors/{vendor}"),
    ("AaO ....", "PUT", "/festivals/{slug}/vendors/{vendor}"),
    ("AaO ....", "POST", "/festivals/{slug}/vendors/{vendor}/products"),
    ("AaO ....", "PUT", "/festivals/{slug}/vendors/{vendor}/products/{product}"),
    ("AaO T...", "POST", "/festivals/{slug}/terminals/enrolment-codes"),
    ("AaO T...", "GET", "/festivals/{slug}/terminals"),
    ("AaO TC..", "GET", "/cashless/account"),
    ("AaO TC..", "PUT", "/cashless/account"),
    ("AaO T...", "POST", "/cashless/account/merge"),
    ("AaO .C..", "POST", "/cashless/topup"),
    ("AaO T...", "POST", "/cashless/pay"),
    ("AaO T...", "POST", "/cashless/refund"),
    ("AaO T...", "POST", "/cashless/transfer"),
    ("AaO .C..", "POST", "/cashless/cash-out"),
    ("Aa. ....", "POST", "/cashless/correction"),
    ("AaO TC..", "POST", "/cashless/wallets"),
    ("AaO TC..", "POST", "/festivals/{slug}/wallets"),
    ("AaO T...", "POST", "/cashless/wallets/{wallet}/block"),
    ("AaO T...", "POST", "/cashless/wallets/{wallet}/unblock"),
    ("AaO TC..", "POST", "/cashless/wallets/{wallet}/claim"),
    ("AaO TC..", "POST", "/cashless/wallets/{wallet}/tag"),
    ("AaO TC..", "POST", "/cashless/wallets/{wallet}/tag/lost"),
    ("AaO TC..", "GET", "/cashless/wallets/{wallet}/qr.svg"),
    ("AaO TC..", "GET", "/cashless/wallets/{wallet}/history"),
    ("AaO T...", "GET", "/cashless/transactions/{transaction}"),
    ("AaO T...", "GET", "/festivals/{slug}/transactions"),
    ("AaO T...", "GET", "/festivals/{slug}/vendors/{vendor}/orders"),
    ("AaO ....", "GET", "/festivals/{slug}/vendors/{vendor}/sales/hours"),
    ("AaO ....", "GET", "/festivals/{slug}/vendors/{vendor}/sales/days"),
    ("AaO ....", "GET", "/festivals/{slug}/vendors/{vendor}/sales/terminals"),
    ("AaO ....", "GET", "/festivals/{slug}/vendors/{vendor}/sales/products"),
    ("AaO ....", "GET", "/festivals/{slug}/vendors/{vendor}/sales/vat"),
    ("AaO ....", "GET", "/festivals/{slug}/settlement"),
    ("AaO ....", "GET", "/ledger/{slug}/entries"),
    ("AaO ....", "GET", "/ledger/{slug}/accounts"),
    ("AaO ....", "GET", "/ledger/{slug}/trial-balance"),
    ("A.. ....", "GET", "/keys"),
    ("A.. ....", "POST", "/keys"),
    ("A.. ....", "DELETE", "/keys/{no}"),
];

/// What stands in for the names in a route.
struct Place {
    slug: &'static str,
    ticket: String,
    device: String,
    wallet: String,
    payment: String,
    tag: String,
}

/// A body that the route understands.
fn body(path: &str, place: &Place) -> Option<Value> {
    let Place { slug, wallet, payment, .. } = place;
    Some(match path {
        "/festivals/{slug}/cashless" => json!({"currency": "EUR"}),
        "/festivals/{slug}/vendors" | "/festivals/{slug}/vendors/{vendor}" => {
            json!({"name": "Bar 8", "commissionRate": "0"})
        }
        "/festivals/{slug}/vendors/{vendor}/products" | "/festivals/{slug}/vendors/{vendor}/products/{product}" => {
            json!({"name": "Stout", "price": "6.00", "vatRate": "19"})
        }
        "/festivals/{slug}/terminals/enrolment-codes" => json!({"name": "left till", "vendor": 0}),
        "/cashless/account" | "/cashless/account/merge" => json!({"account": fresh(), "festival": slug}),
        "/cashless/topup" => json!({"wallet": wallet, "festival": slug, "amount": "5.00", "currency": "EUR"}),
        "/cashless/pay" => {
            json!({"wallet": wallet, "vendorId": vendor_id(slug, 0), "amount": "0.10", "currency": "EUR"})
        }
        "/cashless/refund" => json!({"transactionId": payment, "amount": "0.01", "currency": "EUR"}),
        "/cashless/transfer" => json!({"from": wallet, "to": fresh(), "amount": "1.00", "currency": "EUR"}),
        "/cashless/cash-out" => json!({"wallet": wallet}),
        "/cashless/correction" => json!({"wallet": wallet, "amount": "1", "currency": "EUR", "reason": "test"}),
        "/cashless/wallets" => json!({"festival": slug, "tag": fresh_tag()}),
        "/cashless/wallets/{wallet}/claim" => json!({"account": fresh()}),
        "/cashless/wallets/{wallet}/tag" => json!({"tag": fresh_tag(), "replace": true}),
        "/festivals" => festival(&format!("f-{}", fresh())),
        "/festivals/{slug}" => {
            json!({"name": "Another night", "startsAt": "2027-07-16T12:00:00Z", "endsAt": "2027-07-20T12:00:00Z"})
        }
        "/festivals/{slug}/reset-scans" | "/devices/{device}/readmit" | "/tickets/{ticket}/restore" => {
            json!({"reason": "a test"})
        }
        "/tickets/{ticket}/admit" => json!({"gate": 0, "reason": "a test"}),
        "/festivals/{slug}/status" => json!({"status": "CANCELLED"}),
        "/festivals/{slug}/policy" => json!({"entry": "reentry"}),
        "/festivals/{slug}/zones" => json!({"name": "Lawn", "capacity": 10}),
        "/festivals/{slug}/zones/{zone}" => json!({"name": "Ground", "capacity": 1001}),
        "/festivals/{slug}/zones/{zone}/state" => json!({"state": "OPEN"}),
        "/festivals/{slug}/gates" => json!({"name": "South", "zone": 0}),
        "/festivals/{slug}/categories" | "/festivals/{slug}/categories/{category}" => category(100),
        "/festivals/{slug}/tickets" => json!({"category": 0, "paid": true}),
        "/festivals/{slug}/devices/enrolment-codes" => json!({"gate": 0, "name": "left"}),
        "/tickets/{ticket}/status" => json!({"status": "SOLD"}),
        "/tickets/{ticket}/tag" => json!({"uid": fresh_tag()}),
        "/keys" => json!({"name": "another", "role": "ADMIN"}),
        _ => return None,
    })
}

async fn call(house: &House, key: &str, method: &str, route: &str, place: &Place) -> (u16, String) {
    let path = route
        .replace("{slug}", place.slug)
        .replace("{ticket}", &place.ticket)
        .replace("{device}", &place.device)
        .replace("{code}", "BD2FP2D4")
        .replace("{wallet}", &place.wallet)
        .replace("{transaction}", &place.payment)
        .replace("{uid}", &place.tag)
        .replace("{zone}", "0")
        .replace("{category}", "0")
        .replace("{vendor}", "0")
        .replace("{product}", "0")
        .replace("{no}", "99");
    if method == "GET" {
        let query = match route {
            "/festivals/{slug}/access-log" => "?zone=0".to_owned(),
            "/cashless/account" => format!("?wallet={}", place.wallet),
            _ => String::new(),
        };
        return house.get(key, &format!("{path}{query}")).await.code();
    }
    if (method, route) == ("POST", "/festivals/{slug}/tickets") {
        return house.bulk(key, place.slug, &fresh(), body(route, place).unwrap().to_string()).await.code();
    }
    house.call(key, method, &path, &fresh(), body(route, place)).await.code()
}

/// A festival with a ticket, a wallet and a payment. What was never there has the like.
async fn place(house: &House, slug: &'static str) -> Place {
    let admin = house.bar(slug).await;
    let wallet = house.wallet(&admin, slug, "50.00").await;
    let pay = json!({"wallet": wallet, "vendorId": vendor_id(slug, 0), "amount": "10.00", "currency": "EUR"});
    let paid = house.post(&admin, "/cashless/pay", pay).await.is(200, "").json();
    let tag = fresh_tag();
    house.post(&admin, "/cashless/wallets", json!({"festival": slug, "tag": tag})).await.is(201, "");
    Place {
        slug,
        ticket: house.ticket(&admin, slug).await,
        device: DeviceId::new(FestivalId::of_slug(slug), 0).to_string(),
        wallet,
        payment: paid["transactionId"].as_str().unwrap().to_owned(),
        tag,
    }
}

fn never() -> Place {
    let id = FestivalId::of_slug("never");
    let wallet = engine::model::ids::WalletId(0x0123_4567_89AB_CDEF);
    Place {
        slug: "never",
        ticket: engine::model::ids::TicketId::new(id, engine::model::ids::CategoryNo(0), 0, 7).to_string(),
        device: DeviceId::new(id, 0).to_string(),
        wallet: wallet.to_string(),
        payment: engine::model::ids::TransactionId { wallet, serial: 1 }.to_string(),
        tag: fresh_tag(),
    }
}

#[tokio::test]
async fn each_role_does_what_it_may_and_nothing_else() {
    let house = House::listed().await;
    let own = place(&house, "own").await;
    house.bar("foreign").await;
    house.listed_all().await;
    let keys = [
        ('A', house.key(Role::Admin, &[]).await),
        ('a', house.key(Role::Admin, &["own"]).await),
        ('O', house.key(Role::Organizer, &["own"]).await),
        ('T', house.key(Role::Staff, &["own"]).await),
        ('C', house.key(Role::Cashier, &["own"]).await),
        ('S', house.key(Role::Security, &["own"]).await),
        ('U', house.key(Role::User, &["own"]).await),
    ];
    for (may, method, route) in ROUTES.iter().filter(|(_, _, route)| !route.ends_with("/status")) {
        for (role, key) in &keys {
            let (status, code) = call(&house, key, method, route, &own).await;
            if may.contains(*role) {
                assert!(
                    status != 401 && status != 403 && code != "unknown_festival" && code != "validation",
                    "{role} {method} {route}: {status} {code}"
                );
            } else {
                assert_eq!((status, code.as_str()), (403, "forbidden"), "{role} {method} {route}");
            }
        }
    }
    // The two that end something come last.
    for (may, method, route) in ROUTES.iter().filter(|(_, _, route)| route.ends_with("/status")) {
        for (role, key) in &keys {
            let (status, code) = call(&house, key, method, route, &own).await;
            assert_eq!(status == 403, !may.contains(*role), "{role} {method} {route}: {status} {code}");
        }
    }
    house.stop().await;
}

#[tokio::test]
async fn a_foreign_festival_answers_like_one_that_never_was() {
    let house = House::listed().await;
    house.bar("own").await;
    let (foreign_one, never_one) = (place(&house, "foreign").await, never());
    house.listed_all().await;
    for role in [Role::Admin, Role::Organizer, Role::Staff, Role::Security, Role::Cashier, Role::User] {
        let key = house.key(role, &["own"]).await;
        for (_, method, route) in ROUTES.iter().filter(|(_, _, route)| route.contains('{') && !route.contains("{no}")) {
            let foreign = call(&house, &key, method, route, &foreign_one).await;
            let never = call(&house, &key, method, route, &never_one).await;
            assert_eq!(foreign, never, "{} can tell them apart by {method} {route}", role.word());
            assert_eq!(foreign.0, 404, "{} {method} {route}", role.word());
        }
    }
    let key = house.key(Role::Organizer, &["own"]).await;
    let list = house.get(&key, "/festivals").await.json();
    let slugs: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| item["slug"].clone()).collect();
    assert_eq!(slugs, ["own"]);
    house.get(&key, "/festivals/foreign").await.is(404, "unknown_festival");
    // A device of a foreign festival cannot be reached by way of one's own either.
    house
        .get(&key, &format!("/festivals/own/access-log?device={}", foreign_one.device))
        .await
        .is(404, "unknown_device");
    house.stop().await;
}

#[tokio::test]
async fn without_a_key_that_is_known_and_unrevoked_nothing_is_told() {
    let house = House::new().await;
    let admin = house.festival("own", 10).await;
    let made = house.post(&admin, "/keys", json!({"name": "door", "role": "STAFF", "festivals": ["own"]})).await;
    let made = made.is(201, "").json();
    let staff = made["key"].as_str().unwrap().to_owned();
    house.get(&staff, "/festivals/own").await.is(200, "");
    let unknown = gateway::auth::key_text(&[9; 32]);
    for header in ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer tgk_short", &format!("Bearer {unknown}")] {
        for (_, method, route) in ROUTES {
            let path = route.replace(['{', '}'], "");
            let mut request = Request::builder().method(*method).uri(format!("/api/v1{path}"));
            if !header.is_empty() {
                request = request.header("authorization", header);
            }
            let reply = house.send(request.body(Body::empty()).unwrap()).await;
            // A path that cannot be read may be said first: that tells nothing about any festival.
            assert!(matches!(reply.code().0, 401 | 400), "{header:?} {method} {route}: {}", reply.text);
            if reply.status == 401 {
                assert_eq!(reply.headers["www-authenticate"], "Bearer realm=\"tapgate\"");
            }
        }
    }
    house.call(&admin, "DELETE", &format!("/keys/{}", made["no"]), &fresh(), None).await.is(204, "");
    house.get(&staff, "/festivals/own").await.is(401, "not_signed_in");
    house.call(&admin, "DELETE", "/keys/999", &fresh(), None).await.is(404, "unknown_key");
    let listed = house.get(&admin, "/keys").await.json();
    let row = listed["items"].as_array().unwrap().iter().find(|row| row["no"] == made["no"]).unwrap();
    assert_eq!((&row["revoked"], &row["festivals"]), (&json!(true), &json!(["own"])));
    assert!(!listed.to_string().contains("tgk_"), "no key is ever shown again");
    house.stop().await;
}

#[tokio::test]
async fn a_key_is_made_for_festivals_that_exist() {
    let house = House::new().await;
    let admin = house.festival("own", 10).await;
    let reply = house.post(&admin, "/keys", json!({"name": "x", "role": "STAFF", "festivals": ["own", "onw"]})).await;
    assert_eq!(reply.is(422, "validation").json()["errors"][0]["pointer"], "/festivals/1");
    let everywhere = json!({"name": "x", "role": "STAFF", "festivals": []});
    let reply = house.post(&admin, "/keys", everywhere).await;
    assert_eq!(reply.is(422, "validation").json()["errors"][0]["pointer"], "/festivals");
    let visitor = json!({"name": "x", "role": "USER", "festivals": ["own"]});
    let reply = house.post(&admin, "/keys", visitor).await;
    assert_eq!(reply.is(422, "validation").json()["errors"][0]["pointer"], "/role");
    let cashier = json!({"name": "till", "role": "CASHIER", "festivals": ["own"]});
    assert_eq!(house.post(&admin, "/keys", cashier).await.status, 201);
    house.stop().await;
}
