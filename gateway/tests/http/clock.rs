//! A machine's clock that jumps, as whoever is on call sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use actors::clock::SystemClock;
use axum::body::Body;
use axum::http::Request;
use engine::model::status::Role;
use gateway::server::control;
use gateway::server::control::{CLOCK_ACCEPT, ClockAccepted, Control};
use serde_json::Value;

use crate::house::House;

const DAY_MS: i64 = 24 * 3_600_000;

async fn readyz(house: &House) -> Value {
    house.send(Request::get("/readyz").body(Body::empty()).unwrap()).await.json()
}

/// Waits until the node has looked.
async fn condition(house: &House, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..200 {
        let readyz = readyz(house).await;
        if wanted(&readyz) {
            return readyz;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{}", readyz(house).await);
}

#[tokio::test]
async fn a_jump_is_said_until_it_is_accepted_or_gone() {
    let off_ms = Arc::new(AtomicI64::new(0));
    let house = House::at(SystemClock::off_by(Arc::clone(&off_ms)), |_, _| None).await;
    let before = house.state.node.now();
    condition(&house, |readyz| readyz["status"] == "ok").await;

    off_ms.store(DAY_MS, Ordering::Release);
    let readyz = condition(&house, |readyz| readyz["status"] == "degraded").await;
    let reason = readyz["reason"].as_str().unwrap();
    assert!(reason.contains("23 h ahead") || reason.contains("24 h ahead"), "{reason}");
    assert!(reason.contains("tapgate clock accept"), "with the way out: {reason}");
    assert!(house.state.node.now().since_ms(before) < DAY_MS / 2, "it is not followed");
    off_ms.store(0, Ordering::Release);
    condition(&house, |readyz| readyz["status"] == "ok").await;

    // It was behind after all, and somebody says so through the folder's socket.
    off_ms.store(DAY_MS, Ordering::Release);
    condition(&house, |readyz| readyz["status"] == "degraded").await;
    let socket = Control::Offline(control::app(house.state.clone()));
    let (status, body) = socket.ask("POST", CLOCK_ACCEPT, "one", String::new()).await.unwrap();
    let ClockAccepted { moved_ms, .. } = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, 200);
    assert!((moved_ms - DAY_MS).abs() < 60_000, "{moved_ms}");
    condition(&house, |readyz| readyz["status"] == "ok").await;
    // What is recorded now is a day ahead of what a right clock will say.
    house.key(Role::Admin, &[]).await;
    off_ms.store(0, Ordering::Release);
    let (_, body) = socket.ask("POST", CLOCK_ACCEPT, "two", String::new()).await.unwrap();
    let ClockAccepted { journal_ahead_ms, .. } = serde_json::from_slice(&body).unwrap();
    assert!(journal_ahead_ms > DAY_MS / 2, "{journal_ahead_ms}");
    let readyz = condition(&house, |readyz| readyz["status"] == "degraded").await;
    assert!(readyz["reason"].as_str().unwrap().contains("the journal is"), "{readyz}");
    house.stop().await;
}
