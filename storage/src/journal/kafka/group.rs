//! Who *should* have which shard: a consumer group over the journal's partitions. Nothing is read through it and nothing
//! committed; of all that Kafka offers a group, this uses that it shares out partitions among whoever is alive.
//!
//! What it says decides nothing: who has a shard is settled in the log, by a claim. So a partition that is taken away is let go
//! at once, and its shard goes on being served here until the log has somebody else's claim. In between nobody would serve it,
//! for as long as a group takes to agree (`HEARTBEAT_MS`, and another round). For the same reason a node that has lost its
//! place in the group, because it was paused or the coordinator is away, stops nothing.
//!
//! Rebalancing is cooperative: only partitions that move are taken away. The library's default for this is replaced, because it
//! asks the library for the protocol from within the callback, which has been seen to hang while a consumer is closed
//! (librdkafka 4041), and drops the errors.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use engine::model::ids::{NodeNo, ShardId};
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::FromClientConfigAndContext as _,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol},
    error::KafkaError,
    types::RDKafkaRespErr,
};

use super::{Options, ROUND};
use crate::journal::JournalError;

/// After how long without a heartbeat a node counts as gone, unless it is told otherwise: the better part of a fail-over. Less,
/// and a broker that is elected or a machine that is busy looks like a dead node.
pub const SESSION_MS: u32 = 3_000;
/// How often each node reports to the group's coordinator, and so how soon it learns that somebody has come or gone.
const HEARTBEAT_MS: u32 = 300;
/// How long the others wait for a node that is alive and does not say that it has heard. The thread below does nothing else.
const REJOIN_MS_MAX: u32 = 30_000;
/// How long leaving waits for the brokers.
const LEAVE_MS_MAX: u64 = 3_000;

/// A place in the group.
pub struct Group {
    seen: Arc<Seen>,
    name: String,
    /// Of the thread's, which closes it: that can take as long as brokers do not answer.
    consumer: Weak<BaseConsumer<Listener>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Seen {
    assigned: Mutex<BTreeSet<ShardId>>,
    /// It is to be in the group.
    wanted: AtomicBool,
    /// It has been given a place since it last joined, if with no shards.
    joined: AtomicBool,
    stopping: AtomicBool,
    /// Why it has no place yet, if anything was said.
    fault: Mutex<Option<String>>,
    changed: Box<dyn Fn() + Send + Sync>,
}

impl Seen {
    fn assigned(&self) -> BTreeSet<ShardId> {
        self.assigned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, how: impl FnOnce(&mut BTreeSet<ShardId>)) {
        how(&mut self.assigned.lock().unwrap_or_else(PoisonError::into_inner));
        (self.changed)();
    }
}

/// Hears what the group has agreed upon, on the thread that polls.
struct Listener(Arc<Seen>);

impl ClientContext for Listener {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "Kafka, consumer group");
    }
}

impl ConsumerContext for Listener {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let elements = partitions.elements();
        let shards: BTreeSet<ShardId> = elements.iter().map(|element| ShardId(element.partition() as u16)).collect();
        let numbers: Vec<u16> = shards.iter().map(|shard| shard.0).collect();
        let done = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            tracing::info!(shards = ?numbers, "the group assigns shards to this node");
            // Any offset will do, and one that is given is not asked for. Nothing is to be read from it.
            let mut from = partitions.clone();
            from.set_all_offsets(Offset::Offset(0))
                .and_then(|()| consumer.incremental_assign(&from))
                .and_then(|()| consumer.pause(&from))
        } else {
            tracing::info!(shards = ?numbers, "the group gives shards to other nodes");
            consumer.incremental_unassign(partitions)
        };
        if let Err(why) = done {
            tracing::warn!(%why, "Kafka, consumer group: a change was not taken in");
        }
        if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.0.joined.store(true, Ordering::Release);
            self.0.change(|assigned| assigned.extend(&shards));
        } else {
            self.0.change(|assigned| assigned.retain(|shard| !shards.contains(shard)));
        }
    }
}

/// The group of a cluster, as its coordinator knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// The coordinator's word: `Stable`, `PreparingRebalance`, `CompletingRebalance`, `Empty`, `Dead`.
    pub state: String,
    /// How many places are taken, and by which nodes, as far as they are known.
    pub places: usize,
    /// In ascending order.
    pub nodes: Vec<NodeNo>,
}

impl Group {
    /// Joins the group of the journal's cluster, as the node that `options` names. `changed` is called after each change of
    /// what is [`Group::assigned`], on the group's thread, which it must not block.
    ///
    /// # Errors
    /// [`JournalError::Options`], [`JournalError::Io`]. Brokers that do not answer are waited for.
    pub fn join(
        options: &Options,
        session_ms: u32,
        changed: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, JournalError> {
        let client = |why: KafkaError| JournalError::Options(why.to_string());
        let seen = Arc::new(Seen {
            assigned: Mutex::default(),
            wanted: AtomicBool::new(true),
            joined: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            fault: Mutex::default(),
            changed: Box::new(changed),
        });
        let name = name(options);
        let mut config = options.client();
        if let Some(member) = &options.member {
            config.set("client.id", format!("{CLIENT}{}", member.node.0));
        }
        config
            .set("group.id", &name)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", session_ms.to_string())
            .set("heartbeat.interval.ms", HEARTBEAT_MS.min(session_ms / 3).to_string())
            .set("max.poll.interval.ms", REJOIN_MS_MAX.max(session_ms).to_string())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("allow.auto.create.topics", "false")
            // What is fetched before the pause takes hold is dropped: let it be little.
            .set("fetch.message.max.bytes", "1024")
            .set("queued.min.messages", "1");
        let consumer = BaseConsumer::from_config_and_context(&config, Listener(Arc::clone(&seen))).map_err(client)?;
        consumer.subscribe(&[&options.topic]).map_err(client)?;
        let consumer = Arc::new(consumer);
        let (at_work, topic, closed_there) = (Arc::clone(&seen), options.topic.clone(), Arc::downgrade(&consumer));
        let thread = thread::Builder::new()
            .name("journal-group".into())
            .spawn(move || poll(&at_work, &consumer, &topic))
            .map_err(|error| JournalError::io("start a thread for", "the consumer group", error))?;
        Ok(Self { seen, name, consumer: closed_there, thread: Mutex::new(Some(thread)) })
    }

    /// The shards that this node should have, as far as it has heard.
    pub fn assigned(&self) -> BTreeSet<ShardId> {
        self.seen.assigned()
    }

    /// Whether it has a place in the group, if with no shards.
    pub fn has_joined(&self) -> bool {
        self.seen.joined.load(Ordering::Acquire)
    }

    /// What the library last complained of, for whoever wonders why there is no place.
    pub fn fault(&self) -> Option<String> {
        self.seen.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it has a place in the group, or wants one.
    pub fn is_wanted(&self) -> bool {
        self.seen.wanted.load(Ordering::Acquire)
    }

    /// Leaves its place, so that its shards are shared out among the others at once; or takes one again.
    pub fn want(&self, wanted: bool) {
        self.seen.wanted.store(wanted, Ordering::Release);
    }

    /// The group, as its coordinator knows it. Blocks for some round trips.
    ///
    /// # Errors
    /// [`JournalError::Unreachable`].
    pub fn view(&self, options: &Options) -> Result<GroupView, JournalError> {
        let consumer = self.consumer.upgrade().ok_or_else(|| options.unreachable("the group has ended"))?;
        view(options, &consumer, &self.name)
    }
}

/// The same, by somebody who has no place in it.
///
/// # Errors
/// [`JournalError::Unreachable`], [`JournalError::Options`].
pub fn look(options: &Options) -> Result<GroupView, JournalError> {
    view(options, &super::topic::asker(options)?, &name(options))
}

/// What the clients of a node are called, before its number.
const CLIENT: &str = "tapgate.node.";

fn name(options: &Options) -> String {
    format!("tapgate.{}", options.cluster)
}

fn view<C: ConsumerContext>(
    options: &Options,
    consumer: &BaseConsumer<C>,
    name: &str,
) -> Result<GroupView, JournalError> {
    let patience = options.patience().min(Duration::from_secs(2));
    let list = consumer.fetch_group_list(Some(name), patience).map_err(|why| options.unreachable(why))?;
    let Some(group) = list.groups().iter().find(|group| group.name() == name) else {
        return Ok(GroupView { state: "Empty".to_owned(), places: 0, nodes: Vec::new() });
    };
    let node = |id: &str| id.strip_prefix(CLIENT)?.parse().ok().map(NodeNo);
    let mut nodes: Vec<NodeNo> = group.members().iter().filter_map(|member| node(member.client_id())).collect();
    nodes.sort_unstable();
    Ok(GroupView { state: group.state().to_owned(), places: group.members().len(), nodes })
}

impl Drop for Group {
    fn drop(&mut self) {
        self.seen.stopping.store(true, Ordering::Release);
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let began = Instant::now();
        while !thread.is_finished() {
            if began.elapsed() > Duration::from_millis(2 * LEAVE_MS_MAX) {
                tracing::warn!("the consumer group cannot be left in order: the brokers do not answer");
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        // It hears callbacks of this module alone, which do not panic.
        let _ = thread.join();
    }
}

/// Keeps the place, until the group is dropped.
fn poll(seen: &Seen, consumer: &BaseConsumer<Listener>, topic: &str) {
    let (mut subscribed, mut asked) = (true, Instant::now());
    while !seen.stopping.load(Ordering::Acquire) {
        let wanted = seen.wanted.load(Ordering::Acquire);
        if wanted != subscribed {
            seen.joined.store(false, Ordering::Release);
            if !wanted {
                consumer.unsubscribe();
            } else if let Err(why) = consumer.subscribe(&[topic]) {
                tracing::warn!(%why, "Kafka, consumer group");
            }
            subscribed = wanted;
        }
        if let Some(Err(why)) = consumer.poll(ROUND) {
            // Brokers that are away come back, and the library joins again. What has to be set otherwise, somebody has to read.
            let why = why.to_string();
            let mut fault = seen.fault.lock().unwrap_or_else(PoisonError::into_inner);
            if fault.as_ref() != Some(&why) {
                tracing::warn!(why, "Kafka, consumer group");
            }
            *fault = Some(why);
        }
        // Of a place without shards the library says nothing.
        if subscribed && !seen.joined.load(Ordering::Acquire) && asked.elapsed() > Duration::from_secs(1) {
            asked = Instant::now();
            if matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative) {
                seen.joined.store(true, Ordering::Release);
                (seen.changed)();
            }
        }
    }
    // Its place is given up now, and not after the time of a session.
    consumer.unsubscribe();
    let began = Instant::now();
    while !seen.assigned().is_empty() && began.elapsed() < Duration::from_millis(LEAVE_MS_MAX) {
        consumer.poll(Duration::from_millis(10));
    }
}
