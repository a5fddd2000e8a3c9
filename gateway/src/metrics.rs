//! Figures: the recorder behind `/metrics`, and the latency of scans as the live page shows it.

use std::sync::Arc;

pub use metrics_exporter_prometheus::PrometheusHandle;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};

pub use crate::quic::Latency as LatencySnapshot;
use crate::quic::LatencyTracker;

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

/// How long answers took lately: the QUIC door writes it, the live page and `/metrics` read. One for the whole
/// process. Clones share it.
#[derive(Clone, Default)]
pub struct Latency(Arc<LatencyTracker>);

/// What is shown covers this many seconds.
const SHOWN_S: u64 = 10;

impl Latency {
    /// Over the last ten seconds.
    pub fn snapshot(&self) -> LatencySnapshot {
        self.0.last(SHOWN_S)
    }

    /// For the QUIC door, and for whoever wants other spans.
    pub fn tracker(&self) -> Arc<LatencyTracker> {
        Arc::clone(&self.0)
    }
}
