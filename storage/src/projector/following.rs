//! The walk itself, a batch at a time: what the projector does for ever, `rebuild` once, and tests in odd pieces.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::model::ids::ShardId;

use crate::journal::{Cursor, JournalError, Reader, Records};
use crate::views::fold::Batch;
use crate::views::{Followed, LastRecord, Views, ViewsError};

/// How much one step takes on at most. A record is never split, so a step may exceed it by one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// Events; see [`Batch::weight`].
    pub weight: usize,
    /// For how long it gathers.
    pub time: Duration,
}

/// What one step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Events folded in.
    pub events: u64,
    /// Something was written, be it only the position.
    pub wrote: bool,
    /// There was nothing more to read.
    pub at_end: bool,
}

/// Read models on their way along the journal.
pub struct Following {
    views: Arc<dyn Views>,
    reader: Box<dyn Reader>,
    batch: Batch,
}

impl Following {
    /// Takes up the journal where the store stands.
    ///
    /// # Errors
    /// [`ViewsError::Ahead`] and [`ViewsError::OtherJournal`] if the store has followed another journal than this, be it
    /// an older or newer copy of it; otherwise what store and journal say.
    pub fn begin<S: Records + ?Sized>(source: &S, views: Arc<dyn Views>) -> Result<Self, ViewsError> {
        let end = source.end();
        let followed = views.followed()?.unwrap_or_else(|| Followed::nothing(end.shards()));
        if followed.cursor.shards() != end.shards() {
            return Err(JournalError::WrongShards { found: end.shards(), asked: followed.cursor.shards() }.into());
        }
        for shard in (0..end.shards()).map(ShardId) {
            let (at, end) = (followed.cursor.get(shard).0, end.get(shard).0);
            if at > end {
                return Err(ViewsError::Ahead { shard, at, end });
            }
        }
        if let Some(last) = &followed.last {
            recognise(source, &end, last)?;
        }
        let reader = source.reader(&followed.cursor)?;
        Ok(Self { views, reader, batch: Batch::behind(&followed) })
    }

    /// How far it is, what was written included.
    pub fn followed(&self) -> &Followed {
        &self.batch.followed
    }

    /// Reads what there is, up to a portion, and writes it as one batch.
    ///
    /// # Errors
    /// What store and journal say. Then this walk is over: begin again.
    pub fn step(&mut self, portion: Portion) -> Result<Step, ViewsError> {
        let began = Instant::now();
        let mut at_end = false;
        while self.batch.weight() < portion.weight {
            let Some(entry) = self.reader.next()? else {
                at_end = true;
                break;
            };
            self.batch.add(&entry)?;
            if began.elapsed() >= portion.time {
                break;
            }
        }
        self.batch.ends_at(&*self.reader);
        let wrote = !self.batch.is_empty();
        if wrote {
            self.views.write(&self.batch)?;
        }
        let events = self.batch.events();
        self.batch.go_on();
        Ok(Step { events, wrote, at_end })
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// What the store says.
    pub fn flush(&self) -> Result<(), ViewsError> {
        self.views.flush()
    }
}

/// Looks whether the last record that was folded in is where it was.
fn recognise<S: Records + ?Sized>(source: &S, end: &Cursor, last: &LastRecord) -> Result<(), ViewsError> {
    let mut from = Cursor::start(end.shards());
    for shard in (0..end.shards()).map(ShardId) {
        from.advance(shard, if shard == last.shard { last.position } else { end.get(shard) });
    }
    let mut reader = source.reader(&from)?;
    let found = reader.next()?.map(|entry| LastRecord {
        shard: entry.shard,
        position: entry.position,
        crc: crc32c::crc32c(entry.payload),
    });
    if found.as_ref() == Some(last) { Ok(()) } else { Err(ViewsError::OtherJournal { at: last.position.0 }) }
}
