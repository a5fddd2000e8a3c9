//! How long answers took, lately and since the start: from the read that brought a frame to the write that handed its
//! answer to QUIC.
//!
//! The histogram for `/metrics` is kept here, since the metrics library keeps each single value until somebody scrapes:
//! at a million answers a second that is memory without bound, and 2 % of the time.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// How many seconds are kept apart: 16 histograms of about 11 KiB, 180 KiB in all.
const SECONDS: usize = 16;
/// What takes longer than a minute counts as a minute.
const LATENCY_US_MAX: u64 = 60_000_000;

/// The bounds of the histogram since the start, in µs: from 50 µs, a flush of a fast disk, to 5 s, when nobody waits any
/// longer.
const BOUNDS_US: [u64; 13] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 1_000_000, 5_000_000];

/// Percentiles over the last seconds, and a histogram since the start. Recording takes one short lock a batch.
pub struct LatencyTracker {
    epoch: Instant,
    state: Mutex<State>,
}

struct State {
    ring: Vec<Second>,
    /// How many took at most [`BOUNDS_US`] and more than the bound before; the last is for all that took longer.
    buckets: [u64; BOUNDS_US.len() + 1],
    sum_us: u128,
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
        let state = State { ring, buckets: Default::default(), sum_us: 0 };
        Self { epoch: Instant::now(), state: Mutex::new(state) }
    }

    /// `count` answers went out at `now` and took `took` each.
    pub fn record(&self, now: Instant, took: Duration, count: u32) {
        let number = now.saturating_duration_since(self.epoch).as_secs();
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).clamp(1, LATENCY_US_MAX);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.buckets[BOUNDS_US.partition_point(|&bound| bound < took_us)] += u64::from(count);
        state.sum_us += u128::from(took_us) * u128::from(count);
        let second = &mut state.ring[number as usize % SECONDS];
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
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for second in state.ring.iter().filter(|second| (oldest..=number).contains(&second.number)) {
            sum.add(&second.histogram).expect("same bounds");
        }
        drop(state);
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

impl LatencyTracker {
    /// The histogram since the start, as Prometheus reads it (text format 0.0.4), in seconds.
    pub fn prometheus(&self) -> String {
        const NAME: &str = "tapgate_answer_seconds";
        let (buckets, sum_us) = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.buckets, state.sum_us)
        };
        let mut text = format!(
            "# HELP {NAME} From the read that brought a frame to the write that handed its answer to QUIC\n\
             # TYPE {NAME} histogram\n"
        );
        let mut count = 0;
        for (n, of_bucket) in buckets.iter().enumerate() {
            count += of_bucket;
            let bound = BOUNDS_US.get(n).map_or("+Inf".to_owned(), |&us| (us as f64 / 1e6).to_string());
            writeln!(text, "{NAME}_bucket{{le=\"{bound}\"}} {count}").expect("a String grows");
        }
        writeln!(text, "{NAME}_sum {}\n{NAME}_count {count}", sum_us as f64 / 1e6).expect("a String grows");
        text
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

    #[test]
    fn a_scrape_sees_every_answer_once_and_in_its_bucket() {
        let tracker = LatencyTracker::new();
        tracker.record(tracker.epoch, Duration::from_micros(50), 3);
        tracker.record(tracker.epoch, Duration::from_micros(51), 2);
        tracker.record(tracker.epoch, Duration::from_secs(6), 1);
        let text = tracker.prometheus();
        for line in [
            "# TYPE tapgate_answer_seconds histogram",
            "tapgate_answer_seconds_bucket{le=\"0.00005\"} 3",
            "tapgate_answer_seconds_bucket{le=\"0.0001\"} 5",
            "tapgate_answer_seconds_bucket{le=\"5\"} 5",
            "tapgate_answer_seconds_bucket{le=\"+Inf\"} 6",
            "tapgate_answer_seconds_sum 6.000252",
            "tapgate_answer_seconds_count 6",
        ] {
            assert!(text.lines().any(|of_text| of_text == line), "{line} in\n{text}");
        }
    }
}
