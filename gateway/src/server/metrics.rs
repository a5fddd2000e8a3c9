//! Figures for Prometheus: the recorder behind `/metrics`, and what keeps it from growing. `deploy/grafana` draws them.

pub mod festivals;
pub mod node;

use std::time::Duration;

use actors::Node;
pub use metrics_exporter_prometheus::PrometheusHandle;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};

/// How long an answer took, in seconds: from 50 µs, a flush of a fast disk, to 5 s, when nobody waits any longer.
const SECONDS: &[f64] = &[0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0];
/// How often histograms are folded. Scrapes come about every fifteen seconds.
const UPKEEP: Duration = Duration::from_secs(5);

/// A recorder for this process's figures, and the handle that renders them. Only the first one in a process is
/// installed; a later handle renders nothing, which in tests is as good.
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
    metrics::describe_counter!("tapgate_http_requests_total", "HTTP requests by route, method and status.");
    metrics::describe_histogram!("tapgate_http_request_seconds", metrics::Unit::Seconds, "Time to the answer's head.");
    metrics::describe_gauge!("tapgate_node_ready", "1 when every shard serves and the journal takes writes.");
    metrics::describe_gauge!(
        "tapgate_clock_jump_seconds",
        metrics::Unit::Seconds,
        "How far the system's clock is ahead of the node's (less than 0: behind), while it has jumped and is not followed."
    );
    metrics::describe_gauge!(
        "tapgate_journal_ahead_seconds",
        metrics::Unit::Seconds,
        "How far the journal's time is ahead of the node's clock."
    );
    Ok(handle)
}

/// Folds histograms, and says whether the node is ready, now and then. It has no end, and is to be run beside the doors: without it,
/// memory grows with every request.
pub async fn upkeep(handle: PrometheusHandle, node: Node) {
    let mut every = tokio::time::interval(UPKEEP);
    loop {
        every.tick().await;
        handle.run_upkeep();
        metrics::gauge!("tapgate_node_ready").set(if node.health().ready { 1.0 } else { 0.0 });
        let time = node.time();
        let seconds = |ms: i64| ms as f64 / 1_000.0;
        metrics::gauge!("tapgate_clock_jump_seconds").set(seconds(time.system_off_ms.unwrap_or_default()));
        metrics::gauge!("tapgate_journal_ahead_seconds").set(seconds(time.journal_ahead_ms));
    }
}
