//! A festival's counters at this moment, as the live page and its stream show them.

use axum::Json;
use axum::extract::State;
use engine::gates::view::LiveView;
use engine::view::question::GetLive;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::{Operator, Right};
use crate::http::gates::zones::{Gate, Zone};
use crate::http::kit::json::{FestivalStatus, Moment};
use crate::http::kit::problem::Problem;
use crate::http::kit::request::Path;
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;
use crate::server::latency::Latency;

/// Over how many seconds the latency is shown.
const LATENCY_S: u64 = 10;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new().with(Right::LookUp, routes!(live_counts))
}

/// Counters of a festival. Rates are differences of two.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LiveCounts {
    /// The time at the festival's shard.
    pub at: Moment,
    /// Where the festival is in its life.
    pub status: FestivalStatus,
    /// Zones with their occupancy.
    pub zones: Vec<Zone>,
    /// Gates with their counters.
    pub gates: Vec<Gate>,
    /// Rejections by reason, those that have occurred.
    pub rejections: Vec<RejectionCount>,
    /// Scans whose shown answer stood against what would have been decided.
    pub conflicts: u64,
    /// The latest rejections, newest first, at most 32.
    pub latest: Vec<LatestRejection>,
    /// How long scans took, over the last ten seconds, at the whole node.
    pub latency_us: LatencyUs,
}

/// How often one reason was given.
#[derive(Debug, Serialize, ToSchema)]
pub struct RejectionCount {
    /// The stable code.
    #[schema(example = "already_used")]
    pub code: &'static str,
    /// What the steward says.
    pub say: &'static str,
    /// How often.
    pub count: u64,
}

/// One rejection.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LatestRejection {
    /// When.
    pub at: Moment,
    /// At which gate.
    pub gate: u16,
    /// By which reader.
    pub device_id: String,
    /// Why.
    pub code: &'static str,
    /// What the steward says.
    pub say: &'static str,
    /// Whose, if that was known.
    pub ticket_id: Option<String>,
    /// The reader had let them in all the same, on an answer that a crash had lost.
    pub conflict: bool,
}

/// Quantiles, in microseconds.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct LatencyUs {
    /// Of how many scans.
    pub count: u64,
    /// Half were faster.
    pub p50: u64,
    /// 99 of 100 were faster.
    pub p99: u64,
    /// The slowest.
    pub max: u64,
}

impl LiveCounts {
    /// From the shard's counters and the node's latency.
    pub fn of(view: &LiveView, latency: Latency) -> Self {
        let latest = view.latest.iter().map(|one| LatestRejection {
            at: Moment(one.at),
            gate: one.gate.0,
            device_id: one.device.to_string(),
            code: one.reason.code(),
            say: one.reason.sentence(),
            ticket_id: one.ticket.map(|ticket| ticket.to_string()),
            conflict: one.conflict,
        });
        let rejections = view.rejections.iter();
        let rejections =
            rejections.map(|(why, count)| RejectionCount { code: why.code(), say: why.sentence(), count: *count });
        Self {
            at: Moment(view.at),
            status: FestivalStatus(view.status),
            zones: view.zones.iter().map(Zone::from).collect(),
            gates: view.gates.iter().map(Gate::from).collect(),
            rejections: rejections.collect(),
            conflicts: view.conflicts,
            latest: latest.collect(),
            latency_us: LatencyUs {
                count: latency.count,
                p50: latency.p50_us,
                p99: latency.p99_us,
                max: latency.max_us,
            },
        }
    }
}

/// Shows a festival's counters now. For a screen, take the stream instead of asking again and again.
#[utoipa::path(get, path = "/festivals/{slug}/live", tag = "live", params(("slug" = String, Path)),
    responses((status = 200, body = LiveCounts)))]
async fn live_counts(
    State(state): State<AppState>,
    operator: Operator,
    Path(slug): Path<String>,
) -> Result<Json<LiveCounts>, Problem> {
    let festival = operator.at(&slug)?;
    let view = state.get(GetLive(festival)).await?;
    Ok(Json(LiveCounts::of(&view, state.latency.last(LATENCY_S))))
}
