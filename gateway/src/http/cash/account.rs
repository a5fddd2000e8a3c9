//! One wallet: found, or made for an account; given to an account.

use axum::Json;
use axum::extract::State;
use engine::command::{CashAction, OfficeAction, OfficeAnswer};
use engine::ids::{FestivalId, TagUid, WalletId};
use engine::money::Currency;
use engine::rejection::Rejection;
use engine::view::{Query, TagState, View, WalletView};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{account_at, wallet_at, wallet_in_path};
use crate::auth::{Operator, Right};
use crate::http::AppState;
use crate::http::answer::{Done, odd};
use crate::http::problem::{Fault, Problem};
use crate::http::request::{Change, Path, Query as QueryString};
use crate::http::tickets::tag_at;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(cashless_account)).routes(routes!(claim_wallet))
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
    /// The person's account. Its wallet is made if there is none, and issued by `festival`.
    #[param(format = Uuid)]
    pub account: Option<String>,
    /// At which festival. `account` needs it; with the others it may be left out.
    #[param(example = "tomorrow-2027")]
    pub festival: Option<String>,
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
    /// Where its money came from, oldest first: what is left goes back there.
    pub sources: Vec<Lot>,
}

/// A part of a wallet's money.
#[derive(Debug, Serialize, ToSchema)]
pub struct Lot {
    /// The source's account in the books.
    #[schema(example = "till/1a2b3c4d-17")]
    pub source: String,
    /// How much.
    #[schema(example = "20.00")]
    pub amount: String,
}

impl Lot {
    pub(super) fn of(lot: &engine::event::Lot, currency: Currency) -> Self {
        Self { source: super::ledger::source_account(lot.source), amount: currency.text(lot.amount) }
    }
}

/// A chip's UID as JSON spells it.
pub fn tag_text(tag: TagUid) -> String {
    tag.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
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

/// Shows a wallet. For an account it is found or made: a person has one wallet, whichever festival asks first issues it.
#[utoipa::path(get, path = "/cashless/account", tag = "cashless", params(AccountQuery),
    responses((status = 200, body = Account)))]
async fn cashless_account(
    State(state): State<AppState>,
    operator: Operator,
    QueryString(query): QueryString<AccountQuery>,
) -> Result<Json<Account>, Problem> {
    operator.anywhere(Right::ServeWallets)?;
    let festival = query.festival.as_deref().map(|slug| operator.at(Right::ServeWallets, slug)).transpose()?;
    let one = "Name exactly one of wallet, tag, account.";
    let (wallet, unknown) = match (&query.wallet, &query.tag, &query.account) {
        (Some(wallet), None, None) => (wallet_at(wallet, "/wallet").map_err(of_query)?, Rejection::UnknownWallet),
        (None, Some(tag), None) => {
            let tag = tag_at(tag, "/tag").map_err(of_query)?;
            (state.named_by(tag).await?, Rejection::UnknownTag)
        }
        (None, None, Some(account)) => {
            let account = account_at(account, "/account").map_err(of_query)?;
            let wanted = || Problem::from(Fault::InvalidQuery).detail("account needs a festival.");
            let wallet = state.find_or_make(&operator, account, festival.ok_or_else(wanted)?).await?;
            (wallet, Rejection::ForeignWallet)
        }
        _ => return Err(Problem::from(Fault::InvalidQuery).detail(one)),
    };
    let View::Wallet(view) = state.look(Query::Wallet(wallet)).await? else { return Err(odd()) };
    if operator.sees(view.issuer) || state.is_taken_at(festival).await? {
        return Ok(Json(Account::from(&view)));
    }
    Err(unknown.into())
}

impl AppState {
    /// The wallet that a wristband names.
    async fn named_by(&self, tag: TagUid) -> Result<WalletId, Problem> {
        let View::Tag(view) = self.look(Query::Tag(tag)).await? else { return Err(odd()) };
        match (view.state, view.wallet) {
            (TagState::Linked, Some(wallet)) => Ok(wallet),
            (TagState::Lost, _) => Err(Rejection::TagLost.into()),
            _ => Err(Rejection::UnknownTag.into()),
        }
    }

    /// An account's wallet. Asked again it is found: this needs no `Idempotency-Key`.
    async fn find_or_make(
        &self,
        operator: &Operator,
        account: u128,
        festival: FestivalId,
    ) -> Result<WalletId, Problem> {
        let wallet = WalletId::of_account(account);
        let action = CashAction::CreateWallet { wallet, festival, account: Some(account) };
        match self.ask(operator, None, OfficeAction::Cash(action)).await? {
            (OfficeAnswer::Wallet(wallet), _) => Ok(wallet),
            _ => Err(odd()),
        }
    }

    /// Whether a festival takes other festivals' wallets.
    async fn is_taken_at(&self, festival: Option<FestivalId>) -> Result<bool, Problem> {
        let Some(festival) = festival else { return Ok(false) };
        match self.node.query(Query::CashPolicy(festival)).await {
            View::CashPolicy(policy) => Ok(policy.foreign_wallets),
            View::No(Rejection::NotCashless) => Ok(false),
            View::No(rejection) => Err(rejection.into()),
            _ => Err(odd()),
        }
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
    state.wallet_for(&change.operator, Right::ServeWallets, wallet).await?;
    let account = account_at(&change.body.read()?.account, "/account")?;
    let action = OfficeAction::Cash(CashAction::Claim { wallet, account });
    state.ask_done(&change.operator, Some(change.key), action).await
}
