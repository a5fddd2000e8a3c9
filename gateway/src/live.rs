//! The live stream: a festival's counters and its money, once a second, as server-sent events, compressed for those who
//! take gzip.
//!
//! `GET /api/v1/festivals/{slug}/live/stream` sends `history` first ([`History`]: the festival, the last ten minutes, and
//! the present picture) and then `second` ([`Second`]) as each second ends. One sampler a festival asks its shard once
//! a second, and every shard for its part of the books, and writes each event once, however many watch; it starts with
//! the first viewer and rests ten minutes after the last. A viewer that reads too slowly misses seconds, never more than that: pictures are absolute.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use actors::Node;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use engine::gates::view::LiveView;
use engine::model::ids::FestivalId;
use engine::model::rejection::Rejection;
use engine::view::{Query, View};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::timeout;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::{Operator, Right, key_hash};
use crate::http::AppState;
use crate::http::kit::problem::{Fault, Problem};
use crate::http::kit::routes::Routes;
use crate::http::kit::shares::{Holder, Most, NoSeat, Seat, Seats};
use crate::server::latency::LatencyTracker;
use books::Books;
use names::Names;
use seconds::Seconds;
use snapshot::{ANSWERS_S, AnswerTime, Point, Snapshot};
use zip::Zipped;

mod books;
pub mod cashless;
mod names;
mod seconds;
pub mod snapshot;
mod zip;

/// How much history a viewer is given: ten minutes.
const HISTORY_S: usize = 600;
/// For how long each gate's and each vendor's own history is kept: what a sparkline shows.
const GATE_HISTORY_S: usize = 120;
/// Watching at once, unless told. Each may hold one history on its way, 250 KiB for ten gates and twelve vendors, and 3 MiB
/// for the 1,024 of each that there can be: 128 × 3 MiB = 384 MiB at the very worst. A key may have [`PER_KEY_MAX`] of them;
/// when all are taken, the organiser with most gives one to an organiser with fewer.
pub const VIEWERS_MAX: usize = 128;
/// Of one key: some screens with some festivals each.
pub const PER_KEY_MAX: usize = 16;
/// Festivals sampled at once: 32 × (600 × 400 B + 120 × (1,024 gates × 12 B + 1,024 vendors × 8 B) + 65,536 devices'
/// names × 60 B) = 204 MiB at the very worst.
const FESTIVALS_MAX: usize = 32;
/// Seconds a slow viewer may be behind before it misses some.
const BEHIND_MAX: usize = 8;
/// A sampler rests this long after its last viewer.
const REST_AFTER: Duration = Duration::from_secs(600);
/// Without news for this long, the stream says that it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// How often a viewer's key is asked about again: a revoked one sees nothing for longer than this.
const KEY_CHECK: Duration = Duration::from_secs(5);

/// The stream's route, under `/api/v1`. The hub is shared by all viewers of this server.
pub fn router(hub: LiveHub) -> Routes {
    Routes::new().with(Right::LookUp, routes!(stream)).layer(Extension(hub))
}

/// A festival's gates and its money, second by second.
///
/// Server-sent events: first one `history` (this body), then one `second` as each second ends (its `point` is one more
/// of `points`, its `now` the new picture). A comment says that the stream is still there when nothing else does.
/// `cash` is the money's half of a point and of a picture, null where the festival takes no cashless payments.
/// It ends when the key is revoked or the server goes down; come again then.
#[utoipa::path(
    get,
    path = "/festivals/{slug}/live/stream",
    operation_id = "live_stream",
    tag = "live",
    params(("slug" = String, Path, description = "The festival's name in addresses.")),
    responses((status = 200, description = "The stream.", content_type = "text/event-stream", body = History<'static>)),
)]
async fn stream(
    State(app): State<AppState>,
    Extension(hub): Extension<LiveHub>,
    operator: Operator,
    headers: HeaderMap,
    Path(slug): Path<String>,
) -> Result<Response, Problem> {
    let festival = operator.at(&slug)?;
    let watching = hub.watch_as(operator.no, festival).await?;
    let key =
        headers.get(header::AUTHORIZATION).and_then(|h| h.to_str().ok()?.split_once(' ')).and_then(|h| key_hash(h.1));
    let still_allowed = move || {
        let node = app.node.clone();
        async move {
            let Some(key) = key else { return false };
            match node.query(Query::ApiKey(key)).await {
                View::ApiKey(view) => Operator::of(&view, operator.right).is_some_and(|now| now.sees(festival)),
                // Only a clear no is one: a shard that is busy has not said it.
                View::No(rejection) => rejection != Rejection::UnknownKey,
                _ => false,
            }
        }
    };
    Ok(watching.into_response(zip::wanted(&headers), still_allowed))
}

/// The first event, `history`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveHistory)]
pub struct History<'a> {
    /// The festival.
    festival: Festival<'a>,
    /// The last seconds, oldest first, at most 600.
    points: Vec<&'a Point>,
    /// The present picture.
    now: &'a Snapshot,
}

/// Each following event, `second`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveSecond)]
pub struct Second<'a> {
    /// The second that has just ended.
    point: &'a Point,
    /// The present picture.
    now: &'a Snapshot,
}

/// Which festival this is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveFestival)]
pub struct Festival<'a> {
    pub(crate) slug: Cow<'a, str>,
    pub(crate) name: Cow<'a, str>,
    /// Milliseconds since 1970, as all times here.
    pub(crate) starts_at: i64,
    pub(crate) ends_at: i64,
}

/// One festival's last minutes, and those who watch.
struct Sampled {
    slug: String,
    name: String,
    starts_at: i64,
    ends_at: i64,
    points: VecDeque<Point>,
    now: Snapshot,
    watchers: broadcast::Sender<Bytes>,
}

impl Sampled {
    fn add(&mut self, now: Snapshot, span_ms: u32, answered: Option<AnswerTime>) -> Bytes {
        let point = now.since(&self.now, span_ms, answered);
        if self.points.len() == HISTORY_S {
            self.points.pop_front();
        }
        if let Some(old) = self.points.len().checked_sub(GATE_HISTORY_S) {
            self.points[old].gates = Vec::new();
            if let Some(cash) = &mut self.points[old].cash {
                cash.vendors = Vec::new();
            }
        }
        let event = event("second", &Second { point: &point, now: &now });
        self.points.push_back(point);
        self.now = now;
        event
    }

    fn history(&self) -> Bytes {
        let (slug, name) = ((&self.slug).into(), (&self.name).into());
        let festival = Festival { slug, name, starts_at: self.starts_at, ends_at: self.ends_at };
        event("history", &History { festival, points: self.points.iter().collect(), now: &self.now })
    }
}

fn event(name: &str, data: &impl Serialize) -> Bytes {
    // JSON has no line ends of its own, so it is one `data:` line.
    let json = serde_json::to_string(data).expect("plain structs become JSON");
    Bytes::from(format!("event: {name}\ndata: {json}\n\n"))
}

/// All samplers of this server. Clones share them.
#[derive(Clone)]
pub struct LiveHub(Arc<Hub>);

/// What a sampler has asked about its festival beside the counters.
struct FestivalQueries {
    names: Names,
    books: Books,
}

struct Hub {
    node: Node,
    latency: Arc<LatencyTracker>,
    seats: Seats,
    festivals: Mutex<Option<HashMap<FestivalId, Arc<Mutex<Sampled>>>>>,
}

/// A place in front of one festival.
pub struct Watching {
    history: Bytes,
    seconds: broadcast::Receiver<Bytes>,
    /// `None`: the server itself watches.
    seat: Option<Seat>,
}

impl LiveHub {
    /// Samples nothing until somebody watches.
    pub fn new(node: Node, latency: Arc<LatencyTracker>) -> Self {
        Self::with_seats(node, latency, VIEWERS_MAX, PER_KEY_MAX)
    }

    /// The same, with so many viewers in all and of one key.
    pub fn with_seats(node: Node, latency: Arc<LatencyTracker>, viewers_max: usize, per_key_max: usize) -> Self {
        let seats = Seats::new(Most { all: viewers_max, per_key: per_key_max, per_organiser: viewers_max });
        Self(Arc::new(Hub { node, latency, seats, festivals: Mutex::new(Some(HashMap::new())) }))
    }

    /// A seat for this key in front of this festival, and its sampler started if it rests.
    ///
    /// # Errors
    /// `too_many_streams`; `unknown_festival`; `busy` when too many festivals are watched, or the server goes down.
    pub async fn watch_as(&self, key: u32, festival: FestivalId) -> Result<Watching, Problem> {
        let seat = self.0.seats.take(Holder { key, organiser: festival }).map_err(|why| {
            let detail = match why {
                NoSeat::OfKey => "Your key watches as many streams as one key may.",
                NoSeat::OfAll => "All streams are watched, and no other organiser has more of them.",
            };
            Problem::from(Fault::TooManyStreams).detail(detail)
        })?;
        let watching = self.watch(festival).await?;
        Ok(Watching { seat: Some(seat), ..watching })
    }

    /// The same for the server itself, which needs no seat.
    ///
    /// # Errors
    /// [`Rejection::UnknownFestival`]; [`Rejection::Busy`] when too many festivals are watched, or the server goes down.
    pub async fn watch(&self, festival: FestivalId) -> Result<Watching, Rejection> {
        let sampled = match self.0.sampled(festival)? {
            Some(sampled) => sampled,
            None => self.start(festival).await?,
        };
        let sampled = lock(&sampled);
        // Both under one lock: no second is missed between them, and none is seen twice.
        Ok(Watching { history: sampled.history(), seconds: sampled.watchers.subscribe(), seat: None })
    }

    /// Ends every stream; from here on there are none.
    pub fn close(&self) {
        // The senders go with the samplers' last handles.
        lock(&self.0.festivals).take();
    }

    async fn start(&self, festival: FestivalId) -> Result<Arc<Mutex<Sampled>>, Rejection> {
        let View::About(about) = self.0.ask(Query::About(festival)).await? else {
            return Err(Rejection::Internal);
        };
        let View::Live(live) = self.0.ask(Query::Live(festival)).await? else { return Err(Rejection::Internal) };
        let mut asked = FestivalQueries { names: Names::of(festival), books: Books::of(festival) };
        let now = self.0.snapshot(&live, &mut asked, true).await;
        let mut festivals = lock(&self.0.festivals);
        let festivals = festivals.as_mut().ok_or(Rejection::Busy)?;
        if let Some(sampled) = festivals.get(&festival) {
            return Ok(Arc::clone(sampled)); // somebody else came first
        }
        if festivals.len() == FESTIVALS_MAX {
            // One that nobody watches any more, and whose history only waits for somebody to come back, makes room.
            let unwatched = |sampled: &Arc<Mutex<Sampled>>| lock(sampled).watchers.receiver_count() == 0;
            let resting = festivals.iter().find(|(_, sampled)| unwatched(sampled)).map(|(id, _)| *id);
            festivals.remove(&resting.ok_or(Rejection::Busy)?);
        }
        let sampled = Arc::new(Mutex::new(Sampled {
            slug: about.slug,
            name: about.name,
            starts_at: about.starts_at.0,
            ends_at: about.ends_at.0,
            points: VecDeque::with_capacity(HISTORY_S),
            now,
            watchers: broadcast::Sender::new(BEHIND_MAX),
        }));
        festivals.insert(festival, Arc::clone(&sampled));
        tokio::spawn(Arc::clone(&self.0).sample(festival, Arc::downgrade(&sampled), live, asked));
        Ok(sampled)
    }
}

impl Hub {
    fn sampled(&self, festival: FestivalId) -> Result<Option<Arc<Mutex<Sampled>>>, Rejection> {
        lock(&self.festivals).as_ref().map(|all| all.get(&festival).cloned()).ok_or(Rejection::Busy)
    }

    async fn ask(&self, query: Query) -> Result<View, Rejection> {
        match self.node.query(query).await {
            View::No(rejection) => Err(rejection),
            view => Ok(view),
        }
    }

    async fn snapshot(&self, live: &LiveView, asked: &mut FestivalQueries, recording: bool) -> Snapshot {
        let at = jiff::Timestamp::now().as_millisecond();
        asked.names.learn(&self.node, live.latest.iter().map(|refused| refused.device)).await;
        let cash = asked.books.query(&self.node, &mut asked.names, at).await;
        let latency = AnswerTime::of(self.latency.last(ANSWERS_S));
        Snapshot::of(live, cash, &asked.names, at, recording, latency)
    }

    /// Asks once a second, until nobody has watched for [`REST_AFTER`] or the hub closes.
    async fn sample(
        self: Arc<Self>,
        festival: FestivalId,
        own: Weak<Mutex<Sampled>>,
        mut live: Box<LiveView>,
        mut about: FestivalQueries,
    ) {
        let mut seconds = Seconds::from_now();
        let (mut asked_at, mut watched_at) = (Instant::now(), Instant::now());
        loop {
            seconds.next().await;
            // A shard that cannot answer leaves the last picture standing, marked as such.
            let answered = match self.ask(Query::Live(festival)).await {
                Ok(View::Live(view)) => {
                    live = view;
                    true
                }
                _ => false,
            };
            let recording = answered && self.node.health().ready;
            let snapshot = self.snapshot(&live, &mut about, recording).await;
            let span = asked_at.elapsed();
            asked_at = Instant::now();
            let Ok(Some(sampled)) = self.sampled(festival) else { return };
            if !std::ptr::eq(own.as_ptr(), Arc::as_ptr(&sampled)) {
                return; // this one had made room, and somebody has come back meanwhile
            }
            let mut sampled = lock(&sampled);
            let span_ms = u32::try_from(span.as_millis()).unwrap_or(u32::MAX).max(1);
            let second = sampled.add(snapshot, span_ms, AnswerTime::of(self.latency.last(1)));
            if sampled.watchers.send(second).is_ok() {
                watched_at = Instant::now();
            } else if watched_at.elapsed() > REST_AFTER {
                drop(sampled);
                if let Some(all) = lock(&self.festivals).as_mut() {
                    all.remove(&festival);
                }
                return;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Whoever panicked left a whole value behind: all writes here are single assignments.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watching {
    /// The stream as a response. `still_allowed` is asked every few seconds; the first no ends it, so that the viewer
    /// comes again and is told why. `zipped` compresses it.
    pub fn into_response<F, A>(self, zipped: bool, still_allowed: F) -> Response
    where
        F: Fn() -> A + Send + 'static,
        A: Future<Output = bool> + Send,
    {
        struct State<F> {
            watching: Watching,
            first: bool,
            zipped: Option<Zipped>,
            checked_at: Instant,
            still_allowed: F,
        }
        let state = State {
            watching: self,
            first: true,
            zipped: zipped.then(Zipped::new),
            checked_at: Instant::now(),
            still_allowed,
        };
        let stream = futures_util::stream::unfold(state, async |mut state| {
            let send = |plain: Bytes, mut state: State<F>| {
                let bytes = state.zipped.as_mut().map(|zipped| zipped.frame(&plain)).unwrap_or(plain);
                Some((Ok::<_, Infallible>(bytes), state))
            };
            if std::mem::take(&mut state.first) {
                let history = state.watching.history.clone();
                state.watching.history = Bytes::new(); // not held for as long as they watch
                return send(history, state);
            }
            if state.checked_at.elapsed() > KEY_CHECK {
                if !(state.still_allowed)().await {
                    return None;
                }
                state.checked_at = Instant::now();
            }
            loop {
                let Watching { seconds, seat, .. } = &mut state.watching;
                let displaced = async {
                    match seat {
                        Some(seat) => seat.displaced().await,
                        None => std::future::pending().await,
                    }
                };
                let second = tokio::select! {
                    // Another organiser has the seat now: this viewer comes again, and is told why.
                    () = displaced => return None,
                    second = timeout(KEEP_ALIVE, seconds.recv()) => second,
                };
                return match second {
                    Ok(Ok(second)) => send(second, state),
                    Ok(Err(RecvError::Lagged(_))) => continue,
                    Ok(Err(RecvError::Closed)) => None,
                    Err(_) => send(Bytes::from_static(b": still here\n\n"), state),
                };
            }
        });
        let headers = [
            (header::CONTENT_TYPE, "text/event-stream"),
            (header::CACHE_CONTROL, "no-store"),
            // Proxies that buffer would turn a second into a minute.
            (header::HeaderName::from_static("x-accel-buffering"), "no"),
            (header::VARY, "accept-encoding"),
        ];
        let mut response = (headers, Body::from_stream(stream)).into_response();
        if zipped {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::cashless::tests::{books, cash};
    use super::snapshot::tests::{live, snapshot};
    use super::*;
    use utoipa::PartialSchema as _;

    fn sampled(now: Snapshot) -> Sampled {
        Sampled {
            slug: "demo".into(),
            name: "Demo".into(),
            starts_at: 0,
            ends_at: 1,
            points: VecDeque::new(),
            now,
            watchers: broadcast::Sender::new(BEHIND_MAX),
        }
    }

    #[test]
    fn history_is_bounded_and_gates_lapse_sooner() {
        let mut sampled = sampled(snapshot(0, &live([(0, 0, 0); 2], [0, 0], &[])));
        for second in 1..=700 {
            sampled.add(snapshot(second, &live([(second as u64, 0, 0), (0, 0, 0)], [0, 0], &[])), 1_000, None);
        }
        assert_eq!((sampled.points.len(), sampled.points[0].at), (HISTORY_S, 101), "the oldest went");
        let with_gates = sampled.points.iter().filter(|point| !point.gates.is_empty()).count();
        assert_eq!(with_gates, GATE_HISTORY_S);
        assert!(sampled.points.iter().all(|point| point.admitted == 1), "the sums stay");
    }

    fn selling(second: i64, payments: u64) -> Snapshot {
        let quiet = snapshot(second, &live([(0, 0, 0); 2], [0, 0], &[]));
        Snapshot { cash: Some(cash(&books(payments, 1_000_000, 0))), ..quiet }
    }

    #[test]
    fn what_vendors_sold_lapses_as_gates_do_and_the_sums_stay() {
        let mut sampled = sampled(selling(0, 0));
        for second in 1..=700 {
            sampled.add(selling(second, second as u64), 1_000, None);
        }
        let points: Vec<_> = sampled.points.iter().map(|point| point.cash.as_ref().unwrap()).collect();
        assert_eq!(points.iter().filter(|point| !point.vendors.is_empty()).count(), GATE_HISTORY_S);
        assert!(points.iter().all(|point| (point.payments, point.sold_minor) == (1, 500)));
    }

    #[test]
    fn money_is_in_the_json_where_there_is_any() {
        let without = event("second", &snapshot(0, &live([(0, 0, 0); 2], [0, 0], &[])));
        assert!(str::from_utf8(&without).unwrap().contains("\"cash\":null"));
        let mut sampled = sampled(selling(0, 3));
        let second = sampled.add(selling(1, 5), 1_000, None);
        let json = str::from_utf8(&second).unwrap().split_once("data: ").unwrap().1.trim();
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(value["now"]["cash"]["inWallets"], "9975.00");
        assert_eq!(value["now"]["cash"]["trialBalance"], "0.00");
        assert_eq!(value["now"]["cash"]["vendors"][0]["sold"], "25.00");
        assert_eq!(value["point"]["cash"]["vendors"][0], serde_json::json!([2, 1_000]));
        // Whoever reads the stream with these types gets what was sent.
        let read: Snapshot = serde_json::from_value(value["now"].clone()).unwrap();
        assert_eq!(read, sampled.now);
    }

    /// The document has one name for one thing: a schema of ours would take the place of the API's own of that name.
    #[test]
    fn documented_names_are_the_streams_own() {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        History::schemas(&mut ours);
        crate::http::gates::live_counts::LiveCounts::schemas(&mut theirs);
        crate::http::gates::festivals::Festival::schemas(&mut theirs);
        theirs.push((
            crate::http::gates::festivals::Festival::name().into(),
            crate::http::gates::festivals::Festival::schema(),
        ));
        assert!(ours.iter().any(|(name, _)| name == "LiveVendor") && theirs.iter().any(|(name, _)| name == "Zone"));
        for (name, _) in &ours {
            assert!(theirs.iter().all(|(known, _)| known != name), "{name} is two things");
        }
    }

    #[test]
    fn an_event_is_one_line_of_json_that_the_page_can_read() {
        let mut sampled = sampled(snapshot(0, &live([(0, 0, 0); 2], [0, 0], &[])));
        let second = sampled.add(snapshot(1, &live([(1, 0, 0), (0, 0, 0)], [1, 0], &[])), 1_000, None);
        for (name, bytes) in [("second", second), ("history", sampled.history())] {
            let text = str::from_utf8(&bytes).unwrap().to_owned();
            let json = text.strip_prefix(&format!("event: {name}\ndata: ")).unwrap().strip_suffix("\n\n").unwrap();
            let value: serde_json::Value = serde_json::from_str(json).unwrap();
            assert_eq!(value["now"]["zones"][1]["parent"], 0);
            let point = if name == "second" { &value["point"] } else { &value["points"][0] };
            assert_eq!((&point["admitted"], &point["gates"][0][0]), (&1.into(), &1.into()));
        }
    }
}
