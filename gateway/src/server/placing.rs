//! The control socket's part for a node that is one of several: which shards are where, and leaving the others for a while.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use engine::model::ids::NodeNo;
use serde::{Deserialize, Serialize};

use crate::cluster::driver::{Driver, Placed};

/// Where to ask how the cluster is.
pub const STATUS: &str = "/cluster";

/// The cluster, as one node sees it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Whom was asked.
    pub node: u32,
    /// Whether it has a place in the group, or wants one. Not if it is drained.
    pub takes_part: bool,
    /// The consumer group, as its coordinator knows it; `None`: it does not answer.
    pub group: Option<GroupStatus>,
    pub shards: Vec<ShardStatus>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct GroupStatus {
    /// The coordinator's word: `Stable`, or it is being shared out anew.
    pub state: String,
    /// The nodes that have a place in it.
    pub nodes: Vec<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ShardStatus {
    pub shard: u16,
    /// The node that the log says has it.
    pub owner: Option<u32>,
    /// How often it was taken over.
    pub epoch: u64,
    /// Where its records end, as far as the node asked knows.
    pub end: u64,
    /// How it stands on the node asked.
    pub here: String,
    /// Whether the group assigns it to the node asked.
    pub assigned: bool,
    /// Why the node asked could not take it over the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// The routes behind the socket.
pub fn router(driver: Driver) -> Router {
    Router::new()
        .route(STATUS, get(status))
        .route("/cluster/drain/{node}", post(drain))
        .route("/cluster/undrain/{node}", post(undrain))
        .with_state(driver)
}

async fn status(State(driver): State<Driver>) -> Json<ClusterStatus> {
    let asked = driver.clone();
    let group = tokio::task::spawn_blocking(move || asked.group().ok()).await.ok().flatten();
    let number = |node: NodeNo| node.0;
    let shard = |placed: Placed| ShardStatus {
        shard: placed.shard.0,
        owner: placed.owner.map(number),
        epoch: placed.epoch,
        end: placed.end.0,
        here: placed.standing.to_string(),
        assigned: placed.assigned,
        fault: placed.fault,
    };
    Json(ClusterStatus {
        node: driver.this_node().0,
        takes_part: driver.takes_part(),
        group: group
            .map(|group| GroupStatus { state: group.state, nodes: group.nodes.into_iter().map(number).collect() }),
        shards: driver.shards().into_iter().map(shard).collect(),
    })
}

/// Begins it: the others take over as soon as they can, which the status shows.
async fn drain(State(driver): State<Driver>, Path(node): Path<u32>) -> Result<StatusCode, (StatusCode, String)> {
    is_this(&driver, node)?;
    if driver.begin_leaving().await {
        return Ok(StatusCode::NO_CONTENT);
    }
    driver.come_back();
    let why = "no other node has a place in the group: nobody would have its shards";
    Err((StatusCode::CONFLICT, why.to_owned()))
}

async fn undrain(State(driver): State<Driver>, Path(node): Path<u32>) -> Result<StatusCode, (StatusCode, String)> {
    is_this(&driver, node)?;
    driver.come_back();
    Ok(StatusCode::NO_CONTENT)
}

fn is_this(driver: &Driver, node: u32) -> Result<(), (StatusCode, String)> {
    let this = driver.this_node().0;
    if node == this {
        return Ok(());
    }
    Err((StatusCode::CONFLICT, format!("this is node {this}: run it where node {node} runs")))
}
