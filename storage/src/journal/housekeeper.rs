//! The slow work beside the log, on threads of its own: zeroing the next segment, which somebody will wait for, and
//! compressing the sealed ones, which nobody does.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::background::give_way;

use super::{
    JournalError,
    disk::Disk,
    log::{LogOptions, prepare_segment},
    pack::pack_segment,
};

/// How long to wait after a segment could not be prepared: long enough not to flood the log of the process, short
/// enough that room made on the disk is noticed before a segment (a second of peak load) is full.
const RETRY: Duration = Duration::from_secs(1);
/// The rest between two chunks of work while nobody waits: a durable write should find the disk free.
const BREATH: Duration = Duration::from_millis(1);

/// A handle to the housekeeper; the journal's thread holds one, its own two threads the others.
pub(crate) struct Housekeeper<D: Disk> {
    disk: Arc<D>,
    options: LogOptions,
    /// Whether sealed segments are compressed.
    compress: bool,
    chores: Mutex<Chores<D>>,
    /// Rung for its threads when there is work, and by them when a segment is ready.
    bell: Condvar,
    /// Somebody waits for the next segment, or soon will.
    hurry: AtomicBool,
    stop: AtomicBool,
}

struct Chores<D: Disk> {
    wanted: Option<u64>,
    ready: Option<Result<D::File, JournalError>>,
    /// The writer stands still until the segment is there.
    waited_for: bool,
    sealed: VecDeque<u64>,
    /// The thread has panicked: nobody may wait for it.
    gone: bool,
}

impl<D: Disk> Housekeeper<D> {
    pub(crate) fn new(disk: Arc<D>, options: LogOptions, compress: bool) -> Self {
        let chores = Chores { wanted: None, ready: None, waited_for: false, sealed: VecDeque::new(), gone: false };
        Self {
            disk,
            options,
            compress,
            chores: Mutex::new(chores),
            bell: Condvar::new(),
            hurry: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        }
    }

    /// Asks for segment `number`, unless it has been asked for.
    pub(crate) fn want(&self, number: u64) {
        let mut chores = self.chores();
        if chores.wanted != Some(number) && chores.ready.is_none() {
            chores.wanted = Some(number);
            self.bell.notify_all();
        }
    }

    /// The segment asked for, if it is ready.
    pub(crate) fn ready(&self) -> Option<D::File> {
        self.chores().ready.take()?.ok()
    }

    /// Waits for the segment asked for.
    pub(crate) fn wait(&self) -> Result<D::File, JournalError> {
        self.hurry.store(true, Ordering::Relaxed);
        let mut chores = self.chores();
        chores.waited_for = true;
        self.bell.notify_all();
        let ready = loop {
            if let Some(ready) = chores.ready.take() {
                break ready;
            }
            if chores.gone {
                break Err(JournalError::Failed("the journal's housekeeper panicked".to_owned()));
            }
            chores = self.bell.wait(chores).expect("nothing panics under this lock");
        };
        chores.waited_for = false;
        ready
    }

    /// Half of the open segment is used: no more rests until the next is there.
    pub(crate) fn hurry(&self) {
        self.hurry.store(true, Ordering::Relaxed);
    }

    /// Compresses these when there is time.
    pub(crate) fn sealed(&self, numbers: &[u64]) {
        if self.compress && !numbers.is_empty() {
            self.chores().sealed.extend(numbers);
            self.bell.notify_all();
        }
    }

    /// Abandons all work; what was begun is begun anew after the next opening.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let _guard = self.chores();
        self.bell.notify_all();
    }

    /// Prepares segments: one thread's whole life.
    pub(crate) fn prepare_all(&self) {
        // Whoever decides and writes goes first, but not for ever. Not being allowed to is no reason to stop.
        let _ = rustix::process::nice(10);
        let prepare_all = || {
            while let Some(number) = self.next_wanted() {
                self.prepare(number);
            }
        };
        if catch_unwind(AssertUnwindSafe(prepare_all)).is_err() {
            tracing::error!("the journal's housekeeper panicked: the journal ends with the open segment");
            self.chores().gone = true;
            self.bell.notify_all();
        }
    }

    /// Compresses segments: the other thread's.
    pub(crate) fn pack_all(&self) {
        give_way();
        let pack_all = || {
            while let Some(number) = self.next_sealed() {
                self.pack(number);
            }
        };
        if catch_unwind(AssertUnwindSafe(pack_all)).is_err() {
            tracing::error!("compressing panicked: sealed segments stay as they are until a restart");
        }
    }

    fn next_wanted(&self) -> Option<u64> {
        self.next(|chores| chores.wanted)
    }

    fn next_sealed(&self) -> Option<u64> {
        // The next segment matters more, also to the disk.
        self.next(|chores| if chores.wanted.is_none() { chores.sealed.pop_front() } else { None })
    }

    /// Waits for something to do; `None` when it is time to stop.
    fn next(&self, mut look: impl FnMut(&mut Chores<D>) -> Option<u64>) -> Option<u64> {
        let mut chores = self.chores();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(number) = look(&mut chores) {
                return Some(number);
            }
            chores = self.bell.wait(chores).expect("nothing panics under this lock");
        }
    }

    fn prepare(&self, number: u64) {
        let made = prepare_segment(&*self.disk, number, &self.options, &mut |_| self.rest());
        let mut chores = self.chores();
        match made {
            Ok(None) => return, // stopped
            Ok(Some(file)) => chores.ready = Some(Ok(file)),
            Err(error) => {
                tracing::error!(number, %error, "the journal's next segment could not be prepared");
                if !chores.waited_for {
                    // Nothing has failed yet: the open segment still has room.
                    let (kept, _) = self.bell.wait_timeout(chores, RETRY).expect("nothing panics under this lock");
                    drop(kept);
                    return;
                }
                chores.ready = Some(Err(error));
            }
        }
        chores.wanted = None;
        self.hurry.store(false, Ordering::Relaxed);
        self.bell.notify_all();
    }

    fn pack(&self, number: u64) {
        let packed = pack_segment(&*self.disk, number, &mut |_| self.rest() && !self.is_wanted());
        match packed {
            Ok(true) => tracing::debug!(number, "compressed a sealed segment"),
            // The next segment matters more.
            Ok(false) => self.chores().sealed.push_front(number),
            // It stays as it was, and readable.
            Err(error) => tracing::error!(number, %error, "a sealed segment could not be compressed"),
        }
    }

    fn is_wanted(&self) -> bool {
        self.chores().wanted.is_some()
    }

    /// Makes room for others; `false` when it is time to stop.
    fn rest(&self) -> bool {
        if !self.hurry.load(Ordering::Relaxed) {
            thread::sleep(BREATH);
        }
        !self.stop.load(Ordering::Relaxed)
    }

    fn chores(&self) -> MutexGuard<'_, Chores<D>> {
        self.chores.lock().expect("nothing panics under this lock")
    }
}
