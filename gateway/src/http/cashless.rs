//! Cashless over HTTP: what staff do with wallets, and how a festival sets up its stands.
//!
//! Who names whom: every change names a wallet by its id, never by a wristband. A wristband can be moved, and the same
//! `Idempotency-Key` would then reach another wallet and happen twice; `GET /cashless/account?tag=…` says which wallet a
//! wristband names. A wallet for a person is found by the number of that person's account, which only whoever keeps the
//! accounts knows: people sign in here when accounts exist.
//!
//! Who sees what: a wallet is seen by the staff of the festival that issued it; to others it is unknown. Where a festival
//! takes other festivals' wallets, its staff can top them up and let them pay, as its terminals can, and no more. An
//! account has a wallet for each issuer, so that none keeps another from making theirs.

use engine::cashless::command::CashlessAction;
use engine::cashless::view::WalletView;
use engine::command::IdempotencyKey;
use engine::command::ask::{MoneyMoved, MoveMoney};
use engine::model::ids::{FestivalId, WalletId};
use engine::model::rejection::Rejection;
use engine::view::question::GetWallet;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Operator;
use crate::http::kit::answer::Changed;
use crate::http::kit::problem::{Fault, Problem};
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

pub mod account;
pub mod block;
pub mod bulk;
pub mod cash_out;
pub mod correction;
pub mod pay;
pub mod policy;
pub mod products;
pub mod qr;
pub mod refund;
pub mod sources;
pub mod tags;
pub mod terminals;
pub mod topup;
pub mod transfer;
pub mod vendors;

/// The routes of this folder, but for [`bulk`]'s, which may take minutes.
pub fn router() -> Routes {
    Routes::new()
        .merge(policy::router())
        .merge(vendors::router())
        .merge(products::router())
        .merge(terminals::router())
        .merge(account::router())
        .merge(topup::router())
        .merge(pay::router())
        .merge(refund::router())
        .merge(transfer::router())
        .merge(cash_out::router())
        .merge(correction::router())
        .merge(block::router())
        .merge(tags::router())
        .merge(qr::router())
}

/// Money has moved.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Moved)]
pub struct TransactionReceipt {
    /// The entry in the wallet's history; a refund names it.
    #[schema(format = Uuid)]
    pub transaction_id: String,
    /// The wallet.
    #[schema(format = Uuid)]
    pub wallet: String,
    /// How much it was.
    #[schema(example = "12.50")]
    pub amount: String,
    /// Of what.
    #[schema(example = "EUR")]
    pub currency: String,
    /// What was available in the wallet then.
    #[schema(example = "37.50")]
    pub balance: String,
    /// The wallet holds more than the festival allows: the money had been taken already.
    pub over_limit: bool,
    /// The vendor's number for a payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<u32>,
}

/// Asks for money to be moved.
///
/// # Errors
/// The engine's rejection; a wallet that the operator does not see is unknown, not another festival's.
pub(super) async fn move_money(
    state: &AppState,
    operator: &Operator,
    key: IdempotencyKey,
    action: CashlessAction,
) -> Result<Changed<TransactionReceipt>, Problem> {
    let named = wallets_of(&action);
    let asked = state.ask_for(operator, key, MoveMoney(action)).await;
    let (moved, replayed) = match asked {
        Err(problem) if problem.code() == Rejection::ForeignWallet.code() => {
            return Err(foreign(state, operator, named, problem).await);
        }
        asked => asked?,
    };
    let MoneyMoved { id, amount, balance, over_limit, order } = moved;
    let body = TransactionReceipt {
        transaction_id: id.to_string(),
        wallet: id.wallet.to_string(),
        amount: amount.currency.text(amount.minor),
        currency: amount.currency.as_str().to_owned(),
        balance: amount.currency.text(balance),
        over_limit,
        order: Some(order).filter(|order| *order > 0),
    };
    Ok(Changed { body, replayed })
}

/// That a wallet is another festival's is for those who see that festival.
async fn foreign(state: &AppState, operator: &Operator, named: [Option<WalletId>; 2], problem: Problem) -> Problem {
    for wallet in named.into_iter().flatten() {
        if let Ok(view) = state.node.get(GetWallet(wallet)).await
            && !operator.sees(view.issuer)
        {
            return Problem::from(Rejection::UnknownWallet).replayed(problem.is_replayed());
        }
    }
    problem
}

/// The wallet, if the operator may do this with the wallets of the festival that issued it.
///
/// # Errors
/// `unknown_wallet` if there is none or the operator does not see it, `forbidden`.
pub(super) async fn wallet_for(state: &AppState, operator: &Operator, wallet: WalletId) -> Result<WalletView, Problem> {
    let view = state.get(GetWallet(wallet)).await?;
    operator.within(view.issuer, Rejection::UnknownWallet)?;
    Ok(view)
}

/// The festival at which staff do something with a wallet of theirs: the one they name, or the wallet's own.
///
/// # Errors
/// As [`wallet_for`] and [`Operator::at`].
pub(super) async fn festival_for(
    state: &AppState,
    operator: &Operator,
    wallet: WalletId,
    named: Option<&str>,
) -> Result<FestivalId, Problem> {
    let issuer = wallet_for(state, operator, wallet).await?.issuer;
    named.map_or(Ok(issuer), |slug| Ok(operator.at(slug)?))
}

/// The wallets that a command names.
fn wallets_of(action: &CashlessAction) -> [Option<WalletId>; 2] {
    match action {
        CashlessAction::TopUp { wallet, .. }
        | CashlessAction::Pay { wallet, .. }
        | CashlessAction::Correct { wallet, .. }
        | CashlessAction::CashOut { wallet, .. } => [Some(*wallet), None],
        CashlessAction::Transfer { from, to, .. } => [Some(*from), Some(*to)],
        _ => [None, None],
    }
}

/// Reads a UUID out of a body, in any spelling.
fn uuid_at(text: &str, at: &str) -> Result<uuid::Uuid, Problem> {
    uuid::Uuid::try_parse(text).map_err(|_| Problem::field(at, "must be a UUID"))
}

/// Reads a wallet's id out of a body. `at` is its JSON pointer.
///
/// # Errors
/// `validation` if it is no UUID, `unknown_wallet` if it is none of ours.
pub fn wallet_at(text: &str, at: &str) -> Result<WalletId, Problem> {
    let uuid = uuid_at(text, at)?;
    WalletId::parse(uuid.to_string().as_bytes()).ok_or_else(|| Rejection::UnknownWallet.into())
}

/// Reads a wallet's id out of an address.
///
/// # Errors
/// `invalid_path` if it is no UUID, `unknown_wallet` if it is none of ours.
pub fn wallet_in_path(text: &str) -> Result<WalletId, Problem> {
    wallet_at(text, "").map_err(|problem| match problem.errors() {
        [] => problem,
        _ => Problem::from(Fault::InvalidPath).detail("A wallet's id is a UUID."),
    })
}

/// Reads an account's number out of a body or a query. `at` is its JSON pointer.
///
/// # Errors
/// `validation` if it is no UUID, or the one that stands for none.
pub fn account_at(text: &str, at: &str) -> Result<u128, Problem> {
    match uuid_at(text, at)?.as_u128() {
        0 => Err(Problem::field(at, "must not be the nil UUID")),
        account => Ok(account),
    }
}
