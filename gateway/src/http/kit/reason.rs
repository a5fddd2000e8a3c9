//! Why somebody does by hand what is against the usual course. Asked wherever that can be done.

use engine::command::TEXT_LEN_MAX;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::http::kit::problem::Problem;

/// Why something is done by hand.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// At most 200 bytes. It must name nobody: it is kept for ever.
    #[schema(example = "That was the test day")]
    pub reason: String,
}

/// Whether somebody has said why.
///
/// # Errors
/// `validation`.
pub fn a_reason(reason: String) -> Result<String, Problem> {
    if reason.trim().is_empty() || reason.len() > TEXT_LEN_MAX {
        return Err(Problem::field("/reason", format!("must say why, in 1 to {TEXT_LEN_MAX} bytes")));
    }
    Ok(reason)
}
