//! Between the shards and the journal's thread: what was handed over on the way in, what became durable on the way
//! back. Shared by the journals that run on a thread of their own.

use std::{
    collections::VecDeque,
    hint,
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use engine::model::ids::ShardId;

use super::{Position, Reason, Refused, Sink};

/// Records in the order they were handed over.
pub(crate) type Queued = VecDeque<(ShardId, Vec<u8>)>;

/// The bounded way in.
pub(crate) struct Queue {
    bytes_max: usize,
    records_max: usize,
    state: Mutex<State>,
    bell: Condvar,
    /// How many records are queued, to be seen without the lock.
    queued: AtomicUsize,
}

#[derive(Default)]
struct State {
    records: Queued,
    /// Handed over and not yet durable: queued and being written.
    bytes_open: usize,
    records_open: usize,
    /// The journal's thread sleeps and wants to be woken.
    asleep: bool,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(bytes_max: usize, records_max: usize) -> Self {
        let state = Mutex::new(State::default());
        Self { bytes_max, records_max, state, bell: Condvar::new(), queued: AtomicUsize::new(0) }
    }

    /// Takes a record, or says why not.
    pub(crate) fn push(&self, shard: ShardId, record: Vec<u8>) -> Result<(), Refused> {
        let mut state = self.state();
        if state.closed {
            return Err(Refused { reason: Reason::Failed, record });
        }
        let too_long = state.bytes_open + record.len() > self.bytes_max && state.records_open > 0;
        if too_long || state.records_open >= self.records_max {
            return Err(Refused { reason: Reason::Full, record });
        }
        state.bytes_open += record.len();
        state.records_open += 1;
        state.records.push_back((shard, record));
        self.queued.store(state.records.len(), Ordering::Release);
        let wake = std::mem::take(&mut state.asleep);
        drop(state); // the woken thread wants it at once
        if wake {
            self.bell.notify_one();
        }
        Ok(())
    }

    /// Counts these as handed over without queueing them, if the queue is open and would have room, and if `free`, asked
    /// under the lock how many others are, gives what its caller needs to write them itself.
    pub(crate) fn enter<T>(&self, records: &Queued, free: impl FnOnce(usize) -> Option<T>) -> Option<T> {
        let mut state = self.state();
        if state.closed || state.records_open + records.len() > self.records_max {
            return None;
        }
        let writer = free(state.records_open)?;
        state.records_open += records.len();
        state.bytes_open += records.iter().map(|(_, record)| record.len()).sum::<usize>();
        Some(writer)
    }

    /// Moves all that is queued behind what is in `taken`.
    pub(crate) fn take(&self, taken: &mut Queued) {
        self.take_locked(&mut self.state(), taken);
    }

    /// As [`Queue::take`], but waits for something: looks for `spin_us` µs, then sleeps. `false` once the queue is
    /// closed and empty.
    pub(crate) fn wait(&self, taken: &mut Queued, spin_us: u32) -> bool {
        if self.queued.load(Ordering::Acquire) == 0 && spin_us > 0 {
            self.spin(Duration::from_micros(spin_us.into()));
        }
        let mut state = self.state();
        loop {
            self.take_locked(&mut state, taken);
            if !taken.is_empty() {
                return true;
            }
            if state.closed {
                return false;
            }
            state.asleep = true;
            state = self.bell.wait(state).expect("nothing panics under this lock");
            state.asleep = false;
        }
    }

    /// These are durable: there is room again.
    pub(crate) fn done(&self, records: usize, bytes: usize) {
        let mut state = self.state();
        state.records_open -= records;
        state.bytes_open -= bytes;
    }

    /// Takes no more records. What is queued is still written.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.bell.notify_one();
    }

    /// Takes no more records, and drops what is queued.
    pub(crate) fn fail(&self) {
        let mut state = self.state();
        state.closed = true;
        state.records.clear();
        self.bell.notify_one(); // whoever wrote the group that failed, the journal's thread has to end
    }

    fn spin(&self, time: Duration) {
        let started = Instant::now();
        while self.queued.load(Ordering::Acquire) == 0 && started.elapsed() < time {
            for _ in 0..16 {
                hint::spin_loop();
            }
        }
    }

    fn take_locked(&self, state: &mut State, taken: &mut Queued) {
        if taken.is_empty() {
            std::mem::swap(&mut state.records, taken);
        } else {
            taken.append(&mut state.records);
        }
        self.queued.store(0, Ordering::Release);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

/// What one flush made durable, sorted by shard.
pub(crate) struct Acks {
    shards: Vec<Ack>,
    /// The shards that have something, in the order they came.
    touched: Vec<ShardId>,
    records: usize,
    bytes: usize,
}

#[derive(Clone, Default)]
struct Ack {
    count: usize,
    last: Position,
    buffers: Vec<Vec<u8>>,
}

impl Acks {
    pub(crate) fn new(shards: u16) -> Self {
        Self { shards: vec![Ack::default(); shards.into()], touched: Vec::new(), records: 0, bytes: 0 }
    }

    /// Notes a record that the next [`Acks::notify`] reports.
    pub(crate) fn note(&mut self, shard: ShardId, position: Position, mut record: Vec<u8>) {
        let ack = &mut self.shards[usize::from(shard.0)];
        if ack.count == 0 {
            self.touched.push(shard);
        }
        self.records += 1;
        self.bytes += record.len();
        ack.count += 1;
        ack.last = position;
        record.clear();
        ack.buffers.push(record);
    }

    pub(crate) fn records(&self) -> usize {
        self.records
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Tells the sink, once per shard, and begins anew.
    pub(crate) fn notify(&mut self, sink: &dyn Sink) {
        for shard in self.touched.drain(..) {
            let ack = &mut self.shards[usize::from(shard.0)];
            sink.durable(shard, ack.count, ack.last, &mut ack.buffers);
            ack.count = 0;
            ack.buffers.clear();
        }
        self.records = 0;
        self.bytes = 0;
    }
}
