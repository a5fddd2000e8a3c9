//! The journal on Kafka: one topic, a partition for each shard, one Kafka record for each batch.
//!
//! Who may write a shard is settled in the log itself (`journal::ownership`). Here are the two threads that drive its
//! machines: one hears what became of writes, the other reads every partition from its beginning and follows it. A record that is
//! handed over is numbered and given to the client library on the caller's thread, which never waits for a broker.
//!
//! Opening checks the topic (`kafka/topic.rs`), reads it to its end, from where it was read before (`kafka/checkpoint.rs`), claims every shard and reads through the claims; then it is
//! known what lies in it and that nobody else's writes count any more. [`KafkaJournal::claim`] does the same for single shards
//! of a running journal: those that were lost, or that another node had. With [`Options::claim_all`] off, opening claims none.
//! Which node should have which shard is a matter of its consumer group (`kafka/group.rs`).
//!
//! A position is an offset. Offsets of claims and heartbeats hold no record; the end of a shard is behind its last one.

mod checkpoint;
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

pub use self::options::Options;
use self::{
    lane::Lane,
    reader::KafkaReader,
    shared::{Delivery, Shared},
};
use super::{
    Cursor, Journal, JournalError, Member, OpenedJournal, Position, Reader, Reason, Records, Refused, Sink,
    ownership::{Header, Incarnation, Ticket},
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
}

/// A running journal on Kafka.
pub struct KafkaJournal {
    shared: Arc<Shared>,
    line: Arc<Line>,
    /// Follows every partition, on a thread of its own; others may ask it where they end.
    tail: Arc<BaseConsumer>,
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
/// How often a shard is claimed at least before its claimer gives up, for another reason than that somebody else has claimed it.
const CLAIMS_MAX: usize = 3;

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
        let journal = Self { shared, line, tail: consumer, threads };
        let all: Vec<ShardId> = (0..journal.shards()).map(ShardId).collect();
        if journal.shared.options.claim_all {
            journal.claim_each(&all)?;
        } else {
            for (shard, end) in topic::ends_of(&journal.shared.options, &journal.tail, all.into_iter())? {
                journal.shared.wait_for_tail(journal.shared.lane(shard), end)?;
            }
        }
        Ok(Opened(journal))
    }

    /// Takes over one shard, whoever owned it before, and says where its records end: replay up to there, then hand records
    /// over. Blocks for some round trips, and up to the time a write may take if writes of this process are still under way.
    /// Several threads may claim at once, each another shard.
    ///
    /// # Errors
    /// As [`KafkaJournal::open`].
    pub fn claim(&self, shard: ShardId) -> Result<Position, JournalError> {
        self.claim_each(&[shard])?;
        Ok(self.end().get(shard))
    }

    /// Whether this journal owns a shard, as far as it knows. From memory.
    ///
    /// # Panics
    /// If the journal has no such shard.
    pub fn owns(&self, shard: ShardId) -> bool {
        self.shared.lane(shard).state().owner.owns()
    }

    /// Who has a shard, as the log says it: whoever made the valid claim, as far as the tail has come. `None`: nobody has
    /// claimed it, or somebody who did not say who he is. From memory.
    ///
    /// # Panics
    /// If the journal has no such shard.
    pub fn owner(&self, shard: ShardId) -> Option<Arc<Member>> {
        self.shared.lane(shard).state().member.clone()
    }

    /// How many valid claims of a shard there have been, as far as the tail has come. From memory.
    ///
    /// # Panics
    /// If the journal has no such shard.
    pub fn epoch(&self, shard: ShardId) -> u64 {
        self.shared.lane(shard).state().owner.fold().epoch()
    }

    /// Whether another process that says it is this node has written of late.
    pub fn has_twin(&self) -> bool {
        self.shared.has_twin()
    }

    /// Takes over these, at the cost of one: what is asked and written of them is under way at the same time. What cannot be
    /// had keeps no other from being taken over; the first reason is the error.
    fn claim_each(&self, shards: &[ShardId]) -> Result<(), JournalError> {
        let claimed = self.try_to_claim(shards);
        shards.iter().for_each(|shard| self.shared.lane(*shard).state().claiming = false);
        claimed
    }

    fn try_to_claim(&self, shards: &[ShardId]) -> Result<(), JournalError> {
        let options = &self.shared.options;
        let member = options.member.as_ref().map(Member::encode).unwrap_or_default();
        let began = Instant::now();
        let (mut claims, mut ended) = (0, Ok(()));
        let mut wanted: Vec<&Lane> = shards.iter().map(|shard| self.shared.lane(*shard)).collect();
        loop {
            wanted.retain(|lane| !lane.state().owner.owns());
            if wanted.is_empty() {
                return ended;
            }
            claims += 1;
            self.shared.tell_what_was_lost();
            self.line.renew_if_dead(&self.shared)?;
            let producer = self.line.now();
            // What is still under way would lie behind the claim, where only the new incarnation's records may lie.
            let write = Duration::from_millis(u64::from(options.write_timeout_ms) + 1_000);
            let waiting = Instant::now() + write;
            let mut waits =
                |lanes: &mut Vec<&Lane>, patience: Duration, what: &str, until: fn(&lane::State) -> bool| {
                    let deadline = waiting + patience;
                    lanes.retain(|lane| {
                        let left = deadline.saturating_duration_since(Instant::now());
                        let waited = self.shared.wait(lane, left, what, until);
                        let holds = waited.is_ok();
                        ended = std::mem::replace(&mut ended, Ok(())).and(waited);
                        holds
                    });
                };
            waits(&mut wanted, Duration::ZERO, "earlier writes to end", |state| state.under_way == 0);
            for (shard, end) in topic::ends_of(options, &self.tail, wanted.iter().map(|lane| lane.shard))? {
                self.shared.wait_for_tail(self.shared.lane(shard), end)?;
            }
            for lane in &wanted {
                let mut state = lane.state();
                if state.owner.is_idle() {
                    let (header, ticket) = state.claim(incarnation()?);
                    if let Err(why) = send(&self.shared, &producer, lane, &mut state, &header, ticket, &member) {
                        let decision = state.owner.failed(ticket, &why.to_string());
                        state.note(decision);
                    }
                }
            }
            let settled =
                |state: &lane::State| state.owner.is_idle() || (state.owner.owns() && state.owner.in_flight() == 0);
            let round = options.patience() + write;
            waits(&mut wanted, round, "a claim to be written", settled);
            for lane in &wanted {
                // What an earlier owner had under way may arrive behind the claim. A heartbeat in its place says: not so far.
                let mut state = lane.state();
                if state.owner.fold().epoch() > 1
                    && let Some((header, ticket)) = state.owner.heartbeat()
                    && let Err(why) = send(&self.shared, &producer, lane, &mut state, &header, ticket, &[])
                {
                    let decision = state.owner.failed(ticket, &why.to_string());
                    state.note(decision);
                }
            }
            waits(&mut wanted, round + write, "a heartbeat to be written", settled);
            wanted.retain(|lane| {
                let mut state = lane.state();
                // From here on a loss is told.
                state.claiming &= !state.owner.owns();
                let over = claims >= CLAIMS_MAX && began.elapsed() > options.patience();
                let is_over = !state.owner.owns() && (over || !state.is_worth_another_claim());
                if is_over && ended.is_ok() {
                    let why = state.lost.as_ref().map_or_else(String::new, ToString::to_string);
                    ended = Err(JournalError::Taken { shard: lane.shard, why });
                }
                !is_over
            });
        }
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

/// An incarnation that never was.
fn incarnation() -> Result<Incarnation, JournalError> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| JournalError::io("draw", "an incarnation", error.into()))?;
    Ok(Incarnation(bytes))
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

impl Records for KafkaJournal {
    fn shards(&self) -> u16 {
        self.shared.options.shards
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
