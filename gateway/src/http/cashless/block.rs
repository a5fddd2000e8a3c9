//! A wallet is blocked, and let go again.

use axum::extract::State;
use engine::cashless::command::CashlessAction;
use engine::command::AdminAction;
use utoipa_axum::routes;

use crate::auth::Right;
use crate::http::cashless::{wallet_for, wallet_in_path};
use crate::http::kit::answer::Done;
use crate::http::kit::problem::Problem;
use crate::http::kit::request::{Change, Nothing, Path};
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new().with(Right::MoveMoney, routes!(block_wallet)).with(Right::MoveMoney, routes!(unblock_wallet))
}

/// Blocks a wallet: nothing is paid, topped up, transferred or paid out until it is let go. Refunds still come in.
#[utoipa::path(post, path = "/cashless/wallets/{wallet}/block", tag = "cashless",
    params(("wallet" = String, Path, format = Uuid)), responses((status = 204, description = "It is so.")))]
async fn block_wallet(
    State(state): State<AppState>,
    Path(wallet): Path<String>,
    change: Change<Nothing>,
) -> Result<Done, Problem> {
    set_block(state, &wallet, change, true).await
}

/// Lets a blocked wallet go.
#[utoipa::path(post, path = "/cashless/wallets/{wallet}/unblock", tag = "cashless",
    params(("wallet" = String, Path, format = Uuid)), responses((status = 204, description = "It is so.")))]
async fn unblock_wallet(
    State(state): State<AppState>,
    Path(wallet): Path<String>,
    change: Change<Nothing>,
) -> Result<Done, Problem> {
    set_block(state, &wallet, change, false).await
}

async fn set_block(state: AppState, wallet: &str, change: Change<Nothing>, blocked: bool) -> Result<Done, Problem> {
    let wallet = wallet_in_path(wallet)?;
    wallet_for(&state, &change.operator, wallet).await?;
    change.body.read()?;
    let action = AdminAction::Cashless(CashlessAction::Block { wallet, blocked });
    state.ask_done(&change.operator, Some(change.key), action).await
}
