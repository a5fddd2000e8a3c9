//! Wristbands: sold with a wallet, linked to one, replaced, reported lost.

use axum::extract::State;
use engine::cashless::command::CashlessAction;
use engine::command::AdminAction;
use engine::command::ask::SellWallet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::Right;
use crate::http::cashless::{wallet_for, wallet_in_path};
use crate::http::gates::tickets::tag_at;
use crate::http::kit::answer::{Created, Done};
use crate::http::kit::problem::Problem;
use crate::http::kit::request::{Change, Nothing, Path};
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new()
        .with(Right::ServeWallets, routes!(sell_wallet))
        .with(Right::ServeWallets, routes!(link_tag))
        .with(Right::ServeWallets, routes!(report_lost))
}

/// A wallet that is sold with a wristband.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWallet {
    /// Which festival issues it.
    #[schema(example = "tomorrow-2027")]
    pub festival: String,
    /// The tag's UID in hexadecimal: 4, 7 or 10 bytes.
    #[schema(example = "04a1b2c3d4e5f6")]
    pub tag: String,
}

/// The wallet that was made.
#[derive(Debug, Serialize, ToSchema)]
pub struct SoldWallet {
    /// Its id.
    #[schema(format = Uuid)]
    pub wallet: String,
}

/// Which wristband.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WalletTag {
    /// The tag's UID in hexadecimal: 4, 7 or 10 bytes.
    #[schema(example = "04a1b2c3d4e5f6")]
    pub tag: String,
    /// It takes the place of the one that the wallet has; else a wallet that has one answers `already_tagged`.
    #[serde(default)]
    pub replace: bool,
}

/// Makes a wallet that belongs to nobody yet, with a wristband: sold at a cash desk, claimed by an account later.
#[utoipa::path(post, path = "/cashless/wallets", tag = "cashless", request_body = NewWallet,
    responses((status = 201, description = "It was made.", body = SoldWallet)))]
async fn sell_wallet(State(state): State<AppState>, change: Change<NewWallet>) -> Result<Created<SoldWallet>, Problem> {
    change.operator.may()?;
    let body = change.body.read()?;
    let festival = change.operator.at(&body.festival)?;
    let tag = tag_at(&body.tag, "/tag")?;
    let wallet = state.one_time.wallet(&change.key);
    let sell = SellWallet { tag, wallet, festival };
    let (wallet, replayed) = state.ask_for(&change.operator, change.key, sell).await?;
    let wallet = wallet.to_string();
    Ok(Created { location: format!("/api/v1/cashless/account?wallet={wallet}"), body: SoldWallet { wallet }, replayed })
}

/// Links a wristband to a wallet, in place of the one it has if told so. If that one names a ticket, the ticket has the new
/// one too.
#[utoipa::path(post, path = "/cashless/wallets/{wallet}/tag", tag = "cashless",
    params(("wallet" = String, Path, format = Uuid)), request_body = WalletTag,
    responses((status = 204, description = "It is so.")))]
async fn link_tag(
    State(state): State<AppState>,
    Path(wallet): Path<String>,
    change: Change<WalletTag>,
) -> Result<Done, Problem> {
    let wallet = wallet_in_path(&wallet)?;
    let festival = wallet_for(&state, &change.operator, wallet).await?.issuer;
    let WalletTag { tag, replace } = change.body.read()?;
    let tag = tag_at(&tag, "/tag")?;
    let action = CashlessAction::LinkTag { tag, wallet, festival, replace, create: false };
    state.ask_done(&change.operator, Some(change.key), AdminAction::Cashless(action)).await
}

/// Reports a wallet's wristband lost: from now on it pays at no stand, opens no gate, and cannot be given to anybody again.
/// Link another one to the wallet; a ticket that the lost one names gets it too.
#[utoipa::path(post, path = "/cashless/wallets/{wallet}/tag/lost", tag = "cashless",
    params(("wallet" = String, Path, format = Uuid)), responses((status = 204, description = "It is so.")))]
async fn report_lost(
    State(state): State<AppState>,
    Path(wallet): Path<String>,
    change: Change<Nothing>,
) -> Result<Done, Problem> {
    let wallet = wallet_in_path(&wallet)?;
    wallet_for(&state, &change.operator, wallet).await?;
    change.body.read()?;
    let action = AdminAction::Cashless(CashlessAction::ReportLost { wallet });
    state.ask_done(&change.operator, Some(change.key), action).await
}
