//! Somebody pays a vendor without a terminal.

use axum::extract::State;
use engine::cashless::command::{CashlessAction, Line};
use engine::model::ids::ProductNo;
use engine::model::rejection::Rejection;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::Right;
use crate::http::cashless::vendors::vendor_at;
use crate::http::cashless::{TransactionReceipt, move_money, wallet_at};
use crate::http::kit::answer::Changed;
use crate::http::kit::json::money;
use crate::http::kit::problem::Problem;
use crate::http::kit::request::Change;
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new().with(Right::MoveMoney, routes!(pay))
}

/// A payment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pay {
    /// From which wallet.
    #[schema(format = Uuid)]
    pub wallet: String,
    /// To whom; it says by itself at which festival.
    #[schema(example = "1a2b3c4d-7")]
    pub vendor_id: String,
    /// How much, as decimal text.
    #[schema(example = "12.50")]
    pub amount: String,
    /// ISO 4217.
    #[schema(example = "EUR")]
    pub currency: String,
    /// For what: at most 32 lines, whose sum is the amount. None for a bare amount.
    #[serde(default)]
    #[schema(max_items = 32)]
    pub lines: Vec<PayLine>,
}

/// One line of a payment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PayLine {
    /// The number of the vendor's product.
    pub product: u16,
    /// How many.
    #[schema(minimum = 1)]
    pub count: u16,
    /// What each costs.
    #[schema(example = "6.25")]
    pub price: String,
}

/// Pays a vendor out of a wallet: what one of the vendor's terminals would have decided.
#[utoipa::path(post, path = "/cashless/pay", tag = "cashless", request_body = Pay,
    responses((status = 200, body = TransactionReceipt)))]
async fn pay(State(state): State<AppState>, change: Change<Pay>) -> Result<Changed<TransactionReceipt>, Problem> {
    change.operator.may()?;
    let body = change.body.read()?;
    let (festival, vendor) = vendor_at(&body.vendor_id, "/vendorId")?;
    change.operator.within(festival, Rejection::UnknownVendor)?;
    let wallet = wallet_at(&body.wallet, "/wallet")?;
    let amount = money::money(&body.amount, &body.currency)?;
    let line = |(at, line): (usize, &PayLine)| {
        let price = money::price(&line.price, amount.currency, &format!("/lines/{at}/price"))?;
        Ok::<_, Problem>(Line { product: ProductNo(line.product), count: line.count, price })
    };
    let lines = body.lines.iter().enumerate().map(line).collect::<Result<_, _>>()?;
    let action = CashlessAction::Pay { wallet, festival, vendor, amount, lines };
    move_money(&state, &change.operator, change.key, action).await
}
