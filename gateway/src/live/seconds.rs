//! When the next sample is due.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

const SECOND: Duration = Duration::from_secs(1);
/// Samples are at least so far apart. After a hold-up the missed ones are not made up for: a sample of one millisecond
/// with two scans in it would read as 2,000 scans a second.
const LEAST: Duration = Duration::from_millis(500);

/// Ticks once a second.
pub(super) struct Seconds(Instant);

impl Seconds {
    pub(super) fn from_now() -> Self {
        Self(Instant::now())
    }

    /// Returns when the next sample is due.
    pub(super) async fn next(&mut self) {
        self.0 = due(self.0, Instant::now());
        sleep_until(self.0).await;
    }
}

/// When the sample after the one that was due at `last` is due.
fn due(last: Instant, now: Instant) -> Instant {
    (last + SECOND).max(now + LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_a_second_and_after_a_hold_up_none_is_made_up_for() {
        let began = Instant::now();
        let after = |ms| began + Duration::from_millis(ms);
        // Last due, asked at, next due, all in ms.
        for (last, now, next) in [(0, 1, 1_000), (0, 300, 1_000), (0, 900, 1_400), (0, 41_000, 41_500)] {
            assert_eq!(due(after(last), after(now)), after(next), "{last} {now}");
        }
    }
}
