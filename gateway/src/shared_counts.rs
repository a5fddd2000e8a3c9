//! The border between a door that counts requests and whatever adds up what all nodes count.

use std::time::Duration;

/// The time over which requests to all nodes are added up.
pub const SHARED_WINDOW: Duration = Duration::from_secs(10);

/// Counts that several nodes keep together, so that whoever asks them all in turns gets no more than from one.
pub trait SharedCounts: Send + Sync {
    /// Counts a request that this node lets pass, of whoever this is, who may make so many in [`SHARED_WINDOW`]. How long it has
    /// to wait instead, if all nodes together have let more than that pass. It answers from memory, and if nobody can say, it
    /// lets pass: what one node lets pass is bounded without it.
    fn count(&self, who: &[u8], allowed: u64) -> Option<Duration>;
}
