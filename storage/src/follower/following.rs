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
}

impl<T: Target> Following<T> {
    /// Takes up the journal where the target stands.
    ///
    /// # Errors
    /// [`Mismatch`] if the target has followed another journal than this, be it an older or newer copy of it; otherwise
    /// what target and journal say.
    pub fn begin<S: Records + ?Sized>(source: &S, mut target: T) -> Result<Self, T::Error> {
        let end = source.end();
        let followed = target.followed()?.unwrap_or_else(|| Followed::nothing(end.shards()));
        if followed.cursor.shards() != end.shards() {
            return Err(JournalError::WrongShards { found: end.shards(), asked: followed.cursor.shards() }.into());
        }
        for shard in (0..end.shards()).map(ShardId) {
            let (at, end) = (followed.cursor.get(shard).0, end.get(shard).0);
            if at > end {
                return Err(Mismatch::Ahead { shard, at, end }.into());
            }
        }
        if let Some(last) = &followed.last
            && !recognises(source, &end, last)?
        {
            return Err(Mismatch::OtherJournal { at: last.position.0 }.into());
        }
        let reader = source.reader(&followed.cursor)?;
        target.begin(&followed);
        Ok(Self { target, reader, written: followed.cursor.clone(), followed })
    }

    /// How far it is, what was written included.
    pub fn followed(&self) -> &Followed {
        &self.followed
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
            let taken = self.target.add(&entry)?;
            (events, weight) = (events + taken.events, weight + taken.weight);
            self.followed.last = Some(LastRecord::of(&entry));
            if began.elapsed() >= portion.time {
                break;
            }
        }
        // Shards that have written nothing need not be looked at again up to here.
        self.reader.passed(&mut self.followed.cursor);
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

/// Whether the last record that was taken in is where it was.
fn recognises<S: Records + ?Sized>(source: &S, end: &Cursor, last: &LastRecord) -> Result<bool, JournalError> {
    let mut from = Cursor::start(end.shards());
    for shard in (0..end.shards()).map(ShardId) {
        from.advance(shard, if shard == last.shard { last.position } else { end.get(shard) });
    }
    let mut reader = source.reader(&from)?;
    Ok(reader.next()?.is_some_and(|entry| LastRecord::of(&entry) == *last))
}
