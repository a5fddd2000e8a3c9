//! Answers that wait for more than the record of their step: for the end of an operation that another shard decides, or
//! for other shards to have heard what was changed.

use std::collections::BTreeMap;

use engine::command::AdminAnswer;
use engine::model::ids::ShardId;
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use engine::shard::Shard;

use super::Effect;
use crate::limits::{DEFERRED_MAX, DEFERRED_MS_MAX};

/// Whoever waits. All of them count as commands that were let in and not yet answered.
pub(super) struct DeferredReplies<R> {
    /// By operation: whoever began it, and whoever has repeated that meanwhile.
    operations: BTreeMap<u64, Vec<Waiter<R>>>,
    held: Vec<DeferredReply<R>>,
    waiters: usize,
}

struct Waiter<R> {
    to: R,
    repeated: bool,
    since: Timestamp,
}

struct DeferredReply<R> {
    waiter: Waiter<R>,
    answer: AdminAnswer,
    /// Which shards have to have our messages, up to which number.
    until: Vec<(ShardId, u64)>,
}

impl<R> Waiter<R> {
    fn answered(self, answer: AdminAnswer) -> Effect<R> {
        Effect::Admin { to: self.to, answer, repeated: self.repeated }
    }
}

impl<R> DeferredReplies<R> {
    pub(super) fn new() -> Self {
        Self { operations: BTreeMap::new(), held: Vec::new(), waiters: 0 }
    }

    /// Whether one more may wait.
    pub(super) fn has_room(&self) -> bool {
        self.waiters + self.held.len() < DEFERRED_MAX
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiters + self.held.len() == 0
    }

    /// Somebody waits for the end of an operation.
    pub(super) fn wait(&mut self, op: u64, to: R, repeated: bool, since: Timestamp) {
        self.operations.entry(op).or_default().push(Waiter { to, repeated, since });
        self.waiters += 1;
    }

    /// An operation has come to an end.
    pub(super) fn finished(&mut self, op: u64, answer: AdminAnswer) -> impl Iterator<Item = Effect<R>> + use<R> {
        let waiters = self.operations.remove(&op).unwrap_or_default();
        self.waiters -= waiters.len();
        waiters.into_iter().map(move |waiter| waiter.answered(answer))
    }

    /// An answer waits until other shards have our messages, and then for the newest record in flight: those messages may be
    /// older than it is, where what was asked was so already.
    pub(super) fn hold(
        &mut self,
        (to, answer, repeated): (R, AdminAnswer, bool),
        until: Vec<(ShardId, u64)>,
        since: Timestamp,
    ) {
        self.held.push(DeferredReply { waiter: Waiter { to, repeated, since }, answer, until });
    }

    /// What need not wait any more, now that another shard has told how far it is.
    pub(super) fn delivered(&mut self, shard: &Shard) -> impl Iterator<Item = Effect<R>> + use<R> {
        let ready = |held: &mut DeferredReply<R>| held.until.iter().all(|&(to, n)| shard.delivered(to) >= n);
        let ready: Vec<DeferredReply<R>> = self.held.extract_if(.., ready).collect();
        ready.into_iter().map(|held| held.waiter.answered(held.answer))
    }

    /// Who has waited too long: another shard is down or slow. What was begun goes on, and whoever asks again with the
    /// same key is told how it ended.
    pub(super) fn overdue(&mut self, now: Timestamp) -> impl Iterator<Item = Effect<R>> + use<R> {
        let late = |waiter: &Waiter<R>| now.since_ms(waiter.since) >= DEFERRED_MS_MAX;
        let mut overdue: Vec<Waiter<R>> =
            self.held.extract_if(.., |held| late(&held.waiter)).map(|held| held.waiter).collect();
        let held = overdue.len();
        self.operations.retain(|_, waiters| {
            overdue.extend(waiters.extract_if(.., |waiter| late(waiter)));
            !waiters.is_empty()
        });
        self.waiters -= overdue.len() - held;
        overdue.into_iter().map(|waiter| waiter.answered(AdminAnswer::Rejected(Rejection::StillPending)))
    }

    /// Who waits for a shard that is down: that may take longer than anybody has patience.
    pub(super) fn waiting_for(&mut self, down: impl Fn(ShardId) -> bool) -> impl Iterator<Item = Effect<R>> {
        let waiting = self.held.extract_if(.., |held| held.until.iter().any(|(shard, _)| down(*shard)));
        let waiting: Vec<_> = waiting.map(|held| held.waiter).collect();
        waiting.into_iter().map(|waiter| waiter.answered(AdminAnswer::Rejected(Rejection::StillPending)))
    }

    /// Gives up everything: who waits.
    pub(super) fn abandon(&mut self) -> impl Iterator<Item = R> {
        self.waiters = 0;
        let waiters = core::mem::take(&mut self.operations).into_values().flatten().map(|waiter| waiter.to);
        waiters.chain(self.held.drain(..).map(|held| held.waiter.to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    /// Both kinds count, each once, until they have gone, whichever way that is.
    #[test]
    fn so_many_wait_and_no_more() {
        let mut deferred: DeferredReplies<usize> = DeferredReplies::new();
        let half = DEFERRED_MAX / 2;
        for n in 0..half {
            assert!(deferred.has_room(), "{n}");
            // Two for each operation: somebody has repeated it.
            deferred.wait(n as u64 / 2, n, n % 2 == 1, NOW);
        }
        for n in half..DEFERRED_MAX {
            assert!(deferred.has_room(), "{n}");
            let shard = ShardId((n % 2) as u16);
            deferred.hold((n, AdminAnswer::Done, false), vec![(shard, 1)], NOW.plus_ms((n % 3) as i64));
        }
        assert!(!deferred.has_room());
        assert_eq!(deferred.finished(0, AdminAnswer::Done).count(), 2);
        for n in 0..2 {
            assert!(deferred.has_room());
            deferred.wait(1_000_000 + n, 0, false, NOW.plus_ms(DEFERRED_MS_MAX));
        }
        assert!(!deferred.has_room());
        assert_eq!(deferred.waiting_for(|shard| shard == ShardId(1)).count(), (DEFERRED_MAX - half) / 2);
        assert!(deferred.has_room());

        let waiting = DEFERRED_MAX - (DEFERRED_MAX - half) / 2;
        let overdue = deferred.overdue(NOW.plus_ms(DEFERRED_MS_MAX + 2)).count();
        assert_eq!(overdue, waiting - 2, "all but the two that came later");
        for _ in 2..DEFERRED_MAX {
            assert!(deferred.has_room());
            deferred.hold((0, AdminAnswer::Done, false), vec![(ShardId(0), 1)], NOW);
        }
        assert!(!deferred.has_room());
        assert_eq!(deferred.abandon().count(), DEFERRED_MAX);
        assert!(deferred.has_room());
    }
}
