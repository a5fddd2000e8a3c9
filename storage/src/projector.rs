//! The projector: follows the journal and keeps the read models up with it, on a thread of its own that gives way to
//! everybody else. The gates never wait for it: they write the journal, it reads what has become durable.
//!
//! It goes in batches: whatever has come in, up to [`BATCH_WEIGHT_MAX`] events or [`BATCH_MS_MAX`], is one transaction. A
//! fault (a full disk, damage, a panic) stops the following, is said loudly and in [`Status::fault`], and is tried again
//! with growing pauses, from wherever the store then stands. What people ask meanwhile is answered by nobody, rather
//! than wrongly.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::background::give_way;
use crate::journal::{Cursor, Journal};
use crate::views::{Views, ViewsError};

mod following;
#[cfg(test)]
mod tests;

pub use following::{Following, Portion, Source, Step};

/// Events of one transaction: about 100 ms of folding and writing on a small machine, about 5 MB on the way.
pub const BATCH_WEIGHT_MAX: usize = 20_000;
/// How long a transaction gathers while the journal has more, in ms.
pub const BATCH_MS_MAX: u64 = 50;

/// Opens the store, at the start and after each fault.
pub type Open = Box<dyn Fn() -> Result<Arc<dyn Views>, ViewsError> + Send + Sync>;

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
}

impl Default for Pace {
    fn default() -> Self {
        Self { pause_ms: 50, flush_ms: 2_000, retry_ms: 1_000, retry_ms_max: 60_000 }
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
        let end = self.shared.journal.end().greatest().0;
        let at = state.cursor.as_ref().map_or(0, |cursor| cursor.greatest().0);
        Status {
            lag_records: end.saturating_sub(at),
            caught_up: state.caught_up,
            events: state.events,
            fault: state.fault.clone(),
        }
    }

    /// The read models, unless a fault keeps them shut. Not to be kept for longer than one question: as long as somebody
    /// holds them, they cannot be opened again after a fault.
    pub fn views(&self) -> Option<Arc<dyn Views>> {
        self.shared.state().views.clone()
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
        loop {
            let before = self.state().events;
            let ended = catch_unwind(AssertUnwindSafe(|| self.follow()));
            let why = match ended {
                Ok(Ok(())) => return,
                Ok(Err(why)) => why.to_string(),
                Err(panic) => format!("the projector panicked: {}", words_of(&*panic)),
            };
            let progress = {
                let mut state = self.state();
                state.views = None;
                state.fault = Some(why.clone());
                state.events > before
            };
            retry_ms = if progress { self.pace.retry_ms } else { retry_ms };
            tracing::error!(why, retry_ms, "the read models do not follow; the gates go on");
            if self.pause(retry_ms) {
                return;
            }
            retry_ms = (retry_ms * 2).min(self.pace.retry_ms_max);
        }
    }

    /// Follows until it is to stop, or something fails.
    fn follow(&self) -> Result<(), ViewsError> {
        let views = (self.open)()?;
        let target = self.journal.end();
        let mut following = Following::begin(&*self.journal, Arc::clone(&views))?;
        {
            let mut state = self.state();
            state.cursor = Some(following.followed().cursor.clone());
            state.views = Some(views);
        }
        let portion = Portion { weight: BATCH_WEIGHT_MAX, time: Duration::from_millis(BATCH_MS_MAX) };
        let (mut unflushed, mut flushed_at) = (false, Instant::now());
        loop {
            let step = following.step(&*self.journal, portion)?;
            unflushed |= step.wrote;
            let stopping = {
                let mut state = self.state();
                state.events += step.events;
                let cursor = &following.followed().cursor;
                if step.wrote {
                    state.cursor = Some(cursor.clone());
                }
                state.caught_up |= step.at_end || cursor.greatest() >= target.greatest();
                // Only now is it known that it works again.
                if state.fault.take().is_some() {
                    tracing::info!("the read models follow again");
                }
                state.stopping
            };
            if unflushed && (stopping || flushed_at.elapsed() >= Duration::from_millis(self.pace.flush_ms)) {
                following.flush()?;
                (unflushed, flushed_at) = (false, Instant::now());
            }
            if stopping || (step.at_end && self.pause(self.pace.pause_ms) && !unflushed) {
                return Ok(());
            }
        }
    }
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("?")
}
