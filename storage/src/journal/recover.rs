//! Opening a log: where does it end, and is its tail torn or damaged? The rule, and why it can be told:
//!
//! Only one write is under way at any time, so a crash tears at most the last group, and nothing valid follows it. A
//! tail is cut back only if that is what it looks like; anything else is damage, named by file and offset, and
//! nothing is changed. What is cut back is zeroed durably before the log goes on, so that a later look is as clear.
//! A tail that was cut off by somebody else looks the same from within: that the log is whole is told by the segments'
//! lengths, and by how far it had been acknowledged ([`super::reached`]). If it is not, nothing is changed either.
//! The last group is written once more, whole: a process that was killed may have left it in a cache.

use std::{io, sync::Arc};

use super::{
    Chain, JournalError,
    buffer::{AlignedBuffer, BLOCK, is_zero, padded},
    disk::{Access, Disk, DiskFile},
    format::{Decoded, Frame, GROUP_HEADER, GroupHeader, OLDEST_VERSION, SECTOR, SegmentHeader, VERSION, chain_after},
    log::{
        End, LogOptions, LogWriter, finish_group, prepare_segment, write_durably, write_segment_header, write_zeros,
    },
    reached::{self, Witness},
    scan::{Mark, Walker, packed_name, parse_name, raw_name},
};

/// What recovery found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The first segment in the folder; earlier ones may lie in an archive.
    pub first_segment: u64,
    /// Where the log goes on.
    pub end: End,
    /// How many times the log has been opened for writing, this time included.
    pub incarnation: u64,
    /// The torn tail that was cut back, if there was one. None of it had been acknowledged.
    pub torn: Option<Torn>,
    /// Sealed segments that are not compressed yet.
    pub sealed: Vec<u64>,
}

/// A tail that a crash had left half written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The segment it lies in.
    pub file: String,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How many whole records at its beginning were kept.
    pub kept: u32,
    /// What was missing.
    pub why: String,
}

/// Finds the end of the log in `disk`, repairs a torn tail, and makes the writer that goes on there. An empty disk
/// becomes a new log, if the options say so. The disk must be this process's alone.
///
/// # Errors
/// [`JournalError::Damaged`], [`JournalError::NotWhole`], [`JournalError::NewerVersion`],
/// [`JournalError::WrongShards`], [`JournalError::Empty`], or the disk's own.
pub fn recover<D: Disk>(disk: Arc<D>, options: LogOptions) -> Result<(LogWriter<D>, Recovery), JournalError> {
    options.check()?;
    let folder = Folder::list(&*disk)?;
    let reached = reached::read(&*disk)?;
    let Ending { last, cut } = find_last(&*disk, &folder)?;
    let Some(last) = last else {
        must_be_whole(missing(reached, 0, None, cut.as_ref()), 0, options.accept_loss)?;
        return if options.create { create(disk, options, &folder) } else { Err(JournalError::Empty) };
    };
    if last.header.shards != options.shards {
        return Err(JournalError::WrongShards { found: last.header.shards, asked: options.shards });
    }
    sealed_have_their_length(&*disk, &folder, last.number)?;
    let tail = find_tail(&*disk, &last, reached)?;
    if let Some(why) = tail.verdict.damage() {
        return Err(why);
    }
    let ends = tail.mark.lsn;
    must_be_whole(missing(reached, ends, tail.at_reached, cut.as_ref()), ends, options.accept_loss)?;
    match reached {
        Witness::Reached(_) => {}
        Witness::Missing => {
            tracing::info!("there was no note of how far the journal had come; there is from now on")
        }
        Witness::Unreadable => tracing::warn!(file = reached::NAME, "a damaged file is ignored and written again"),
    }

    // From here on the folder is written to.
    remove_leftovers(&*disk, &folder)?;
    let file = disk
        .open(&raw_name(last.number), Access::Log)
        .map_err(|error| JournalError::io("open", &raw_name(last.number), error))?;
    let incarnation = tail.incarnation + 1;
    let (mark, torn) = repair(&file, &last, tail)?;
    let mut end = End { segment: last.number, offset: mark.offset, lsn: mark.lsn, chain: mark.chain };
    if last.header.group_bytes_max != options.group_bytes_max {
        end.offset = last.header.segment_bytes; // its header bounds its groups: go on in a new one
    }
    let segment_bytes = last.header.segment_bytes;
    let next = keep_prepared(&*disk, &last.unwritten, last.number + 1, &options)?;
    reached::write(&*disk, &end)?;
    let mut writer = LogWriter::resume(disk, options, incarnation, file, segment_bytes, end);
    if let Some(next) = next {
        writer.offer_next(next);
    }
    let torn = torn.or(last.torn_header);
    if let Some(torn) = &torn {
        tracing::warn!(
            file = torn.file,
            offset = torn.offset,
            kept = torn.kept,
            why = torn.why,
            "cut back a torn tail"
        );
    }
    let sealed = folder.raw.iter().copied().filter(|number| *number < last.number).collect();
    Ok((writer, Recovery { first_segment: folder.first(), end, incarnation, torn, sealed }))
}

/// The files of a log, by name.
pub(crate) struct Folder {
    raw: Vec<u64>,
    numbers: Vec<u64>,
    leftovers: Vec<String>,
}

impl Folder {
    pub(crate) fn list<D: Disk>(disk: &D) -> Result<Self, JournalError> {
        let names = disk.list().map_err(|error| JournalError::io("list", "the journal's folder", error))?;
        let leftovers = names.iter().filter(|name| name.ends_with(".tmp")).cloned().collect();
        let segments: Vec<(u64, bool)> = names.iter().filter_map(|name| parse_name(name)).collect();
        let mut raw: Vec<u64> = segments.iter().filter(|(_, packed)| !packed).map(|(number, _)| *number).collect();
        let mut numbers: Vec<u64> = segments.iter().map(|(number, _)| *number).collect();
        raw.sort_unstable();
        numbers.sort_unstable();
        numbers.dedup();
        Ok(Self { raw, numbers, leftovers })
    }

    pub(crate) fn first(&self) -> u64 {
        self.numbers.first().copied().unwrap_or(1)
    }

    /// The numbers of all segments, gaps or not.
    pub(crate) fn all(&self) -> &[u64] {
        &self.numbers
    }

    /// The numbers of all segments, without gaps. Older ones may have been archived from the front, never from within.
    pub(crate) fn segments(&self) -> Result<&[u64], JournalError> {
        for pair in self.numbers.windows(2) {
            if pair[0] + 1 != pair[1] {
                return Err(JournalError::damaged(&raw_name(pair[0] + 1), 0, "the segment is missing"));
            }
        }
        Ok(&self.numbers)
    }
}

/// What the folder's segments say of where the log ends.
pub(crate) struct Ending {
    /// `None`: nothing was ever written.
    pub(crate) last: Option<Last>,
    pub(crate) cut: Option<Cut>,
}

/// A segment's file that is shorter than it was made. It has its whole length before it has its name.
pub(crate) struct Cut {
    file: String,
    bytes: u64,
    /// What its header says; `None`: not even that is left.
    of: Option<u64>,
}

/// Why the log is not whole, if it is not: it ends before record `ends`, and `at_reached` is its chain hash where it had
/// been acknowledged up to, if that place was walked.
pub(crate) fn missing(reached: Witness, ends: u64, at_reached: Option<Chain>, cut: Option<&Cut>) -> Option<String> {
    let reached = reached.known();
    let known = reached.filter(|reached| reached.lsn > ends);
    let known = known.map(|reached| format!("everything before position {} had been acknowledged", reached.lsn));
    let cut = cut.map(|Cut { file, bytes, of }| match of {
        Some(of) => format!("{file} has {bytes} of its {of} bytes"),
        None => format!("{file} has {bytes} bytes, less than its header"),
    });
    match (cut, known, reached) {
        (Some(cut), Some(known), _) => Some(format!("{cut}, and {known}")),
        (Some(why), None, _) | (None, Some(why), _) => Some(why),
        (None, None, Some(reached)) if at_reached.is_some_and(|chain| chain != reached.chain) => {
            Some(format!("what lies before position {} is not what had been acknowledged", reached.lsn))
        }
        (None, None, _) => None,
    }
}

/// A log that is not whole is opened only where somebody has decided so, knowing where it ends.
fn must_be_whole(missing: Option<String>, ends: u64, accept_loss: Option<u64>) -> Result<(), JournalError> {
    match missing {
        None if accept_loss.is_some() => {
            tracing::warn!("nothing is missing from the journal: --accept-loss was not needed");
            Ok(())
        }
        None => Ok(()),
        Some(why) if accept_loss == Some(ends) => {
            tracing::warn!(why, ends, "the journal's newest part is missing, and that loss was accepted");
            Ok(())
        }
        Some(why) => Err(JournalError::NotWhole { ends, why }),
    }
}

/// Looks at the lengths of the segments before the last: cheaply, since replay and audit read what is in them.
fn sealed_have_their_length<D: Disk>(disk: &D, folder: &Folder, last: u64) -> Result<(), JournalError> {
    for &number in folder.numbers.iter().filter(|number| **number < last) {
        let raw = folder.raw.binary_search(&number).is_ok();
        let name = if raw { raw_name(number) } else { packed_name(number) };
        let fault = |error| JournalError::io("look at", &name, error);
        let file = match disk.open(&name, if raw { Access::Read } else { Access::Plain }) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // just compressed, beside an audit
            Err(error) => return Err(fault(error)),
        };
        let len = file.len().map_err(fault)?;
        let whole = if raw {
            let mut block = AlignedBuffer::zeroed(BLOCK);
            let read = file.read_at(0, block.bytes_mut()).map_err(fault)?;
            match SegmentHeader::decode(&block.bytes()[..read]) {
                Decoded::Valid(header) => len >= header.segment_bytes,
                _ => len >= BLOCK as u64, // what is wrong with the header is for its reader to say
            }
        } else {
            // A compressed stream ends with an empty block and a checksum.
            let mut end = [1; 4];
            len > 8 && file.read_at(len - 8, &mut end).map_err(fault)? == end.len() && is_zero(&end)
        };
        if !whole {
            return Err(JournalError::damaged(&name, len, "the file ends too soon: it was cut"));
        }
    }
    Ok(())
}

/// The last segment that was written to.
pub(crate) struct Last {
    pub(crate) number: u64,
    pub(crate) header: SegmentHeader,
    unwritten: Vec<u64>,
    torn_header: Option<Torn>,
}

/// Looks from the back: segments prepared but not used, then the one that the log ends in.
pub(crate) fn find_last<D: Disk>(disk: &D, folder: &Folder) -> Result<Ending, JournalError> {
    let mut unwritten = Vec::new();
    let mut cut = None;
    let mut torn_header = None;
    for &number in folder.segments()?.iter().rev() {
        let name = raw_name(number);
        if folder.raw.binary_search(&number).is_err() {
            return Err(JournalError::damaged(&raw_name(number + 1), 0, "the segment the log goes on in is missing"));
        }
        let file = disk.open(&name, Access::Read).map_err(|error| JournalError::io("open", &name, error))?;
        let fault = |error| JournalError::io("read", &name, error);
        let mut block = AlignedBuffer::zeroed(BLOCK);
        let read = file.read_at(0, block.bytes_mut()).map_err(fault)?;
        let len = file.len().map_err(fault)?;
        match SegmentHeader::decode(&block.bytes()[..read]) {
            Decoded::Valid(header) => {
                if len < header.segment_bytes {
                    cut = Some(Cut { file: name, bytes: len, of: Some(header.segment_bytes) });
                }
                return Ok(Ending { last: Some(Last { number, header, unwritten, torn_header }), cut });
            }
            _ if len < BLOCK as u64 => {
                cut = Some(Cut { file: name, bytes: len, of: None });
                unwritten.push(number);
            }
            Decoded::Newer(found) => return Err(JournalError::NewerVersion { file: name, found, known: VERSION }),
            Decoded::Older(found) => {
                return Err(JournalError::OlderVersion { file: name, found, oldest: OLDEST_VERSION });
            }
            // A header is durable before its segment holds a record: without any, nothing can be lost with it.
            decoded => match first_non_zero(&file, BLOCK as u64).map_err(fault)? {
                None => {
                    if let Decoded::Broken(why) = decoded {
                        torn_header = Some(Torn { file: name, offset: 0, kept: 0, why: why.to_owned() });
                    }
                    unwritten.push(number);
                }
                Some(_) if matches!(decoded, Decoded::Unwritten) => {
                    return Err(JournalError::damaged(&name, 0, "the segment header is gone, but records follow it"));
                }
                Some(_) => return Err(JournalError::damaged(&name, 0, "the segment header does not hold")),
            },
        }
    }
    match folder.first() {
        1 => Ok(Ending { last: None, cut }),
        first => Err(JournalError::damaged(&raw_name(first - 1), 0, "the segment is missing")),
    }
}

/// How the last segment ends.
pub(crate) struct Tail {
    /// The start of the last group that holds, if there is one.
    last_group: Option<(u64, usize)>,
    /// Behind the last group that holds.
    pub(crate) mark: Mark,
    pub(crate) verdict: Verdict,
    /// The chain hash where the log had been acknowledged up to, if that lies in this segment.
    pub(crate) at_reached: Option<Chain>,
    incarnation: u64,
}

/// What lies behind the last group that holds.
pub(crate) enum Verdict {
    /// Zeros.
    Clean,
    /// The remains of the write that was under way, up to byte `end` of the segment; `group` keeps what is whole.
    Torn { why: String, end: u64, kept: Option<Kept> },
    /// Something that no crash explains.
    Damaged { file: String, offset: u64, why: String },
}

impl Verdict {
    pub(crate) fn damage(&self) -> Option<JournalError> {
        match self {
            Self::Damaged { file, offset, why } => Some(JournalError::damaged(file, *offset, why.clone())),
            Self::Clean | Self::Torn { .. } => None,
        }
    }
}

/// The whole records at the beginning of a torn group.
pub(crate) struct Kept {
    header: GroupHeader,
    /// The group's bytes up to the end of the last whole record.
    bytes: Vec<u8>,
    records: u32,
    chain: Chain,
}

impl Kept {
    pub(crate) fn records(&self) -> u32 {
        self.records
    }
}

/// Walks the last segment to its end and judges what is there. Changes nothing.
pub(crate) fn find_tail<D: Disk>(disk: &D, last: &Last, reached: Witness) -> Result<Tail, JournalError> {
    let Some(mut walker) = Walker::open_raw(disk, last.number)? else {
        return Err(JournalError::damaged(&raw_name(last.number), 0, "the segment header vanished while it was read"));
    };
    let mut last_group = None;
    let mut incarnation = last.header.incarnation;
    let reached_lsn = reached.known().map(|reached| reached.lsn);
    let mut at_reached = None;
    let stopped = loop {
        if reached_lsn == Some(walker.lsn()) {
            at_reached = Some(walker.chain());
        }
        match walker.advance(u64::MAX) {
            Ok(false) => break None,
            Err(JournalError::Damaged { offset, why, .. }) => break Some((offset, why)),
            Err(other) => return Err(other),
            Ok(true) => {
                let group = walker.group().expect("a record lies in a group");
                // Noted once its last record has been verified: until then it may prove torn.
                if walker.lsn() == group.first_lsn + u64::from(group.records) {
                    last_group = Some((walker.mark().offset, padded(group.bytes as usize)));
                    incarnation = group.incarnation;
                }
            }
        }
    };
    let file = disk
        .open(&raw_name(last.number), Access::Read)
        .map_err(|error| JournalError::io("open", &raw_name(last.number), error))?;
    let mut mark = walker.mark();
    let verdict = judge(&file, last, &mark, stopped)?;
    if let Verdict::Torn { kept: Some(kept), .. } = &verdict {
        mark.lsn += u64::from(kept.records);
        mark.chain = kept.chain;
    }
    Ok(Tail { last_group, mark, verdict, at_reached, incarnation })
}

/// Tells a torn write from damage: see the head of `format.rs` for what each looks like.
fn judge<F: DiskFile>(
    file: &F,
    last: &Last,
    mark: &Mark,
    stopped: Option<(u64, String)>,
) -> Result<Verdict, JournalError> {
    let name = raw_name(last.number);
    let fault = |error| JournalError::io("read", &name, error);
    let longest = u64::from(last.header.group_bytes_max);
    let mut buffer = AlignedBuffer::zeroed(longest as usize);
    let read = file.read_at(mark.offset, buffer.bytes_mut()).map_err(fault)?;
    let region = &buffer.bytes()[..read];

    let damaged = |offset: u64, why: &str| {
        let (offset, why) = stopped.clone().unwrap_or((offset, why.to_owned()));
        Ok(Verdict::Damaged { file: name.clone(), offset, why })
    };
    let torn = |why: &str, end: u64, kept| Ok(Verdict::Torn { why: why.to_owned(), end, kept });
    // Only one write is under way, so nothing can lie behind it.
    let behind = |from: u64| first_non_zero(file, from).map_err(fault);

    match GroupHeader::decode(region) {
        Decoded::Valid(header) => {
            let len = padded(header.bytes as usize);
            let end = mark.offset + len as u64;
            if header.first_lsn != mark.lsn || header.chain != mark.chain || len as u64 > longest {
                return damaged(mark.offset, "a group does not follow from the one before it");
            }
            if let Some(offset) = behind(end)? {
                return damaged(offset, "something was written behind the last group");
            }
            if header.is_whole(region) {
                return damaged(mark.offset, "a group was written whole and does not hold");
            }
            torn("the last write lacks some of its sectors", end, keep_whole_records(header, region, &last.header))
        }
        Decoded::Broken(why) => {
            // What precedes a durable record is whole sectors; a header cut within one has nothing behind it.
            let body = region.get(GROUP_HEADER..).unwrap_or_default();
            if !is_zero(body) || behind(mark.offset + longest)?.is_some() {
                return damaged(mark.offset, why);
            }
            torn(why, mark.offset + BLOCK as u64, None)
        }
        Decoded::Unwritten if is_zero(region) => match behind(mark.offset + longest)? {
            Some(offset) => damaged(offset, "something was written behind the end of the log"),
            None => Ok(Verdict::Clean),
        },
        Decoded::Unwritten => {
            if !is_zero(&region[..SECTOR.min(region.len())]) {
                return damaged(mark.offset, "a group header was wiped");
            }
            if let Some(offset) = behind(mark.offset + longest)? {
                return damaged(offset, "something was written behind the end of the log");
            }
            match of_another_write(region, mark.lsn) {
                Some(at) => damaged(mark.offset + at as u64, "a valid record follows a gap"),
                None => torn("the last write lacks its first sector", mark.offset + padded(read) as u64, None),
            }
        }
        Decoded::Newer(_) | Decoded::Older(_) => unreachable!("groups carry no version"),
    }
}

/// Looks for anything valid in `region` that does not belong to the one group beginning with `lsn`.
fn of_another_write(region: &[u8], lsn: u64) -> Option<usize> {
    (0..region.len().saturating_sub(GROUP_HEADER)).step_by(8).find(|at| {
        if at.is_multiple_of(BLOCK) && *at > 0 && matches!(GroupHeader::decode(&region[*at..]), Decoded::Valid(_)) {
            return true;
        }
        // Most places are told by their first bytes; a checksum is computed only where there is a number.
        !is_zero(&region[*at..*at + 8])
            && Frame::decode(region, *at).is_ok_and(|frame| frame.lsn.checked_sub(u64::from(frame.index)) != Some(lsn))
    })
}

fn keep_whole_records(header: GroupHeader, region: &[u8], segment: &SegmentHeader) -> Option<Kept> {
    let group = &region[..region.len().min(header.frames_end())];
    let (mut at, mut records, mut chain) = (GROUP_HEADER, 0, header.chain);
    while records < header.records {
        let Ok(frame) = Frame::decode(group, at) else { break };
        if frame.lsn != header.first_lsn + u64::from(records)
            || frame.index != records
            || frame.chain != chain
            || frame.shard.0 >= segment.shards
        {
            break;
        }
        chain = chain_after(&chain, frame.shard, &group[frame.payload.clone()]);
        at = frame.end;
        records += 1;
    }
    let mut bytes = group[..at.min(group.len())].to_vec();
    bytes.resize(at, 0); // the file may end within the last record's padding
    (records > 0).then_some(Kept { header, bytes, records, chain })
}

/// Brings the tail into a state that needs no judgement, durably. Returns where the log goes on.
fn repair<F: DiskFile>(file: &F, last: &Last, tail: Tail) -> Result<(Mark, Option<Torn>), JournalError> {
    let name = raw_name(last.number);
    let number = last.number;
    let fault = |error| JournalError::io("repair", &name, error);
    let mut mark = tail.mark;
    let mut torn_end = mark.offset;
    let mut torn = None;
    let mut kept_group = None;
    if let Verdict::Torn { why, end, kept } = tail.verdict {
        torn_end = end.min(last.header.segment_bytes);
        let records = kept.as_ref().map_or(0, |kept| kept.records);
        torn = Some(Torn { file: name.clone(), offset: mark.offset, kept: records, why });
        kept_group = kept;
    }

    // First the zeros, then the group anew: whatever a crash leaves of either is torn in the same place.
    let mut zero_from = mark.offset;
    if let Some(kept) = &kept_group {
        let mut buffer = AlignedBuffer::zeroed(padded(kept.bytes.len()));
        buffer.bytes_mut()[..kept.bytes.len()].copy_from_slice(&kept.bytes);
        write_durably(file, number, mark.offset, buffer.bytes())?;
        zero_from += buffer.len() as u64;
    }
    if file.len().map_err(fault)? < last.header.segment_bytes {
        torn_end = last.header.segment_bytes;
    }
    write_zeros(file, zero_from, torn_end, &mut |_| true).map_err(fault)?;
    file.sync().map_err(fault)?;

    match (kept_group, tail.last_group) {
        (Some(kept), _) => {
            let at = kept.bytes.len();
            let mut buffer = AlignedBuffer::zeroed(last.header.group_bytes_max as usize);
            buffer.bytes_mut()[..at].copy_from_slice(&kept.bytes);
            let header = GroupHeader { records: kept.records, ..kept.header };
            let len = finish_group(&mut buffer, at, header);
            write_durably(file, number, mark.offset, &buffer.bytes()[..len])?;
            mark.offset += len as u64;
        }
        (None, Some((offset, len))) => rewrite(file, number, offset, len)?,
        (None, None) => rewrite(file, number, 0, BLOCK)?,
    }
    Ok((mark, torn))
}

fn rewrite<F: DiskFile>(file: &F, number: u64, offset: u64, len: usize) -> Result<(), JournalError> {
    let mut buffer = AlignedBuffer::zeroed(len);
    file.read_at(offset, buffer.bytes_mut()).map_err(|error| JournalError::io("read", &raw_name(number), error))?;
    write_durably(file, number, offset, buffer.bytes())
}

fn create<D: Disk>(
    disk: Arc<D>,
    options: LogOptions,
    folder: &Folder,
) -> Result<(LogWriter<D>, Recovery), JournalError> {
    remove_leftovers(&*disk, folder)?;
    let prepared = keep_prepared(&*disk, &folder.raw, 1, &options)?;
    let file = match prepared {
        Some(file) => file,
        None => prepare_segment(&*disk, 1, &options, &mut |_| true)?.expect("not abandoned"),
    };
    let end = End { segment: 1, offset: BLOCK as u64, lsn: 0, chain: Chain::default() };
    write_segment_header(&file, 1, &options, options.segment_bytes, 1, &end)?;
    reached::write(&*disk, &end)?;
    let recovery = Recovery { first_segment: 1, end, incarnation: 1, torn: None, sealed: Vec::new() };
    Ok((LogWriter::resume(disk, options, 1, file, options.segment_bytes, end), recovery))
}

fn remove_leftovers<D: Disk>(disk: &D, folder: &Folder) -> Result<(), JournalError> {
    for name in &folder.leftovers {
        disk.remove(name).map_err(|error| JournalError::io("remove", name, error))?;
    }
    disk.sync_dir().map_err(|error| JournalError::io("flush", "the journal's folder", error))
}

/// Keeps an unused segment that fits, and removes the others: they hold nothing.
fn keep_prepared<D: Disk>(
    disk: &D,
    unwritten: &[u64],
    wanted: u64,
    options: &LogOptions,
) -> Result<Option<D::File>, JournalError> {
    let mut kept = None;
    for &number in unwritten {
        let name = raw_name(number);
        let fault = |error| JournalError::io("open", &name, error);
        let file = disk.open(&name, Access::Log).map_err(fault)?;
        let whole = file.len().map_err(fault)? == options.segment_bytes;
        if number == wanted && whole && first_non_zero(&file, 0).map_err(fault)?.is_none() {
            kept = Some(file);
        } else {
            disk.remove(&name).map_err(|error| JournalError::io("remove", &name, error))?;
            disk.sync_dir().map_err(fault)?;
        }
    }
    Ok(kept)
}

/// Where the first byte that is not zero lies, at or behind `from`, to the precision of a block.
fn first_non_zero<F: DiskFile>(file: &F, from: u64) -> std::io::Result<Option<u64>> {
    const CHUNK: usize = 1024 * 1024;
    let len = file.len()?;
    let mut at = from / BLOCK as u64 * BLOCK as u64;
    let mut buffer = AlignedBuffer::zeroed((len.saturating_sub(at) as usize).next_multiple_of(BLOCK).min(CHUNK));
    while at < len {
        let read = file.read_at(at, buffer.bytes_mut())?;
        if read == 0 {
            break;
        }
        for (index, block) in buffer.bytes()[..read].chunks(BLOCK).enumerate() {
            if !is_zero(block) {
                return Ok(Some(at + (index * BLOCK) as u64));
            }
        }
        at += read as u64;
    }
    Ok(None)
}
