//! Copying a journal while it is written to. What is sealed never changes, and in front of the durable end nothing does: so
//! all but the last segment are copied as they are, and the last one up to the last group that is whole. The copy is a
//! journal like any other, with everything that was durable when the copying began, and says itself how far it goes.

use std::io;
use std::thread;
use std::time::Duration;

use super::{
    JournalError,
    buffer::{AlignedBuffer, BLOCK},
    disk::{Access, Disk, DiskFile},
    log::{End, write_zeros},
    reached,
    recover::{Ending, Folder, Last, find_last, missing},
    scan::{Mark, Walker, packed_name, raw_name},
};

/// How much is copied at once, in bytes.
const CHUNK: usize = 1024 * 1024;
/// How often a last segment that does not hold is looked at again: a write that was under way is done by then.
const TRIES: u32 = 25;
/// How long in between.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Where the copy ends.
    pub end: End,
    /// Bytes of all segments.
    pub bytes: u64,
}

/// Copies the journal of one disk to another, which is empty and this process's alone.
///
/// # Errors
/// [`JournalError::Empty`], [`JournalError::NotWhole`], [`JournalError::Damaged`] as far as it is met on the way (whoever
/// wants to be sure audits the copy), or the disks' own.
pub fn copy<S: Disk, T: Disk>(from: &S, to: &T) -> Result<Copied, JournalError> {
    // Asked first: a journal that grows meanwhile is never behind it.
    let had_reached = reached::read(from)?;
    let mut bytes = 0;
    let mut copied = None;
    for _ in 0..TRIES {
        let folder = Folder::list(from)?;
        let Ending { last, cut } = find_last(from, &folder)?;
        let Some(last) = last else { return Err(JournalError::Empty) };
        for &number in
            folder.all().iter().filter(|number| **number < last.number && copied.is_none_or(|at| **number > at))
        {
            bytes += copy_sealed(from, to, number)?;
        }
        copied = Some(last.number - 1);
        // Sealed and compressed since: then there is another that is the last.
        let file = match from.open(&raw_name(last.number), Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(|error| JournalError::io("open", &raw_name(last.number), error))?,
        };
        let Some(mark) = last_whole_group(from, last.number)? else { continue };
        let end = End { segment: last.number, offset: mark.offset, lsn: mark.lsn, chain: mark.chain };
        if let Some(why) = missing(had_reached, end.lsn, None, cut.as_ref()) {
            return Err(JournalError::NotWhole { ends: end.lsn, why });
        }
        bytes += copy_open(&file, to, &last, end.offset)?;
        reached::write(to, &end)?;
        return Ok(Copied { end, bytes });
    }
    Err(JournalError::Options("the journal grows faster than it can be copied: try again in a quieter moment".into()))
}

/// Behind the last group that is whole; `None` if the segment has just been compressed.
fn last_whole_group<D: Disk>(disk: &D, number: u64) -> Result<Option<Mark>, JournalError> {
    let mut stopped_at = None;
    for tries in 1.. {
        let mut walker = match Walker::open_raw(disk, number) {
            Err(JournalError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(None) => return Err(JournalError::damaged(&raw_name(number), 0, "the segment header vanished")),
            opened => opened?.expect("it is not unwritten"),
        };
        let why = loop {
            match walker.advance(u64::MAX) {
                Ok(true) => {}
                Ok(false) => return Ok(Some(walker.mark())),
                Err(why @ JournalError::Damaged { .. }) => break why,
                Err(other) => return Err(other),
            }
        };
        let mark = walker.mark();
        // It has gone on meanwhile: what does not hold is the next write, under way now, and not the one from before.
        if stopped_at.is_some_and(|before| before != mark.offset) {
            return Ok(Some(mark));
        }
        if tries == TRIES {
            return Err(why);
        }
        stopped_at = Some(mark.offset);
        thread::sleep(PAUSE);
    }
    unreachable!("the loop has no end of its own")
}

fn copy_sealed<S: Disk, T: Disk>(from: &S, to: &T, number: u64) -> Result<u64, JournalError> {
    let raw = raw_name(number);
    let (name, file) = match from.open(&raw, Access::Read) {
        Ok(file) => (raw, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let packed = packed_name(number);
            let file = from.open(&packed, Access::Plain).map_err(|error| JournalError::io("open", &packed, error))?;
            (packed, file)
        }
        Err(error) => return Err(JournalError::io("open", &raw, error)),
    };
    let len = file.len().map_err(|error| JournalError::io("look at", &name, error))?;
    let copy = to.create(&name, 0, Access::Plain).map_err(|error| JournalError::io("create", &name, error))?;
    copy_bytes(&file, &copy, &name, len)?;
    copy.sync().map_err(|error| JournalError::io("flush", &name, error))?;
    Ok(len)
}

/// The segment that is written to, up to `end`; zeros to its full length behind that.
fn copy_open<F: DiskFile, T: Disk>(from: &F, to: &T, last: &Last, end: u64) -> Result<u64, JournalError> {
    let (name, len) = (raw_name(last.number), last.header.segment_bytes);
    let copy = to.create(&name, len, Access::Plain).map_err(|error| JournalError::io("create", &name, error))?;
    copy_bytes(from, &copy, &name, end)?;
    write_zeros(&copy, end, len, &mut |_| true).map_err(|error| JournalError::io("zero", &name, error))?;
    copy.sync().map_err(|error| JournalError::io("flush", &name, error))?;
    Ok(len)
}

fn copy_bytes<F: DiskFile, T: DiskFile>(from: &F, to: &T, name: &str, len: u64) -> Result<(), JournalError> {
    let mut buffer = AlignedBuffer::zeroed(CHUNK);
    let mut at = 0;
    while at < len {
        let wanted = (len - at).min(CHUNK as u64) as usize;
        // By whole blocks, as a direct read wants; what is behind `len` is left out.
        let room = &mut buffer.bytes_mut()[..wanted.next_multiple_of(BLOCK)];
        let read = from.read_at(at, room).map_err(|error| JournalError::io("read", name, error))?.min(wanted);
        if read == 0 {
            return Err(JournalError::damaged(name, at, "the file ends too soon"));
        }
        to.write_at(at, &buffer.bytes()[..read]).map_err(|error| JournalError::io("write", name, error))?;
        at += read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;
    use crate::journal::{disk::FolderDisk, log::LogOptions, offline::Offline, pack::pack_segment, recover::recover};
    use crate::testing::faults::FaultDisk;
    use engine::model::ids::ShardId;

    const OPTIONS: LogOptions =
        LogOptions { shards: 2, segment_bytes: 64 << 10, group_bytes_max: 16 << 10, create: true, accept_loss: None };

    fn read(disk: impl Disk) -> Vec<Vec<u8>> {
        let mut offline = Offline::on(Arc::new(disk)).expect("opens");
        assert_eq!((offline.missing(), offline.torn()), (None, None));
        let mut records = Vec::new();
        while let Some(entry) = offline.next().expect("holds") {
            records.push(entry.payload.to_vec());
        }
        records
    }

    #[test]
    fn a_copy_is_the_journal_and_goes_on_as_one() {
        let disk = FaultDisk::new();
        let (mut writer, _) = recover(Arc::new(disk.clone()), OPTIONS).expect("new");
        for number in 0..60_u8 {
            writer.stage(ShardId(u16::from(number % 2)), &vec![number; 4_000]).expect("fits");
            writer.flush().expect("no faults");
            for sealed in writer.take_sealed().into_iter().filter(|sealed| sealed % 2 == 1) {
                pack_segment(&disk, sealed, &mut |_| true).expect("packs");
            }
        }
        let to = FaultDisk::new();
        let copied = copy(&disk, &to).expect("copies");
        assert_eq!(copied.end, writer.end());
        assert_eq!(read(to.clone()), read(disk));
        let (mut goes_on, _) = recover(Arc::new(to.restart(1)), OPTIONS).expect("recovers");
        assert_eq!(goes_on.end(), copied.end);
        goes_on.stage(ShardId(0), b"after").expect("fits");
        goes_on.flush().expect("no faults");
    }

    #[test]
    fn beside_a_writer_that_never_rests() {
        let (from, to) = (tempfile::tempdir().expect("temp dir"), tempfile::tempdir().expect("temp dir"));
        let disk = Arc::new(FolderDisk::lock(from.path()).expect("free"));
        let (mut writer, _) = recover(Arc::clone(&disk), OPTIONS).expect("new");
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let busy = scope.spawn(|| {
                let mut number = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    writer.stage(ShardId(0), &number.to_le_bytes().repeat(300)).expect("fits");
                    writer.flush().expect("no faults");
                    for sealed in writer.take_sealed() {
                        pack_segment(&*disk, sealed, &mut |_| true).expect("packs");
                    }
                    number += 1;
                }
                number
            });
            for nth in 0..6 {
                let folder = to.path().join(nth.to_string());
                std::fs::create_dir(&folder).expect("makes");
                let source = FolderDisk::read_only(from.path()).expect("there");
                let target = FolderDisk::lock(&folder).expect("free");
                let copied = copy(&source, &target).expect("copies");
                drop(target);
                let records = read(FolderDisk::read_only(&folder).expect("there"));
                assert_eq!(records.len() as u64, copied.end.lsn);
                assert!(records.iter().zip(0_u64..).all(|(record, number)| record[..8] == number.to_le_bytes()));
            }
            stop.store(true, Ordering::Relaxed);
            assert!(busy.join().expect("no panic") > 0);
        });
    }

    #[test]
    fn a_journal_that_is_not_whole_is_not_copied() {
        let disk = FaultDisk::new();
        let (mut writer, _) = recover(Arc::new(disk.clone()), OPTIONS).expect("new");
        for _ in 0..3 {
            writer.stage(ShardId(0), &[7; 3_000]).expect("fits");
            writer.flush().expect("no faults");
        }
        reached::write(&disk, &writer.end()).expect("written");
        let mut bytes = disk.contents(&raw_name(1)).expect("there");
        bytes[2 * BLOCK..].fill(0);
        disk.put(&raw_name(1), bytes);
        assert!(matches!(copy(&disk, &FaultDisk::new()), Err(JournalError::NotWhole { ends: 1, .. })));
    }
}
