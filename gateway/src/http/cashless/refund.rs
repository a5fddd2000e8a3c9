//! Staff give back what a vendor took, or part of it.

use axum::extract::State;
use engine::cashless::command::{CashlessAction, RefundLine};
use engine::model::ids::{FestivalId, ProductNo, TransactionId};
use engine::model::rejection::Rejection;
use engine::view::question::{GetPayment, GetWallet};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::Right;
use crate::http::cashless::{TransactionReceipt, move_money, uuid_at};
use crate::http::kit::answer::Changed;
use crate::http::kit::json::money;
use crate::http::kit::problem::{Fault, Problem};
use crate::http::kit::request::Change;
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new().with(Right::MoveMoney, routes!(refund))
}

/// What is to be given back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Refund {
    /// The payment.
    #[schema(format = Uuid)]
    pub transaction_id: String,
    /// How much, as decimal text; all that is left of the payment unless told.
    #[schema(example = "2.50")]
    pub amount: Option<String>,
    /// ISO 4217, with an amount.
    #[schema(example = "EUR")]
    pub currency: Option<String>,
    /// Of what, in place of an amount: products of the payment. An amount is shared over the payment's VAT rates.
    #[serde(default)]
    #[schema(max_items = 32)]
    pub lines: Vec<ReturnedLine>,
}

/// A product that comes back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReturnedLine {
    /// The number of the vendor's product.
    pub product: u16,
    /// How many.
    #[schema(minimum = 1)]
    pub count: u16,
}

/// Gives back a payment or part of it, to where it came from.
#[utoipa::path(post, path = "/cashless/refund", tag = "cashless", request_body = Refund,
    responses((status = 200, body = TransactionReceipt)))]
async fn refund(State(state): State<AppState>, change: Change<Refund>) -> Result<Changed<TransactionReceipt>, Problem> {
    change.operator.may()?;
    let body = change.body.read()?;
    let id = uuid_at(&body.transaction_id, "/transactionId")?.as_u128();
    let payment = TransactionId::from_u128(id).ok_or(Rejection::UnknownTransaction)?;
    let amount = match (&body.amount, &body.currency) {
        (None, None) => None,
        (Some(amount), Some(currency)) => Some(money::money(amount, currency)?),
        (Some(_), None) => return Err(Problem::field("/currency", "must come with an amount")),
        (None, Some(_)) => return Err(Problem::field("/amount", "must come with a currency")),
    };
    if amount.is_some() && !body.lines.is_empty() {
        return Err(Problem::field("/lines", "must come without an amount: they say how much it is"));
    }
    let festival = taken_at(&state, payment).await?;
    change.operator.within(festival, Rejection::UnknownTransaction)?;
    let lines = match body.lines.is_empty() {
        true => Box::default(),
        false => returned(&state, payment, &body.lines).await?,
    };
    move_money(&state, &change.operator, change.key, CashlessAction::Refund { payment, festival, amount, lines }).await
}

/// What the products that come back had cost. The shard says whether so many of them are left.
async fn returned(
    state: &AppState,
    payment: TransactionId,
    lines: &[ReturnedLine],
) -> Result<Box<[RefundLine]>, Problem> {
    let row = state.read(move |models| Ok(models.cashless()?.transaction(payment)?)).await?;
    // It was found in the shard: the read models are a moment behind.
    let row = row.ok_or(Fault::ReadModelsUnavailable)?;
    let line = |(at, line): (usize, &ReturnedLine)| {
        let product = ProductNo(line.product);
        let none = || Problem::field(format!("/lines/{at}/product"), "is not in the payment");
        RefundLine::of(&row.lines, product, line.count).ok_or_else(none)
    };
    lines.iter().enumerate().map(line).collect()
}

/// The festival whose staff may ask about a transaction: where a payment was taken; for anything else, or a payment
/// too old to be known, the wallet's own. The engine then says what is wrong with it, or says again what it said.
async fn taken_at(state: &AppState, payment: TransactionId) -> Result<FestivalId, Problem> {
    match state.node.get(GetPayment(payment)).await {
        Ok(view) => return Ok(view.festival),
        Err(Rejection::UnknownTransaction | Rejection::NotAPayment | Rejection::RefundTooLate) => {}
        Err(rejection) => return Err(rejection.into()),
    }
    match state.node.get(GetWallet(payment.wallet)).await {
        Ok(view) => Ok(view.issuer),
        Err(Rejection::UnknownWallet) => Err(Rejection::UnknownTransaction.into()),
        Err(rejection) => Err(rejection.into()),
    }
}
