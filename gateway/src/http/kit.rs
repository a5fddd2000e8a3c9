//! What every route is made with: reading a request, answering it, saying no, and what is the same for all. Nothing of a
//! subject is known here.

pub mod answer;
pub mod asking;
pub mod calendar;
pub mod fields;
pub mod json;
pub mod limits;
pub mod ndjson;
pub mod openapi;
pub mod problem;
pub mod reason;
pub mod request;
pub mod routes;
pub mod shares;
pub mod sign_in;
