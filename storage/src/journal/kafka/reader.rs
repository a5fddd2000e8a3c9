//! Reading beside the owner: what is durable and counts, and no further than that.
//!
//! Older records come from the brokers, one partition after the other, and are folded here again; the newest come from the
//! memory of the journal's own tail, so that whoever keeps up asks no broker for anything.

use std::{sync::Arc, time::Instant};

use engine::model::ids::ShardId;
use rdkafka::{
    Message as _, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{
    lane::{Cached, Lane},
    shared::Shared,
    topic,
};
use crate::journal::{
    Cursor, Entry, JournalError, Position, Reader,
    ownership::{Fold, Verdict},
};

pub(super) struct KafkaReader {
    shared: Arc<Shared>,
    /// Behind the last record given of each shard.
    at: Cursor,
    /// The shard that is read.
    turn: u16,
    older: Option<Older>,
    current: Arc<[u8]>,
}

/// A walk through one partition, by way of the brokers.
struct Older {
    consumer: BaseConsumer,
    shard: ShardId,
    /// `None` until the record was read from which it can be known.
    fold: Option<Fold>,
}

impl KafkaReader {
    pub(super) fn open(shared: Arc<Shared>, from: &Cursor) -> Result<Self, JournalError> {
        if from.shards() != shared.options.shards {
            return Err(JournalError::WrongShards { found: shared.options.shards, asked: from.shards() });
        }
        let ends = shared.end();
        for shard in (0..from.shards()).map(ShardId) {
            let (asked, end) = (from.get(shard).0, ends.get(shard).0);
            if asked > end {
                return Err(JournalError::BeyondEnd { shard, asked, end });
            }
        }
        Ok(Self { shared, at: from.clone(), turn: 0, older: None, current: Arc::default() })
    }

    /// The next record of a shard that has one, and where it lies.
    fn of_shard(&mut self, shard: ShardId) -> Result<(u64, Arc<[u8]>), JournalError> {
        let shared = Arc::clone(&self.shared);
        let (lane, at) = (shared.lane(shard), self.at.get(shard).0);
        let began = Instant::now();
        loop {
            match lane.cached(at) {
                Cached::Here(offset, record) => return Ok((offset, record)),
                Cached::NotYet if shared.has_tail() => {
                    if began.elapsed() > shared.options.patience() {
                        return Err(shared.options.unreachable("the newest records could not be read back"));
                    }
                    drop(lane.wait(lane.state()));
                }
                Cached::Gone | Cached::NotYet => return self.of_brokers(lane, at),
            }
        }
    }

    fn of_brokers(&mut self, lane: &Lane, at: u64) -> Result<(u64, Arc<[u8]>), JournalError> {
        let older = match self.older.take() {
            Some(older) if older.shard == lane.shard => older,
            older => Older::begin(&self.shared, lane, at, older.map(|older| older.consumer))?,
        };
        self.older.insert(older).next(&self.shared, at)
    }
}

impl Reader for KafkaReader {
    fn next(&mut self) -> Result<Option<Entry<'_>>, JournalError> {
        let shards = self.at.shards();
        let ahead = |turn: &u16| self.at.get(ShardId(*turn)).0 < self.shared.lane(ShardId(*turn)).tip();
        let Some(turn) = (0..shards).map(|after| (self.turn + after) % shards).find(ahead) else {
            self.older = None; // with its threads
            return Ok(None);
        };
        self.turn = turn;
        let shard = ShardId(turn);
        let (offset, record) = self.of_shard(shard)?;
        let position = Position(offset);
        self.at.advance(shard, position.next());
        self.current = record;
        Ok(Some(Entry { shard, position, payload: &self.current }))
    }

    fn passed(&self, cursor: &mut Cursor) {
        for shard in (0..self.at.shards()).map(ShardId) {
            cursor.advance(shard, self.at.get(shard));
        }
    }
}

impl Older {
    /// Begins at the last record before `at`, since that says how to judge what follows, or at the beginning.
    fn begin(shared: &Shared, lane: &Lane, at: u64, consumer: Option<BaseConsumer>) -> Result<Self, JournalError> {
        let client = |why: KafkaError| JournalError::Options(why.to_string());
        let consumer = match consumer {
            Some(consumer) => consumer,
            None => shared.options.consumer().create().map_err(client)?,
        };
        let before = lane.state().places.record_before(at);
        let from = rdkafka::Offset::Offset(before.unwrap_or_default() as i64);
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_offset(&shared.options.topic, lane.shard.0.into(), from).map_err(client)?;
        consumer.assign(&partitions).map_err(client)?;
        let fold = before.is_none().then(|| Fold::new(lane.shard));
        Ok(Self { consumer, shard: lane.shard, fold })
    }

    /// The first record at or behind `at`, which is there.
    fn next(&mut self, shared: &Shared, at: u64) -> Result<(u64, Arc<[u8]>), JournalError> {
        let began = Instant::now();
        loop {
            let message = match self.consumer.poll(super::ROUND) {
                Some(Ok(message)) => message,
                Some(Err(why)) => match why.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) => {
                        return Err(topic::cut(&shared.options, &why.to_string()));
                    }
                    _ if began.elapsed() > shared.options.patience() => return Err(shared.options.unreachable(why)),
                    _ => continue,
                },
                None if began.elapsed() > shared.options.patience() => {
                    return Err(shared.options.unreachable("records could not be read"));
                }
                None => continue,
            };
            if message.partition() != i32::from(self.shard.0) {
                continue; // read ahead, before the last turn
            }
            let (offset, payload) = (message.offset() as u64, message.payload().unwrap_or_default());
            let header = shared.decode(self.shard, offset, message.key().unwrap_or_default(), payload)?;
            let damaged = |why: String| JournalError::damaged(&shared.place(self.shard), offset, why);
            let Some(fold) = &mut self.fold else {
                let fold = Fold::behind(self.shard, offset, &header, payload);
                self.fold = Some(fold.ok_or_else(|| damaged("the record that was here is another one".to_owned()))?);
                continue;
            };
            let verdict = fold.step(offset, &header, payload).map_err(|why| damaged(why.to_string()))?;
            if verdict == Verdict::Record && offset >= at {
                return Ok((offset, payload.into()));
            }
        }
    }
}
