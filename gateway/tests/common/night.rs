//! A small festival, made as an operator makes one: over HTTP.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tapgate_client::{DeviceKey, Reader, ReaderOptions, enrol_key};
use tapgate_wire::Offer;

use super::process::Operator;

/// A guard against a hang, not a measurement.
const NEVER_LONGER: Duration = Duration::from_secs(60);
/// A person.
pub const HERS: &str = "0192f0c1-2345-7abc-8def-0123456789ab";

/// A ground with a deck in it, a gate to each, weekend tickets for both and day tickets for the ground.
pub fn found(admin: &Operator) {
    let always = ("2020-01-01T00:00:00Z", "2199-01-01T00:00:00Z");
    let festival = json!({"slug": "night", "name": "Night", "startsAt": always.0, "endsAt": always.1});
    admin.post("/festivals", &festival);
    admin.post("/festivals/night/zones", &json!({"name": "Ground", "capacity": 10_000}));
    admin.post("/festivals/night/zones", &json!({"name": "Deck", "parent": 0, "capacity": 100}));
    admin.post("/festivals/night/gates", &json!({"name": "North", "zone": 0}));
    admin.post("/festivals/night/gates", &json!({"name": "Stairs", "zone": 1}));
    for (name, zones) in [("Weekend", json!([0, 1])), ("Day", json!([0]))] {
        let values = json!({
            "name": name, "kind": "STANDARD", "price": {"amount": "89.50", "currency": "EUR"}, "quota": 10_000,
            "zones": zones, "validFrom": always.0, "validUntil": always.1,
        });
        admin.post("/festivals/night/categories", &values);
    }
    for status in ["PUBLISHED", "ONGOING"] {
        admin.post("/festivals/night/status", &json!({"status": status}));
    }
}

/// A ticket as the office got it.
pub struct Ticket {
    pub id: String,
    pub qr: String,
}

/// Tickets of these kinds, in one call.
pub fn issue(admin: &Operator, kinds: &[Value]) -> Vec<Ticket> {
    let lines: String = kinds.iter().map(|kind| format!("{kind}\n")).collect();
    let issued = admin.call("POST", "/festivals/night/tickets", "application/x-ndjson", &lines);
    assert_eq!(issued.status, 200, "{issued:?}");
    let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_else(|| panic!("{line}")).to_owned();
    let lines = issued.text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| Ticket { id: text(&line, "ticketId"), qr: text(&line, "qr") }).collect()
}

/// A reader at this gate, enrolled with a code of the office's.
pub async fn reader(admin: &Operator, gate: u16) -> Reader {
    let code = admin.post("/festivals/night/devices/enrolment-codes", &json!({"gate": gate, "name": "Reader"}));
    let offer: Offer = code.json()["offer"].as_str().unwrap().parse().unwrap();
    let identity = enrol_key(None, &offer, DeviceKey::generate().unwrap()).await.unwrap();
    Reader::connect(identity, ReaderOptions::default()).await.unwrap()
}

/// A whole list, page by page, once the read models are there: they may be a moment behind, and 503 while they are built.
pub fn rows(admin: &Operator, path: &str) -> Vec<Value> {
    let began = Instant::now();
    let sign = if path.contains('?') { '&' } else { '?' };
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let reply = admin.get(&format!("{path}{sign}limit=500{cursor}"));
        match reply.status {
            200 => {
                let page = reply.json();
                rows.extend(page["items"].as_array().unwrap().iter().cloned());
                let Some(next) = page["next"].as_str() else { return rows };
                cursor = format!("&cursor={next}");
            }
            503 if began.elapsed() < NEVER_LONGER => std::thread::sleep(Duration::from_millis(20)),
            _ => panic!("{path}: {reply:?}"),
        }
    }
}

/// A list, once it has so many rows.
pub fn rows_once(admin: &Operator, path: &str, count: usize) -> Vec<Value> {
    let began = Instant::now();
    loop {
        let rows = rows(admin, path);
        if rows.len() >= count {
            return rows;
        }
        assert!(began.elapsed() < NEVER_LONGER, "{path} has {} rows, not {count}", rows.len());
        std::thread::sleep(Duration::from_millis(50));
    }
}
