//! Recovery: the newest snapshot that verifies, then the journal to its end. Starting, rebuilding one shard after a
//! panic, and writing new snapshots in the background are the same walk.

use engine::model::ids::ShardId;
use engine::plants::{Plant, planted};
use engine::record::RecordError;
use engine::shard::Shard;
use storage::journal::{Cursor, Entry, JournalError, Position, Reader, Records};
use storage::snapshots::{SnapshotError, SnapshotMeta, Snapshots};

/// The format of a snapshot's body; another one is passed over, since the journal has it all.
pub const SNAPSHOT_FORMAT: u32 = 7;

/// Why shards cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The journal's own fault.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The snapshots' own fault.
    #[error(transparent)]
    Snapshots(#[from] SnapshotError),
    /// A record that is whole and yet makes no sense here.
    #[error("shard {} at journal position {}: {why}", shard.0, position.0)]
    Record {
        shard: ShardId,
        position: Position,
        /// What is wrong with it.
        why: RecordError,
    },
    /// No snapshot of a shard can be used, and the journal does not begin early enough to do without.
    #[error(
        "snapshot_unusable: no snapshot of shard {} that can be used reaches the journal, which begins at position {first} \
         in this folder. Nothing was changed: bring back the segments before that from the archive, or the snapshots from \
         a backup",
        shard.0
    )]
    SnapshotUnusable {
        shard: ShardId,
        /// The first position at hand.
        first: u64,
    },
}

/// Shards on their way through the journal.
pub struct Recovering {
    shards: Vec<Option<Shard>>,
    cursor: Cursor,
    /// Events applied so far.
    pub events: u64,
}

impl Recovering {
    fn nothing(shards: u16) -> Self {
        Self { shards: (0..shards).map(|_| None).collect(), cursor: Cursor::start(shards), events: 0 }
    }

    /// One shard, replayed to the journal's end; and how many events that took.
    pub(crate) fn run_to_the_end(mut self, journal: &dyn Records, id: ShardId) -> Result<(Shard, u64), RecoverError> {
        self.replay_all(journal)?;
        let (shard, _) = self.take(id).expect("one was wanted");
        Ok((shard, self.events))
    }

    fn replay_all(&mut self, journal: &dyn Records) -> Result<(), RecoverError> {
        let mut reader = self.reader(&journal.end(), |from| journal.reader(from))?;
        while !self.replay(&mut *reader, u64::MAX)? {}
        Ok(())
    }

    /// The wanted shards as their newest snapshots have them; empty where there is none. `end` is the journal's: a
    /// snapshot that covers more than that is of another history, or of one that was lost.
    ///
    /// # Errors
    /// [`RecoverError::Snapshots`].
    pub fn from_snapshots(
        snapshots: &dyn Snapshots,
        end: &Cursor,
        wanted: impl Fn(ShardId) -> bool,
    ) -> Result<Self, RecoverError> {
        let shards = end.shards();
        let mut this = Self::nothing(shards);
        for id in (0..shards).map(ShardId) {
            if !wanted(id) {
                this.cursor.advance(id, Position(u64::MAX));
                continue;
            }
            let mut restored = None;
            snapshots.newest(id, end.get(id), &mut |meta, body| {
                restored = restore(meta, body);
                restored.is_some()
            })?;
            let (shard, position) = restored.unwrap_or_else(|| (Shard::new(id, shards), Position(0)));
            let late = u64::from(planted(Plant::ReplaySkipsOne) && position.0 > 0);
            this.cursor.advance(id, Position(position.0 + late));
            this.shards[usize::from(id.0)] = Some(shard);
        }
        Ok(this)
    }

    /// A reader of what the snapshots lack, by whoever opens one at a cursor. `end` is the journal's: shards that are not
    /// wanted need nothing of it.
    ///
    /// # Errors
    /// [`RecoverError::SnapshotUnusable`] if the journal does not reach back so far; else its own.
    pub fn reader(
        &self,
        end: &Cursor,
        open: impl FnOnce(&Cursor) -> Result<Box<dyn Reader>, JournalError>,
    ) -> Result<Box<dyn Reader>, RecoverError> {
        let mut from = Cursor::start(self.cursor.shards());
        for id in (0..self.cursor.shards()).map(ShardId) {
            from.advance(id, self.cursor.get(id).min(end.get(id)));
        }
        open(&from).map_err(|why| match why {
            JournalError::Archived { shard, first, .. } => RecoverError::SnapshotUnusable { shard, first },
            why => why.into(),
        })
    }

    /// Replays until the reader has caught up, or `limit` events have been applied; says whether it has caught up.
    ///
    /// # Errors
    /// [`RecoverError`].
    pub fn replay(&mut self, reader: &mut dyn Reader, limit: u64) -> Result<bool, RecoverError> {
        let until = self.events.saturating_add(limit);
        while self.events < until {
            let Some(entry) = reader.next()? else { return Ok(true) };
            let Some(shard) = &mut self.shards[usize::from(entry.shard.0)] else { continue };
            if entry.position < self.cursor.get(entry.shard) {
                continue;
            }
            let (events, next) = replay_one(shard, &entry)?;
            self.events += events;
            self.cursor.advance(entry.shard, next);
        }
        Ok(false)
    }

    /// A shard, recovered as far as the replay went, and the position that follows.
    pub fn shard(&self, id: ShardId) -> Option<(&Shard, Position)> {
        self.shards[usize::from(id.0)].as_ref().map(|shard| (shard, self.cursor.get(id)))
    }

    /// As [`Recovering::shard`], taken out.
    pub(crate) fn take(&mut self, id: ShardId) -> Option<(Shard, Position)> {
        Some((self.shards[usize::from(id.0)].take()?, self.cursor.get(id)))
    }

    /// All the wanted shards.
    pub fn into_shards(self) -> impl Iterator<Item = Shard> {
        self.shards.into_iter().flatten()
    }
}

/// Applies the next record of its shard: how many events it had, and the position that follows.
pub(crate) fn replay_one(shard: &mut Shard, entry: &Entry<'_>) -> Result<(u64, Position), RecoverError> {
    let (id, position) = (entry.shard, entry.position);
    let record = shard.replay(entry.payload).map_err(|why| RecoverError::Record { shard: id, position, why })?;
    Ok((record.events.len() as u64, position.next()))
}

/// One shard, from its newest snapshot and the journal to its end.
///
/// # Errors
/// [`RecoverError`].
pub fn one(journal: &dyn Records, snapshots: &dyn Snapshots, id: ShardId) -> Result<Shard, RecoverError> {
    let recovering = Recovering::from_snapshots(snapshots, &journal.end(), |shard| shard == id)?;
    Ok(recovering.run_to_the_end(journal, id)?.0)
}

/// The same, to go on from: with the first position that it lacks.
pub(crate) fn so_far(
    journal: &dyn Records,
    snapshots: &dyn Snapshots,
    id: ShardId,
) -> Result<(Shard, Position), RecoverError> {
    let mut recovering = Recovering::from_snapshots(snapshots, &journal.end(), |shard| shard == id)?;
    recovering.replay_all(journal)?;
    Ok(recovering.take(id).expect("one was wanted"))
}

/// The same from a state that lacks the records from a position on: a shadow's. Also how many events that took.
pub(crate) fn from_shadow(
    journal: &dyn Records,
    (shard, position): (Shard, Position),
) -> Result<(Shard, u64), RecoverError> {
    let (id, end) = (shard.id(), journal.end());
    let mut recovering = Recovering::nothing(end.shards());
    recovering.cursor = Cursor::of((0..end.shards()).map(|of| if of == id.0 { position } else { Position(u64::MAX) }));
    recovering.shards[usize::from(id.0)] = Some(shard);
    recovering.run_to_the_end(journal, id)
}

/// The shard of a snapshot that is whole, if it is what the snapshot says: this shard, after this record, to the last bit.
/// Bytes that another program wrote may decode and mean something else.
fn restore(meta: &SnapshotMeta, body: &[u8]) -> Option<(Shard, Position)> {
    if meta.format != SNAPSHOT_FORMAT {
        tracing::info!(shard = meta.shard.0, "a snapshot of another version is skipped");
        return None;
    }
    let restored = Shard::restore(body);
    let same = restored
        .filter(|shard| (shard.id(), shard.seq()) == (meta.shard, meta.seq) && shard.state_hash() == meta.state_hash);
    if same.is_none() {
        tracing::warn!(shard = meta.shard.0, seq = meta.seq, "a snapshot is skipped: its state is not what it says");
    }
    Some((same?, meta.position))
}

/// Keeps a snapshot of a shard, `position` being the first in the journal that it does not cover.
///
/// # Errors
/// [`RecoverError::Snapshots`].
pub fn save(snapshots: &dyn Snapshots, shard: &Shard, position: Position) -> Result<(), RecoverError> {
    let body = shard.snapshot();
    let meta = SnapshotMeta {
        shard: shard.id(),
        position,
        seq: shard.seq(),
        time_ms: shard.now().0,
        chain: [0; 16],
        state_hash: Shard::hash_of(&body),
        format: SNAPSHOT_FORMAT,
    };
    Ok(snapshots.save(&meta, &body)?)
}
