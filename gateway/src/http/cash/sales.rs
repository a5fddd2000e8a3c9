//! What a vendor sold, by hour, by terminal or by product.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use engine::ids::{DeviceId, ProductNo, VendorNo};
use engine::money::{Currency, WHOLE_BP};
use engine::time::Timestamp;
use serde::{Deserialize, Serialize};
use storage::views::{CashViews, PAGE_MAX, Page, ProductTally, VendorAccount, VendorSpan};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::amount;
use crate::auth::{Operator, Right};
use crate::http::AppState;
use crate::http::problem::Problem;
use crate::http::readmodels::ReadError;
use crate::http::reads::views_span;
use crate::http::request::{Path, Query as QueryString};
use crate::http::words::Moment;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(sales_by_hour))
        .routes(routes!(sales_by_terminal))
        .routes(routes!(sales_by_product))
}

/// Which sales. An hour is in the period if it begins in it.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SalesQuery {
    /// From when; the beginning unless told.
    pub from: Option<Moment>,
    /// Until before when; now unless told.
    pub to: Option<Moment>,
}

/// What a vendor's account came to.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Sums {
    /// How many payments.
    pub payments: u64,
    /// What they came to.
    #[schema(example = "1500.00")]
    pub sold: String,
    /// How many refunds.
    pub refunds: u64,
    /// What they came to.
    #[schema(example = "25.50")]
    pub refunded: String,
    /// The organiser's commission.
    #[schema(example = "147.45")]
    pub commission: String,
    /// What is payable to the vendor: sold less refunded less commission.
    #[schema(example = "1327.05")]
    pub payable: String,
}

impl Sums {
    pub(super) fn of(account: &VendorAccount, currency: Currency) -> Self {
        Self {
            payments: account.payments,
            sold: currency.text(account.sold),
            refunds: account.refunds,
            refunded: currency.text(account.refunded),
            commission: currency.text(account.commission),
            payable: currency.text(account.payable),
        }
    }
}

/// A vendor's sales by hour.
#[derive(Debug, Serialize, ToSchema)]
pub struct SalesByHour {
    /// Of all amounts.
    #[schema(example = "EUR")]
    pub currency: String,
    /// By hour; hours without any are left out.
    pub items: Vec<HourOfSales>,
}

/// An hour's sales.
#[derive(Debug, Serialize, ToSchema)]
pub struct HourOfSales {
    /// Where the hour begins.
    pub hour: Moment,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its fields stand beside the hour")]
    pub sums: Sums,
}

/// A vendor's sales by terminal.
#[derive(Debug, Serialize, ToSchema)]
pub struct SalesByTerminal {
    /// Of all amounts.
    #[schema(example = "EUR")]
    pub currency: String,
    /// By terminal.
    pub items: Vec<TerminalsSales>,
}

/// A terminal's sales.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TerminalsSales {
    /// The terminal; `null` for what was paid and given back without one.
    #[schema(example = "1a2b3c4d-17")]
    pub device_id: Option<String>,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its fields stand beside the terminal")]
    pub sums: Sums,
}

/// A vendor's sales by product.
#[derive(Debug, Serialize, ToSchema)]
pub struct SalesByProduct {
    /// Of all amounts.
    #[schema(example = "EUR")]
    pub currency: String,
    /// By product and VAT. What was given back says no product, and is not taken off here.
    pub items: Vec<ProductsSales>,
}

/// A product's sales.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProductsSales {
    /// The number of the product; `null` for bare amounts.
    pub product: Option<u16>,
    /// What it is called now.
    pub name: Option<String>,
    /// The VAT in its price when it was sold, in per cent.
    #[schema(example = "19.00")]
    pub vat_rate: String,
    /// How many; of bare amounts how many payments.
    pub count: u64,
    /// What they cost, VAT included.
    #[schema(example = "1190.00")]
    pub gross: String,
    /// The VAT in that, rounded half-even on the sum.
    #[schema(example = "190.00")]
    pub vat: String,
}

/// The tax in a gross sum, rounded half-even. Exact, in 128-bit integers.
fn vat_in(gross: i128, vat_bp: u16) -> i128 {
    let (part, whole) = (i128::from(vat_bp), i128::from(WHOLE_BP) + i128::from(vat_bp));
    let exact = gross * part;
    let (floor, rest) = (exact.div_euclid(whole), exact.rem_euclid(whole));
    floor + i128::from(rest * 2 > whole || (rest * 2 == whole && floor % 2 != 0))
}

/// All of a vendor's sales in the span, summed by what `by` says of hour and terminal.
fn summed<K: Ord>(
    views: &dyn CashViews,
    of: VendorSpan,
    by: impl Fn(Timestamp, Option<DeviceId>) -> K,
) -> Result<BTreeMap<K, VendorAccount>, ReadError> {
    let mut sums: BTreeMap<K, VendorAccount> = BTreeMap::new();
    let mut page = Page::first(PAGE_MAX);
    loop {
        let rows = views.sales(of, page)?;
        for row in &rows {
            sums.entry(by(row.position.hour, row.position.terminal)).or_default().add(&row.tally);
        }
        match rows.last() {
            Some(last) if rows.len() == PAGE_MAX => page.after = Some(last.position),
            _ => return Ok(sums),
        }
    }
}

/// By product and VAT.
type Products = BTreeMap<(Option<ProductNo>, u16), ProductTally>;

fn products(views: &dyn CashViews, of: VendorSpan) -> Result<Products, ReadError> {
    let mut sums = Products::new();
    let mut page = Page::first(PAGE_MAX);
    loop {
        let rows = views.products_sold(of, page)?;
        for row in &rows {
            sums.entry((row.position.product, row.position.vat_bp)).or_default().add(&row.tally);
        }
        match rows.last() {
            Some(last) if rows.len() == PAGE_MAX => page.after = Some(last.position),
            _ => return Ok(sums),
        }
    }
}

/// Sums a vendor's sales by hour.
#[utoipa::path(get, path = "/festivals/{slug}/vendors/{vendor}/sales/hours", tag = "vendors",
    params(("slug" = String, Path), ("vendor" = u16, Path), SalesQuery), responses((status = 200, body = SalesByHour)))]
async fn sales_by_hour(
    State(state): State<AppState>,
    operator: Operator,
    Path((slug, vendor)): Path<(String, u16)>,
    QueryString(query): QueryString<SalesQuery>,
) -> Result<Json<SalesByHour>, Problem> {
    let festival = operator.at(Right::SeeBooks, &slug)?;
    let (currency, _) = state.vendor_of(&slug, vendor).await?;
    let of = VendorSpan { festival, vendor: VendorNo(vendor), span: views_span(query.from, query.to)? };
    let sums = state.read(move |models| summed(&*models.cash()?, of, |hour, _| hour)).await?;
    let items =
        sums.iter().map(|(hour, account)| HourOfSales { hour: Moment(*hour), sums: Sums::of(account, currency) });
    Ok(Json(SalesByHour { currency: currency.as_str().to_owned(), items: items.collect() }))
}

/// Sums a vendor's sales by terminal.
#[utoipa::path(get, path = "/festivals/{slug}/vendors/{vendor}/sales/terminals", tag = "vendors",
    params(("slug" = String, Path), ("vendor" = u16, Path), SalesQuery),
    responses((status = 200, body = SalesByTerminal)))]
async fn sales_by_terminal(
    State(state): State<AppState>,
    operator: Operator,
    Path((slug, vendor)): Path<(String, u16)>,
    QueryString(query): QueryString<SalesQuery>,
) -> Result<Json<SalesByTerminal>, Problem> {
    let festival = operator.at(Right::SeeBooks, &slug)?;
    let (currency, _) = state.vendor_of(&slug, vendor).await?;
    let of = VendorSpan { festival, vendor: VendorNo(vendor), span: views_span(query.from, query.to)? };
    let sums = state.read(move |models| summed(&*models.cash()?, of, |_, terminal| terminal)).await?;
    let row = |(device, account): (&Option<DeviceId>, &VendorAccount)| TerminalsSales {
        device_id: device.map(|device| device.to_string()),
        sums: Sums::of(account, currency),
    };
    Ok(Json(SalesByTerminal { currency: currency.as_str().to_owned(), items: sums.iter().map(row).collect() }))
}

/// Sums a vendor's sales by product.
#[utoipa::path(get, path = "/festivals/{slug}/vendors/{vendor}/sales/products", tag = "vendors",
    params(("slug" = String, Path), ("vendor" = u16, Path), SalesQuery),
    responses((status = 200, body = SalesByProduct)))]
async fn sales_by_product(
    State(state): State<AppState>,
    operator: Operator,
    Path((slug, vendor)): Path<(String, u16)>,
    QueryString(query): QueryString<SalesQuery>,
) -> Result<Json<SalesByProduct>, Problem> {
    let festival = operator.at(Right::SeeBooks, &slug)?;
    let (currency, known) = state.vendor_of(&slug, vendor).await?;
    let of = VendorSpan { festival, vendor: VendorNo(vendor), span: views_span(query.from, query.to)? };
    let sums = state.read(move |models| products(&*models.cash()?, of)).await?;
    let named = |product: ProductNo| known.products.get(usize::from(product.0)).map(|(_, values)| values.name.clone());
    let items = sums.into_iter().map(|((product, vat_bp), tally)| ProductsSales {
        product: product.map(|product| product.0),
        name: product.and_then(named),
        vat_rate: amount::percent(vat_bp),
        count: tally.count,
        gross: currency.text(tally.gross),
        vat: currency.text(vat_in(tally.gross, vat_bp)),
    });
    Ok(Json(SalesByProduct { currency: currency.as_str().to_owned(), items: items.collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tax_is_rounded_half_even_on_the_sum() {
        for (gross, bp, vat) in [
            (11_900, 1_900, 1_900),
            (1_000, 1_900, 160), // 159.66
            (1_000, 0, 0),
            (0, 1_900, 0),
            (3, 10_000, 2), // 1.5
            (1, 10_000, 0), // 0.5
            (5, 10_000, 2), // 2.5
            (250, 700, 16), // 16.36
        ] {
            assert_eq!(vat_in(gross, bp), vat, "{gross} at {bp} bp");
        }
    }
}
