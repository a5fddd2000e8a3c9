//! Cashless.

pub mod ledger;
pub mod tag;
