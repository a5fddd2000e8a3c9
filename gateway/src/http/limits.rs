//! How many requests one address may make, and how long one may take. Connections, and how slow they may be, are bounded
//! where they are accepted.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use axum::response::IntoResponse;
use tower_governor::governor::GovernorConfigBuilder;
use tower_governor::key_extractor::KeyExtractor;
use tower_governor::{GovernorError, GovernorLayer};

use super::problem::{Fault, Problem};

/// What one address may do, and how long it waits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests a second in the long run; `None` for as many as it likes (behind a proxy that limits them itself, and
    /// whose address all requests would seem to come from).
    pub requests_per_s: Option<NonZeroU32>,
    /// How many at once before that counts: a page of an organiser's tool asks for some dozens.
    pub burst: NonZeroU32,
    /// How long a handler may take until its answer begins; bulk calls and live streams bound their own time.
    pub answer_within: Duration,
}

/// The node answers within 30 s at worst (`durability.md`, 17).
const ANSWER_WITHIN: Duration = Duration::from_secs(35);

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_s: NonZeroU32::new(100),
            burst: NonZeroU32::new(500).unwrap_or(NonZeroU32::MIN),
            answer_within: ANSWER_WITHIN,
        }
    }
}

/// How often addresses that have not come lately are forgotten. At 48 B each, a million addresses in between are 48 MB.
const FORGET_EVERY: Duration = Duration::from_secs(5);

impl Limits {
    /// Stands before these routes. The future forgets addresses that have not come lately; it has no end, and is to be
    /// run beside the door.
    pub fn guard(self, router: Router) -> (Router, impl Future<Output = ()> + Send + 'static) {
        let config = self.requests_per_s.and_then(|per_s| {
            let mut config = GovernorConfigBuilder::default().key_extractor(ByAddress);
            config.period(Duration::from_secs(1) / per_s.get()).burst_size(self.burst.get()).finish().map(Arc::new)
        });
        let router = match &config {
            Some(config) => router.layer(GovernorLayer::new(Arc::clone(config)).error_handler(too_many)),
            None => router,
        };
        let forget = async move {
            let mut every = tokio::time::interval(FORGET_EVERY);
            loop {
                every.tick().await;
                if let Some(config) = &config {
                    config.limiter().retain_recent();
                }
            }
        };
        (router, forget)
    }
}

fn too_many(error: GovernorError) -> Response<Body> {
    let seconds = match error {
        GovernorError::TooManyRequests { wait_time, .. } => u32::try_from(wait_time).unwrap_or(u32::MAX),
        GovernorError::UnableToExtractKey | GovernorError::Other { .. } => 0,
    };
    Problem::from(Fault::TooManyRequests).retry_after_s(seconds.max(1)).into_response()
}

/// Counts by address. An IPv6 peer is its /64: that is what one customer gets, and could walk through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ByAddress;

impl KeyExtractor for ByAddress {
    type Key = IpAddr;

    fn extract<T>(&self, request: &Request<T>) -> Result<IpAddr, GovernorError> {
        // Without an address (the control socket, tests) everybody is one.
        let from = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(from)| from.ip());
        Ok(peer(from.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))))
    }
}

fn peer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_one_customer_gets() {
        let peer = |text: &str| peer(text.parse().unwrap()).to_string();
        assert_eq!(peer("192.0.2.7"), "192.0.2.7");
        assert_eq!(peer("::ffff:192.0.2.7"), "192.0.2.7", "the same peer through a dual-stack socket");
        assert_eq!(peer("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
