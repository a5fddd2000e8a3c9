//! How long answers took lately: from the read that brought a frame to the write that handed its answer to QUIC.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// How many seconds are kept apart: 16 histograms of about 11 KiB, 180 KiB in all.
const SECONDS: usize = 16;
/// What takes longer than a minute counts as a minute.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Percentiles over the last seconds. Recording takes one short lock a batch.
pub struct LatencyTracker {
    epoch: Instant,
    ring: Mutex<Vec<Second>>,
}

struct Second {
    number: u64,
    histogram: Histogram<u32>,
}

/// What [`LatencyTracker::last`] saw, in microseconds; all 0 where nothing was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Latency {
    /// How many answers.
    pub count: u64,
    /// Half of them took no longer.
    pub p50_us: u64,
    /// All but one in a hundred took no longer.
    pub p99_us: u64,
    /// None took longer.
    pub max_us: u64,
}

impl Default for LatencyTracker {
    fn default() -> Self {
        Self::new()
    }
}

fn histogram() -> Histogram<u32> {
    // Two significant digits: within 1 % of the truth.
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 2).expect("bounds are sound")
}

impl LatencyTracker {
    /// An empty one.
    pub fn new() -> Self {
        let ring = (0..SECONDS).map(|_| Second { number: 0, histogram: histogram() }).collect();
        Self { epoch: Instant::now(), ring: Mutex::new(ring) }
    }

    /// `count` answers went out at `now` and took `took` each.
    pub fn record(&self, now: Instant, took: Duration, count: u32) {
        let number = now.saturating_duration_since(self.epoch).as_secs();
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).clamp(1, LATENCY_US_MAX);
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let second = &mut ring[number as usize % SECONDS];
        if second.number != number {
            second.number = number;
            second.histogram.reset();
        }
        second.histogram.saturating_record_n(took_us, count);
    }

    /// Over the last `seconds` whole seconds and the one under way; at most 15.
    pub fn last(&self, seconds: u64) -> Latency {
        self.last_at(Instant::now(), seconds)
    }

    fn last_at(&self, now: Instant, seconds: u64) -> Latency {
        let number = now.saturating_duration_since(self.epoch).as_secs();
        let oldest = number.saturating_sub(seconds.min(SECONDS as u64 - 1));
        let mut sum: Histogram<u32> = Histogram::new_with_bounds(1, LATENCY_US_MAX, 2).expect("bounds are sound");
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        for second in ring.iter().filter(|second| (oldest..=number).contains(&second.number)) {
            sum.add(&second.histogram).expect("same bounds");
        }
        drop(ring);
        if sum.is_empty() {
            return Latency::default();
        }
        Latency {
            count: sum.len(),
            p50_us: sum.value_at_quantile(0.5),
            p99_us: sum.value_at_quantile(0.99),
            max_us: sum.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_seconds_are_forgotten() {
        let tracker = LatencyTracker::new();
        let at = |s| tracker.epoch + Duration::from_secs(s);
        tracker.record(at(0), Duration::from_millis(50), 10);
        tracker.record(at(3), Duration::from_micros(100), 989);
        tracker.record(at(3), Duration::from_secs(3_600), 1);
        let seen = tracker.last_at(at(3), 1);
        assert_eq!((seen.count, seen.p50_us, seen.p99_us), (990, 100, 100));
        assert!(seen.max_us >= LATENCY_US_MAX, "an hour counts as a minute");
        assert_eq!(tracker.last_at(at(3), 3).count, 1_000);
        assert_eq!(tracker.last_at(at(8), 2), Latency::default());
        tracker.record(at(16), Duration::from_micros(1), 1);
        assert_eq!(tracker.last_at(at(16), 15).count, 991, "second 0 made room for second 16");
    }
}
