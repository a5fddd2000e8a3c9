//! Reading beside the writer: durable records only, from wherever one stands, for as long as one likes.

use std::sync::{Arc, Mutex};

use engine::model::ids::ShardId;

use super::{Cursor, Entry, JournalError, Position, Reader, disk::Disk, log::End, recent::Recent, scan::Walker};

/// What writer and readers share: how far the log is durable.
pub(crate) struct Tip {
    pub(crate) shards: u16,
    /// The first segment in the folder.
    pub(crate) first_segment: u64,
    end: Mutex<End>,
    pub(crate) recent: Arc<Recent>,
}

impl Tip {
    pub(crate) fn new(shards: u16, first_segment: u64, end: End) -> Self {
        Self { shards, first_segment, end: Mutex::new(end), recent: Arc::default() }
    }

    pub(crate) fn end(&self) -> End {
        *self.end.lock().expect("nothing panics under this lock")
    }

    /// The same for each shard, since all of them share the log.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor::at(self.shards, Position(self.end().lsn))
    }

    pub(crate) fn moved_to(&self, end: End) {
        *self.end.lock().expect("nothing panics under this lock") = end;
    }
}

/// A reader of the file journal.
pub(crate) struct LogReader<D: Disk> {
    disk: Arc<D>,
    tip: Arc<Tip>,
    from: Cursor,
    walker: Walker<D::File>,
    /// How far the log was durable when last asked.
    end: End,
}

impl<D: Disk> LogReader<D> {
    pub(crate) fn open(disk: Arc<D>, tip: Arc<Tip>, from: &Cursor) -> Result<Self, JournalError> {
        if from.shards() != tip.shards {
            return Err(JournalError::WrongShards { found: tip.shards, asked: from.shards() });
        }
        let end = tip.end();
        for shard in (0..tip.shards).map(ShardId) {
            let asked = from.get(shard).0;
            if asked > end.lsn {
                return Err(JournalError::BeyondEnd { shard, asked, end: end.lsn });
            }
        }
        let least = from.least().0;
        let mut walker = find_segment(&*disk, &tip, &end, from)?;
        let limit = limit_in(&walker, &end);
        walker.skip_to(least, limit)?;
        walker.beside(Arc::clone(&tip.recent));
        Ok(Self { disk, tip, from: from.clone(), walker, end })
    }

    /// Goes on in the next segment, which has to follow from this one.
    fn next_segment(&mut self) -> Result<(), JournalError> {
        let number = self.walker.header().number + 1;
        let mark = self.walker.mark();
        if number > self.end.segment {
            return Err(JournalError::damaged(self.walker.file(), mark.offset, "durable records are gone"));
        }
        let Some(mut next) = Walker::open(&*self.disk, number)? else {
            return Err(JournalError::damaged(self.walker.file(), mark.offset, "the next segment has no header"));
        };
        if next.lsn() != self.walker.lsn() || next.chain() != self.walker.chain() {
            return Err(JournalError::damaged(self.walker.file(), mark.offset, "the next segment does not follow"));
        }
        next.beside(Arc::clone(&self.tip.recent));
        self.walker = next;
        Ok(())
    }
}

impl<D: Disk> Reader for LogReader<D> {
    fn next(&mut self) -> Result<Option<Entry<'_>>, JournalError> {
        loop {
            if self.walker.lsn() >= self.end.lsn {
                self.end = self.tip.end();
                if self.walker.lsn() >= self.end.lsn {
                    return Ok(None);
                }
            }
            if !self.walker.advance(limit_in(&self.walker, &self.end))? {
                self.next_segment()?;
                continue;
            }
            let Entry { shard, position, .. } = self.walker.current();
            if position >= self.from.get(shard) {
                break;
            }
        }
        Ok(Some(self.walker.current()))
    }

    fn passed(&self, cursor: &mut Cursor) {
        for shard in (0..self.tip.shards).map(ShardId) {
            cursor.advance(shard, Position(self.walker.lsn()));
        }
    }
}

/// Where reading has to stop within the walker's segment.
fn limit_in<F: super::disk::DiskFile>(walker: &Walker<F>, end: &End) -> u64 {
    if walker.header().number == end.segment { end.offset } else { u64::MAX }
}

/// The segment that holds the first record to be read: the last one that begins at or before it.
fn find_segment<D: Disk>(disk: &D, tip: &Tip, end: &End, from: &Cursor) -> Result<Walker<D::File>, JournalError> {
    let lsn = from.least().0;
    let open = |number| {
        Walker::open(disk, number)?.ok_or_else(|| {
            JournalError::damaged(&super::scan::raw_name(number), 0, "the segment has no header, but others follow it")
        })
    };
    let (mut low, mut high) = (tip.first_segment, end.segment);
    let mut found = open(low)?;
    if found.header().first_lsn > lsn {
        let first = Position(found.header().first_lsn).0;
        let shard =
            (0..tip.shards).map(ShardId).find(|shard| from.get(*shard).0 == lsn).expect("it is the least of them");
        return Err(JournalError::Archived { shard, asked: lsn, first });
    }
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        let walker = open(middle)?;
        if walker.header().first_lsn <= lsn {
            (low, found) = (middle, walker);
        } else {
            high = middle - 1;
        }
    }
    Ok(found)
}
