//! The books of a festival: each account's balance, and the trial balance, as they stand now in all shards together.
//!
//! A balance is the organiser's: positive is what is owed to somebody (wallets, vendors) or earned (commission), negative
//! is what has come in (a source's account) or was given away (corrections). All of them together are zero, always.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use engine::cashless::command::SourceKind;
use engine::cashless::view::{CashlessView, LedgerView, VendorSums};
use engine::model::ids::FestivalId;
use engine::view::question::GetLedger;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::{Operator, Right};
use crate::http::cashless::policy::cash_of;
use crate::http::cashless::sources::source_account;
use crate::http::kit::problem::Problem;
use crate::http::kit::request::Path;
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new().with(Right::SeeBooks, routes!(ledger_accounts)).with(Right::SeeBooks, routes!(trial_balance))
}

/// The accounts of a festival's books.
#[derive(Debug, Serialize, ToSchema)]
pub struct LedgerAccounts {
    /// Of all of them.
    #[schema(example = "EUR")]
    pub currency: String,
    /// Each account, once.
    pub accounts: Vec<LedgerAccount>,
    /// What became of gifts.
    pub gifts: Gifts,
}

/// What became of a festival's gifts. They are money like any other at the bar, and the festival's own expense: nobody has
/// paid them in, and they are never paid out.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Gifts {
    /// What was given, less what corrections took back.
    #[schema(example = "500.00")]
    pub given: String,
    /// What was paid with it, less what was given back of that.
    #[schema(example = "420.00")]
    pub spent: String,
    /// What was left when the festival was over.
    #[schema(example = "0.00")]
    pub lapsed: String,
    /// What can still be spent.
    #[schema(example = "80.00")]
    pub left: String,
}

/// One account of the books.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LedgerAccount {
    /// Its name: `wallets`, `vendor/…`, `commission`, `till/…`, `desk/…`, `card/…`, `bank/…`, `gift/…`, `corrections`,
    /// `in_transit`.
    #[schema(example = "vendor/7")]
    pub account: String,
    /// Its name for people.
    #[schema(example = "Bar 7")]
    pub name: String,
    /// Positive: owed or earned. Negative: received or given away.
    #[schema(example = "1234.50")]
    pub balance: String,
    /// For a vendor: what was sold and given back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sales: Option<VendorSales>,
}

/// What a vendor has sold.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct VendorSales {
    /// What was sold.
    #[schema(example = "1500.00")]
    pub sold: String,
    /// How many payments.
    pub payments: u64,
    /// Of this, what was given back.
    #[schema(example = "25.50")]
    pub refunded: String,
    /// How many refunds.
    pub refunds: u64,
}

/// The trial balance of a festival's books.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrialBalance {
    /// Of all of them.
    #[schema(example = "EUR")]
    pub currency: String,
    /// Each account in its column.
    pub rows: Vec<TrialRow>,
    /// The sum of the column.
    #[schema(example = "1500.00")]
    pub debit: String,
    /// The sum of the column.
    #[schema(example = "1500.00")]
    pub credit: String,
    /// Both sums are the same. If not, money was made or lost: stop, and call support.
    pub balanced: bool,
}

/// A row of the trial balance.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrialRow {
    /// The account.
    #[schema(example = "till/1a2b3c4d-17")]
    pub account: String,
    /// Received or given away.
    #[schema(example = "1500.00")]
    pub debit: String,
    /// Owed or earned.
    #[schema(example = "0.00")]
    pub credit: String,
}

/// One account with its sum.
pub(in crate::http) struct Entry {
    pub(in crate::http) account: String,
    pub(in crate::http) name: String,
    pub(in crate::http) balance: i128,
    pub(in crate::http) vendor: Option<VendorSums>,
}

/// The accounts of these books, those without any posting left out but for vendors'.
pub(in crate::http) fn entries(cash: &CashlessView, ledger: &LedgerView) -> Vec<Entry> {
    let plain = |account: &str, name: &str, balance| Entry {
        account: account.to_owned(),
        name: name.to_owned(),
        balance,
        vendor: None,
    };
    let sums: BTreeMap<_, VendorSums> = ledger.vendors.iter().map(|sums| (sums.vendor, *sums)).collect();
    let vendors = cash.vendors.iter().map(|vendor| {
        let sums = sums.get(&vendor.no).copied().unwrap_or(VendorSums { vendor: vendor.no, ..VendorSums::default() });
        Entry {
            account: format!("vendor/{}", vendor.no.0),
            name: vendor.values.name.clone(),
            balance: sums.payable,
            vendor: Some(sums),
        }
    });
    // A row an account: money that a correction gave back has come from the corrections, wherever it goes.
    let mut corrections = ledger.corrections;
    let mut sources: BTreeMap<String, i128> = BTreeMap::new();
    for (source, sum) in &ledger.sources {
        match source.kind {
            SourceKind::Correction => corrections += sum,
            _ => *sources.entry(source_account(*source)).or_default() += sum,
        }
    }
    let sources =
        sources.into_iter().map(|(account, balance)| Entry { name: account.clone(), account, balance, vendor: None });
    let mut all = vec![plain("wallets", "Wallets", ledger.wallets)];
    all.extend(vendors);
    all.push(plain("commission", "Commission", ledger.commission));
    all.extend(sources);
    all.push(plain("corrections", "Corrections", corrections));
    all.push(plain("in_transit", "Transfers under way", ledger.in_transit));
    all
}

/// A festival's books, all shards together.
///
/// # Errors
/// `not_cashless`.
pub(in crate::http) async fn books_of(state: &AppState, festival: FestivalId) -> Result<Box<LedgerView>, Problem> {
    let ledger = state.get(GetLedger(festival)).await?;
    Ok(ledger)
}

/// Shows each account of a festival's books with its balance now.
#[utoipa::path(get, path = "/ledger/{slug}/accounts", tag = "ledger", params(("slug" = String, Path)),
    responses((status = 200, body = LedgerAccounts)))]
async fn ledger_accounts(
    State(state): State<AppState>,
    operator: Operator,
    Path(slug): Path<String>,
) -> Result<Json<LedgerAccounts>, Problem> {
    let festival = operator.at(&slug)?;
    let (cash, ledger) = (cash_of(&state, &slug).await?, books_of(&state, festival).await?);
    let currency = cash.policy.currency;
    let text = |minor: i128| currency.text(minor);
    let accounts = entries(&cash, &ledger).into_iter().map(|entry| LedgerAccount {
        account: entry.account,
        name: entry.name,
        balance: text(entry.balance),
        sales: entry.vendor.map(|sums| VendorSales {
            sold: text(sums.sold),
            payments: sums.payments,
            refunded: text(sums.refunded),
            refunds: sums.refunds,
        }),
    });
    let gifts = Gifts {
        given: text(ledger.gifts.given),
        spent: text(ledger.gifts.spent),
        lapsed: text(ledger.gifts.lapsed),
        left: text(ledger.gifts.left()),
    };
    Ok(Json(LedgerAccounts { currency: currency.as_str().to_owned(), accounts: accounts.collect(), gifts }))
}

/// Adds a festival's books up.
#[utoipa::path(get, path = "/ledger/{slug}/trial-balance", tag = "ledger", params(("slug" = String, Path)),
    responses((status = 200, body = TrialBalance)))]
async fn trial_balance(
    State(state): State<AppState>,
    operator: Operator,
    Path(slug): Path<String>,
) -> Result<Json<TrialBalance>, Problem> {
    let festival = operator.at(&slug)?;
    let (cash, ledger) = (cash_of(&state, &slug).await?, books_of(&state, festival).await?);
    let currency = cash.policy.currency;
    let text = |minor: i128| currency.text(minor);
    let (mut debit, mut credit) = (0_i128, 0_i128);
    let mut rows = Vec::new();
    for entry in entries(&cash, &ledger) {
        let (owed, received) = (entry.balance.max(0), (-entry.balance).max(0));
        (debit, credit) = (debit + received, credit + owed);
        rows.push(TrialRow { account: entry.account, debit: text(received), credit: text(owed) });
    }
    let (balanced, debit, credit) = (debit == credit, text(debit), text(credit));
    let currency = currency.as_str().to_owned();
    Ok(Json(TrialBalance { currency, rows, debit, credit, balanced }))
}
