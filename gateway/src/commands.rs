//! What can be done besides serving: to a data folder, and beside a running server.

use std::path::{Path, PathBuf};

pub mod audit;
pub mod backup;
pub mod clock;
mod hands;
mod progress;
pub mod ready;
pub mod rebuild;
pub mod server_key;
pub mod top;

/// Where the journal of a data folder is.
fn journal_in(data: &Path) -> PathBuf {
    data.join("journal")
}
