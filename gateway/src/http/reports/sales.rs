//! What a vendor sold: by hour, by day, by terminal, by product, by VAT. All of them are sums over the same quarters of an
//! hour, so that they agree with one another and with the settlement to the cent, for any span from quarter to quarter.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use engine::cashless::view::VendorView;
use engine::model::ids::{DeviceId, ProductNo, VendorNo};
use engine::model::money::{Currency, WHOLE_BP};
use engine::model::time::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use storage::views::cashless::{CashlessViews, ProductRow, ProductTally, SalesRow, VendorAccount, VendorSpan};
use storage::views::{PAGE_MAX, Page, ViewsError};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::auth::{Operator, Right};
use crate::http::cashless::vendors::vendor_of;
use crate::http::kit::calendar::{Day, Days, report_span};
use crate::http::kit::json::{Moment, money};
use crate::http::kit::problem::Problem;
use crate::http::kit::request::{Path, Query as QueryString};
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;
use crate::read_models::ReadError;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new()
        .with(Right::SeeBooks, routes!(sales_by_hour))
        .with(Right::SeeBooks, routes!(sales_by_day))
        .with(Right::SeeBooks, routes!(sales_by_terminal))
        .with(Right::SeeBooks, routes!(sales_by_product))
        .with(Right::SeeBooks, routes!(sales_by_vat))
}

/// Which sales: those of a day, or from a quarter of an hour until a quarter of an hour, exactly.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SalesQuery {
    /// From when; the beginning unless told.
    pub from: Option<Moment>,
    /// Until before when; now unless told.
    pub to: Option<Moment>,
    /// Of this day of the festival's, by its time zone and from the hour at which its days begin.
    pub day: Option<Day>,
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
    pub(in crate::http) fn of(account: &VendorAccount, currency: Currency) -> Self {
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
    /// Where the hour begins, by the festival's time zone.
    pub hour: Moment,
    #[serde(flatten)]
    pub sums: Sums,
}

/// A vendor's sales by day.
#[derive(Debug, Serialize, ToSchema)]
pub struct SalesByDay {
    /// Of all amounts.
    #[schema(example = "EUR")]
    pub currency: String,
    /// By day; days without any are left out.
    pub items: Vec<DayOfSales>,
}

/// A day's sales.
#[derive(Debug, Serialize, ToSchema)]
pub struct DayOfSales {
    /// Which day of the festival's.
    pub day: Day,
    #[serde(flatten)]
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
    pub sums: Sums,
}

/// A vendor's sales by product.
#[derive(Debug, Serialize, ToSchema)]
pub struct SalesByProduct {
    /// Of all amounts.
    #[schema(example = "EUR")]
    pub currency: String,
    /// By product and VAT. What was given back without a word of what for is shared over its payment's VAT rates.
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
    /// How many were sold; of bare amounts how many payments.
    pub count: u64,
    /// How many of them refunds have named.
    pub returned: u64,
    /// What was sold cost, VAT included.
    #[schema(example = "1190.00")]
    pub gross: String,
    /// What was given back of it, or of what was sold before, VAT included.
    #[schema(example = "11.90")]
    pub refunded: String,
    /// What is left of that: `gross` less `refunded`. Over all products, that is `sold` less `refunded` of the same span.
    #[schema(example = "1178.10")]
    pub turnover: String,
    /// The VAT in the turnover. Over all products of a rate, that is the rate's, rounded half-even on the sum.
    #[schema(example = "188.10")]
    pub vat: String,
}

/// A vendor's sales by VAT.
#[derive(Debug, Serialize, ToSchema)]
pub struct SalesByVat {
    /// Of all amounts.
    #[schema(example = "EUR")]
    pub currency: String,
    /// By rate.
    pub items: Vec<RatesSales>,
}

/// The sales at one VAT rate.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RatesSales {
    /// In per cent; bare amounts are at 0.00, since nobody said what for.
    #[schema(example = "19.00")]
    pub vat_rate: String,
    /// What was sold cost, VAT included.
    #[schema(example = "1190.00")]
    pub gross: String,
    /// What was given back, VAT included.
    #[schema(example = "11.90")]
    pub refunded: String,
    /// `gross` less `refunded`.
    #[schema(example = "1178.10")]
    pub turnover: String,
    /// The turnover without its VAT.
    #[schema(example = "990.00")]
    pub net: String,
    /// The VAT in the turnover, rounded half-even.
    #[schema(example = "188.10")]
    pub vat: String,
}

/// The tax in a gross sum, rounded half-even. Exact, in 128-bit integers.
fn vat_in(gross: i128, vat_bp: u16) -> i128 {
    let (part, whole) = (i128::from(vat_bp), i128::from(WHOLE_BP) + i128::from(vat_bp));
    let exact = gross * part;
    let (floor, rest) = (exact.div_euclid(whole), exact.rem_euclid(whole));
    floor + i128::from(rest * 2 > whole || (rest * 2 == whole && floor % 2 != 0))
}

/// Each row of a list, page after page.
fn each<P, R>(
    list: impl Fn(Page<P>) -> Result<Vec<R>, ViewsError>,
    position: impl Fn(&R) -> P,
    mut row: impl FnMut(R),
) -> Result<(), ReadError> {
    let mut after = None;
    loop {
        let rows = list(Page { after, ..Page::first(PAGE_MAX) })?;
        let is_last = rows.len() < PAGE_MAX;
        after = rows.last().map(&position);
        rows.into_iter().for_each(&mut row);
        if is_last {
            return Ok(());
        }
    }
}

/// All of a vendor's sales in the span, summed by what `by` says of quarter of an hour and terminal.
fn summed<K: Ord>(
    views: &dyn CashlessViews,
    of: VendorSpan,
    by: impl Fn(Timestamp, Option<DeviceId>) -> K,
) -> Result<BTreeMap<K, VendorAccount>, ReadError> {
    let mut sums: BTreeMap<K, VendorAccount> = BTreeMap::new();
    let add = |row: SalesRow| {
        sums.entry(by(row.position.quarter, row.position.terminal)).or_default().add(&row.tally);
    };
    each(|page| views.sales(of, page), |row| row.position, add)?;
    Ok(sums)
}

/// By VAT and product.
type Products = BTreeMap<(u16, Option<ProductNo>), ProductTally>;

fn products(views: &dyn CashlessViews, of: VendorSpan) -> Result<Products, ReadError> {
    let mut sums = Products::new();
    let add = |row: ProductRow| {
        sums.entry((row.position.vat_bp, row.position.product)).or_default().add(&row.tally);
    };
    each(|page| views.products_sold(of, page), |row| row.position, add)?;
    Ok(sums)
}

/// The VAT of each product, so that the products of a rate add up to the rate's to the cent: each has what the sum up to
/// it has more than the sum before.
fn vat_of_each(sums: &Products) -> Vec<i128> {
    let mut rate = (0, 0_i128);
    let vat = |(&(vat_bp, _), tally): (&(u16, _), &ProductTally)| {
        if rate.0 != vat_bp {
            rate = (vat_bp, 0);
        }
        let before = vat_in(rate.1, vat_bp);
        rate.1 += tally.gross - tally.refunded;
        vat_in(rate.1, vat_bp) - before
    };
    sums.iter().map(vat).collect()
}

/// What a report is about: a vendor's sales in a span.
struct Report {
    vendor: VendorView,
    currency: Currency,
    of: VendorSpan,
    days: Days,
}

/// What a report is about, for whoever may see the books.
async fn report(
    state: &AppState,
    operator: &Operator,
    (slug, number): (String, u16),
    SalesQuery { from, to, day }: SalesQuery,
) -> Result<Report, Problem> {
    let festival = operator.at(&slug)?;
    let (currency, vendor) = vendor_of(state, &slug, number).await?;
    let days = Days::of(&state.about(&slug).await?.calendar);
    let span = report_span(&days, day, from, to)?;
    Ok(Report { vendor, currency, of: VendorSpan { festival, vendor: VendorNo(number), span }, days })
}

/// Sums a vendor's sales by hour of the festival's time zone.
#[utoipa::path(get, path = "/festivals/{slug}/vendors/{vendor}/sales/hours", tag = "vendors",
    params(("slug" = String, Path), ("vendor" = u16, Path), SalesQuery), responses((status = 200, body = SalesByHour)))]
async fn sales_by_hour(
    State(state): State<AppState>,
    operator: Operator,
    Path(vendor): Path<(String, u16)>,
    QueryString(query): QueryString<SalesQuery>,
) -> Result<Json<SalesByHour>, Problem> {
    let Report { currency, of, days, .. } = report(&state, &operator, vendor, query).await?;
    let sums = state.read(move |models| summed(&*models.cashless()?, of, |quarter, _| days.hour_of(quarter))).await?;
    let items =
        sums.iter().map(|(hour, account)| HourOfSales { hour: Moment(*hour), sums: Sums::of(account, currency) });
    Ok(Json(SalesByHour { currency: currency.as_str().to_owned(), items: items.collect() }))
}

/// Sums a vendor's sales by day of the festival's: by its time zone, from the hour at which its days begin.
#[utoipa::path(get, path = "/festivals/{slug}/vendors/{vendor}/sales/days", tag = "vendors",
    params(("slug" = String, Path), ("vendor" = u16, Path), SalesQuery), responses((status = 200, body = SalesByDay)))]
async fn sales_by_day(
    State(state): State<AppState>,
    operator: Operator,
    Path(vendor): Path<(String, u16)>,
    QueryString(query): QueryString<SalesQuery>,
) -> Result<Json<SalesByDay>, Problem> {
    let Report { currency, of, days, .. } = report(&state, &operator, vendor, query).await?;
    let sums = state.read(move |models| summed(&*models.cashless()?, of, |quarter, _| days.day_of(quarter))).await?;
    let day = |(day, account): (&Option<Date>, &VendorAccount)| {
        Some(DayOfSales { day: Day((*day)?), sums: Sums::of(account, currency) })
    };
    Ok(Json(SalesByDay { currency: currency.as_str().to_owned(), items: sums.iter().filter_map(day).collect() }))
}

/// Sums a vendor's sales by terminal.
#[utoipa::path(get, path = "/festivals/{slug}/vendors/{vendor}/sales/terminals", tag = "vendors",
    params(("slug" = String, Path), ("vendor" = u16, Path), SalesQuery),
    responses((status = 200, body = SalesByTerminal)))]
async fn sales_by_terminal(
    State(state): State<AppState>,
    operator: Operator,
    Path(vendor): Path<(String, u16)>,
    QueryString(query): QueryString<SalesQuery>,
) -> Result<Json<SalesByTerminal>, Problem> {
    let Report { currency, of, .. } = report(&state, &operator, vendor, query).await?;
    let sums = state.read(move |models| summed(&*models.cashless()?, of, |_, terminal| terminal)).await?;
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
    Path(vendor): Path<(String, u16)>,
    QueryString(query): QueryString<SalesQuery>,
) -> Result<Json<SalesByProduct>, Problem> {
    let Report { vendor, currency, of, .. } = report(&state, &operator, vendor, query).await?;
    let sums = state.read(move |models| products(&*models.cashless()?, of)).await?;
    let named = |product: ProductNo| vendor.products.get(usize::from(product.0)).map(|(_, values)| values.name.clone());
    let vats = vat_of_each(&sums);
    let items = sums.into_iter().zip(vats).map(|(((vat_bp, product), tally), vat)| ProductsSales {
        product: product.map(|product| product.0),
        name: product.and_then(named),
        vat_rate: money::percent(vat_bp),
        count: tally.count,
        returned: tally.returned,
        gross: currency.text(tally.gross),
        refunded: currency.text(tally.refunded),
        turnover: currency.text(tally.gross - tally.refunded),
        vat: currency.text(vat),
    });
    Ok(Json(SalesByProduct { currency: currency.as_str().to_owned(), items: items.collect() }))
}

/// Sums a vendor's sales by VAT rate.
#[utoipa::path(get, path = "/festivals/{slug}/vendors/{vendor}/sales/vat", tag = "vendors",
    params(("slug" = String, Path), ("vendor" = u16, Path), SalesQuery), responses((status = 200, body = SalesByVat)))]
async fn sales_by_vat(
    State(state): State<AppState>,
    operator: Operator,
    Path(vendor): Path<(String, u16)>,
    QueryString(query): QueryString<SalesQuery>,
) -> Result<Json<SalesByVat>, Problem> {
    let Report { currency, of, .. } = report(&state, &operator, vendor, query).await?;
    let sums = state.read(move |models| products(&*models.cashless()?, of)).await?;
    let mut rates = BTreeMap::<u16, ProductTally>::new();
    sums.iter().for_each(|((vat_bp, _), tally)| rates.entry(*vat_bp).or_default().add(tally));
    let items = rates.into_iter().map(|(vat_bp, tally)| {
        let turnover = tally.gross - tally.refunded;
        let vat = vat_in(turnover, vat_bp);
        RatesSales {
            vat_rate: money::percent(vat_bp),
            gross: currency.text(tally.gross),
            refunded: currency.text(tally.refunded),
            turnover: currency.text(turnover),
            net: currency.text(turnover - vat),
            vat: currency.text(vat),
        }
    });
    Ok(Json(SalesByVat { currency: currency.as_str().to_owned(), items: items.collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However a rate's turnover is spread over products, given back in part or beyond what was sold in the span.
        #[test]
        fn the_vat_of_products_is_the_vat_of_their_rate(
            rows in prop::collection::btree_map(
                (prop::sample::select(vec![0_u16, 500, 700, 1_900]), prop::option::of((0..40_u16).prop_map(ProductNo))),
                (0..10_000_i128, 0..12_000_i128),
                1..30,
            ),
        ) {
            let tally = |(gross, refunded)| ProductTally { gross, refunded, ..ProductTally::default() };
            let sums: Products = rows.into_iter().map(|(place, row)| (place, tally(row))).collect();
            let vats = vat_of_each(&sums);
            let rates: std::collections::BTreeSet<u16> = sums.keys().map(|(rate, _)| *rate).collect();
            for rate in rates {
                let of_rate = || sums.iter().zip(&vats).filter(|((place, _), _)| place.0 == rate);
                let turnover: i128 = of_rate().map(|((_, tally), _)| tally.gross - tally.refunded).sum();
                prop_assert_eq!(of_rate().map(|(_, vat)| vat).sum::<i128>(), vat_in(turnover, rate));
            }
        }
    }

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
            (-250, 700, -16),
        ] {
            assert_eq!(vat_in(gross, bp), vat, "{gross} at {bp} bp");
        }
    }
}
