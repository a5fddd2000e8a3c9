//! Errors in one shape, wherever they come from, and an OpenAPI document that says what is there.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use axum::body::Body;
use axum::http::Request;
use gateway::auth::Operator;
use gateway::http::kit::request::BODY_LEN_MAX;
use gateway::http::kit::routes::Routes;
use gateway::http::{Limits, app};
use serde_json::{Value, json};
use tower::ServiceExt;
use utoipa_axum::routes;

use crate::house::{House, fresh};

#[tokio::test]
async fn whatever_is_wrong_is_said_in_one_shape() {
    let house = House::new().await;
    let admin = house.festival("own", 10).await;
    // Of that length to the byte, and one more.
    let named = |length: usize| format!("{{\"name\":\"{}\"}}", "x".repeat(length - 11));
    let (full, long) = (named(BODY_LEN_MAX), named(BODY_LEN_MAX + 1));
    let table: &[(&str, &str, &str, &str, u16, &str)] = &[
        ("GET", "/api/v1/nowhere", "", "", 404, "unknown_route"),
        ("GET", "/nowhere/at/all", "", "", 404, "unknown_route"),
        ("DELETE", "/api/v1/festivals", "", "", 405, "method_not_allowed"),
        ("PATCH", "/api/v1/festivals/own", "", "", 405, "method_not_allowed"),
        ("BREW", "/api/v1/festivals/own", "", "", 405, "method_not_allowed"),
        ("POST", "/healthz", "", "", 405, "method_not_allowed"),
        ("POST", "/api/v1/festivals/own/zones", "application/json", "{", 400, "invalid_json"),
        ("POST", "/api/v1/festivals/own/zones", "application/json", "{}", 422, "validation"),
        ("POST", "/api/v1/festivals/own/zones", "application/json", "", 422, "validation"),
        ("POST", "/api/v1/festivals/own/zones", "application/json", "[1]", 422, "validation"),
        ("POST", "/api/v1/festivals/own/zones", "application/json", r#"{"name":"a","capacity":-1}"#, 422, "validation"),
        (
            "POST",
            "/api/v1/festivals/own/zones",
            "application/json",
            r#"{"name":"a","capacity":1,"x":1}"#,
            422,
            "validation",
        ),
        (
            "POST",
            "/api/v1/festivals/own/zones",
            "application/json",
            r#"{"name":"a","name":"b","capacity":1}"#,
            422,
            "validation",
        ),
        ("POST", "/api/v1/festivals/own/zones", "text/plain", "{}", 415, "unsupported_media_type"),
        ("POST", "/api/v1/festivals/own/zones", "", "{}", 415, "unsupported_media_type"),
        ("POST", "/api/v1/festivals/own/zones", "application/json", &full, 422, "validation"),
        ("POST", "/api/v1/festivals/own/zones", "application/json", &long, 413, "body_too_large"),
        ("POST", "/api/v1/festivals/own/zones/x/state", "application/json", "{}", 400, "invalid_path"),
        ("POST", "/api/v1/festivals/own/zones/999/state", "application/json", "{}", 400, "invalid_path"),
        ("POST", "/api/v1/festivals/own/status", "application/json", r#"{"status":"open"}"#, 422, "validation"),
        ("GET", "/api/v1/festivals/%FF", "", "", 400, "invalid_path"),
        ("GET", "/api/v1/tickets/1", "", "", 400, "invalid_path"),
        ("GET", "/api/v1/festivals/own/zones/0/inside?limit=0", "", "", 400, "invalid_query"),
        ("GET", "/api/v1/festivals/own/zones/0/inside?limit=1001", "", "", 400, "invalid_query"),
        ("GET", "/api/v1/festivals/own/zones/0/inside?limit=x", "", "", 400, "invalid_query"),
        ("GET", "/api/v1/festivals/own/zones/0/inside?page=2", "", "", 400, "invalid_query"),
        ("GET", "/api/v1/festivals/own/zones/0/inside?cursor=zz", "", "", 400, "invalid_cursor"),
        ("GET", "/api/v1/festivals/own/tickets", "", "", 503, "read_models_unavailable"),
    ];
    for (method, path, media, body, status, code) in table {
        let mut request = Request::builder()
            .method(*method)
            .uri(*path)
            .header("authorization", format!("Bearer {admin}"))
            .header("idempotency-key", fresh());
        if !media.is_empty() {
            request = request.header("content-type", *media);
        }
        let reply = house.send(request.body(Body::from(body.to_string())).unwrap()).await;
        assert_eq!(reply.code(), (*status, (*code).to_owned()), "{method} {path} {body:.40}: {}", reply.text);
        assert_eq!(reply.headers["x-content-type-options"], "nosniff", "{method} {path}");
        assert_eq!(reply.headers["cache-control"], "no-store", "{method} {path}");
        if *status == 405 {
            assert!(reply.headers.contains_key("allow"), "{method} {path}");
        }
    }
    let reply = house
        .post(
            &admin,
            "/festivals",
            json!({"slug": "x", "name": "x", "startsAt": "today", "endsAt": "2027-07-16T12:00:00Z"}),
        )
        .await;
    assert_eq!(reply.is(422, "validation").json()["errors"][0]["pointer"], "/startsAt");
    house.stop().await;
}

/// Who fills in a form is told of every field at once, whether its type is wrong, its value, or its absence.
#[tokio::test]
async fn every_bad_field_is_named() {
    let house = House::new().await;
    let admin = house.festival("own", 10).await;
    let terms = |edit: Value| {
        let mut terms = crate::house::category(10);
        terms.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
        terms
    };
    for (path, body, pointers) in [
        ("/festivals/own/zones", json!({}), vec!["/name", "/capacity"]),
        ("/festivals/own/zones", json!({"name": 1, "capacity": -1, "x": 0}), vec!["/capacity", "/name", "/x"]),
        (
            "/festivals",
            json!({"slug": 7, "startsAt": "today", "policy": {"entry": "never", "ack": 1}}),
            vec!["/policy/ack", "/policy/entry", "/slug", "/startsAt", "/name", "/endsAt"],
        ),
        (
            "/festivals/own/categories",
            terms(json!({"price": {"amount": "1.005", "currency": "euros"}})),
            vec!["/price/amount", "/price/currency"],
        ),
        (
            "/festivals/own/categories",
            terms(json!({"price": {"amount": 1.5}, "zones": [0, 256, 1, -1], "kind": "standard"})),
            vec!["/kind", "/price/amount", "/price/currency", "/zones/1", "/zones/3"],
        ),
    ] {
        let reply = house.post(&admin, path, body.clone()).await;
        let problem = reply.is(422, "validation").json();
        let errors = problem["errors"].as_array().unwrap();
        let mut named: Vec<_> = errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect();
        assert!(problem["detail"].as_str().unwrap().starts_with(named[0]), "{problem}");
        named.sort_unstable();
        let mut pointers = pointers;
        pointers.sort_unstable();
        assert_eq!(named, pointers, "{body}");
    }
    house.stop().await;
}

#[tokio::test]
async fn one_address_cannot_crowd_out_a_probe() {
    let house = House::new().await;
    let burst = NonZeroU32::new(3).unwrap();
    let limits = Limits { requests_per_s: NonZeroU32::new(1), burst, ..Limits::default() };
    let (router, _beside) = app(house.state.clone(), Routes::new(), limits);
    let ask = async |path: &str| {
        let response = router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        (response.status().as_u16(), response.headers().get("retry-after").cloned())
    };
    for _ in 0..3 {
        assert_eq!(ask("/api/v1/problems").await.0, 200);
    }
    let (status, retry_after) = ask("/api/v1/problems").await;
    assert!(status == 429 && retry_after.is_some());
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(ask(path).await.0, 200, "{path}");
    }
    house.state.node.stop().await;
    assert_eq!(ask("/readyz").await.0, 503);
    assert_eq!(ask("/healthz").await.0, 200, "alive all the same");
    house.stop().await;
}

/// Breaks.
#[utoipa::path(get, path = "/broken", responses((status = 204)))]
async fn broken() {
    panic!("on purpose")
}

/// Says who asks, on a route that names no right.
#[utoipa::path(get, path = "/forgotten", responses((status = 200, body = u32)))]
async fn forgotten(operator: Operator) -> String {
    operator.no.to_string()
}

#[tokio::test]
async fn a_route_that_names_no_right_lets_nobody_in() {
    let mut house = House::new().await;
    let admin = house.festival("own", 10).await;
    (house.router, _) = app(house.state.clone(), Routes::new().open(routes!(forgotten)), Limits::default());
    house.get(&admin, "/forgotten").await.is(500, "internal");
    house.get("", "/forgotten").await.is(500, "internal");
    house.stop().await;
}

#[tokio::test]
async fn a_handler_that_panics_takes_nobody_with_it() {
    let mut house = House::new().await;
    (house.router, _) = app(house.state.clone(), Routes::new().open(routes!(broken)), Limits::default());
    house.get("", "/broken").await.is(500, "internal");
    house.get("", "/problems").await.is(200, "");
    house.stop().await;
}

#[tokio::test]
async fn every_code_has_its_explanation() {
    let house = House::new().await;
    let listed: Vec<Value> = serde_json::from_value(house.get("", "/problems").await.is(200, "").json()).unwrap();
    let codes: BTreeSet<&str> = listed.iter().map(|kind| kind["code"].as_str().unwrap()).collect();
    assert_eq!(codes.len(), listed.len());
    assert!(engine::model::rejection::Rejection::ALL.iter().all(|rejection| codes.contains(rejection.code())));
    assert!(codes.contains("validation") && codes.contains("unknown_route"));
    house.stop().await;
}

#[tokio::test]
async fn the_document_names_every_route_and_every_reference_leads_somewhere() {
    let house = House::new().await;
    let api = house.get("", "/openapi.json").await.is(200, "").json();
    assert!(api["openapi"].as_str().unwrap().starts_with("3."));
    let mut operation_ids = BTreeSet::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(operation_ids.insert(id.to_owned()), "operationId {id} is there twice");
            assert!(operation["summary"].is_string(), "{method} {path} does not say what it does");
            let problem = &operation["responses"]["default"]["content"]["application/problem+json"];
            assert_eq!(problem["schema"]["$ref"], "#/components/schemas/Problem", "{method} {path}");
            let open = operation["security"] == json!([{}]);
            let closed = operation["security"] == json!([{"key": []}]);
            assert!(open ^ closed, "{method} {path}: {}", operation["security"]);
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let named = |place: &str| -> BTreeSet<String> {
                let here = parameters.iter().filter(|parameter| parameter["in"] == place);
                here.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
            };
            let in_path: BTreeSet<String> = path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}').map(str::to_owned))
                .collect();
            assert_eq!(named("path"), in_path, "{method} {path}");
            assert_eq!(named("header").contains("Idempotency-Key"), method != "get", "{method} {path}");
            if path.starts_with("/api/v1/") && path != "/api/v1/problems" {
                assert!(closed, "{method} {path} is open");
                let right = operation["x-right"].as_str().unwrap_or_else(|| panic!("{method} {path} names no right"));
                let only_looks = matches!(right, "LookUp" | "SeeBooks");
                assert!(!only_looks || method == "get", "{method} {path} may be done by whoever may look: {right}");
                assert!(operation["x-roles"].as_array().is_some_and(|roles| !roles.is_empty()), "{method} {path}");
                let example = &operation["responses"]["403"]["content"]["application/problem+json"]["example"];
                assert_eq!(example["code"], "forbidden", "{method} {path} shows no example of a refusal");
            }
        }
    }

    let mut references = Vec::new();
    collect(&api, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("within the document");
        assert!(api.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    for path in ["/api/docs/", "/api/docs/swagger-initializer.js"] {
        let reply = house.send(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(reply.status, 200, "{path}");
        assert!(!reply.text.contains("https://cdn"), "{path} loads from elsewhere");
    }
    house.stop().await;
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("$ref", Value::String(reference)) => references.push(reference.clone()),
                    _ => collect(value, references),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}
