//! What is left in a wallet goes back to where it came from.

use axum::extract::State;
use engine::command::CashAction;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Moved, wallet_at};
use crate::auth::Right;
use crate::http::AppState;
use crate::http::answer::Changed;
use crate::http::problem::Problem;
use crate::http::request::Change;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(cash_out))
}

/// A wallet to be emptied.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CashOut {
    /// Which.
    #[schema(format = Uuid)]
    pub wallet: String,
    /// At which festival; the one that issued it unless told.
    pub festival: Option<String>,
}

/// Empties a wallet: each euro goes back to where it came from, as `sources` of the account says.
#[utoipa::path(post, path = "/cashless/cash-out", tag = "cashless", request_body = CashOut,
    responses((status = 200, body = Moved)))]
async fn cash_out(State(state): State<AppState>, change: Change<CashOut>) -> Result<Changed<Moved>, Problem> {
    change.operator.anywhere(Right::TakeCash)?;
    let body = change.body.read()?;
    let wallet = wallet_at(&body.wallet, "/wallet")?;
    let named = body.festival.as_deref();
    let festival = state.festival_for(&change.operator, Right::TakeCash, wallet, named).await?;
    state.move_money(&change.operator, change.key, CashAction::CashOut { wallet, festival }).await
}
