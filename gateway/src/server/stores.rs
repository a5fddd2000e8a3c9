//! Where the journal, the snapshots and the read models lie: in the data folder, or on the servers of a cluster. Whatever it
//! is, the node and its doors are the same.

use actors::{Folder, Node, NodeConfig};
use storage::projector::Open;

use crate::read_models;
use crate::server::config::Config;
use crate::server::run::ServeError;

#[cfg(feature = "cluster")]
pub(crate) mod cluster;

/// A node on its journal.
pub struct Started {
    pub node: Node,
    /// What it needs to have its shards, if they can be lost one by one.
    #[cfg(feature = "cluster")]
    pub part: Option<cluster::Part>,
}

/// Opens the journal with its snapshots, and starts a node on them. Blocks until every shard has recovered, if it has them all
/// from the start.
///
/// # Errors
/// [`ServeError::Data`], [`ServeError::Cluster`].
pub fn start(config: &Config) -> Result<Started, ServeError> {
    let threads = NodeConfig { threads: config.threads, ..NodeConfig::default() };
    #[cfg(feature = "cluster")]
    if let Some(cluster) = &config.cluster {
        return cluster::start(config, cluster, threads);
    }
    let mut opening = Folder { shards: config.shards, ..Folder::new(&config.data) };
    opening.journal.log.accept_loss = config.accept_loss;
    let node = opening.start(threads).map_err(|why| ServeError::Data { folder: config.data.clone(), why })?;
    Ok(Started {
        node,
        #[cfg(feature = "cluster")]
        part: None,
    })
}

/// What opens the read models.
pub fn read_models(config: &Config) -> Open {
    #[cfg(feature = "cluster")]
    if let Some(cql) = config.cluster.as_ref().and_then(|cluster| cluster.cql.as_ref()) {
        return cluster::read_models(cql);
    }
    read_models::in_folder(&config.data)
}
