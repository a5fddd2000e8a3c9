//! What a device has promised to send and has no final answer for, kept on its disk: a device that restarts goes on
//! with its numbers and its unanswered scans.
//!
//! An append-only file: 16 bytes `tapgate.queue.1` and a zero, the device's id u64, then entries of length u16, CRC32C
//! u32 (over length and content), content; all little endian. Contents:
//!
//! | first byte | then | |
//! |---|---|---|
//! | 1 | upto u64 | numbers below `upto` may have been used. Flushed before the first of them is |
//! | 2 | a command's frame | to be sent, and may have been at any time since (`floor` in it means nothing) |
//! | 3 | seq u64 · verdict u8 | the answer was shown, and is not confirmed |
//! | 4 | seq u64 | answered for good |
//! | 5 | zone u8 | where the device stands, as the last welcome said |
//! | 6 | seq u64 | may have been sent from here on. Flushed before it is |
//! | 7 | a command's frame | to be sent, and never was yet: there is no connection |
//! | 8 | seq u64 | if it succeeds and nobody waits any more, it is to be given back |
//! | 9 | ahead i64 | by how many ms the server's clock is ahead of the device's, as the last welcome said |
//!
//! Entries are read up to the first that does not hold; what a crash tore off was never sent, or is below.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use engine::gates::command::Verdict;
use engine::model::ids::{DeviceId, ZONES_MAX, ZoneNo};
use tapgate_wire::decode;

use super::identity::file;
use super::{ClientError, replace};

/// The most commands that wait: 10,000 raw QRs of 513 B are 5.5 MiB, 10,000 printed ones 0.9 MiB.
pub const QUEUE_MAX: usize = 10_000;
/// Numbers reserved at once: one flush for so many scans.
const RESERVE: u64 = 1_024;
/// The file is written anew when it has this many bytes more than twice what it holds.
const SLACK_BYTES: u64 = 1 << 20;
/// The clocks' difference is written down anew when it has changed by so much.
const AHEAD_SLACK_MS: i64 = 50;
/// After damage, no number below this many above the last known one is used: the file is at most
/// 2 × 5.5 MiB + 1 MiB, a number takes 37 bytes of it at least, so at most 350,000 numbers can be lost with it.
const SKIP_AFTER_DAMAGE: u64 = 1 << 20;

const MAGIC: &[u8; 16] = b"tapgate.queue.1\0";
const RESERVED: u8 = 1;
const PUT: u8 = 2;
const SHOWN: u8 = 3;
const DONE: u8 = 4;
const ZONE: u8 = 5;
const SENT: u8 = 6;
const PUT_UNSENT: u8 = 7;
const GIVE_BACK: u8 = 8;
const AHEAD: u8 = 9;

/// What was left unanswered: the command's frame, and what was shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Retained {
    pub(super) frame: Vec<u8>,
    pub(super) shown: Option<Verdict>,
    /// It may have been sent.
    pub(super) sent: bool,
    /// A late success is to be given back.
    pub(super) give_back: bool,
}

/// The file, or nothing, for devices that live in memory only (tests, load).
pub(super) struct Queue {
    device: DeviceId,
    disk: Option<Disk>,
    /// Numbers below may have been used.
    reserved: u64,
    pub(super) zone: Option<ZoneNo>,
    /// By how much the server's clock is ahead, in ms.
    pub(super) ahead_ms: i64,
}

struct Disk {
    path: PathBuf,
    file: File,
    len: u64,
    live: u64,
    sizes: BTreeMap<u64, u64>,
    /// Held as long as the queue lives: two processes with one queue would use a number twice.
    _lock: File,
}

/// What was found on opening.
pub(super) struct Recovered {
    /// By number.
    pub(super) kept: BTreeMap<u64, Retained>,
    /// The first number that was never used.
    pub(super) next_seq: u64,
}

impl Queue {
    pub(super) fn in_memory(device: DeviceId) -> Self {
        Self { device, disk: None, reserved: 0, zone: None, ahead_ms: 0 }
    }

    /// Opens or makes the file.
    pub(super) fn open(path: &Path, device: DeviceId) -> Result<(Self, Recovered), ClientError> {
        let failed = |error| file(path, error);
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(lock_path);
        let lock = lock.map_err(failed)?;
        lock.try_lock().map_err(|_| ClientError::InUse(path.to_owned()))?;
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => head(device),
            Err(error) => return Err(failed(error)),
        };
        if bytes.get(..24) != Some(&head(device)) {
            return Err(ClientError::Damaged(path.to_owned()));
        }
        let mut queue = Self::in_memory(device);
        let mut kept = BTreeMap::new();
        let whole = queue.replay(&bytes[24..], &mut kept);
        if !whole {
            queue.reserved = queue.reserved.saturating_add(SKIP_AFTER_DAMAGE);
        }
        let next_seq = queue.reserved;
        // Written anew: what is torn or done goes, and appending starts behind something whole.
        let (bytes, sizes) = queue.image(&kept);
        replace(path, &bytes).map_err(failed)?;
        let file = OpenOptions::new().append(true).open(path).map_err(failed)?;
        let len = bytes.len() as u64;
        queue.disk = Some(Disk { path: path.to_owned(), file, len, live: len, sizes, _lock: lock });
        Ok((queue, Recovered { kept, next_seq }))
    }

    /// Takes in every entry that holds; false if something behind them does not.
    fn replay(&mut self, mut bytes: &[u8], kept: &mut BTreeMap<u64, Retained>) -> bool {
        while !bytes.is_empty() {
            let Some((content, rest)) = entry(bytes) else { return false };
            if self.replay_one(content, kept).is_none() {
                return false;
            }
            bytes = rest;
        }
        true
    }

    fn replay_one(&mut self, content: &[u8], kept: &mut BTreeMap<u64, Retained>) -> Option<()> {
        let (&kind, rest) = content.split_first()?;
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_le_bytes);
        match kind {
            RESERVED => self.reserved = self.reserved.max(number(rest)?),
            PUT | PUT_UNSENT => {
                let seq = seq_of(rest)?;
                self.reserved = self.reserved.max(seq.checked_add(1)?);
                kept.insert(seq, Retained { frame: rest.to_vec(), sent: kind == PUT, ..Retained::default() });
            }
            SENT | GIVE_BACK => {
                if let Some(kept) = kept.get_mut(&number(rest)?) {
                    *(if kind == SENT { &mut kept.sent } else { &mut kept.give_back }) = true;
                }
            }
            AHEAD => self.ahead_ms = number(rest)?.cast_signed(),
            SHOWN => {
                let (seq, verdict) = rest.split_at_checked(8)?;
                let verdict = Verdict::from_number(*verdict.first()?)?;
                if let Some(kept) = kept.get_mut(&number(seq)?) {
                    kept.shown = Some(verdict);
                }
            }
            DONE => {
                kept.remove(&number(rest)?);
            }
            ZONE => self.zone = Some(*rest.first()?).filter(|zone| usize::from(*zone) < ZONES_MAX).map(ZoneNo),
            _ => return None,
        }
        Some(())
    }

    /// The file as it would be without its past.
    fn image(&self, kept: &BTreeMap<u64, Retained>) -> (Vec<u8>, BTreeMap<u64, u64>) {
        let mut bytes = head(self.device);
        append(&mut bytes, &[&[RESERVED], &self.reserved.to_le_bytes()]);
        if let Some(zone) = self.zone {
            append(&mut bytes, &[&[ZONE, zone.0]]);
        }
        append(&mut bytes, &[&[AHEAD], &self.ahead_ms.to_le_bytes()]);
        let mut sizes = BTreeMap::new();
        for (&seq, kept) in kept {
            let before = bytes.len();
            append(&mut bytes, &[&[if kept.sent { PUT } else { PUT_UNSENT }], &kept.frame]);
            if kept.give_back {
                append(&mut bytes, &[&[GIVE_BACK], &seq.to_le_bytes()]);
            }
            if let Some(shown) = kept.shown {
                append(&mut bytes, &[&[SHOWN], &seq.to_le_bytes(), &[shown.number()]]);
            }
            sizes.insert(seq, (bytes.len() - before) as u64);
        }
        (bytes, sizes)
    }

    /// Makes sure that `seq` and those before it are never used again, whatever happens.
    pub(super) fn reserve(&mut self, seq: u64) -> Result<(), ClientError> {
        if seq < self.reserved {
            return Ok(());
        }
        let upto = seq.saturating_add(RESERVE);
        self.write(&[&[RESERVED], &upto.to_le_bytes()], true)?;
        self.reserved = upto;
        Ok(())
    }

    /// A command that is to be sent. If it may be at any moment, it counts as sent from now on. If not, nobody else will
    /// have it for a while, so a power cut is not to take it: it is flushed.
    pub(super) fn put(&mut self, seq: u64, kept: &Retained) -> Result<(), ClientError> {
        let kind = if kept.sent { PUT } else { PUT_UNSENT };
        let mut written = self.write(&[&[kind], &kept.frame], !kept.sent && !kept.give_back)?;
        if kept.give_back {
            written += self.write(&[&[GIVE_BACK], &seq.to_le_bytes()], !kept.sent)?;
        }
        if let Some(disk) = &mut self.disk {
            disk.live += written;
            disk.sizes.insert(seq, written);
        }
        Ok(())
    }

    /// These go out now for the first time. Flushed: whoever restarts must not believe that they never did.
    pub(super) fn sent(&mut self, seqs: &[u64]) -> Result<(), ClientError> {
        for seq in seqs {
            self.write(&[&[SENT], &seq.to_le_bytes()], false)?;
        }
        self.sync()
    }

    /// Makes all that was written durable.
    pub(super) fn sync(&mut self) -> Result<(), ClientError> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        disk.file.sync_data().map_err(|error| file(&disk.path, error))
    }

    /// By how much the server's clock is ahead. A little more or less is not written down.
    pub(super) fn is_ahead(&mut self, ahead_ms: i64) -> Result<(), ClientError> {
        if (self.ahead_ms - ahead_ms).abs() < AHEAD_SLACK_MS {
            return Ok(());
        }
        self.ahead_ms = ahead_ms;
        self.write(&[&[AHEAD], &ahead_ms.to_le_bytes()], false).map(|_| ())
    }

    /// The answer was shown, and is not final.
    pub(super) fn shown(&mut self, seq: u64, verdict: Verdict) -> Result<(), ClientError> {
        self.write(&[&[SHOWN], &seq.to_le_bytes(), &[verdict.number()]], false).map(|_| ())
    }

    /// Answered for good. May be lost by a crash: then it is sent again, and gets the same answer again.
    pub(super) fn done(&mut self, seq: u64) -> Result<(), ClientError> {
        self.write(&[&[DONE], &seq.to_le_bytes()], false)?;
        if let Some(disk) = &mut self.disk {
            disk.live -= disk.sizes.remove(&seq).unwrap_or(0);
        }
        Ok(())
    }

    /// Where the device stands.
    pub(super) fn stands_at(&mut self, zone: ZoneNo) -> Result<(), ClientError> {
        if self.zone == Some(zone) {
            return Ok(());
        }
        self.zone = Some(zone);
        self.write(&[&[ZONE, zone.0]], false).map(|_| ())
    }

    /// True when the file's past outweighs what it holds.
    pub(super) fn wants_compacting(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.len > 2 * disk.live + SLACK_BYTES)
    }

    /// Writes the file anew with just this.
    pub(super) fn compact(&mut self, kept: &BTreeMap<u64, Retained>) -> Result<(), ClientError> {
        let (bytes, sizes) = self.image(kept);
        let Some(disk) = &mut self.disk else { return Ok(()) };
        replace(&disk.path, &bytes).map_err(|error| file(&disk.path, error))?;
        disk.file = OpenOptions::new().append(true).open(&disk.path).map_err(|error| file(&disk.path, error))?;
        (disk.len, disk.live, disk.sizes) = (bytes.len() as u64, bytes.len() as u64, sizes);
        Ok(())
    }

    fn write(&mut self, parts: &[&[u8]], sync: bool) -> Result<u64, ClientError> {
        let Some(disk) = &mut self.disk else { return Ok(0) };
        let mut bytes = Vec::with_capacity(128);
        append(&mut bytes, parts);
        let written = disk.file.write_all(&bytes).and_then(|()| if sync { disk.file.sync_data() } else { Ok(()) });
        if let Err(error) = written {
            // Half an entry may be there now: whatever came behind it would not be read.
            let _ = disk.file.set_len(disk.len);
            return Err(file(&disk.path, error));
        }
        disk.len += bytes.len() as u64;
        Ok(bytes.len() as u64)
    }
}

fn head(device: DeviceId) -> Vec<u8> {
    [MAGIC.as_slice(), &device.0.to_le_bytes()].concat()
}

fn append(bytes: &mut Vec<u8>, parts: &[&[u8]]) {
    let content = parts.concat();
    let len = (content.len() as u16).to_le_bytes();
    bytes.extend_from_slice(&len);
    bytes.extend_from_slice(&checksum(&len, &content).to_le_bytes());
    bytes.extend_from_slice(&content);
}

fn entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let (content, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    (checksum(len, content) == u32::from_le_bytes(*crc)).then_some((content, rest))
}

fn checksum(len: &[u8; 2], content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(len), content)
}

fn seq_of(frame: &[u8]) -> Option<u64> {
    match decode(frame) {
        Ok(Some((command, len))) if len == frame.len() => command.seq(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::gates::command::Direction;
    use engine::model::ids::FestivalId;
    use engine::model::time::Timestamp;
    use tapgate_wire::{Credential, Frame, Scan};

    const DEVICE: DeviceId = DeviceId(7);

    fn scan(seq: u64) -> Vec<u8> {
        Frame::Scan(Scan {
            seq,
            floor: seq,
            captured_at: Timestamp(1),
            zone: ZoneNo(2),
            direction: Direction::Enter,
            shown: None,
            resent: false,
            credential: Credential::Raw(b"an advert"),
        })
        .to_bytes()
    }

    fn kept(seq: u64, sent: bool) -> Retained {
        Retained { frame: scan(seq), sent, ..Retained::default() }
    }

    #[test]
    fn what_was_never_sent_is_known_as_that_until_it_goes_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue");
        let (mut queue, _) = reopen(&path);
        for seq in 1..=3 {
            queue.reserve(seq).unwrap();
            queue.put(seq, &Retained { give_back: seq == 2, ..kept(seq, false) }).unwrap();
        }
        queue.is_ahead(-7_000).unwrap();
        queue.is_ahead(-7_040).unwrap();
        queue.sent(&[1, 2]).unwrap();
        drop(queue);
        for round in 0..2 {
            let (queue, found) = reopen(&path);
            let marks: Vec<_> = found.kept.values().map(|kept| (kept.sent, kept.give_back)).collect();
            assert_eq!(marks, [(true, false), (true, true), (false, false)], "round {round}");
            assert_eq!(queue.ahead_ms, -7_000);
        }
        let left = crate::unanswered(&path, DEVICE).unwrap();
        assert_eq!(
            left.iter().map(|left| (left.seq, left.in_doubt)).collect::<Vec<_>>(),
            [(1, true), (2, true), (3, false)]
        );
        crate::settle(&path, DEVICE, &[2, 9]).unwrap();
        assert_eq!(reopen(&path).1.kept.keys().copied().collect::<Vec<_>>(), [1, 3]);
    }

    fn reopen(path: &Path) -> (Queue, Recovered) {
        Queue::open(path, DEVICE).unwrap()
    }

    /// Five scans: 1 and 2 answered, 3 shown, 4 and 5 never sent.
    fn a_busy_minute(path: &Path) -> Queue {
        let (mut queue, found) = reopen(path);
        assert_eq!((found.next_seq, found.kept.len()), (0, 0));
        queue.stands_at(ZoneNo(2)).unwrap();
        for seq in 1..=5 {
            queue.reserve(seq).unwrap();
            queue.put(seq, &kept(seq, seq <= 3)).unwrap();
        }
        queue.done(1).unwrap();
        queue.done(2).unwrap();
        queue.shown(3, Verdict::Admitted).unwrap();
        queue
    }

    #[test]
    fn a_device_that_restarts_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue");
        drop(a_busy_minute(&path));
        for round in 0..3 {
            let (queue, found) = reopen(&path);
            assert_eq!(found.next_seq, 1 + RESERVE, "round {round}: reserved numbers are gone, used or not");
            assert_eq!(Vec::from_iter(found.kept.keys().copied()), [3, 4, 5]);
            assert_eq!(found.kept[&3], Retained { shown: Some(Verdict::Admitted), ..kept(3, true) });
            assert_eq!(found.kept[&4], kept(4, false), "never sent");
            assert_eq!(queue.zone, Some(ZoneNo(2)));
        }
    }

    #[test]
    fn cut_or_damaged_anywhere_no_number_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue");
        drop(a_busy_minute(&path));
        let whole = fs::read(&path).unwrap();
        for at in 24..whole.len() {
            for damage in [true, false] {
                let mut bytes = whole.clone();
                if damage {
                    bytes[at] ^= 0x10;
                } else {
                    bytes.truncate(at);
                }
                fs::write(&path, &bytes).unwrap();
                let (_, found) = reopen(&path);
                assert!(found.kept.keys().all(|&seq| seq < found.next_seq));
                // A cut between two entries looks like an honest end; before the first reservation nothing was sent.
                let cut_before_use = !damage && !bytes[24..].windows(8).any(|w| w == (1 + RESERVE).to_le_bytes());
                assert!(found.next_seq > 5 || cut_before_use, "byte {at}: {}", found.next_seq);
            }
        }
    }

    #[test]
    fn the_file_does_not_grow_with_its_past() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue");
        let mut queue = a_busy_minute(&path);
        let mut all: BTreeMap<u64, Retained> = (3..=5).map(|seq| (seq, kept(seq, seq <= 3))).collect();
        all.get_mut(&3).unwrap().shown = Some(Verdict::Admitted);
        let mut compacted = 0;
        for seq in 6..60_000 {
            queue.reserve(seq).unwrap();
            queue.put(seq, &kept(seq, true)).unwrap();
            queue.done(seq).unwrap();
            if queue.wants_compacting() {
                queue.compact(&all).unwrap();
                compacted += 1;
            }
        }
        assert!(compacted >= 2);
        assert!(fs::metadata(&path).unwrap().len() < SLACK_BYTES + 4_096);
        drop(queue);
        let (_, found) = reopen(&path);
        assert_eq!(found.kept, all);
        assert!(found.next_seq >= 60_000);
    }

    #[test]
    fn a_queue_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue");
        let queue = a_busy_minute(&path);
        assert!(matches!(Queue::open(&path, DEVICE), Err(ClientError::InUse(_))));
        drop(queue);
        let other = DeviceId::new(FestivalId(1), 1);
        assert!(matches!(Queue::open(&path, other), Err(ClientError::Damaged(_))), "another device's queue");
        assert!(Queue::open(&path, DEVICE).is_ok());
    }
}
