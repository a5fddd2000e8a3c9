//! A festival set up by hand, and every change done twice.

use engine::model::principal::Principal;
use engine::model::status::Role;
use serde_json::{Value, json};

use crate::house::{House, category, festival, fresh};

#[tokio::test]
async fn a_festival_from_its_first_line_to_its_gates() {
    let house = House::new().await;
    let admin = house.festival("own", 100).await;
    let shown = house.get(&admin, "/festivals/own").await.json();
    assert_eq!(shown["status"], "DRAFT");
    assert_eq!(shown["startsAt"], "2027-07-16T12:00:00Z");
    assert_eq!(shown["endsAt"], "2027-07-19T10:00:00Z");
    assert_eq!(shown["policy"], json!({"entry": "single_entry", "ack": "durable", "logOneRejectionIn": 1}));
    assert_eq!(shown["zones"][1]["parent"], 0);
    assert_eq!(shown["gates"][0]["name"], "North");
    assert_eq!(shown["categories"][0]["price"], json!({"amount": "89.50", "currency": "EUR"}));
    assert_eq!(shown["categories"][0]["zones"], json!([0, 1]));

    house.post(&admin, "/festivals/own/status", json!({"status": "ONGOING"})).await.is(409, "invalid_transition");
    house.post(&admin, "/festivals/own/status", json!({"status": "PUBLISHED"})).await.is(204, "");
    house.post(&admin, "/festivals/own/status", json!({"status": "ONGOING"})).await.is(204, "");
    house.put(&admin, "/festivals/own/policy", json!({"entry": "reentry", "ack": "decided"})).await.is(204, "");
    house.put(&admin, "/festivals/own/policy", json!({"logOneRejectionIn": 0})).await.is(422, "invalid_value");
    house.put(&admin, "/festivals/own/zones/0", json!({"name": "Meadow", "capacity": 5})).await.is(204, "");
    house.put(&admin, "/festivals/own/zones/7", json!({"name": "Meadow", "capacity": 5})).await.is(404, "unknown_zone");
    house.put(&admin, "/festivals/own/zones/200", json!({"name": "M", "capacity": 5})).await.is(404, "unknown_zone");
    house.put(&admin, "/festivals/own/categories/0", category(50)).await.is(204, "");
    house.put(&admin, "/festivals/own/categories/9", category(50)).await.is(404, "unknown_category");
    house.post(&admin, "/festivals/own/zones/1/state", json!({"state": "EVACUATING"})).await.is(204, "");
    let rotated = house.post(&admin, "/festivals/own/qr-keys/rotate", json!({})).await;
    assert_eq!(rotated.is(200, "").json(), json!({"qrVersion": 2}));

    let shown = house.get(&admin, "/festivals/own").await.json();
    assert_eq!((&shown["status"], &shown["policy"]["ack"]), (&json!("ONGOING"), &json!("decided")));
    assert_eq!(shown["zones"][0]["name"], "Meadow");
    assert_eq!(shown["zones"][0]["parent"], Value::Null);
    assert_eq!(shown["categories"][0]["quota"], 50);
    let live = house.get(&admin, "/festivals/own/live").await.is(200, "").json();
    assert_eq!(live["zones"][1]["state"], "EVACUATING");
    let inside = house.get(&admin, "/festivals/own/zones/0/inside").await.is(200, "").json();
    assert_eq!(inside, json!({"items": [], "next": null}));
    house.get(&admin, "/festivals/own/zones/9/inside").await.is(404, "unknown_zone");
    house.get(&admin, "/festivals/own/zones/64/inside").await.is(404, "unknown_zone");
    house.stop().await;
}

#[tokio::test]
async fn a_ticket_looked_up_blocked_tagged_and_drawn() {
    let house = House::new().await;
    let admin = house.festival("own", 100).await;
    let ticket = house.ticket(&admin, "own").await;
    let path = format!("/tickets/{ticket}");
    house.post(&admin, &format!("{path}/block"), json!({})).await.is(204, "");
    assert_eq!(house.get(&admin, &path).await.json()["blocked"], true);
    house.call(&admin, "POST", &format!("{path}/unblock"), &fresh(), None).await.is(204, "");
    let shown = house.get(&admin, &format!("/tickets/{}", ticket.to_uppercase())).await.is(200, "").json();
    assert_eq!((&shown["blocked"], &shown["status"]), (&json!(false), &json!("SOLD")));
    house.post(&admin, &format!("{path}/tag"), json!({"uid": "04A1B2C3"})).await.is(204, "");
    let other = house.ticket(&admin, "own").await;
    house.post(&admin, &format!("/tickets/{other}/tag"), json!({"uid": "04a1b2c3"})).await.is(409, "tag_taken");
    house.post(&admin, &format!("{path}/tag"), json!({"uid": "04"})).await.is(422, "validation");
    house.post(&admin, &format!("{path}/tag"), json!({"uid": "08a1b2c3"})).await.is(422, "unusable_tag");
    assert_eq!(house.get(&admin, &path).await.json()["nfcTagId"], "04a1b2c3");
    house.post(&admin, &format!("{path}/undo-scan"), json!({})).await.is(409, "nothing_to_undo");
    house.post(&admin, &format!("{path}/status"), json!({"status": "RESERVED"})).await.is(409, "invalid_transition");
    house.post(&admin, &format!("{path}/status"), json!({"status": "CANCELLED"})).await.is(204, "");

    let svg = house.get(&admin, &format!("{path}/qr.svg")).await;
    assert_eq!(svg.headers["content-type"], "image/svg+xml");
    assert_eq!(svg.headers["cache-control"], "no-store");
    assert!(svg.text.starts_with("<svg"), "{}", &svg.text[..40]);
    house.get(&admin, "/tickets/nonsense").await.is(400, "invalid_path");
    house.get(&admin, "/tickets/00000000-0000-4000-8000-000000000000").await.is(404, "unknown_ticket");
    house.stop().await;
}

#[tokio::test]
async fn a_reader_is_offered_a_code_and_enrols_with_it() {
    use engine::command::{AdminAction, AdminAnswer, AdminCommand};
    use engine::model::ids::FestivalId;

    let house = House::new().await;
    let admin = house.festival("own", 100).await;
    let staff = house.key(Role::Staff, &["own"]).await;
    let attempt = fresh();
    let ask = json!({"gate": 0, "name": "North, left"});
    let path = "/festivals/own/devices/enrolment-codes";
    let made = house.call(&staff, "POST", path, &attempt, Some(ask.clone())).await;
    let offer = made.is(201, "").json();
    let again = house.call(&staff, "POST", path, &attempt, Some(ask.clone())).await;
    assert!(again.replayed() && again.text == made.text, "the code that was made is shown again");
    let other = house.call(&admin, "POST", path, &attempt, Some(ask)).await.is(201, "").json();
    assert_ne!(other["code"], offer["code"], "idempotency keys belong to whoever sends them");

    let code = offer["code"].as_str().unwrap();
    let festival = FestivalId::of_slug("own");
    assert_eq!(
        offer["offer"],
        format!(
            "tapgate:enrol?server=gates.example.org:4433&fingerprint={}&festival={festival}&code={code}",
            "ab".repeat(32),
        )
    );
    assert!(offer["qr"].as_str().unwrap().starts_with("<svg"));
    // As the QUIC door does it.
    let enrol = |code: &str| AdminCommand {
        key: None,
        by: Principal::Installation,
        action: AdminAction::EnrolDevice {
            festival,
            code_hash: gateway::auth::enrolment_code_hash(code.as_bytes()),
            public_key: [7; 32],
        },
    };
    let (answer, _) = house.state.node.ask(enrol(&code.to_lowercase())).await;
    let AdminAnswer::Device(device) = answer else { panic!("{answer:?}") };

    let listed = house.get(&staff, "/festivals/own/devices").await.json();
    assert_eq!(listed["items"][0]["deviceId"], device.to_string());
    assert_eq!((&listed["items"][0]["name"], &listed["next"]), (&json!("North, left"), &Value::Null));
    let path = format!("/devices/{device}");
    assert_eq!(house.get(&staff, &path).await.json()["publicKey"], "07".repeat(32));
    house.post(&staff, &format!("{path}/revoke"), json!({})).await.is(204, "");
    assert_eq!(house.get(&staff, &path).await.json()["revoked"], true);
    house.get(&staff, "/devices/17").await.is(400, "invalid_path");
    house.get(&staff, &format!("/devices/{festival}-9")).await.is(404, "unknown_device");
    house
        .post(&staff, "/festivals/own/devices/enrolment-codes", json!({"gate": 9, "name": "x"}))
        .await
        .is(404, "unknown_gate");
    house.stop().await;
}

#[tokio::test]
async fn the_same_request_again_gets_the_same_answer_and_happens_once() {
    let house = House::new().await;
    let admin = house.festival("own", 100).await;
    let ticket = house.ticket(&admin, "own").await;
    let table = [
        ("POST", "/festivals".to_owned(), festival("another")),
        ("POST", "/festivals/own/zones".into(), json!({"name": "Lawn", "capacity": 10})),
        ("POST", "/festivals/own/gates".into(), json!({"name": "South", "zone": 0})),
        ("POST", "/festivals/own/categories".into(), category(10)),
        ("PUT", "/festivals/own/policy".into(), json!({"entry": "reentry"})),
        ("PUT", "/festivals/own/zones/0".into(), json!({"name": "Meadow", "capacity": 10})),
        ("PUT", "/festivals/own/categories/0".into(), category(60)),
        ("POST", "/festivals/own/qr-keys/rotate".into(), json!({})),
        ("POST", "/festivals/own/status".into(), json!({"status": "PUBLISHED"})),
        ("POST", "/festivals/own/zones/0/state".into(), json!({"state": "CLOSED"})),
        ("POST", "/festivals/own/devices/enrolment-codes".into(), json!({"gate": 0, "name": "x"})),
        ("POST", format!("/tickets/{ticket}/block"), json!({})),
        ("POST", format!("/tickets/{ticket}/tag"), json!({"uid": "04a1b2c3"})),
        ("POST", format!("/tickets/{ticket}/status"), json!({"status": "CANCELLED"})),
        ("POST", "/keys".into(), json!({"name": "door", "role": "STAFF", "festivals": ["own"]})),
        // A no is an answer, too.
        ("POST", "/festivals/own/zones".into(), json!({"name": "", "capacity": 10})),
    ];
    for (method, path, body) in table {
        let attempt = fresh();
        let first = house.call(&admin, method, &path, &attempt, Some(body.clone())).await;
        let second = house.call(&admin, method, &path, &attempt, Some(body.clone())).await;
        assert!(!first.replayed() && second.replayed(), "{method} {path}: {first:?} {second:?}");
        assert_eq!((first.status, &first.text), (second.status, &second.text), "{method} {path}");
        assert_eq!(first.headers.get("location"), second.headers.get("location"), "{method} {path}");
        // The same in another spelling is the same request, and with another query another one.
        let send = async |path: &str, body: String| {
            let request = axum::http::Request::builder()
                .method(method)
                .uri(format!("/api/v1{path}"))
                .header("authorization", format!("Bearer {admin}"))
                .header("content-type", "application/json; charset=utf-8")
                .header("idempotency-key", format!("\"{attempt}\""));
            house.send(request.body(body.into()).unwrap()).await
        };
        let spelt = send(&path, format!(" {body}")).await;
        assert_eq!((spelt.status, spelt.replayed()), (first.status, true), "{method} {path}: {spelt:?}");
        let conflict = send(&format!("{path}?other=1"), body.to_string()).await;
        conflict.is(409, "idempotency_conflict");
        assert!(!conflict.replayed());
    }
    let shown = house.get(&admin, "/festivals/own").await.json();
    let count = |what: &str| shown[what].as_array().unwrap().len();
    assert_eq!((count("zones"), count("gates"), count("categories")), (3, 2, 2), "each happened once");
    assert_eq!(shown["qrVersion"], 2);
    house.stop().await;
}

#[tokio::test]
async fn keys_of_attempts() {
    let house = House::new().await;
    let admin = house.festival("own", 100).await;
    let zone = || Some(json!({"name": "Lawn", "capacity": 10}));
    let path = "/festivals/own/zones";
    let old = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
    house.call(&admin, "POST", path, old, zone()).await.is(400, "idempotency_key_expired");
    house.call(&admin, "POST", path, "", zone()).await.is(400, "idempotency_key_invalid");
    let request = axum::http::Request::post(format!("/api/v1{path}"))
        .header("authorization", format!("Bearer {admin}"))
        .header("content-type", "application/json");
    house.send(request.body(zone().unwrap().to_string().into()).unwrap()).await.is(400, "idempotency_key_missing");
    // Another operator's same key is another key.
    let organizer = house.key(Role::Organizer, &["own"]).await;
    house.call(&admin, "POST", path, "order-7", zone()).await.is(201, "");
    let other = house.call(&organizer, "POST", path, "order-7", Some(json!({"name": "Hill", "capacity": 1}))).await;
    assert_eq!(other.is(201, "").json(), json!({"zone": 3}));
    house.stop().await;
}
