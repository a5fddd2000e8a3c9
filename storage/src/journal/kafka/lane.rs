//! One shard: who owns it, what is under way, where its records lie, and the newest of them.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use engine::model::ids::ShardId;
use serde::{Deserialize, Serialize};

use super::checkpoint::OfShard;
use crate::journal::{
    Member,
    ownership::{Decision, Fold, Header, Incarnation, Owner, Ticket, Verdict, Why},
};

/// How much of the newest records stays in memory for followers, in bytes, over all shards: as for the file journal.
pub(super) const RECENT_BYTES_MAX: usize = 16 << 20;
/// How many stretches without a record are remembered of a shard: 24 bytes each, so 1.5 MiB. There is one for each claim, and at
/// most one for each pause between two records.
const PAUSES_MAX: usize = 65_536;
/// How many of them are kept in a file, of each shard.
const PAUSES_KEPT: usize = 1_024;
/// How many of a shard's own incarnations are known again. An earlier one's last writes may arrive late, but not behind three
/// claims, each of which waited for the writes before it.
const OURS_MAX: usize = 4;

pub(super) struct Lane {
    pub(super) shard: ShardId,
    state: Mutex<State>,
    changed: Condvar,
    /// The shard's durable end.
    tip: AtomicU64,
}

pub(super) struct State {
    pub(super) owner: Owner,
    /// Whom the valid claim names, as far as the tail has come.
    pub(super) member: Option<Arc<Member>>,
    /// The latest incarnations of this journal, newest last.
    ours: VecDeque<Incarnation>,
    /// The records of the batches under way, oldest first.
    pub(super) buffers: VecDeque<Vec<u8>>,
    /// How many writes have no report yet, those of earlier incarnations included.
    pub(super) under_way: usize,
    pub(super) last_write: Instant,
    /// Why the shard was lost, and whether that has been told.
    pub(super) lost: Option<Why>,
    pub(super) told: bool,
    /// It is being claimed: whatever comes in between is its claimer's matter.
    pub(super) claiming: bool,
    /// Room for a header.
    pub(super) key: Vec<u8>,
    pub(super) places: Places,
    recent: Recent,
}

impl State {
    /// Of an idle shard: what to append to own it.
    pub(super) fn claim(&mut self, incarnation: Incarnation) -> (Header, Ticket) {
        (self.lost, self.claiming) = (None, true);
        if self.ours.len() == OURS_MAX {
            self.ours.pop_front();
        }
        self.ours.push_back(incarnation);
        self.owner.claim(incarnation)
    }

    /// Whether this journal has written that.
    pub(super) fn is_ours(&self, incarnation: Incarnation) -> bool {
        self.ours.contains(&incarnation)
    }

    /// Notes that a shard was lost, to be told by whoever may.
    pub(super) fn note(&mut self, decision: Decision) {
        if let Decision::StepDown(why) = decision {
            self.lost = Some(why);
            self.told = self.claiming;
        }
    }

    /// Whether claiming again may help: nobody else has claimed the shard, but a write's fate is unknown, or something that an
    /// earlier owner had under way has arrived behind the claim.
    pub(super) fn is_worth_another_claim(&self) -> bool {
        !matches!(self.lost, Some(Why::Deposed { .. } | Why::CameTooLate { .. }))
    }
}

/// What can be had from memory.
pub(super) enum Cached {
    /// The next record, and where it lies.
    Here(u64, Arc<[u8]>),
    /// It was there and made room for newer ones.
    Gone,
    /// The tail has not come to it yet.
    NotYet,
}

impl Lane {
    pub(super) fn new(shard: ShardId) -> Self {
        let state = State {
            owner: Owner::new(shard, Fold::new(shard)),
            member: None,
            ours: VecDeque::new(),
            buffers: VecDeque::new(),
            under_way: 0,
            last_write: Instant::now(),
            lost: None,
            told: false,
            claiming: false,
            key: Vec::new(),
            places: Places::default(),
            recent: Recent::default(),
        };
        Self { shard, state: Mutex::new(state), changed: Condvar::new(), tip: AtomicU64::new(0) }
    }

    /// The shard was read up to there before.
    pub(super) fn resume(&self, from: OfShard) {
        let mut state = self.state();
        state.member = from.member().map(Arc::new);
        self.tip_is(from.fold.records_end());
        // Nothing before that is in memory.
        state.recent.from = from.fold.next_offset();
        state.places = from.places;
        state.owner = Owner::new(self.shard, from.fold);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }

    /// Waits until something has happened here, or some milliseconds.
    pub(super) fn wait<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, super::ROUND).expect("nothing panics under this lock").0
    }

    pub(super) fn has_changed(&self) {
        self.changed.notify_all();
    }

    pub(super) fn tip(&self) -> u64 {
        self.tip.load(Ordering::Acquire)
    }

    pub(super) fn tip_is(&self, tip: u64) {
        self.tip.fetch_max(tip, Ordering::AcqRel);
    }

    /// The first record at or behind `at`, if it is among the newest.
    pub(super) fn cached(&self, at: u64) -> Cached {
        self.state().recent.first_from(at)
    }
}

impl State {
    /// How far the tail has come.
    pub(super) fn checkpoint(&self) -> OfShard {
        OfShard::new(self.owner.fold().clone(), self.places.newest(), self.member.as_deref())
    }

    /// Notes what the tail has read, `bytes_max` being this shard's part of what may be kept.
    pub(super) fn has_read(&mut self, offset: u64, verdict: Verdict, payload: &[u8], bytes_max: usize) {
        self.places.note(offset, verdict == Verdict::Record);
        match verdict {
            Verdict::Record => self.recent.push(offset, payload, bytes_max),
            Verdict::Claimed => self.member = Member::decode(payload).map(Arc::new),
            Verdict::Ignored | Verdict::Heartbeat | Verdict::Repeated => {}
        }
    }
}

/// The newest records of a shard: all of them from some offset on.
#[derive(Default)]
struct Recent {
    from: u64,
    bytes: usize,
    records: VecDeque<(u64, Arc<[u8]>)>,
}

impl Recent {
    fn push(&mut self, offset: u64, payload: &[u8], bytes_max: usize) {
        self.bytes += payload.len();
        self.records.push_back((offset, payload.into()));
        while self.bytes > bytes_max && self.records.len() > 1 {
            let (offset, oldest) = self.records.pop_front().expect("more than one");
            self.bytes -= oldest.len();
            self.from = offset + 1;
        }
    }

    fn first_from(&self, at: u64) -> Cached {
        if at < self.from {
            return Cached::Gone;
        }
        let index = self.records.partition_point(|(offset, _)| *offset < at);
        self.records.get(index).map_or(Cached::NotYet, |(offset, record)| Cached::Here(*offset, Arc::clone(record)))
    }
}

/// Which offsets hold records: all but those of some stretches.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Places {
    /// Stretches without a record, from where to where, and how many offsets without one lie before its end.
    pauses: VecDeque<(u64, u64, u64)>,
    /// Before this offset nothing is known any more.
    forgotten: u64,
    seen: u64,
}

impl Places {
    /// The newest part, as much as is worth keeping in a file: 24 KiB at most.
    fn newest(&self) -> Self {
        let leave = self.pauses.len().saturating_sub(PAUSES_KEPT);
        let forgotten = leave.checked_sub(1).map_or(self.forgotten, |last| self.pauses[last].1);
        Self { pauses: self.pauses.iter().skip(leave).copied().collect(), forgotten, seen: self.seen }
    }

    fn note(&mut self, offset: u64, is_record: bool) {
        self.seen = offset + 1;
        if is_record {
            return;
        }
        match self.pauses.back_mut() {
            Some((_, end, without)) if *end == offset => (*end, *without) = (offset + 1, *without + 1),
            last => {
                let without = last.map_or(0, |(.., without)| *without);
                self.pauses.push_back((offset, offset + 1, without + 1));
            }
        }
        if self.pauses.len() > PAUSES_MAX {
            let (_, end, _) = self.pauses.pop_front().expect("there are some");
            self.forgotten = end;
        }
    }

    /// How many records lie before an offset; where nothing is known any more, about as many.
    pub(super) fn records_before(&self, offset: u64) -> u64 {
        let after = self.pauses.partition_point(|(start, ..)| *start < offset);
        let Some((_, end, without)) = after.checked_sub(1).map(|last| self.pauses[last]) else {
            return offset;
        };
        offset - (without - end.saturating_sub(offset))
    }

    /// The last record before an offset: from there on a reader can judge for itself. `None`: it has to begin at the beginning.
    pub(super) fn record_before(&self, offset: u64) -> Option<u64> {
        let mut last = offset.min(self.seen).checked_sub(1)?;
        let after = self.pauses.partition_point(|(start, ..)| *start <= last);
        if let Some((start, end, _)) = after.checked_sub(1).map(|pause| self.pauses[pause])
            && last < end
        {
            last = start.checked_sub(1)?;
        }
        (last >= self.forgotten).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `r` for a record, `-` for none.
    fn places(log: &str) -> Places {
        let mut places = Places::default();
        log.bytes().enumerate().for_each(|(offset, what)| places.note(offset as u64, what == b'r'));
        places
    }

    #[test]
    fn records_are_counted_and_found() {
        for log in ["", "-", "r", "--r", "-rr--r-r-", "rrr---", "-----", "r-r-r-r"] {
            let places = places(log);
            for offset in 0..=log.len() {
                let before = &log.as_bytes()[..offset];
                let count = before.iter().filter(|what| **what == b'r').count() as u64;
                let last = before.iter().rposition(|what| *what == b'r').map(|at| at as u64);
                assert_eq!(places.records_before(offset as u64), count, "{log} before {offset}");
                assert_eq!(places.record_before(offset as u64), last, "{log} before {offset}");
            }
        }
        let places = places("-rr");
        assert_eq!(places.records_before(5), 4, "what was acknowledged and not read yet");
        assert_eq!(places.record_before(5), Some(2));
    }

    #[test]
    fn what_is_remembered_of_pauses_is_bounded() {
        let mut places = Places::default();
        let pauses = PAUSES_MAX as u64 + 10;
        for pause in 0..pauses {
            places.note(2 * pause, false);
            places.note(2 * pause + 1, true);
        }
        assert_eq!(places.pauses.len(), PAUSES_MAX);
        assert_eq!(places.record_before(10), None, "begin at the beginning");
        assert_eq!(places.record_before(2 * pauses), Some(2 * pauses - 1));
        assert_eq!(places.records_before(2 * pauses), pauses);
    }

    #[test]
    fn the_newest_records_are_at_hand() {
        let mut recent = Recent::default();
        for offset in [1, 2, 4] {
            recent.push(offset, &[offset as u8; 10], 25);
        }
        assert!(matches!(recent.first_from(1), Cached::Gone));
        assert!(matches!(recent.first_from(3), Cached::Here(4, record) if record[..] == [4; 10]));
        assert!(matches!(recent.first_from(5), Cached::NotYet));
    }
}
