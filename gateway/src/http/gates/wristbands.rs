//! A wristband as such: what its tag names, and that it is lost, for whoever holds the UID and knows no more.

use axum::Json;
use axum::extract::State;
use engine::cashless::command::CashlessAction;
use engine::cashless::view::{TagState, TagView};
use engine::command::AdminAction;
use engine::model::rejection::Rejection;
use engine::view::question::GetTag;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::{Operator, Right};
use crate::http::gates::tickets::{tag_at, tag_text};
use crate::http::kit::answer::Done;
use crate::http::kit::problem::{Fault, Problem};
use crate::http::kit::request::{Change, Nothing, Path};
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new()
        .with(Right::ServeWallets, routes!(show_wristband))
        .with(Right::ServeWallets, routes!(report_wristband_lost))
}

/// A wristband.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wristband {
    /// Its tag's UID in hexadecimal.
    #[schema(example = "04a1b2c3d4e5f6")]
    pub uid: String,
    /// The wallet that it names; `null` once it was lost.
    #[schema(format = Uuid)]
    pub wallet: Option<String>,
    /// The ticket that it names.
    #[schema(format = Uuid)]
    pub ticket_id: Option<String>,
    /// It was reported lost: refused everywhere, for good.
    pub lost: bool,
}

/// A wristband that names a ticket or wallet of a festival where the operator may do this.
///
/// # Errors
/// `invalid_path`; `unknown_tag` if it names nothing, or something of another organiser; `forbidden`.
async fn wristband(state: &AppState, operator: &Operator, uid: &str) -> Result<TagView, Problem> {
    let tag = tag_at(uid, "").map_err(|problem| {
        let detail = problem.errors().first().map(|field| format!("A UID {}.", field.detail)).unwrap_or_default();
        Problem::from(Fault::InvalidPath).detail(detail)
    })?;
    let view = state.get(GetTag(tag)).await?;
    let festival = view.festival.ok_or(Rejection::UnknownTag)?;
    operator.within(festival, Rejection::UnknownTag)?;
    Ok(view)
}

/// Shows what a wristband names.
#[utoipa::path(get, path = "/wristbands/{uid}", tag = "tickets", params(("uid" = String, Path, example = "04a1b2c3d4e5f6")),
    responses((status = 200, body = Wristband)))]
async fn show_wristband(
    State(state): State<AppState>,
    operator: Operator,
    Path(uid): Path<String>,
) -> Result<Json<Wristband>, Problem> {
    let view = wristband(&state, &operator, &uid).await?;
    Ok(Json(Wristband {
        uid: tag_text(view.tag),
        wallet: view.wallet.map(|wallet| wallet.to_string()),
        ticket_id: view.ticket.map(|ticket| ticket.to_string()),
        lost: view.state == TagState::Lost,
    }))
}

/// Reports a wristband lost by its UID: it is refused at every gate and stand, and cannot be given to anybody again.
#[utoipa::path(post, path = "/wristbands/{uid}/lost", tag = "tickets",
    params(("uid" = String, Path, example = "04a1b2c3d4e5f6")),
    responses((status = 204, description = "It is so.")))]
async fn report_wristband_lost(
    State(state): State<AppState>,
    Path(uid): Path<String>,
    change: Change<Nothing>,
) -> Result<Done, Problem> {
    let tag = wristband(&state, &change.operator, &uid).await?.tag;
    change.body.read()?;
    let action = AdminAction::Cashless(CashlessAction::ReportTagLost { tag });
    state.ask_done(&change.operator, Some(change.key), action).await
}
