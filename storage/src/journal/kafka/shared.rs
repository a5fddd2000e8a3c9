//! What the journal's two threads, its callers and its readers share: the shards, how much may be under way, and who is told.

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use engine::model::ids::ShardId;

use super::{
    Options,
    lane::{Lane, RECENT_BYTES_MAX, State},
};
use crate::journal::{
    Cursor, JournalError, Position, Reason, Sink,
    ownership::{Decision, Header, Log, Ticket, Verdict, Why},
};

/// What the client library hands back with the report on a write.
pub(super) struct Delivery {
    pub(super) shard: ShardId,
    pub(super) ticket: Ticket,
}

/// How much may be handed over and not yet durable.
pub(super) struct Room {
    bytes_max: usize,
    records_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    bytes: usize,
    records: usize,
    closed: bool,
}

impl Room {
    pub(super) fn take(&self, bytes: usize) -> Result<(), Reason> {
        let mut taken = self.taken.lock().expect("nothing panics under this lock");
        if taken.closed {
            return Err(Reason::Failed);
        }
        // A single longer record is taken when nothing else is under way.
        let too_long = taken.bytes + bytes > self.bytes_max && taken.records > 0;
        if too_long || taken.records >= self.records_max {
            return Err(Reason::Full);
        }
        taken.bytes += bytes;
        taken.records += 1;
        Ok(())
    }

    pub(super) fn done(&self, records: usize, bytes: usize) {
        let mut taken = self.taken.lock().expect("nothing panics under this lock");
        taken.records -= records;
        taken.bytes -= bytes;
    }

    pub(super) fn close(&self) {
        self.taken.lock().expect("nothing panics under this lock").closed = true;
    }
}

pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) log: Log,
    pub(super) lanes: Vec<Lane>,
    pub(super) room: Room,
    sink: OnceLock<Arc<dyn Sink>>,
    failure: OnceLock<String>,
    failures: metrics::Counter,
    losses: metrics::Counter,
    moves: metrics::Counter,
    /// Held by whoever tells the sink something, so that nothing is acknowledged after a failure.
    telling: Mutex<()>,
    tail_stopped: AtomicBool,
    opened: Instant,
    /// When another process last wrote as this node.
    twin: Mutex<Option<Instant>>,
}

/// Who writes as this node so long after the journal was opened is no predecessor whose last writes have been under way.
const PREDECESSOR: Duration = Duration::from_secs(5);
/// So long after it was last heard of, a twin is forgotten: an idle one is heard of at each of its heartbeats.
const TWIN_HEARTBEATS: u32 = 3;

impl Shared {
    pub(super) fn new(options: Options) -> Self {
        let lanes = (0..options.shards).map(|shard| Lane::new(ShardId(shard))).collect();
        let room = Room {
            bytes_max: options.queue_bytes_max,
            records_max: options.queue_records_max,
            taken: Mutex::default(),
        };
        metrics::describe_counter!(
            "tapgate_journal_shards_lost_total",
            "Shards of which a write has an unknown fate, or that somebody has taken over who is no node of the cluster."
        );
        metrics::describe_counter!(
            "tapgate_journal_shards_moved_total",
            "Shards that another node of the cluster has taken over."
        );
        // There before the first one, or an alert could not see them rise.
        let failures = metrics::counter!("tapgate_journal_failures_total");
        let losses = metrics::counter!("tapgate_journal_shards_lost_total");
        let moves = metrics::counter!("tapgate_journal_shards_moved_total");
        failures.absolute(0);
        losses.absolute(0);
        moves.absolute(0);
        Self {
            failures,
            losses,
            moves,
            log: Log::of(&options.cluster),
            options,
            lanes,
            room,
            sink: OnceLock::new(),
            failure: OnceLock::new(),
            telling: Mutex::default(),
            tail_stopped: AtomicBool::new(false),
            opened: Instant::now(),
            twin: Mutex::default(),
        }
    }

    pub(super) fn start(&self, sink: Arc<dyn Sink>) -> Result<(), JournalError> {
        let telling = self.telling.lock().expect("nothing panics under this lock");
        if let Some(why) = self.failure.get() {
            return Err(JournalError::Failed(why.clone()));
        }
        let _ = self.sink.set(sink);
        drop(telling);
        self.tell_what_was_lost();
        Ok(())
    }

    /// # Panics
    /// If the journal has no such shard.
    pub(super) fn lane(&self, shard: ShardId) -> &Lane {
        &self.lanes[usize::from(shard.0)]
    }

    pub(super) fn end(&self) -> Cursor {
        Cursor::of(self.lanes.iter().map(|lane| Position(lane.tip())))
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }

    pub(super) fn records_between(&self, from: &Cursor, to: &Cursor) -> u64 {
        let of_lane = |lane: &Lane| {
            let state = lane.state();
            let before = |cursor: &Cursor| state.places.records_before(cursor.get(lane.shard).0);
            before(to).saturating_sub(before(from))
        };
        self.lanes.iter().map(of_lane).sum()
    }

    /// What became of a write, on the one thread that polls the producer.
    pub(super) fn delivered(&self, delivery: Delivery, outcome: Result<u64, String>) {
        let telling = self.telling.lock().expect("nothing panics under this lock");
        let lane = self.lane(delivery.shard);
        let mut state = lane.state();
        state.under_way -= 1;
        lane.has_changed();
        if self.failure.get().is_some() {
            return;
        }
        let decision = match outcome {
            Ok(offset) => state.owner.delivered(delivery.ticket, offset),
            Err(why) => state.owner.failed(delivery.ticket, &why),
        };
        let Decision::Acknowledge { offset } = decision else {
            state.note(decision);
            drop((state, telling));
            self.tell_what_was_lost();
            return;
        };
        let mut record = state.buffers.pop_front().expect("a batch under way has its record");
        lane.tip_is(offset + 1);
        drop(state);
        self.room.done(1, record.len());
        record.clear();
        if let Some(sink) = self.sink.get() {
            sink.durable(delivery.shard, 1, Position(offset), &mut vec![record]);
        }
    }

    /// The next record of a partition, on the thread that reads them.
    pub(super) fn tailed(&self, lane: &Lane, offset: u64, key: &[u8], payload: &[u8]) -> Result<(), JournalError> {
        let header = self.decode(lane.shard, offset, key, payload)?;
        let mut state = lane.state();
        let (verdict, decision) = state
            .owner
            .tailed(offset, &header, payload)
            .map_err(|why| JournalError::damaged(&self.place(lane.shard), offset, why.to_string()))?;
        state.has_read(offset, verdict, payload, RECENT_BYTES_MAX / self.lanes.len());
        self.look_for_a_twin(&state, &header, verdict);
        let lost = matches!(decision, Decision::StepDown(_));
        let claimed = matches!(decision, Decision::Own { .. });
        state.note(decision);
        // While the shard is owned, its end is what was acknowledged; and after that, until its owner was told.
        if claimed || (!state.owner.owns() && (state.lost.is_none() || state.told)) {
            lane.tip_is(state.owner.fold().records_end());
        }
        lane.has_changed();
        drop(state);
        if lost {
            self.tell_what_was_lost();
        }
        Ok(())
    }

    /// Two processes with one number are found by what they write, each by the other.
    fn look_for_a_twin(&self, state: &State, header: &Header, verdict: Verdict) {
        let Some(this) = &self.options.member else { return };
        let counts = matches!(verdict, Verdict::Record | Verdict::Claimed | Verdict::Heartbeat);
        let named = state.member.as_ref().is_some_and(|owner| owner.node == this.node);
        if counts && named && !state.is_ours(header.incarnation()) && self.opened.elapsed() > PREDECESSOR {
            let before = self.twin.lock().expect("nothing panics under this lock").replace(Instant::now());
            if before.is_none() {
                let node = this.node.0;
                tracing::error!(node, "ANOTHER PROCESS HAS THE SAME NODE NUMBER: give each its own, and restart them");
            }
        }
    }

    pub(super) fn has_twin(&self) -> bool {
        let heard = TWIN_HEARTBEATS * Duration::from_millis(self.options.heartbeat_ms.into());
        let mut twin = self.twin.lock().expect("nothing panics under this lock");
        *twin = twin.filter(|last| last.elapsed() < heard);
        twin.is_some()
    }

    /// Reads a header, or says what lies there instead and what to do.
    pub(super) fn decode(
        &self,
        shard: ShardId,
        offset: u64,
        key: &[u8],
        payload: &[u8],
    ) -> Result<Header, JournalError> {
        Header::decode(key, payload.len(), self.log, shard).map_err(|why| JournalError::Topic {
            topic: self.options.topic.clone(),
            why: format!("partition {}, offset {offset} holds {why}", shard.0),
            remedy: "Nothing was written".to_owned(),
        })
    }

    /// A partition's name in messages.
    pub(super) fn place(&self, shard: ShardId) -> String {
        format!("partition {} of topic {}", shard.0, self.options.topic)
    }

    /// Tells the sink of shards that were lost, if it was not told yet.
    pub(super) fn tell_what_was_lost(&self) {
        let _telling = self.telling.lock().expect("nothing panics under this lock");
        // A shard that is lost before the journal is started was lost to nobody.
        let Some(sink) = self.sink.get() else { return };
        for lane in &self.lanes {
            let mut state = lane.state();
            if state.told {
                continue;
            }
            let Some(lost) = &state.lost else { continue };
            let (why, shard) = (lost.to_string(), lane.shard.0);
            // In a cluster shards move: that another node has taken one over is how they do it.
            let to = state.member.clone().filter(|_| matches!(lost, Why::Deposed { .. }));
            self.give_up(&mut state);
            drop(state);
            if let Some(to) = to {
                tracing::info!(shard, node = to.node.0, "another node has taken a shard over");
                self.moves.increment(1);
            } else {
                tracing::error!(shard, why, "a shard is lost: nothing more of it is acknowledged");
                self.losses.increment(1);
            }
            sink.lost(lane.shard, &why);
            // From here on its end counts what others write.
            let mut state = lane.state();
            state.told = true;
            lane.tip_is(state.owner.fold().records_end());
            lane.has_changed();
        }
    }

    /// Nothing of this shard is acknowledged any more: its records are nobody's, and take up no room.
    fn give_up(&self, state: &mut State) {
        state.owner.give_up();
        let bytes = state.buffers.iter().map(Vec::len).sum();
        self.room.done(state.buffers.len(), bytes);
        state.buffers.clear();
    }

    /// Nothing is acknowledged any more.
    pub(super) fn fail(&self, why: &str) {
        self.room.close();
        let _telling = self.telling.lock().expect("nothing panics under this lock");
        if self.failure.set(why.to_owned()).is_ok() {
            self.failures.increment(1);
            tracing::error!(why, "the journal has failed: nothing more is acknowledged");
            for lane in &self.lanes {
                self.give_up(&mut lane.state());
                lane.has_changed();
            }
            if let Some(sink) = self.sink.get() {
                sink.failed(why);
            }
        }
    }

    pub(super) fn tail_has_stopped(&self) {
        self.tail_stopped.store(true, Ordering::Release);
        self.lanes.iter().for_each(Lane::has_changed);
    }

    pub(super) fn has_tail(&self) -> bool {
        !self.tail_stopped.load(Ordering::Acquire)
    }

    /// Whether a write has no report yet.
    pub(super) fn is_writing(&self) -> bool {
        self.lanes.iter().any(|lane| lane.state().under_way > 0)
    }

    /// Whether the tail has not come to something that is durable.
    pub(super) fn is_behind(&self) -> bool {
        self.has_tail() && self.lanes.iter().any(|lane| lane.state().owner.fold().next_offset() < lane.tip())
    }

    pub(super) fn wait_a_moment(&self) {
        thread::sleep(Duration::from_millis(2));
    }

    /// Waits until this holds of a shard.
    pub(super) fn wait(
        &self,
        lane: &Lane,
        patience: Duration,
        what: impl fmt::Display,
        until: impl Fn(&State) -> bool,
    ) -> Result<(), JournalError> {
        let began = Instant::now();
        let mut state = lane.state();
        while !until(&state) {
            if let Some(why) = self.failure.get() {
                return Err(JournalError::Failed(why.clone()));
            }
            if began.elapsed() > patience {
                let waited = began.elapsed().as_secs();
                return Err(self.options.unreachable(format_args!("waited {waited} s for {what}")));
            }
            state = lane.wait(state);
        }
        Ok(())
    }

    /// Waits until the tail has come to `end`, for as long as it gets anywhere.
    pub(super) fn wait_for_tail(&self, lane: &Lane, end: u64) -> Result<(), JournalError> {
        let read = || -> u64 { self.lanes.iter().map(|lane| lane.state().owner.fold().next_offset()).sum() };
        loop {
            let before = read();
            let waited = self.wait(lane, self.options.patience(), "the log to be read", |state| {
                state.owner.fold().next_offset() >= end
            });
            match waited {
                Err(JournalError::Unreachable { .. }) if read() > before => {}
                ended => return ended,
            }
        }
    }
}
