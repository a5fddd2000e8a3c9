//! Whoever follows the journal behind the shards, on a thread of its own that gives way to everybody else, with a durable
//! cursor of its own: read models ([`crate::projector`]), and whatever else is done about what has happened. The shards
//! never wait for it: they write the journal, it reads what has become durable.
//!
//! It goes in batches: whatever has come in, up to [`BATCH_WEIGHT_MAX`] events or [`BATCH_MS_MAX`], is written by its
//! [`Target`] as one, with the cursor behind it. What a crash takes with it is read again. So a record is taken in at least
//! once, those of one shard in order, and none is left out; a target that keeps the cursor together with what it makes of
//! the records takes in each exactly once.
//!
//! A fault (a full disk, a panic) stops the following, is said loudly and in [`Status::fault`], and is tried again with
//! growing pauses, from wherever the target then stands.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use engine::model::ids::ShardId;
use serde::{Deserialize, Serialize};

use crate::background::give_way;
use crate::journal::{Cursor, Entry, Journal, JournalError, Position};

mod cursor_file;
mod following;
#[cfg(test)]
mod tests;

pub use cursor_file::{CursorError, CursorFile};
pub use following::{Following, Portion, Step};

/// Events of one batch: of read models about 100 ms of folding and writing on a small machine, about 5 MB on the way.
pub const BATCH_WEIGHT_MAX: usize = 20_000;
/// How long a batch gathers while the journal has more, in ms.
pub const BATCH_MS_MAX: u64 = 50;

/// How often a follower with a shared store looks how far those of other nodes are, in ms.
pub const OTHERS_MS: u64 = 1_000;

/// How far somebody has followed the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// Where to read on.
    pub cursor: Cursor,
    /// The last record that was taken in, of whichever shard, by which a journal is recognised.
    pub last: Option<LastRecord>,
}

impl Followed {
    /// Nothing yet, of a journal of `shards` shards.
    pub fn nothing(shards: u16) -> Self {
        Self { cursor: Cursor::start(shards), last: None }
    }
}

/// A record, to be recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRecord {
    pub shard: ShardId,
    /// Where it lies.
    pub position: Position,
    /// CRC-32C of it.
    pub crc: u32,
}

impl LastRecord {
    /// This one.
    pub fn of(entry: &Entry<'_>) -> Self {
        Self { shard: entry.shard, position: entry.position, crc: crc32c::crc32c(entry.payload) }
    }
}

/// Why this journal is not the one that was followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Whoever followed knows more than the journal does.
    #[error("shard {} was followed up to position {at}, but its journal ends at {end}", shard.0)]
    Ahead {
        shard: ShardId,
        /// How far it was followed.
        at: u64,
        /// Where the journal ends.
        end: u64,
    },
    /// It was another journal.
    #[error("another journal was followed (record {at} differs)")]
    OtherJournal {
        /// The record by which that was seen.
        at: u64,
    },
}

/// What one record came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its events.
    pub events: u64,
    /// What they weigh in memory until they are written, in events.
    pub weight: usize,
}

/// What a follower does with the records, and where it keeps how far it is.
pub trait Target: Send {
    /// What can go wrong. Each message is for whoever is on call.
    type Error: Display + From<JournalError> + From<Mismatch>;
    /// Its thread's name.
    const THREAD: &'static str;
    /// Who has stopped, rests or goes on, in a sentence of the log.
    const WHO: &'static str;
    /// Whether what was kept may be thrown away and made from the journal again, where it cannot be used. Whoever has acted
    /// on the world may not: everything would be done a second time.
    const CAN_BEGIN_ANEW: bool;

    /// How far it has come; `None` if nothing was ever written.
    ///
    /// # Errors
    /// Its own.
    fn followed(&self) -> Result<Option<Followed>, Self::Error>;

    /// Whether followers of other nodes have the same store, each for the shards that are its own ([`Records::is_here`]): then
    /// this one takes in the records of its own shards alone, and [`Target::followed`] says how far all of them are. Which
    /// shards those are changes while it follows. Two may take in the same records for a moment, one of them being out of date:
    /// what is kept has to bear that.
    ///
    /// [`Records::is_here`]: crate::journal::Records::is_here
    fn is_shared(&self) -> bool {
        false
    }

    /// The journal is the one that was followed: it goes on from here.
    fn begin(&mut self, _from: &Followed) {}

    /// Takes in the next record.
    ///
    /// # Errors
    /// Its own. It is then opened again.
    fn add(&mut self, entry: &Entry<'_>) -> Result<Taken, Self::Error>;

    /// Keeps what the records since the last time come to, and that it has come to `followed`: in one transaction, or else
    /// `followed` last.
    ///
    /// # Errors
    /// As [`Target::add`].
    fn write(&mut self, followed: &Followed) -> Result<(), Self::Error>;

    /// Makes everything written durable.
    ///
    /// # Errors
    /// As [`Target::add`].
    fn flush(&mut self) -> Result<(), Self::Error>;

    /// A look, after each batch, at whatever else is due.
    ///
    /// # Errors
    /// As [`Target::add`].
    fn check(&mut self, _at: &Followed) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Whether what is kept can only be thrown away; asked if [`Target::CAN_BEGIN_ANEW`].
    fn is_beyond_repair(_why: &Self::Error) -> bool {
        false
    }
}

/// Opens the target, at the start and after each fault.
pub type Open<T> = Box<dyn Fn(Begin) -> Result<T, <T as Target>::Error> + Send + Sync>;

/// With what a target is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With what it has.
    Kept,
    /// With nothing: what it has is worth nothing.
    Anew,
}

/// When a follower does what, in ms. The defaults are for everybody but tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long it sleeps when it has caught up: how far it is behind on a quiet day. Default 50.
    pub pause_ms: u64,
    /// How often what was written is made durable: what a crash costs in reading again. Default 2,000.
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

/// A running follower. Dropping it stops it.
pub struct Follower<T: Target + 'static> {
    shared: Arc<Shared<T>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How it is getting on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Records of the journal that it does not have yet.
    pub lag_records: u64,
    /// Whether it has reached what was the journal's end when it started. Before that, lists are incomplete: after the
    /// read models were deleted, by years.
    pub caught_up: bool,
    /// What it keeps is made from nothing at the moment.
    pub rebuilding: bool,
    /// The target is being opened, and verified on the way.
    pub opening: bool,
    /// How often what it keeps was thrown away and made anew.
    pub rebuilt: u64,
    /// Events taken in since the start.
    pub events: u64,
    /// Why it does not follow at the moment, for whoever is on call. It is tried again.
    pub fault: Option<String>,
}

struct Shared<T: Target> {
    journal: Arc<dyn Journal>,
    open: Open<T>,
    pace: Pace,
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    stopping: bool,
    /// The target is open.
    open: bool,
    /// How far it is; stays through faults.
    cursor: Option<Cursor>,
    caught_up: bool,
    rebuilding: bool,
    rebuilt: u64,
    events: u64,
    fault: Option<String>,
}

impl<T: Target + 'static> Follower<T> {
    /// Starts to follow `journal` with the target that `open` opens. One that does not open is a fault like others.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub fn start(journal: Arc<dyn Journal>, open: Open<T>, pace: Pace) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { journal, open, pace, state: Mutex::default(), bell: Condvar::new() });
        let at_work = Arc::clone(&shared);
        let thread = thread::Builder::new().name(T::THREAD.into()).spawn(move || at_work.run())?;
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
            opening: !state.open && state.fault.is_none(),
            rebuilt: state.rebuilt,
            events: state.events,
            fault: state.fault.clone(),
        }
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

impl<T: Target + 'static> Drop for Follower<T> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<T: Target> Shared<T> {
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
        loop {
            let before = self.state().events;
            let (why, beyond_repair) = match catch_unwind(AssertUnwindSafe(|| self.follow(begin))) {
                Ok(Ok(())) => return,
                Ok(Err(why)) => {
                    panicked = false;
                    (why.to_string(), T::is_beyond_repair(&why))
                }
                // Opened anew it is verified. If that does not help, it is not to be believed.
                Err(panic) => {
                    let again = core::mem::replace(&mut panicked, true);
                    (format!("the {} panicked: {}", T::THREAD, words_of(&*panic)), again)
                }
            };
            let progress = {
                let mut state = self.state();
                state.open = false;
                in_vain &= !core::mem::take(&mut state.caught_up);
                state.events > before
            };
            begin = Begin::Kept;
            if T::CAN_BEGIN_ANEW && beyond_repair && !in_vain {
                in_vain = true;
                begin = Begin::Anew;
                let mut state = self.state();
                (state.rebuilding, state.cursor, state.fault) = (true, None, None);
                state.rebuilt += 1;
                drop(state);
                tracing::error!(
                    why,
                    "{} cannot be used and are being rebuilt from the journal; the gates carry on",
                    T::WHO
                );
                // Also when it is to stop: what is worth nothing must not be found there by anybody.
                continue;
            }
            self.state().fault = Some(why.clone());
            retry_ms = if progress { self.pace.retry_ms } else { retry_ms };
            tracing::error!(why, retry_ms, "{} have stopped following the journal; the gates carry on", T::WHO);
            if self.pause(retry_ms) {
                return;
            }
            retry_ms = (retry_ms * 2).min(self.pace.retry_ms_max);
        }
    }

    /// Follows until it is to stop, or something fails.
    fn follow(&self, begin: Begin) -> Result<(), T::Error> {
        let target = (self.open)(begin)?;
        let end = self.journal.end();
        let mut following = Following::begin(&*self.journal, target)?;
        {
            let mut state = self.state();
            let cursor = following.reached();
            state.rebuilding = cursor.is_start() && !end.is_start();
            state.cursor = Some(cursor);
            state.open = true;
        }
        let mut others_at = Instant::now();
        let portion = Portion { weight: BATCH_WEIGHT_MAX, time: Duration::from_millis(BATCH_MS_MAX) };
        let (mut unflushed, mut flushed_at) = (false, Instant::now());
        loop {
            if following.shards_have_moved(&*self.journal) {
                // Whoever had them has written how far it came.
                following = following.begin_again(&*self.journal)?;
                others_at = Instant::now();
            } else if others_at.elapsed() >= Duration::from_millis(OTHERS_MS) {
                following.observe_others()?;
                others_at = Instant::now();
            }
            let step = following.step(portion)?;
            unflushed |= step.wrote;
            let stopping = {
                let mut state = self.state();
                state.events += step.events;
                let cursor = following.reached();
                state.caught_up |= (step.at_end && !following.is_shared()) || cursor.covers(&end);
                state.cursor = Some(cursor);
                state.rebuilding &= !state.caught_up;
                // Only now is it known that it works again.
                if state.fault.take().is_some() {
                    tracing::info!("{} are following the journal again", T::WHO);
                }
                state.stopping
            };
            if unflushed && (stopping || flushed_at.elapsed() >= Duration::from_millis(self.pace.flush_ms)) {
                following.flush()?;
                (unflushed, flushed_at) = (false, Instant::now());
            }
            if !stopping {
                following.check()?;
            }
            if stopping || (step.at_end && self.pause(self.pace.pause_ms) && !unflushed) {
                return Ok(());
            }
        }
    }
}

pub(crate) fn words_of(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("?")
}
