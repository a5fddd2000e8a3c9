//! For whoever runs the node: is it alive, is it ready, its figures; and for whoever reads an error: what it means.
//! These need no key, and no limit stands before them: a probe must never fail for another's sake.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use engine::model::rejection::Rejection;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::kit::problem::{Fault, Problem};
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;
use crate::read_models;

/// The routes at the root.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz)).routes(routes!(metrics))
}

/// The route under `/api/v1`.
pub fn problems_router() -> Routes {
    Routes::new().open(routes!(problems))
}

/// How the node is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Condition {
    /// `ok`.
    pub status: &'static str,
}

/// The process runs and answers.
#[utoipa::path(get, path = "/healthz", tag = "operations", security(()), responses((status = 200, body = Condition)))]
async fn healthz() -> Json<Condition> {
    Json(Condition { status: "ok" })
}

/// The node takes scans.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// `ok`, or `degraded`: commands are taken, and something is wrong all the same.
    pub status: &'static str,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The lists that follow the journal. The gates do not need them.
    pub read_models: Option<Following>,
}

/// How the lists are getting on.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Following {
    /// What they are doing.
    pub state: read_models::State,
    /// Records of the journal that they do not have yet.
    pub lag_records: u64,
}

impl From<read_models::Condition> for Following {
    fn from(condition: read_models::Condition) -> Self {
        Self { state: condition.state, lag_records: condition.lag_records }
    }
}

/// Every shard that is here has recovered and the journal takes writes; otherwise 503 with the reason. A node of several has
/// shards of its own, and the others' are no matter of its.
#[utoipa::path(get, path = "/readyz", tag = "operations", security(()), responses((status = 200, body = Readiness)))]
async fn readyz(State(state): State<AppState>) -> Result<Json<Readiness>, Problem> {
    let health = state.node.health();
    let fault = state.placement.as_ref().and_then(|placement| placement.fault());
    let settled = state.placement.as_ref().is_none_or(|placement| placement.has_settled());
    let reason = [health.reason, fault].into_iter().flatten().reduce(|one, other| format!("{one}; {other}"));
    if health.ready && settled {
        let read_models = state.read_models.map(|models| Following::from(models.condition()));
        let stand_still = read_models.as_ref().is_some_and(|models| models.state == read_models::State::Stopped);
        let lists = stand_still.then(|| "the read models stand still: lists are not answered; see the log".to_owned());
        let reason = reason.or(lists);
        let status = if reason.is_some() { "degraded" } else { "ok" };
        return Ok(Json(Readiness { status, reason, read_models }));
    }
    let problem = Problem::from(Rejection::Unavailable);
    Err(match reason {
        Some(reason) => problem.detail(reason),
        None => problem,
    })
}

/// Figures in Prometheus' text format. They name routes and numbers, never a person.
#[utoipa::path(get, path = "/metrics", tag = "operations", operation_id = "metrics", security(()),
    responses((status = 200, description = "The figures.", body = String, content_type = "text/plain")))]
async fn metrics(State(state): State<AppState>) -> impl IntoResponse {
    let text = state.metrics.render() + &state.latency.prometheus();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// A kind of problem.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemKind {
    /// The stable code.
    #[schema(example = "sold_out")]
    pub code: &'static str,
    /// The HTTP status it comes with.
    pub status: u16,
    /// What it means.
    pub title: String,
}

/// Lists every kind of problem there is: what a problem's `type` leads to.
#[utoipa::path(get, path = "/problems", tag = "operations", security(()),
    responses((status = 200, body = Vec<ProblemKind>)))]
async fn problems() -> Json<Vec<ProblemKind>> {
    let door = Fault::ALL.iter().map(|&fault| Problem::from(fault));
    let domain = Rejection::ALL.iter().map(|&rejection| Problem::from(rejection));
    let kind = |problem: Problem| ProblemKind {
        code: problem.code(),
        status: problem.status().as_u16(),
        title: problem.what().to_owned(),
    };
    Json(door.chain(domain).map(kind).collect())
}
