//! Cash at a desk becomes money in a wallet.

use axum::extract::State;
use engine::cashless::command::{CashlessAction, Source};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::Right;
use crate::http::cashless::{TransactionReceipt, move_money, wallet_at};
use crate::http::kit::answer::Changed;
use crate::http::kit::json::money;
use crate::http::kit::problem::{Fault, Problem};
use crate::http::kit::request::Change;
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new().with(Right::TakeCash, routes!(top_up))
}

/// Money that comes in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TopUp {
    /// Into which wallet.
    #[schema(format = Uuid)]
    pub wallet: String,
    /// At which festival.
    #[schema(example = "tomorrow-2027")]
    pub festival: String,
    /// How much, as decimal text.
    #[schema(example = "50.00")]
    pub amount: String,
    /// ISO 4217.
    #[schema(example = "EUR")]
    pub currency: String,
    /// How it was paid: cash unless told.
    #[serde(default)]
    pub method: Method,
}

/// How a top-up is paid.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// At the desk of whoever is signed in: what is left can be paid out there again.
    #[default]
    Cash,
    /// By card. Answers 501 `card_payments_unavailable` until payments exist.
    Card,
}

/// Tops a wallet up with cash that was taken at a desk.
#[utoipa::path(post, path = "/cashless/topup", tag = "cashless", request_body = TopUp,
    responses((status = 200, body = TransactionReceipt)))]
async fn top_up(State(state): State<AppState>, change: Change<TopUp>) -> Result<Changed<TransactionReceipt>, Problem> {
    change.operator.may()?;
    let body = change.body.read()?;
    let festival = change.operator.at(&body.festival)?;
    let wallet = wallet_at(&body.wallet, "/wallet")?;
    let amount = money::money(&body.amount, &body.currency)?;
    if let Method::Card = body.method {
        return Err(Fault::CardPaymentsUnavailable.into());
    }
    let source = Source::desk(festival, change.operator.no);
    let action = CashlessAction::TopUp { wallet, festival, amount, source, taken: false };
    move_money(&state, &change.operator, change.key, action).await
}
