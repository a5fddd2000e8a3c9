//! The log itself, without threads: records are staged into a group, a group is one write and one flush, and a full
//! segment gives way to the next. Everything that becomes durable becomes so here, on the real disk and on a
//! simulated one alike.

use std::sync::Arc;

use engine::model::ids::ShardId;
use engine::plants::{Plant, planted};

use super::{
    Chain, JournalError, Position,
    buffer::{AlignedBuffer, BLOCK, padded},
    disk::{Access, Disk, DiskFile},
    format::{
        FRAME_HEADER, Frame, GROUP_HEADER, GroupHeader, SECTOR, SegmentHeader, TRAILER, chain_after, zero_sectors,
    },
    scan::raw_name,
};

/// The shape of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// How many shards share it, fixed at creation. Default 16.
    pub shards: u16,
    /// Length of a segment, in bytes, a multiple of [`BLOCK`]; may change from one opening to the next. Default
    /// 128 MiB: a second of the highest load (1 M small events), an hour of a quiet one; recovery reads at most two
    /// of them (about 0.2 s), a new journal zeroes one before it starts (about 0.1 s).
    pub segment_bytes: u64,
    /// Longest write, in bytes, padding included, a multiple of [`BLOCK`]. Default 4 MiB: about 3 ms of disk. It also
    /// bounds a record, and how much of the tail a crash may tear.
    pub group_bytes_max: u32,
    /// Whether an empty folder becomes a new journal. Default true.
    pub create: bool,
    /// The position at which a log that is not whole may be opened all the same: somebody has decided that what lay
    /// behind it is lost. Default: none.
    pub accept_loss: Option<u64>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { shards: 16, segment_bytes: 128 << 20, group_bytes_max: 4 << 20, create: true, accept_loss: None }
    }
}

impl LogOptions {
    /// The longest record, in bytes, that fits into a group.
    pub fn record_bytes_max(&self) -> usize {
        self.group_bytes_max as usize - GROUP_HEADER - FRAME_HEADER - 8 - TRAILER.len()
    }

    pub(crate) fn check(&self) -> Result<(), JournalError> {
        let block = BLOCK as u64;
        let group = u64::from(self.group_bytes_max);
        let why = if self.shards == 0 {
            "there must be a shard"
        } else if group == 0 || !group.is_multiple_of(block) || !self.segment_bytes.is_multiple_of(block) {
            "lengths of segments and groups are multiples of 4,096"
        } else if self.segment_bytes < block + group {
            "a segment holds a header block and at least one group"
        } else {
            return Ok(());
        };
        Err(JournalError::Options(why.to_owned()))
    }
}

/// Why a record could not be staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStaged {
    /// The group has no room left: flush it first.
    GroupFull,
    /// It would not fit into an empty group either.
    TooLarge,
}

/// Where the log ends on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The segment that is written to.
    pub segment: u64,
    /// Where its next group will begin, in bytes.
    pub offset: u64,
    /// The lsn of the next record.
    pub lsn: u64,
    /// The chain hash of all records before it.
    pub chain: Chain,
}

pub struct LogWriter<D: Disk> {
    disk: Arc<D>,
    options: LogOptions,
    incarnation: u64,
    file: D::File,
    /// The length of the open segment.
    segment_bytes: u64,
    /// What is durable.
    end: End,
    /// How long the last group is that became durable.
    last_bytes: usize,
    next: Option<D::File>,
    sealed: Vec<u64>,
    group: Group,
    failed: Option<String>,
}

/// The group being staged.
struct Group {
    buffer: AlignedBuffer,
    at: usize,
    records: u32,
    chain: Chain,
}

impl Group {
    fn reset(&mut self, chain: Chain) {
        self.at = GROUP_HEADER;
        self.records = 0;
        self.chain = chain;
    }
}

impl<D: Disk> LogWriter<D> {
    /// A writer that goes on at `end`, in a segment whose header is durable.
    pub(crate) fn resume(
        disk: Arc<D>,
        options: LogOptions,
        incarnation: u64,
        file: D::File,
        segment_bytes: u64,
        end: End,
    ) -> Self {
        let buffer = AlignedBuffer::zeroed(options.group_bytes_max as usize);
        let group = Group { buffer, at: GROUP_HEADER, records: 0, chain: end.chain };
        Self {
            disk,
            options,
            incarnation,
            file,
            segment_bytes,
            end,
            last_bytes: 0,
            next: None,
            sealed: Vec::new(),
            group,
            failed: None,
        }
    }

    /// Copies a record into the group that the next [`LogWriter::flush`] will write.
    ///
    /// # Errors
    /// [`NotStaged`] says whether a flush helps.
    ///
    /// # Panics
    /// If `shard` is not one of this log's.
    pub fn stage(&mut self, shard: ShardId, record: &[u8]) -> Result<Position, NotStaged> {
        assert!(shard.0 < self.options.shards, "{shard:?} of {}", self.options.shards);
        let max = self.options.group_bytes_max as usize - TRAILER.len();
        if GROUP_HEADER + Frame::room(record.len()) > max {
            return Err(NotStaged::TooLarge);
        }
        let group = &mut self.group;
        if group.at + Frame::room(record.len()) > max {
            return Err(NotStaged::GroupFull);
        }
        let lsn = self.end.lsn + u64::from(group.records);
        let to = &mut group.buffer.bytes_mut()[group.at..];
        group.at += Frame::encode(to, lsn, group.records, shard, &group.chain, record);
        group.chain = chain_after(&group.chain, shard, record);
        group.records += 1;
        Ok(Position(lsn))
    }

    /// Whether records of these lengths, in bytes, fit beside what is staged into one group and into the open segment.
    pub fn has_room(&self, lengths: impl Iterator<Item = usize>) -> bool {
        let bytes =
            lengths.fold(self.group.at, |at, len| at.saturating_add(Frame::room(len))).saturating_add(TRAILER.len());
        bytes <= self.options.group_bytes_max as usize && self.end.offset + padded(bytes) as u64 <= self.segment_bytes
    }

    /// How many records are staged.
    pub fn staged(&self) -> u32 {
        self.group.records
    }

    /// Makes all staged records durable with one write. Returns the position of the last, or `None` if none was
    /// staged.
    ///
    /// # Errors
    /// Whatever the disk says. From then on every call is [`JournalError::Failed`]: whether the group is durable is
    /// unknown until recovery, and a flush that failed once is never believed again.
    pub fn flush(&mut self) -> Result<Option<Position>, JournalError> {
        if let Some(why) = &self.failed {
            return Err(JournalError::Failed(why.clone()));
        }
        if self.group.records == 0 {
            return Ok(None);
        }
        let written = self.write();
        match &written {
            Ok(last) => Ok(Some(*last)),
            Err(error) => {
                self.failed = Some(error.to_string());
                written.map(Some)
            }
        }
    }

    fn write(&mut self) -> Result<Position, JournalError> {
        let len = finish_group(
            &mut self.group.buffer,
            self.group.at,
            GroupHeader {
                bytes: 0,
                records: self.group.records,
                first_lsn: self.end.lsn,
                zero_sectors: 0,
                chain: self.end.chain,
                incarnation: self.incarnation,
            },
        );
        if self.end.offset + len as u64 > self.segment_bytes {
            self.roll()?;
        }
        write_durably(&self.file, self.end.segment, self.end.offset, &self.group.buffer.bytes()[..len])?;
        self.last_bytes = len;
        self.end.offset += len as u64;
        self.end.lsn += u64::from(self.group.records);
        self.end.chain = self.group.chain;
        self.group.reset(self.end.chain);
        Ok(Position(self.end.lsn - 1))
    }

    /// Seals the open segment and begins the next. Its header is durable before any group is written into it.
    fn roll(&mut self) -> Result<(), JournalError> {
        let number = self.end.segment + 1;
        let file = match self.next.take() {
            Some(file) => file,
            None => prepare_segment(&*self.disk, number, &self.options, &mut |_| true)?.expect("not abandoned"),
        };
        self.segment_bytes = file.len().map_err(|error| JournalError::io("look at", &raw_name(number), error))?;
        write_segment_header(&file, number, &self.options, self.segment_bytes, self.incarnation, &self.end)?;
        self.file = file;
        self.sealed.push(self.end.segment);
        self.end.segment = number;
        self.end.offset = BLOCK as u64;
        Ok(())
    }

    /// Whether the staged group needs the next segment.
    pub fn must_roll(&self) -> bool {
        self.end.offset + padded(self.group.at + TRAILER.len()) as u64 > self.segment_bytes
    }

    /// The number of the segment to prepare, unless it has been offered already. Preparing it ahead keeps the zeroing
    /// off the path; a log that gets none prepares it when it must.
    pub fn wants_next(&self) -> Option<u64> {
        self.next.is_none().then_some(self.end.segment + 1)
    }

    /// Hands over the segment that [`LogWriter::wants_next`] asked for, as [`prepare_segment`] made it.
    pub fn offer_next(&mut self, file: D::File) {
        self.next = Some(file);
    }

    /// The segments sealed since the last call: full, durable, and never written to again.
    pub fn take_sealed(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.sealed)
    }

    /// The durable end.
    pub fn end(&self) -> End {
        self.end
    }

    /// The group that the last [`LogWriter::flush`] wrote, just before [`LogWriter::end`]. To be asked for before
    /// anything else is staged, since that goes into the same buffer.
    pub(crate) fn last_group(&self) -> &[u8] {
        debug_assert_eq!(self.group.records, 0, "nothing is staged since");
        &self.group.buffer.bytes()[..self.last_bytes]
    }

    /// The shape of the log.
    pub fn options(&self) -> &LogOptions {
        &self.options
    }
}

/// Zeroes a new segment, durably, under its own name. `go_on` hears how many bytes are done and may abandon the work
/// (`None`), since this is the slow part and has to end when the process wants to.
///
/// # Errors
/// Whatever the disk says; a full disk is found out here, before any record is accepted into the segment.
pub fn prepare_segment<D: Disk>(
    disk: &D,
    number: u64,
    options: &LogOptions,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<D::File>, JournalError> {
    let name = raw_name(number);
    let unfinished = format!("{name}.tmp");
    let fault = |doing| {
        let name = name.clone();
        move |error| JournalError::io(doing, &name, error)
    };
    let file = disk.create(&unfinished, options.segment_bytes, Access::Log).map_err(fault("create"))?;
    if !write_zeros(&file, 0, options.segment_bytes, go_on).map_err(fault("zero"))? {
        return Ok(None);
    }
    file.sync().map_err(fault("flush"))?;
    disk.rename(&unfinished, &name).map_err(fault("rename"))?;
    disk.sync_dir().map_err(fault("flush the folder of"))?;
    Ok(Some(file))
}

/// Zeroes `from .. to` of a file, by blocks. `false` if `go_on` abandoned it.
pub(crate) fn write_zeros<F: DiskFile>(
    file: &F,
    from: u64,
    to: u64,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> std::io::Result<bool> {
    // 256 KiB cost the disk little more than 4 KiB, so a durable write that waits behind one waits no longer.
    const CHUNK: u64 = 256 * 1024;
    let zeros = AlignedBuffer::zeroed((to.saturating_sub(from)).min(CHUNK) as usize);
    let mut at = from;
    while at < to {
        let len = (to - at).min(CHUNK);
        file.write_at(at, &zeros.bytes()[..len as usize])?;
        at += len;
        if !go_on(at - from) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Closes the group in `buffer`, whose frames end at `at`: trailer, padding, header. Returns its padded length.
pub(crate) fn finish_group(buffer: &mut AlignedBuffer, at: usize, header: GroupHeader) -> usize {
    let bytes = at + TRAILER.len();
    let len = padded(bytes);
    let group = &mut buffer.bytes_mut()[..len];
    group[at..bytes].copy_from_slice(&TRAILER);
    group[bytes..].fill(0);
    // The header's own sector is never zero, so it can be counted before the header is there.
    let tail_of_first = SECTOR.min(len);
    let zero_sectors = zero_sectors(&group[tail_of_first..bytes.next_multiple_of(SECTOR).max(tail_of_first)]);
    GroupHeader { bytes: bytes as u32, zero_sectors, ..header }.encode(group);
    len
}

pub(crate) fn write_segment_header<F: DiskFile>(
    file: &F,
    number: u64,
    options: &LogOptions,
    segment_bytes: u64,
    incarnation: u64,
    end: &End,
) -> Result<(), JournalError> {
    let mut block = AlignedBuffer::zeroed(BLOCK);
    SegmentHeader {
        number,
        first_lsn: end.lsn,
        chain: end.chain,
        incarnation,
        segment_bytes,
        group_bytes_max: options.group_bytes_max,
        shards: options.shards,
    }
    .encode(block.bytes_mut());
    write_durably(file, number, 0, block.bytes())
}

pub(crate) fn write_durably<F: DiskFile>(file: &F, number: u64, offset: u64, bytes: &[u8]) -> Result<(), JournalError> {
    file.write_at(offset, bytes).map_err(|error| JournalError::io("write", &raw_name(number), error))?;
    match file.sync() {
        Err(_) if planted(Plant::FlushErrorIgnored) => Ok(()),
        synced => synced.map_err(|error| JournalError::io("flush", &raw_name(number), error)),
    }
}
