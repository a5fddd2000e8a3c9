//! What lies on the simulated machine's disk beside the journal: snapshots that may be damaged, and the little there is
//! to say of how the journal's own disk ([`storage::testing::faults`]) is used.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use engine::model::ids::ShardId;
use storage::journal::Position;
use storage::journal::file::Options;
use storage::journal::log::LogOptions;
use storage::snapshots::{Accept, KEPT, SnapshotError, SnapshotMeta, Snapshots};

/// How many shards the simulated node has: two festivals and the platform, each on its own or not; and two thirds of
/// all transfers go from one to another.
pub(super) const SHARDS: u16 = 3;

/// A small log: a run crosses a dozen segments, and a group spans several of the disk's sectors.
pub(super) fn options() -> Options {
    let log = LogOptions {
        shards: SHARDS,
        segment_bytes: 44 << 10,
        group_bytes_max: 16 << 10,
        create: true,
        accept_loss: None,
    };
    Options { log, ..Options::default() }
}

/// Snapshots that can be spoilt. One that is spoilt is passed over, as one that fails its checksum would be.
#[derive(Default)]
pub(super) struct SpoiltSnapshots {
    kept: Mutex<BTreeMap<ShardId, Vec<Kept>>>,
}

struct Kept {
    meta: SnapshotMeta,
    body: Vec<u8>,
    whole: bool,
}

impl SpoiltSnapshots {
    fn kept(&self) -> MutexGuard<'_, BTreeMap<ShardId, Vec<Kept>>> {
        self.kept.lock().expect("nothing panics under this lock")
    }

    /// The newest snapshot of this shard no longer verifies.
    pub(super) fn spoil(&self, shard: ShardId) {
        if let Some(newest) = self.kept().get_mut(&shard).and_then(|kept| kept.last_mut()) {
            newest.whole = false;
        }
    }
}

impl Snapshots for SpoiltSnapshots {
    fn save(&self, meta: &SnapshotMeta, body: &[u8]) -> Result<(), SnapshotError> {
        let mut all = self.kept();
        let kept = all.entry(meta.shard).or_default();
        kept.retain(|other| other.meta.seq != meta.seq);
        kept.push(Kept { meta: meta.clone(), body: body.to_vec(), whole: true });
        kept.sort_by_key(|kept| kept.meta.seq);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
        Ok(())
    }

    fn newest(&self, shard: ShardId, within: Position, accept: &mut Accept<'_>) -> Result<bool, SnapshotError> {
        let mut all = self.kept();
        let kept = all.entry(shard).or_default();
        kept.retain(|kept| kept.meta.position <= within);
        let mut newest_first = kept.iter().rev().filter(|kept| kept.whole);
        Ok(newest_first.any(|kept| accept(&kept.meta, &kept.body)))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn spoilt_snapshots_keep_what_every_store_of_snapshots_promises() {
        storage::testing::snapshots::suite(&super::SpoiltSnapshots::default());
    }
}
