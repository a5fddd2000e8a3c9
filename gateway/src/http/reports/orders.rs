//! A vendor's orders: what it was paid for, line by line, with what was given back of each.

use axum::Json;
use axum::extract::State;
use engine::model::ids::VendorNo;
use serde::{Deserialize, Serialize};
use storage::views::Page as ViewsPage;
use storage::views::cashless::{OrderRow, VendorSpan};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::auth::{Operator, Right};
use crate::http::cashless::vendors::vendor_of;
use crate::http::kit::answer::{Page, PageQuery};
use crate::http::kit::json::{Moment, span};
use crate::http::kit::problem::Problem;
use crate::http::kit::request::{Path, Query as QueryString};
use crate::http::kit::routes::Routes;
use crate::http::reports::transactions::Transaction;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new().with(Right::MoveMoney, routes!(list_orders))
}

/// An order.
#[derive(Debug, Serialize, ToSchema)]
pub struct Order {
    /// The payment.
    pub payment: Transaction,
    /// What was given back of it until now, in order.
    pub refunds: Vec<OrderRefund>,
}

/// Something that was given back.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderRefund {
    /// The refund.
    #[schema(format = Uuid)]
    pub transaction_id: String,
    /// When.
    pub at: Moment,
    /// How much.
    #[schema(example = "2.50")]
    pub amount: String,
}

impl Order {
    fn seen_by(operator: &Operator, row: OrderRow) -> Self {
        let refunds = row.refunds.iter().map(|refund| OrderRefund {
            transaction_id: refund.id.to_string(),
            at: Moment(refund.at),
            amount: row.payment.currency.text(refund.amount),
        });
        Self { refunds: refunds.collect(), payment: Transaction::seen_by(operator, row.payment) }
    }
}

/// Which orders.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct OrdersQuery {
    /// From when; the beginning unless told.
    pub from: Option<Moment>,
    /// Until before when; now unless told.
    pub to: Option<Moment>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// How many rows, 1 to 1,000; 100 unless told.
    pub limit: Option<u32>,
}

/// Lists a vendor's orders, newest first.
#[utoipa::path(get, path = "/festivals/{slug}/vendors/{vendor}/orders", tag = "vendors",
    params(("slug" = String, Path), ("vendor" = u16, Path), OrdersQuery), responses((status = 200, body = Page<Order>)))]
async fn list_orders(
    State(state): State<AppState>,
    operator: Operator,
    Path((slug, vendor)): Path<(String, u16)>,
    QueryString(query): QueryString<OrdersQuery>,
) -> Result<Json<Page<Order>>, Problem> {
    let festival = operator.at(&slug)?;
    vendor_of(&state, &slug, vendor).await?;
    let of = VendorSpan { festival, vendor: VendorNo(vendor), span: span(query.from, query.to)? };
    let page = PageQuery { cursor: query.cursor, limit: query.limit };
    let (after, limit) = (page.after()?, page.limit()?);
    let asked = ViewsPage { after, limit: limit + 1, backwards: true };
    let rows = state.read(move |models| Ok(models.cashless()?.orders(of, asked)?)).await?;
    Ok(Json(Page::of(rows, limit, |row| row.payment.position, |row| Order::seen_by(&operator, row))))
}
