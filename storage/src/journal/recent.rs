//! The newest groups, kept in memory for whoever follows the journal. Read back from the disk they would stand in the
//! way of the next durable write: a read model that caught up every 50 ms cost every fiftieth scan a millisecond.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

/// How many bytes are kept: 80 ms of the highest load measured (2.2 M scans a second of about 90 B), and a good while of
/// any other. Whoever is further behind reads the disk.
pub(crate) const RECENT_BYTES_MAX: usize = 16 << 20;

/// Durable groups in the order they were written.
#[derive(Default)]
pub(crate) struct Recent(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    groups: VecDeque<Group>,
    bytes: usize,
}

#[derive(Clone)]
struct Group {
    segment: u64,
    /// From the start of the segment.
    offset: u64,
    bytes: Arc<[u8]>,
}

impl Group {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

impl Recent {
    /// A group has become durable.
    pub(crate) fn wrote(&self, segment: u64, offset: u64, bytes: &[u8]) {
        let group = Group { segment, offset, bytes: bytes.into() };
        let mut kept = self.kept();
        kept.bytes += group.bytes.len();
        kept.groups.push_back(group);
        while kept.bytes > RECENT_BYTES_MAX {
            let oldest = kept.groups.pop_front().expect("there are bytes");
            kept.bytes -= oldest.bytes.len();
        }
    }

    /// Copies from `offset` of a segment on, until `room` is full or the newest group ends. `None` if `offset` is not
    /// kept, or fewer than `least` bytes are: the disk knows.
    pub(crate) fn read(&self, segment: u64, offset: u64, room: &mut [u8], least: usize) -> Option<usize> {
        let mut done = 0;
        while done < room.len() {
            let at = offset + done as u64;
            let Some(group) = self.find(segment, at) else { break };
            let from = (at - group.offset) as usize;
            let len = (group.bytes.len() - from).min(room.len() - done);
            room[done..done + len].copy_from_slice(&group.bytes[from..from + len]);
            done += len;
        }
        (done > 0 && done >= least).then_some(done)
    }

    /// The group that holds this byte. Copied from outside the lock, which the journal's thread needs.
    fn find(&self, segment: u64, offset: u64) -> Option<Group> {
        let kept = self.kept();
        let after = kept.groups.partition_point(|group| (group.segment, group.offset) <= (segment, offset));
        let group = kept.groups.get(after.checked_sub(1)?)?;
        (group.segment == segment && offset < group.end()).then(|| group.clone())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("nothing panics under this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(tag: u8, blocks: usize) -> Vec<u8> {
        (0..blocks * 4096).map(|i| tag ^ (i / 4096) as u8).collect()
    }

    #[test]
    fn what_is_kept_reads_as_the_disk_would() {
        let recent = Recent::default();
        recent.wrote(1, 4096, &group(1, 2));
        recent.wrote(1, 3 * 4096, &group(9, 1));
        recent.wrote(2, 4096, &group(5, 1));
        let mut room = vec![0; 4 * 4096];
        assert_eq!(
            recent.read(1, 4096, &mut room, 1),
            Some(3 * 4096),
            "to the segment's newest group, not into the next"
        );
        assert_eq!(room[..2 * 4096], group(1, 2));
        assert_eq!(room[2 * 4096..3 * 4096], group(9, 1));
        assert_eq!(recent.read(1, 2 * 4096, &mut room[..4096], 4096), Some(4096), "from the middle of a group");
        assert_eq!(room[..4096], group(1, 2)[4096..]);
        assert_eq!(recent.read(1, 4096, &mut room, 4 * 4096), None, "less than is needed");
        assert_eq!(recent.read(1, 0, &mut room, 1), None, "before the oldest");
        assert_eq!(recent.read(1, 4 * 4096, &mut room, 1), None, "behind the newest");
        assert_eq!(recent.read(3, 4096, &mut room, 1), None);
    }

    #[test]
    fn the_oldest_makes_room() {
        let recent = Recent::default();
        let blocks = RECENT_BYTES_MAX / 4096 / 4;
        for n in 0..5 {
            recent.wrote(1, 4096 + n * (blocks * 4096) as u64, &group(n as u8, blocks));
        }
        let mut room = vec![0; 4096];
        assert_eq!(recent.read(1, 4096, &mut room, 1), None);
        assert_eq!(recent.read(1, 4096 + (blocks * 4096) as u64, &mut room, 1), Some(4096));
        assert!(recent.kept().bytes <= RECENT_BYTES_MAX);
    }
}
