//! What is served over HTTP, put together: the API, its documentation, the pages, probes and figures, and what is the
//! same for all of them.

use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use engine::model::rejection::Rejection;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use super::gates::{self, issue};
use super::kit::limits::Limits;
use super::kit::openapi;
use super::kit::problem::{Fault, Problem};
use super::kit::routes::Routes;
use super::ops::{api_keys, health};
use super::state::AppState;
use super::{cashless, reports};
use crate::pages;
use crate::server::metrics as metrics_of;

/// Every route under `/api/v1` with its OpenAPI document.
fn api(streams: Routes, answer_within: Duration) -> OpenApiRouter<AppState> {
    // What a person or a page asks.
    let prompt = gates::router()
        .merge(cashless::router())
        .merge(reports::router())
        .merge(api_keys::router())
        .merge(health::problems_router())
        .layer(middleware::from_fn_with_state(answer_within, in_time));
    // What may take minutes, and bounds its own time.
    let v1 = prompt.merge(issue::router()).merge(cashless::bulk::router()).merge(streams);
    OpenApiRouter::with_openapi(openapi::base()).nest("/api/v1", v1.into_router())
}

/// Everything that is served over HTTP: the API, its documentation, the pages, probes and figures, and behind them the
/// two answers for what is no route. `streams` joins the API under `/api/v1`: the live stream, which brings its own hub.
///
/// The future does what has to be done now and then, or memory grows; it has no end, and is to be run beside the door.
/// Requests are counted by their [`axum::extract::ConnectInfo`], which whoever accepts the connection has to add.
pub fn app(state: AppState, streams: Routes, limits: Limits) -> (Router, impl Future<Output = ()> + Send + 'static) {
    let upkeep = metrics_of::upkeep(state.metrics.clone(), state.node.clone());
    let (api, mut openapi) = api(streams, limits.answer_within).split_for_parts();
    let (operations, operations_docs) = health::router().split_for_parts();
    openapi.merge(operations_docs);
    openapi::complete(&mut openapi);
    let docs = SwaggerUi::new("/api/docs").url("/api/v1/openapi.json", openapi);
    let router = Router::new()
        .merge(api)
        .merge(docs)
        .merge(pages::routes())
        .fallback(async |uri: Uri, asked: HeaderMap| {
            pages::lost(&uri, &asked).unwrap_or_else(|| Problem::from(Fault::UnknownRoute).into_response())
        })
        .method_not_allowed_fallback(|| async { Problem::from(Fault::MethodNotAllowed) })
        .with_state(state.clone());
    let (router, forget) = limits.guard(router);
    // Probes and scrapes come past the limit: they must not fail because somebody else asks too much.
    let operations = operations.method_not_allowed_fallback(|| async { Problem::from(Fault::MethodNotAllowed) });
    let router = router.merge(operations.with_state(state)).layer(
        ServiceBuilder::new()
            .layer(middleware::from_fn(counted))
            .layer(middleware::from_fn(guarded))
            .layer(CatchPanicLayer::custom(panicked)),
    );
    let beside = async {
        tokio::join!(upkeep, forget);
    };
    (router, beside)
}

/// A handler that panics answers 500 in the usual shape; the shards know nothing of it.
fn panicked(reason: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let reason = reason.downcast_ref::<&str>().copied().or(reason.downcast_ref::<String>().map(String::as_str));
    tracing::error!(reason = reason.unwrap_or("?"), "a handler panicked");
    Problem::from(Rejection::Internal).into_response()
}

async fn in_time(State(within): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(within, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::from(Fault::Timeout).into_response(),
    }
}

async fn counted(request: Request, next: Next) -> Response {
    // The route's pattern, never the address itself: labels must be few, and an address may hold a ticket's id.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = match request.method().as_str() {
        known @ ("GET" | "POST" | "PUT" | "DELETE" | "HEAD" | "OPTIONS") => known,
        _ => "other",
    };
    let method = method.to_owned();
    let began = std::time::Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::histogram!("tapgate_http_request_seconds", "route" => route.clone()).record(began.elapsed());
    metrics::counter!("tapgate_http_requests_total", "route" => route, "method" => method, "status" => status)
        .increment(1);
    response
}

/// What browsers are told about every answer, unless the answer says otherwise itself.
const GUARDS: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    // The API's documentation sets styles of its own; scripts come from here only.
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    // Answers hold QRs and keys.
    (header::CACHE_CONTROL, "no-store"),
];

async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in GUARDS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
