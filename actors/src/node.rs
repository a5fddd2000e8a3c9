//! `Node`: the one door to the shards of this process.

use std::path::PathBuf;
use std::sync::Arc;

use engine::command::{DeviceAnswer, DeviceCommand, OfficeAnswer, OfficeCommand};
use engine::rejection::Rejection;
use engine::view::{Notice, Query, View};
use tokio::sync::broadcast;

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The data folder; made if it is missing.
    pub data: PathBuf,
    /// How many shards a new journal gets (default 16). An existing journal keeps its own number.
    pub shards: u16,
    /// How many threads host shards (default: half the cores, at least one).
    pub threads: usize,
}

/// A handle to the node; clones are cheap.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner;

/// The shard's queue is full, or it takes no commands now; nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    /// [`Rejection::Busy`], or [`Rejection::Unavailable`] when the journal has failed.
    pub rejection: Rejection,
    /// When to come again.
    pub retry_after_ms: u32,
}

/// One answer on its way to a device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceReply {
    /// To which of its commands.
    pub seq: u64,
    /// What.
    pub answer: DeviceAnswer,
    /// On disk. If not (`scan_ack = decided`), [`Inbox::confirmed`] follows.
    pub durable: bool,
}

/// Where a session takes its answers. Called on a shard's thread: it must not block.
pub trait Inbox: Send + Sync + 'static {
    /// Answers, in the order in which the shard decided.
    fn answered(&self, replies: &[DeviceReply]);
    /// Answers sent earlier with `durable: false` are on disk now.
    fn confirmed(&self, seqs: &[u64]);
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

/// How the node is.
#[derive(Clone, Debug)]
pub struct Health {
    /// All shards have recovered and the journal takes writes.
    pub ready: bool,
    /// Why not, for whoever is on call.
    pub reason: Option<String>,
}

impl Node {
    /// Opens the journal, recovers every shard, starts their threads. Blocks until they serve.
    ///
    /// # Errors
    /// [`StartError`] with a sentence for whoever is on call: locked, damaged, newer version, read-only.
    pub fn start(_config: NodeConfig) -> Result<Self, StartError> {
        Err(StartError("not yet".into()))
    }

    /// Hands over what one read of one device's stream has brought. All commands are of one device, hence of one home.
    ///
    /// # Errors
    /// [`Busy`]: none of them was taken; answer each of them so, at the door.
    pub fn submit(&self, _commands: Vec<DeviceCommand>, _inbox: &Arc<dyn Inbox>) -> Result<(), Busy> {
        let _ = &self.0;
        unreachable!()
    }

    /// Asks for the office, and waits until the answer is durable. Never hangs: at worst it answers
    /// [`Rejection::Busy`] or [`Rejection::Unavailable`]. `repeated` says that nothing happened now.
    pub async fn ask(&self, _command: OfficeCommand) -> (OfficeAnswer, bool) {
        unreachable!()
    }

    /// Asks without changing anything. [`Query::Festivals`] is asked of all shards and gathered.
    pub async fn query(&self, _query: Query) -> View {
        unreachable!()
    }

    /// What connected devices are to be told. A receiver that lags loses the oldest notices and is told so.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        unreachable!()
    }

    /// How the node is, for `/readyz`.
    pub fn health(&self) -> Health {
        unreachable!()
    }

    /// Stops taking commands, lets what was taken become durable and answered, writes snapshots, closes the journal.
    pub async fn stop(&self) {}
}
