//! A node's time. Below this crate time arrives in commands.
//!
//! The system's clock may jump: somebody sets it, or its source is wrong for a moment. A shard's time never goes back, so
//! a day that was followed once is a day lost. A node therefore takes the system's time once, at its start, counts on by
//! itself, and is slewed towards the system's clock while the two are close. What is further off is not followed but said,
//! until it goes away or somebody says that the system's clock is right ([`Clock::accept`]).

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::model::time::Timestamp;
use engine::plants::{Plant, planted};

use crate::limits::{CLOCK_JUMP_MS, CLOCK_SLEW_PER_S_MS};

/// The arithmetic, without a clock: `counted_ms` is what has passed on a clock that nobody sets, `system` what the
/// system's says.
#[derive(Clone, Debug)]
pub struct Clock {
    /// To be added to what is counted.
    offset_ms: i64,
    looked_at_ms: i64,
    off_ms: i64,
    jumped: bool,
}

/// What a look at the system's clock has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockReading {
    /// Nothing new.
    Nothing,
    /// It has jumped to so many milliseconds before or behind the node's, and is not followed.
    Jumped(i64),
    /// It is back.
    Back,
}

impl Clock {
    /// The system's time, to count on from.
    pub fn set(counted_ms: i64, system: Timestamp) -> Self {
        let offset_ms = system.0.saturating_sub(counted_ms);
        Self { offset_ms, looked_at_ms: counted_ms, off_ms: 0, jumped: false }
    }

    /// What time it is.
    pub fn now(&self, counted_ms: i64) -> Timestamp {
        Timestamp(counted_ms.saturating_add(self.offset_ms))
    }

    /// Compares the two, and goes a little towards the system's if that is close.
    pub fn observe(&mut self, counted_ms: i64, system: Timestamp) -> ClockReading {
        let passed_ms = (counted_ms - self.looked_at_ms).max(0);
        self.looked_at_ms = counted_ms;
        self.off_ms = system.since_ms(self.now(counted_ms));
        if self.off_ms.abs() > CLOCK_JUMP_MS && !planted(Plant::ClockJumpFollowed) {
            let new = !std::mem::replace(&mut self.jumped, true);
            return if new { ClockReading::Jumped(self.off_ms) } else { ClockReading::Nothing };
        }
        let most = if planted(Plant::ClockJumpFollowed) {
            i64::MAX
        } else {
            passed_ms.saturating_mul(CLOCK_SLEW_PER_S_MS).saturating_add(999) / 1_000
        };
        self.offset_ms = self.offset_ms.saturating_add(self.off_ms.clamp(-most, most));
        if std::mem::take(&mut self.jumped) { ClockReading::Back } else { ClockReading::Nothing }
    }

    /// How far the system's clock is off, in milliseconds (ahead of the node's: more than 0), while it is not followed.
    pub fn jumped(&self) -> Option<i64> {
        self.jumped.then_some(self.off_ms)
    }

    /// The system's clock is right: goes to it at once, by so many milliseconds.
    pub fn accept(&mut self, counted_ms: i64, system: Timestamp) -> i64 {
        let by_ms = system.since_ms(self.now(counted_ms));
        *self = Self::set(counted_ms, system);
        by_ms
    }
}

/// The system's clock, or in tests one that is off by as much as they like.
#[derive(Clone, Debug, Default)]
pub struct SystemClock {
    off_ms: Option<Arc<AtomicI64>>,
}

impl SystemClock {
    /// Off by what this says, in milliseconds.
    pub fn off_by(ms: Arc<AtomicI64>) -> Self {
        Self { off_ms: Some(ms) }
    }

    /// In milliseconds since 1970; a clock before 1970 reads as 1970.
    pub fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let off_ms = self.off_ms.as_ref().map_or(0, |ms| ms.load(Ordering::Acquire));
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX).saturating_add(off_ms))
    }
}

/// How often the node looks at the system's clock.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A [`Clock`] that all shards and doors read.
#[derive(Debug)]
pub(crate) struct NodeClock {
    system: SystemClock,
    began: Instant,
    /// What is added to the milliseconds since `began`; read by every step, so without a lock.
    offset_ms: AtomicI64,
    clock: Mutex<Clock>,
}

impl NodeClock {
    pub(crate) fn start(system: SystemClock) -> Self {
        let clock = Clock::set(0, system.now());
        Self { system, began: Instant::now(), offset_ms: AtomicI64::new(clock.offset_ms), clock: Mutex::new(clock) }
    }

    fn counted_ms(&self) -> i64 {
        self.began.elapsed().as_millis() as i64
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.counted_ms().saturating_add(self.offset_ms.load(Ordering::Acquire)))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Clock, i64, Timestamp) -> T) -> T {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let came_to = work(&mut clock, self.counted_ms(), self.system.now());
        self.offset_ms.store(clock.offset_ms, Ordering::Release);
        came_to
    }

    /// Looks once, and says what is new.
    pub(crate) fn observe(&self) {
        match self.with(Clock::observe) {
            ClockReading::Nothing => {}
            ClockReading::Jumped(off_ms) => tracing::error!(
                off_ms,
                "the system's clock has jumped and is not followed; if it is right now, run `tapgate clock accept`"
            ),
            ClockReading::Back => tracing::warn!("the system's clock agrees with the node's again"),
        }
    }

    pub(crate) fn jumped(&self) -> Option<i64> {
        self.with(|clock, _, _| clock.jumped())
    }

    pub(crate) fn accept(&self) -> i64 {
        let by_ms = self.with(Clock::accept);
        tracing::warn!(by_ms, "the node's clock was set to the system's");
        by_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 24 * 3_600_000;

    /// What the system says second by second as its difference to the truth, and how far the node's clock is off then.
    fn run(off: impl IntoIterator<Item = i64>) -> (Clock, Vec<i64>, Vec<ClockReading>) {
        let mut clock = Clock::set(0, Timestamp(DAY_MS));
        let (mut node, mut found) = (Vec::new(), Vec::new());
        for (second, off_ms) in (1..).zip(off) {
            let counted_ms = second * 1_000;
            found.push(clock.observe(counted_ms, Timestamp(DAY_MS + counted_ms + off_ms)));
            node.push(clock.now(counted_ms).0 - DAY_MS - counted_ms);
        }
        (clock, node, found)
    }

    #[test]
    fn a_jump_is_said_once_and_not_followed_either_way() {
        for jump in [DAY_MS, -DAY_MS, CLOCK_JUMP_MS + 1, -CLOCK_JUMP_MS - 1] {
            let (clock, node, found) = run([0, jump, jump, 0]);
            assert_eq!(node, [0; 4], "{jump}");
            assert_eq!(
                found,
                [ClockReading::Nothing, ClockReading::Jumped(jump), ClockReading::Nothing, ClockReading::Back]
            );
            assert_eq!(clock.jumped(), None);
        }
    }

    #[test]
    fn what_is_close_is_approached_slowly_and_reached() {
        for off in [CLOCK_JUMP_MS, -CLOCK_JUMP_MS, 7, -7] {
            let (_, node, found) = run(std::iter::repeat_n(off, 300));
            assert!(found.iter().all(|found| *found == ClockReading::Nothing));
            let steps = node.windows(2).map(|pair| (pair[1] - pair[0]).abs()).max();
            assert!(steps <= Some(CLOCK_SLEW_PER_S_MS), "{steps:?}");
            assert_eq!(node.last(), Some(&off));
        }
    }

    #[test]
    fn what_is_accepted_is_the_time() {
        let (mut clock, _, _) = run([DAY_MS]);
        assert_eq!(clock.jumped(), Some(DAY_MS));
        assert_eq!(clock.accept(2_000, Timestamp(2 * DAY_MS + 2_000)), DAY_MS);
        assert_eq!((clock.now(3_000), clock.jumped()), (Timestamp(2 * DAY_MS + 3_000), None));
        // And what is then a jump is said again.
        assert_eq!(clock.observe(4_000, Timestamp(DAY_MS + 4_000)), ClockReading::Jumped(-DAY_MS));
    }
}
