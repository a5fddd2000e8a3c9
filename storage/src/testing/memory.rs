//! Journal and snapshots without a disk. The same contracts, the same thread, the same sink; what the journal holds
//! outlives it as long as somebody keeps the [`MemoryLog`], so a restart can be played.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, OnceLock, Weak},
    thread::{self, JoinHandle},
};

use engine::model::ids::ShardId;

use crate::journal::{
    Cursor, Entry, Journal, JournalError, OpenedJournal, Position, Reader, Reason, Records, Refused, Sink,
    queue::{Acks, Queue, Queued},
};
use crate::snapshots::{Accept, KEPT, SnapshotError, SnapshotMeta, Snapshots};

/// What is durable, as far as memory is. Each shard has positions of its own, with gaps in them, as the partitions of a
/// Kafka topic have: a journal in which nobody can compare two shards, so that nobody who is tested with it does.
///
/// Each shard has one owner at a time: the journal that may add to it, by its number. Whatever another one hands over for it
/// is lost.
pub struct MemoryLog {
    shards: u16,
    /// Who hears what becomes of the records, by the number of their journal. Locked while records become durable and that is
    /// told, and before [`State`]: so nobody hears of a loss between the two.
    sinks: Mutex<Sinks>,
    state: Mutex<State>,
}

type Sinks = BTreeMap<u32, Weak<dyn Sink>>;

struct State {
    /// Those of each shard.
    records: Vec<Vec<Arc<[u8]>>>,
    claims: Vec<Claim>,
    /// How many records of each were ever handed over.
    handed_over: Vec<usize>,
    fault: Option<String>,
}

/// Who may add to a shard.
#[derive(Clone, Copy, Default)]
struct Claim {
    /// Counts the owners: what was handed over under an earlier claim is lost.
    epoch: u64,
    /// `None`: nobody does until it is claimed.
    owner: Option<u32>,
}

/// Follows each record in the queue: the epoch of the claim under which it was handed over.
const EPOCH: usize = size_of::<u64>();

/// What is handed over and not durable, as the file journal bounds it.
const QUEUE_BYTES_MAX: usize = 32 << 20;
const QUEUE_RECORDS_MAX: usize = 4_096;

/// Every other position holds no record, the first one neither.
const STRIDE: u64 = 2;

/// Where the record of a shard lies that so many of it precede.
fn position_of(nth: usize) -> Position {
    Position(nth as u64 * STRIDE + 1)
}

/// How many records of a shard lie before a position.
fn records_before(position: Position) -> usize {
    (position.0 / STRIDE) as usize
}

impl MemoryLog {
    /// An empty log of `shards` shards.
    pub fn new(shards: u16) -> Arc<Self> {
        let (records, claims) = (vec![Vec::new(); usize::from(shards)], vec![Claim::default(); usize::from(shards)]);
        let state = State { records, claims, handed_over: vec![0; usize::from(shards)], fault: None };
        Arc::new(Self { shards, sinks: Mutex::default(), state: Mutex::new(state) })
    }

    /// How many records of a shard were handed over so far, durable or not.
    pub fn handed_over(&self, shard: ShardId) -> usize {
        self.state().handed_over[usize::from(shard.0)]
    }

    /// Nothing becomes durable as long as this is held.
    pub fn hold(&self) -> Held<'_> {
        Held { log: self, sinks: self.sinks.lock().expect("nothing panics under this lock") }
    }

    /// As [`Held::lose`].
    pub fn lose(&self, shard: ShardId, why: &str) {
        self.hold().lose(shard, why);
    }

    /// As [`Held::claim`].
    pub fn claim(&self, shard: ShardId, by: u32) {
        self.hold().claim(shard, by);
    }

    /// How many records are durable.
    pub fn len(&self) -> usize {
        self.state().records.iter().map(Vec::len).sum()
    }

    /// Whether nothing is durable.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// From now on every flush fails with `why`; `None` mends it for the next journal.
    pub fn fail(&self, why: Option<&str>) {
        self.state().fault = why.map(str::to_owned);
    }

    fn end(&self) -> Cursor {
        Cursor::of(self.state().records.iter().map(|of_shard| Position(of_shard.len() as u64 * STRIDE)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

/// A log that makes nothing durable.
pub struct Held<'a> {
    log: &'a MemoryLog,
    sinks: MutexGuard<'a, Sinks>,
}

impl Held<'_> {
    /// The journal loses this shard: what was handed over and is not durable never will be, nothing more is taken, and its
    /// sink is told. [`MemoryLog::claim`] gives it back, and the next journal that is started over the log has it anyway.
    pub fn lose(&self, shard: ShardId, why: &str) {
        self.change(shard, None, why);
    }

    /// The journal with this number has the shard from now on. Whichever had it loses it, as by [`Held::lose`].
    pub fn claim(&self, shard: ShardId, by: u32) {
        self.change(shard, Some(by), &format!("node {by} has claimed it"));
    }

    fn change(&self, shard: ShardId, owner: Option<u32>, why: &str) {
        let before = {
            let claim = &mut self.log.state().claims[usize::from(shard.0)];
            let before = claim.owner;
            *claim = Claim { epoch: claim.epoch + 1, owner };
            before
        };
        let loser = before.and_then(|before| self.sinks.get(&before)?.upgrade());
        if let Some(loser) = loser {
            loser.lost(shard, why);
        }
    }
}

/// A journal over a [`MemoryLog`].
pub struct MemoryJournal {
    log: Arc<MemoryLog>,
    number: u32,
    queue: Arc<Queue>,
    failure: Arc<OnceLock<String>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl MemoryJournal {
    /// Starts a journal over `log`, with the bounds of [`crate::journal::file::Options`]' defaults.
    ///
    /// # Errors
    /// [`JournalError::WrongShards`] if the log has another number of shards.
    pub fn start(log: Arc<MemoryLog>, shards: u16, sink: Arc<dyn Sink>) -> Result<Self, JournalError> {
        Self::bounded(log, shards, QUEUE_BYTES_MAX, QUEUE_RECORDS_MAX, sink)
    }

    /// As [`MemoryJournal::start`], with bounds of one's own on what is handed over and not yet durable.
    ///
    /// # Errors
    /// As [`MemoryJournal::start`].
    pub fn bounded(
        log: Arc<MemoryLog>,
        shards: u16,
        queue_bytes_max: usize,
        queue_records_max: usize,
        sink: Arc<dyn Sink>,
    ) -> Result<Self, JournalError> {
        if log.shards != shards {
            return Err(JournalError::WrongShards { found: log.shards, asked: shards });
        }
        for claim in &mut log.state().claims {
            *claim = Claim { epoch: claim.epoch + 1, owner: Some(0) };
        }
        Self::numbered(log, 0, queue_bytes_max, queue_records_max, sink)
    }

    fn numbered(
        log: Arc<MemoryLog>,
        number: u32,
        queue_bytes_max: usize,
        queue_records_max: usize,
        sink: Arc<dyn Sink>,
    ) -> Result<Self, JournalError> {
        log.hold().sinks.insert(number, Arc::downgrade(&sink));
        let queue = Arc::new(Queue::new(queue_bytes_max, queue_records_max));
        let failure = Arc::new(OnceLock::new());
        let thread = {
            let (log, queue, failure) = (Arc::clone(&log), Arc::clone(&queue), Arc::clone(&failure));
            thread::Builder::new()
                .name("journal".into())
                .spawn(move || run(&log, &queue, &failure, &*sink))
                .map_err(|error| JournalError::io("start a thread for", "the journal", error))?
        };
        Ok(Self { log, number, queue, failure, thread: Mutex::new(Some(thread)) })
    }
}

fn run(log: &MemoryLog, queue: &Queue, failure: &OnceLock<String>, sink: &dyn Sink) {
    let mut acks = Acks::new(log.shards);
    let mut taken = Queued::new();
    while queue.wait(&mut taken, 0) {
        let _until_it_is_told = log.hold();
        let mut state = log.state();
        if let Some(why) = state.fault.clone() {
            drop(state);
            tracing::error!(why, "the journal has failed: nothing more is acknowledged");
            let why = failure.get_or_init(|| why);
            queue.fail();
            sink.failed(why);
            return;
        }
        let (mut lost, mut lost_bytes) = (0, 0);
        for (shard, record) in taken.drain(..) {
            let (payload, epoch) = record.split_last_chunk::<EPOCH>().expect("an epoch follows");
            if u64::from_le_bytes(*epoch) != state.claims[usize::from(shard.0)].epoch {
                (lost, lost_bytes) = (lost + 1, lost_bytes + record.len());
                continue;
            }
            let of_shard = &mut state.records[usize::from(shard.0)];
            let position = position_of(of_shard.len());
            of_shard.push(payload.into());
            acks.note(shard, position, record);
        }
        drop(state);
        queue.done(acks.records() + lost, acks.bytes() + lost_bytes);
        acks.notify(sink);
    }
}

impl Records for MemoryJournal {
    fn shards(&self) -> u16 {
        self.log.shards
    }

    fn end(&self) -> Cursor {
        self.log.end()
    }

    fn reader(&self, from: &Cursor) -> Result<Box<dyn Reader>, JournalError> {
        MemoryReader::open(&self.log, from)
    }

    fn records_between(&self, from: &Cursor, to: &Cursor) -> u64 {
        records_between(from, to)
    }

    fn is_here(&self, shard: ShardId) -> bool {
        self.log.state().claims[usize::from(shard.0)].owner == Some(self.number)
    }
}

/// A [`MemoryLog`] of which a journal can be started.
pub struct OpenedMemory {
    log: Arc<MemoryLog>,
    number: Option<u32>,
}

impl OpenedMemory {
    /// The only journal: it has number 0, and every shard from its start on.
    pub fn new(log: &Arc<MemoryLog>) -> Self {
        Self { log: Arc::clone(log), number: None }
    }

    /// One of several, by its number: it has the shards that it claims ([`MemoryLog::claim`]).
    pub fn shared(log: &Arc<MemoryLog>, number: u32) -> Self {
        Self { log: Arc::clone(log), number: Some(number) }
    }
}

impl Records for OpenedMemory {
    fn shards(&self) -> u16 {
        self.log.shards
    }

    fn end(&self) -> Cursor {
        self.log.end()
    }

    fn reader(&self, from: &Cursor) -> Result<Box<dyn Reader>, JournalError> {
        MemoryReader::open(&self.log, from)
    }

    fn records_between(&self, from: &Cursor, to: &Cursor) -> u64 {
        records_between(from, to)
    }
}

impl OpenedJournal for OpenedMemory {
    fn start(self: Box<Self>, sink: Arc<dyn Sink>) -> Result<Arc<dyn Journal>, JournalError> {
        let shards = self.log.shards;
        Ok(Arc::new(match self.number {
            None => MemoryJournal::start(self.log, shards, sink)?,
            Some(number) => MemoryJournal::numbered(self.log, number, QUEUE_BYTES_MAX, QUEUE_RECORDS_MAX, sink)?,
        }))
    }
}

impl Journal for MemoryJournal {
    fn append(&self, shard: ShardId, mut record: Vec<u8>) -> Result<(), Refused> {
        assert!(shard.0 < self.log.shards, "{shard:?} of {}", self.log.shards);
        let mut state = self.log.state();
        let Claim { epoch, owner } = state.claims[usize::from(shard.0)];
        if owner != Some(self.number) {
            return Err(Refused { reason: Reason::Failed, record });
        }
        record.extend_from_slice(&epoch.to_le_bytes());
        let pushed = self.queue.push(shard, record);
        state.handed_over[usize::from(shard.0)] += usize::from(pushed.is_ok());
        pushed.map_err(|mut refused| {
            refused.record.truncate(refused.record.len() - EPOCH);
            refused
        })
    }

    fn write_here(&self, _: &mut Queued) -> bool {
        false
    }

    fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }

    fn close(&self) -> Result<(), JournalError> {
        self.queue.close();
        if let Some(thread) = self.thread.lock().expect("nothing panics under this lock").take() {
            // A sink that panicked has already said so on its own thread.
            let _ = thread.join();
        }
        self.failure().map_or(Ok(()), |why| Err(JournalError::Failed(why)))
    }
}

impl Drop for MemoryJournal {
    fn drop(&mut self) {
        // Whoever wants to know how it went calls `close`.
        let _ = self.close();
    }
}

fn records_between(from: &Cursor, to: &Cursor) -> u64 {
    let shards = (0..from.shards()).map(ShardId);
    let between =
        shards.map(|shard| records_before(to.get(shard)).saturating_sub(records_before(from.get(shard))) as u64);
    between.sum()
}

/// Gives all there is of the last shard before it gives anything of the one before: an order that no log has in which the
/// shards follow each other, and that nobody may mind.
struct MemoryReader {
    log: Arc<MemoryLog>,
    at: Cursor,
    current: Option<Arc<[u8]>>,
}

impl MemoryReader {
    fn open(log: &Arc<MemoryLog>, from: &Cursor) -> Result<Box<dyn Reader>, JournalError> {
        if from.shards() != log.shards {
            return Err(JournalError::WrongShards { found: log.shards, asked: from.shards() });
        }
        let end = log.end();
        for shard in (0..log.shards).map(ShardId) {
            let (asked, end) = (from.get(shard).0, end.get(shard).0);
            if asked > end {
                return Err(JournalError::BeyondEnd { shard, asked, end });
            }
        }
        Ok(Box::new(Self { log: Arc::clone(log), at: from.clone(), current: None }))
    }
}

impl Reader for MemoryReader {
    fn next(&mut self) -> Result<Option<Entry<'_>>, JournalError> {
        let state = self.log.state();
        for shard in (0..self.log.shards).rev().map(ShardId) {
            let nth = records_before(self.at.get(shard));
            let Some(record) = state.records[usize::from(shard.0)].get(nth) else { continue };
            let position = position_of(nth);
            self.at.advance(shard, position.next());
            let payload = self.current.insert(Arc::clone(record));
            return Ok(Some(Entry { shard, position, payload }));
        }
        Ok(None)
    }

    fn passed(&self, cursor: &mut Cursor) {
        for shard in (0..self.log.shards).map(ShardId) {
            cursor.advance(shard, self.at.get(shard));
        }
    }
}

type Kept = HashMap<ShardId, Vec<(SnapshotMeta, Vec<u8>)>>;

/// Snapshots in memory.
#[derive(Default)]
pub struct MemorySnapshots {
    shards: Mutex<Kept>,
}

impl MemorySnapshots {
    /// No snapshots yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn shards(&self) -> MutexGuard<'_, Kept> {
        self.shards.lock().expect("nothing panics under this lock")
    }
}

impl Snapshots for MemorySnapshots {
    fn save(&self, meta: &SnapshotMeta, body: &[u8]) -> Result<(), SnapshotError> {
        let mut shards = self.shards();
        let kept = shards.entry(meta.shard).or_default();
        kept.retain(|(other, _)| other.seq != meta.seq);
        kept.truncate(KEPT - 1);
        kept.push((meta.clone(), body.to_vec()));
        kept.sort_by_key(|(other, _)| std::cmp::Reverse(other.seq));
        Ok(())
    }

    fn newest(&self, shard: ShardId, within: Position, accept: &mut Accept<'_>) -> Result<bool, SnapshotError> {
        let kept = {
            let mut shards = self.shards();
            let kept = shards.entry(shard).or_default();
            kept.retain(|(meta, _)| meta.position <= within);
            kept.clone()
        };
        Ok(kept.iter().any(|(meta, body)| accept(meta, body)))
    }
}
