//! Two nodes in one process, over one journal in memory: what one sends the other arrives, unless the line is cut.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use actors::{Answered, Node, NodeConfig, Parcel, Peers, Replies, Stores};
use engine::model::ids::{NodeNo, ShardId};
use storage::testing::memory::{MemoryLog, MemorySnapshots, OpenedMemory};

/// Which node has which shard, as all of them believe, and how to reach them.
#[derive(Default)]
pub struct Hosts {
    of: Mutex<Vec<Option<NodeNo>>>,
    nodes: Mutex<Vec<(NodeNo, Node)>>,
    /// What is sent arrives, and its answers do not.
    pub cut: AtomicBool,
}

impl Hosts {
    /// Starts so many nodes, from number 1 on, over a log. None has a shard.
    pub fn start(log: &Arc<MemoryLog>, shards: u16, count: u32) -> (Arc<Self>, Vec<Node>) {
        let hosts = Arc::new(Self { of: Mutex::new(vec![None; usize::from(shards)]), ..Self::default() });
        for number in 1..=count {
            let journal = Box::new(OpenedMemory::shared(log, number));
            let stores = Stores { journal, snapshots: Arc::new(MemorySnapshots::new()) };
            let config = NodeConfig { threads: 2, begin_with: Some(vec![]), shadows: 2, ..NodeConfig::default() };
            let node = Node::start(config, stores).expect("starts");
            assert!(node.join(Arc::new(Neighbour { me: NodeNo(number), hosts: Arc::clone(&hosts) })));
            hosts.nodes.lock().unwrap().push((NodeNo(number), node));
        }
        let nodes = hosts.nodes.lock().unwrap().iter().map(|(_, node)| node.clone()).collect();
        (hosts, nodes)
    }

    /// Everybody believes that this node has that shard.
    pub fn announce(&self, shard: ShardId, host: Option<NodeNo>) {
        self.of.lock().unwrap()[usize::from(shard.0)] = host;
    }

    /// The nodes hold on to each other through this.
    pub fn part(&self) {
        self.nodes.lock().unwrap().clear();
    }
}

/// One node's view of the others.
struct Neighbour {
    me: NodeNo,
    hosts: Arc<Hosts>,
}

impl Peers for Neighbour {
    fn host(&self, shard: ShardId) -> Option<NodeNo> {
        self.hosts.of.lock().unwrap()[usize::from(shard.0)].filter(|host| *host != self.me)
    }

    fn send(&self, to: NodeNo, parcel: Box<Parcel>) -> Result<(), Box<Parcel>> {
        let node =
            self.hosts.nodes.lock().unwrap().iter().find(|(number, _)| *number == to).map(|(_, node)| node.clone());
        let Some(node) = node else { return Err(parcel) };
        let Parcel { shard, work, answers } = *parcel;
        node.accept(shard, work, Arc::new(Line { answers, hosts: Arc::clone(&self.hosts) }));
        Ok(())
    }
}

/// On which answers come back. What it loses, nobody is told.
struct Line<R> {
    answers: R,
    hosts: Arc<Hosts>,
}

impl<R: Replies> Replies for Line<R> {
    fn answered(&self, answered: Answered) {
        if !self.hosts.cut.load(Ordering::Acquire) {
            self.answers.answered(answered);
        }
    }
}
