//! A person's money: their wallets found, one made for them, one given to them.

use actors::resolve::Link;
use axum::Json;
use axum::extract::State;
use engine::cashless::command::{CashlessAction, Source, SourceKind};
use engine::cashless::view::WalletView;
use engine::command::{AdminAction, IdempotencyKey};
use engine::model::ids::{FestivalId, TagUid, WalletId};
use engine::model::money::Currency;
use engine::model::rejection::Rejection;
use engine::view::question::{GetCashlessPolicy, GetTag, GetWallet, GetWalletsOf};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::auth::{Operator, Right};
use crate::http::cashless::sources::source_account;
use crate::http::cashless::{account_at, wallet_at, wallet_for, wallet_in_path};
use crate::http::gates::tickets::{tag_at, tag_text};
use crate::http::kit::answer::{Changed, Done, unexpected_answer};
use crate::http::kit::problem::{Fault, Problem};
use crate::http::kit::request::{Change, Path, Query as QueryString, first};
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new()
        .with(Right::ServeWallets, routes!(cashless_account, make_account))
        .with(Right::MoveMoney, routes!(merge_account))
        .with(Right::ServeWallets, routes!(claim_wallet))
}

/// Whose wallet: exactly one of `wallet`, `tag`, `account`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AccountQuery {
    /// The wallet's id.
    #[param(format = Uuid)]
    pub wallet: Option<String>,
    /// The wristband's UID in hexadecimal.
    #[param(example = "04a1b2c3d4e5f6")]
    pub tag: Option<String>,
    /// The person's account: the wallet that it has claimed, or was given.
    #[param(format = Uuid)]
    pub account: Option<String>,
    /// At which festival. For an account: only what this festival has issued.
    #[param(example = "tomorrow-2027")]
    pub festival: Option<String>,
}

/// A wallet, with the others of the same account.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundAccount {
    /// The wallet: of several the one with a wristband, else one that was claimed.
    #[serde(flatten)]
    pub first: Account,
    /// All wallets of the account, this one first, where there are several and they were asked for by the account.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wallets: Vec<Account>,
}

/// A wallet.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Its id.
    #[schema(format = Uuid)]
    pub wallet: String,
    /// Whose it is; `null` for one that was sold with a wristband and not claimed yet.
    #[schema(format = Uuid)]
    pub account: Option<String>,
    /// The number of the festival that issued it.
    #[schema(example = "1a2b3c4d")]
    pub issuer: String,
    /// What can be spent.
    #[schema(example = "37.50")]
    pub balance: String,
    /// What is on its way to other wallets.
    #[schema(example = "0.00")]
    pub reserved: String,
    /// Of all its money.
    #[schema(example = "EUR")]
    pub currency: String,
    /// Blocked.
    pub blocked: bool,
    /// Its wristband's UID in hexadecimal.
    #[schema(example = "04a1b2c3d4e5f6")]
    pub nfc_tag_id: Option<String>,
    /// The wristband was reported lost.
    pub tag_lost: bool,
    /// How many transactions it has had.
    pub transactions: u32,
    /// Of the balance what was given, and is not paid out.
    #[schema(example = "0.00")]
    pub gift: String,
    /// Where its money came from, oldest first: what is left goes back there.
    pub sources: Vec<Lot>,
}

/// A part of a wallet's money.
#[derive(Debug, Serialize, ToSchema)]
pub struct Lot {
    /// The source's account in the books.
    #[schema(example = "till/1a2b3c4d-17")]
    pub source: String,
    /// For a card or a bank transfer the number of the payment, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment: Option<String>,
    /// How much.
    #[schema(example = "20.00")]
    pub amount: String,
}

impl Lot {
    pub(in crate::http) fn of(lot: &engine::cashless::event::Lot, currency: Currency) -> Self {
        let Source { kind, number, .. } = lot.source;
        let payment = matches!(kind, SourceKind::Card | SourceKind::Bank) && number != Source::SEVERAL;
        Self {
            source: source_account(lot.source),
            payment: payment.then(|| number.to_string()),
            amount: currency.text(lot.amount),
        }
    }
}

impl From<&WalletView> for Account {
    fn from(view: &WalletView) -> Self {
        Self {
            wallet: view.id.to_string(),
            account: view.account.map(|account| uuid::Uuid::from_u128(account).to_string()),
            issuer: view.issuer.to_string(),
            balance: view.currency.text(view.available),
            reserved: view.currency.text(view.reserved),
            currency: view.currency.as_str().to_owned(),
            blocked: view.blocked,
            nfc_tag_id: view.tag.map(|(tag, _)| tag_text(tag)),
            tag_lost: view.tag_lost,
            transactions: view.transactions,
            gift: {
                let gifts = view.lots.iter().filter(|lot| lot.source.is_gift());
                view.currency.text(gifts.map(|lot| lot.amount).sum::<i64>())
            },
            sources: view.lots.iter().map(|lot| Lot::of(lot, view.currency)).collect(),
        }
    }
}

/// A query's fields are no JSON: their problems are the query's.
fn of_query(problem: Problem) -> Problem {
    match problem.errors() {
        [] => problem,
        [field, ..] => {
            let detail = format!("{} {}.", field.pointer.trim_start_matches('/'), field.detail);
            Problem::from(Fault::InvalidQuery).detail(detail)
        }
    }
}

/// Shows a wallet. For an account all of its wallets are found that the festivals of your key have issued; nothing is made.
#[utoipa::path(get, path = "/cashless/account", tag = "cashless", params(AccountQuery),
    responses((status = 200, body = FoundAccount)))]
async fn cashless_account(
    State(state): State<AppState>,
    operator: Operator,
    QueryString(query): QueryString<AccountQuery>,
) -> Result<Json<FoundAccount>, Problem> {
    operator.may()?;
    let festival = query.festival.as_deref().map(|slug| operator.at(slug)).transpose()?;
    let one = "Name exactly one of wallet, tag, account.";
    let (wallet, unknown) = match (&query.wallet, &query.tag, &query.account) {
        (Some(wallet), None, None) => (wallet_at(wallet, "/wallet").map_err(of_query)?, Rejection::UnknownWallet),
        (None, Some(tag), None) => {
            let tag = tag_at(tag, "/tag").map_err(of_query)?;
            (named_by(&state, &operator, tag, festival).await?, Rejection::UnknownTag)
        }
        (None, None, Some(account)) => {
            let account = account_at(account, "/account").map_err(of_query)?;
            let found = wallets_of(&state, &operator, account, festival).await?;
            let first = Account::from(found.first().ok_or(Rejection::UnknownWallet)?);
            let several = if found.len() > 1 { &found[..] } else { &[] };
            return Ok(Json(FoundAccount { first, wallets: several.iter().map(Account::from).collect() }));
        }
        _ => return Err(Problem::from(Fault::InvalidQuery).detail(one)),
    };
    let view = state.get(GetWallet(wallet)).await?;
    if operator.sees(view.issuer) || is_taken_at(&state, festival).await? {
        return Ok(Json(FoundAccount { first: Account::from(&view), wallets: Vec::new() }));
    }
    Err(unknown.into())
}

/// For whom a wallet is made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// The person's account.
    #[schema(format = Uuid)]
    pub account: String,
    /// Which festival issues the wallet.
    #[schema(example = "tomorrow-2027")]
    pub festival: String,
}

/// Makes an account's wallet at a festival, if it has none there yet, and shows it. An account has a wallet for each
/// issuer; one that was sold with a wristband and claimed is the account's, so no other is made beside it.
#[utoipa::path(put, path = "/cashless/account", tag = "cashless", request_body = NewAccount,
    responses((status = 200, body = Account)))]
async fn make_account(State(state): State<AppState>, change: Change<NewAccount>) -> Result<Changed<Account>, Problem> {
    change.operator.may()?;
    let NewAccount { account, festival } = change.body.read()?;
    let festival = change.operator.at(&festival)?;
    let account = account_at(&account, "/account")?;
    if let Some(view) = wallets_of(&state, &change.operator, account, Some(festival)).await?.first() {
        return Ok(Changed { body: view.into(), replayed: false });
    }
    let wallet = WalletId::of_account(account, festival);
    let action = CashlessAction::CreateWallet { wallet, festival, account: Some(account) };
    let (_, replayed) = state.ask(&change.operator, Some(change.key), AdminAction::Cashless(action)).await?;
    let view = state.get(GetWallet(wallet)).await?;
    Ok(Changed { body: Account::from(&view), replayed })
}

/// Merges an account's wallets at a festival: all that is in those without a wristband goes into the one that
/// `GET /cashless/account` shows first, whatever that may hold. A wallet with a wristband of its own stays as it is: it may
/// be a child's. Answers with the wallet; sent again, what was left is merged.
#[utoipa::path(post, path = "/cashless/account/merge", tag = "cashless", request_body = NewAccount,
    responses((status = 200, body = FoundAccount)))]
async fn merge_account(
    State(state): State<AppState>,
    change: Change<NewAccount>,
) -> Result<Changed<FoundAccount>, Problem> {
    change.operator.may()?;
    let NewAccount { account, festival } = change.body.read()?;
    let festival = change.operator.at(&festival)?;
    let account = account_at(&account, "/account")?;
    let found = wallets_of(&state, &change.operator, account, Some(festival)).await?;
    let into = found.first().ok_or(Rejection::UnknownWallet)?.id;
    for other in found.iter().skip(1).filter(|other| !is_worn(other) && other.available > 0) {
        let key = part_of(change.key, other.id);
        let action = AdminAction::Cashless(CashlessAction::Merge { from: other.id, into, festival });
        match state.ask(&change.operator, Some(key), action).await {
            // Somebody has spent or merged it meanwhile.
            Err(problem) if problem.code() == Rejection::NothingLeft.code() => {}
            asked => drop(asked?),
        }
    }
    let found = wallets_of(&state, &change.operator, account, Some(festival)).await?;
    let one = found.iter().find(|wallet| wallet.id == into).ok_or_else(unexpected_answer)?;
    let several = if found.len() > 1 { &found[..] } else { &[] };
    let body = FoundAccount { first: one.into(), wallets: several.iter().map(Account::from).collect() };
    Ok(Changed { body, replayed: false })
}

/// The id of the part of a call that is about this wallet.
fn part_of(key: IdempotencyKey, wallet: WalletId) -> IdempotencyKey {
    let digest = Sha256::new_with_prefix(b"tapgate.merge.v1")
        .chain_update(key.id.to_be_bytes())
        .chain_update(wallet.0.to_be_bytes())
        .finalize();
    IdempotencyKey { id: u128::from_be_bytes(first(&digest)), ..key }
}

/// Whether a wallet has a wristband that can be tapped.
fn is_worn(view: &WalletView) -> bool {
    view.tag.is_some() && !view.tag_lost
}

/// The wallet that a wristband names. What another organiser's names, or that it was lost, is for nobody else.
async fn named_by(
    state: &AppState,
    operator: &Operator,
    tag: TagUid,
    festival: Option<FestivalId>,
) -> Result<WalletId, Problem> {
    let view = state.get(GetTag(tag)).await?;
    let seen = view.festival.is_some_and(|festival| operator.sees(festival));
    match Link::of(&view) {
        Ok(link) => Ok(link.wallet),
        Err(Rejection::TagLost) if !seen && !is_taken_at(state, festival).await? => Err(Rejection::UnknownTag.into()),
        Err(rejection) => Err(rejection.into()),
    }
}

/// An account's wallets that the operator sees, or those of one festival: first what has a wristband, then what was
/// claimed.
async fn wallets_of(
    state: &AppState,
    operator: &Operator,
    account: u128,
    festival: Option<FestivalId>,
) -> Result<Vec<WalletView>, Problem> {
    let mut found = state.get(GetWalletsOf(account)).await?;
    found.retain(|view| operator.sees(view.issuer) && festival.is_none_or(|festival| view.issuer == festival));
    found.sort_by_key(|view| {
        let claimed = view.id != WalletId::of_account(account, view.issuer);
        (!is_worn(view), !claimed, view.id)
    });
    Ok(found)
}

/// Whether a festival takes other festivals' wallets.
async fn is_taken_at(state: &AppState, festival: Option<FestivalId>) -> Result<bool, Problem> {
    let Some(festival) = festival else { return Ok(false) };
    match state.node.get(GetCashlessPolicy(festival)).await {
        Ok(policy) => Ok(policy.foreign_wallets),
        Err(Rejection::NotCashless) => Ok(false),
        Err(rejection) => Err(rejection.into()),
    }
}

/// To whom a wallet is given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimedBy {
    /// The person's account.
    #[schema(format = Uuid)]
    pub account: String,
}

/// Gives a wallet that was sold with a wristband to an account.
#[utoipa::path(post, path = "/cashless/wallets/{wallet}/claim", tag = "cashless",
    params(("wallet" = String, Path, format = Uuid)), request_body = ClaimedBy,
    responses((status = 204, description = "It is so.")))]
async fn claim_wallet(
    State(state): State<AppState>,
    Path(wallet): Path<String>,
    change: Change<ClaimedBy>,
) -> Result<Done, Problem> {
    let wallet = wallet_in_path(&wallet)?;
    wallet_for(&state, &change.operator, wallet).await?;
    let account = account_at(&change.body.read()?.account, "/account")?;
    let action = AdminAction::Cashless(CashlessAction::Claim { wallet, account });
    state.ask_done(&change.operator, Some(change.key), action).await
}
