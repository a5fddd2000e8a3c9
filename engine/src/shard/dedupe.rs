//! Doing it again: what a shard remembers so that the same id gets the same answer, and forgetting is never mistaken
//! for new.
//!
//! **Devices** number their commands and tell with each the lowest number for which they have no answer (`floor`). Every
//! answer at or above the highest floor heard is kept; below it a number is stale. [`Window`] is a ring: a device that
//! keeps 16 commands under way costs 16 slots.
//!
//! **The office** sends idempotency keys, kept for 72 hours by the shard's time ([`Keys`]).

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Debug, Formatter};

use serde::{Deserialize, Serialize};

use crate::command::{AdminAnswer, IdempotencyKey};
use crate::gates::command::DeviceAnswer;
use crate::model::principal::Principal;
use crate::model::rejection::Rejection;
use crate::model::time::{HOUR_MS, Timestamp};
use crate::plants::{Plant, planted};

/// How far above its floor a device may number. A device that uses all of it costs 8,192 slots × 96 B = 768 KiB;
/// one that keeps 16 commands under way costs 3 KiB.
pub const WINDOW: u64 = 4_096;

/// What is known of one device's numbers.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    from = "Retained<A>",
    into = "Retained<A>",
    bound(serialize = "A: Copy + Serialize", deserialize = "A: Copy + Deserialize<'de>")
)]
pub struct Window<A = DeviceAnswer> {
    floor: u64,
    highest: u64,
    /// A power of two of slots, or none; the answer to `seq` lies at `seq mod slots`. What lies below the floor is
    /// rubbish that nobody looks at.
    slots: Vec<Slot<A>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Slot<A> {
    seq: u64,
    fingerprint: u32,
    answer: A,
}

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seen<A = DeviceAnswer> {
    /// Not answered yet: decide.
    New,
    /// Answered so.
    Answered(A),
    /// `stale_seq`, `window_full` or `idempotency_conflict`. Nothing is remembered of it.
    Refused(Rejection),
}

impl<A> Default for Window<A> {
    fn default() -> Self {
        Self { floor: 0, highest: 0, slots: Vec::new() }
    }
}

impl<A: Copy> Window<A> {
    /// One above the highest number ever answered; the last number has none behind it.
    pub fn next_seq(&self) -> u64 {
        self.highest.saturating_add(1)
    }

    /// The highest floor heard.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Looks a number up. `floor` is what the device says with it.
    pub fn look_up(&self, seq: u64, floor: u64, fingerprint: u32) -> Seen<A> {
        if planted(Plant::DedupeIgnored) {
            return Seen::New;
        }
        if seq < self.floor || seq < floor || seq == 0 {
            return Seen::Refused(Rejection::StaleSeq);
        }
        if let Some(slot) = self.slot(seq) {
            return if slot.fingerprint == fingerprint || planted(Plant::FingerprintIgnored) {
                Seen::Answered(slot.answer)
            } else {
                Seen::Refused(Rejection::IdempotencyConflict)
            };
        }
        if seq - self.floor.max(floor) > WINDOW {
            return Seen::Refused(Rejection::WindowFull);
        }
        Seen::New
    }

    fn slot(&self, seq: u64) -> Option<&Slot<A>> {
        let mask = (self.slots.len() as u64).checked_sub(1)?;
        let slot = &self.slots[(seq & mask) as usize];
        (slot.seq == seq).then_some(slot)
    }

    /// Remembers an answer, and forgets what lies below the floor.
    pub fn remember(&mut self, seq: u64, floor: u64, fingerprint: u32, answer: A) {
        self.floor = self.floor.max(floor);
        self.highest = self.highest.max(seq);
        let span = self.highest - self.floor + 1;
        if span > self.slots.len() as u64 {
            self.grow(span, answer);
        }
        let mask = self.slots.len() as u64 - 1;
        self.slots[(seq & mask) as usize] = Slot { seq, fingerprint, answer };
    }

    /// Seldom: a device's span settles at what it keeps under way.
    #[cold]
    fn grow(&mut self, span: u64, filler: A) {
        let slots = span.next_power_of_two().max(8) as usize;
        let empty = Slot { seq: 0, fingerprint: 0, answer: filler };
        let old = core::mem::replace(&mut self.slots, vec![empty; slots]);
        for slot in old.into_iter().filter(|slot| slot.seq >= self.floor && slot.seq > 0) {
            self.slots[(slot.seq & (slots as u64 - 1)) as usize] = slot;
        }
    }
}

/// What a snapshot keeps: the live answers in order, whatever the ring's size happened to be.
#[derive(Debug, Serialize, Deserialize)]
struct Retained<A> {
    floor: u64,
    highest: u64,
    live: Vec<Slot<A>>,
}

impl<A: Copy> From<Window<A>> for Retained<A> {
    fn from(window: Window<A>) -> Self {
        let mut live: Vec<Slot<A>> =
            window.slots.into_iter().filter(|slot| slot.seq >= window.floor && slot.seq > 0).collect();
        live.sort_by_key(|slot| slot.seq);
        if planted(Plant::DedupeForgottenAtRestart) {
            live.clear();
        }
        Self { floor: window.floor, highest: window.highest, live }
    }
}

/// Without the rubbish, so that two windows that know the same look the same.
impl<A: Copy + Debug> Debug for Window<A> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Retained::from(self.clone()).fmt(f)
    }
}

impl<A: Copy> From<Retained<A>> for Window<A> {
    fn from(kept: Retained<A>) -> Self {
        let mut window = Self { floor: kept.floor, highest: kept.highest, slots: Vec::new() };
        for slot in kept.live {
            window.remember(slot.seq, kept.floor, slot.fingerprint, slot.answer);
        }
        window
    }
}

/// How long an idempotency key is remembered.
pub const KEY_KEPT_MS: i64 = 72 * HOUR_MS;
/// How many a shard remembers: 262,144 × about 140 B = 35 MiB.
///
/// Whoever asks may hold a quarter as many as are free: see [`SHARE`].
pub const KEYS_MAX: usize = 262_144;
/// Whoever holds this part of what is free, or more, gets no new key remembered, so that nobody can use up what
/// all festivals of a shard share. Alone one comes to a fifth, 52,428: a call of 100,000 tickets takes 98, and 10,000 where
/// each of its windows has a hundred groups, so five of the worst have room within 72 hours. Each further one who takes
/// all there is to be had gets a fifth of what the others have left: after four of them 107,375 are free and a newcomer
/// can have 21,475, after sixteen 7,379 and 1,475. Who holds most is refused first.
pub const SHARE: usize = 4;
/// Beyond [`KEYS_MAX`], for what protects people, whoever asks and however many keys they hold: 4,096 × 140 B = 560 KiB. A
/// program that has used up its owner's keys must not keep that owner from evacuating a zone.
pub const URGENT_KEYS_MAX: usize = 4_096;

/// The idempotency keys of one shard.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Keys {
    answers: BTreeMap<u128, (u64, AdminAnswer)>,
    /// In order of time, for forgetting: when, which, whose.
    order: VecDeque<(Timestamp, u128, Principal)>,
    /// How many each holds; nobody holds none.
    held: BTreeMap<Principal, u32>,
}

/// What an idempotency key means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SeenKey {
    /// Not seen: decide.
    New,
    /// Answered so.
    Answered(AdminAnswer),
    /// `idempotency_conflict`, `idempotency_key_expired` or `limit_reached`.
    Refused(Rejection),
}

impl Keys {
    /// Looks somebody's key up at the recorded time. A key is forgotten by a record, so one that by the records' time
    /// is not too old yet was never seen.
    pub fn look_up(&self, key: &IdempotencyKey, by: Principal, now: Timestamp) -> SeenKey {
        match self.answers.get(&key.id) {
            Some((fingerprint, _)) if *fingerprint != key.fingerprint => {
                SeenKey::Refused(Rejection::IdempotencyConflict)
            }
            Some((_, answer)) => SeenKey::Answered(*answer),
            None if key.made_at.is_some_and(|made_at| now.since_ms(made_at) > KEY_KEPT_MS) => {
                SeenKey::Refused(Rejection::IdempotencyKeyExpired)
            }
            None if self.held_by(by) >= self.free() / SHARE => SeenKey::Refused(Rejection::LimitReached),
            None => SeenKey::New,
        }
    }

    /// Whether one more can be remembered for a command that protects people, whatever share its asker has.
    pub fn have_room_for_urgent(&self) -> bool {
        self.answers.len() < KEYS_MAX + URGENT_KEYS_MAX
    }

    fn held_by(&self, by: Principal) -> usize {
        self.held.get(&by).map_or(0, |held| *held as usize)
    }

    fn free(&self) -> usize {
        KEYS_MAX.saturating_sub(self.answers.len())
    }

    /// Remembers the answer to somebody's key.
    pub fn remember(&mut self, id: u128, by: Principal, fingerprint: u64, answer: AdminAnswer, at: Timestamp) {
        if self.answers.insert(id, (fingerprint, answer)).is_none() {
            self.order.push_back((at, id, by));
            *self.held.entry(by).or_default() += 1;
        }
    }

    /// Whether [`Keys::forget`] would forget any.
    pub fn any_due(&self, now: Timestamp) -> bool {
        self.order.front().is_some_and(|(at, ..)| now.since_ms(*at) > KEY_KEPT_MS)
    }

    /// Forgets the keys that are older than 72 hours. What is still under way has no answer yet that could be old.
    pub fn forget(&mut self, now: Timestamp) {
        while self.any_due(now) {
            let (_, id, by) = self.order.pop_front().expect("one is due");
            if let Some((_, AdminAnswer::Pending(_))) = self.answers.get(&id) {
                self.order.push_back((now, id, by));
                continue;
            }
            self.answers.remove(&id);
            let held = self.held.get_mut(&by).expect("whoever holds a key is counted");
            *held -= 1;
            if *held == 0 {
                self.held.remove(&by);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::command::Verdict;
    use crate::model::ids::ZoneNo;
    use proptest::prelude::*;

    const ANN: Principal = Principal::ApiKey(1);
    const BOB: Principal = Principal::ApiKey(7);

    fn answer(n: u64) -> DeviceAnswer {
        DeviceAnswer {
            verdict: Verdict::Admitted,
            occupancy: n as u32,
            ..DeviceAnswer::rejected(Rejection::Internal, ZoneNo(0), Timestamp(0))
        }
    }

    #[test]
    fn a_window_keeps_what_the_device_may_ask_again() {
        let mut window = Window::default();
        for seq in 1..=100 {
            assert_eq!(window.look_up(seq, 1, 7), Seen::New);
            window.remember(seq, 1, 7, answer(seq));
        }
        assert_eq!(window.look_up(50, 1, 7), Seen::Answered(answer(50)));
        assert_eq!(window.look_up(50, 1, 8), Seen::Refused(Rejection::IdempotencyConflict));
        window.remember(101, 60, 7, answer(101));
        assert_eq!(window.look_up(59, 1, 7), Seen::Refused(Rejection::StaleSeq), "the floor never falls");
        assert_eq!(window.look_up(60, 1, 7), Seen::Answered(answer(60)));
        assert_eq!(window.look_up(60 + WINDOW, 60, 7), Seen::New);
        assert_eq!(window.look_up(61 + WINDOW, 60, 7), Seen::Refused(Rejection::WindowFull));
        assert_eq!(window.look_up(0, 0, 7), Seen::Refused(Rejection::StaleSeq), "numbers begin at 1");
        assert_eq!(window.next_seq(), 102);
    }

    proptest! {
        /// Whatever order commands arrive in, the ring says what a map would.
        #[test]
        fn the_ring_is_a_map(steps in proptest::collection::vec((0_u64..40, 0_u64..40), 1..300)) {
            let (mut window, mut map, mut base) = (Window::default(), BTreeMap::new(), 1_u64);
            for (ahead, below) in steps {
                let seq = base + ahead;
                let floor = seq.saturating_sub(below).max(1);
                match window.look_up(seq, floor, 1) {
                    Seen::New => {
                        prop_assert!(!map.contains_key(&seq));
                        window.remember(seq, floor, 1, answer(seq));
                        map.insert(seq, answer(seq));
                        base = base.max(floor);
                        map.retain(|&s, _| s >= base);
                    }
                    Seen::Answered(a) => prop_assert_eq!(Some(&a), map.get(&seq)),
                    Seen::Refused(r) => {
                        prop_assert_eq!(r, Rejection::StaleSeq);
                        prop_assert!(!map.contains_key(&seq) || seq < base);
                    }
                }
                let again: Window = Retained::from(window.clone()).into();
                for s in 1..base + 50 {
                    prop_assert_eq!(window.slot(s).filter(|_| s >= window.floor), again.slot(s));
                }
            }
        }
    }

    #[test]
    fn what_protects_people_has_room_beyond_the_rest_and_an_end() {
        let mut keys = Keys::default();
        let full = (KEYS_MAX + URGENT_KEYS_MAX) as u128;
        for id in 1..=full {
            assert!(keys.have_room_for_urgent(), "{id}");
            keys.remember(id, ANN, 2, AdminAnswer::Done, Timestamp(0));
        }
        assert!(!keys.have_room_for_urgent());
        keys.forget(Timestamp(KEY_KEPT_MS + 1));
        assert!(keys.have_room_for_urgent());
    }

    #[test]
    fn an_office_key_is_remembered_for_72_hours() {
        let mut keys = Keys::default();
        let key = IdempotencyKey { id: 1, fingerprint: 2, made_at: Some(Timestamp(0)) };
        assert_eq!(keys.look_up(&key, ANN, Timestamp(0)), SeenKey::New);
        keys.remember(1, ANN, 2, AdminAnswer::Done, Timestamp(0));
        assert_eq!(keys.look_up(&key, ANN, Timestamp(KEY_KEPT_MS)), SeenKey::Answered(AdminAnswer::Done));
        let other = IdempotencyKey { fingerprint: 3, ..key };
        assert_eq!(keys.look_up(&other, ANN, Timestamp(0)), SeenKey::Refused(Rejection::IdempotencyConflict));
        keys.forget(Timestamp(KEY_KEPT_MS));
        assert!(!keys.answers.is_empty(), "not a moment too early");
        keys.forget(Timestamp(KEY_KEPT_MS + 1));
        assert!(keys.answers.is_empty() && keys.order.is_empty() && keys.held.is_empty());
        let expired = SeenKey::Refused(Rejection::IdempotencyKeyExpired);
        assert_eq!(keys.look_up(&key, ANN, Timestamp(KEY_KEPT_MS + 1)), expired, "old is not new");
        assert_eq!(
            keys.look_up(&IdempotencyKey { made_at: None, ..key }, ANN, Timestamp(KEY_KEPT_MS + 1)),
            SeenKey::New
        );
    }

    /// A transfer that waits for another shard for days, or for a clock that has leapt: whoever asks is never told that
    /// the key is too old, and after that how it ended.
    #[test]
    fn a_key_is_not_forgotten_while_its_answer_is_pending() {
        let mut keys = Keys::default();
        let key = IdempotencyKey { id: 1, fingerprint: 2, made_at: Some(Timestamp(0)) };
        keys.remember(1, BOB, 2, AdminAnswer::Pending(5), Timestamp(0));
        let late = Timestamp(KEY_KEPT_MS + 1);
        keys.forget(late);
        assert_eq!(keys.look_up(&key, BOB, late), SeenKey::Answered(AdminAnswer::Pending(5)));
        assert!(!keys.any_due(late), "nor is it looked at again at once");
        keys.remember(1, BOB, 2, AdminAnswer::Done, late);
        assert_eq!((keys.answers.len(), keys.order.len(), keys.held_by(BOB)), (1, 1, 1));
        keys.forget(late.plus_ms(KEY_KEPT_MS));
        assert_eq!(keys.look_up(&key, BOB, late), SeenKey::Answered(AdminAnswer::Done), "for as long as any other");
        keys.forget(late.plus_ms(KEY_KEPT_MS + 1));
        assert!(keys.answers.is_empty() && keys.order.is_empty() && keys.held.is_empty());
    }

    /// Whoever takes all there is to be had leaves four fifths to the others; what is given back can be had again.
    #[test]
    fn keys_are_shared() {
        let mut keys = Keys::default();
        let take = |keys: &mut Keys, operator: u32, n: usize| {
            let id = u128::from(operator) << 64 | n as u128;
            let key = IdempotencyKey { id, fingerprint: 1, made_at: None };
            let seen = keys.look_up(&key, Principal::ApiKey(operator), Timestamp(0));
            if seen == SeenKey::New {
                keys.remember(id, Principal::ApiKey(operator), 1, AdminAnswer::Done, Timestamp(i64::from(operator)));
            }
            seen
        };
        let mut left = KEYS_MAX;
        for operator in 0..16 {
            let taken = (0..).take_while(|&n| take(&mut keys, operator, n) == SeenKey::New).count();
            assert!(taken.abs_diff(left / 5) <= 1, "{taken} of {left}");
            left -= taken;
        }
        assert!((7_350..7_400).contains(&keys.free()), "{}", keys.free());
        assert_eq!(take(&mut keys, 99, 0), SeenKey::New, "a newcomer");
        let limited = SeenKey::Refused(Rejection::LimitReached);
        assert_eq!(take(&mut keys, 0, KEYS_MAX), limited);
        assert_eq!(take(&mut keys, 0, 7), SeenKey::Answered(AdminAnswer::Done), "what was answered is answered again");
        // What the first has given back, it and the others can have.
        keys.forget(Timestamp(KEY_KEPT_MS + 1));
        assert_eq!((keys.held_by(Principal::ApiKey(0)), keys.held.len()), (0, 16));
        assert_eq!(take(&mut keys, 0, 0), SeenKey::New);
        assert_eq!(take(&mut keys, 15, KEYS_MAX), SeenKey::New);
        assert_eq!(keys.answers.len(), keys.order.len());
        assert_eq!(keys.held.values().map(|held| *held as usize).sum::<usize>(), keys.order.len());
    }
}
