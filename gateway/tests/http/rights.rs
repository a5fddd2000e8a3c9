//! Roles × routes, and what a key may not see.

use axum::body::Body;
use axum::http::Request;
use engine::ids::{DeviceId, FestivalId};
use engine::status::Role;
use serde_json::{Value, json};

use crate::house::{House, category, festival, fresh};

/// Every route of the API with the roles that may use it at their own festival: A(DMIN without festivals), a (ADMIN of
/// this festival), O(RGANIZER), T (STAFF), C(ASHIER), S(ECURITY), U(SER).
pub(crate) const ROUTES: &[(&str, &str, &str)] = &[
    ("A.. ....", "POST", "/festivals"),
    ("AaO T.S.", "GET", "/festivals"),
    ("AaO T.S.", "GET", "/festivals/{slug}"),
    ("AaO ....", "POST", "/festivals/{slug}/status"),
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
    ("AaO T.S.", "GET", "/tickets/{ticket}"),
    ("AaO T...", "GET", "/tickets/{ticket}/qr.svg"),
    ("AaO T.S.", "GET", "/tickets/{ticket}/history"),
    ("AaO T...", "POST", "/tickets/{ticket}/status"),
    ("AaO ..S.", "POST", "/tickets/{ticket}/block"),
    ("AaO ..S.", "POST", "/tickets/{ticket}/unblock"),
    ("AaO T...", "POST", "/tickets/{ticket}/tag"),
    ("AaO T...", "POST", "/tickets/{ticket}/undo-scan"),
    ("A.. ....", "GET", "/keys"),
    ("A.. ....", "POST", "/keys"),
    ("A.. ....", "DELETE", "/keys/{no}"),
];

/// A body that the route understands.
fn body(path: &str) -> Option<Value> {
    Some(match path {
        "/festivals" => festival(&format!("f-{}", fresh())),
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
        "/tickets/{ticket}/tag" => json!({"uid": "04a1b2c3"}),
        "/keys" => json!({"name": "another", "role": "ADMIN"}),
        _ => return None,
    })
}

async fn call(
    house: &House,
    key: &str,
    method: &str,
    route: &str,
    slug: &str,
    ticket: &str,
    device: &str,
) -> (u16, String) {
    let path = route
        .replace("{slug}", slug)
        .replace("{ticket}", ticket)
        .replace("{device}", device)
        .replace("{zone}", "0")
        .replace("{category}", "0")
        .replace("{no}", "99");
    if method == "GET" {
        let query = if route.ends_with("access-log") { "?zone=0" } else { "" };
        return house.get(key, &format!("{path}{query}")).await.code();
    }
    if (method, route) == ("POST", "/festivals/{slug}/tickets") {
        return house.bulk(key, slug, &fresh(), body(route).unwrap().to_string()).await.code();
    }
    house.call(key, method, &path, &fresh(), body(route)).await.code()
}

#[tokio::test]
async fn each_role_does_what_it_may_and_nothing_else() {
    let house = House::new().await;
    let admin = house.festival("own", 1_000).await;
    house.festival("foreign", 10).await;
    let ticket = house.ticket(&admin, "own").await;
    let device = DeviceId::new(FestivalId::of_slug("own"), 0).to_string();
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
            let (status, code) = call(&house, key, method, route, "own", &ticket, &device).await;
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
            let (status, code) = call(&house, key, method, route, "own", &ticket, &device).await;
            assert_eq!(status == 403, !may.contains(*role), "{role} {method} {route}: {status} {code}");
        }
    }
    house.stop().await;
}

#[tokio::test]
async fn a_foreign_festival_answers_like_one_that_never_was() {
    let house = House::new().await;
    house.festival("own", 10).await;
    let admin = house.festival("foreign", 10).await;
    let foreign_ticket = house.ticket(&admin, "foreign").await;
    let foreign_device = DeviceId::new(FestivalId::of_slug("foreign"), 0).to_string();
    let never_ticket = {
        let own = FestivalId::of_slug("never");
        engine::ids::TicketId::new(own, engine::ids::CategoryNo(0), 0, 7).to_string()
    };
    let never_device = DeviceId::new(FestivalId::of_slug("never"), 0).to_string();
    for role in [Role::Admin, Role::Organizer, Role::Staff, Role::Security, Role::Cashier, Role::User] {
        let key = house.key(role, &["own"]).await;
        for (_, method, route) in ROUTES.iter().filter(|(_, _, route)| route.contains('{') && !route.contains("{no}")) {
            let foreign = call(&house, &key, method, route, "foreign", &foreign_ticket, &foreign_device).await;
            let never = call(&house, &key, method, route, "never", &never_ticket, &never_device).await;
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
    house.get(&key, &format!("/festivals/own/access-log?device={foreign_device}")).await.is(404, "unknown_device");
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
    house.post(&admin, "/keys", everywhere).await.is(422, "invalid_value");
    house.stop().await;
}
