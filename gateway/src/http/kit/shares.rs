//! What all organisers share is shared fairly: turns for what takes long, seats for those who stay.
//!
//! Both are bounded in all, by key, and by organiser (until organisers exist: by festival). [`CallPermits`] are waited for, and
//! go to whoever has fewest; [`Seats`] are taken at once, and when all are taken, whoever has most gives one to who has
//! fewer.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::model::ids::FestivalId;
use tokio::sync::{Notify, oneshot};

/// Who takes a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The number of the key.
    pub key: u32,
    /// Until organisers exist, the festival.
    pub organiser: FestivalId,
}

/// What there is of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    /// In all.
    pub all: usize,
    /// Of one key.
    pub per_key: usize,
    /// Of one organiser.
    pub per_organiser: usize,
}

/// Who else waits for a permit: 256 × about 100 B. There are no more than HTTP connections.
const WAITING_MAX: usize = 256;
/// Of one key, that wait.
const WAITING_PER_KEY_MAX: usize = 32;

/// So many at a time, and the others wait.
#[derive(Clone)]
pub struct CallPermits(Arc<Mutex<Queue>>);

struct Queue {
    most: Most,
    wait: Duration,
    taken: Vec<Holder>,
    waiting: VecDeque<(Holder, oneshot::Sender<CallPermit>)>,
}

/// A permit, given to the next one when this is dropped.
pub struct CallPermit {
    permits: CallPermits,
    holder: Holder,
}

impl CallPermits {
    /// So many, each waited for so long.
    pub fn new(most: Most, wait: Duration) -> Self {
        Self(Arc::new(Mutex::new(Queue { most, wait, taken: Vec::new(), waiting: VecDeque::new() })))
    }

    /// Waits for a permit; `None` if none came free in time, or too many wait.
    pub async fn take(&self, holder: Holder) -> Option<CallPermit> {
        let (sender, receiver) = oneshot::channel();
        let wait = {
            let mut queue = self.lock();
            queue.waiting.retain(|(_, sender)| !sender.is_closed());
            let of_key = queue.waiting.iter().filter(|(other, _)| other.key == holder.key).count();
            if queue.waiting.len() >= WAITING_MAX || of_key >= WAITING_PER_KEY_MAX {
                return None;
            }
            queue.waiting.push_back((holder, sender));
            queue.wait
        };
        self.hand_out();
        tokio::time::timeout(wait, receiver).await.ok()?.ok()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_out(&self) {
        loop {
            let next = self.lock().next();
            let Some((holder, sender)) = next else { return };
            // Whoever has stopped waiting in this moment gives it back by dropping it.
            let _ = sender.send(CallPermit { permits: self.clone(), holder });
        }
    }
}

impl Queue {
    /// Who has fewest and has waited longest, if there is a permit for them.
    fn next(&mut self) -> Option<(Holder, oneshot::Sender<CallPermit>)> {
        if self.taken.len() >= self.most.all {
            return None;
        }
        let has = |holder: &Holder| {
            let of_key = self.taken.iter().filter(|taken| taken.key == holder.key).count();
            let of_organiser = self.taken.iter().filter(|taken| taken.organiser == holder.organiser).count();
            (of_organiser, of_key)
        };
        let waits = self.waiting.iter().enumerate().filter(|(_, (_, sender))| !sender.is_closed());
        let next = waits.map(|(at, (holder, _))| (has(holder), at)).filter(|((of_organiser, of_key), _)| {
            *of_organiser < self.most.per_organiser && *of_key < self.most.per_key
        });
        let (_, at) = next.min()?;
        let (holder, sender) = self.waiting.remove(at)?;
        self.taken.push(holder);
        Some((holder, sender))
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        {
            let mut queue = self.permits.lock();
            if let Some(at) = queue.taken.iter().position(|taken| *taken == self.holder) {
                queue.taken.swap_remove(at);
            }
        }
        self.permits.hand_out();
    }
}

/// So many at a time, for as long as they like.
#[derive(Clone)]
pub struct Seats(Arc<Mutex<Seated>>);

struct Seated {
    most: Most,
    arrivals: u64,
    /// In the order in which they came.
    seats: VecDeque<(u64, Holder, Arc<Notify>)>,
}

/// A seat, free again when this is dropped.
pub struct Seat {
    seats: Seats,
    number: u64,
    displaced: Arc<Notify>,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSeat {
    /// The key has as many as one key may have.
    OfKey,
    /// All are taken, and nobody has more than this organiser.
    OfAll,
}

impl Seats {
    /// So many.
    pub fn new(most: Most) -> Self {
        Self(Arc::new(Mutex::new(Seated { most, arrivals: 0, seats: VecDeque::new() })))
    }

    /// A seat. Where all are taken, the oldest one of the organiser who has most of them.
    ///
    /// # Errors
    /// [`NoSeat`].
    pub fn take(&self, holder: Holder) -> Result<Seat, NoSeat> {
        let mut seated = self.lock();
        let of_key = seated.seats.iter().filter(|(_, other, _)| other.key == holder.key).count();
        if of_key >= seated.most.per_key {
            return Err(NoSeat::OfKey);
        }
        let mut has: HashMap<FestivalId, usize> = HashMap::new();
        seated.seats.iter().for_each(|(_, other, _)| *has.entry(other.organiser).or_default() += 1);
        let ours = has.get(&holder.organiser).copied().unwrap_or(0);
        if ours >= seated.most.per_organiser {
            return Err(NoSeat::OfAll);
        }
        if seated.seats.len() >= seated.most.all {
            let most = has.into_iter().max_by_key(|(_, count)| *count);
            let Some((richest, _)) = most.filter(|(_, count)| *count > ours + 1) else { return Err(NoSeat::OfAll) };
            let oldest = seated.seats.iter().position(|(_, other, _)| other.organiser == richest);
            if let Some((_, _, displaced)) = oldest.and_then(|at| seated.seats.remove(at)) {
                displaced.notify_one();
            }
        }
        let (number, displaced) = (seated.arrivals, Arc::new(Notify::new()));
        seated.arrivals += 1;
        seated.seats.push_back((number, holder, Arc::clone(&displaced)));
        Ok(Seat { seats: self.clone(), number, displaced })
    }

    fn lock(&self) -> MutexGuard<'_, Seated> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Waits until the seat was given to another organiser.
    pub async fn displaced(&self) {
        self.displaced.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().seats.retain(|(number, ..)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn of(key: u32, organiser: u32) -> Holder {
        Holder { key, organiser: FestivalId(organiser) }
    }

    #[tokio::test]
    async fn turns_go_to_who_has_fewest_and_come_back() {
        let permits = CallPermits::new(Most { all: 3, per_key: 2, per_organiser: 2 }, Duration::from_secs(10));
        let (first, second) = (permits.take(of(1, 1)).await.unwrap(), permits.take(of(1, 1)).await.unwrap());
        assert!(permits.take(of(1, 2)).now_or_never().is_none(), "a key has two");
        assert!(permits.take(of(2, 1)).now_or_never().is_none(), "an organiser has two");
        let third = permits.take(of(3, 3)).await.expect("another organiser has one");
        // All are taken: these wait, the greedy one for longest.
        let (mut greedy, mut other) = (Box::pin(permits.take(of(2, 1))), Box::pin(permits.take(of(4, 4))));
        assert!(greedy.as_mut().now_or_never().is_none() && other.as_mut().now_or_never().is_none());
        drop(first);
        let fourth = other.await.expect("who has none comes before who has one");
        assert!(greedy.as_mut().now_or_never().is_none());
        drop((second, third, fourth));
        assert!(greedy.await.is_some());

        let impatient = CallPermits::new(Most { all: 1, per_key: 1, per_organiser: 1 }, Duration::from_millis(1));
        let _held = impatient.take(of(1, 1)).await.unwrap();
        assert!(impatient.take(of(2, 2)).await.is_none(), "nobody waits for ever");
    }

    #[tokio::test]
    async fn a_turn_that_nobody_waits_for_any_more_is_not_lost() {
        let permits = CallPermits::new(Most { all: 1, per_key: 1, per_organiser: 1 }, Duration::from_secs(10));
        let held = permits.take(of(1, 1)).await.unwrap();
        drop(permits.take(of(2, 2)).now_or_never());
        drop(held);
        assert!(permits.take(of(3, 3)).now_or_never().flatten().is_some());
        assert!(permits.lock().taken.is_empty());
    }

    #[test]
    fn who_has_most_seats_gives_one_to_who_has_fewer() {
        let seats = Seats::new(Most { all: 4, per_key: 3, per_organiser: 4 });
        let mut taken: Vec<Seat> = (0..3).map(|_| seats.take(of(1, 1)).unwrap()).collect();
        assert_eq!(seats.take(of(1, 9)).err(), Some(NoSeat::OfKey));
        taken.push(seats.take(of(2, 1)).unwrap());
        assert_eq!(seats.take(of(3, 1)).err(), Some(NoSeat::OfAll), "from itself an organiser takes none");
        let second = seats.take(of(4, 2)).expect("another organiser gets one of the four");
        assert!(taken[0].displaced().now_or_never().is_some(), "the oldest");
        assert!(taken[1].displaced().now_or_never().is_none());
        let third = seats.take(of(4, 2)).unwrap();
        assert_eq!(seats.take(of(4, 2)).err(), Some(NoSeat::OfAll), "two and two are fair");
        drop((second, third, taken));
        assert!(seats.lock().seats.is_empty());
    }
}
