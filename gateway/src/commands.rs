//! What can be done to a data folder besides serving it.

use std::path::{Path, PathBuf};

pub mod audit;
mod hands;
mod progress;
pub mod rebuild;

/// Where the journal of a data folder is.
fn journal_in(data: &Path) -> PathBuf {
    data.join("journal")
}
