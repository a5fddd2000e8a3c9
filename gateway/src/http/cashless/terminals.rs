//! Terminals: offered like readers, bound to a vendor, with or without the right to take cash. One is enrolled and
//! revoked as a reader is: `POST /devices/{device}/revoke`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use engine::command::ask::OfferTerminal;
use engine::gates::view::DeviceView;
use engine::model::ids::{DeviceId, FestivalId, VendorNo};
use engine::model::time::Timestamp;
use engine::view::question::{GetDevices, GetLedger};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::{Operator, Right, enrolment_code_hash};
use crate::http::cashless::vendors::vendor_id;
use crate::http::gates::devices::{EnrolmentCode, offer_text};
use crate::http::gates::tickets::qr_svg;
use crate::http::kit::answer::{Created, Page, PageQuery};
use crate::http::kit::json::Moment;
use crate::http::kit::problem::Problem;
use crate::http::kit::request::{Change, Path, Query as QueryString};
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new()
        .with(Right::ManageDevices, routes!(offer_terminal))
        .with(Right::ManageDevices, routes!(list_terminals))
}

/// A terminal that is to be enrolled.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTerminal {
    /// What to call it, at most 200 bytes.
    #[schema(example = "Bar 7, left till")]
    pub name: String,
    /// The number of the vendor for whom it takes payments. A pure cash desk has none.
    pub vendor: Option<u16>,
    /// It tops up with cash. Offering one needs the right to take cash oneself.
    #[serde(default)]
    pub cashier: bool,
}

/// A terminal.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Terminal {
    /// Its id.
    #[schema(example = "1a2b3c4d-17")]
    pub device_id: String,
    /// What it is called.
    pub name: String,
    /// For whom it takes payments.
    #[schema(example = "1a2b3c4d-7")]
    pub vendor_id: Option<String>,
    /// It tops up with cash.
    pub cashier: bool,
    /// It is refused.
    pub revoked: bool,
    /// When it was enrolled.
    pub enrolled_at: Moment,
    /// When it last asked something that was recorded, anywhere; `null` if it never has.
    pub last_seen_at: Option<Moment>,
}

/// Makes a one-time code with which one terminal can be enrolled.
#[utoipa::path(post, path = "/festivals/{slug}/terminals/enrolment-codes", tag = "devices",
    params(("slug" = String, Path)), request_body = NewTerminal,
    responses((status = 201, description = "It was made.", body = EnrolmentCode)))]
async fn offer_terminal(
    State(state): State<AppState>,
    Path(slug): Path<String>,
    change: Change<NewTerminal>,
) -> Result<Created<EnrolmentCode>, Problem> {
    let festival = change.operator.at(&slug)?;
    let NewTerminal { name, vendor, cashier } = change.body.read()?;
    if cashier {
        change.operator.may_also(Right::TakeCash)?;
    }
    let code = state.one_time.enrolment_code(festival, &change.key);
    let code_hash = enrolment_code_hash(code.as_bytes());
    let offer = OfferTerminal { festival, vendor: vendor.map(VendorNo), cashier, code_hash, name };
    let (until, replayed) = state.ask_for(&change.operator, change.key, offer).await?;
    let offer = offer_text(&state, festival, &code)?;
    let qr = qr_svg(&offer)?;
    // The code has no address: it can be shown only once. The terminal will be in this list.
    let location = format!("/api/v1/festivals/{slug}/terminals");
    Ok(Created { location, body: EnrolmentCode { code, expires_at: Moment(until), offer, qr }, replayed })
}

/// How many devices are looked through at a time: readers are numbered with terminals.
const LOOK_AT: u32 = 1_000;

/// Lists a festival's terminals, revoked ones too, with when each was last seen.
#[utoipa::path(get, path = "/festivals/{slug}/terminals", tag = "devices", params(("slug" = String, Path), PageQuery),
    responses((status = 200, body = Page<Terminal>)))]
async fn list_terminals(
    State(state): State<AppState>,
    operator: Operator,
    Path(slug): Path<String>,
    QueryString(page): QueryString<PageQuery>,
) -> Result<Json<Page<Terminal>>, Problem> {
    let festival = operator.at(&slug)?;
    let limit = page.limit()?;
    let mut from = page.after::<u32>()?.map_or(0, |after| after.saturating_add(1));
    let seen = last_seen(&state, festival).await?;
    let mut terminals: Vec<DeviceView> = Vec::new();
    while terminals.len() <= limit {
        let devices = state.get(GetDevices { festival, from, limit: LOOK_AT }).await?;
        let Some(last) = devices.last() else { break };
        from = last.id.number().saturating_add(1);
        terminals.extend(devices.into_iter().filter(|device| device.terminal.is_some()));
    }
    terminals.truncate(limit + 1);
    let show = |device: DeviceView| show(&device, festival, seen.get(&device.id).copied());
    Ok(Json(Page::of(terminals, limit, |device| device.id.number(), show)))
}

fn show(device: &DeviceView, festival: FestivalId, seen: Option<Timestamp>) -> Terminal {
    Terminal {
        device_id: device.id.to_string(),
        name: device.name.clone(),
        vendor_id: device.terminal.and_then(|terminal| terminal.vendor).map(|vendor| vendor_id(festival, vendor)),
        cashier: device.terminal.is_some_and(|terminal| terminal.cashier),
        revoked: device.revoked,
        enrolled_at: Moment(device.enrolled_at),
        last_seen_at: seen.map(Moment),
    }
}

/// A terminal's commands go to many shards: the last of them counts.
async fn last_seen(state: &AppState, festival: FestivalId) -> Result<BTreeMap<DeviceId, Timestamp>, Problem> {
    let ledger = state.get(GetLedger(festival)).await?;
    let mut seen = BTreeMap::new();
    for terminal in ledger.terminals.iter().filter(|terminal| terminal.last_seen_at > Timestamp(0)) {
        let at = seen.entry(terminal.device).or_insert(terminal.last_seen_at);
        *at = (*at).max(terminal.last_seen_at);
    }
    Ok(seen)
}
