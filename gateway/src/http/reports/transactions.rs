//! What has happened to money: a festival's transactions by type and time, by vendor or terminal; one of them; a wallet's
//! history. Newest first, a moment behind.

use std::cmp::Reverse;

use axum::Json;
use axum::extract::State;
use engine::cashless::event::{SoldLine, TransactionKind};
use engine::model::ids::{DeviceId, FestivalId, TransactionId, VendorNo};
use engine::model::money::Currency;
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use serde::{Deserialize, Serialize};
use storage::views::cashless::{CashlessPosition, CashlessViews, Only, TransactionRow, Transactions, TransactionsOf};
use storage::views::{Page as ViewsPage, Span};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::auth::{Operator, Right};
use crate::http::cashless::account::Lot;
use crate::http::cashless::vendors::vendor_id;
use crate::http::cashless::{wallet_for, wallet_in_path};
use crate::http::kit::answer::{Page, PageQuery};
use crate::http::kit::json::{Moment, money, span};
use crate::http::kit::problem::{Fault, Problem};
use crate::http::kit::request::{Path, Query as QueryString};
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;
use crate::read_models::ReadError;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new()
        .with(Right::MoveMoney, routes!(list_transactions))
        .with(Right::MoveMoney, routes!(show_transaction))
        .with(Right::ServeWallets, routes!(wallet_history))
}

/// What kind of transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum TransactionType {
    /// Money came in.
    Topup,
    /// A vendor was paid.
    Payment,
    /// A payment was given back, or what was left was paid out.
    Refund,
    /// From one wallet to another, each side by itself, and what came back.
    Transfer,
    /// An operator corrected a balance or gave something, or what was given has lapsed.
    Correction,
}

impl TransactionType {
    fn of(kind: TransactionKind) -> Self {
        match kind {
            TransactionKind::TopUp => Self::Topup,
            TransactionKind::Payment => Self::Payment,
            TransactionKind::Refund | TransactionKind::CashOut => Self::Refund,
            TransactionKind::TransferOut | TransactionKind::TransferIn | TransactionKind::TransferBack => {
                Self::Transfer
            }
            TransactionKind::Correction | TransactionKind::Lapse => Self::Correction,
        }
    }

    fn kinds(self) -> Vec<Only> {
        let kinds = TransactionKind::ALL.iter().copied().filter(|kind| Self::of(*kind) == self);
        kinds.map(Only::Kind).collect()
    }
}

/// A transaction's kind, finer than its type.
pub(in crate::http) fn kind_word(kind: TransactionKind) -> &'static str {
    match kind {
        TransactionKind::TopUp => "topup",
        TransactionKind::Payment => "payment",
        TransactionKind::Refund => "refund",
        TransactionKind::TransferOut => "transfer_out",
        TransactionKind::TransferIn => "transfer_in",
        TransactionKind::TransferBack => "transfer_back",
        TransactionKind::Correction => "correction",
        TransactionKind::CashOut => "cash_out",
        TransactionKind::Lapse => "gift_lapsed",
    }
}

/// A transaction, or what was refused.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transaction {
    /// Its id; `null`: it was refused and nothing moved.
    #[schema(format = Uuid)]
    pub transaction_id: Option<String>,
    /// When it was decided.
    pub at: Moment,
    /// What it is, or would have been.
    #[serde(rename = "type")]
    pub kind_type: TransactionType,
    /// More exactly: `topup`, `payment`, `refund`, `cash_out`, `transfer_out`, `transfer_in`, `transfer_back`,
    /// `correction`, `gift_lapsed`.
    #[schema(example = "payment")]
    pub kind: &'static str,
    /// Why it was refused; for a transfer that came back, why the other side would not have it.
    #[schema(example = "insufficient_funds")]
    pub code: Option<&'static str>,
    /// That, said aloud.
    pub say: Option<&'static str>,
    /// Where it happened: the festival's number.
    #[schema(example = "1a2b3c4d")]
    pub festival: String,
    /// Whose.
    #[schema(format = Uuid)]
    pub wallet: String,
    /// For a transfer the other wallet.
    #[schema(format = Uuid)]
    pub other_wallet: Option<String>,
    /// How much, as decimal text; negative for a correction downwards only.
    #[schema(example = "12.50")]
    pub amount: String,
    /// ISO 4217.
    #[schema(example = "EUR")]
    pub currency: String,
    /// Available in the wallet before.
    #[schema(example = "50.00")]
    pub balance_before: String,
    /// Available afterwards.
    #[schema(example = "37.50")]
    pub balance_after: String,
    /// The wallet holds more than the festival allows: the money had been taken already.
    pub over_limit: bool,
    /// Who was paid or gave back. As all that follows, `null` where it happened at a festival that you do not see.
    #[schema(example = "1a2b3c4d-7")]
    pub vendor_id: Option<String>,
    /// The vendor's number for a payment.
    pub order: Option<u32>,
    /// The terminal that asked.
    #[schema(example = "1a2b3c4d-17")]
    pub device_id: Option<String>,
    /// The number of its command: by this the terminal names what it has no answer to.
    pub device_seq: Option<u64>,
    /// The number of the operator's key that asked.
    pub operator: Option<u32>,
    /// For a refund the payment.
    #[schema(format = Uuid)]
    pub refund_of: Option<String>,
    /// For a payment what was given back of it until now.
    #[schema(example = "0.00")]
    pub refunded: Option<String>,
    /// For a payment what was sold; empty for a bare amount.
    pub lines: Vec<SaleLine>,
    /// The parts of the wallet's money that came or went, with where they came from.
    pub sources: Vec<Lot>,
    /// For a correction why.
    pub reason: Option<String>,
}

/// One line of a payment.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SaleLine {
    /// The number of the vendor's product.
    pub product: u16,
    /// How many.
    pub count: u16,
    /// What each cost.
    #[schema(example = "6.25")]
    pub price: String,
    /// The VAT in that, in per cent.
    #[schema(example = "19.00")]
    pub vat_rate: String,
}

impl SaleLine {
    fn of(line: &SoldLine, currency: Currency) -> Self {
        Self {
            product: line.product.0,
            count: line.count,
            price: currency.text(line.price),
            vat_rate: money::percent(line.vat_bp),
        }
    }
}

impl Transaction {
    /// What this operator may see of it, who may see the wallet or the festival.
    pub(in crate::http) fn seen_by(operator: &Operator, row: TransactionRow) -> Self {
        let here = operator.sees(row.festival);
        let at = |vendor: VendorNo| vendor_id(row.festival, vendor);
        // Whether the other side was another organiser's is told no more than when it was asked.
        let came_back = row.kind == TransactionKind::TransferBack && !operator.sees_all();
        let rejection = match row.rejection {
            Some(Rejection::ForeignWallet) if came_back => Some(Rejection::UnknownWallet),
            rejection => rejection,
        };
        let currency = row.currency;
        let text = |minor: i64| currency.text(minor);
        let is_payment = row.kind == TransactionKind::Payment && row.id.is_some();
        Self {
            transaction_id: row.id.map(|id| id.to_string()),
            at: Moment(row.position.at),
            kind_type: TransactionType::of(row.kind),
            kind: kind_word(row.kind),
            code: rejection.map(Rejection::code),
            say: rejection.map(Rejection::sentence),
            festival: row.festival.to_string(),
            wallet: row.wallet.to_string(),
            other_wallet: row.other.map(|other| other.to_string()),
            amount: text(row.amount),
            currency: row.currency.as_str().to_owned(),
            balance_before: text(row.before),
            balance_after: text(row.after),
            over_limit: row.flags & engine::cashless::command::OVER_LIMIT != 0,
            vendor_id: row.vendor.filter(|_| here).map(at),
            order: row.order.filter(|_| here),
            device_id: row.terminal.filter(|_| here).map(|device| device.to_string()),
            device_seq: row.asked.filter(|_| here),
            operator: row.by.filter(|_| here).and_then(Principal::key_number),
            refund_of: row.refund_of.filter(|_| here).map(|id| id.to_string()),
            refunded: (is_payment && here).then(|| text(row.refunded)),
            lines: if here { row.lines.iter().map(|line| SaleLine::of(line, currency)).collect() } else { Vec::new() },
            sources: if here { row.lots.iter().map(|lot| Lot::of(lot, currency)).collect() } else { Vec::new() },
            reason: Some(row.reason).filter(|reason| here && !reason.is_empty()),
        }
    }
}

/// Which of a festival's transactions.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct TransactionsQuery {
    /// Only these.
    pub r#type: Option<TransactionType>,
    /// Instead of what moved money what terminals asked and were refused.
    #[serde(default)]
    pub refused: bool,
    /// Only this vendor's, by number. Not together with `device` or `refused`.
    pub vendor: Option<u16>,
    /// Only what this terminal asked.
    #[param(example = "1a2b3c4d-17")]
    pub device: Option<String>,
    /// From when; the beginning unless told.
    pub from: Option<Moment>,
    /// Until before when; now unless told.
    pub to: Option<Moment>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// How many rows, 1 to 1,000; 100 unless told.
    pub limit: Option<u32>,
}

/// Rows of several kinds in one order, newest first: each kind has a way of its own.
fn newest(
    views: &dyn CashlessViews,
    of: TransactionsOf,
    kinds: &[Only],
    span: Span,
    after: Option<CashlessPosition>,
    limit: usize,
) -> Result<Vec<TransactionRow>, ReadError> {
    let mut rows = Vec::new();
    for &only in kinds {
        let page = ViewsPage { after, limit, backwards: true };
        rows.extend(views.transactions(Transactions { of, only, span }, page)?);
    }
    rows.sort_by_key(|row| Reverse(row.position));
    rows.truncate(limit);
    Ok(rows)
}

/// Lists a festival's transactions, newest first.
#[utoipa::path(get, path = "/festivals/{slug}/transactions", tag = "cashless",
    params(("slug" = String, Path), TransactionsQuery), responses((status = 200, body = Page<Transaction>)))]
async fn list_transactions(
    State(state): State<AppState>,
    operator: Operator,
    Path(slug): Path<String>,
    QueryString(query): QueryString<TransactionsQuery>,
) -> Result<Json<Page<Transaction>>, Problem> {
    let festival = operator.at(&slug)?;
    let of = match (query.vendor, &query.device) {
        (None, None) => TransactionsOf::Festival(festival),
        (Some(vendor), None) if !query.refused => TransactionsOf::Vendor(festival, VendorNo(vendor)),
        (None, Some(device)) => {
            let device = DeviceId::parse(device).filter(|device| device.festival() == festival);
            TransactionsOf::Terminal(device.ok_or(Rejection::UnknownDevice)?)
        }
        _ => return Err(Fault::InvalidQuery.into()),
    };
    let kinds = match (query.r#type, query.refused) {
        (None, false) => vec![Only::Moved],
        (None, true) => vec![Only::Refused],
        (Some(kind), false) => kind.kinds(),
        (Some(_), true) => return Err(Problem::from(Fault::InvalidQuery).detail("Either type or refused.")),
    };
    let span = span(query.from, query.to)?;
    let page = PageQuery { cursor: query.cursor, limit: query.limit };
    let (after, limit) = (page.after()?, page.limit()?);
    let rows = state.read(move |models| newest(&*models.cashless()?, of, &kinds, span, after, limit + 1)).await?;
    Ok(Json(Page::of(rows, limit, |row| row.position, |row| Transaction::seen_by(&operator, row))))
}

/// Shows one transaction; for a payment with what was given back of it until now.
#[utoipa::path(get, path = "/cashless/transactions/{transaction}", tag = "cashless",
    params(("transaction" = String, Path, format = Uuid)), responses((status = 200, body = Transaction)))]
async fn show_transaction(
    State(state): State<AppState>,
    operator: Operator,
    Path(transaction): Path<String>,
) -> Result<Json<Transaction>, Problem> {
    let uuid = uuid::Uuid::try_parse(&transaction)
        .map_err(|_| Problem::from(Fault::InvalidPath).detail("A transaction's id is a UUID."))?;
    let id = TransactionId::from_u128(uuid.as_u128()).ok_or(Rejection::UnknownTransaction)?;
    let row = state.read(move |models| Ok(models.cashless()?.transaction(id)?)).await?;
    let row = row.ok_or(Rejection::UnknownTransaction)?;
    operator.within(row.festival, Rejection::UnknownTransaction)?;
    Ok(Json(Transaction::seen_by(&operator, row)))
}

/// Which part of a wallet's history.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    /// Only what happened at this festival. For another festival's wallet this is needed, and is all there is to see.
    pub festival: Option<String>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// How many rows, 1 to 1,000; 100 unless told.
    pub limit: Option<u32>,
}

/// Lists what happened to a wallet, newest first, what terminals were refused too.
#[utoipa::path(get, path = "/cashless/wallets/{wallet}/history", tag = "cashless",
    params(("wallet" = String, Path, format = Uuid), HistoryQuery),
    responses((status = 200, body = Page<Transaction>)))]
async fn wallet_history(
    State(state): State<AppState>,
    operator: Operator,
    Path(wallet): Path<String>,
    QueryString(query): QueryString<HistoryQuery>,
) -> Result<Json<Page<Transaction>>, Problem> {
    let wallet = wallet_in_path(&wallet)?;
    let festival: Option<FestivalId> = query.festival.as_deref().map(|slug| operator.at(slug)).transpose()?;
    let known = wallet_for(&state, &operator, wallet).await;
    let is_own = match (known, festival) {
        (Ok(_), _) => true,
        // Another's, or none: what happened here tells which.
        (Err(problem), Some(_)) if problem.code() == Rejection::UnknownWallet.code() => false,
        (Err(problem), _) => return Err(problem),
    };
    let page = PageQuery { cursor: query.cursor, limit: query.limit };
    let (after, limit) = (page.after()?, page.limit()?);
    let of = TransactionsOf::Wallet(wallet, festival);
    let all = [Only::Everything];
    let rows = state.read(move |models| newest(&*models.cashless()?, of, &all, Span::ALWAYS, after, limit + 1)).await?;
    if !is_own && rows.is_empty() {
        return Err(Rejection::UnknownWallet.into());
    }
    Ok(Json(Page::of(rows, limit, |row| row.position, |row| Transaction::seen_by(&operator, row))))
}
