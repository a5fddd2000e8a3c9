//! A server's door for the other nodes, if it is one of several.

use std::net::UdpSocket;
use std::sync::Arc;

use actors::Node;
use engine::model::credential::QrSecret;
use tapgate_wire::Fingerprint;
use tracing::info;

use crate::cluster::peers::{Hello, PeerTls, QuicPeers};
use crate::server::config::Config;
use crate::server::run::ServeError;
use crate::server::stores::cluster::Part;

/// The door before it is opened: its address is taken, and its certificate can be used.
pub(super) struct Door {
    socket: UdpSocket,
    tls: PeerTls,
}

impl Door {
    /// Before a long recovery, not after it. Port 0 takes any, and the settings say which from then on: other nodes are told.
    ///
    /// # Errors
    /// [`ServeError::Address`], [`ServeError::PeerTls`].
    pub(super) fn take(config: &mut Config) -> Result<Option<Self>, ServeError> {
        let Some(node) = config.cluster.as_mut().and_then(|cluster| cluster.node.as_mut()) else { return Ok(None) };
        let tls = PeerTls::from_files(node.number, &node.peer_ca, &node.peer_certificate, &node.peer_key)?;
        let refused = |why| ServeError::Address { address: node.peers, setting: "peers", why };
        let socket = UdpSocket::bind(node.peers).map_err(refused)?;
        node.peers = socket.local_addr().map_err(refused)?;
        Ok(Some(Self { socket, tls }))
    }

    /// Opens it: from then on the node asks the others and is asked by them. `None`: it has no others.
    ///
    /// # Errors
    /// [`ServeError::Peers`].
    pub(super) async fn open(
        self,
        node: &Node,
        part: &Part,
        secret: &QrSecret,
        devices_key: Fingerprint,
    ) -> Result<Option<QuicPeers>, ServeError> {
        let Some(settings) = &part.settings else { return Ok(None) };
        let (number, shards) = (settings.number, part.options.shards);
        let hello = Hello::new(number, part.options.cluster.clone(), shards, secret, devices_key);
        let peers = QuicPeers::open(self.socket, node, hello, self.tls, Arc::new(part.claims.clone())).await?;
        info!(node = number.0, at = %settings.peers, "the door for other nodes is open");
        Ok(Some(peers))
    }
}
