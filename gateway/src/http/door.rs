//! Where connections come in: how many, how fast, how slow they may be, and how the door closes.
//!
//! A peer that is silent loses its connection: its request's head has ten seconds, its body too
//! ([`super::request::BODY_TIME`]), and what it does not read for thirty seconds is not kept for it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use axum::response::IntoResponse;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::{Service, ServiceExt};
use tower_governor::governor::GovernorConfigBuilder;
use tower_governor::key_extractor::KeyExtractor;
use tower_governor::{GovernorError, GovernorLayer};

use super::problem::{Fault, Problem};
use super::{AppState, routes};

/// What one address may do, and all together.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests a second from one address, in the long run; `None` for as many as it likes (behind a proxy that
    /// limits them itself).
    pub requests_per_s: Option<NonZeroU32>,
    /// How many it may make at once.
    pub burst: NonZeroU32,
    /// Connections in all: 2,048 × (32 KiB of hyper's buffers + 16 KiB of body) = 96 MiB at worst.
    pub connections: usize,
    /// Connections of one address: a stand with a screen for each gate has a few dozen.
    pub connections_per_address: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_s: NonZeroU32::new(100),
            burst: NonZeroU32::new(500).unwrap_or(NonZeroU32::MIN),
            connections: 2_048,
            connections_per_address: 256,
        }
    }
}

/// How long the head of a request may take, and how long a connection may wait for the next one.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long the peer may leave what was sent to it unread.
const UNREAD_TIME_MS: u32 = 30_000;
/// The most that is kept of a request's head.
const BUFFER_LEN: usize = 32 * 1024;
/// How often what has to be done now and then is done.
const UPKEEP: Duration = Duration::from_secs(5);
/// How long requests under way have when the door closes.
const CLOSING_TIME: Duration = Duration::from_secs(10);

/// The routes with the limits before them.
#[derive(Clone)]
pub struct Door {
    /// The routes: what tests call, and [`Door::serve`] serves.
    pub router: Router,
    state: AppState,
    limits: Limits,
    /// Forgets addresses that have not come for a while.
    forget: Arc<dyn Fn() + Send + Sync>,
}

/// Stands the limits before the routes.
pub fn door(state: AppState, limits: Limits) -> Door {
    let router = routes(state.clone());
    let config = limits.requests_per_s.and_then(|per_s| {
        let mut config = GovernorConfigBuilder::default().key_extractor(ByAddress);
        config.period(Duration::from_secs(1) / per_s.get()).burst_size(limits.burst.get()).finish().map(Arc::new)
    });
    let Some(config) = config else { return Door { router, state, limits, forget: Arc::new(|| {}) } };
    let router = router.layer(GovernorLayer::new(Arc::clone(&config)).error_handler(too_many));
    Door { router, state, limits, forget: Arc::new(move || config.limiter().retain_recent()) }
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
        // Without a connection (tests) everybody is one.
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

/// How many connections each address has. As many entries as there are connections at most.
#[derive(Clone, Default)]
struct Peers(Arc<Mutex<HashMap<IpAddr, u32>>>);

/// One connection of a peer, counted until it is dropped.
struct Counted(Peers, IpAddr);

impl Peers {
    fn count(&self, peer: IpAddr, max: u32) -> Option<Counted> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = peers.entry(peer).or_default();
        if *connections >= max {
            return None;
        }
        *connections += 1;
        Some(Counted(self.clone(), peer))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut peers = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connections) = peers.get_mut(&self.1) {
            *connections -= 1;
            if *connections == 0 {
                peers.remove(&self.1);
            }
        }
    }
}

impl Door {
    /// Serves until `closing` is ready; then takes no more connections, and gives requests under way ten seconds.
    pub async fn serve(self, listener: TcpListener, closing: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let peers = Peers::default();
        let graceful = GracefulShutdown::new();
        let mut upkeep = tokio::time::interval(UPKEEP);
        tokio::pin!(closing);
        loop {
            // With no place left, nobody is accepted until one is free; silent peers free theirs within ten seconds.
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            tokio::select! {
                () = &mut closing => break,
                _ = upkeep.tick() => self.upkeep(),
                (place, accepted) = accepted => match accepted {
                    Ok((stream, from)) => {
                        let Some(counted) = peers.count(peer(from.ip()), self.limits.connections_per_address) else {
                            continue;
                        };
                        let connection = graceful.watch(self.connection(stream, from));
                        tokio::spawn(async move {
                            if let Err(error) = connection.await {
                                tracing::debug!(%from, %error, "an HTTP connection ended");
                            }
                            drop((counted, place));
                        });
                    }
                    // Out of file descriptors, most likely: wait rather than spin.
                    Err(error) => {
                        tracing::warn!(%error, "no HTTP connection can be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(listener);
        if tokio::time::timeout(CLOSING_TIME, graceful.shutdown()).await.is_err() {
            tracing::info!("some HTTP connections did not end in time");
        }
    }

    fn connection(
        &self,
        stream: TcpStream,
        from: SocketAddr,
    ) -> http1::Connection<
        TokioIo<TcpStream>,
        TowerToHyperService<
            impl Service<
                Request<hyper::body::Incoming>,
                Response = Response<Body>,
                Error = Infallible,
                Future: Send + 'static,
            >
            + Clone
            + Send
            + 'static
            + use<>,
        >,
    > {
        // Best effort both: a connection without them is slower, or held a while longer.
        let _ = stream.set_nodelay(true);
        #[cfg(target_os = "linux")]
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNREAD_TIME_MS);
        let service = self.router.clone().map_request(move |mut request: Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(ConnectInfo(from));
            request
        });
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(BUFFER_LEN)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
    }

    /// What has to be done now and then, or memory grows: old addresses forgotten, histograms folded.
    fn upkeep(&self) {
        self.state.metrics.run_upkeep();
        let scans = self.state.latency.snapshot();
        metrics::gauge!("tapgate_scan_latency_us", "quantile" => "0.5").set(scans.p50_us as f64);
        metrics::gauge!("tapgate_scan_latency_us", "quantile" => "0.99").set(scans.p99_us as f64);
        metrics::gauge!("tapgate_node_ready").set(if self.state.node.health().ready { 1.0 } else { 0.0 });
        (self.forget)();
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

    #[test]
    fn a_connection_is_counted_while_it_lives() {
        let (peers, one) = (Peers::default(), IpAddr::from([192, 0, 2, 7]));
        let first = peers.count(one, 2).unwrap();
        let second = peers.count(one, 2).unwrap();
        assert!(peers.count(one, 2).is_none());
        assert!(peers.count(IpAddr::from([192, 0, 2, 8]), 2).is_some(), "the others are not hurt");
        drop(first);
        assert!(peers.count(one, 2).is_some());
        drop(second);
        assert!(peers.0.lock().unwrap().is_empty(), "nothing is left behind");
    }
}
