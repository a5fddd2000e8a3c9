//! The one clock of this crate. Below it time arrives in commands.

use std::time::{SystemTime, UNIX_EPOCH};

use engine::time::Timestamp;

/// The wall clock, in milliseconds since 1970. A clock before 1970 reads as 1970.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
