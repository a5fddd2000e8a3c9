//! Zones and their gates: made, changed, opened, closed, evacuated; who is inside.

use axum::Json;
use axum::extract::State;
use engine::command::AdminAction;
use engine::command::ask::{AddGate, CreateZone};
use engine::gates::view::{GateView, ZoneView};
use engine::model::ids::{TicketId, ZONES_MAX, ZoneNo};
use engine::model::rejection::Rejection;
use engine::view::question::GetInside;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::{Operator, Right};
use crate::http::kit::answer::{Created, Done, Page, PageQuery};
use crate::http::kit::json::ZoneState;
use crate::http::kit::problem::Problem;
use crate::http::kit::request::{Change, Path, Query as QueryString};
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new()
        .with(Right::ManageFestival, routes!(create_zone))
        .with(Right::ManageFestival, routes!(change_zone))
        .with(Right::SteerZones, routes!(set_zone_state))
        .with(Right::LookUp, routes!(list_inside))
        .with(Right::ManageFestival, routes!(add_gate))
}

/// A zone.
#[derive(Debug, Serialize, ToSchema)]
pub struct Zone {
    /// Its number, from 0.
    pub zone: u8,
    /// Its name.
    pub name: String,
    /// The zone it lies in; `null` for a perimeter.
    pub parent: Option<u8>,
    /// How many people it holds.
    pub capacity: u32,
    /// How many are in it.
    pub occupancy: u32,
    /// Entries less undone ones, ever.
    pub admitted: u64,
    /// Exits less undone ones, ever; leaving a perimeter counts for the zones inside it too.
    pub left: u64,
    /// Whether it lets people in.
    pub state: ZoneState,
}

impl From<&ZoneView> for Zone {
    fn from(view: &ZoneView) -> Self {
        Self {
            zone: view.no.0,
            name: view.name.clone(),
            parent: view.parent.map(|parent| parent.0),
            capacity: view.capacity,
            occupancy: view.occupancy,
            admitted: view.admitted,
            left: view.left,
            state: ZoneState(view.state),
        }
    }
}

/// A gate, with what it has done.
#[derive(Debug, Serialize, ToSchema)]
pub struct Gate {
    /// Its number, from 0.
    pub gate: u16,
    /// Its name.
    pub name: String,
    /// The zone it leads into.
    pub zone: u8,
    /// Entries, less undone ones.
    pub admitted: u64,
    /// Exits, less undone ones.
    pub exited: u64,
    /// Entries and exits that were undone.
    pub undone: u64,
    /// Rejections.
    pub rejected: u64,
}

impl From<&GateView> for Gate {
    fn from(view: &GateView) -> Self {
        Self {
            gate: view.no.0,
            name: view.name.clone(),
            zone: view.zone.0,
            admitted: view.admitted,
            exited: view.exited,
            undone: view.undone,
            rejected: view.rejected,
        }
    }
}

/// A zone that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewZone {
    /// Its name, at most 200 bytes.
    #[schema(example = "Main area")]
    pub name: String,
    /// The zone it lies in; none makes a perimeter. It cannot be changed.
    #[schema(maximum = 63)]
    pub parent: Option<u8>,
    /// How many people it holds.
    #[schema(example = 20000)]
    pub capacity: u32,
}

/// New values for a zone.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ZoneValues {
    /// Its name, at most 200 bytes.
    pub name: String,
    /// How many people it holds. Below the number inside, nobody more is let in.
    pub capacity: u32,
}

/// The zone that was made.
#[derive(Debug, Serialize, ToSchema)]
pub struct NumberedZone {
    /// Its number.
    pub zone: u8,
}

/// A state to be reached.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToZoneState {
    /// OPEN lets people in. CLOSED does not; those inside stay, and may leave. EVACUATING closes the zones inside it too.
    pub state: ZoneState,
}

/// A gate that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGate {
    /// Its name, at most 200 bytes.
    #[schema(example = "North 3")]
    pub name: String,
    /// The zone it leads into.
    #[schema(maximum = 63)]
    pub zone: u8,
}

/// The gate that was made.
#[derive(Debug, Serialize, ToSchema)]
pub struct NumberedGate {
    /// Its number.
    pub gate: u16,
}

/// Somebody who is inside.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Person {
    /// Whose ticket.
    pub ticket_id: String,
    /// The short code that is printed on it.
    pub code: String,
}

/// A number that can be a zone's. A festival has at most 64, and what lies above is not even asked for.
///
/// # Errors
/// `unknown_zone`.
pub fn zone_no(number: u8) -> Result<ZoneNo, Problem> {
    if usize::from(number) < ZONES_MAX { Ok(ZoneNo(number)) } else { Err(Rejection::UnknownZone.into()) }
}

/// Makes a zone, open and empty.
#[utoipa::path(post, path = "/festivals/{slug}/zones", tag = "zones", params(("slug" = String, Path)),
    request_body = NewZone, responses((status = 201, description = "It was made.", body = NumberedZone)))]
async fn create_zone(
    State(state): State<AppState>,
    Path(slug): Path<String>,
    change: Change<NewZone>,
) -> Result<Created<NumberedZone>, Problem> {
    let festival = change.operator.at(&slug)?;
    let NewZone { name, parent, capacity } = change.body.read()?;
    let parent = parent.map(zone_no).transpose()?;
    let create = CreateZone { festival, name, parent, capacity };
    let (zone, replayed) = state.ask_for(&change.operator, change.key, create).await?;
    // It has no page of its own: it is shown with its festival.
    let location = format!("/api/v1/festivals/{slug}");
    Ok(Created { location, body: NumberedZone { zone: zone.0 }, replayed })
}

/// Gives a zone another name or capacity.
#[utoipa::path(put, path = "/festivals/{slug}/zones/{zone}", tag = "zones",
    params(("slug" = String, Path), ("zone" = u8, Path)),
    request_body = ZoneValues, responses((status = 204, description = "It is so.")))]
async fn change_zone(
    State(state): State<AppState>,
    Path((slug, zone)): Path<(String, u8)>,
    change: Change<ZoneValues>,
) -> Result<Done, Problem> {
    let festival = change.operator.at(&slug)?;
    let zone = Some(zone_no(zone)?);
    let ZoneValues { name, capacity } = change.body.read()?;
    let action = AdminAction::PutZone { festival, zone, name, parent: None, capacity };
    state.ask_done(&change.operator, Some(change.key), action).await
}

/// Opens, closes or evacuates a zone, between two scans.
#[utoipa::path(post, path = "/festivals/{slug}/zones/{zone}/state", tag = "zones",
    params(("slug" = String, Path), ("zone" = u8, Path)),
    request_body = ToZoneState, responses((status = 204, description = "It is so.")))]
async fn set_zone_state(
    State(state): State<AppState>,
    Path((slug, zone)): Path<(String, u8)>,
    change: Change<ToZoneState>,
) -> Result<Done, Problem> {
    let festival = change.operator.at(&slug)?;
    let zone = zone_no(zone)?;
    let to = change.body.read()?.state.0;
    state.ask_done(&change.operator, Some(change.key), AdminAction::SetZoneState { festival, zone, state: to }).await
}

/// Lists who is inside a zone: the evacuation list.
#[utoipa::path(get, path = "/festivals/{slug}/zones/{zone}/inside", tag = "zones",
    params(("slug" = String, Path), ("zone" = u8, Path), PageQuery), responses((status = 200, body = Page<Person>)))]
async fn list_inside(
    State(state): State<AppState>,
    operator: Operator,
    Path((slug, zone)): Path<(String, u8)>,
    QueryString(page): QueryString<PageQuery>,
) -> Result<Json<Page<Person>>, Problem> {
    let festival = operator.at(&slug)?;
    let (zone, after, limit) = (zone_no(zone)?, page.after::<TicketId>()?, page.limit()?);
    let tickets = state.get(GetInside { festival, zone, after, limit: limit as u32 + 1 }).await?;
    let person = |ticket: TicketId| Person { ticket_id: ticket.to_string(), code: ticket.code().as_str().to_owned() };
    Ok(Json(Page::of(tickets, limit, |ticket| *ticket, person)))
}

/// Makes a gate on a zone's border.
#[utoipa::path(post, path = "/festivals/{slug}/gates", tag = "zones", params(("slug" = String, Path)),
    request_body = NewGate, responses((status = 201, description = "It was made.", body = NumberedGate)))]
async fn add_gate(
    State(state): State<AppState>,
    Path(slug): Path<String>,
    change: Change<NewGate>,
) -> Result<Created<NumberedGate>, Problem> {
    let festival = change.operator.at(&slug)?;
    let NewGate { name, zone } = change.body.read()?;
    let add = AddGate { festival, zone: zone_no(zone)?, name };
    let (gate, replayed) = state.ask_for(&change.operator, change.key, add).await?;
    let location = format!("/api/v1/festivals/{slug}");
    Ok(Created { location, body: NumberedGate { gate: gate.0 }, replayed })
}
