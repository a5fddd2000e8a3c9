//! What organisers share, and what nobody else may stand in the way of.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use engine::model::ids::TicketId;
use engine::model::status::Role;
use futures_util::{StreamExt as _, stream};
use gateway::http::kit::limits::PROTECTED;
use gateway::http::{Limits, app};
use gateway::live::{self, LiveHub};
use gateway::read_models::{Condition, ReadError, ReadModels, State};
use gateway::server::listen;
use gateway::server::listen::Connections;
use gateway::server::proxies::{ProxyHeader, TrustedProxies};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use storage::views::cashless::CashlessViews;
use storage::views::gates::{
    AccessEntry, AccessLog, CountPosition, CountRow, Counts, GateViews, LogPosition, TicketRow, Tickets,
};
use storage::views::{Page, ViewsError, wanted};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tower::ServiceExt as _;

use crate::house::{House, Reply, fresh};

/// Nothing here takes so long; a test that hangs ends.
const AT_MOST: Duration = Duration::from_secs(60);

/// A door to this house with limits of its own; it closes with what is returned.
async fn door(house: &House, limits: Limits, connections: Connections) -> (SocketAddr, watch::Sender<bool>) {
    let streams = live::router(LiveHub::new(house.state.node.clone(), Arc::clone(&house.state.latency)));
    let (router, _) = app(house.state.clone(), streams, limits);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(listen::http(listener, router, connections, stopping));
    (address, stop)
}

/// Asks over a connection of its own: the status, or 0 if the connection is cut.
async fn once(address: SocketAddr, request: Request<Body>) -> u16 {
    let asked = async {
        let stream = TcpStream::connect(address).await.ok()?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await.ok()?;
        Some(response.status().as_u16())
    };
    tokio::time::timeout(AT_MOST, asked).await.expect("an answer").unwrap_or(0)
}

fn get(key: &str, path: &str) -> Request<Body> {
    let request = Request::get(format!("/api/v1{path}")).header("host", "test");
    request.header("authorization", format!("Bearer {key}")).body(Body::empty()).unwrap()
}

fn state(key: &str, state: &str) -> Request<Body> {
    Request::post("/api/v1/festivals/own/zones/0/state")
        .header("host", "test")
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .header("idempotency-key", fresh())
        .body(Body::from(json!({ "state": state }).to_string()))
        .unwrap()
}

/// More connections than an address may have, more requests than a key may make, and all the while a zone is evacuated
/// and opened again, from the same address and with the same key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evacuation_passes_whatever_else_comes_from_there() {
    let house = House::new().await;
    let admin = house.festival("own", 10).await;
    let few = NonZeroU32::new(1);
    let limits = Limits {
        key_requests_per_s: few,
        requests_per_s: few,
        burst: NonZeroU32::new(60).unwrap(),
        ..Limits::default()
    };
    let connections = Connections { per_address_max: 8, ..Connections::default() };
    let (address, _open) = door(&house, limits, connections).await;
    let mut held = Vec::new();
    for _ in 0..24 {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    let (refused, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let (refused, answered, admin) = (Arc::clone(&refused), Arc::clone(&answered), admin.clone());
            tokio::spawn(async move {
                for _ in 0..50 {
                    match once(address, get(&admin, "/festivals/own")).await {
                        200 => answered.fetch_add(1, Ordering::Relaxed),
                        _ => refused.fetch_add(1, Ordering::Relaxed),
                    };
                }
            })
        })
        .collect();
    let mut passed = 0;
    for n in 0..50 {
        let to = if n % 2 == 0 { "EVACUATING" } else { "OPEN" };
        passed += usize::from(once(address, state(&admin, to)).await == 204);
    }
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(passed, 50);
    assert!(refused.load(Ordering::Relaxed) > 200, "there was something to get past: {refused:?} {answered:?}");
    drop(held);
    house.stop().await;
}

/// The lane is of routes that there are.
#[tokio::test]
async fn what_is_protected_exists() {
    let house = House::new().await;
    let document = house.send(Request::get("/api/v1/openapi.json").body(Body::empty()).unwrap()).await.json();
    for (method, path) in PROTECTED {
        let operation = &document["paths"][path][method.as_str().to_lowercase()];
        assert!(operation.is_object(), "{method} {path}");
    }
    house.stop().await;
}

/// Behind a proxy each client is counted for itself, and only the proxy is believed.
#[tokio::test]
async fn behind_a_proxy_everybody_has_an_address() {
    let house = House::new().await;
    let one = NonZeroU32::MIN;
    let limits = Limits { requests_per_s: Some(one), burst: one, ..Limits::default() };
    let from = |client: &str| {
        let request = Request::get("/api/v1/festivals").header("host", "test").header("x-forwarded-for", client);
        request.body(Body::empty()).unwrap()
    };
    let proxies = TrustedProxies::new(&["127.0.0.0/8".to_owned()], ProxyHeader::XForwardedFor).unwrap();
    let (address, _open) = door(&house, limits.clone(), Connections { proxies, ..Connections::default() }).await;
    let mut told = Vec::new();
    for client in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "6.6.6.6, 192.0.2.1"] {
        told.push(once(address, from(client)).await);
    }
    assert_eq!(told, [401, 429, 401, 429]);
    let (address, _open) = door(&house, limits, Connections::default()).await;
    let told = [once(address, from("192.0.2.1")).await, once(address, from("192.0.2.2")).await];
    assert_eq!(told, [401, 429], "nobody else is believed");
    house.stop().await;
}

async fn watch(router: &Router, key: &str, slug: &str) -> Response<Body> {
    router.clone().oneshot(get(key, &format!("/festivals/{slug}/live/stream"))).await.unwrap()
}

/// Streams that a key never reads do not shut another organiser out.
#[tokio::test]
async fn live_streams_are_shared() {
    let mut house = House::new().await;
    house.festival("own", 10).await;
    house.festival("other", 10).await;
    let [greedy, second] = [house.key(Role::Organizer, &["own"]).await, house.key(Role::Staff, &["own"]).await];
    let other = house.key(Role::Organizer, &["other"]).await;
    let hub = LiveHub::with_seats(house.state.node.clone(), Arc::clone(&house.state.latency), 4, 3);
    let limits = Limits { requests_per_s: None, key_requests_per_s: None, ..Limits::default() };
    (house.router, _) = app(house.state.clone(), live::router(hub), limits);
    let mut unread = Vec::new();
    for _ in 0..3 {
        unread.push(watch(&house.router, &greedy, "own").await);
    }
    let refused = watch(&house.router, &greedy, "own").await;
    assert_eq!(refused.status(), 503, "a key has three");
    assert_eq!(refused.headers()["retry-after"], "5");
    unread.push(watch(&house.router, &second, "own").await);
    assert!(unread.iter().all(|stream| stream.status() == 200), "all four are taken");
    assert_eq!(watch(&house.router, &second, "own").await.status(), 503, "an organiser takes none from itself");

    let seen = watch(&house.router, &other, "other").await;
    assert_eq!(seen.status(), 200, "another organiser sees its festival");
    let displaced = unread.remove(0).into_body().collect();
    let told = tokio::time::timeout(AT_MOST, displaced).await.expect("the oldest one ends").unwrap().to_bytes();
    assert!(told.starts_with(b"event: history\n"));
    drop((unread, seen));
    house.stop().await;
}

/// Uploads that go on and on do not either.
#[tokio::test]
async fn bulk_calls_are_shared() {
    let house = House::new().await;
    house.festival("own", 10).await;
    let other = house.festival("other", 10).await;
    let keys = [house.key(Role::Organizer, &["own"]).await, house.key(Role::Staff, &["own"]).await];
    let begun = Arc::new(AtomicUsize::new(0));
    let mut hanging = Vec::new();
    for n in 0..6 {
        let begun = Arc::clone(&begun);
        let first = stream::once(async move {
            begun.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Infallible>(Bytes::from_static(b"{\"category\":0,"))
        });
        let body = Body::from_stream(Box::pin(first.chain(stream::pending())));
        let request = Request::post("/api/v1/festivals/own/tickets")
            .header("authorization", format!("Bearer {}", keys[n % 2]))
            .header("content-type", "application/x-ndjson")
            .header("idempotency-key", fresh())
            .body(body)
            .unwrap();
        hanging.push(tokio::spawn(house.router.clone().oneshot(request)));
    }
    while begun.load(Ordering::SeqCst) < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let issued = house.bulk(&other, "other", &fresh(), "{\"category\":0,\"paid\":true}\n").await;
    assert_eq!(issued.is(200, "").headers["tapgate-issued"], "1");
    assert_eq!(begun.load(Ordering::SeqCst), 4, "two of each key, and the others wait");
    hanging.iter().for_each(|call| call.abort());
    house.stop().await;
}

/// Read models whose tickets are read for as long as anybody waits, and whose counts are there at once.
#[derive(Clone, Default)]
struct Endless(Arc<Reading>);

#[derive(Default)]
struct Reading {
    reading: AtomicUsize,
    most: AtomicUsize,
    let_go: AtomicBool,
}

impl GateViews for Endless {
    fn access_log(&self, _: AccessLog, _: Page<LogPosition>) -> Result<Vec<AccessEntry>, ViewsError> {
        Ok(vec![])
    }
    fn tickets(&self, _: Tickets, _: Page<TicketId>) -> Result<Vec<TicketRow>, ViewsError> {
        let reading = self.0.reading.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most.fetch_max(reading, Ordering::SeqCst);
        let ended = loop {
            match wanted::still() {
                Ok(()) if self.0.let_go.load(Ordering::SeqCst) => break Ok(vec![]),
                Ok(()) => std::thread::sleep(Duration::from_millis(1)),
                Err(nobody) => break Err(nobody),
            }
        };
        self.0.reading.fetch_sub(1, Ordering::SeqCst);
        ended
    }
    fn counts(&self, _: Counts, _: Page<CountPosition>) -> Result<Vec<CountRow>, ViewsError> {
        Ok(vec![])
    }
}

impl ReadModels for Endless {
    fn gates(&self) -> Result<Arc<dyn GateViews>, ReadError> {
        Ok(Arc::new(self.clone()))
    }
    fn cashless(&self) -> Result<Arc<dyn CashlessViews>, ReadError> {
        Err(ReadError::NobodyWaits)
    }
    fn suspect(&self) {}
    fn condition(&self) -> Condition {
        Condition { state: State::Following, lag_records: 0 }
    }
}

/// A key has half of the reads at most, and a read ends when whoever asked has gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_bounded_and_end_with_who_asked() {
    let models = Endless::default();
    let house = House::with(Some(Arc::new(models.clone()))).await;
    let models = models.0;
    house.festival("own", 10).await;
    let [greedy, other] = [house.key(Role::Organizer, &["own"]).await, house.key(Role::Organizer, &["own"]).await];
    let asked: Vec<_> =
        (0..12).map(|_| tokio::spawn(house.router.clone().oneshot(get(&greedy, "/festivals/own/tickets")))).collect();
    let until = async |reading: usize| {
        while models.reading.load(Ordering::SeqCst) != reading {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(AT_MOST, until(4)).await.expect("four read");
    let counts: Value = house.get(&other, "/festivals/own/counts").await.is(200, "").json();
    assert_eq!(counts["items"], json!([]), "another key reads at once");
    asked.iter().for_each(|call| call.abort());
    tokio::time::timeout(AT_MOST, until(0)).await.expect("nobody waits any more, and nobody reads");
    assert_eq!(models.most.load(Ordering::SeqCst), 4);
    models.let_go.store(true, Ordering::SeqCst);
    let reply: Reply = house.get(&greedy, "/festivals/own/tickets").await;
    reply.is(200, "");
    house.stop().await;
}
