//! The door for other nodes: QUIC, with certificates on both sides. What is asked here of a shard that is elsewhere goes over it,
//! and so do messages between shards, answers, and notices for devices.
//!
//! Each node dials every node that has a shard (`line`), and is dialled by each in turn (`guest`): one connection a pair and
//! direction, with one stream that carries requests one way and answers the other. Whoever adds to a stream never waits
//! (`queue`); all of this may run on a shard's own thread.

mod guest;
mod hello;
mod line;
mod queue;
mod tls;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actors::{Node, Parcel, Peers};
use engine::model::ids::{NodeNo, ShardId};
use quinn::{Connection, Endpoint, EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use storage::journal::Member;
use tokio::sync::{Notify, oneshot};

use self::line::Line;
use super::Directory;
use crate::quic::limits::make_roomy;

pub use hello::Hello;
pub use tls::{PeerTls, PeerTlsError, name_of};

#[cfg(test)]
mod tests;

/// Requests that wait to be written to one node, in bytes: 8 MiB are 120,000 commands of 70 B, more than three shards hold
/// (`actors::limits::PENDING_MAX`). Beyond it they are handed back, and whoever asked is told `busy`.
const REQUESTS_BYTES_MAX: usize = 8 << 20;
/// The same for what protects people: it has a place where nothing else has.
const URGENT_BYTES_MAX: usize = REQUESTS_BYTES_MAX + (1 << 20);
/// Answers that wait to be written to one node, in bytes, while more requests are read from it: what the node has taken in
/// comes on top of it.
const ANSWERS_PAUSE_BYTES: usize = 4 << 20;
/// The most, in bytes: answers to all that one shard holds (32,768 × 60 B) are 2 MiB, and three views may be as long as can be.
/// A node that lets more come together reads nothing, and is disconnected.
const ANSWERS_BYTES_MAX: usize = 64 << 20;
/// What is read at once, in bytes. After so much, others on this thread have a turn.
const READ_BYTES: usize = 64 * 1_024;

/// How often a node says that it is there.
const PULSE: Duration = Duration::from_millis(500);
/// Whoever has said nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(2);
/// How long connecting may take, with the greeting.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// When a node that cannot be reached is tried again: soon, and then less and less often.
const AGAIN_MIN: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(1);
/// How often somebody looks who has shards now.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Connections that have not proven themselves: a cluster has fewer nodes, and each takes about 50 KiB.
const UNPROVEN_MAX: usize = 64;
/// The same complaint is not said again for so long.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

/// Why a connection was closed, in numbers; the sentence comes with it.
mod close {
    use quinn::VarInt;
    pub(super) const REFUSED: VarInt = VarInt::from_u32(1);
    pub(super) const ENDED: VarInt = VarInt::from_u32(2);
    pub(super) const SILENT: VarInt = VarInt::from_u32(3);
    pub(super) const REPLACED: VarInt = VarInt::from_u32(4);
    pub(super) const STOPPING: VarInt = VarInt::from_u32(5);
}

/// Why the door for other nodes does not open.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the door for other nodes at {addr}: {error}")]
pub struct PeersError {
    pub addr: SocketAddr,
    pub error: io::Error,
}

/// The other nodes. Clones share them.
#[derive(Clone)]
pub struct QuicPeers(Arc<Shared>);

struct Shared {
    endpoint: Endpoint,
    client: quinn::ClientConfig,
    hello: Hello,
    directory: Arc<dyn Directory>,
    /// To every node that has a shard, or had one lately. No more than there are shards.
    lines: Mutex<BTreeMap<NodeNo, Arc<Line>>>,
    /// Somebody has a parcel for a node that was not known before.
    wanted: Notify,
    /// Who is connected, by the number that their certificate proves.
    guests: Mutex<BTreeMap<NodeNo, Connection>>,
    /// Why others were not let in.
    refusals: Mutex<Complaints>,
    stopping: AtomicBool,
}

impl QuicPeers {
    /// Listens. Call it inside the tokio runtime that is to carry the connections (a current-thread one will do); then spawn
    /// [`Self::run`] there.
    ///
    /// # Errors
    /// [`PeersError`].
    fn on_socket(
        socket: UdpSocket,
        hello: Hello,
        tls: &PeerTls,
        directory: Arc<dyn Directory>,
    ) -> Result<Self, PeersError> {
        let addr = socket.local_addr().unwrap_or_else(|_| ([0, 0, 0, 0], 0).into());
        make_roomy(&socket);
        let transport = Arc::new(transport());
        let mut server = quinn::ServerConfig::with_crypto(Arc::clone(&tls.server) as _);
        server.transport_config(Arc::clone(&transport)).max_incoming(UNPROVEN_MAX);
        let mut client = quinn::ClientConfig::new(Arc::clone(&tls.client) as _);
        client.transport_config(transport);
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(server), socket, runtime)
            .map_err(|error| PeersError { addr, error })?;
        Ok(Self(Arc::new(Shared {
            endpoint,
            client,
            hello,
            directory,
            lines: Mutex::default(),
            wanted: Notify::new(),
            guests: Mutex::default(),
            refusals: Mutex::default(),
            stopping: AtomicBool::new(false),
        })))
    }

    /// Opens the door of a node on a thread that hosts shards, so that what is forwarded wakes no other thread on its way, and
    /// lets the node join the others through it. It runs until [`Self::stop`].
    ///
    /// # Errors
    /// [`PeersError`].
    pub async fn open(
        socket: UdpSocket,
        node: &Node,
        hello: Hello,
        tls: PeerTls,
        directory: Arc<dyn Directory>,
    ) -> Result<Self, PeersError> {
        let addr = socket.local_addr().unwrap_or_else(|_| ([0, 0, 0, 0], 0).into());
        let (opened, opening) = oneshot::channel();
        let running = node.clone();
        // Opened there as well, since a socket belongs to the runtime it was opened in.
        node.spawn_on(0, async move {
            let peers = match Self::on_socket(socket, hello, &tls, directory) {
                Ok(peers) => peers,
                Err(error) => return drop(opened.send(Err(error))),
            };
            if opened.send(Ok(peers.clone())).is_ok() {
                peers.run(running).await;
            }
        });
        let gone = |_| PeersError { addr, error: io::Error::other("the thread that hosts it has ended") };
        let peers = opening.await.map_err(gone)??;
        node.join(Arc::new(peers.clone()));
        Ok(peers)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket has gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.endpoint.local_addr()
    }

    /// Dials the others and lets them in, until [`Self::stop`].
    async fn run(&self, node: Node) {
        let mut every = tokio::time::interval(LOOK_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                incoming = self.0.endpoint.accept() => match incoming {
                    None => return,
                    Some(incoming) if self.0.is_crowded() => {
                        self.0.refuse(incoming.remote_address(), "too many connect at once");
                        incoming.refuse();
                    }
                    Some(incoming) => drop(tokio::spawn(guest::serve(Arc::clone(&self.0), node.clone(), incoming))),
                },
                _ = every.tick() => self.0.dial_all(&node),
                () = self.0.wanted.notified() => self.0.dial_all(&node),
            }
        }
    }

    /// Which nodes are connected both ways.
    pub fn connected(&self) -> Vec<NodeNo> {
        let lines = self.0.lines();
        let guests = self.0.guests();
        lines.iter().filter(|(node, line)| line.is_up() && guests.contains_key(node)).map(|(node, _)| *node).collect()
    }

    /// Nodes to which there is no connection, and why: what to do about it, where somebody can do something.
    pub fn trouble(&self) -> Vec<(NodeNo, String)> {
        self.0.lines().iter().filter_map(|(node, line)| Some((*node, line.trouble()?))).collect()
    }

    /// Closes all connections; the others are told why. Takes at most a second.
    pub async fn stop(&self) {
        self.0.stopping.store(true, Ordering::Release);
        self.0.endpoint.close(close::STOPPING, b"this node is stopping");
        let _ = tokio::time::timeout(Duration::from_secs(1), self.0.endpoint.wait_idle()).await;
    }
}

impl Peers for QuicPeers {
    fn host(&self, shard: ShardId) -> Option<NodeNo> {
        let host = self.0.directory.host(shard)?;
        (host.node != self.0.hello.node).then_some(host.node)
    }

    fn send(&self, to: NodeNo, parcel: Box<Parcel>) -> Result<(), Box<Parcel>> {
        // Bound first: nothing is locked when another line is made.
        let known = self.0.lines().get(&to).cloned();
        let line = match known {
            Some(line) => line,
            None if self.0.member(to).is_some() => self.0.line(to),
            None => return Err(parcel),
        };
        line.send(parcel)
    }
}

impl Shared {
    /// Says in the log why somebody was not let in.
    fn refuse(&self, who: SocketAddr, why: &str) {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).say(who, why);
    }

    /// More are connected than have said who they are, by so many that these must be others than nodes.
    fn is_crowded(&self) -> bool {
        self.endpoint.open_connections() > UNPROVEN_MAX + self.guests().len() + self.lines().len()
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<NodeNo, Arc<Line>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn guests(&self) -> MutexGuard<'_, BTreeMap<NodeNo, Connection>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another node, if it has a shard.
    fn member(&self, node: NodeNo) -> Option<Arc<Member>> {
        if node == self.hello.node {
            return None;
        }
        (0..self.directory.shards()).find_map(|id| self.directory.host(ShardId(id)).filter(|host| host.node == node))
    }

    /// The line to a node; one that is new is dialled at once.
    fn line(&self, to: NodeNo) -> Arc<Line> {
        let mut lines = self.lines();
        let line = lines.entry(to).or_insert_with(|| {
            self.wanted.notify_one();
            Arc::new(Line::new(to))
        });
        Arc::clone(line)
    }

    /// Every node that has a shard has a line, and every line somebody who dials.
    fn dial_all(self: &Arc<Self>, node: &Node) {
        for shard in (0..self.directory.shards()).map(ShardId) {
            if let Some(host) = self.directory.host(shard).filter(|host| host.node != self.hello.node) {
                let line = self.line(host.node);
                if line.begins() {
                    tokio::spawn(line.keep(Arc::clone(self), node.clone()));
                }
            }
        }
    }
}

fn transport() -> TransportConfig {
    let window = VarInt::from_u32(4 << 20);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        // Within one site: 4 MiB on the way at once are 8 Gbit/s at a round trip of 4 ms.
        .stream_receive_window(window)
        .receive_window(window)
        .send_window(8 << 20)
        .initial_rtt(Duration::from_millis(50))
        .max_idle_timeout(Some(IdleTimeout::try_from(SILENCE).unwrap_or(VarInt::MAX.into())));
    transport
}

/// What goes wrong with connections, said once and not with every try.
#[derive(Default)]
struct Complaints(VecDeque<(String, Instant)>);

/// So many different ones are remembered: about 500 B each.
const COMPLAINTS_MAX: usize = 16;

impl Complaints {
    fn say(&mut self, who: impl std::fmt::Display, why: &str) {
        self.0.retain(|(_, at)| at.elapsed() < COMPLAIN_EVERY);
        if self.0.iter().any(|(said, _)| said == why) {
            return;
        }
        if self.0.len() == COMPLAINTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((why.to_owned(), Instant::now()));
        tracing::warn!(peer = %who, "there is no connection with another node: {why}");
    }
}

/// When the other side was heard last.
struct Heard(Mutex<Instant>);

impl Heard {
    fn now() -> Self {
        Self(Mutex::new(Instant::now()))
    }
    fn again(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
    fn is_long_ago(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed() >= SILENCE
    }
    /// Ends when the other side has been silent for too long; `pulse` is called meanwhile, now and then.
    async fn until_silent(&self, mut pulse: impl FnMut()) {
        let mut every = tokio::time::interval(PULSE);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.is_long_ago() {
            pulse();
            every.tick().await;
        }
    }
}
