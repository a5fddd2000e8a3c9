//! Slips taken back and people let in by hand, over HTTP.

use engine::model::status::Role;
use serde_json::{Value, json};

use crate::house::{House, category, festival, fresh};

#[tokio::test]
async fn a_festival_is_edited_ended_and_opened_again() {
    let house = House::new().await;
    let admin = house.key(Role::Admin, &[]).await;
    let mut made = festival("own");
    made.as_object_mut()
        .unwrap()
        .extend([("location".to_owned(), json!("Old airfield")), ("maxCapacity".to_owned(), json!(12_000))]);
    let attempt = fresh();
    for _ in 0..2 {
        house.call(&admin, "POST", "/festivals", &attempt, Some(made.clone())).await.is(201, "");
    }
    let shown = house.get(&admin, "/festivals/own").await.json();
    assert_eq!((&shown["location"], &shown["maxCapacity"]), (&json!("Old airfield"), &json!(12_000)));
    for (what, value) in [("maxCapacity", json!(0)), ("location", json!("x".repeat(201)))] {
        let mut bad = festival("bad");
        bad[what] = value;
        let problem = house.post(&admin, "/festivals", bad).await.is(422, "validation").json();
        assert_eq!(problem["errors"][0]["pointer"], format!("/{what}"));
        house.get(&admin, "/festivals/bad").await.is(404, "unknown_festival");
    }
    let details = json!({
        "name": "Two nights", "startsAt": "2027-07-16T10:00:00Z", "endsAt": "2027-07-20T10:00:00Z",
        "location": "New airfield",
    });
    house.put(&admin, "/festivals/own", details.clone()).await.is(204, "");
    let shown = house.get(&admin, "/festivals/own").await.json();
    for (field, value) in details.as_object().unwrap() {
        assert_eq!(&shown[field], value, "{field}");
    }
    assert_eq!(shown["maxCapacity"], Value::Null, "what is left out is taken away");
    assert_eq!((&shown["timeZone"], &shown["dayStartsAt"]), (&json!("UTC"), &json!("06:00")));
    let mut elsewhere = details.clone();
    elsewhere["timeZone"] = json!("europe/berlin");
    house.put(&admin, "/festivals/own", elsewhere.clone()).await.is(204, "");
    // As with the name and the dates, but what reports go by does not change by being left out.
    house.put(&admin, "/festivals/own", details.clone()).await.is(204, "");
    let shown = house.get(&admin, "/festivals/own").await.json();
    assert_eq!((&shown["timeZone"], &shown["dayStartsAt"]), (&json!("Europe/Berlin"), &json!("06:00")));
    elsewhere["timeZone"] = json!("Europe/Gotham");
    house.put(&admin, "/festivals/own", elsewhere).await.is(422, "validation");
    let mut backwards = details;
    backwards["endsAt"] = json!("2027-07-15T10:00:00Z");
    house.put(&admin, "/festivals/own", backwards).await.is(422, "invalid_value");

    let status = |body: Value| house.post(&admin, "/festivals/own/status", body);
    status(json!({"status": "PUBLISHED", "reason": "why not"})).await.is(422, "validation");
    for to in ["PUBLISHED", "ONGOING", "COMPLETED"] {
        status(json!({"status": to})).await.is(204, "");
    }
    status(json!({"status": "ONGOING"})).await.is(409, "reason_needed");
    status(json!({"status": "ONGOING", "reason": "  "})).await.is(422, "validation");
    status(json!({"status": "ONGOING", "reason": "the wrong button"})).await.is(204, "");
    assert_eq!(house.get(&admin, "/festivals/own").await.json()["status"], "ONGOING");
    house.stop().await;
}

/// From a test day to the doors: let in by hand, looked up in the log, asked for confirmation, reset.
#[tokio::test]
async fn somebody_let_in_by_hand_is_counted_logged_and_reset() {
    let house = House::listed().await;
    let admin = house.festival("own", 2).await;
    let security = house.key(Role::Security, &["own"]).await;
    let (now, later) = ("2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z");
    let mut terms = category(2);
    (terms["validFrom"], terms["validUntil"]) = (json!(now), json!(later));
    house.put(&admin, "/festivals/own/categories/0", terms).await.is(204, "");
    for to in ["PUBLISHED", "ONGOING"] {
        house.post(&admin, "/festivals/own/status", json!({"status": to})).await.is(204, "");
    }
    let ticket = house.ticket(&admin, "own").await;
    let admit = format!("/tickets/{ticket}/admit");
    house.post(&security, &admit, json!({"gate": 0})).await.is(422, "validation");
    house.post(&security, &admit, json!({"gate": 0, "reason": " "})).await.is(422, "validation");
    house.post(&security, &admit, json!({"gate": 9, "reason": "x"})).await.is(404, "unknown_gate");
    let attempt = fresh();
    let by_hand = json!({"gate": 0, "reason": "the scanner is broken"});
    for _ in 0..2 {
        house.call(&security, "POST", &admit, &attempt, Some(by_hand.clone())).await.is(204, "");
    }
    house.post(&security, &admit, json!({"gate": 0, "reason": "once more"})).await.is(204, "");
    let live = house.get(&admin, "/festivals/own/live").await.json();
    assert_eq!((&live["zones"][0]["occupancy"], &live["gates"][0]["admitted"]), (&json!(2), &json!(2)), "{live}");
    assert_eq!(house.get(&admin, &format!("/tickets/{ticket}")).await.json()["status"], "USED");

    house.listed_all().await;
    let log = house.get(&security, &format!("/tickets/{ticket}/history")).await.is(200, "").json();
    let rows = log["items"].as_array().unwrap();
    let told: Vec<_> = rows.iter().map(|row| (&row["byHand"], &row["insteadOf"], &row["outcome"])).collect();
    let (yes, used) = (json!(true), json!("already_used"));
    let admitted = json!("ADMITTED");
    let mut expected = [(&yes, &Value::Null, &admitted), (&yes, &used, &admitted)];
    if told.first().is_some_and(|row| *row.1 == used) {
        expected.reverse(); // newest first
    }
    assert_eq!(told, expected, "{log}");

    let status = |body: Value| house.post(&admin, "/festivals/own/status", body);
    status(json!({"status": "COMPLETED"})).await.is(409, "people_inside");
    status(json!({"status": "COMPLETED", "confirm": true})).await.is(204, "");
    house.post(&security, &admit, by_hand).await.is(409, "festival_not_active");
    status(json!({"status": "ONGOING", "reason": "the wrong button"})).await.is(204, "");
    house.post(&admin, "/festivals/own/reset-scans", json!({})).await.is(422, "validation");
    house.post(&admin, "/festivals/own/reset-scans", json!({"reason": "test day"})).await.is(204, "");
    let live = house.get(&admin, "/festivals/own/live").await.json();
    assert_eq!((&live["zones"][0]["occupancy"], &live["gates"][0]["admitted"]), (&json!(0), &json!(0)), "{live}");
    house.listed_all().await;
    let sold = house.get(&admin, "/festivals/own/tickets?status=SOLD").await.is(200, "").json();
    assert_eq!(sold["items"][0]["ticketId"], json!(ticket), "{sold}");

    // Cancelled by mistake, and its place given away.
    let at = |rest: &str| format!("/tickets/{ticket}/{rest}");
    house.post(&admin, &at("status"), json!({"status": "CANCELLED"})).await.is(204, "");
    let others = [house.ticket(&admin, "own").await, house.ticket(&admin, "own").await];
    house.post(&admin, &at("restore"), json!({"reason": "the wrong row"})).await.is(409, "sold_out");
    let other = format!("/tickets/{}/status", others[0]);
    house.post(&admin, &other, json!({"status": "REFUNDED"})).await.is(204, "");
    house.post(&admin, &at("restore"), json!({"reason": "the wrong row"})).await.is(204, "");
    assert_eq!(house.get(&admin, &format!("/tickets/{ticket}")).await.json()["status"], "SOLD");

    // Found by what is printed on it, however it is typed.
    let code = house.get(&security, &format!("/tickets/{ticket}")).await.json()["code"].as_str().unwrap().to_owned();
    for typed in [code.clone(), code.to_lowercase(), format!("{}-{}", &code[..4], &code[4..])] {
        let found = house.get(&security, &format!("/festivals/own/tickets/by-code/{typed}")).await.is(200, "").json();
        assert_eq!(found["items"][0]["ticketId"], json!(ticket), "{typed}");
        assert_eq!(found["items"].as_array().unwrap().len(), 1);
    }
    house.get(&security, "/festivals/own/tickets/by-code/nonsense!").await.is(400, "invalid_path");
    house.stop().await;
}

#[tokio::test]
async fn a_device_that_was_revoked_by_mistake_is_itself_again() {
    let house = House::new().await;
    let admin = house.festival("own", 10).await;
    let (staff, organizer) = (house.key(Role::Staff, &["own"]).await, house.key(Role::Organizer, &["own"]).await);
    let offer = json!({"gate": 0, "name": "North, left"});
    let offer = house.post(&admin, "/festivals/own/devices/enrolment-codes", offer).await.is(201, "").json();
    let device = house.enrol("own", offer["code"].as_str().unwrap(), [7; 32]).await;
    let at = |rest: &str| format!("/devices/{device}{rest}");
    house.post(&staff, &at("/revoke"), json!({})).await.is(204, "");
    let reason = json!({"reason": "it was under the bench"});
    house.post(&staff, &at("/readmit"), reason.clone()).await.is(403, "forbidden");
    house.post(&organizer, &at("/readmit"), json!({"reason": ""})).await.is(422, "validation");
    house.post(&organizer, &at("/readmit"), reason).await.is(204, "");
    let shown = house.get(&staff, &at("")).await.json();
    assert_eq!((&shown["revoked"], &shown["publicKey"]), (&json!(false), &json!("07".repeat(32))));
    house.stop().await;
}

#[tokio::test]
async fn a_vendor_says_what_it_sells() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    let at = "/festivals/own/vendors";
    let shown = house.get(&admin, &format!("{at}/0")).await.json();
    assert_eq!(shown["type"], "BAR", "unless told");
    for kind in ["FOOD", "DRINK", "BAR", "MERCHANDISE"] {
        let terms = json!({"name": "Stand", "type": kind, "commissionRate": "0"});
        let made = house.post(&admin, at, terms.clone()).await.is(201, "").json();
        let path = format!("{at}/{}", made["vendor"]);
        assert_eq!(house.get(&admin, &path).await.json()["type"], kind);
        let mut other = terms;
        other["type"] = json!("FOOD");
        house.put(&admin, &path, other).await.is(204, "");
        assert_eq!(house.get(&admin, &path).await.json()["type"], "FOOD");
    }
    let bad = json!({"name": "Stand", "type": "TATTOOS", "commissionRate": "0"});
    let problem = house.post(&admin, at, bad).await.is(422, "validation").json();
    assert_eq!(problem["errors"][0]["pointer"], "/type");
    house.stop().await;
}
