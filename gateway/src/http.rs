//! The HTTP door: routes, errors in one shape, OpenAPI.
//!
//! - [`gates`], [`cashless`], [`reports`] and [`ops`] have the routes: each file owns its routes and the shapes they speak;
//! - [`kit`] has what every route is made with, and knows no subject;
//! - [`state`] is what handlers reach, and knows none of them;
//! - [`mod@app`] puts them under one roof with the pages and what else is the same for all, and is imported by the server alone.
//!
//! Handlers check the shape of what they are given and the operator's right; the engine decides.

pub mod app;
pub mod cashless;
pub mod gates;
pub mod kit;
pub mod ops;
pub mod reports;
pub mod state;

pub use app::app;
pub use kit::limits::Limits;
pub use state::AppState;
