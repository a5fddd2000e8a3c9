//! A walk through the whole log for an audit: beside whoever owns its shards, claiming nothing and writing nothing.

use std::{sync::Arc, time::Instant};

use engine::model::ids::ShardId;
use rdkafka::{
    Message as _, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{Options, ROUND, topic};
use crate::journal::{
    Chain, Entry, JournalError, Position,
    ownership::{Fold, Header, Log, Verdict},
};

/// Everything that was durable when it began, each shard's records in their order.
pub struct Walk {
    options: Options,
    log: Log,
    consumer: BaseConsumer,
    shards: Vec<OfShard>,
    current: Arc<[u8]>,
}

struct OfShard {
    fold: Fold,
    /// Where its durable part ended when the walk began.
    end: u64,
    /// Nothing behind damage is read.
    damaged: bool,
}

impl OfShard {
    fn is_done(&self) -> bool {
        self.damaged || self.fold.next_offset() >= self.end
    }
}

impl Walk {
    /// Begins it. Settings of the topic are not looked at, its partitions are.
    ///
    /// # Errors
    /// [`JournalError::Unreachable`], [`JournalError::Topic`], [`JournalError::WrongShards`].
    pub fn begin(options: &Options) -> Result<Self, JournalError> {
        let client = |why: KafkaError| JournalError::Options(why.to_string());
        let options = Options { create: false, replication: 1, min_insync: 1, ..options.clone() };
        options.check()?;
        topic::exists(&options)?;
        let consumer: BaseConsumer = options.consumer().create().map_err(client)?;
        let (mut partitions, mut shards) = (TopicPartitionList::new(), Vec::new());
        for shard in (0..options.shards).map(ShardId) {
            let (begin, end) = topic::ends(&options, consumer.client(), shard)?;
            if begin > 0 {
                return Err(topic::cut(&options, &format!("partition {} begins at offset {begin}", shard.0)));
            }
            let from = rdkafka::Offset::Offset(0);
            partitions.add_partition_offset(&options.topic, shard.0.into(), from).map_err(client)?;
            shards.push(OfShard { fold: Fold::new(shard), end, damaged: false });
        }
        consumer.assign(&partitions).map_err(client)?;
        Ok(Self { log: Log::of(&options.cluster), options, consumer, shards, current: Arc::default() })
    }

    /// How many offsets there are in all, those without a record among them.
    pub fn ends_at(&self) -> u64 {
        self.shards.iter().map(|shard| shard.end).sum()
    }

    /// How many of them lie behind it.
    pub fn passed(&self) -> u64 {
        self.shards.iter().map(|shard| shard.fold.next_offset()).sum()
    }

    /// The chain hash after the last record of each shard.
    pub fn chains(&self) -> impl Iterator<Item = Chain> {
        self.shards.iter().map(|shard| shard.fold.chain())
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// [`JournalError::Damaged`]: nothing more comes of that shard, and of the others the walk goes on.
    /// [`JournalError::Unreachable`], [`JournalError::Topic`]: it is over.
    pub fn next_record(&mut self) -> Result<Option<Entry<'_>>, JournalError> {
        let mut began = Instant::now();
        while self.shards.iter().any(|shard| !shard.is_done()) {
            let message = match self.consumer.poll(ROUND) {
                Some(Ok(message)) => message,
                Some(Err(why)) => match why.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) => {
                        return Err(topic::cut(&self.options, &why.to_string()));
                    }
                    _ if began.elapsed() > self.options.patience() => return Err(self.options.unreachable(why)),
                    _ => continue,
                },
                None if began.elapsed() > self.options.patience() => {
                    return Err(self.options.unreachable("records could not be read"));
                }
                None => continue,
            };
            began = Instant::now();
            let id = ShardId(message.partition() as u16);
            let (offset, payload) = (message.offset() as u64, message.payload().unwrap_or_default());
            let shard = &mut self.shards[usize::from(id.0)];
            if shard.is_done() {
                continue; // written since
            }
            let header = Header::decode(message.key().unwrap_or_default(), payload.len(), self.log, id);
            let verdict = header
                .map_err(|why| why.to_string())
                .and_then(|header| shard.fold.step(offset, &header, payload).map_err(|why| why.to_string()));
            match verdict {
                Ok(Verdict::Record) => {
                    self.current = payload.into();
                    return Ok(Some(Entry { shard: id, position: Position(offset), payload: &self.current }));
                }
                Ok(_) => {}
                Err(why) => {
                    shard.damaged = true;
                    let place = format!("partition {} of topic {}", id.0, self.options.topic);
                    return Err(JournalError::damaged(&place, offset, why));
                }
            }
        }
        Ok(None)
    }
}
