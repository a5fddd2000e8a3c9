//! What people ask about money afterwards: the books, transactions, orders, sales, settlements.

use utoipa_axum::router::OpenApiRouter;

use super::state::AppState;

pub mod entries;
pub mod ledger;
pub mod orders;
pub mod sales;
pub mod settlement;
pub mod transactions;

/// The routes of this folder.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(transactions::router())
        .merge(orders::router())
        .merge(sales::router())
        .merge(settlement::router())
        .merge(ledger::router())
        .merge(entries::router())
}
