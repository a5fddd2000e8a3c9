//! Readers: enrolled with a one-time code, listed, revoked. Terminals are offered elsewhere; listed, shown and revoked they
//! are here as well.

use axum::Json;
use axum::extract::State;
use engine::command::AdminAction;
use engine::command::ask::OfferEnrolment;
use engine::gates::command::ByHand;
use engine::gates::connections::CLOCK_OFF_MAX_MS;
use engine::gates::view::DeviceView;
use engine::model::ids::{DeviceId, FestivalId, GateNo};
use engine::model::rejection::Rejection;
use engine::view::question::{GetDevice, GetDevices};
use serde::{Deserialize, Serialize};
use tapgate_wire::Offer;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::{Operator, Right, enrolment_code_hash};
use crate::http::gates::tickets::qr_svg;
use crate::http::kit::answer::{Created, Done, Page, PageQuery};
use crate::http::kit::json::Moment;
use crate::http::kit::problem::{Fault, Problem};
use crate::http::kit::reason::{Reason, a_reason};
use crate::http::kit::request::{Change, Nothing, Path, Query as QueryString};
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new()
        .with(Right::ManageDevices, routes!(offer_enrolment))
        .with(Right::ManageDevices, routes!(list_devices))
        .with(Right::ManageDevices, routes!(show_device))
        .with(Right::ManageDevices, routes!(revoke_device))
        .with(Right::ManageFestival, routes!(readmit_device))
}

/// A reader that is to be enrolled.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDevice {
    /// The gate it will stand at.
    pub gate: u16,
    /// What to call it, at most 200 bytes.
    #[schema(example = "North 3, left lane")]
    pub name: String,
}

/// A one-time code. It is shown here and nowhere else.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnrolmentCode {
    /// To be typed at the reader; says by itself at which festival. Case and hyphens do not matter.
    #[schema(example = "3AB7-K9QX-2M4T-VW08-ZC6H")]
    pub code: String,
    /// When it lapses, 15 minutes from now.
    pub expires_at: Moment,
    /// What the QR says: the server's address, its key's fingerprint, the code.
    pub offer: String,
    /// The QR to hold to the reader, as SVG.
    pub qr: String,
}

/// A reader, or a terminal.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its id.
    #[schema(example = "1a2b3c4d-17")]
    pub device_id: String,
    /// What it is called.
    pub name: String,
    /// The gate it stands at; `null` for a terminal, of which `/festivals/{slug}/terminals` says more.
    pub gate: Option<u16>,
    /// The zone that gate leads into; `null` for a terminal.
    pub zone: Option<u8>,
    /// Its Ed25519 key's public half, in hexadecimal.
    pub public_key: String,
    /// It is refused.
    pub revoked: bool,
    /// When it was enrolled.
    pub enrolled_at: Moment,
    /// When it last asked something that was recorded.
    pub last_seen_at: Moment,
    /// By how many seconds its clock was ahead of the server's when that could be seen last; behind, if negative.
    pub clock_off_seconds: i64,
    /// That is more than 30 s: what it says of scans that waited in its queue is off by as much, and a terminal takes a
    /// wristband that has just been linked for one that it has read before that.
    pub clock_wrong: bool,
}

impl From<&DeviceView> for Device {
    fn from(view: &DeviceView) -> Self {
        Self {
            device_id: view.id.to_string(),
            name: view.name.clone(),
            gate: view.terminal.is_none().then_some(view.gate.0),
            zone: view.terminal.is_none().then_some(view.zone.0),
            public_key: view.public_key.iter().map(|byte| format!("{byte:02x}")).collect(),
            revoked: view.revoked,
            enrolled_at: Moment(view.enrolled_at),
            last_seen_at: Moment(view.last_seen_at),
            clock_off_seconds: view.clock_off_ms / 1_000,
            clock_wrong: view.clock_off_ms.unsigned_abs() > CLOCK_OFF_MAX_MS.unsigned_abs(),
        }
    }
}

/// What a device needs in order to enrol, as its QR says it.
///
/// # Errors
/// `internal` where the server's own address is none, which its settings do not let through.
pub fn offer_text(state: &AppState, festival: FestivalId, code: &str) -> Result<String, Problem> {
    let offer = Offer::new(&state.quic_address, state.fingerprint, festival, code).map_err(|error| {
        tracing::error!(%error, address = %state.quic_address, "no enrolment can be offered");
        Problem::from(Rejection::Internal)
    })?;
    Ok(offer.to_string())
}

/// Makes a one-time code with which one reader can be enrolled.
#[utoipa::path(post, path = "/festivals/{slug}/devices/enrolment-codes", tag = "devices",
    params(("slug" = String, Path)), request_body = NewDevice,
    responses((status = 201, description = "It was made.", body = EnrolmentCode)))]
async fn offer_enrolment(
    State(state): State<AppState>,
    Path(slug): Path<String>,
    change: Change<NewDevice>,
) -> Result<Created<EnrolmentCode>, Problem> {
    let festival = change.operator.at(&slug)?;
    let NewDevice { gate, name } = change.body.read()?;
    let code = state.one_time.enrolment_code(festival, &change.key);
    let code_hash = enrolment_code_hash(code.as_bytes());
    let offer = OfferEnrolment { festival, gate: GateNo(gate), code_hash, name };
    let (until, replayed) = state.ask_for(&change.operator, change.key, offer).await?;
    let offer = offer_text(&state, festival, &code)?;
    let qr = qr_svg(&offer)?;
    // The code has no address: it can be shown only once. The reader will be in this list.
    let location = format!("/api/v1/festivals/{slug}/devices");
    Ok(Created { location, body: EnrolmentCode { code, expires_at: Moment(until), offer, qr }, replayed })
}

/// Lists a festival's readers and terminals, revoked ones too.
#[utoipa::path(get, path = "/festivals/{slug}/devices", tag = "devices", params(("slug" = String, Path), PageQuery),
    responses((status = 200, body = Page<Device>)))]
async fn list_devices(
    State(state): State<AppState>,
    operator: Operator,
    Path(slug): Path<String>,
    QueryString(page): QueryString<PageQuery>,
) -> Result<Json<Page<Device>>, Problem> {
    let festival = operator.at(&slug)?;
    let limit = page.limit()?;
    let from = page.after::<u32>()?.map_or(0, |after| after.saturating_add(1));
    let devices = state.get(GetDevices { festival, from, limit: limit as u32 + 1 }).await?;
    Ok(Json(Page::of(devices, limit, |device| device.id.number(), |device| Device::from(&device))))
}

fn device_for(operator: &Operator, text: &str) -> Result<DeviceId, Problem> {
    let device = DeviceId::parse(text)
        .ok_or_else(|| Problem::from(Fault::InvalidPath).detail("A device's id looks like 1a2b3c4d-17."))?;
    operator.within(device.festival(), Rejection::UnknownDevice)?;
    Ok(device)
}

/// Shows a reader or a terminal.
#[utoipa::path(get, path = "/devices/{device}", tag = "devices", params(("device" = String, Path)),
    responses((status = 200, body = Device)))]
async fn show_device(
    State(state): State<AppState>,
    operator: Operator,
    Path(device): Path<String>,
) -> Result<Json<Device>, Problem> {
    let device = device_for(&operator, &device)?;
    let view = state.get(GetDevice(device)).await?;
    Ok(Json(Device::from(&view)))
}

/// Revokes a reader or a terminal: it is refused from the next scan or tap on, everywhere, and told so at once.
#[utoipa::path(post, path = "/devices/{device}/revoke", tag = "devices", params(("device" = String, Path)),
    responses((status = 204, description = "It is so.")))]
async fn revoke_device(
    State(state): State<AppState>,
    Path(device): Path<String>,
    change: Change<Nothing>,
) -> Result<Done, Problem> {
    let device = device_for(&change.operator, &device)?;
    change.body.read()?;
    state.ask_done(&change.operator, Some(change.key), AdminAction::RevokeDevice { device }).await
}

/// Readmits a device that was revoked, as itself: it connects with the key it has, and sends what is in its queue.
#[utoipa::path(post, path = "/devices/{device}/readmit", tag = "devices", params(("device" = String, Path)),
    request_body = Reason, responses((status = 204, description = "It is so, everywhere.")))]
async fn readmit_device(
    State(state): State<AppState>,
    Path(device): Path<String>,
    change: Change<Reason>,
) -> Result<Done, Problem> {
    let device = device_for(&change.operator, &device)?;
    let reason = a_reason(change.body.read()?.reason)?;
    let action = AdminAction::ByHand(ByHand::ReadmitDevice { device, reason });
    state.ask_done(&change.operator, Some(change.key), action).await
}
