//! What is left in a wallet goes back to where it came from.

use axum::extract::State;
use engine::cashless::command::CashlessAction;
use engine::model::ids::TransactionId;
use engine::model::money::Currency;
use engine::model::rejection::Rejection;
use engine::view::question::GetCashOut;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::Right;
use crate::http::cashless::account::Lot;
use crate::http::cashless::{TransactionReceipt, festival_for, move_money, wallet_at};
use crate::http::kit::answer::{Changed, unexpected_answer};
use crate::http::kit::problem::Problem;
use crate::http::kit::request::Change;
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new().with(Right::TakeCash, routes!(cash_out))
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

/// A wallet was emptied.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaidOut {
    #[serde(flatten)]
    pub moved: TransactionReceipt,
    /// Where the money goes, and how much of it: what came from a desk or a terminal is handed out, what came from a card
    /// or a bank goes back there. They add up to the amount; what the balance still says are gifts, which are not paid
    /// out. The same key is told the same again; `null` for a cash-out so long ago that only its transaction knows.
    pub parts: Option<Vec<Lot>>,
}

/// Empties a wallet, but for gifts: each euro goes back to where it came from, as the parts of the answer say.
#[utoipa::path(post, path = "/cashless/cash-out", tag = "cashless", request_body = CashOut,
    responses((status = 200, body = PaidOut)))]
async fn cash_out(State(state): State<AppState>, change: Change<CashOut>) -> Result<Changed<PaidOut>, Problem> {
    change.operator.may()?;
    let body = change.body.read()?;
    let wallet = wallet_at(&body.wallet, "/wallet")?;
    let named = body.festival.as_deref();
    let festival = festival_for(&state, &change.operator, wallet, named).await?;
    let action = CashlessAction::CashOut { wallet, festival };
    let Changed { body: moved, replayed } = move_money(&state, &change.operator, change.key, action).await?;
    let id = TransactionId::parse(moved.transaction_id.as_bytes()).ok_or_else(unexpected_answer)?;
    let currency = Currency::parse(&moved.currency).ok_or_else(unexpected_answer)?;
    let parts = match state.node.get(GetCashOut(id)).await {
        Ok(lots) => Some(lots.iter().map(|lot| Lot::of(lot, currency)).collect()),
        Err(Rejection::UnknownTransaction) => None,
        Err(rejection) => return Err(rejection.into()),
    };
    Ok(Changed { body: PaidOut { moved, parts }, replayed })
}
