//! The entries of a festival's books: every posting with all its legs, newest first.

use axum::Json;
use axum::extract::State;
use engine::cashless::event::{Lot, TransactionKind};
use engine::model::ids::VendorNo;
use serde::{Deserialize, Serialize};
use storage::views::Page as ViewsPage;
use storage::views::cashless::{Only, TransactionRow, Transactions, TransactionsOf};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::auth::{Operator, Right};
use crate::http::cashless::account::Lot as AccountLot;
use crate::http::kit::answer::{Page, PageQuery};
use crate::http::kit::json::{Moment, span};
use crate::http::kit::problem::Problem;
use crate::http::kit::request::{Path, Query as QueryString};
use crate::http::kit::routes::Routes;
use crate::http::reports::transactions::kind_word;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new().with(Right::SeeBooks, routes!(ledger_entries))
}

/// One posting. Its legs sum to zero.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// The transaction.
    #[schema(format = Uuid)]
    pub transaction_id: Option<String>,
    /// When.
    pub at: Moment,
    /// What it was: `topup`, `payment`, `refund`, `cash_out`, `transfer_out`, `transfer_in`, `transfer_back`,
    /// `correction`, `gift_lapsed`.
    #[schema(example = "payment")]
    pub kind: &'static str,
    /// ISO 4217.
    #[schema(example = "EUR")]
    pub currency: String,
    /// What each account gained or, where negative, gave.
    pub legs: Vec<Leg>,
    /// For a correction why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One leg of a posting.
#[derive(Debug, Serialize, ToSchema)]
pub struct Leg {
    /// The account, as `/ledger/{slug}/accounts` names it; of a wallet its own: `wallet/…`.
    #[schema(example = "vendor/7")]
    pub account: String,
    /// For a card or a bank transfer the number of the payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment: Option<String>,
    /// What it gained.
    #[schema(example = "11.25")]
    pub amount: String,
}

impl From<TransactionRow> for LedgerEntry {
    fn from(row: TransactionRow) -> Self {
        let posting = &row.posting;
        let sign = i64::from(posting.source.signum() as i8);
        let vendor = row.vendor.unwrap_or_default();
        let leg = |account: String, minor: i64| (account, None, minor);
        let mut legs = vec![leg(format!("wallet/{}", row.wallet), posting.wallet)];
        legs.push(leg(format!("vendor/{}", vendor.0), posting.vendor));
        legs.push(leg("commission".into(), posting.commission));
        // A correction downwards takes gifts back to where they came from; the rest is in the corrections' leg.
        let from_sources = |lot: &&Lot| row.kind != TransactionKind::Correction || lot.source.is_gift();
        legs.extend(row.lots.iter().filter(from_sources).map(|lot| {
            let AccountLot { source, payment, .. } = AccountLot::of(lot, row.currency);
            (source, payment, sign * lot.amount)
        }));
        legs.push(leg("corrections".into(), posting.corrections));
        legs.push(leg("in_transit".into(), posting.in_transit));
        let moved = legs.into_iter().filter(|(.., minor)| *minor != 0);
        let legs = moved.map(|(account, payment, minor)| Leg { account, payment, amount: row.currency.text(minor) });
        let legs = legs.collect();
        Self {
            transaction_id: row.id.map(|id| id.to_string()),
            at: Moment(row.position.at),
            kind: kind_word(row.kind),
            currency: row.currency.as_str().to_owned(),
            legs,
            reason: Some(row.reason).filter(|reason| !reason.is_empty()),
        }
    }
}

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EntriesQuery {
    /// Only those of this vendor's account, by number.
    pub vendor: Option<u16>,
    /// From when; the beginning unless told.
    pub from: Option<Moment>,
    /// Until before when; now unless told.
    pub to: Option<Moment>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// How many rows, 1 to 1,000; 100 unless told.
    pub limit: Option<u32>,
}

/// Lists the entries of a festival's books, newest first.
#[utoipa::path(get, path = "/ledger/{slug}/entries", tag = "ledger", params(("slug" = String, Path), EntriesQuery),
    responses((status = 200, body = Page<LedgerEntry>)))]
async fn ledger_entries(
    State(state): State<AppState>,
    operator: Operator,
    Path(slug): Path<String>,
    QueryString(query): QueryString<EntriesQuery>,
) -> Result<Json<Page<LedgerEntry>>, Problem> {
    let festival = operator.at(&slug)?;
    let of = match query.vendor {
        Some(vendor) => TransactionsOf::Vendor(festival, VendorNo(vendor)),
        None => TransactionsOf::Festival(festival),
    };
    let of = Transactions { of, only: Only::Moved, span: span(query.from, query.to)? };
    let page = PageQuery { cursor: query.cursor, limit: query.limit };
    let (after, limit) = (page.after()?, page.limit()?);
    let asked = ViewsPage { after, limit: limit + 1, backwards: true };
    let rows = state.read(move |models| Ok(models.cashless()?.transactions(of, asked)?)).await?;
    Ok(Json(Page::of(rows, limit, |row| row.position, LedgerEntry::from)))
}
