//! When scans are due in an open loop: a schedule that does not wait for anybody. Latencies are measured from the
//! moment a scan was due, so a stall counts for every scan that it held up (coordinated omission corrected).

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The schedule has ticks, and what falls due between two is due at the later one: a thread that slept for each of
/// 50,000 scans a second would cost more than the scans.
const TICK: Duration = Duration::from_micros(200);

/// An open loop's schedule over all readers, in turn.
pub struct Pace {
    per_s: u64,
    readers: u64,
    /// Scans that are due by now.
    due: AtomicU64,
    wakes: Vec<Notify>,
    stop: AtomicBool,
}

impl Pace {
    /// So many scans a second, over so many readers.
    pub fn new(per_s: u64, readers: usize) -> Self {
        Self {
            per_s,
            readers: readers as u64,
            due: AtomicU64::new(0),
            wakes: (0..readers).map(|_| Notify::new()).collect(),
            stop: AtomicBool::new(false),
        }
    }

    /// How many scans are due `ns` after the start, in all.
    fn due_at(&self, ns: u64) -> u64 {
        (u128::from(ns) * u128::from(self.per_s) / 1_000_000_000) as u64
    }

    /// When the `nth` scan of a reader is due, if that is now or was before; in ns after the start.
    pub fn due(&self, reader: usize, nth: u64) -> Option<u64> {
        let of_all = nth * self.readers + reader as u64;
        (of_all < self.due.load(Ordering::Acquire)).then(|| self.due_ns(of_all))
    }

    fn due_ns(&self, of_all: u64) -> u64 {
        let exact = (u128::from(of_all + 1) * 1_000_000_000).div_ceil(u128::from(self.per_s.max(1))) as u64;
        exact.next_multiple_of(TICK.as_nanos() as u64)
    }

    /// Waits until something new may be due for a reader.
    pub async fn wait(&self, reader: usize) {
        self.wakes[reader].notified().await;
    }

    /// How many scans have been due so far.
    pub fn released(&self) -> u64 {
        self.due.load(Ordering::Acquire)
    }

    /// Keeps the schedule from `start` for `ns`; runs on a thread of its own.
    pub fn keep(&self, start: Instant, ns: u64) {
        // Sleep as exactly as the system can: by default it rounds up by 50 µs.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000));
        let mut tick = 0;
        while !self.stop.load(Ordering::Acquire) {
            tick += 1;
            let at = TICK * tick;
            // What fell due at the very end could be asked by nobody any more.
            if at.as_nanos() as u64 >= ns {
                break;
            }
            if let Some(wait) = (start + at).checked_duration_since(Instant::now()) {
                std::thread::sleep(wait);
            }
            let before = self.due.load(Ordering::Acquire);
            let due = self.due_at(at.as_nanos() as u64);
            self.due.store(due, Ordering::Release);
            for of_all in before..due.min(before + self.readers) {
                self.wakes[(of_all % self.readers) as usize].notify_one();
            }
        }
        self.wakes.iter().for_each(Notify::notify_one);
    }

    /// Ends [`Self::keep`] early.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_their_turn_and_nothing_is_due_early() {
        let pace = Pace::new(50_000, 3);
        for ns in [0, 199_999, 200_000, 1_000_000, 12_345_678, 1_000_000_000] {
            pace.due.store(pace.due_at(ns), Ordering::Release);
            let mut taken = 0;
            for reader in 0..3 {
                let mut nth = 0;
                while let Some(due_ns) = pace.due(reader, nth) {
                    assert!(due_ns <= ns.next_multiple_of(200_000), "{due_ns} at {ns}");
                    nth += 1;
                }
                taken += nth;
            }
            assert_eq!(taken, ns * 50_000 / 1_000_000_000);
        }
    }

    #[test]
    fn the_schedule_does_not_wait() {
        let pace = Pace::new(10_000, 2);
        // It begins a second late, and catches up at once.
        let start = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        pace.keep(start, 1_000_000_000);
        assert_eq!(pace.released(), 9_998, "but for what is due when it ends");
        assert_eq!(pace.due(0, 4_998), Some(999_800_000));
        assert_eq!(pace.due(0, 4_999), None);
    }
}
