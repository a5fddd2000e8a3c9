//! A wallet's QR: what its holder shows where there is no wristband.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use engine::model::credential::wallet_text;
use engine::view::question::GetAbout;
use utoipa_axum::routes;

use crate::auth::{Operator, Right};
use crate::http::cashless::{wallet_for, wallet_in_path};
use crate::http::gates::tickets::qr_svg;
use crate::http::kit::problem::Problem;
use crate::http::kit::request::Path;
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new().with(Right::ServeWallets, routes!(wallet_qr))
}

/// Draws a wallet's QR, signed with its issuer's present key.
#[utoipa::path(get, path = "/cashless/wallets/{wallet}/qr.svg", tag = "cashless",
    params(("wallet" = String, Path, format = Uuid)),
    responses((status = 200, description = "The QR.", body = String, content_type = "image/svg+xml")))]
async fn wallet_qr(
    State(state): State<AppState>,
    operator: Operator,
    Path(wallet): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let wallet = wallet_in_path(&wallet)?;
    let issuer = wallet_for(&state, &operator, wallet).await?.issuer;
    let festival = state.get(GetAbout(issuer)).await?;
    let version = festival.qr_version;
    let claim = state.qr_secret.key(issuer, version).sign_wallet(wallet, issuer, version);
    Ok(([(header::CONTENT_TYPE, "image/svg+xml")], qr_svg(&wallet_text(&claim))?))
}
