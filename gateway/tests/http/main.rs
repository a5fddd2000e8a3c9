//! The operators' API over a real node: what each role may, what is not there for others, doing it again, tickets in
//! bulk, errors in one shape, and the OpenAPI document.

mod bulk;
mod changes;
mod house;
mod reads;
mod rights;
mod shape;
