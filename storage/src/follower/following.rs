//! The walk itself, a batch at a time: what a follower does for ever, `rebuild` once, and tests in odd pieces.

use std::time::{Duration, Instant};

use engine::model::ids::ShardId;

use super::{Followed, LastRecord, Mismatch, Target};
use crate::journal::{Cursor, JournalError, Reader, Records};

/// How much one step takes on at most. A record is never split, so a step may exceed it by one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// What the target says its records weigh, in events.
    pub weight: usize,
    /// For how long it gathers.
    pub time: Duration,
}

/// What one step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Events taken in.
    pub events: u64,
    /// Something was written, be it only the position.
    pub wrote: bool,
    /// There was nothing more to read.
    pub at_end: bool,
}

/// A target on its way along the journal.
pub struct Following<T: Target> {
    target: T,
    reader: Box<dyn Reader>,
    followed: Followed,
    /// Up to where it is written.
    written: Cursor,
    /// Which shards' records are taken in; the others are taken in elsewhere ([`Target::is_shared`]).
    mine: Vec<bool>,
    /// How far those are.
    others: Cursor,
}

impl<T: Target> Following<T> {
    /// Takes up the journal where the target stands.
    ///
    /// # Errors
    /// [`Mismatch`] if the target has followed another journal than this, be it an older or newer copy of it; otherwise
    /// what target and journal say.
    pub fn begin<S: Records + ?Sized>(source: &S, mut target: T) -> Result<Self, T::Error> {
        // Before the store is asked: whoever had a shard before has written all that it will by now.
        let mine = mine(source, target.is_shared());
        let mut followed = target.followed()?.unwrap_or_else(|| Followed::nothing(source.shards()));
        let (end, others) = (source.end(), followed.cursor.clone());
        if others.shards() != end.shards() {
            return Err(JournalError::WrongShards { found: end.shards(), asked: others.shards() }.into());
        }
        let mut from = Cursor::start(end.shards());
        followed.cursor = Cursor::start(end.shards());
        for shard in (0..end.shards()).map(ShardId) {
            let (at, end) = (others.get(shard), end.get(shard));
            let is_mine = mine[usize::from(shard.0)];
            if at > end && is_mine {
                return Err(Mismatch::Ahead { shard, at: at.0, end: end.0 }.into());
            }
            // Another node may have read further than this one.
            followed.cursor.advance(shard, at.min(end));
            from.advance(shard, if is_mine { at } else { end });
        }
        if let Some(last) = followed.last.as_ref().filter(|last| last.position < end.get(last.shard))
            && !recognises(source, &end, last)?
        {
            return Err(Mismatch::OtherJournal { at: last.position.0 }.into());
        }
        let reader = source.reader(&from)?;
        target.begin(&followed);
        Ok(Self { target, reader, written: followed.cursor.clone(), followed, mine, others })
    }

    /// Whether shards have come or gone since it began, and are to be taken in by somebody else now.
    pub fn shards_have_moved<S: Records + ?Sized>(&self, source: &S) -> bool {
        self.is_shared() && mine(source, true) != self.mine
    }

    /// Begins again, with the shards that are here now.
    ///
    /// # Errors
    /// As [`Following::begin`].
    pub fn begin_again<S: Records + ?Sized>(self, source: &S) -> Result<Self, T::Error> {
        Self::begin(source, self.target)
    }

    /// Whether others take in the shards that are not here.
    pub fn is_shared(&self) -> bool {
        self.target.is_shared()
    }

    /// Looks how far they are.
    ///
    /// # Errors
    /// What the target says.
    pub fn observe_others(&mut self) -> Result<(), T::Error> {
        if self.is_shared()
            && let Some(followed) = self.target.followed()?
            && followed.cursor.shards() == self.others.shards()
        {
            self.others = followed.cursor;
        }
        Ok(())
    }

    /// How far it is, what was written included. Of shards that others take in, how far they were at the beginning.
    pub fn followed(&self) -> &Followed {
        &self.followed
    }

    /// How far everybody is, as far as is known.
    pub fn reached(&self) -> Cursor {
        let shards = (0..self.others.shards()).map(ShardId);
        Cursor::of(shards.map(|shard| {
            let of = if self.mine[usize::from(shard.0)] { &self.followed.cursor } else { &self.others };
            of.get(shard)
        }))
    }

    /// Lets the target look at whatever else is due.
    pub(super) fn check(&mut self) -> Result<(), T::Error> {
        self.target.check(&self.followed)
    }

    /// Reads what there is, up to a portion, and has it written as one batch.
    ///
    /// # Errors
    /// What target and journal say. Then this walk is over: begin again.
    pub fn step(&mut self, portion: Portion) -> Result<Step, T::Error> {
        let began = Instant::now();
        let (mut events, mut weight, mut at_end) = (0, 0, false);
        while weight < portion.weight {
            let Some(entry) = self.reader.next()? else {
                at_end = true;
                break;
            };
            if !self.mine[usize::from(entry.shard.0)] {
                continue;
            }
            let taken = self.target.add(&entry)?;
            (events, weight) = (events + taken.events, weight + taken.weight);
            self.followed.last = Some(LastRecord::of(&entry));
            if began.elapsed() >= portion.time {
                break;
            }
        }
        // Shards that have written nothing need not be looked at again up to here.
        let mut passed = self.followed.cursor.clone();
        self.reader.passed(&mut passed);
        for shard in (0..passed.shards()).map(ShardId).filter(|shard| self.mine[usize::from(shard.0)]) {
            self.followed.cursor.advance(shard, passed.get(shard));
        }
        let wrote = self.followed.cursor != self.written;
        if wrote {
            self.target.write(&self.followed)?;
            self.written.clone_from(&self.followed.cursor);
        }
        Ok(Step { events, wrote, at_end })
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// What the target says.
    pub fn flush(&mut self) -> Result<(), T::Error> {
        self.target.flush()
    }
}

/// Which shards' records are to be taken in here.
fn mine<S: Records + ?Sized>(source: &S, shared: bool) -> Vec<bool> {
    (0..source.shards()).map(|shard| !shared || source.is_here(ShardId(shard))).collect()
}

/// Whether the last record that was taken in is where it was.
fn recognises<S: Records + ?Sized>(source: &S, end: &Cursor, last: &LastRecord) -> Result<bool, JournalError> {
    let mut from = Cursor::start(end.shards());
    for shard in (0..end.shards()).map(ShardId) {
        from.advance(shard, if shard == last.shard { last.position } else { end.get(shard) });
    }
    let mut reader = source.reader(&from)?;
    Ok(reader.next()?.is_some_and(|entry| LastRecord::of(&entry) == *last))
}
