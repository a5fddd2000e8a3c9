//! From a thread's shards to the journal: the records of those that are ready gather here and go in one write. A command that
//! is alone is written by this thread itself.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use engine::model::ids::ShardId;
use storage::journal::{Journal, Reason, Refused};

use super::{Link, Standing};
use crate::limits::{EARLY_ANSWERS_FOLLOW_MS, GATHER_BYTES, JOURNAL_FULL_RETRY_MS};

thread_local! {
    /// Records of this thread's shards on their way to the journal.
    static HANDED_OVER: RefCell<VecDeque<(ShardId, Vec<u8>)>> = const { RefCell::new(VecDeque::new()) };
    /// The last time that something was handed over, one command was all that this thread had.
    static WAS_ALONE: Cell<bool> = const { Cell::new(false) };
    /// When a scan was last answered on this thread before it was durable.
    static ANSWERED_EARLY: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Hands over to the journal what has gathered; `true` if its queue has no room for all of that, and the rest is to be
/// handed over a little later. Behind a record that was refused no other of that shard may come: the journal would have a
/// gap, and could not be replayed.
pub(super) fn write_down(journal: &dyn Journal, links: &[Arc<Link>]) -> bool {
    let mut waiting = HANDED_OVER.take();
    while let Some((shard, record)) = waiting.pop_front() {
        let link = &links[usize::from(shard.0)];
        if link.refused.load(Ordering::Acquire) {
            continue;
        }
        match journal.append(shard, record) {
            Ok(()) => {}
            Err(Refused { reason: Reason::Full, record }) => {
                waiting.push_front((shard, record));
                HANDED_OVER.set(waiting);
                return true;
            }
            Err(Refused { reason: reason @ (Reason::TooLarge | Reason::Failed), record }) => {
                let bytes = record.len();
                tracing::error!(shard = shard.0, ?reason, bytes, "the journal refused a record; the shard is down");
                link.take_down(Standing::Down);
            }
        }
    }
    false
}

/// Writes what has gathered on this thread, if the journal lets it; else it stays where it is.
fn write_here(journal: &dyn Journal, links: &[Arc<Link>]) {
    let mut records = HANDED_OVER.take();
    // Behind a record that was refused no other of that shard may come, here neither.
    records.retain(|(shard, _)| !links[usize::from(shard.0)].refused.load(Ordering::Acquire));
    if !journal.write_here(&mut records) {
        HANDED_OVER.set(records);
    }
}

/// Whether this thread may wait for the disk: one command is all that it has, now and the last time, and whoever sent that
/// waits too. Now alone would not do: of many that were answered together, the first to come again is alone for a moment. A
/// thread that answers scans early never waits, for the next one would wait as well.
fn has_nothing_else(of: &Link, links: &[Arc<Link>]) -> bool {
    let here = links.iter().filter(|link| Arc::ptr_eq(&link.terminals, &of.terminals));
    let pending: usize = here.map(|link| link.pending.load(Ordering::Acquire)).sum();
    let was_alone = WAS_ALONE.replace(pending == 1);
    let alone = pending == 1 && was_alone;
    alone && ANSWERED_EARLY.get().is_none_or(|at| at.elapsed() >= Duration::from_millis(EARLY_ANSWERS_FOLLOW_MS))
}

/// Writes what has gathered here, if that is best; else hands it over, until that is done.
pub(super) async fn write_all_down(journal: Arc<dyn Journal>, links: Arc<[Arc<Link>]>, of: Arc<Link>) {
    if has_nothing_else(&of, &links) {
        write_here(&*journal, &links);
    }
    while write_down(&*journal, &links) {
        tokio::time::sleep(Duration::from_millis(JOURNAL_FULL_RETRY_MS)).await;
    }
}

/// A record of this thread's shards is to be written. Whether it is the only one, and whether enough has gathered.
pub(super) fn gather(shard: ShardId, record: Vec<u8>) -> (bool, bool) {
    HANDED_OVER.with_borrow_mut(|records| {
        records.push_back((shard, record));
        let bytes: usize = records.iter().map(|(_, record)| record.len()).sum();
        (records.len() == 1, bytes >= GATHER_BYTES)
    })
}

/// A shard of this thread is not here any more: what it has not handed over is not written.
pub(super) fn forget(shard: ShardId) {
    HANDED_OVER.with_borrow_mut(|records| records.retain(|(of, _)| *of != shard));
}

/// A scan was answered on this thread before it was durable.
pub(super) fn answered_early() {
    ANSWERED_EARLY.set(Some(Instant::now()));
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use engine::model::time::Timestamp;
    use storage::journal::{Cursor, JournalError, Reader, Records};

    /// Takes short records only, and so many at a time.
    struct Narrow {
        room: AtomicUsize,
        taken: Mutex<Vec<(ShardId, Vec<u8>)>>,
    }

    impl Records for Narrow {
        fn shards(&self) -> u16 {
            2
        }
        fn end(&self) -> Cursor {
            Cursor::start(2)
        }
        fn reader(&self, _: &Cursor) -> Result<Box<dyn Reader>, JournalError> {
            unreachable!("nobody reads")
        }
        fn records_between(&self, _: &Cursor, _: &Cursor) -> u64 {
            unreachable!("nobody reads")
        }
    }

    impl Journal for Narrow {
        fn append(&self, shard: ShardId, record: Vec<u8>) -> Result<(), Refused> {
            if record.len() > 2 {
                return Err(Refused { reason: Reason::TooLarge, record });
            }
            let room = self.room.fetch_update(Ordering::AcqRel, Ordering::Acquire, |room| room.checked_sub(1));
            if room.is_err() {
                return Err(Refused { reason: Reason::Full, record });
            }
            self.taken.lock().unwrap().push((shard, record));
            Ok(())
        }
        fn write_here(&self, _: &mut VecDeque<(ShardId, Vec<u8>)>) -> bool {
            false
        }
        fn failure(&self) -> Option<String> {
            None
        }
        fn close(&self) -> Result<(), JournalError> {
            Ok(())
        }
    }

    fn narrow(room: usize) -> (Narrow, [Arc<Link>; 2]) {
        let links = [0, 1].map(|_| Arc::new(Link::new(Arc::default())));
        (Narrow { room: AtomicUsize::new(room), taken: Mutex::default() }, links)
    }

    const ONE: ShardId = ShardId(0);
    const OTHER: ShardId = ShardId(1);

    /// Behind a gap nothing can be replayed, so a shard whose record was refused gets none for the next, shorter one;
    /// neither of those that were gathered with it nor of later ones.
    #[test]
    fn behind_a_refused_record_comes_no_other() {
        let (journal, links) = narrow(9);
        links.iter().for_each(|link| assert!(link.expect().is_ok() && link.arrives(Timestamp(0))));
        for gathered in
            [vec![(ONE, vec![1]), (ONE, vec![2; 3]), (ONE, vec![3]), (OTHER, vec![4])], vec![(ONE, vec![5])]]
        {
            HANDED_OVER.set(gathered.into());
            assert!(!write_down(&journal, &links), "nothing is left");
        }
        assert_eq!(*journal.taken.lock().unwrap(), [(ONE, vec![1]), (OTHER, vec![4])]);
        assert_eq!(links.map(|link| link.serving.load(Ordering::Acquire)), [false, true], "one is down, and says so");
    }

    #[test]
    fn a_full_journal_is_asked_again_and_the_order_stays() {
        let (journal, links) = narrow(1);
        HANDED_OVER.set([(ONE, vec![1]), (OTHER, vec![2]), (ONE, vec![3])].into());
        assert!(write_down(&journal, &links), "two have found no room");
        HANDED_OVER.with_borrow_mut(|records| records.push_back((OTHER, vec![4])));
        assert!(write_down(&journal, &links), "there still is none");
        journal.room.store(2, Ordering::Release);
        assert!(write_down(&journal, &links));
        journal.room.store(9, Ordering::Release);
        assert!(!write_down(&journal, &links));
        let taken = [(ONE, vec![1]), (OTHER, vec![2]), (ONE, vec![3]), (OTHER, vec![4])];
        assert_eq!(*journal.taken.lock().unwrap(), taken);
        assert!(links.iter().all(|link| !link.refused.load(Ordering::Acquire)), "that is not the end of any shard");
    }

    /// One command on the thread after another, whichever shard has it, and no scans that are answered early: then nobody
    /// but its sender waits while the thread waits for the disk.
    #[test]
    fn a_thread_with_anything_else_to_do_does_not_wait_for_the_disk() {
        let (here, elsewhere) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let links = [&here, &here, &elsewhere].map(|thread| Arc::new(Link::new(Arc::clone(thread))));
        let pending = |counts: [usize; 3]| {
            links.iter().zip(counts).for_each(|(link, count)| link.pending.store(count, Ordering::Release));
            has_nothing_else(&links[0], &links)
        };
        assert!(!pending([1, 0, 0]), "many others may be about to come");
        assert!(pending([1, 0, 0]) && pending([0, 1, 0]), "none has");
        assert!(pending([1, 0, 7]), "what another thread has is no matter here");
        assert!(!pending([1, 1, 0]), "another waits");
        assert!(!pending([1, 0, 0]), "it is the first of them to come again");
        assert!(pending([1, 0, 0]) && !pending([2, 0, 0]) && !pending([0, 0, 0]), "nobody waits for it");
        assert!(!pending([1, 0, 0]) && pending([1, 0, 0]));
        answered_early();
        assert!(!pending([1, 0, 0]), "the next scan would wait");
    }
}
