//! What people ask about money afterwards: the books, transactions, orders, sales, settlements.

use super::kit::routes::Routes;

pub mod entries;
pub mod ledger;
pub mod orders;
pub mod sales;
pub mod settlement;
pub mod transactions;

/// The routes of this folder.
pub fn router() -> Routes {
    Routes::new()
        .merge(transactions::router())
        .merge(orders::router())
        .merge(sales::router())
        .merge(settlement::router())
        .merge(ledger::router())
        .merge(entries::router())
}
