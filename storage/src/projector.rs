//! The projector: follows the journal and keeps the read models up with it, on a thread of its own that gives way to
//! everybody else. The gates never wait for it: they write the journal, it reads what has become durable.
//!
//! It goes in batches: whatever has come in, up to [`BATCH_WEIGHT_MAX`] events or [`BATCH_MS_MAX`], is one transaction. A
//! fault (a full disk, a panic) stops the following, is said loudly and in [`Status::fault`], and is tried again with
//! growing pauses, from wherever the store then stands. What people ask meanwhile is answered by nobody, rather than
//! wrongly.
//!
//! What is stored is verified: as a whole when it is opened and now and then beside its use, and by samples that are
//! compared with the journal. Read models that are damaged, or have followed another journal than this, are built anew by
//! themselves, and that is said.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::background::give_way;
use crate::journal::{Cursor, Journal};
use crate::views::{Check, Views, ViewsError};

mod following;
mod sample;
#[cfg(test)]
mod tests;

pub use following::{Following, Portion, Step};

/// Events of one transaction: about 100 ms of folding and writing on a small machine, about 5 MB on the way.
pub const BATCH_WEIGHT_MAX: usize = 20_000;
/// How long a transaction gathers while the journal has more, in ms.
pub const BATCH_MS_MAX: u64 = 50;

/// Opens the store, at the start and after each fault.
pub type Open = Box<dyn Fn(Begin) -> Result<Arc<dyn Views>, ViewsError> + Send + Sync>;

/// With what a store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With what it has.
    Kept,
    /// With nothing: what it has is worth nothing.
    Anew,
}

/// When the projector does what, in ms. The defaults are for everybody but tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long it sleeps when it has caught up: how far the lists are behind on a quiet day. Default 50.
    pub pause_ms: u64,
    /// How often what was written is made durable. It is what a crash costs in reading again; and until then pages of the
    /// file that are no longer used cannot be used anew, so the file grows. Default 2,000.
    pub flush_ms: u64,
    /// The first pause after a fault; each that follows without a batch in between is twice as long. Default 1,000.
    pub retry_ms: u64,
    /// The longest pause after a fault. Default 60,000.
    pub retry_ms_max: u64,
    /// How often all that is stored is verified beside its use. Default an hour: a second's reading for each GB.
    pub check_ms: u64,
    /// How often a sample is compared with the journal. Default a minute.
    pub sample_ms: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            pause_ms: 50,
            flush_ms: 2_000,
            retry_ms: 1_000,
            retry_ms_max: 60_000,
            check_ms: 3_600_000,
            sample_ms: 60_000,
        }
    }
}

/// A running projector. Dropping it stops it.
pub struct Projector {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How it is getting on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Records of the journal that the read models do not have yet.
    pub lag_records: u64,
    /// Whether they have reached what was the journal's end when the projector started. Before that, lists are
    /// incomplete: after the read models were deleted, by years.
    pub caught_up: bool,
    /// They are built from nothing at the moment.
    pub rebuilding: bool,
    /// They are being opened, and verified on the way.
    pub opening: bool,
    /// How often they were thrown away and built anew, since they were damaged or of another journal.
    pub rebuilt: u64,
    /// Events folded in since the start.
    pub events: u64,
    /// Why it does not follow at the moment, for whoever is on call. It is tried again.
    pub fault: Option<String>,
}

struct Shared {
    journal: Arc<dyn Journal>,
    open: Open,
    pace: Pace,
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    stopping: bool,
    views: Option<Arc<dyn Views>>,
    /// How far the read models are; stays through faults.
    cursor: Option<Cursor>,
    caught_up: bool,
    rebuilding: bool,
    /// How often they were begun anew.
    rebuilt: u64,
    /// A reader has met something that cannot be.
    suspected: bool,
    events: u64,
    fault: Option<String>,
}

impl Projector {
    /// Starts to follow `journal` into the store that `open` opens. A store that does not open is a fault like others.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub fn start(journal: Arc<dyn Journal>, open: Open, pace: Pace) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { journal, open, pace, state: Mutex::default(), bell: Condvar::new() });
        let at_work = Arc::clone(&shared);
        let thread = thread::Builder::new().name("projector".into()).spawn(move || at_work.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// How it is getting on.
    pub fn status(&self) -> Status {
        let state = self.shared.state();
        let end = self.shared.journal.end();
        let start = Cursor::start(end.shards());
        let at = state.cursor.as_ref().unwrap_or(&start);
        Status {
            lag_records: self.shared.journal.records_between(at, &end),
            caught_up: state.caught_up,
            rebuilding: state.rebuilding,
            opening: state.views.is_none() && state.fault.is_none(),
            rebuilt: state.rebuilt,
            events: state.events,
            fault: state.fault.clone(),
        }
    }

    /// The read models, unless a fault keeps them shut. Not to be kept for longer than one question: as long as somebody
    /// holds them, they cannot be opened again after a fault.
    pub fn views(&self) -> Option<Arc<dyn Views>> {
        self.shared.state().views.clone()
    }

    /// A reader has met something that cannot be: they are opened anew, hence verified, unless that has just been done.
    pub fn suspect(&self) {
        self.shared.state().suspected = true;
    }

    /// Makes what was written durable, and ends the thread. A second call does nothing.
    pub fn stop(&self) {
        self.shared.state().stopping = true;
        self.shared.bell.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Its panics are caught and said within.
            let _ = thread.join();
        }
    }
}

impl Drop for Projector {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps unless it is to stop; says whether it is.
    fn pause(&self, ms: u64) -> bool {
        let wait = self.bell.wait_timeout_while(self.state(), Duration::from_millis(ms), |state| !state.stopping);
        wait.unwrap_or_else(PoisonError::into_inner).0.stopping
    }

    fn run(&self) {
        give_way();
        let mut retry_ms = self.pace.retry_ms;
        let mut begin = Begin::Kept;
        // Thrown away once and no further since: what then goes wrong again is no damage, and another time helps nobody.
        let mut in_vain = false;
        let mut panicked = false;
        let mut checks = Checks::new();
        loop {
            let before = self.state().events;
            let ended = catch_unwind(AssertUnwindSafe(|| self.follow(begin, &mut checks)));
            checks.cancel();
            let (why, beyond_repair) = match ended {
                Ok(Ok(())) => return,
                Ok(Err(why)) => {
                    panicked = false;
                    (why.to_string(), is_beyond_repair(&why))
                }
                // Opened anew it is verified. If that does not help, it is not to be believed.
                Err(panic) => {
                    let again = core::mem::replace(&mut panicked, true);
                    (format!("the projector panicked: {}", words_of(&*panic)), again)
                }
            };
            let progress = {
                let mut state = self.state();
                state.views = None;
                in_vain &= !core::mem::take(&mut state.caught_up);
                state.events > before
            };
            begin = Begin::Kept;
            if beyond_repair && !in_vain {
                in_vain = true;
                begin = Begin::Anew;
                let mut state = self.state();
                (state.rebuilding, state.cursor, state.fault) = (true, None, None);
                state.rebuilt += 1;
                drop(state);
                tracing::error!(
                    why,
                    "the read models cannot be used and are being rebuilt from the journal; the gates carry on"
                );
                // Also when it is to stop: what is worth nothing must not be found there by anybody.
                continue;
            }
            self.state().fault = Some(why.clone());
            retry_ms = if progress { self.pace.retry_ms } else { retry_ms };
            tracing::error!(why, retry_ms, "the read models have stopped following the journal; the gates carry on");
            if self.pause(retry_ms) {
                return;
            }
            retry_ms = (retry_ms * 2).min(self.pace.retry_ms_max);
        }
    }

    /// Follows until it is to stop, or something fails.
    fn follow(&self, begin: Begin, checks: &mut Checks) -> Result<(), ViewsError> {
        let views = (self.open)(begin)?;
        let target = self.journal.end();
        let mut following = Following::begin(&*self.journal, Arc::clone(&views))?;
        {
            let mut state = self.state();
            let cursor = &following.followed().cursor;
            state.rebuilding = cursor.is_start() && !target.is_start();
            state.cursor = Some(cursor.clone());
            state.views = Some(Arc::clone(&views));
        }
        checks.opened();
        let portion = Portion { weight: BATCH_WEIGHT_MAX, time: Duration::from_millis(BATCH_MS_MAX) };
        let (mut unflushed, mut flushed_at) = (false, Instant::now());
        loop {
            let step = following.step(portion)?;
            unflushed |= step.wrote;
            let (stopping, suspected) = {
                let mut state = self.state();
                state.events += step.events;
                let cursor = &following.followed().cursor;
                if step.wrote {
                    state.cursor = Some(cursor.clone());
                }
                state.caught_up |= step.at_end || cursor.covers(&target);
                state.rebuilding &= !state.caught_up;
                // Only now is it known that it works again.
                if state.fault.take().is_some() {
                    tracing::info!("the read models are following the journal again");
                }
                (state.stopping, core::mem::take(&mut state.suspected))
            };
            if unflushed && (stopping || flushed_at.elapsed() >= Duration::from_millis(self.pace.flush_ms)) {
                following.flush()?;
                (unflushed, flushed_at) = (false, Instant::now());
            }
            if !stopping {
                checks.turn(self, &*views, &following, suspected)?;
            }
            if stopping || (step.at_end && self.pause(self.pace.pause_ms) && !unflushed) {
                return Ok(());
            }
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
    fn new() -> Self {
        let now = Instant::now();
        Self { checked: now, sampled: now, chance: u64::from(std::process::id()), differed: false, running: None }
    }

    /// Opening has verified everything.
    fn opened(&mut self) {
        self.checked = Instant::now();
    }

    /// One look at whether something is due.
    fn turn(&mut self, of: &Shared, views: &dyn Views, at: &Following, suspected: bool) -> Result<(), ViewsError> {
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
        if suspected && self.running.is_none() && since(self.checked) >= of.pace.sample_ms {
            return Err(ViewsError::Suspected("a reader has met something that cannot be".into()));
        }
        if self.running.is_none() && since(self.checked) >= of.pace.check_ms {
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
        if since(self.sampled) >= of.pace.sample_ms && !self.differed {
            self.sampled = Instant::now();
            self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if let Some(what) = sample::differs(&*of.journal, views, at.followed(), self.chance >> 16)? {
                self.differed = of.state().rebuilt > 0;
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

fn words_of(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("?")
}
