//! The QUIC door: one connection a device, frames on one stream, answers as they become durable.
//!
//! A connection walks from [`limits`] (is there room for this address?) through `handshake` (who is it?) to `session`
//! (its frames, in batches: a `reader`'s to its festival's shard, a `terminal`'s to the wallets'), while `outbox` takes
//! what comes back. Nothing here blocks: the endpoint may run on a shard's own thread.

mod clock;
mod failures;
mod handshake;
pub mod limits;
mod numbers;
mod outbox;
mod pins;
mod reader;
mod recent;
mod reset;
mod session;
mod tags;
mod terminal;
mod welcome;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actors::Node;
use engine::command::{AdminAction, AdminAnswer, AdminCommand};
use engine::gates::view::DeviceView;
use engine::model::credential::QrSecret;
use engine::model::ids::{DeviceId, FestivalId};
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::view::Notice as NodeNotice;
use metrics::{Counter, Gauge};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, VarInt};
use tapgate_wire::{Notice, Refusal, close};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use failures::Failures;

pub use limits::Limits;
use limits::{AddressBook, ConnectionAttempt};
use numbers::AllNumbers;
use outbox::{End, Outbox, Unconfirmed};
use pins::Pins;
pub use pins::{Pinning, pinning};
use recent::Recents;
use tags::Tags;

use crate::read_models::ReadModels;
use crate::server::latency::LatencyTracker;
use crate::server::tls::ServerTls;

/// How the QUIC door is set up.
#[derive(Clone)]
pub struct QuicConfig {
    /// Where it listens; port 0 takes any.
    pub addr: SocketAddr,
    /// Its bounds.
    pub limits: Limits,
    /// Where it keeps how long answers took; shared with whoever shows them.
    pub latency: Arc<LatencyTracker>,
    /// Where terminals' last transactions are read; without them there are none to be had.
    pub read_models: Option<Arc<dyn ReadModels>>,
}

impl QuicConfig {
    /// At this address, with the usual bounds.
    pub fn at(addr: SocketAddr) -> Self {
        Self { addr, limits: Limits::default(), latency: Arc::default(), read_models: None }
    }
}

/// Why there is no QUIC door.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// The address cannot be had.
    #[error("cannot listen for QUIC at {addr}: {error}")]
    Bind { addr: SocketAddr, error: io::Error },
    /// The certificate is of no use for QUIC.
    #[error("the certificate cannot be used for QUIC: {0}")]
    Tls(String),
}

/// The door. Clones share it.
#[derive(Clone)]
pub struct QuicServer {
    endpoint: Endpoint,
    listener: Arc<Listener>,
}

/// What all connections of one server share.
struct Listener {
    node: Node,
    secret: QrSecret,
    limits: Limits,
    book: Arc<AddressBook>,
    failures: Failures,
    /// One connection a device: the newest. At most `connections_max` entries of about 60 B.
    sessions: Mutex<HashMap<DeviceId, (u64, Arc<Outbox>)>>,
    session_number: AtomicU64,
    metrics: Arc<DoorMetrics>,
    unconfirmed: Arc<Unconfirmed>,
    tags: Tags,
    numbers: AllNumbers,
    recents: Recents,
    pins: Pins,
    stopping: watch::Sender<bool>,
}

/// Counters for `/metrics`. Made once: looking them up costs more than counting.
struct DoorMetrics {
    frames: Counter,
    busy: Counter,
    malformed: Counter,
    connections: Gauge,
    handshakes: Counter,
    enrolments: Counter,
    refused: Counter,
    latency: Arc<LatencyTracker>,
}

impl DoorMetrics {
    fn new(latency: Arc<LatencyTracker>) -> Self {
        metrics::describe_counter!("tapgate_frames_received_total", "Commands read from devices: scans, undos, money");
        metrics::describe_counter!("tapgate_frames_busy_total", "Commands refused at the door");
        metrics::describe_counter!("tapgate_frames_malformed_total", "Connections closed for bytes that are no frame");
        metrics::describe_gauge!("tapgate_devices_connected", "Devices that have proven themselves and are connected");
        metrics::describe_counter!("tapgate_handshakes_total", "Devices that have proven themselves");
        metrics::describe_counter!(
            "tapgate_handshakes_failed_total",
            "Connections that ended before a device was proven"
        );
        metrics::describe_counter!("tapgate_enrolments_total", "Devices that have enrolled with a one-time code");
        Self {
            frames: metrics::counter!("tapgate_frames_received_total"),
            busy: metrics::counter!("tapgate_frames_busy_total"),
            malformed: metrics::counter!("tapgate_frames_malformed_total"),
            connections: metrics::gauge!("tapgate_devices_connected"),
            handshakes: metrics::counter!("tapgate_handshakes_total"),
            enrolments: metrics::counter!("tapgate_enrolments_total"),
            refused: metrics::counter!("tapgate_handshakes_failed_total"),
            latency,
        }
    }

    /// `count` answers of one read took so long: one measurement for all of them.
    fn answered(&self, now: Instant, took: Duration, count: usize) {
        self.latency.record(now, took, count as u32);
    }
}

impl QuicServer {
    /// Listens. Call it inside the tokio runtime that is to carry the connections (a current-thread one will do), and
    /// after the metrics recorder is installed; then spawn [`Self::run`] there.
    ///
    /// # Errors
    /// [`QuicError`].
    pub fn bind(node: Node, secret: QrSecret, config: QuicConfig, tls: &ServerTls) -> Result<Self, QuicError> {
        let addr = config.addr;
        let socket = UdpSocket::bind(addr).map_err(|error| QuicError::Bind { addr, error })?;
        Self::on_socket(socket, node, secret, config, tls)
    }

    /// The same on a socket that is bound already.
    ///
    /// # Errors
    /// [`QuicError`].
    pub fn on_socket(
        socket: UdpSocket,
        node: Node,
        secret: QrSecret,
        config: QuicConfig,
        tls: &ServerTls,
    ) -> Result<Self, QuicError> {
        let QuicConfig { addr, limits, latency, read_models } = config;
        limits::make_roomy(&socket);
        let crypto =
            QuicServerConfig::try_from(Arc::clone(&tls.config)).map_err(|error| QuicError::Tls(error.to_string()))?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        server
            .transport_config(Arc::new(limits.transport()))
            .max_incoming(limits.unproven_max)
            // First packets of handshakes that wait to be accepted: 8 KiB each, 4 MiB in all.
            .incoming_buffer_size(8 * 1_024)
            .incoming_buffer_size_total(4 * 1_024 * 1_024);
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(reset::endpoint_config(&secret), Some(server), socket, runtime)
            .map_err(|error| QuicError::Bind { addr, error })?;
        let listener = Arc::new(Listener {
            node,
            secret,
            book: AddressBook::new(limits.clone()),
            failures: Failures::new(&limits),
            limits,
            sessions: Mutex::default(),
            session_number: AtomicU64::new(0),
            metrics: Arc::new(DoorMetrics::new(latency)),
            unconfirmed: Arc::default(),
            tags: Tags::default(),
            numbers: AllNumbers::default(),
            recents: Recents::new(read_models),
            pins: Pins { present: tls.fingerprint, next: tls.next },
            stopping: watch::Sender::new(false),
        });
        Ok(Self { endpoint, listener })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket has gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// How long answers took lately.
    pub fn latency(&self) -> Arc<LatencyTracker> {
        Arc::clone(&self.listener.metrics.latency)
    }

    /// How many devices are connected now.
    pub fn devices(&self) -> usize {
        self.listener.sessions().len()
    }

    /// Lets devices in until [`Self::stop`].
    pub async fn run(&self) {
        let mut stopping = self.listener.stopping.subscribe();
        let notices = self.listener.node.notices();
        let fan_out = tokio::spawn(fan_out(Arc::clone(&self.listener), notices));
        let unconfirmed = Arc::clone(&self.listener.unconfirmed);
        let confirming = tokio::spawn(async move { unconfirmed.send().await });
        loop {
            let incoming = tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => break,
                incoming = self.endpoint.accept() => match incoming {
                    Some(incoming) => incoming,
                    None => break,
                },
            };
            let validated = incoming.remote_address_validated();
            match self.listener.book.knock(incoming.remote_address().ip(), validated, Instant::now()) {
                ConnectionAttempt::Welcome(permit) => {
                    tokio::spawn(session::serve(Arc::clone(&self.listener), incoming, permit));
                }
                ConnectionAttempt::ProveAddress if incoming.may_retry() => {
                    let _ = incoming.retry();
                }
                ConnectionAttempt::ProveAddress | ConnectionAttempt::Refused => {
                    self.listener.metrics.refused.increment(1);
                    incoming.refuse();
                }
            }
        }
        fan_out.abort();
        confirming.abort();
    }

    /// Takes no more frames, gives out the answers under way, tells every device when to come again, and closes.
    /// Takes at most five seconds.
    pub async fn stop(&self) {
        const DRAIN: Duration = Duration::from_secs(4);
        const COME_AGAIN_MS: u32 = 1_000;
        self.listener.stopping.send_replace(true);
        let sessions: Vec<_> = self.listener.sessions().values().map(|(_, outbox)| Arc::clone(outbox)).collect();
        for outbox in &sessions {
            outbox.notice(Notice::Closing { retry_after_ms: COME_AGAIN_MS });
            let refusal = Refusal::ShuttingDown;
            outbox.end(End { drain: true, retry_after_ms: COME_AGAIN_MS, ..End::refused(refusal) });
        }
        drop(sessions);
        let gone = async {
            while !self.listener.sessions().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = tokio::time::timeout(DRAIN, gone).await;
        self.endpoint.close(VarInt::from_u32(close::SHUTTING_DOWN), Refusal::ShuttingDown.sentence().as_bytes());
        let _ = tokio::time::timeout(Duration::from_secs(1), self.endpoint.wait_idle()).await;
    }
}

impl Listener {
    fn sessions(&self) -> MutexGuard<'_, HashMap<DeviceId, (u64, Arc<Outbox>)>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device's connection is this one from now on; an older one is closed, and when this returns nothing of it will
    /// go to a shard any more.
    fn enter(self: &Arc<Self>, device: DeviceId, outbox: Arc<Outbox>) -> SessionGuard {
        let number = self.session_number.fetch_add(1, Ordering::Relaxed);
        {
            // Ended before the next one can enter: that one's older connections are all of them.
            let mut sessions = self.sessions();
            if let Some((_, older)) = sessions.insert(device, (number, outbox)) {
                older.end(End::refused(Refusal::Replaced));
            }
        }
        self.metrics.connections.increment(1.0);
        SessionGuard { listener: Arc::clone(self), device, number, recorded: false }
    }

    fn at_festival(&self, festival: FestivalId) -> Vec<Arc<Outbox>> {
        let sessions = self.sessions();
        sessions.iter().filter(|(device, _)| device.festival() == festival).map(|(_, (_, o))| Arc::clone(o)).collect()
    }
}

/// A device's place among the sessions, given back when this is dropped, unless a newer connection has it.
struct SessionGuard {
    listener: Arc<Listener>,
    device: DeviceId,
    number: u64,
    /// That it is connected is on record, and so is to be that it has left.
    recorded: bool,
}

/// How long a reader waits for its connection to be recorded. A gate does without rather than without its reader.
const RECORDED_WITHIN: Duration = Duration::from_secs(1);

impl SessionGuard {
    /// A reader's connection is recorded before the reader is told: what it may have shown, and when what lay in its
    /// queue was captured, is judged by it.
    async fn connected(&mut self, device: &DeviceView) -> Result<(), End> {
        if device.terminal.is_some() {
            return Ok(());
        }
        let action = AdminAction::DeviceConnected { device: self.device, session: self.number };
        let by = Principal::Device(self.device);
        let asked = self.listener.node.ask(AdminCommand { key: None, by, action });
        match tokio::time::timeout(RECORDED_WITHIN, asked).await {
            Ok((AdminAnswer::Rejected(rejection @ Rejection::DeviceRevoked), _)) => {
                Err(End::refused(Refusal::Rejected(rejection)))
            }
            Ok((AdminAnswer::Done, _)) => {
                self.recorded = true;
                Ok(())
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        if self.recorded
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (node, device, session) = (self.listener.node.clone(), self.device, self.number);
            let action = AdminAction::DeviceLeft { device, session };
            runtime
                .spawn(async move { node.ask(AdminCommand { key: None, by: Principal::Installation, action }).await });
        }
        let mut sessions = self.listener.sessions();
        if sessions.get(&self.device).is_some_and(|(number, _)| *number == self.number) {
            sessions.remove(&self.device);
        }
        self.listener.metrics.connections.decrement(1.0);
    }
}

/// Tells connected devices what they did not ask.
async fn fan_out(listener: Arc<Listener>, mut notices: tokio::sync::broadcast::Receiver<NodeNotice>) {
    loop {
        match notices.recv().await {
            Ok(NodeNotice::Zone { festival, zone, state }) => {
                for outbox in listener.at_festival(festival) {
                    outbox.notice(Notice::Zone { zone, state });
                }
            }
            Ok(NodeNotice::PolicyChanged(festival)) => {
                for outbox in listener.at_festival(festival) {
                    outbox.notice(Notice::PolicyChanged);
                }
            }
            Ok(NodeNotice::DeviceRevoked(device)) => {
                let outbox = listener.sessions().get(&device).map(|(_, outbox)| Arc::clone(outbox));
                if let Some(outbox) = outbox {
                    outbox.notice(Notice::DeviceRevoked);
                    outbox.end(End::refused(Refusal::Rejected(Rejection::DeviceRevoked)));
                }
            }
            Err(RecvError::Lagged(missed)) => {
                // What was missed may have been an evacuation: a welcome says how things are.
                tracing::warn!(missed, "notices were lost; all devices are asked to reconnect");
                let sessions: Vec<_> = listener.sessions().values().map(|(_, outbox)| Arc::clone(outbox)).collect();
                for outbox in sessions {
                    outbox.end(End::RESUME);
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}
