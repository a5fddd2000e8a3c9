//! Figures: the recorder behind `/metrics`, and the latency of scans as the live page shows it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
pub use metrics_exporter_prometheus::PrometheusHandle;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};

/// How long an answer took, in seconds: from 50 µs, a flush of a fast disk, to 5 s, when nobody waits any longer.
const SECONDS: &[f64] = &[0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0];

/// A recorder for this process's figures, and the handle that renders them. Only the first one in a process is
/// installed: in tests, several doors share it.
///
/// # Errors
/// [`BuildError`] if the buckets are refused, which only a change here can cause.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)?;
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::debug!("figures go to the recorder that was installed before");
    }
    describe();
    Ok(handle)
}

fn describe() {
    metrics::describe_counter!("tapgate_http_requests_total", "HTTP requests by route, method and status.");
    metrics::describe_histogram!("tapgate_http_request_seconds", metrics::Unit::Seconds, "Time to the answer's head.");
    metrics::describe_gauge!("tapgate_scan_latency_us", "Scans, from the frame's arrival to the answer's leaving.");
    metrics::describe_gauge!("tapgate_node_ready", "1 when every shard serves and the journal takes writes.");
}

/// How long scans took lately, from the arrival of the frame to the answer's leaving, in microseconds. One for the
/// whole process; the QUIC door writes a batch at a time, the live page and `/metrics` read. Clones share it.
#[derive(Clone)]
pub struct Latency(Arc<Mutex<Windows>>);

/// Two windows that take turns: what is shown covers the last one to two of [`WINDOW`].
struct Windows {
    now: Histogram<u64>,
    before: Histogram<u64>,
    since: Instant,
}

const WINDOW: Duration = Duration::from_secs(10);
/// Whatever took longer counts as a minute. Two digits: 2 × 2,304 counters of 8 B = 36 KiB.
const LATENCY_US_MAX: u64 = 60_000_000;

/// What [`Latency`] shows. Zeroes when nothing was scanned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencySnapshot {
    /// How many scans this speaks of.
    pub count: u64,
    /// Half were faster.
    pub p50_us: u64,
    /// 99 of 100 were faster.
    pub p99_us: u64,
    /// The slowest.
    pub max_us: u64,
}

impl Default for Latency {
    fn default() -> Self {
        let histogram = || Histogram::new_with_max(LATENCY_US_MAX, 2).expect("the bounds are good");
        Self(Arc::new(Mutex::new(Windows { now: histogram(), before: histogram(), since: Instant::now() })))
    }
}

impl Latency {
    /// Adds what one batch of answers took. One lock a batch.
    pub fn record(&self, took_us: impl IntoIterator<Item = u64>) {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows.turn(Instant::now());
        for us in took_us {
            windows.now.saturating_record(us);
        }
    }

    /// Over the last ten to twenty seconds.
    pub fn snapshot(&self) -> LatencySnapshot {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows.turn(Instant::now());
        let mut both = windows.before.clone();
        drop((both.add(&windows.now), windows));
        LatencySnapshot {
            count: both.len(),
            p50_us: both.value_at_quantile(0.5),
            p99_us: both.value_at_quantile(0.99),
            max_us: both.max(),
        }
    }
}

impl Windows {
    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age < WINDOW {
            return;
        }
        std::mem::swap(&mut self.now, &mut self.before);
        self.now.reset();
        if age >= 2 * WINDOW {
            self.before.reset();
        }
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_is_forgotten() {
        let latency = Latency::default();
        latency.record([100, 200, 300]);
        let shown = latency.snapshot();
        assert_eq!((shown.count, shown.p50_us), (3, 200));
        let mut windows = latency.0.lock().unwrap();
        let start = windows.since;
        windows.turn(start + WINDOW);
        assert_eq!((windows.now.len(), windows.before.len()), (0, 3), "one window later it is still shown");
        windows.turn(start + 3 * WINDOW);
        assert_eq!((windows.now.len(), windows.before.len()), (0, 0));
    }
}
