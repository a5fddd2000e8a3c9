//! The projector: the follower that keeps the read models up with the journal. Whatever has come in is one transaction, the
//! position behind it included. What people ask while it stands still is answered by nobody, rather than wrongly.
//!
//! What is stored is verified: as a whole when it is opened and now and then beside its use, and by samples that are
//! compared with the journal. Read models that are damaged, or have followed another journal than this, are built anew by
//! themselves, and that is said.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::background::give_way;
use crate::follower::{self, Begin, Followed, Follower, Status, Taken, Target, words_of};
use crate::journal::{Entry, Journal};
use crate::views::fold::Batch;
use crate::views::{Check, Views, ViewsError};

mod sample;
#[cfg(test)]
mod tests;

/// Opens the store, at the start and after each fault.
pub type Open = Box<dyn Fn(Begin) -> Result<Arc<dyn Views>, ViewsError> + Send + Sync>;

/// When the projector does what, in ms. The defaults are for everybody but tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// As any follower. Until what was written is made durable, pages of the file that are no longer used cannot be used
    /// anew, so the file grows.
    pub follow: follower::Pace,
    /// How often all that is stored is verified beside its use. Default an hour: a second's reading for each GB.
    pub check_ms: u64,
    /// How often a sample is compared with the journal. Default a minute.
    pub sample_ms: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { follow: follower::Pace::default(), check_ms: 3_600_000, sample_ms: 60_000 }
    }
}

/// A running projector. Dropping it stops it.
pub struct Projector {
    follower: Follower<Folding>,
    shown: Arc<Shown>,
}

/// What readers reach of the follower's thread.
#[derive(Default)]
struct Shown {
    views: Mutex<Option<Arc<dyn Views>>>,
    /// A reader has met something that cannot be.
    suspected: AtomicBool,
}

impl Projector {
    /// Starts to follow `journal` into the store that `open` opens. A store that does not open is a fault like others.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub fn start(journal: Arc<dyn Journal>, open: Open, pace: Pace) -> std::io::Result<Self> {
        let shown = Arc::<Shown>::default();
        let (shared, checks) = (Arc::clone(&shown), Arc::new(Mutex::new(Checks::new(pace))));
        let of_checks = Arc::clone(&journal);
        let open: follower::Open<Folding> = Box::new(move |begin| {
            let beside =
                Beside { journal: Arc::clone(&of_checks), shown: Arc::clone(&shared), checks: Arc::clone(&checks) };
            beside.checks().begun_anew |= begin == Begin::Anew;
            let mut folding = Folding::into(open(begin)?);
            folding.beside = Some(beside);
            Ok(folding)
        });
        Ok(Self { follower: Follower::start(journal, open, pace.follow)?, shown })
    }

    /// How it is getting on.
    pub fn status(&self) -> Status {
        self.follower.status()
    }

    /// The read models, unless a fault keeps them shut. Not to be kept for longer than one question: as long as somebody
    /// holds them, they cannot be opened again after a fault.
    pub fn views(&self) -> Option<Arc<dyn Views>> {
        self.shown.views().clone()
    }

    /// A reader has met something that cannot be: they are opened anew, hence verified, unless that has just been done.
    pub fn suspect(&self) {
        self.shown.suspected.store(true, Ordering::Release);
    }

    /// Makes what was written durable, and ends the thread. A second call does nothing.
    pub fn stop(&self) {
        self.follower.stop();
    }
}

impl Shown {
    fn views(&self) -> MutexGuard<'_, Option<Arc<dyn Views>>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Read models as the target of a follower.
pub struct Folding {
    views: Arc<dyn Views>,
    batch: Batch,
    beside: Option<Beside>,
}

/// What goes on beside the folding while a projector runs.
struct Beside {
    journal: Arc<dyn Journal>,
    shown: Arc<Shown>,
    checks: Arc<Mutex<Checks>>,
}

impl Beside {
    fn checks(&self) -> MutexGuard<'_, Checks> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Folding {
    /// Into this store, and nothing beside it.
    pub fn into(views: Arc<dyn Views>) -> Self {
        Self { views, batch: Batch::behind(&Followed::nothing(0)), beside: None }
    }
}

impl Target for Folding {
    type Error = ViewsError;
    const THREAD: &'static str = "projector";
    const WHO: &'static str = "the read models";
    const CAN_BEGIN_ANEW: bool = true;

    fn followed(&self) -> Result<Option<Followed>, ViewsError> {
        self.views.followed()
    }

    fn is_shared(&self) -> bool {
        self.views.is_shared()
    }

    fn begin(&mut self, from: &Followed) {
        self.views.begin();
        self.batch = Batch::behind(from);
        if let Some(beside) = &self.beside {
            *beside.shown.views() = Some(Arc::clone(&self.views));
            beside.checks().opened();
        }
    }

    fn add(&mut self, entry: &Entry<'_>) -> Result<Taken, ViewsError> {
        let before = (self.batch.events(), self.batch.weight());
        self.batch.add(entry)?;
        Ok(Taken { events: self.batch.events() - before.0, weight: self.batch.weight() - before.1 })
    }

    fn write(&mut self, followed: &Followed) -> Result<(), ViewsError> {
        self.batch.followed.clone_from(followed);
        self.views.write(&self.batch)?;
        self.batch.go_on();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ViewsError> {
        self.views.flush()
    }

    fn check(&mut self, at: &Followed) -> Result<(), ViewsError> {
        let Some(beside) = &self.beside else { return Ok(()) };
        let suspected = beside.shown.suspected.swap(false, Ordering::AcqRel);
        beside.checks().turn(&*beside.journal, &*self.views, at, suspected)
    }

    fn is_beyond_repair(why: &ViewsError) -> bool {
        is_beyond_repair(why)
    }
}

impl Drop for Folding {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            *beside.shown.views() = None;
            beside.checks().cancel();
        }
    }
}

/// Whether what is stored can only be thrown away.
fn is_beyond_repair(why: &ViewsError) -> bool {
    match why {
        ViewsError::Damaged(_) | ViewsError::Misfit(_) | ViewsError::Ahead { .. } | ViewsError::OtherJournal { .. } => {
            true
        }
        ViewsError::Store { .. }
        | ViewsError::DiskFull
        | ViewsError::NobodyWaits
        | ViewsError::Suspected(_)
        | ViewsError::InUse
        | ViewsError::NotNext
        | ViewsError::Record { .. }
        | ViewsError::Journal(_) => false,
    }
}

/// When what is looked at again.
struct Checks {
    /// What is stored was verified last.
    checked: Instant,
    sampled: Instant,
    /// Where samples are taken: a walk that leaves out nothing for ever.
    chance: u64,
    pace: Pace,
    /// What is stored was built anew since the start.
    begun_anew: bool,
    /// A sample has differed before, and building anew has not helped: the fold and the sample disagree, not the disk.
    differed: bool,
    running: Option<Running>,
}

/// A check beside the store.
struct Running {
    thread: JoinHandle<Result<(), ViewsError>>,
    cancelled: Arc<AtomicBool>,
}

impl Checks {
    fn new(pace: Pace) -> Self {
        let (now, chance) = (Instant::now(), u64::from(std::process::id()));
        Self { checked: now, sampled: now, chance, pace, begun_anew: false, differed: false, running: None }
    }

    /// Opening has verified everything.
    fn opened(&mut self) {
        self.checked = Instant::now();
    }

    /// One look at whether something is due.
    fn turn(
        &mut self,
        journal: &dyn Journal,
        views: &dyn Views,
        at: &Followed,
        suspected: bool,
    ) -> Result<(), ViewsError> {
        if let Some(Running { thread, .. }) = self.running.take_if(|running| running.thread.is_finished()) {
            self.checked = Instant::now();
            match thread.join() {
                Ok(Ok(())) => tracing::debug!("the read models' pages hold"),
                Ok(Err(ViewsError::Damaged(why))) => return Err(ViewsError::Suspected(why)),
                Ok(Err(why)) => tracing::warn!(%why, "the read models could not be verified"),
                Err(panic) => return Err(ViewsError::Suspected(words_of(&*panic).to_owned())),
            }
        }
        let since = |last: Instant| last.elapsed().as_millis() as u64;
        // Once a sample's time, so that a bug in a reader does not have the file read again and again.
        if suspected && self.running.is_none() && since(self.checked) >= self.pace.sample_ms {
            return Err(ViewsError::Suspected("a reader has met something that cannot be".into()));
        }
        if self.running.is_none() && since(self.checked) >= self.pace.check_ms {
            self.checked = Instant::now();
            if let Some(Check { run, cancelled }) = views.check()? {
                let thread = thread::Builder::new().name("views-check".into()).spawn(move || {
                    give_way();
                    run()
                });
                match thread {
                    Ok(thread) => self.running = Some(Running { thread, cancelled }),
                    Err(why) => tracing::warn!(%why, "no thread could be started to verify the read models"),
                }
            }
        }
        if since(self.sampled) >= self.pace.sample_ms && !self.differed {
            self.sampled = Instant::now();
            self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if let Some(what) = sample::differs(journal, views, at, self.chance >> 16)? {
                self.differed = self.begun_anew;
                if !self.differed {
                    return Err(ViewsError::Damaged(format!("{what} is not what the journal says")));
                }
                tracing::error!(
                    what,
                    "a sample still differs from the journal, which is a bug; no more samples are taken"
                );
            }
        }
        Ok(())
    }

    /// Whatever runs ends before the store is opened again, or nobody could.
    fn cancel(&mut self) {
        if let Some(Running { thread, cancelled }) = self.running.take() {
            cancelled.store(true, Ordering::Relaxed);
            // What it has found is not of interest any more.
            let _ = thread.join();
        }
    }
}
