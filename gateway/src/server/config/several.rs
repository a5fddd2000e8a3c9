//! What makes a server one of several: the settings of a node.

use std::net::SocketAddr;
use std::path::PathBuf;

use engine::model::ids::NodeNo;

use super::{ConfigError, File, SHARDS_MAX, is_host_and_port, refused, within};

/// A server that is one of several.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Its number among them.
    pub number: NodeNo,
    /// Where its door for the others listens (UDP).
    pub peers: SocketAddr,
    /// How the others reach that, `host:port`; `None`: at the same address.
    pub peers_advertised: Option<String>,
    /// Who signs the nodes' certificates (PEM).
    pub peer_ca: PathBuf,
    /// This node's certificate chain, and its private key (PEM).
    pub peer_certificate: PathBuf,
    pub peer_key: PathBuf,
    /// Of how many of the others' shards it keeps a copy.
    pub shadows: usize,
    /// After how long without a sign of life the others take over its shards, in ms.
    pub session_ms: u32,
}

/// What is said about it. Its details alone are refused: with its number taken out, a server would take every shard from the
/// others.
pub(super) fn node(file: &File) -> Result<Option<NodeSettings>, ConfigError> {
    let Some(number) = file.node else {
        let alone = [
            ("peers", file.peers.is_some()),
            ("peers_advertised", file.peers_advertised.is_some()),
            ("peer_ca", file.peer_ca.is_some()),
            ("peer_certificate", file.peer_certificate.is_some()),
            ("peer_key", file.peer_key.is_some()),
            ("node_session_ms", file.node_session_ms.is_some()),
            ("shadows", file.shadows.is_some()),
        ];
        let alone = alone.into_iter().find(|(_, is_set)| *is_set);
        return alone
            .map_or(Ok(None), |(setting, _)| Err(refused(setting, "needs `node`, the node's number, beside it")));
    };
    let number = within("node", number, 1, u32::from(u16::MAX))?;
    let needed = [
        ("kafka", file.kafka.is_some(), "is needed with `node`: nodes share a journal on Kafka"),
        (
            "qr_secret",
            file.qr_secret.is_some(),
            "is needed with `node`, the same on all nodes: each verifies the others' tickets",
        ),
        (
            "tls_certificate",
            file.tls_certificate.is_some(),
            "is needed with `node`, the same on all nodes: devices pin one key",
        ),
    ];
    if let Some((setting, _, why)) = needed.into_iter().find(|(_, is_set, _)| !is_set) {
        return Err(refused(setting, why));
    }
    let peers =
        file.peers.ok_or_else(|| refused("peers", "is needed with `node`: where the other nodes reach this one"))?;
    match &file.peers_advertised {
        Some(address) if !is_host_and_port(address) => {
            return Err(refused("peers_advertised", "must be host:port, such as node-1.example.org:4434"));
        }
        None if peers.ip().is_unspecified() => {
            let why = "is needed if `peers` listens everywhere: the host:port at which the other nodes reach this one";
            return Err(refused("peers_advertised", why));
        }
        _ => {}
    }
    let pem = |setting, path: &Option<PathBuf>| {
        let path = path.as_ref();
        let path =
            path.ok_or_else(|| refused(setting, "is needed with `node`: nodes prove to each other who they are"))?;
        Ok(path.to_str().map_or_else(|| path.clone(), |path| path.replace("{node}", &number.to_string()).into()))
    };
    Ok(Some(NodeSettings {
        number: NodeNo(number),
        peers,
        peers_advertised: file.peers_advertised.clone(),
        peer_ca: pem("peer_ca", &file.peer_ca)?,
        peer_certificate: pem("peer_certificate", &file.peer_certificate)?,
        peer_key: pem("peer_key", &file.peer_key)?,
        shadows: within("shadows", file.shadows.unwrap_or(SHARDS_MAX.into()), 0, SHARDS_MAX.into())?,
        session_ms: within("node_session_ms", file.node_session_ms.unwrap_or(3_000), 1_000, 60_000)?,
    }))
}
