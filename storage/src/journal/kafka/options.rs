//! The settings of a journal on Kafka, and what they mean for the client library.

use std::{path::PathBuf, time::Duration};

use rdkafka::ClientConfig;

use crate::journal::{JournalError, MEMBER_BYTES_MAX, Member};

/// The settings of a journal on Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where to find the brokers, as `host:port,host:port`.
    pub brokers: String,
    /// Default `tapgate.journal`.
    pub topic: String,
    /// The cluster's name. It stands in every record, so that a topic of another cluster is not taken for this one's.
    pub cluster: String,
    /// Who this process is among the nodes of the cluster; it stands in each of its claims. Default: nobody, it is alone.
    pub member: Option<Member>,
    /// Whether opening takes over every shard. Default true; if not, it owns none, and takes over those that it is told to.
    pub claim_all: bool,
    /// How many shards, and partitions. Default 16.
    pub shards: u16,
    /// Whether a missing topic is created. Default false: a wrong address must not look like a new festival.
    pub create: bool,
    /// How many copies of each record there are to be, at least. Default 3.
    pub replication: u16,
    /// How many copies must be written before a record is durable, at least. Default 2.
    pub min_insync: u16,
    /// A file in which is noted, now and then, how far the log was read, so that the next opening begins there. It is this
    /// process's alone. Default: none, and the log is read from its beginning.
    pub checkpoint: Option<PathBuf>,
    /// How many bytes may be handed over and not yet durable. Default 32 MiB, as for the file journal. The client library
    /// holds as much once more.
    pub queue_bytes_max: usize,
    /// How many records may be handed over and not yet durable. Default 4,096: 16 shards, 256 batches each.
    pub queue_records_max: usize,
    /// The longest record, in bytes. Default 4 MiB, as for the file journal.
    pub record_bytes_max: usize,
    /// After how long a write counts as of unknown fate, in ms. Default 10,000: longer than a broker takes to be elected.
    pub write_timeout_ms: u32,
    /// How often a shard that writes nothing notes that it still has its owner, in ms. Default 10,000: the tail notices another
    /// owner at once, this notices that nothing can be written. Each takes about 130 bytes of the log.
    pub heartbeat_ms: u32,
    /// How long opening, claiming and reading wait for brokers that do not answer, in ms. Default 20,000.
    pub patience_ms: u32,
}

impl Options {
    /// Those of the cluster of this name, on these brokers.
    pub fn new(brokers: impl Into<String>, cluster: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic: "tapgate.journal".into(),
            cluster: cluster.into(),
            member: None,
            claim_all: true,
            shards: 16,
            create: false,
            replication: 3,
            min_insync: 2,
            checkpoint: None,
            queue_bytes_max: 32 << 20,
            queue_records_max: 4096,
            record_bytes_max: 4 << 20,
            write_timeout_ms: 10_000,
            heartbeat_ms: 10_000,
            patience_ms: 20_000,
        }
    }

    pub(super) fn check(&self) -> Result<(), JournalError> {
        let why = if self.member.as_ref().is_some_and(|member| !member.is_sound()) {
            return Err(JournalError::Options(format!(
                "a node has a number from 1 on and two addresses, all of it in {MEMBER_BYTES_MAX} bytes"
            )));
        } else if self.shards == 0 {
            "there must be a shard"
        } else if self.cluster.is_empty() {
            "the cluster needs a name"
        } else if self.brokers.is_empty() || self.topic.is_empty() {
            "brokers and topic must be named"
        } else if self.min_insync == 0 || self.min_insync > self.replication {
            "as many copies must be written as there are, at most, and one at least"
        } else if self.record_bytes_max == 0 || self.queue_records_max == 0 {
            "a record must fit in"
        } else if self.write_timeout_ms < 1_000 {
            "a write needs a second at least"
        } else {
            return Ok(());
        };
        Err(JournalError::Options(why.to_owned()))
    }

    pub(super) fn patience(&self) -> Duration {
        Duration::from_millis(self.patience_ms.into())
    }

    /// What every client of this journal has in common.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "tapgate")
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000");
        config
    }

    pub(super) fn producer(&self) -> ClientConfig {
        let bytes = self.record_bytes_max + (64 << 10);
        let mut config = self.client();
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("max.in.flight.requests.per.connection", "5")
            .set("linger.ms", "0")
            .set("compression.type", "none")
            .set("message.timeout.ms", self.write_timeout_ms.to_string())
            .set("message.max.bytes", bytes.to_string())
            // Its own bounds are never met: those of this journal come first.
            .set(
                "queue.buffering.max.messages",
                (self.queue_records_max + 2 * usize::from(self.shards)).max(1_000).to_string(),
            )
            .set("queue.buffering.max.kbytes", ((self.queue_bytes_max + bytes) / 512 + 1_024).to_string());
        config
    }

    /// One that reads what it is told to, and belongs to no group: without a group's name the library assigns nothing.
    pub(super) fn consumer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", "tapgate")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // A position that the topic does not have is an error, and never a jump.
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false")
            .set("check.crcs", "true")
            .set("fetch.min.bytes", "1")
            .set("fetch.error.backoff.ms", "50")
            .set("fetch.message.max.bytes", (self.record_bytes_max + (64 << 10)).to_string())
            .set("queued.max.messages.kbytes", "8192");
        config
    }

    pub(super) fn unreachable(&self, why: impl std::fmt::Display) -> JournalError {
        JournalError::Unreachable { brokers: self.brokers.clone(), why: why.to_string() }
    }
}
