//! Tickets in bulk.

use std::collections::BTreeSet;
use std::convert::Infallible;

use axum::body::{Body, Bytes};
use engine::model::credential::QrSecret;
use futures_util::stream;
use serde_json::{Value, json};

use crate::house::{House, SECRET, category, fresh};

/// A body that arrives in pieces which end anywhere.
fn in_pieces(text: String, len: usize) -> Body {
    let text = Bytes::from(text);
    let pieces = (0..text.len()).step_by(len).map(move |at| text.slice(at..text.len().min(at + len)));
    Body::from_stream(stream::iter(pieces.map(Ok::<_, Infallible>)))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// As many as one call may have.
const MANY: usize = 100_000;

#[tokio::test]
async fn a_hundred_thousand_in_one_call_and_again() {
    let house = House::new().await;
    let admin = house.festival("own", 200_000).await;
    house.post(&admin, "/festivals/own/categories", category(200_000)).await.is(201, "");
    let mut body = String::new();
    for i in 0..MANY {
        body += &match i {
            // Bad lines, far apart.
            17 => "{\"category\":0,\"paid\":\n".to_owned(),
            2_000 => "{\"category\":7,\"paid\":true}\n".to_owned(),
            2_001 => "{\"category\":0,\"paid\":true,\"holder\":\"nobody\"}\n".to_owned(),
            2_002 => format!("{}\n", "x".repeat(100_000)),
            _ if i % 3 == 0 => {
                let holder = uuid::Uuid::from_u128(i as u128);
                format!("{{\"category\":1,\"holder\":\"{holder}\",\"paid\":true}}\r\n")
            }
            _ => format!("{{\"category\":0,\"paid\":{}}}\n", i % 2 == 0),
        };
    }
    let attempt = fresh();
    let first = house.bulk(&admin, "own", &attempt, in_pieces(body.clone(), 4_099)).await;
    first.is(200, "");
    assert_eq!(first.headers["content-type"], "application/x-ndjson");
    assert_eq!(first.headers["tapgate-issued"], (MANY - 4).to_string());
    assert_eq!(first.headers["tapgate-rejected"], "4");
    assert!(!first.replayed());
    let answers = lines(&first.text);
    assert_eq!(answers.len(), MANY);
    let secret = QrSecret::new(SECRET).unwrap();
    let mut ids = BTreeSet::new();
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(answer["line"], i + 1);
        let error = match i {
            17 => Some(("invalid_json", Value::Null)),
            2_000 => Some(("unknown_category", Value::Null)),
            2_001 => Some(("validation", json!("/holder"))),
            2_002 => Some(("validation", Value::Null)),
            _ => None,
        };
        if let Some((code, pointer)) = error {
            assert_eq!((&answer["error"]["code"], &answer["error"]["pointer"]), (&json!(code), &pointer), "{answer}");
            continue;
        }
        let id = answer["ticketId"].as_str().unwrap();
        let verified = secret.verify(answer["qr"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!((verified.id().to_string().as_str(), verified.version()), (id, 1));
        assert_eq!(verified.id().code().as_str(), answer["code"]);
        assert_eq!(verified.id().category().0, u16::from(i % 3 == 0));
        assert!(ids.insert(id.to_owned()), "a ticket twice");
    }
    // As after a broken connection: the same tickets, and none more.
    let again = house.bulk(&admin, "own", &attempt, in_pieces(body.clone(), 65_536)).await;
    assert!(again.replayed());
    assert!(again.text == first.text, "the same answer to the last byte");
    let issued: u64 = {
        let shown = house.get(&admin, "/festivals/own").await.json();
        shown["categories"].as_array().unwrap().iter().map(|category| category["issued"].as_u64().unwrap()).sum()
    };
    assert_eq!(issued as usize, MANY - 4);
    house.bulk(&admin, "own", &attempt, "{\"category\":0,\"paid\":true}").await.is(409, "idempotency_conflict");
    house.stop().await;
}

#[tokio::test]
async fn a_call_that_broke_off_is_finished_by_sending_it_again() {
    let house = House::new().await;
    let admin = house.festival("own", 10_000).await;
    let line = "{\"category\":0,\"paid\":true}\n";
    let whole = line.repeat(3_000);
    let cut = Bytes::from(whole[..line.len() * 2_500 + 9].to_owned());
    let broken = Body::from_stream(stream::iter([Ok(cut), Err(std::io::Error::other("gone"))]));
    let attempt = fresh();
    house.bulk(&admin, "own", &attempt, broken).await.is(408, "body_timeout");
    let issued = |shown: Value| shown["categories"][0]["issued"].as_u64().unwrap();
    assert_eq!(issued(house.get(&admin, "/festivals/own").await.json()), 2_048, "whole windows only");
    let finished = house.bulk(&admin, "own", &attempt, whole).await;
    assert_eq!(finished.is(200, "").headers["tapgate-issued"], "3000");
    assert!(!finished.replayed(), "some of it happened now");
    assert_eq!(issued(house.get(&admin, "/festivals/own").await.json()), 3_000, "none twice");
    house.stop().await;
}

#[tokio::test]
async fn what_fits_under_the_quota_is_issued_to_the_last_place() {
    let house = House::new().await;
    let admin = house.festival("own", 1_500).await;
    house.post(&admin, "/festivals/own/categories", category(10)).await.is(201, "");
    let body: String =
        (0..2_500).map(|i| format!("{{\"category\":{},\"paid\":true}}\n", u8::from(i % 100 == 0))).collect();
    let attempt = fresh();
    let reply = house.bulk(&admin, "own", &attempt, body.clone()).await;
    assert_eq!(reply.is(200, "").headers["tapgate-issued"], "1510");
    let answers = lines(&reply.text);
    let refused = answers.iter().filter(|answer| answer["error"]["code"] == "sold_out").count();
    assert_eq!(refused, 990);
    let last_in = answers.iter().rposition(|answer| answer["ticketId"].is_string()).unwrap();
    assert_eq!(last_in, 1_515, "in the order of the lines: 1,500 and the 16 lines of the other category among them");
    let again = house.bulk(&admin, "own", &attempt, body).await;
    assert!(again.replayed() && again.text == reply.text);
    house.stop().await;
}

#[tokio::test]
async fn calls_that_are_none() {
    let house = House::new().await;
    let admin = house.festival("own", 10).await;
    let empty = house.bulk(&admin, "own", &fresh(), "\n \r\n\n").await;
    assert_eq!((empty.is(200, "").text.as_str(), &empty.headers["tapgate-issued"]), ("", &"0".parse().unwrap()));
    let post = |media: &'static str, body: Body| {
        let request = axum::http::Request::post("/api/v1/festivals/own/tickets")
            .header("authorization", format!("Bearer {admin}"))
            .header("content-type", media)
            .header("idempotency-key", fresh());
        house.send(request.body(body).unwrap())
    };
    post("application/json", "{}".into()).await.is(415, "unsupported_media_type");
    house.bulk(&admin, "never", &fresh(), "{}").await.is(404, "unknown_festival");
    let utf8 = house.bulk(&admin, "own", &fresh(), b"{\"category\":0,\"paid\":\xFF}\n\0\n".to_vec()).await;
    assert!(lines(&utf8.text).iter().all(|answer| answer["error"]["code"] == "invalid_json"), "{}", utf8.text);
    // One line that never ends costs no more than a short one.
    let endless = in_pieces("x".repeat(5_000_000), 65_536);
    let reply = house.bulk(&admin, "own", &fresh(), endless).await;
    assert_eq!(lines(&reply.text)[0]["error"]["code"], "validation");
    let too_many = format!("{}{{\"category\":0,\"paid\":true}}\n{}", "\n".repeat(100_000), "\n".repeat(1_000));
    let reply = house.bulk(&admin, "own", &fresh(), too_many).await;
    assert_eq!(
        lines(&reply.text)[0],
        json!({
            "line": 100_001, "error": {"code": "too_many_lines", "detail": "At most 100000 lines."}
        })
    );
    house.post(&admin, "/festivals/own/status", json!({"status": "CANCELLED"})).await.is(204, "");
    house.bulk(&admin, "own", &fresh(), "{\"category\":0,\"paid\":true}").await.is(409, "invalid_transition");
    house.stop().await;
}

#[tokio::test]
async fn other_lines_under_the_same_key_are_a_conflict_and_issue_nothing() {
    let house = House::new().await;
    let admin = house.festival("own", 10_000).await;
    house.post(&admin, "/festivals/own/categories", category(10)).await.is(201, "");
    let line = |category: u8| format!("{{\"category\":{category},\"paid\":true}}\n");
    let attempt = fresh();
    house.bulk(&admin, "own", &attempt, line(0).repeat(1_500)).await.is(200, "");
    // The first window is the same, the second one is not: longer, shorter, or of another category.
    for other in [line(0).repeat(1_501), line(0).repeat(1_499), line(0).repeat(1_024) + &line(1)] {
        let reply = house.bulk(&admin, "own", &attempt, other).await;
        assert_eq!(reply.is(200, "").headers["tapgate-issued"], "1024", "those are given again");
        let last = lines(&reply.text).pop().unwrap();
        assert_eq!(last["error"]["code"], "idempotency_conflict");
    }
    house.bulk(&admin, "own", &attempt, line(1)).await.is(409, "idempotency_conflict");
    let shown = house.get(&admin, "/festivals/own").await.json();
    assert_eq!((&shown["categories"][0]["issued"], &shown["categories"][1]["issued"]), (&json!(1_500), &json!(0)));
    house.stop().await;
}

/// The wristbands of a whole festival, linked in one call; sent again, nothing happens twice.
#[tokio::test]
async fn wallets_in_bulk() {
    let house = House::new().await;
    let admin = house.bar("own").await;
    let band = |n: usize| format!("{{\"tag\":\"04{n:012x}\"}}\n");
    let mut body: String = (0..3_000).map(|n| if n % 10 == 9 { "{}\n".into() } else { band(n) }).collect();
    body += "{\"tag\":\"xyz\"}\n";
    body += &band(5);
    for unusable in ["08a1b2c3", "00000000000000", "ffffffff", "88a1b2c3d4e5f6"] {
        body += &format!("{{\"tag\":\"{unusable}\"}}\n");
    }
    let (path, attempt) = ("/festivals/own/wallets", fresh());
    let first = house.lines(&admin, path, &attempt, in_pieces(body.clone(), 777)).await;
    first.is(200, "");
    assert_eq!(
        (&first.headers["tapgate-made"], &first.headers["tapgate-rejected"]),
        (&"3000".parse().unwrap(), &"6".parse().unwrap())
    );
    assert!(!first.replayed());
    let answers = lines(&first.text);
    assert!(answers.iter().zip(1..).all(|(answer, line)| answer["line"] == line), "in their order");
    assert_eq!(
        (&answers[3_000]["error"]["code"], &answers[3_000]["error"]["pointer"]),
        (&json!("validation"), &json!("/tag"))
    );
    assert_eq!(answers[3_001]["error"]["code"], "tag_taken", "one wristband, one wallet");
    assert!(answers[3_002..].iter().all(|answer| answer["error"]["code"] == "unusable_tag"), "such a UID names nobody");
    let wallets: BTreeSet<&str> = answers.iter().filter_map(|answer| answer["wallet"].as_str()).collect();
    assert_eq!(wallets.len(), 3_000);
    let shown = house.get(&admin, "/cashless/account?tag=04000000000007").await.is(200, "").json();
    assert_eq!((&shown["wallet"], &shown["balance"]), (&answers[7]["wallet"], &json!("0.00")));
    let secret = QrSecret::new(SECRET).unwrap();
    let claim = engine::model::credential::parse_wallet(answers[9]["qr"].as_str().unwrap().as_bytes()).unwrap();
    let verified = engine::model::credential::KeyCache::default().verify_wallet(&secret, &claim).unwrap();
    assert_eq!(verified.id().to_string(), answers[9]["wallet"].as_str().unwrap());

    let again = house.lines(&admin, path, &attempt, in_pieces(body, 65_536)).await;
    assert!(again.replayed() && again.text == first.text, "the same answer to the last byte");
    house.lines(&admin, path, &attempt, band(1)).await.is(409, "idempotency_conflict");
    let empty = house.lines(&admin, path, &fresh(), "").await;
    assert_eq!((empty.is(200, "").text.as_str(), &empty.headers["tapgate-made"]), ("", &"0".parse().unwrap()));
    let bare = house.festival("bare", 1).await;
    house.lines(&bare, "/festivals/bare/wallets", &fresh(), "{}").await.is(409, "not_cashless");
    house.stop().await;
}
