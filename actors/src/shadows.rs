//! Shadows: shards that other nodes have, kept up with the journal here as well, so that taking one over does not wait for a
//! replay. A shadow is nothing but a replay that has not ended: it decides nothing, and whoever takes the shard up catches up
//! with what is left of the journal first. Each takes as much memory as the shard itself.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use engine::model::ids::ShardId;
use engine::shard::Shard;
use storage::journal::{Cursor, Journal, Position, Reader};
use storage::snapshots::Snapshots;

use crate::host::{Link, Standing};
use crate::limits::{SHADOW_FAULT_MS, SHADOW_FAULT_MS_MAX, SHADOW_PAUSE_MS, SHADOW_PIECE_EVENTS};
use crate::recover::{self, RecoverError, Recovering};

/// The shadows of a node, and the thread that keeps them up.
pub(crate) struct Shadows {
    kept: Arc<Kept>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Kept {
    journal: Arc<dyn Journal>,
    snapshots: Arc<dyn Snapshots>,
    links: Arc<[Arc<Link>]>,
    /// How many there are at most.
    most: usize,
    stopping: AtomicBool,
    /// Each as far as it has come, and the journal's position behind that.
    shards: Mutex<BTreeMap<ShardId, (Shard, Position)>>,
}

impl Shadows {
    /// Keeps up to `most` shadows of shards that are not here.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub(crate) fn start(
        most: usize,
        journal: Arc<dyn Journal>,
        snapshots: Arc<dyn Snapshots>,
        links: Arc<[Arc<Link>]>,
    ) -> std::io::Result<Self> {
        let (stopping, shards) = (AtomicBool::new(false), Mutex::default());
        let kept = Arc::new(Kept { journal, snapshots, links, most, stopping, shards });
        let at_work = Arc::clone(&kept);
        let thread = match most {
            0 => None,
            _ => Some(thread::Builder::new().name("shadows".into()).spawn(move || at_work.run())?),
        };
        Ok(Self { kept, thread: Mutex::new(thread) })
    }

    /// The shadow of a shard, for whoever takes it up; `None`: there is none.
    pub(crate) fn take(&self, shard: ShardId) -> Option<(Shard, Position)> {
        self.kept.shards().remove(&shard)
    }

    /// Whether there is one of a shard.
    pub(crate) fn has(&self, shard: ShardId) -> bool {
        self.kept.shards().contains_key(&shard)
    }

    /// Of which shards there are shadows, and to which position they have come.
    pub(crate) fn positions(&self) -> Vec<(ShardId, Position)> {
        self.kept.shards().iter().map(|(id, (_, next))| (*id, *next)).collect()
    }

    /// Ends the thread. A second call does nothing.
    pub(crate) fn stop(&self) {
        self.kept.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            thread.thread().unpark();
            // What it panics with, it has said itself.
            let _ = thread.join();
        }
    }
}

impl Kept {
    fn shards(&self) -> MutexGuard<'_, BTreeMap<ShardId, (Shard, Position)>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn run(&self) {
        let mut pause = SHADOW_FAULT_MS;
        while !self.is_stopping() {
            let why = match catch_unwind(AssertUnwindSafe(|| self.follow(&mut pause))) {
                Ok(Ok(())) => return,
                Ok(Err(why)) => why.to_string(),
                Err(_) => "replaying one panicked".to_owned(),
            };
            // A shadow that stopped half-way is worth nothing.
            self.shards().clear();
            tracing::warn!(
                why,
                "there are no shadows of other nodes' shards until that is over: taking one over takes longer"
            );
            thread::park_timeout(Duration::from_millis(pause));
            pause = (2 * pause).min(SHADOW_FAULT_MS_MAX);
        }
    }

    /// Keeps up until the node stops.
    fn follow(&self, pause: &mut u64) -> Result<(), RecoverError> {
        let mut reader: Option<Box<dyn Reader>> = None;
        while !self.is_stopping() {
            if self.change_shadows()? {
                reader = None;
            }
            let walk = match &mut reader {
                Some(walk) => walk,
                None => reader.insert(self.journal.reader(&self.cursor())?),
            };
            if self.replay(&mut **walk)? {
                *pause = SHADOW_FAULT_MS;
            }
            thread::park_timeout(Duration::from_millis(SHADOW_PAUSE_MS));
        }
        Ok(())
    }

    /// Where to read on: shards that have no shadow need nothing.
    fn cursor(&self) -> Cursor {
        let end = self.journal.end();
        let shards = self.shards();
        let at = |id| shards.get(&id).map_or(end.get(id), |(_, next)| *next);
        Cursor::of((0..end.shards()).map(|shard| at(ShardId(shard))))
    }

    /// The shards that are to have shadows: those that are elsewhere, beginning behind the first that is here, so that nodes
    /// with room for some of them do not all choose the same.
    fn wanted(&self) -> Vec<ShardId> {
        let count = self.links.len();
        let stands = |shard: usize| self.links[shard].standing().clone();
        let first = (0..count).find(|shard| stands(*shard) == Standing::Serving).unwrap_or(0);
        let elsewhere = (0..count).map(|after| (first + after) % count).filter(|s| stands(*s) == Standing::Elsewhere);
        elsewhere.take(self.most).map(|shard| ShardId(shard as u16)).collect()
    }

    /// Lets go of shadows that are not wanted any more and makes those that are missing; whether there are new ones.
    fn change_shadows(&self) -> Result<bool, RecoverError> {
        let wanted = self.wanted();
        let missing: Vec<ShardId> = {
            let mut shards = self.shards();
            shards.retain(|id, _| wanted.contains(id));
            wanted.into_iter().filter(|id| !shards.contains_key(id)).collect()
        };
        if missing.is_empty() {
            return Ok(false);
        }
        let end = self.journal.end();
        let mut recovering = Recovering::from_snapshots(&*self.snapshots, &end, |id| missing.contains(&id))?;
        let mut reader = recovering.reader(&end, |from| self.journal.reader(from))?;
        // In pieces, with pauses: the shards that are here need the cores.
        while !recovering.replay(&mut *reader, SHADOW_PIECE_EVENTS)? {
            if self.is_stopping() {
                return Ok(false);
            }
            thread::park_timeout(Duration::from_millis(SHADOW_PAUSE_MS));
        }
        let mut shards = self.shards();
        for id in missing {
            // One that was taken up meanwhile needs none.
            if *self.links[usize::from(id.0)].standing() == Standing::Elsewhere
                && let Some(shadow) = recovering.take(id)
            {
                shards.insert(id, shadow);
            }
        }
        Ok(true)
    }

    /// Replays what has come in; whether there was anything. Nobody waits for the reader under the lock.
    fn replay(&self, reader: &mut dyn Reader) -> Result<bool, RecoverError> {
        let mut any = false;
        while !self.is_stopping() {
            let Some(entry) = reader.next()? else { break };
            if let Some((shard, next)) = self.shards().get_mut(&entry.shard)
                && entry.position >= *next
            {
                *next = recover::replay_one(shard, &entry)?.1;
                any = true;
            }
        }
        Ok(any)
    }
}
