//! The settlement statement: what a vendor is owed for a period, and the proof that its sums are the books'.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use engine::cashless::view::VendorView;
use engine::model::ids::VendorNo;
use engine::model::money::Currency;
use engine::model::rejection::Rejection;
use serde::{Deserialize, Serialize};
use storage::views::cashless::{Statement, VendorAccount};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::auth::{Operator, Right};
use crate::http::cashless::policy::cash_of;
use crate::http::cashless::vendors::vendor_id;
use crate::http::kit::calendar::{Day, Days, report_span};
use crate::http::kit::json::{Moment, span};
use crate::http::kit::problem::Problem;
use crate::http::kit::request::{Path, Query as QueryString};
use crate::http::kit::routes::Routes;
use crate::http::reports::sales::Sums;
use crate::http::reports::settlement::proof::{Books, Postings, Proven, proven};
use crate::http::state::AppState;

mod proof;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new().with(Right::SeeBooks, routes!(settlement))
}

/// Which statement.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SettlementQuery {
    /// Only this vendor's, by number; all vendors' unless told.
    pub vendor: Option<u16>,
    /// From when; the beginning unless told.
    pub from: Option<Moment>,
    /// Until before when; now unless told. To the millisecond, as `from` is.
    pub to: Option<Moment>,
    /// Of this day of the festival's, by its time zone and from the hour at which its days begin, instead.
    pub day: Option<Day>,
    /// `json` unless told; `csv` is RFC 4180, a line for each vendor.
    #[serde(default)]
    #[param(inline)]
    pub format: Format,
}

/// How it is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `application/json`.
    #[default]
    Json,
    /// `text/csv` (RFC 4180), a line for each vendor.
    Csv,
}

/// A settlement statement.
#[derive(Debug, Serialize, ToSchema)]
pub struct Settlement {
    /// Of all amounts.
    #[schema(example = "EUR")]
    pub currency: String,
    /// From when; `null`: from the beginning.
    pub from: Option<Moment>,
    /// Until before when.
    pub to: Moment,
    /// For each vendor.
    pub vendors: Vec<VendorSettlement>,
    /// Every sum is proven to the cent: for each vendor `postings` is ADD_UP and `books` is AGREE.
    pub proven: bool,
}

/// A vendor's part of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VendorSettlement {
    /// Which.
    #[schema(example = "1a2b3c4d-7")]
    pub vendor_id: String,
    /// What it is called.
    #[schema(example = "Bar 7")]
    pub name: String,
    /// Payable to it when the period began.
    #[schema(example = "100.00")]
    pub opening: String,
    /// What came in the period.
    pub period: Sums,
    /// Payable to it when the period ended: opening and the period's payable.
    #[schema(example = "1427.05")]
    pub closing: String,
    /// How these sums are proven.
    pub proof: Proof,
}

/// How sums are proven.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// The period's postings, one by one, added up anew.
    #[schema(example = "1327.05")]
    pub posted: Option<String>,
    /// Whether opening and they are the closing balance.
    pub postings: Postings,
    /// Payable now, as the account on which this statement stands has it.
    #[schema(example = "1427.05")]
    pub now: String,
    /// Payable now in the books: the sum over all shards.
    #[schema(example = "1427.05")]
    pub in_books: String,
    /// Whether these are the same.
    pub books: Books,
}

/// One vendor's statement, proven.
struct Settled {
    no: VendorNo,
    name: String,
    statement: Statement,
    proven: Proven,
}

impl Settled {
    fn is_proven(&self) -> bool {
        self.proven.postings == Postings::AddUp && self.proven.books == Books::Agree
    }
}

/// States what vendors are owed for a period. Its sums are those of the vendors' accounts, and are proven against the
/// books on the spot: opening and the period's postings are closing, and what is payable now is what the shards' ledgers
/// say. Where something differs, or cannot be proven at the moment, it says so in `proof`.
#[utoipa::path(get, path = "/festivals/{slug}/settlement", tag = "vendors",
    params(("slug" = String, Path), SettlementQuery),
    responses((status = 200, content((Settlement = "application/json"), (String = "text/csv")))))]
async fn settlement(
    State(state): State<AppState>,
    operator: Operator,
    Path(slug): Path<String>,
    QueryString(query): QueryString<SettlementQuery>,
) -> Result<Response, Problem> {
    let festival = operator.at(&slug)?;
    let cash = cash_of(&state, &slug).await?;
    // A period ends at a moment, or its postings never stop: now, where the journal is not ahead of that.
    let time = state.node.time();
    let now = || Moment(time.now.plus_ms(time.journal_ahead_ms + 1));
    let (from, to) = match query.day {
        None => (query.from, query.to.unwrap_or_else(now)),
        day => {
            let days = Days::of(&state.about(&slug).await?.calendar);
            let span = report_span(&days, day, query.from, query.to)?;
            (Some(Moment(span.from)), Moment(span.until))
        }
    };
    let span = span(from, Some(to))?;
    let vendors: Vec<&VendorView> = match query.vendor {
        Some(no) => vec![cash.vendors.get(usize::from(no)).ok_or(Rejection::UnknownVendor)?],
        None => cash.vendors.iter().collect(),
    };
    let numbers = vendors.iter().map(|vendor| vendor.no).collect();
    let proven = proven(&state, festival, numbers, span).await?;
    let all: Vec<Settled> = vendors
        .iter()
        .zip(proven)
        .map(|(vendor, (statement, proven))| Settled {
            no: vendor.no,
            name: vendor.values.name.clone(),
            statement,
            proven,
        })
        .collect();
    let currency = cash.policy.currency;
    Ok(match query.format {
        Format::Json => {
            let vendors = all.iter().map(|settled| row(settled, vendor_id(festival, settled.no), currency)).collect();
            let proven = all.iter().all(Settled::is_proven);
            let currency = currency.as_str().to_owned();
            Json(Settlement { currency, from, to, vendors, proven }).into_response()
        }
        Format::Csv => {
            let lines = all.iter().map(|settled| csv_line(settled, &vendor_id(festival, settled.no), currency));
            let text: String = std::iter::once(CSV_HEAD.to_owned()).chain(lines).collect();
            let disposition = format!("attachment; filename=\"settlement-{slug}.csv\"");
            let mut response = ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response();
            if let Ok(disposition) = HeaderValue::try_from(disposition) {
                response.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
            }
            response
        }
    })
}

fn row(settled: &Settled, vendor_id: String, currency: Currency) -> VendorSettlement {
    let Settled { name, statement, proven, .. } = settled;
    VendorSettlement {
        vendor_id,
        name: name.clone(),
        opening: currency.text(statement.opening.payable),
        period: Sums::of(&statement.sums(), currency),
        closing: currency.text(statement.closing.payable),
        proof: Proof {
            posted: proven.posted.map(|posted| currency.text(posted.payable)),
            postings: proven.postings,
            now: currency.text(statement.now.payable),
            in_books: currency.text(proven.in_books.payable),
            books: proven.books,
        },
    }
}

const CSV_HEAD: &str = "vendor_id,name,currency,opening,payments,sold,refunds,refunded,commission,payable,closing,\
                        posted,postings,now,in_books,books,proven\r\n";

fn csv_line(settled: &Settled, vendor_id: &str, currency: Currency) -> String {
    let Settled { name, statement, proven, .. } = settled;
    let VendorAccount { payments, sold, refunds, refunded, payable, commission } = statement.sums();
    let text = |minor: i128| currency.text(minor);
    let fields = [
        vendor_id.to_owned(),
        csv_text(name),
        currency.as_str().to_owned(),
        text(statement.opening.payable),
        payments.to_string(),
        text(sold),
        refunds.to_string(),
        text(refunded),
        text(commission),
        text(payable),
        text(statement.closing.payable),
        proven.posted.map_or(String::new(), |posted| text(posted.payable)),
        proven.postings.word().to_owned(),
        text(statement.now.payable),
        text(proven.in_books.payable),
        proven.books.word().to_owned(),
        settled.is_proven().to_string(),
    ];
    format!("{}\r\n", fields.join(","))
}

/// A text as CSV has it. A spreadsheet would run one that begins like a formula, so that gets an apostrophe in front.
fn csv_text(text: &str) -> String {
    let safe = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() };
    match safe.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", safe.replace('"', "\"\"")),
        false => safe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_out_of_its_field() {
        for (name, field) in [
            ("Bar 7", "Bar 7"),
            ("Fish, chips", "\"Fish, chips\""),
            ("The \"Pub\"", "\"The \"\"Pub\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "'=1+1"),
            ("@SUM(A1,B1)", "\"'@SUM(A1,B1)\""),
        ] {
            assert_eq!(csv_text(name), field);
        }
    }
}
