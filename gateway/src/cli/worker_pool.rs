//! An audit by many hands: each thread has shards of its own, and is handed their records in the order of the journal.
//! What it comes to is the same, however many there are.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use engine::audit::{Audit, Report};
use engine::model::ids::ShardId;

/// A pile is handed over when it has so many bytes: some thousand transactions.
const BATCH_BYTES: usize = 256 << 10;
/// So many piles wait for one thread, at most: with the one that it works on, the one that grows, and those on their way
/// back, 7 × 256 KiB a thread, and a record more.
const BATCHES: usize = 4;

/// Records, one behind the other.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Of each: which of the journal it is, whose, and where it ends.
    records: Vec<(u64, ShardId, usize)>,
}

struct Worker {
    growing: Batch,
    /// Gone when there is nothing more to come.
    to: Option<SyncSender<Batch>>,
    back: Receiver<Batch>,
    thread: JoinHandle<Audit>,
}

/// The threads of one audit.
pub(super) struct WorkerPool {
    all: Vec<Worker>,
    nth: u64,
}

impl WorkerPool {
    /// As many as this machine has cores, for a journal with so many shards.
    pub(super) fn new(shards: u16) -> std::io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        Self::so_many(shards, cores.min(usize::from(shards)).max(1) as u16)
    }

    fn so_many(shards: u16, pool: u16) -> std::io::Result<Self> {
        let worker = |number| {
            let (to, piles) = sync_channel(BATCHES);
            let (give_back, back) = channel();
            let audit = Audit::part(shards, number, pool);
            let named = thread::Builder::new().name(format!("audit {number}"));
            let thread = named.spawn(move || work(audit, &piles, &give_back))?;
            Ok(Worker { growing: Batch::default(), to: Some(to), back, thread })
        };
        Ok(Self { all: (0..pool).map(worker).collect::<std::io::Result<_>>()?, nth: 0 })
    }

    /// The next record of the journal. Waits while the thread that it is for has too much to do.
    pub(super) fn record(&mut self, shard: ShardId, bytes: &[u8]) {
        self.nth += 1;
        let worker = usize::from(shard.0) % self.all.len();
        let worker = &mut self.all[worker];
        worker.growing.bytes.extend_from_slice(bytes);
        worker.growing.records.push((self.nth, shard, worker.growing.bytes.len()));
        if worker.growing.bytes.len() >= BATCH_BYTES {
            worker.hand_over();
        }
    }

    /// Nothing more comes: what all of it amounts to.
    pub(super) fn finish(mut self) -> Report {
        for worker in &mut self.all {
            worker.hand_over();
            worker.to = None;
        }
        Audit::join(
            self.all.into_iter().map(|worker| worker.thread.join().unwrap_or_else(|panic| resume_unwind(panic))),
        )
    }
}

impl Worker {
    fn hand_over(&mut self) {
        let next = self.back.try_recv().unwrap_or_default();
        let full = std::mem::replace(&mut self.growing, next);
        if let Some(to) = &self.to {
            // A thread that is gone has panicked, and `finish` says so.
            let _ = to.send(full);
        }
    }
}

fn work(mut audit: Audit, piles: &Receiver<Batch>, give_back: &Sender<Batch>) -> Audit {
    for mut batch in piles {
        let mut begins = 0;
        for (nth, shard, ends) in batch.records.drain(..) {
            audit.record_at(nth, shard, &batch.bytes[begins..ends]);
            begins = ends;
        }
        batch.bytes.clear();
        let _ = give_back.send(batch); // nobody takes it at the end
    }
    audit.settle();
    audit
}

#[cfg(test)]
mod tests {
    use engine::command::{AdminAction, AdminCommand, Command};
    use engine::model::ids::Home;
    use engine::model::principal::Principal;
    use engine::model::status::Policy;
    use engine::model::time::Timestamp;
    use engine::shard::{Shard, Step};

    use super::*;

    const SHARDS: u16 = 5;

    /// Festivals on all shards; now and then a record is missing, is cut short, or comes twice.
    fn journal() -> Vec<(ShardId, Vec<u8>)> {
        let mut shards: Vec<Shard> = (0..SHARDS).map(|id| Shard::new(ShardId(id), SHARDS)).collect();
        let mut journal = Vec::new();
        for n in 0..400 {
            let slug = format!("festival-{n}");
            let (starts_at, ends_at, policy) = (Timestamp(0), Timestamp(i64::MAX), Policy::default());
            let name = "x".repeat(150);
            let action = AdminAction::CreateFestival {
                slug,
                name,
                starts_at,
                ends_at,
                policy,
                calendar: engine::model::time::Calendar::default(),
            };
            let shard = action.home().shard(SHARDS);
            assert_ne!(action.home(), Home::Platform);
            let command = Command::Admin(Box::new(AdminCommand { key: None, by: Principal::ApiKey(1), action }));
            let mut step = Step::default();
            shards[usize::from(shard.0)].step(Timestamp(n), &[command], &mut step);
            match n % 97 {
                0 if n > 0 => {}
                1 => journal.push((shard, step.record[..step.record.len() / 2].to_vec())),
                2 => journal.extend([(shard, step.record.clone()), (shard, step.record)]),
                _ => journal.push((shard, step.record)),
            }
        }
        journal
    }

    #[test]
    fn many_hands_find_what_one_finds() {
        let journal = journal();
        let mut alone = Audit::new(SHARDS);
        journal.iter().for_each(|(shard, record)| alone.record(*shard, record));
        let alone = alone.finish();
        assert!(alone.violations_total > 10, "{:?}", alone.violations);
        for pool in 1..=SHARDS {
            let mut many = WorkerPool::so_many(SHARDS, pool).expect("threads");
            journal.iter().for_each(|(shard, record)| many.record(*shard, record));
            assert_eq!(format!("{:?}", many.finish()), format!("{alone:?}"), "{pool} hands");
        }
    }

    #[test]
    fn more_than_a_pile_at_a_time() {
        let (shard, record) = journal().swap_remove(0);
        let mut pool = WorkerPool::so_many(SHARDS, 2).expect("threads");
        let times = 20 * BATCH_BYTES / record.len();
        (0..times).for_each(|_| pool.record(shard, &record));
        let report = pool.finish();
        assert_eq!(report.records, times as u64);
        assert_eq!(report.violations.len(), engine::audit::VIOLATIONS_MAX);
    }
}
