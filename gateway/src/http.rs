//! The HTTP door: routes, errors in one shape, OpenAPI.

use std::sync::Arc;

use actors::Node;
use engine::credential::QrSecret;

use crate::auth::OneTime;
use crate::metrics::{Latency, PrometheusHandle};
use readmodels::ReadModels;

pub mod problem;
pub mod readmodels;

/// What every handler can reach. Clones are cheap.
#[derive(Clone)]
pub struct AppState {
    /// The one door to the shards.
    pub node: Node,
    /// Signs QRs.
    pub qr_secret: QrSecret,
    /// Makes what is shown once.
    pub one_time: OneTime,
    /// What follows the journal; `None` until it is there.
    pub read_models: Option<Arc<dyn ReadModels>>,
    /// Where readers reach the QUIC door, `host:port`, as enrolment offers say it.
    pub quic_address: Arc<str>,
    /// SHA-256 of the server's certificate, which readers pin.
    pub fingerprint: [u8; 32],
    /// How long scans took lately; the QUIC door writes it.
    pub latency: Latency,
    /// Renders `/metrics`.
    pub metrics: PrometheusHandle,
}
