//! Nodes in one process, over one journal in memory, with real sockets between them.

mod misfits;
mod traffic;

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actors::{Node, NodeConfig, Stores};
use engine::command::{AdminAction, AdminAnswer, AdminCommand};
use engine::model::credential::QrSecret;
use engine::model::ids::{NodeNo, ShardId};
use engine::model::principal::Principal;
use storage::journal::Member;
use storage::testing::memory::{MemoryLog, MemorySnapshots, OpenedMemory};
use tapgate_wire::Fingerprint;
use tempfile::TempDir;

use super::{Hello, PeerTls, QuicPeers};
use crate::cluster::{Directory, certificates};

const SHARDS: u16 = 4;
/// A guard against a hang, not a measurement.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which node has which shard, as all of them believe, and where it is reached.
struct Hosts(Mutex<Vec<Option<Arc<Member>>>>);

impl Directory for Hosts {
    fn shards(&self) -> u16 {
        SHARDS
    }
    fn host(&self, shard: ShardId) -> Option<Arc<Member>> {
        self.0.lock().unwrap()[usize::from(shard.0)].clone()
    }
}

impl Hosts {
    fn none() -> Arc<Self> {
        Arc::new(Self(Mutex::new(vec![None; SHARDS.into()])))
    }
    /// Everybody believes that this node has that shard, and is reached there.
    fn announce(&self, shard: ShardId, node: u32, at: SocketAddr) {
        let member = Member { node: NodeNo(node), peers: at.to_string(), devices: "gate:4433".into() };
        self.0.lock().unwrap()[usize::from(shard.0)] = Some(Arc::new(member));
    }
}

fn hello(node: u32) -> Hello {
    let secret = QrSecret::new(b"a secret of at least 32 bytes, for tests").unwrap();
    Hello::new(NodeNo(node), "tests".into(), SHARDS, &secret, Fingerprint([7; 32]))
}

fn tls(folder: &Path, node: u32) -> PeerTls {
    let (certificate, key) = (folder.join(format!("node-{node}.pem")), folder.join(format!("node-{node}.key")));
    PeerTls::from_files(NodeNo(node), &folder.join("ca.pem"), &certificate, &key).unwrap()
}

/// Certificates for so many nodes.
fn certified(nodes: u16) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    certificates::make(folder.path(), nodes).unwrap();
    folder
}

async fn node(log: &Arc<MemoryLog>, number: u32) -> Node {
    let journal = Box::new(OpenedMemory::shared(log, number));
    let stores = Stores { journal, snapshots: Arc::new(MemorySnapshots::new()) };
    let config = NodeConfig { threads: 2, begin_with: Some(vec![]), ..NodeConfig::default() };
    tokio::task::spawn_blocking(move || Node::start(config, stores).expect("starts")).await.unwrap()
}

/// A node opens its door at any port, as a server does.
async fn opens(node: &Node, hello: Hello, tls: PeerTls, hosts: &Arc<Hosts>) -> QuicPeers {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    QuicPeers::open(socket, node, hello, tls, Arc::clone(hosts) as _).await.unwrap()
}

/// Two nodes that are connected, with two of the shards each: the even ones at the first.
struct Two {
    log: Arc<MemoryLog>,
    nodes: [Node; 2],
    peers: [QuicPeers; 2],
}

impl Two {
    async fn start() -> Self {
        let (log, hosts, certificates) = (MemoryLog::new(SHARDS), Hosts::none(), certified(2));
        let nodes = [node(&log, 1).await, node(&log, 2).await];
        let mut peers = Vec::new();
        for (node, no) in nodes.iter().zip(1..) {
            let door = opens(node, hello(no), tls(certificates.path(), no), &hosts).await;
            peers.push(door);
        }
        for shard in (0..SHARDS).map(ShardId) {
            let at = usize::from(shard.0 % 2);
            log.claim(shard, at as u32 + 1);
            hosts.announce(shard, at as u32 + 1, peers[at].local_addr().unwrap());
            nodes[at].take_up(shard).await.unwrap();
        }
        let peers = peers.try_into().ok().expect("two");
        let two = Self { log, nodes, peers };
        two.connected().await;
        two
    }

    async fn connected(&self) {
        until("both are connected both ways", || self.peers.iter().all(|peers| peers.connected().len() == 1)).await;
    }

    async fn stop(self) {
        for (node, peers) in self.nodes.iter().zip(&self.peers) {
            node.stop().await;
            peers.stop().await;
        }
    }
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let waited = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

async fn ask(node: &Node, action: AdminAction) -> AdminAnswer {
    node.ask(AdminCommand { key: None, by: Principal::Installation, action }).await.0
}
