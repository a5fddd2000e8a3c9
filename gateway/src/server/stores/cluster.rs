//! The journal on Kafka, read models and snapshots on CQL. The data folder keeps what is this node's own: its secret, its
//! certificate, its control socket.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use actors::limits::queue_room;
use actors::{Node, NodeConfig, StartError, Stores};
use engine::model::ids::ShardId;
use rustix::fs::{FlockOperation, flock};
use storage::cql::{Cql, CqlError, Settings};
use storage::journal::kafka::{Claims, KafkaJournal, Options};
use storage::journal::{Member, Position};
use storage::projector::Open;
use storage::snapshots::cql::CqlSnapshots;
use storage::snapshots::{Accept, FileSnapshots, SnapshotError, SnapshotMeta, Snapshots};
use storage::views::ViewsError;
use storage::views::cql::CqlViews;
use tracing::warn;

use super::Started;
use crate::server::config::{ClusterConfig, Config, CqlConfig, NodeSettings};
use crate::server::run::{ServeError, advertised};

/// What a server on Kafka needs to have the shards that are its own.
pub struct Part {
    /// Of its journal.
    pub claims: Claims,
    /// The journal's, which name the node if it is one of several.
    pub options: Options,
    /// `None`: it is alone, and every shard is its own.
    pub settings: Option<NodeSettings>,
}

/// As [`super::start`]. The lock is let go when the process ends. A node that is one of several begins with no shard.
pub(super) fn start(config: &Config, cluster: &ClusterConfig, threads: NodeConfig) -> Result<Started, ServeError> {
    lock(&config.data)?;
    let fault = |why: StartError| ServeError::Cluster { why };
    let options = options(config, cluster);
    let journal = KafkaJournal::open(options.clone()).map_err(|why| fault(why.into()))?;
    let claims = journal.claims();
    let several = cluster.node.clone();
    let begin_with = several.is_some().then(Vec::new);
    let shadows = several.as_ref().map_or(0, |node| node.shadows);
    let threads = NodeConfig { begin_with, shadows, ..threads };
    let snapshots: Arc<dyn Snapshots> = match &cluster.cql {
        Some(cql) => Arc::new(SnapshotsOnCql::open(settings(cql)).map_err(fault)?),
        None => {
            let folder = config.data.join("snapshots");
            fs::create_dir_all(&folder).map_err(|why| ServeError::File { path: folder.clone(), why })?;
            Arc::new(FileSnapshots::open(&folder).map_err(|why| fault(why.into()))?)
        }
    };
    let node = Node::start(threads, Stores { journal: Box::new(journal), snapshots }).map_err(fault)?;
    Ok(Started { node, part: Some(Part { claims, options, settings: several }) })
}

/// The journal's settings.
pub(crate) fn options(config: &Config, cluster: &ClusterConfig) -> Options {
    let mut options = Options::new(cluster.brokers.join(","), cluster.name.clone());
    options.topic.clone_from(&cluster.topic);
    options.shards = config.shards;
    if let Some(node) = &cluster.node {
        options.claim_all = false;
        options.member = Some(Member {
            node: node.number,
            peers: node.peers_advertised.clone().unwrap_or_else(|| node.peers.to_string()),
            devices: config.quic_advertised.clone().unwrap_or_else(|| advertised(config.quic)),
        });
    }
    options.create = cluster.create_topic;
    options.checkpoint = Some(config.data.join("log-read"));
    options.replication = cluster.replication;
    // Most of the copies, so that of any two groups that can elect a leader or acknowledge, some broker is in both.
    options.min_insync = cluster.replication / 2 + 1;
    let (bytes, records) = queue_room(config.shards);
    options.queue_bytes_max = options.queue_bytes_max.max(bytes);
    options.queue_records_max = options.queue_records_max.max(records);
    options
}

/// What opens the read models: over one connection, which outlives faults.
pub(super) fn read_models(cql: &CqlConfig) -> Open {
    let (settings, connection) = (settings(cql), Mutex::<Option<Arc<Cql>>>::default());
    Box::new(move |begin| {
        let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
        let cql = match &*connection {
            Some(cql) => Arc::clone(cql),
            None => Cql::open(&settings)
                .map_err(|why| ViewsError::Store { doing: "reach the servers of", why: why.to_string() })?,
        };
        *connection = Some(Arc::clone(&cql));
        Ok(Arc::new(CqlViews::open(cql, begin)?))
    })
}

fn settings(cql: &CqlConfig) -> Settings {
    Settings {
        nodes: cql.servers.clone(),
        keyspace: cql.keyspace.clone(),
        replication: cql.replication,
        login: cql.login.clone().map(|(user, password)| (user, password.0)),
    }
}

/// Takes the data folder for this process: two would claim each other's shards in turn.
fn lock(data: &Path) -> Result<(), ServeError> {
    let path = data.join("lock");
    let fault = |why| ServeError::File { path: path.clone(), why };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(fault)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            // Held until the process ends, however that comes about.
            std::mem::forget::<File>(file);
            Ok(())
        }
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let why = "another process uses this data folder: two never share one; stop that one first";
            Err(fault(io::Error::new(io::ErrorKind::ResourceBusy, why)))
        }
        Err(why) => Err(fault(why.into())),
    }
}

/// Snapshots on CQL, which may be away: then shards are replayed from the journal's beginning, and none is written.
struct SnapshotsOnCql {
    settings: Settings,
    opened: Mutex<Option<Arc<CqlSnapshots>>>,
}

impl SnapshotsOnCql {
    /// # Errors
    /// [`StartError::Setting`] if the servers answer and the keyspace cannot be used.
    fn open(settings: Settings) -> Result<Self, StartError> {
        let this = Self { settings, opened: Mutex::default() };
        match this.connect() {
            Err(why @ CqlError::Unreachable { .. }) => {
                warn!(%why, "there are no snapshots: every shard is replayed from the beginning of its journal");
            }
            Err(why) => return Err(StartError::Setting(why.to_string())),
            Ok(_) => {}
        }
        Ok(this)
    }

    fn connect(&self) -> Result<Arc<CqlSnapshots>, CqlError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(snapshots) = &*opened {
            return Ok(Arc::clone(snapshots));
        }
        let nodes = self.settings.nodes.join(", ");
        let snapshots = CqlSnapshots::open(Cql::open(&self.settings)?);
        let snapshots = Arc::new(snapshots.map_err(|why| CqlError::Unreachable { nodes, why: why.to_string() })?);
        *opened = Some(Arc::clone(&snapshots));
        Ok(snapshots)
    }
}

impl Snapshots for SnapshotsOnCql {
    fn save(&self, meta: &SnapshotMeta, body: &[u8]) -> Result<(), SnapshotError> {
        let snapshots = self.connect().map_err(|why| SnapshotError::Io {
            doing: "write",
            file: format!("of shard {}", meta.shard.0),
            source: io::Error::other(why),
        })?;
        snapshots.save(meta, body)
    }

    fn newest(&self, shard: ShardId, within: Position, accept: &mut Accept<'_>) -> Result<bool, SnapshotError> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone();
        opened.map_or(Ok(false), |snapshots| snapshots.newest(shard, within, accept))
    }
}
