//! Money goes from one wallet to another.

use axum::extract::State;
use engine::cashless::command::CashlessAction;
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
    Routes::new().with(Right::MoveMoney, routes!(transfer))
}

/// A transfer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// From which wallet.
    #[schema(format = Uuid)]
    pub from: String,
    /// To which wallet.
    #[schema(format = Uuid)]
    pub to: String,
    /// How much, as decimal text.
    #[schema(example = "20.00")]
    pub amount: String,
    /// ISO 4217.
    #[schema(example = "EUR")]
    pub currency: String,
    /// At which festival; the one that issued the first wallet unless told.
    pub festival: Option<String>,
}

/// Moves money from one wallet to another. If the other side would not have it, it is back, and this says why.
#[utoipa::path(post, path = "/cashless/transfer", tag = "cashless", request_body = Transfer,
    responses((status = 200, body = TransactionReceipt)))]
async fn transfer(
    State(state): State<AppState>,
    change: Change<Transfer>,
) -> Result<Changed<TransactionReceipt>, Problem> {
    change.operator.may()?;
    let body = change.body.read()?;
    let (from, to) = (wallet_at(&body.from, "/from")?, wallet_at(&body.to, "/to")?);
    let amount = money::money(&body.amount, &body.currency)?;
    let named = body.festival.as_deref();
    let festival = festival_for(&state, &change.operator, from, named).await?;
    move_money(&state, &change.operator, change.key, CashlessAction::Transfer { from, to, festival, amount }).await
}
