//! How far the log had been acknowledged, known from a second place: the file `reached` beside the segments.
//!
//! A tail that a crash has torn was never acknowledged, and is cut back. A tail that somebody has cut off, or a backup that
//! lacks its newest part, looks the same from the segments alone. This file tells the two apart: it is never ahead of what
//! is durable, and at most a second behind it. So a log that ends before it has lost records that somebody was told of.
//!
//! Two slots of 4,096 bytes, written in turn and in place, so that one of them is whole at any time and writing costs the
//! file system nothing but the one block. The valid slot with the greater generation counts. Little endian:
//!
//! ```text
//!    0   8  magic "TAPGATER"
//!    8   4  format version, 1
//!   12   4  crc32c of the block, with this field zero
//!   16   8  generation: how many times it has been written
//!   24   8  lsn of the first record that was not acknowledged yet
//!   32  16  chain hash before that record
//!   48   8  segment in which the log ended
//!   56   8  where in it, in bytes
//! ```

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::{
    Chain, JournalError,
    buffer::{AlignedBuffer, BLOCK},
    disk::{Access, Disk, DiskFile},
    log::End,
    reader::Tip,
};

/// The file's name.
pub const NAME: &str = "reached";
const MAGIC: [u8; 8] = *b"TAPGATER";
const VERSION: u32 = 1;
/// How often it is written while the log grows: twice as often as is promised, so that a slow disk keeps the promise too.
const EVERY: Duration = Duration::from_millis(500);

/// How far the log had been acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    generation: u64,
    /// The lsn of the first record that was not acknowledged yet.
    pub lsn: u64,
    /// The chain hash before it.
    pub chain: Chain,
    /// The segment in which the log ended.
    pub segment: u64,
    /// Where in it, in bytes.
    pub offset: u64,
}

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// There is none: the log is new, or older than this file.
    Missing,
    /// Neither slot holds.
    Unreadable,
    /// This far.
    Reached(Reached),
}

impl Witness {
    /// What it says, if it says anything.
    pub fn known(self) -> Option<Reached> {
        match self {
            Self::Reached(reached) => Some(reached),
            Self::Missing | Self::Unreadable => None,
        }
    }
}

/// Reads it. Changes nothing.
///
/// # Errors
/// The disk's own. A file that does not hold is no error: it is a witness that says nothing.
pub fn read<D: Disk>(disk: &D) -> Result<Witness, JournalError> {
    let file = match disk.open(NAME, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Witness::Missing),
        Err(error) => return Err(JournalError::io("open", NAME, error)),
    };
    read_slots(&file).map_err(|error| JournalError::io("read", NAME, error))
}

fn read_slots<F: DiskFile>(file: &F) -> io::Result<Witness> {
    let mut both = AlignedBuffer::zeroed(2 * BLOCK);
    let read = file.read_at(0, both.bytes_mut())?;
    let newest = both.bytes()[..read].chunks_exact(BLOCK).filter_map(decode).max_by_key(|slot| slot.generation);
    Ok(newest.map_or(Witness::Unreadable, Witness::Reached))
}

/// Writes down that the log is durable up to `end`, which must be so. Returns when that is durable itself.
///
/// # Errors
/// The disk's own.
pub fn write<D: Disk>(disk: &D, end: &End) -> Result<(), JournalError> {
    File::open(disk)?.write(end)
}

/// The file, open for writing.
struct File<F: DiskFile> {
    file: F,
    generation: u64,
}

impl<F: DiskFile> File<F> {
    fn open<D: Disk<File = F>>(disk: &D) -> Result<Self, JournalError> {
        let fault = |doing| move |error| JournalError::io(doing, NAME, error);
        if let Witness::Reached(reached) = read(disk)? {
            let file = disk.open(NAME, Access::Log).map_err(fault("open"))?;
            return Ok(Self { file, generation: reached.generation });
        }
        // It takes its name once it has its length, so that whoever sees it can write to it in place.
        let unfinished = format!("{NAME}.tmp");
        let file = disk.create(&unfinished, 2 * BLOCK as u64, Access::Log).map_err(fault("create"))?;
        file.write_at(0, AlignedBuffer::zeroed(2 * BLOCK).bytes()).map_err(fault("write"))?;
        file.sync().map_err(fault("flush"))?;
        disk.rename(&unfinished, NAME).map_err(fault("rename"))?;
        disk.sync_dir().map_err(fault("flush the folder of"))?;
        Ok(Self { file, generation: 0 })
    }

    fn write(&mut self, end: &End) -> Result<(), JournalError> {
        let generation = self.generation + 1;
        let mut block = AlignedBuffer::zeroed(BLOCK);
        encode(block.bytes_mut(), generation, end);
        let offset = generation % 2 * BLOCK as u64;
        self.file.write_at(offset, block.bytes()).map_err(|error| JournalError::io("write", NAME, error))?;
        self.file.sync().map_err(|error| JournalError::io("flush", NAME, error))?;
        self.generation = generation;
        Ok(())
    }
}

fn encode(block: &mut [u8], generation: u64, end: &End) {
    block.fill(0);
    block[0..8].copy_from_slice(&MAGIC);
    block[8..12].copy_from_slice(&VERSION.to_le_bytes());
    block[16..24].copy_from_slice(&generation.to_le_bytes());
    block[24..32].copy_from_slice(&end.lsn.to_le_bytes());
    block[32..48].copy_from_slice(&end.chain);
    block[48..56].copy_from_slice(&end.segment.to_le_bytes());
    block[56..64].copy_from_slice(&end.offset.to_le_bytes());
    let crc = crc32c::crc32c(block);
    block[12..16].copy_from_slice(&crc.to_le_bytes());
}

fn decode(block: &[u8]) -> Option<Reached> {
    let number = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("8 bytes"));
    let half = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("4 bytes"));
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&block[..12]), &[0; 4]), &block[16..]);
    (block[0..8] == MAGIC && half(8) == VERSION && half(12) == crc).then(|| Reached {
        generation: number(16),
        lsn: number(24),
        chain: block[32..48].try_into().expect("16 bytes"),
        segment: number(48),
        offset: number(56),
    })
}

/// Keeps the file up with the log, on a thread of its own: the path of a durable answer never waits for it.
pub(crate) struct Keeper<D: Disk> {
    disk: Arc<D>,
    tip: Arc<Tip>,
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    /// A segment was sealed: do not wait for the next turn.
    now: bool,
    stop: bool,
}

impl<D: Disk> Keeper<D> {
    pub(crate) fn new(disk: Arc<D>, tip: Arc<Tip>) -> Self {
        Self { disk, tip, state: Mutex::default(), bell: Condvar::new() }
    }

    /// The log has sealed a segment.
    pub(crate) fn sealed(&self) {
        self.state().now = true;
        self.bell.notify_one();
    }

    /// Nothing more is written to the log: write the file once more, and end.
    pub(crate) fn stop(&self) {
        self.state().stop = true;
        self.bell.notify_one();
    }

    /// The thread's whole life.
    pub(crate) fn keep(&self) {
        let mut written = self.tip.end().lsn; // recovery has just written it
        let mut file: Option<File<D::File>> = None;
        let mut said = false;
        loop {
            let stopping = self.wait();
            let end = self.tip.end();
            if end.lsn != written {
                let wrote = match &mut file {
                    Some(file) => file.write(&end),
                    None => File::open(&*self.disk).and_then(|opened| file.insert(opened).write(&end)),
                };
                match wrote {
                    Ok(()) => (written, said) = (end.lsn, false),
                    // The log itself is whole. Only what is cut off it from now on would go unnoticed.
                    Err(error) => {
                        file = None;
                        if !core::mem::replace(&mut said, true) {
                            tracing::error!(%error, "how far the journal has come could not be written beside it; trying again");
                        }
                    }
                }
            }
            if stopping {
                return;
            }
        }
    }

    /// Until the next turn; says whether it is the last.
    fn wait(&self) -> bool {
        let waited = self.bell.wait_timeout_while(self.state(), EVERY, |state| !state.now && !state.stop);
        let (mut state, _) = waited.expect("nothing panics under this lock");
        state.now = false;
        state.stop
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::faults::{FaultDisk, Faults};

    fn end(lsn: u64) -> End {
        End { segment: 1 + lsn / 10, offset: 4096 * lsn, lsn, chain: [lsn as u8; 16] }
    }

    fn lsn(disk: &FaultDisk) -> Option<u64> {
        read(disk).expect("reads").known().map(|reached| reached.lsn)
    }

    #[test]
    fn the_newest_counts_also_where_it_goes_back() {
        let disk = FaultDisk::new();
        assert_eq!(read(&disk).expect("reads"), Witness::Missing);
        for at in [0, 7, 40, 12, 13] {
            write(&disk, &end(at)).expect("no faults");
            let reached = read(&disk).expect("reads").known().expect("there");
            assert_eq!((reached.lsn, reached.chain, reached.segment), (at, [at as u8; 16], 1 + at / 10));
        }
    }

    #[test]
    fn the_power_goes_at_every_operation_and_one_of_both_is_there() {
        for direct in [false, true] {
            for crash in 1..=12 {
                for seed in 0..40 {
                    let disk = if direct { FaultDisk::direct() } else { FaultDisk::new() };
                    disk.set(Faults { crash_at: Some(crash), ..Faults::default() });
                    let written = (1..=3).take_while(|at| write(&disk, &end(*at)).is_ok()).count() as u64;
                    let found = lsn(&disk.restart(seed)).unwrap_or_default();
                    assert!((written..=written + 1).contains(&found), "crash at {crash}: {written} written, {found}");
                }
            }
        }
    }

    #[test]
    fn a_flipped_bit_makes_one_slot_worthless_and_no_more() {
        let disk = FaultDisk::new();
        write(&disk, &end(1)).expect("no faults");
        write(&disk, &end(2)).expect("no faults");
        let good = disk.contents(NAME).expect("there");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            disk.put(NAME, bad);
            // The second write went into the first slot.
            assert_eq!(lsn(&disk), Some(if bit / 8 < BLOCK { 1 } else { 2 }), "bit {bit}");
        }
        disk.put(NAME, good[..100].to_vec());
        assert_eq!(read(&disk).expect("reads"), Witness::Unreadable);
        write(&disk, &end(3)).expect("made anew");
        assert_eq!(lsn(&disk), Some(3));
    }
}
