//! The HTTP door: routes, errors in one shape, OpenAPI.
//!
//! Each file below owns its routes and the shapes they speak. [`state`] is what they all reach, and knows none of them;
//! [`app`] puts them under one roof with the pages and what else is the same for all of them, and is imported by none of
//! them. Handlers check the shape of what they are given and the operator's right; the engine decides.

pub mod answer;
pub mod app;
pub mod asking;
pub mod calendar;
pub mod cash;
pub mod categories;
pub mod devices;
pub mod docs;
pub mod festivals;
pub mod fields;
pub mod issue;
pub mod keys;
pub mod limits;
pub mod live_counts;
pub mod ndjson;
pub mod operations;
pub mod problem;
pub mod reads;
pub mod reason;
pub mod request;
pub mod sign_in;
pub mod state;
pub mod tickets;
pub mod words;
pub mod wristbands;
pub mod zones;

pub use app::app;
pub use limits::Limits;
pub use state::AppState;
