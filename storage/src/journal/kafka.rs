//! The journal on Kafka: one topic, a partition for each shard, one Kafka record for each batch.
//!
//! Who may write a shard is settled in the log itself (`journal::ownership`). Here are the two threads that drive its
//! machines: one hears what became of writes, the other reads every partition from its beginning and follows it. A record that is
//! handed over is numbered and given to the client library on the caller's thread, which never waits for a broker.
//!
//! Opening checks the topic (`kafka/topic.rs`), reads it to its end, from where it was read before (`kafka/checkpoint.rs`), claims
//! every shard and reads through the claims; then it is known what lies in it and that nobody else's writes count any more.
//! [`Claims::claim`] does the same for single shards
//! of a running journal: those that were lost, or that another node had. With [`Options::claim_all`] off, opening claims none.
//! Which node should have which shard is a matter of its consumer group (`kafka/group.rs`).
//!
//! A position is an offset. Offsets of claims and heartbeats hold no record; the end of a shard is behind its last one.

mod checkpoint;
mod claims;
pub mod group;
mod lane;
pub mod offline;
mod options;
mod reader;
mod shared;
#[cfg(test)]
mod tests;
mod topic;

use std::{
    ops::Deref,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use engine::model::ids::ShardId;
use rdkafka::{
    ClientContext, Message as _, TopicPartitionList,
    config::FromClientConfigAndContext as _,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext},
};

pub use self::{claims::Claims, options::Options};
use self::{
    lane::Lane,
    reader::KafkaReader,
    shared::{Delivery, Shared},
};
use super::{
    Cursor, Journal, JournalError, OpenedJournal, Reader, Reason, Records, Refused, Sink,
    ownership::{Header, Ticket},
    queue::Queued,
};

/// Hears what became of writes, on the thread that polls the producer.
struct Deliveries(Arc<Shared>);

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        // Whatever it means for a record, the record's own report says.
        tracing::warn!(%error, reason, "Kafka");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Delivery>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Box<Delivery>) {
        let outcome = match result {
            Ok(message) => u64::try_from(message.offset()).map_err(|_| "a duplicate without an offset".to_owned()),
            Err((why, _)) => Err(why.to_string()),
        };
        self.0.delivered(*delivery, outcome);
    }
}

type Producer = BaseProducer<Deliveries>;

/// The producer of this journal: another one once the library has declared the present one dead.
struct Line(Mutex<Arc<Producer>>);

impl Line {
    fn new(shared: &Arc<Shared>) -> Result<Self, JournalError> {
        Ok(Self(Mutex::new(Self::producer(shared)?)))
    }

    fn producer(shared: &Arc<Shared>) -> Result<Arc<Producer>, JournalError> {
        let deliveries = Deliveries(Arc::clone(shared));
        let producer = Producer::from_config_and_context(&shared.options.producer(), deliveries);
        Ok(Arc::new(producer.map_err(|why| JournalError::Options(why.to_string()))?))
    }

    fn now(&self) -> Arc<Producer> {
        Arc::clone(&self.0.lock().expect("nothing panics under this lock"))
    }

    /// What the dead one had under way is reported as failed when it is dropped.
    fn renew_if_dead(&self, shared: &Arc<Shared>) -> Result<(), JournalError> {
        if let Some((code, why)) = self.now().client().fatal_error() {
            tracing::warn!(%code, why, "the Kafka producer is dead, and is replaced");
            let fresh = Self::producer(shared)?;
            let dead = std::mem::replace(&mut *self.0.lock().expect("nothing panics under this lock"), fresh);
            drop(dead);
        }
        Ok(())
    }
}

/// A journal on Kafka that knows where its shards end, owns all of them or none, and takes no records yet.
pub struct Opened(KafkaJournal);

impl Opened {
    /// From now on records are taken, and `sink` hears what becomes of them.
    ///
    /// # Errors
    /// [`JournalError::Failed`] if a shard was lost since it was opened.
    pub fn start(self, sink: Arc<dyn Sink>) -> Result<KafkaJournal, JournalError> {
        self.0.shared.start(sink)?;
        Ok(self.0)
    }

    /// Who owns which shard, and a way to take them over once it is started.
    pub fn claims(&self) -> Claims {
        self.0.claims.clone()
    }
}

/// A running journal on Kafka.
pub struct KafkaJournal {
    claims: Claims,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    deliveries: JoinHandle<()>,
    tail: JoinHandle<()>,
    stop: Arc<Stop>,
}

#[derive(Default)]
struct Stop {
    deliveries: AtomicBool,
    tail: AtomicBool,
}

/// How long a thread waits for something to happen before it looks around.
const ROUND: Duration = Duration::from_millis(100);

impl KafkaJournal {
    /// Opens the journal: checks the topic or creates it, reads it, and takes over its shards, whoever owned them before, unless
    /// [`Options::claim_all`] is off.
    ///
    /// # Errors
    /// [`JournalError::Unreachable`], [`JournalError::Topic`], [`JournalError::WrongShards`], [`JournalError::Empty`],
    /// [`JournalError::Taken`], [`JournalError::Damaged`], [`JournalError::Options`].
    pub fn open(options: Options) -> Result<Opened, JournalError> {
        options.check()?;
        topic::prepare(&options)?;
        Self::open_unchecked(options)
    }

    /// As [`KafkaJournal::open`], for a topic that is what it should be.
    fn open_unchecked(options: Options) -> Result<Opened, JournalError> {
        let client = |why: KafkaError| JournalError::Options(why.to_string());
        let shared = Arc::new(Shared::new(options));
        let options = &shared.options;
        let line = Arc::new(Line::new(&shared)?);
        let consumer: Arc<BaseConsumer> = Arc::new(options.consumer().create().map_err(client)?);
        let mut partitions = TopicPartitionList::new();
        for (lane, known) in shared.lanes.iter().zip(checkpoint::load(options, shared.log)?) {
            known.into_iter().for_each(|known| lane.resume(known));
            let from = rdkafka::Offset::Offset(lane.state().owner.fold().next_offset() as i64);
            partitions.add_partition_offset(&options.topic, lane.shard.0.into(), from).map_err(client)?;
        }
        consumer.assign(&partitions).map_err(client)?;

        let stop = Arc::new(Stop::default());
        let fault = |error| JournalError::io("start a thread for", "the journal", error);
        let deliveries = {
            let (shared, line, stop) = (Arc::clone(&shared), Arc::clone(&line), Arc::clone(&stop));
            thread::Builder::new()
                .name("journal-kafka".into())
                .spawn(move || hear(&shared, &line, &stop))
                .map_err(fault)?
        };
        let tail = {
            let (shared, stopped, consumer) = (Arc::clone(&shared), Arc::clone(&stop), Arc::clone(&consumer));
            let tail = thread::Builder::new().name("journal-tail".into()).spawn(move || {
                follow(&shared, &consumer, &stopped);
                shared.tail_has_stopped();
            });
            tail.inspect_err(|_| stop.deliveries.store(true, Ordering::Relaxed)).map_err(fault)?
        };
        let threads = Mutex::new(Some(Threads { deliveries, tail, stop }));
        let claims = Claims { shared, line, tail: consumer };
        let journal = Self { claims: claims.clone(), threads };
        let all: Vec<ShardId> = (0..journal.shards()).map(ShardId).collect();
        if claims.shared.options.claim_all {
            claims.claim_each(&all)?;
        } else {
            for (shard, end) in topic::ends_of(&claims.shared.options, &claims.tail, all.into_iter())? {
                claims.shared.wait_for_tail(claims.shared.lane(shard), end)?;
            }
        }
        Ok(Opened(journal))
    }

    fn stop(&self) {
        let Some(Threads { deliveries, tail, stop }) =
            self.threads.lock().expect("nothing panics under this lock").take()
        else {
            return;
        };
        let began = Instant::now();
        // What was handed over becomes durable, or of unknown fate, within the time that a write may take.
        let write = Duration::from_millis(u64::from(self.shared.options.write_timeout_ms) + 2_000);
        while self.shared.failure().is_none() && began.elapsed() < write && self.shared.is_writing() {
            self.shared.wait_a_moment();
        }
        if self.shared.failure().is_none() && self.shared.is_writing() {
            self.shared.fail("closed before everything was durable: the brokers did not answer");
        }
        // Readers have the newest from the tail; what it has not seen they ask the brokers for.
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(1) && self.shared.is_behind() {
            self.shared.wait_a_moment();
        }
        stop.deliveries.store(true, Ordering::Relaxed);
        stop.tail.store(true, Ordering::Relaxed);
        // None can panic but by the sink, which has said so on its own thread.
        let _ = (deliveries.join(), tail.join());
    }
}

/// Gives a record to the client library, behind all that it was given before of this shard.
fn send(
    shared: &Shared,
    producer: &Producer,
    lane: &Lane,
    state: &mut lane::State,
    header: &Header,
    ticket: Ticket,
    payload: &[u8],
) -> Result<(), KafkaError> {
    let mut key = std::mem::take(&mut state.key);
    key.clear();
    header.encode(shared.log, lane.shard, &mut key);
    let delivery = Box::new(Delivery { shard: lane.shard, ticket });
    let record = BaseRecord::with_opaque_to(&shared.options.topic, delivery)
        .partition(lane.shard.0.into())
        .key(key.as_slice())
        .payload(payload);
    let sent = producer.send(record).map_err(|(why, _)| why);
    state.key = key;
    sent.inspect(|()| {
        state.under_way += 1;
        state.last_write = Instant::now();
    })
}

/// Hears what became of writes, and writes for shards that have been silent.
fn hear(shared: &Shared, line: &Line, stop: &Stop) {
    let idle = Duration::from_millis(shared.options.heartbeat_ms.into());
    while !stop.deliveries.load(Ordering::Relaxed) {
        let producer = line.now();
        producer.poll(ROUND);
        shared.tell_what_was_lost();
        for lane in &shared.lanes {
            let mut state = lane.state();
            if state.last_write.elapsed() >= idle
                && let Some((header, ticket)) = state.owner.heartbeat()
                && let Err(why) = send(shared, &producer, lane, &mut state, &header, ticket, &[])
            {
                let decision = state.owner.failed(ticket, &why.to_string());
                state.note(decision);
            }
        }
    }
}

/// Reads every partition, for as long as the journal is open.
fn follow(shared: &Shared, consumer: &BaseConsumer, stop: &Stop) {
    read_on(shared, consumer, stop);
    checkpoint::save(shared);
}

fn read_on(shared: &Shared, consumer: &BaseConsumer, stop: &Stop) {
    let mut noted = Instant::now();
    while !stop.tail.load(Ordering::Relaxed) {
        if noted.elapsed() >= checkpoint::EVERY {
            checkpoint::save(shared);
            noted = Instant::now();
        }
        match consumer.poll(ROUND) {
            None => {}
            Some(Ok(message)) => {
                let (key, payload) = (message.key().unwrap_or_default(), message.payload().unwrap_or_default());
                let lane = shared.lane(ShardId(message.partition() as u16));
                if let Err(why) = shared.tailed(lane, message.offset() as u64, key, payload) {
                    shared.fail(&why.to_string());
                    return;
                }
            }
            Some(Err(why)) => match why.rdkafka_error_code() {
                Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) => {
                    shared.fail(&topic::cut(&shared.options, &why.to_string()).to_string());
                    return;
                }
                // Brokers that are away come back, or writes take too long.
                _ => tracing::debug!(%why, "Kafka"),
            },
        }
    }
}

/// What a journal knows of its shards' owners, it is asked for directly.
impl Deref for KafkaJournal {
    type Target = Claims;

    fn deref(&self) -> &Claims {
        &self.claims
    }
}

impl Records for KafkaJournal {
    fn shards(&self) -> u16 {
        self.claims.shards()
    }

    fn end(&self) -> Cursor {
        self.shared.end()
    }

    fn reader(&self, from: &Cursor) -> Result<Box<dyn Reader>, JournalError> {
        Ok(Box::new(KafkaReader::open(Arc::clone(&self.shared), from)?))
    }

    fn records_between(&self, from: &Cursor, to: &Cursor) -> u64 {
        self.shared.records_between(from, to)
    }

    fn is_here(&self, shard: ShardId) -> bool {
        self.shared.lane(shard).state().owner.owns()
    }
}

impl Records for Opened {
    fn shards(&self) -> u16 {
        self.0.shards()
    }

    fn end(&self) -> Cursor {
        self.0.end()
    }

    fn reader(&self, from: &Cursor) -> Result<Box<dyn Reader>, JournalError> {
        self.0.reader(from)
    }

    fn records_between(&self, from: &Cursor, to: &Cursor) -> u64 {
        self.0.records_between(from, to)
    }
}

impl OpenedJournal for Opened {
    fn start(self: Box<Self>, sink: Arc<dyn Sink>) -> Result<Arc<dyn Journal>, JournalError> {
        Ok(Arc::new((*self).start(sink)?))
    }
}

impl Journal for KafkaJournal {
    fn append(&self, shard: ShardId, record: Vec<u8>) -> Result<(), Refused> {
        assert!(shard.0 < self.shards(), "{shard:?} of {}", self.shards());
        if record.len() > self.shared.options.record_bytes_max {
            return Err(Refused { reason: Reason::TooLarge, record });
        }
        if let Err(reason) = self.shared.room.take(record.len()) {
            return Err(Refused { reason, record });
        }
        let lane = self.shared.lane(shard);
        // Before the lock: whoever lets go of a dead one last hears what it had under way.
        let producer = self.line.now();
        let mut state = lane.state();
        let refused = match state.owner.batch(&record) {
            None => record,
            Some((header, ticket)) => match send(&self.shared, &producer, lane, &mut state, &header, ticket, &record) {
                Ok(()) => {
                    state.buffers.push_back(record);
                    return Ok(());
                }
                // Its number is given away, so this shard is at its end. The sink is told on its own thread.
                Err(why) => {
                    let decision = state.owner.failed(ticket, &why.to_string());
                    state.note(decision);
                    record
                }
            },
        };
        drop(state);
        self.shared.room.done(1, refused.len());
        Err(Refused { reason: Reason::Failed, record: refused })
    }

    fn write_here(&self, _: &mut Queued) -> bool {
        false
    }

    fn failure(&self) -> Option<String> {
        self.shared.failure()
    }

    fn close(&self) -> Result<(), JournalError> {
        self.shared.room.close();
        self.stop();
        self.failure().map_or(Ok(()), |why| Err(JournalError::Failed(why)))
    }
}

impl Drop for KafkaJournal {
    fn drop(&mut self) {
        // Whoever wants to know how it went calls `close`.
        let _ = self.close();
    }
}
