//! Which number of a terminal stands for which question. A terminal's commands go to many shards, and each shard remembers
//! only what it has answered itself: without this, one number would be paid by as many wallets as there are shards. So the
//! door binds a number to its content when it first sees it, for as long as the terminal has not said that it has the
//! answer (its floor).
//!
//! This lasts as long as the process. What a terminal that keeps to the protocol asks is decided once without it: the same
//! number always has the same content there.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::model::ids::DeviceId;
use tapgate_wire::WINDOW_MAX;

/// Terminals whose numbers are remembered, connected or not. One that keeps 16 commands under way costs 256 B, one that
/// uses its whole window 128 KiB; so 16,384 honest ones cost 4 MiB.
const TERMINALS_MAX: usize = 16_384;
/// Where a command's question begins in its frame, behind number, floor and, if it has them, its times: what differs there
/// is the same question still.
const QUESTION_AT: usize = 14;
const QUESTION_BEHIND_TIMES_AT: usize = 30;

/// What a number means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Not seen before.
    New,
    /// The same question again.
    Again,
    /// It stands for another question.
    Another,
    /// Below what the terminal has answers to, by its own word.
    Stale,
    /// Too far above that.
    TooFar,
}

/// The numbers of one terminal.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    floor: u64,
    /// A power of two of slots, or none: number and question, at `number mod slots`.
    slots: Vec<(u64, u64)>,
}

impl Numbers {
    /// Binds a number to its question, or says what it stands for.
    pub(super) fn bind(&mut self, seq: u64, floor: u64, question: u64) -> Meaning {
        if seq < self.floor.max(floor) {
            return Meaning::Stale;
        }
        self.floor = self.floor.max(floor);
        let span = seq - self.floor + 1;
        if span > WINDOW_MAX + 1 {
            return Meaning::TooFar;
        }
        if span > self.slots.len() as u64 {
            self.grow(span);
        }
        let mask = self.slots.len() as u64 - 1;
        let slot = &mut self.slots[(seq & mask) as usize];
        match *slot {
            (number, bound) if number == seq && bound == question => Meaning::Again,
            (number, _) if number == seq => Meaning::Another,
            _ => {
                *slot = (seq, question);
                Meaning::New
            }
        }
    }

    #[cold]
    fn grow(&mut self, span: u64) {
        // Number 0 is nobody's, so it marks what is empty.
        let slots = span.next_power_of_two().max(8) as usize;
        let old = std::mem::replace(&mut self.slots, vec![(0, 0); slots]);
        for slot in old.into_iter().filter(|(seq, _)| *seq >= self.floor && *seq > 0) {
            self.slots[(slot.0 & (slots as u64 - 1)) as usize] = slot;
        }
    }
}

/// All terminals'.
#[derive(Default)]
pub(super) struct AllNumbers {
    of: Mutex<HashMap<DeviceId, Arc<Mutex<Numbers>>>>,
    hasher: RandomState,
}

impl AllNumbers {
    /// A terminal's, whichever connection it comes by.
    pub(super) fn of(&self, device: DeviceId) -> Arc<Mutex<Numbers>> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.len() >= TERMINALS_MAX && !of.contains_key(&device) {
            of.retain(|_, numbers| Arc::strong_count(numbers) > 1); // those that are connected
        }
        Arc::clone(of.entry(device).or_default())
    }

    /// What a frame of a command asks: the hash, by a key that nobody outside knows, of what is neither number nor time.
    pub(super) fn question(&self, frame: &[u8], has_times: bool) -> u64 {
        let at = if has_times { QUESTION_BEHIND_TIMES_AT } else { QUESTION_AT };
        self.hasher.hash_one((frame.get(2), frame.get(at..)))
    }
}

pub(super) fn lock(numbers: &Mutex<Numbers>) -> MutexGuard<'_, Numbers> {
    numbers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_for_one_question_until_its_terminal_has_the_answer() {
        let mut numbers = Numbers::default();
        for (seq, floor, question, meaning) in [
            (1, 1, 7, Meaning::New),
            (1, 1, 7, Meaning::Again),
            (1, 1, 8, Meaning::Another),
            (4_097, 1, 9, Meaning::New),
            (4_098, 1, 9, Meaning::TooFar),
            (1, 1, 8, Meaning::Another),
            (5_000, 4_097, 9, Meaning::New),
            (1, 1, 7, Meaning::Stale),
            (4_097, 1, 8, Meaning::Another),
            (4_096, 4_096, 8, Meaning::Stale),
        ] {
            assert_eq!(numbers.bind(seq, floor, question), meaning, "{seq} from {floor} on, {question}");
        }
        assert!(numbers.slots.len() <= 8_192);
    }

    #[test]
    fn terminals_that_have_gone_make_room() {
        let all = AllNumbers::default();
        let here = all.of(DeviceId(1));
        lock(&here).bind(1, 1, 7);
        for n in 2..=2 * TERMINALS_MAX as u64 {
            all.of(DeviceId(n));
        }
        assert!(all.of.lock().unwrap().len() <= TERMINALS_MAX);
        assert_eq!(lock(&all.of(DeviceId(1))).bind(1, 1, 8), Meaning::Another, "a connected one is not forgotten");
    }
}
