//! An operator corrects a balance or gives something, and says why.

use axum::extract::State;
use engine::cashless::command::CashlessAction;
use engine::command::TEXT_LEN_MAX;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::Right;
use crate::http::cashless::{TransactionReceipt, festival_for, move_money, wallet_at};
use crate::http::kit::answer::Changed;
use crate::http::kit::json::money;
use crate::http::kit::problem::Problem;
use crate::http::kit::request::Change;
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new().with(Right::CorrectBalances, routes!(correct))
}

/// A correction.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Correction {
    /// Of which wallet.
    #[schema(format = Uuid)]
    pub wallet: String,
    /// By how much, up or down, as decimal text.
    #[schema(example = "-5.00")]
    pub amount: String,
    /// ISO 4217.
    #[schema(example = "EUR")]
    pub currency: String,
    /// Upwards only: it gives back money that had been taken, such as a top-up which was lost, and is paid out like any
    /// other. Unless told, what a correction adds is a gift: spent first, never paid out, and gone with the festival.
    #[serde(default)]
    pub gives_back: bool,
    /// Why, at most 200 bytes. It must name nobody: it is kept for ever.
    #[schema(example = "Topped up twice at desk 3")]
    pub reason: String,
    /// At which festival; the one that issued the wallet unless told.
    pub festival: Option<String>,
}

/// Corrects a wallet's balance, a blocked one's too.
#[utoipa::path(post, path = "/cashless/correction", tag = "cashless", request_body = Correction,
    responses((status = 200, body = TransactionReceipt)))]
async fn correct(
    State(state): State<AppState>,
    change: Change<Correction>,
) -> Result<Changed<TransactionReceipt>, Problem> {
    change.operator.may()?;
    let body = change.body.read()?;
    let wallet = wallet_at(&body.wallet, "/wallet")?;
    let delta = money::signed_money(&body.amount, &body.currency)?;
    if body.reason.trim().is_empty() || body.reason.len() > TEXT_LEN_MAX {
        return Err(Problem::field("/reason", format!("must say why, in 1 to {TEXT_LEN_MAX} bytes")));
    }
    if body.gives_back && delta.minor < 0 {
        return Err(Problem::field("/givesBack", "must not be true where something is taken away"));
    }
    let named = body.festival.as_deref();
    let festival = festival_for(&state, &change.operator, wallet, named).await?;
    let action = CashlessAction::Correct { wallet, festival, delta, reason: body.reason, gives_back: body.gives_back };
    move_money(&state, &change.operator, change.key, action).await
}
