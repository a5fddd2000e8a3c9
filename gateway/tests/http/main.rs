//! The operators' API over a real node: what each role may, what is not there for others, doing it again, tickets in
//! bulk, money in wallets, errors in one shape, and the OpenAPI document.

mod bulk;
mod by_hand;
mod cashless;
mod cashless_input;
mod cashless_reads;
mod cashless_replay;
mod cashless_tenancy;
mod changes;
mod clock;
mod currencies;
mod document;
mod generated;
mod gifts;
mod house;
mod reads;
mod rights;
mod same_key;
mod shape;
mod shares;
mod strangers;
