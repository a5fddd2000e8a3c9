//! A node behind the API, with a festival of its own for each test and keys for every role.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actors::clock::SystemClock;
use actors::{Busy, Folder, Node, NodeConfig, TerminalInbox, TerminalReply};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use engine::cashless::command::{TerminalAction, TerminalAnswer, TerminalCommand};
use engine::command::{AdminAction, AdminAnswer, AdminCommand};
use engine::model::credential::QrSecret;
use engine::model::ids::{DeviceId, FestivalId};
use engine::model::principal::Principal;
use engine::model::status::Role;
use engine::model::time::Timestamp;
use gateway::auth::{OneTime, enrolment_code_hash, key_hash, key_text};
use gateway::http::{AppState, Limits, app};
use gateway::live::{self, LiveHub};
use gateway::read_models::{FollowedReadModels, ReadModels, State, in_folder};
use gateway::server::latency::LatencyTracker;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tapgate_wire::Fingerprint;

use crate::document::Document;
use tokio::sync::mpsc::UnboundedSender;
use tower::ServiceExt;

pub(crate) const SECRET: &[u8] = b"a secret of at least 32 bytes, for tests";

pub(crate) struct House {
    pub(crate) state: AppState,
    pub(crate) router: Router,
    folder: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, self.text))
    }
    pub(crate) fn replayed(&self) -> bool {
        self.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
    }
    /// `(status, code)` of a problem whose shape is as it must be, or `(status, "")`.
    pub(crate) fn code(&self) -> (u16, String) {
        let status = self.status.as_u16();
        if status < 400 {
            return (status, String::new());
        }
        assert_eq!(self.headers["content-type"], "application/problem+json", "{status} {}", self.text);
        let problem = self.json();
        assert_eq!(problem["status"], status);
        let code = problem["code"].as_str().expect("a code").to_owned();
        assert_eq!(problem["type"], format!("/api/v1/problems#{code}"));
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        (status, code)
    }
    #[track_caller]
    pub(crate) fn is(&self, status: u16, code: &str) -> &Self {
        assert_eq!(self.code(), (status, code.to_owned()), "{}", self.text);
        self
    }
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::with(None).await
    }

    pub(crate) async fn with(read_models: Option<Arc<dyn ReadModels>>) -> Self {
        Self::of(|_, _| read_models).await
    }

    /// With the read models that follow the journal.
    pub(crate) async fn listed() -> Self {
        Self::of(|node, data| Some(Arc::new(FollowedReadModels::follow(node.journal(), in_folder(data)).unwrap())))
            .await
    }

    /// Waits until the read models have all that has happened until now.
    pub(crate) async fn listed_all(&self) {
        let models = self.state.read_models.as_ref().unwrap();
        for _ in 0..500 {
            let condition = models.condition();
            if condition.state == State::Following && condition.lag_records == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the read models do not follow: {:?}", models.condition());
    }

    async fn of(models: impl FnOnce(&Node, &Path) -> Option<Arc<dyn ReadModels>>) -> Self {
        Self::at(SystemClock::default(), models).await
    }

    /// On a machine with this clock.
    pub(crate) async fn at(
        clock: SystemClock,
        models: impl FnOnce(&Node, &Path) -> Option<Arc<dyn ReadModels>>,
    ) -> Self {
        Self::sharded(4, clock, models).await
    }

    /// Where all that is asked is asked of the same shard.
    pub(crate) async fn of_one_shard() -> Self {
        Self::sharded(1, SystemClock::default(), |_, _| None).await
    }

    async fn sharded(
        shards: u16,
        clock: SystemClock,
        models: impl FnOnce(&Node, &Path) -> Option<Arc<dyn ReadModels>>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let opening = Folder { shards, ..Folder::new(folder.path()) };
        let config = NodeConfig { threads: 1, clock, ..NodeConfig::default() };
        let node = tokio::task::spawn_blocking(|| opening.start(config)).await.unwrap().unwrap();
        let read_models = models(&node, folder.path());
        let state = AppState {
            node,
            qr_secret: QrSecret::new(SECRET).unwrap(),
            one_time: OneTime::new(SECRET),
            read_models,
            placement: None,
            quic_address: "gates.example.org:4433".into(),
            fingerprint: Fingerprint([0xAB; 32]),
            latency: Arc::new(LatencyTracker::new()),
            metrics: gateway::server::metrics::install().unwrap(),
            uploads: gateway::http::kit::ndjson::permits(gateway::http::kit::ndjson::CALLS_MAX),
            reads: gateway::http::gates::lists::permits(gateway::http::gates::lists::READS_MAX),
        };
        let unlimited = Limits { requests_per_s: None, key_requests_per_s: None, ..Limits::default() };
        let streams = live::router(LiveHub::new(state.node.clone(), Arc::clone(&state.latency)));
        let (router, _beside) = app(state.clone(), streams, unlimited);
        Self { state, router, folder }
    }

    pub(crate) async fn stop(self) {
        self.state.node.stop().await;
        drop(self.folder);
    }

    /// A key of this role at these festivals.
    pub(crate) async fn key(&self, role: Role, festivals: &[&str]) -> String {
        let name = format!("{} {festivals:?}", role.word());
        let mut random = [0; 32];
        aws_lc_rs::rand::fill(&mut random).unwrap();
        let key = key_text(&random);
        let action = AdminAction::CreateApiKey {
            hash: key_hash(&key).unwrap(),
            role,
            festivals: festivals.iter().map(|slug| FestivalId::of_slug(slug)).collect(),
            name,
        };
        let (answer, _) = self.state.node.ask(AdminCommand { key: None, by: Principal::Installation, action }).await;
        assert!(matches!(answer, AdminAnswer::ApiKey(_)), "{answer:?}");
        key
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        if Document::known().is_none() {
            let asked = Request::get("/api/v1/openapi.json").body(Body::empty()).unwrap();
            Document::of(&self.exchange(asked).await.text);
        }
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let reply = self.exchange(request).await;
        if let Some(document) = Document::known() {
            document.check(&method, &path, &reply);
        }
        reply
    }

    async fn exchange(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        // A stream has no end to wait for: what it says is tested beside it.
        let streams = parts.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let body = if streams { Default::default() } else { body.collect().await.unwrap().to_bytes() };
        Reply { status: parts.status, headers: parts.headers, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// Asks with this key; `path` is below `/api/v1`.
    pub(crate) async fn call(&self, key: &str, method: &str, path: &str, attempt: &str, body: Option<Value>) -> Reply {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json")
            .header("idempotency-key", attempt);
        self.send(request.body(body.map_or(Body::empty(), |body| Body::from(body.to_string()))).unwrap()).await
    }

    pub(crate) async fn get(&self, key: &str, path: &str) -> Reply {
        let request = Request::get(format!("/api/v1{path}")).header("authorization", format!("Bearer {key}"));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// With an idempotency key of its own.
    pub(crate) async fn post(&self, key: &str, path: &str, body: Value) -> Reply {
        self.call(key, "POST", path, &fresh(), Some(body)).await
    }
    pub(crate) async fn put(&self, key: &str, path: &str, body: Value) -> Reply {
        self.call(key, "PUT", path, &fresh(), Some(body)).await
    }

    pub(crate) async fn bulk(&self, key: &str, slug: &str, attempt: &str, body: impl Into<Body>) -> Reply {
        self.lines(key, &format!("/festivals/{slug}/tickets"), attempt, body).await
    }

    pub(crate) async fn lines(&self, key: &str, path: &str, attempt: &str, body: impl Into<Body>) -> Reply {
        let request = Request::post(format!("/api/v1{path}"))
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/x-ndjson")
            .header("idempotency-key", attempt);
        self.send(request.body(body.into()).unwrap()).await
    }

    /// A festival with a ground, a deck in it, a gate, and a category 0 with `quota` places.
    pub(crate) async fn festival(&self, slug: &str, quota: u32) -> String {
        let admin = self.key(Role::Admin, &[]).await;
        self.post(&admin, "/festivals", festival(slug)).await.is(201, "");
        self.post(&admin, &format!("/festivals/{slug}/zones"), json!({"name": "Ground", "capacity": 1000}))
            .await
            .is(201, "");
        let deck = json!({"name": "Deck", "parent": 0, "capacity": 100});
        self.post(&admin, &format!("/festivals/{slug}/zones"), deck).await.is(201, "");
        self.post(&admin, &format!("/festivals/{slug}/gates"), json!({"name": "North", "zone": 0})).await.is(201, "");
        self.post(&admin, &format!("/festivals/{slug}/categories"), category(quota)).await.is(201, "");
        admin
    }

    /// The same with cashless payments, on sale: vendor 0 with the products 0 at 5.00 and 1 at 2.50, 10 % commission.
    pub(crate) async fn bar(&self, slug: &str) -> String {
        let admin = self.festival(slug, 10).await;
        let at = |rest: &str| format!("/festivals/{slug}/{rest}");
        self.put(&admin, &at("cashless"), json!({"currency": "EUR"})).await.is(204, "");
        self.post(&admin, &at("vendors"), json!({"name": "Bar 7", "commissionRate": "10"})).await.is(201, "");
        for (name, price, vat) in [("Lager", "5.00", "19"), ("Water", "2.50", "7.00")] {
            let product = json!({"name": name, "price": price, "vatRate": vat});
            self.post(&admin, &at("vendors/0/products"), product).await.is(201, "");
        }
        self.post(&admin, &at("status"), json!({"status": "PUBLISHED"})).await.is(204, "");
        admin
    }

    /// A wallet of an account of its own, with so much from the desk of whoever holds this key.
    pub(crate) async fn wallet(&self, key: &str, slug: &str, amount: &str) -> String {
        let made = self.put(key, "/cashless/account", json!({"account": fresh(), "festival": slug})).await;
        let wallet = made.is(200, "").json()["wallet"].as_str().unwrap().to_owned();
        if amount != "0.00" {
            let cash = json!({"wallet": wallet, "festival": slug, "amount": amount, "currency": "EUR"});
            self.post(key, "/cashless/topup", cash).await.is(200, "");
        }
        wallet
    }

    /// A device that shows its code and the public half of its key.
    pub(crate) async fn enrol(&self, slug: &str, code: &str, public_key: [u8; 32]) -> String {
        let (festival, code_hash) = (FestivalId::of_slug(slug), enrolment_code_hash(code.as_bytes()));
        let action = AdminAction::EnrolDevice { festival, code_hash, public_key };
        match self.state.node.ask(AdminCommand { key: None, by: Principal::Installation, action }).await.0 {
            AdminAnswer::Device(device) => device.to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// What a terminal asks, and its answer.
    pub(crate) async fn terminal(&self, device: &str, seq: u64, action: TerminalAction) -> TerminalAnswer {
        let device = DeviceId::parse(device).unwrap();
        let (told, mut answers) = tokio::sync::mpsc::unbounded_channel();
        let inbox: Arc<dyn TerminalInbox> = Arc::new(Told(told));
        let command = TerminalCommand { device, seq, floor: 1, expires_at: Timestamp(0), action };
        assert!(self.state.node.submit_terminal(vec![command], &inbox).is_ok());
        answers.recv().await.unwrap()
    }

    /// What is available in a wallet.
    pub(crate) async fn balance(&self, key: &str, wallet: &str) -> String {
        let shown = self.get(key, &format!("/cashless/account?wallet={wallet}")).await.is(200, "").json();
        shown["balance"].as_str().unwrap().to_owned()
    }

    /// One ticket of category 0.
    pub(crate) async fn ticket(&self, key: &str, slug: &str) -> String {
        let reply = self.bulk(key, slug, &fresh(), "{\"category\":0,\"paid\":true}\n").await;
        reply.is(200, "").json()["ticketId"].as_str().unwrap_or_else(|| panic!("{}", reply.text)).to_owned()
    }
}

pub(crate) fn fresh() -> String {
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).unwrap();
    uuid::Builder::from_random_bytes(random).into_uuid().to_string()
}

/// Where a terminal's answers go.
struct Told(UnboundedSender<TerminalAnswer>);

impl TerminalInbox for Told {
    fn answered(&self, replies: &[TerminalReply]) {
        for reply in replies {
            self.0.send(reply.answer).unwrap();
        }
    }
    fn turned_away(&self, seqs: &[u64], busy: Busy) {
        panic!("{seqs:?}: {busy:?}");
    }
}

/// A vendor's id.
pub(crate) fn vendor_id(slug: &str, vendor: u16) -> String {
    format!("{}-{vendor}", FestivalId::of_slug(slug))
}

/// A tag that nobody has.
pub(crate) fn fresh_tag() -> String {
    // As tags of the usual make begin: any other first byte may be one that names nobody.
    format!("04{}", &fresh().replace('-', "")[..12])
}

pub(crate) fn festival(slug: &str) -> Value {
    json!({"slug": slug, "name": "A night", "startsAt": "2027-07-16T12:00:00Z", "endsAt": "2027-07-19T12:00:00+02:00"})
}

pub(crate) fn category(quota: u32) -> Value {
    json!({
        "name": "Weekend", "kind": "STANDARD", "price": {"amount": "89.50", "currency": "EUR"}, "quota": quota,
        "zones": [0, 1], "validFrom": "2027-07-16T12:00:00Z", "validUntil": "2027-07-19T12:00:00Z",
    })
}
