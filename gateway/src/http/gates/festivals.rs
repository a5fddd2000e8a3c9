//! Festivals: made, shown, opened and closed, their policy, their QR keys.

use axum::Json;
use axum::extract::State;
use engine::command::ask::{CreateFestival, RotateQrKey};
use engine::command::{AdminAction, IdempotencyKey, TEXT_LEN_MAX};
use engine::gates::command::{ByHand, Details};
use engine::gates::view::FestivalView;
use engine::model::rejection::Rejection;
use engine::model::status;
use engine::model::time::Calendar;
use engine::view::question::GetFestivals;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::{Operator, Right};
use crate::http::gates::categories::Category;
use crate::http::gates::zones::{Gate, Zone};
use crate::http::kit::answer::{Changed, Created, Done};
use crate::http::kit::calendar::{DayStart, TimeZone};
use crate::http::kit::json::{EntryPolicy, FestivalStatus, Moment, ScanAck};
use crate::http::kit::problem::Problem;
use crate::http::kit::reason::{Reason, a_reason};
use crate::http::kit::request::{Change, Nothing, Path};
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new()
        .with(Right::CreateFestivals, routes!(create_festival))
        .with(Right::LookUp, routes!(list_festivals))
        .with(Right::LookUp, routes!(show_festival))
        .with(Right::ManageFestival, routes!(edit_festival))
        .with(Right::ManageFestival, routes!(reset_scans))
        .with(Right::ManageFestival, routes!(set_festival_status))
        .with(Right::ManageFestival, routes!(set_policy))
        .with(Right::ManageFestival, routes!(rotate_qr_key))
}

/// How a festival's gates behave.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// `single_entry`: a used ticket never opens a perimeter again. `reentry`: it does while its holder is outside.
    #[serde(default = "single_entry")]
    pub entry: EntryPolicy,
    /// `durable`: an answer leaves when it is on disk. `decided`: it leaves at once and the confirmation follows; this
    /// may admit a ticket twice across a crash.
    #[serde(default = "durable")]
    pub ack: ScanAck,
    /// One rejection in so many goes to the access log; 1 means all.
    #[serde(default = "all")]
    #[schema(minimum = 1, maximum = 1000)]
    pub log_one_rejection_in: u32,
}

fn single_entry() -> EntryPolicy {
    EntryPolicy(status::EntryPolicy::SingleEntry)
}
fn durable() -> ScanAck {
    ScanAck(status::ScanAck::Durable)
}
fn all() -> u32 {
    1
}

impl From<status::Policy> for Policy {
    fn from(policy: status::Policy) -> Self {
        Self {
            entry: EntryPolicy(policy.entry),
            ack: ScanAck(policy.ack),
            log_one_rejection_in: policy.log_one_rejection_in,
        }
    }
}
impl From<Policy> for status::Policy {
    fn from(policy: Policy) -> Self {
        Self { entry: policy.entry.0, ack: policy.ack.0, log_one_rejection_in: policy.log_one_rejection_in }
    }
}

/// A festival that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewFestival {
    /// Its name in addresses. It cannot be changed.
    #[schema(example = "tomorrow-2027", pattern = "^[a-z0-9-]{1,64}$")]
    pub slug: String,
    /// Its name for people, at most 200 bytes.
    #[schema(example = "Tomorrow 2027")]
    pub name: String,
    /// When it begins.
    pub starts_at: Moment,
    /// When it ends.
    pub ends_at: Moment,
    /// Where it is, at most 200 bytes.
    #[serde(default)]
    #[schema(example = "Old airfield, Gräfenhain")]
    pub location: String,
    /// How many people the whole site is meant for.
    #[schema(minimum = 1)]
    pub max_capacity: Option<u32>,
    /// How its gates behave; single entry and durable unless told.
    #[serde(default = "default_policy")]
    #[schema(inline = false)]
    pub policy: Policy,
    /// The IANA time zone by which its days and reports go; UTC unless told.
    #[serde(default)]
    pub time_zone: TimeZone,
    /// When its days begin there: whoever dances until four has not come the next day.
    #[serde(default)]
    pub day_starts_at: DayStart,
}

fn default_policy() -> Policy {
    status::Policy::default().into()
}

/// The festival that was made.
#[derive(Debug, Serialize, ToSchema)]
pub struct NamedFestival {
    /// Its number, as it begins the ids of its tickets and devices.
    #[schema(example = "1a2b3c4d")]
    pub id: String,
    /// Its name in addresses.
    pub slug: String,
}

/// A festival.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Festival {
    /// Its number, as it begins the ids of its tickets and devices.
    #[schema(example = "1a2b3c4d")]
    pub id: String,
    /// Its name in addresses.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// When it begins.
    pub starts_at: Moment,
    /// When it ends.
    pub ends_at: Moment,
    /// Where it is; empty: nobody has said so.
    #[schema(example = "Old airfield, Gräfenhain")]
    pub location: String,
    /// How many people the whole site is meant for, if somebody has said so. It is shown and decides nothing: what holds
    /// at the gates is each zone's capacity.
    pub max_capacity: Option<u32>,
    /// Where it is in its life.
    pub status: FestivalStatus,
    /// How its gates behave.
    pub policy: Policy,
    /// The IANA time zone by which its days and reports go.
    pub time_zone: TimeZone,
    /// When its days begin there.
    pub day_starts_at: DayStart,
    /// The version of the key that signs QRs now; it and the one before are accepted.
    pub qr_version: u32,
    /// Its zones.
    pub zones: Vec<Zone>,
    /// Its gates.
    pub gates: Vec<Gate>,
    /// Its categories.
    pub categories: Vec<Category>,
    /// How many devices were ever enrolled.
    pub devices: u32,
}

impl From<&FestivalView> for Festival {
    fn from(view: &FestivalView) -> Self {
        Self {
            id: view.id.to_string(),
            slug: view.slug.clone(),
            name: view.name.clone(),
            starts_at: Moment(view.starts_at),
            ends_at: Moment(view.ends_at),
            location: view.location.clone(),
            max_capacity: view.max_capacity,
            status: FestivalStatus(view.status),
            policy: view.policy.into(),
            time_zone: TimeZone(view.calendar.time_zone.clone()),
            day_starts_at: DayStart(view.calendar.day_starts_min),
            qr_version: view.qr_version,
            zones: view.zones.iter().map(Zone::from).collect(),
            gates: view.gates.iter().map(Gate::from).collect(),
            categories: view.categories.iter().map(Category::from).collect(),
            devices: view.devices,
        }
    }
}

/// A festival in the list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FestivalInList {
    /// Its number.
    pub id: String,
    /// Its name in addresses.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// When it begins.
    pub starts_at: Moment,
    /// When it ends.
    pub ends_at: Moment,
    /// Where it is in its life.
    pub status: FestivalStatus,
}

/// All festivals that a key sees.
#[derive(Debug, Serialize, ToSchema)]
pub struct Festivals {
    /// By beginning, then slug.
    pub items: Vec<FestivalInList>,
}

/// Makes a festival, in DRAFT.
#[utoipa::path(post, path = "/festivals", tag = "festivals", request_body = NewFestival,
    responses((status = 201, description = "It was made.", body = NamedFestival)))]
async fn create_festival(
    State(state): State<AppState>,
    change: Change<NewFestival>,
) -> Result<Created<NamedFestival>, Problem> {
    change.operator.may()?;
    let NewFestival { slug, name, starts_at, ends_at, location, max_capacity, policy, time_zone, day_starts_at } =
        change.body.read()?;
    // Checked before anything is made: what follows the making must not fail.
    if location.len() > TEXT_LEN_MAX {
        return Err(Problem::field("/location", format!("must have at most {TEXT_LEN_MAX} bytes")));
    }
    if max_capacity == Some(0) {
        return Err(Problem::field("/maxCapacity", "must be at least 1"));
    }
    let calendar = Calendar { time_zone: time_zone.0, day_starts_min: day_starts_at.0 };
    let details = Details {
        name: name.clone(),
        starts_at: starts_at.0,
        ends_at: ends_at.0,
        location,
        max_capacity,
        calendar: calendar.clone(),
    };
    let create = CreateFestival {
        slug: slug.clone(),
        name,
        starts_at: starts_at.0,
        ends_at: ends_at.0,
        policy: policy.into(),
        calendar,
    };
    let asked = state.ask_for(&change.operator, change.key, create).await;
    let (id, replayed) = asked.map_err(|problem| match problem.code() {
        code if code == Rejection::InvalidValue.code() && ends_at.0 <= starts_at.0 => {
            problem.at("/endsAt", "it ends before it starts")
        }
        _ => problem,
    })?;
    if !(details.location.is_empty() && details.max_capacity.is_none()) {
        // Under a key of its own that follows from the request's: sent again after a fault in between, it is made up for.
        let key = IdempotencyKey { id: change.key.id ^ 1, ..change.key };
        let action = AdminAction::ByHand(ByHand::Edit { festival: id, details });
        state.ask_done(&change.operator, Some(key), action).await?;
    }
    let location = format!("/api/v1/festivals/{slug}");
    Ok(Created { location, body: NamedFestival { id: id.to_string(), slug }, replayed })
}

/// Lists the festivals that the key sees.
#[utoipa::path(get, path = "/festivals", tag = "festivals", responses((status = 200, body = Festivals)))]
async fn list_festivals(State(state): State<AppState>, operator: Operator) -> Result<Json<Festivals>, Problem> {
    operator.may()?;
    let mut views = state.get(GetFestivals).await?;
    views.retain(|view| operator.sees(view.id));
    views.sort_by(|a, b| (a.starts_at, &a.slug).cmp(&(b.starts_at, &b.slug)));
    let items = views.into_iter().map(|view| FestivalInList {
        id: view.id.to_string(),
        slug: view.slug,
        name: view.name,
        starts_at: Moment(view.starts_at),
        ends_at: Moment(view.ends_at),
        status: FestivalStatus(view.status),
    });
    Ok(Json(Festivals { items: items.collect() }))
}

/// Shows one festival with its zones, gates and categories.
#[utoipa::path(get, path = "/festivals/{slug}", tag = "festivals", params(("slug" = String, Path)),
    responses((status = 200, body = Festival)))]
async fn show_festival(
    State(state): State<AppState>,
    operator: Operator,
    Path(slug): Path<String>,
) -> Result<Json<Festival>, Problem> {
    operator.at(&slug)?;
    Ok(Json(Festival::from(&*state.festival(&slug).await?)))
}

/// A status to be reached.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToFestivalStatus {
    /// DRAFT → PUBLISHED → ONGOING → COMPLETED; CANCELLED from any but COMPLETED; COMPLETED → ONGOING for a `reason`.
    pub status: FestivalStatus,
    /// Why a festival that was COMPLETED is ONGOING again, at most 200 bytes; for no other step. It must name nobody: it
    /// is kept for ever.
    #[schema(example = "The wrong festival was closed")]
    pub reason: Option<String>,
    /// COMPLETED though people are inside; without it that is `people_inside`.
    #[serde(default)]
    pub confirm: bool,
}

/// Publishes, opens, completes or cancels a festival; opens one again that was completed by mistake.
#[utoipa::path(post, path = "/festivals/{slug}/status", tag = "festivals", params(("slug" = String, Path)),
    request_body = ToFestivalStatus, responses((status = 204, description = "It is so.")))]
async fn set_festival_status(
    State(state): State<AppState>,
    Path(slug): Path<String>,
    change: Change<ToFestivalStatus>,
) -> Result<Done, Problem> {
    let festival = change.operator.at(&slug)?;
    let ToFestivalStatus { status, reason, confirm } = change.body.read()?;
    let action = match (status.0, reason) {
        (status::FestivalStatus::Ongoing, Some(reason)) => {
            AdminAction::ByHand(ByHand::Reopen { festival, reason: a_reason(reason)? })
        }
        (_, Some(_)) => return Err(Problem::field("/reason", "is for COMPLETED → ONGOING only")),
        (status::FestivalStatus::Completed, None) if confirm => AdminAction::ByHand(ByHand::Complete { festival }),
        (to, None) => AdminAction::SetFestivalStatus { festival, to },
    };
    state.ask_done(&change.operator, Some(change.key), action).await
}

/// What a festival says of itself.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FestivalDetails {
    /// Its name for people, at most 200 bytes.
    #[schema(example = "Tomorrow 2027")]
    pub name: String,
    /// When it begins.
    pub starts_at: Moment,
    /// When it ends.
    pub ends_at: Moment,
    /// Where it is, at most 200 bytes.
    #[serde(default)]
    #[schema(example = "Old airfield, Gräfenhain")]
    pub location: String,
    /// How many people the whole site is meant for.
    #[schema(minimum = 1)]
    pub max_capacity: Option<u32>,
    /// The IANA time zone by which its days and reports go, of days that are over as well; as it is, unless told.
    #[schema(value_type = Option<TimeZone>)]
    pub time_zone: Option<TimeZone>,
    /// When its days begin there; as it is, unless told.
    #[schema(value_type = Option<DayStart>)]
    pub day_starts_at: Option<DayStart>,
}

/// Gives a festival another name, other dates, another time zone, another place. A place or a capacity that is left out is
/// taken away.
#[utoipa::path(put, path = "/festivals/{slug}", tag = "festivals", params(("slug" = String, Path)),
    request_body = FestivalDetails, responses((status = 204, description = "It is so.")))]
async fn edit_festival(
    State(state): State<AppState>,
    Path(slug): Path<String>,
    change: Change<FestivalDetails>,
) -> Result<Done, Problem> {
    let festival = change.operator.at(&slug)?;
    let FestivalDetails { name, starts_at, ends_at, location, max_capacity, time_zone, day_starts_at } =
        change.body.read()?;
    let is = state.about(&slug).await?.calendar.clone();
    let calendar = Calendar {
        time_zone: time_zone.map_or(is.time_zone, |zone| zone.0),
        day_starts_min: day_starts_at.map_or(is.day_starts_min, |start| start.0),
    };
    let details = Details { name, starts_at: starts_at.0, ends_at: ends_at.0, location, max_capacity, calendar };
    let action = AdminAction::ByHand(ByHand::Edit { festival, details });
    state.ask_done(&change.operator, Some(change.key), action).await
}

/// Takes back a test day: USED tickets are SOLD again, nobody is inside, gates and zones count from nothing. The access
/// log and the counts by the minute keep what was. Possible until an hour after the festival's beginning.
#[utoipa::path(post, path = "/festivals/{slug}/reset-scans", tag = "festivals", params(("slug" = String, Path)),
    request_body = Reason, responses((status = 204, description = "It is so.")))]
async fn reset_scans(
    State(state): State<AppState>,
    Path(slug): Path<String>,
    change: Change<Reason>,
) -> Result<Done, Problem> {
    let festival = change.operator.at(&slug)?;
    let reason = a_reason(change.body.read()?.reason)?;
    let action = AdminAction::ByHand(ByHand::ResetScans { festival, reason });
    state.ask_done(&change.operator, Some(change.key), action).await
}

/// Sets how the gates behave, from the next scan on.
#[utoipa::path(put, path = "/festivals/{slug}/policy", tag = "festivals", params(("slug" = String, Path)),
    request_body = Policy, responses((status = 204, description = "It is so.")))]
async fn set_policy(
    State(state): State<AppState>,
    Path(slug): Path<String>,
    change: Change<Policy>,
) -> Result<Done, Problem> {
    let festival = change.operator.at(&slug)?;
    let policy = change.body.read()?.into();
    state.ask_done(&change.operator, Some(change.key), AdminAction::SetPolicy { festival, policy }).await
}

/// The QR key from now on.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QrKeyVersion {
    /// Its version.
    pub qr_version: u32,
}

/// Makes a new QR key. QRs signed with the one before are accepted as well; older ones answer `key_retired`.
#[utoipa::path(post, path = "/festivals/{slug}/qr-keys/rotate", tag = "festivals", params(("slug" = String, Path)),
    responses((status = 200, body = QrKeyVersion)))]
async fn rotate_qr_key(
    State(state): State<AppState>,
    Path(slug): Path<String>,
    change: Change<Nothing>,
) -> Result<Changed<QrKeyVersion>, Problem> {
    let festival = change.operator.at(&slug)?;
    change.body.read()?;
    let (qr_version, replayed) = state.ask_for(&change.operator, change.key, RotateQrKey { festival }).await?;
    Ok(Changed { body: QrKeyVersion { qr_version }, replayed })
}
