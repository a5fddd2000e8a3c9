//! The control socket: `control.sock` in the data folder, readable by its owner only. Whoever may read the data folder
//! could read everything anyway, so access to it is the root of trust: that is how the first key is made.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Request, StatusCode, header};
use axum::routing::post;
use axum::{Extension, Json, Router};
use engine::model::status::Role;
use engine::model::time::Timestamp;
use engine::view::ApiKeyView;
use http_body_util::{BodyExt as _, Limited};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tower::ServiceExt as _;

use crate::http::AppState;
use crate::http::kit::json::Moment;

/// The longest answer that is read, in bytes: 16,384 keys of 200 B.
const ANSWER_MAX: usize = 4 * 1_024 * 1_024;
/// A server that does not answer within this long is not one.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub fn path(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// The routes behind it: operators' keys and the node's clock, asked by the installation itself.
pub fn app(state: AppState) -> Router {
    let installation = ApiKeyView {
        no: 0,
        name: "installation".into(),
        role: Role::Admin,
        festivals: Vec::new(),
        created_at: Timestamp(0),
        revoked: false,
    };
    let (routes, _) = crate::http::ops::api_keys::router().into_router().split_for_parts();
    let clock = Router::new().route(CLOCK_ACCEPT, post(accept_clock));
    Router::new().nest("/api/v1", routes).merge(clock).layer(Extension(installation)).with_state(state)
}

/// Where the system's clock is accepted: here alone, since whoever may set the machine's clock has its folder too.
pub const CLOCK_ACCEPT: &str = "/clock/accept";

/// What accepting the clock came to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClockAccepted {
    /// How far the node's clock went, in milliseconds; less than 0: back.
    pub moved_ms: i64,
    /// What it says now.
    pub now: Moment,
    /// How far the journal's time is ahead of that.
    pub journal_ahead_ms: i64,
}

async fn accept_clock(State(state): State<AppState>) -> Json<ClockAccepted> {
    let moved_ms = state.node.accept_clock();
    let time = state.node.time();
    Json(ClockAccepted { moved_ms, now: Moment(time.now), journal_ahead_ms: time.journal_ahead_ms })
}

/// Listens there. Call it while holding the data folder's lock: a socket that is there already was left by a crash.
///
/// # Errors
/// The socket cannot be made.
pub fn bind(data: &Path) -> io::Result<UnixListener> {
    let path = path(data);
    // In a folder of our own until nobody else may connect: between making a socket and closing it to others there
    // would be a moment.
    let aside = data.join(".control");
    let _ = std::fs::remove_dir_all(&aside);
    std::fs::create_dir(&aside)?;
    std::fs::set_permissions(&aside, Permissions::from_mode(0o700))?;
    let own = aside.join("sock");
    let listener = UnixListener::bind(&own)?;
    std::fs::set_permissions(&own, Permissions::from_mode(0o600))?;
    std::fs::rename(&own, &path)?;
    std::fs::remove_dir(&aside)?;
    Ok(listener)
}

/// Answers there until `stop`.
pub async fn serve(listener: UnixListener, app: Router, stop: impl Future<Output = ()> + Send + 'static) {
    if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(stop).await {
        tracing::warn!(%error, "the control socket has stopped");
    }
}

/// Who answers: a running server, or this process with the data folder open.
pub enum Control {
    /// Through its socket.
    Running(PathBuf),
    /// Here.
    Offline(Router),
}

impl Control {
    /// The server that runs on this data folder; `None` if none does.
    pub async fn of_running(data: &Path) -> Option<Self> {
        let path = path(data);
        UnixStream::connect(&path).await.ok().map(|_| Self::Running(path))
    }

    /// Asks, and gives back status and body.
    ///
    /// # Errors
    /// The server has gone, or does not answer.
    pub async fn ask(&self, method: &str, path: &str, key: &str, body: String) -> io::Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "control")
            .header("idempotency-key", key)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .map_err(io::Error::other)?;
        let answer = async {
            match self {
                Self::Running(socket) => {
                    let stream = TokioIo::new(UnixStream::connect(socket).await?);
                    let (mut sender, connection) =
                        hyper::client::conn::http1::handshake(stream).await.map_err(io::Error::other)?;
                    tokio::spawn(connection);
                    let response = sender.send_request(request).await.map_err(io::Error::other)?;
                    let status = response.status();
                    Ok((status, collect(Body::new(response.into_body())).await?))
                }
                Self::Offline(app) => {
                    let response = app.clone().oneshot(request).await.map_err(io::Error::other)?;
                    Ok((response.status(), collect(response.into_body()).await?))
                }
            }
        };
        tokio::time::timeout(ANSWER_WITHIN, answer).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

async fn collect(body: Body) -> io::Result<Bytes> {
    Limited::new(body, ANSWER_MAX).collect().await.map(|body| body.to_bytes()).map_err(io::Error::other)
}
