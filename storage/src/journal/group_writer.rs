//! Records become durable here, group by group: on the journal's own thread, or on the thread of the shard that wrote them.
//!
//! **The rule.** A shard's thread writes its records itself (`Shared::write_here`) where nothing else is under way, which
//! spares waking the journal's thread and being woken by it: 70–90 µs each, as long as the disk takes. [`may_write_here`]
//! says when, at one moment, under the queue's lock:
//!
//! 1. nothing that was handed over before is still to become durable, and
//! 2. nobody has the writer; it is taken at that moment, before the lock is let go.
//!
//! It hands its records over instead where they would have to wait for more than one write: when they do not fit in one
//! group and the open segment, or when the disk was slow the last time. What else the shard's thread has to do is weighed
//! by that thread.
//!
//! **Why the order holds.** Let r come before s, of one shard. If s is written by the shard's thread, r is durable by 1. If r
//! is, and s is queued meanwhile, then the journal's thread, which takes s from the queue, has to wait for the writer, by 2,
//! and gets it when r is durable and the sink knows. If both are queued, they leave the queue in their order, for one thread.
//! The sink is told before the writer is let go, so it hears of records in the order in which they lie in the log.
//!
//! **Why nothing leaves early.** Both ways end in `GroupWriter::write`: the sink is told there and nowhere else, behind a
//! write that has succeeded. A failed one ends in `Shared::guarded`, whoever wrote: the queue is shut, the sink is told
//! once, and the log never writes again.
//!
//! The simulator writes both ways under the same [`may_write_here`], and the plant `written-past-the-queue` leaves 1 out.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError},
    time::{Duration, Instant},
};

use engine::plants::{Plant, planted};

use super::{
    JournalError, Sink,
    disk::Disk,
    housekeeper::Housekeeper,
    log::{LogWriter, NotStaged},
    queue::{Acks, Queue, Queued},
    reached::Keeper,
    reader::Tip,
};

/// Whether a shard's thread may write records of these lengths itself, with `open` others handed over and not yet durable, on
/// a disk that is `quick`.
pub fn may_write_here<D: Disk>(
    log: &LogWriter<D>,
    open: usize,
    quick: bool,
    lengths: impl Iterator<Item = usize>,
) -> bool {
    let nothing_under_way = open == 0 || planted(Plant::WrittenPastTheQueue);
    nothing_under_way && quick && log.has_room(lengths)
}

/// What the journal's thread and those that hand records over share.
pub(crate) struct Shared<D: Disk> {
    pub(crate) queue: Queue,
    pub(crate) tip: Arc<Tip>,
    pub(crate) housekeeper: Arc<Housekeeper<D>>,
    pub(crate) reached: Arc<Keeper<D>>,
    failure: OnceLock<String>,
    failures: metrics::Counter,
    sink: Arc<dyn Sink>,
    writer: Mutex<GroupWriter<D>>,
    /// The longest write after which a shard's thread may write.
    quick: Duration,
}

impl<D: Disk> Shared<D> {
    pub(crate) fn new(
        queue: Queue,
        log: LogWriter<D>,
        (tip, housekeeper, reached): (Arc<Tip>, Arc<Housekeeper<D>>, Arc<Keeper<D>>),
        sink: Arc<dyn Sink>,
        quick_us: u32,
    ) -> Self {
        metrics::describe_counter!(
            "tapgate_journal_failures_total",
            "Writes that failed. After one, nothing more is acknowledged until a restart."
        );
        let failures = metrics::counter!("tapgate_journal_failures_total");
        failures.absolute(0); // there before the first one, or an alert could not see it rise
        let acks = Acks::new(tip.shards);
        let quick = Duration::from_micros(quick_us.into());
        let writer = Mutex::new(GroupWriter { log, acks, metrics: JournalMetrics::new(), took: Duration::ZERO });
        Self { queue, tip, housekeeper, reached, failure: OnceLock::new(), failures, sink, writer, quick }
    }

    pub(crate) fn failure(&self) -> Option<&String> {
        self.failure.get()
    }

    /// The journal's own thread, to its end.
    pub(crate) fn run(&self, spin_us: u32) {
        self.guarded(|| {
            let mut taken = Queued::new();
            self.writer().look_ahead(self);
            loop {
                if taken.is_empty() {
                    if !self.queue.wait(&mut taken, spin_us) {
                        return Ok(());
                    }
                } else {
                    self.queue.take(&mut taken);
                }
                let mut writer = self.writer();
                writer.stage(&mut taken);
                writer.roll(self)?;
                writer.write(self)?;
            }
        });
    }

    /// Writes all these records on the caller's thread and tells the sink, if the rule above allows it. `false`: it does not,
    /// and nothing was taken. After a failed write they are taken: what has become of them is unknown.
    pub(crate) fn write_here(&self, records: &mut Queued) -> bool {
        let free = |open| {
            let writer = match self.writer.try_lock() {
                Ok(writer) => writer,
                Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => return None,
            };
            let lengths = records.iter().map(|(_, record)| record.len());
            may_write_here(&writer.log, open, writer.took <= self.quick, lengths).then_some(writer)
        };
        let Some(mut writer) = self.queue.enter(records, free) else { return false };
        self.guarded(|| {
            writer.stage(records);
            writer.write(self)
        });
        records.clear();
        true
    }

    /// Waits until nobody writes.
    pub(crate) fn settle(&self) {
        drop(self.writer());
    }

    /// Does what may fail, on whichever thread; if it does, that is the journal's end.
    fn guarded(&self, work: impl FnOnce() -> Result<(), JournalError>) {
        let why = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the thread that wrote it panicked".to_owned(),
        };
        self.queue.fail();
        if self.failure.set(why.clone()).is_ok() {
            self.failures.increment(1);
            tracing::error!(why, "the journal has failed: nothing more is acknowledged");
            self.sink.failed(&why);
        }
    }

    fn writer(&self) -> MutexGuard<'_, GroupWriter<D>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who has it, writes.
struct GroupWriter<D: Disk> {
    log: LogWriter<D>,
    acks: Acks,
    metrics: JournalMetrics,
    /// How long the last write took.
    took: Duration,
}

impl<D: Disk> GroupWriter<D> {
    /// Keeps the next segment coming, off the path.
    fn look_ahead(&mut self, shared: &Shared<D>) {
        let Some(number) = self.log.wants_next() else { return };
        shared.housekeeper.want(number);
        if self.log.end().offset > self.log.options().segment_bytes / 2 {
            shared.housekeeper.hurry();
        }
        if let Some(file) = shared.housekeeper.ready() {
            self.log.offer_next(file);
        }
    }

    /// Fills one group with what fits.
    fn stage(&mut self, records: &mut Queued) {
        while let Some((shard, record)) = records.front() {
            match self.log.stage(*shard, record) {
                Ok(position) => {
                    let (shard, record) = records.pop_front().expect("it was in front");
                    self.acks.note(shard, position, record);
                }
                Err(NotStaged::GroupFull) => return,
                Err(NotStaged::TooLarge) => unreachable!("append refuses what is too large"),
            }
        }
    }

    /// Waits for the next segment, if the group needs it.
    fn roll(&mut self, shared: &Shared<D>) -> Result<(), JournalError> {
        if self.log.must_roll()
            && let Some(number) = self.log.wants_next()
        {
            shared.housekeeper.want(number);
            self.log.offer_next(shared.housekeeper.wait()?);
        }
        Ok(())
    }

    /// Makes what is staged durable, and tells the sink.
    fn write(&mut self, shared: &Shared<D>) -> Result<(), JournalError> {
        let began = Instant::now();
        if self.log.flush()?.is_some() {
            self.took = began.elapsed();
            let (end, group) = (self.log.end(), self.log.last_group());
            self.metrics.write.record(self.took);
            self.metrics.bytes.increment(group.len() as u64);
            shared.tip.recent.wrote(end.segment, end.offset - group.len() as u64, group);
            shared.tip.moved_to(end);
        }
        shared.queue.done(self.acks.records(), self.acks.bytes());
        self.acks.notify(&*shared.sink);
        let sealed = self.log.take_sealed();
        if !sealed.is_empty() {
            shared.reached.sealed();
            shared.housekeeper.sealed(&sealed);
        }
        self.look_ahead(shared);
        Ok(())
    }
}

/// What the disk takes, for whoever draws it. Made once: looking figures up costs more than counting.
struct JournalMetrics {
    write: metrics::Histogram,
    bytes: metrics::Counter,
}

impl JournalMetrics {
    fn new() -> Self {
        metrics::describe_histogram!(
            "tapgate_journal_write_seconds",
            metrics::Unit::Seconds,
            "Writing one group and making it durable."
        );
        metrics::describe_counter!("tapgate_journal_written_bytes_total", "Bytes of the groups that are durable.");
        Self {
            write: metrics::histogram!("tapgate_journal_write_seconds"),
            bytes: metrics::counter!("tapgate_journal_written_bytes_total"),
        }
    }
}
