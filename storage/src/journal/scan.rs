//! Walking a segment record by record, every checksum and every link of the chain verified. Recovery, readers and
//! audit all walk with this; what they do at the first thing that does not hold is their own matter.

use std::{
    io::{self, Read},
    sync::Arc,
};

use lz4_flex::frame::FrameDecoder;

use super::{
    Chain, Entry, JournalError, Position,
    buffer::{AlignedBuffer, BLOCK, padded},
    disk::{Access, Disk, DiskFile},
    format::{Decoded, Frame, GROUP_HEADER, GroupHeader, OLDEST_VERSION, SegmentHeader, TRAILER, VERSION, chain_after},
    recent::Recent,
};

/// How much is read at once, in bytes: 1 MiB is where the disks measured reach their full rate.
const READ_AHEAD: usize = 1024 * 1024;

/// The file of a segment, as written.
pub(crate) fn raw_name(number: u64) -> String {
    format!("{number:010}.log")
}

/// The file of a sealed segment, compressed.
pub(crate) fn packed_name(number: u64) -> String {
    format!("{number:010}.log.lz4")
}

/// The segment a file name stands for, and whether it is compressed.
pub(crate) fn parse_name(name: &str) -> Option<(u64, bool)> {
    let (digits, packed) = match name.strip_suffix(".log") {
        Some(digits) => (digits, false),
        None => (name.strip_suffix(".log.lz4")?, true),
    };
    if digits.len() != 10 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(|number| (number, packed))
}

/// All bytes of segment `number`, and the name of the file they come from. Of a compressed one that does not decode to
/// its end, what decodes: whoever walks it will find that it ends too soon.
pub(crate) fn read_whole<D: Disk>(disk: &D, number: u64) -> Result<(String, Vec<u8>), JournalError> {
    let mut name = raw_name(number);
    let mut bytes = Vec::new();
    let mut source = match disk.open(&name, Access::Read) {
        Ok(file) => {
            let len = file.len().map_err(|error| JournalError::io("look at", &name, error))?;
            bytes.reserve_exact(len as usize);
            Source::Raw(file)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            name = packed_name(number);
            let file = disk.open(&name, Access::Plain).map_err(|error| JournalError::io("open", &name, error))?;
            Source::Packed { stream: Box::new(FrameDecoder::new(Stream::new(file))), at: 0 }
        }
        Err(error) => return Err(JournalError::io("open", &name, error)),
    };
    let mut buffer = AlignedBuffer::zeroed(READ_AHEAD);
    loop {
        let at = bytes.len() as u64;
        match source.read(at, buffer.bytes_mut()) {
            Ok(read) => bytes.extend_from_slice(&buffer.bytes()[..read]),
            Err(error) => match fault(&name, at, error) {
                JournalError::Damaged { .. } => return Ok((name, bytes)),
                other => return Err(other),
            },
        }
        if !(bytes.len() - at as usize).is_multiple_of(READ_AHEAD) || bytes.len() as u64 == at {
            return Ok((name, bytes));
        }
    }
}

/// Where the bytes of a segment come from.
enum Source<F: DiskFile> {
    Raw(F),
    Packed { stream: Box<FrameDecoder<Stream<F>>>, at: u64 },
    Memory(Vec<u8>),
}

/// A file, read from its beginning.
pub(crate) struct Stream<F: DiskFile> {
    file: F,
    at: u64,
}

impl<F: DiskFile> Stream<F> {
    pub(crate) fn new(file: F) -> Self {
        Self { file, at: 0 }
    }
}

impl<F: DiskFile> Read for Stream<F> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(self.at, bytes)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl<F: DiskFile> Source<F> {
    /// Fills `bytes` from `offset`, less only where the segment ends.
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Raw(file) => file.read_at(offset, bytes),
            Self::Packed { stream, at } => {
                debug_assert_eq!(*at, offset, "a compressed segment is read from front to back");
                let mut done = 0;
                while done < bytes.len() {
                    match stream.read(&mut bytes[done..])? {
                        0 => break,
                        read => done += read,
                    }
                }
                *at += done as u64;
                Ok(done)
            }
            Self::Memory(all) => {
                let from = all.get(offset as usize..).unwrap_or_default();
                let len = bytes.len().min(from.len());
                bytes[..len].copy_from_slice(&from[..len]);
                Ok(len)
            }
        }
    }
}

/// A stretch of a segment in memory. It begins at a block and moves forward only.
struct Window<F: DiskFile> {
    source: Source<F>,
    buffer: AlignedBuffer,
    /// The segment offset of the buffer's first byte.
    start: u64,
    /// How many bytes of the buffer are filled.
    filled: usize,
    /// What a writer beside us has just written, and to which segment this belongs.
    recent: Option<(Arc<Recent>, u64)>,
}

impl<F: DiskFile> Window<F> {
    fn new(source: Source<F>) -> Self {
        Self { source, buffer: AlignedBuffer::zeroed(BLOCK), start: 0, filled: 0, recent: None }
    }

    /// `len` bytes from `offset` on, fewer where the segment or `limit` ends. Never reads at or past `limit`: what
    /// lies there may be written just now, and must not be remembered as it is.
    fn get(&mut self, offset: u64, len: usize, limit: u64) -> io::Result<&[u8]> {
        debug_assert!(offset >= self.start && offset.is_multiple_of(BLOCK as u64));
        let skip = (offset - self.start) as usize;
        if skip + len > self.filled {
            if skip > self.filled {
                // Only a raw or an in-memory source is asked to leave something out.
                self.filled = 0;
            } else {
                self.buffer.bytes_mut().copy_within(skip..self.filled, 0);
                self.filled -= skip;
            }
            self.start = offset;
            let ahead = limit.saturating_sub(offset).min(padded(len.max(READ_AHEAD)) as u64) as usize;
            if ahead > self.filled {
                self.buffer.grow(ahead);
                // A direct read begins at a block: what is filled ends at one, but for the end of a file cut short.
                let from = self.filled / BLOCK * BLOCK;
                let room = &mut self.buffer.bytes_mut()[from..ahead];
                let least = len.min(ahead).saturating_sub(from);
                let recent = self.recent.as_ref().filter(|_| matches!(self.source, Source::Raw(_)));
                let read =
                    recent.and_then(|(recent, segment)| recent.read(*segment, offset + from as u64, room, least));
                self.filled = match (&mut self.source, read) {
                    (_, Some(read)) => from + read,
                    (Source::Packed { .. }, None) if from < self.filled => self.filled,
                    (source, None) => from + source.read(offset + from as u64, room)?,
                };
            }
            return Ok(&self.buffer.bytes()[..len.min(self.filled)]);
        }
        Ok(&self.buffer.bytes()[skip..skip + len])
    }
}

/// Where a group begins and what came before it: enough to walk it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// From the start of the segment.
    pub offset: u64,
    /// The lsn of the next record.
    pub lsn: u64,
    /// The chain hash before it.
    pub chain: Chain,
}

struct OpenGroup {
    header: GroupHeader,
    /// Where the next frame begins, from the start of the group.
    at: usize,
    /// The index of the next frame.
    index: u32,
}

/// A walk through one segment.
pub(crate) struct Walker<F: DiskFile> {
    file: String,
    header: SegmentHeader,
    window: Window<F>,
    /// The start of the group that is open, or of the next one.
    mark: Mark,
    lsn: u64,
    chain: Chain,
    group: Option<OpenGroup>,
    current: Option<Frame>,
}

impl<F: DiskFile> Walker<F> {
    /// Opens segment `number`, raw or else compressed. `None`: the file is there, but was never written to.
    pub(crate) fn open<D: Disk<File = F>>(disk: &D, number: u64) -> Result<Option<Self>, JournalError> {
        // It may be compressed between the first look and the second.
        for _ in 0..2 {
            match Self::open_raw(disk, number) {
                Err(JournalError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                done => return done,
            }
            match Self::open_packed(disk, number) {
                Err(JournalError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                done => return done,
            }
        }
        Err(JournalError::damaged(&raw_name(number), 0, "the segment is missing"))
    }

    pub(crate) fn open_raw<D: Disk<File = F>>(disk: &D, number: u64) -> Result<Option<Self>, JournalError> {
        let name = raw_name(number);
        let file = disk.open(&name, Access::Read).map_err(|error| JournalError::io("open", &name, error))?;
        Self::begin(name, number, Source::Raw(file))
    }

    pub(crate) fn open_packed<D: Disk<File = F>>(disk: &D, number: u64) -> Result<Option<Self>, JournalError> {
        let name = packed_name(number);
        let file = disk.open(&name, Access::Plain).map_err(|error| JournalError::io("open", &name, error))?;
        Self::packed(name, number, file)
    }

    /// Walks a compressed file under any name.
    pub(crate) fn packed(name: String, number: u64, file: F) -> Result<Option<Self>, JournalError> {
        let stream = Box::new(FrameDecoder::new(Stream::new(file)));
        Self::begin(name, number, Source::Packed { stream, at: 0 })
    }

    /// Walks bytes that are in memory already.
    pub(crate) fn memory(name: String, number: u64, bytes: Vec<u8>) -> Result<Option<Self>, JournalError> {
        Self::begin(name, number, Source::Memory(bytes))
    }

    fn begin(file: String, number: u64, source: Source<F>) -> Result<Option<Self>, JournalError> {
        let mut window = Window::new(source);
        let block = window.get(0, BLOCK, BLOCK as u64).map_err(|error| fault(&file, 0, error))?;
        let header = match SegmentHeader::decode(block) {
            Decoded::Unwritten => return Ok(None),
            Decoded::Valid(header) if header.number == number => header,
            Decoded::Valid(header) => {
                let why = format!("it is segment {} under the name of {number}", header.number);
                return Err(JournalError::damaged(&file, 0, why));
            }
            Decoded::Newer(found) => return Err(JournalError::NewerVersion { file, found, known: VERSION }),
            Decoded::Older(found) => {
                return Err(JournalError::OlderVersion { file, found, oldest: OLDEST_VERSION });
            }
            Decoded::Broken(why) => return Err(JournalError::damaged(&file, 0, why)),
        };
        let mark = Mark { offset: BLOCK as u64, lsn: header.first_lsn, chain: header.chain };
        Ok(Some(Self { file, window, mark, lsn: mark.lsn, chain: mark.chain, group: None, current: None, header }))
    }

    /// Reads what is still in memory from there. Bytes of the disk may be newer than a reader's limit; these never are.
    pub(crate) fn beside(&mut self, recent: Arc<Recent>) {
        self.window.recent = Some((recent, self.header.number));
    }

    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// The start of the group that is open, or else of the next one.
    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }

    /// The lsn of the next record.
    pub(crate) fn lsn(&self) -> u64 {
        self.lsn
    }

    /// The chain hash before the next record.
    pub(crate) fn chain(&self) -> Chain {
        self.chain
    }

    /// The header of the group that the current record lies in.
    pub(crate) fn group(&self) -> Option<&GroupHeader> {
        self.group.as_ref().map(|group| &group.header)
    }

    /// The record that [`Walker::advance`] came to.
    ///
    /// # Panics
    /// If it came to none.
    pub(crate) fn current(&self) -> Entry<'_> {
        let frame = self.current.as_ref().expect("advance said true");
        let group = (self.mark.offset - self.window.start) as usize;
        let payload = &self.window.buffer.bytes()[group + frame.payload.start..group + frame.payload.end];
        Entry { shard: frame.shard, position: Position(frame.lsn), payload }
    }

    /// Goes to the next record; `false` where nothing more was written, or at `limit`.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] at the first thing that does not hold. The walk stays where it is.
    pub(crate) fn advance(&mut self, limit: u64) -> Result<bool, JournalError> {
        self.current = None;
        if !self.enter(limit)? {
            return Ok(false);
        }
        let group = self.group.as_mut().expect("entered");
        let start = (self.mark.offset - self.window.start) as usize;
        let bytes = &self.window.buffer.bytes()[start..start + group.header.frames_end()];
        let frame = Frame::decode(bytes, group.at);
        let why = match &frame {
            Err(why) => Some(*why),
            Ok(frame) if frame.lsn != self.lsn || frame.index != group.index => Some("a record has the wrong number"),
            Ok(frame) if frame.chain != self.chain => Some("a record does not follow from the one before it"),
            Ok(frame) if frame.shard.0 >= self.header.shards => Some("a record names a shard that does not exist"),
            Ok(_) => None,
        };
        let (None, Ok(frame)) = (why, frame) else {
            let offset = self.mark.offset + group.at as u64;
            return Err(JournalError::damaged(&self.file, offset, why.unwrap_or_default()));
        };
        self.chain = chain_after(&self.chain, frame.shard, &bytes[frame.payload.clone()]);
        self.lsn += 1;
        group.at = frame.end;
        group.index += 1;
        self.current = Some(frame);
        Ok(true)
    }

    /// Passes over whole groups that end before `lsn`, by their headers alone.
    pub(crate) fn skip_to(&mut self, lsn: u64, limit: u64) -> Result<(), JournalError> {
        while self.enter(limit)? {
            let header = self.group.as_ref().expect("entered").header;
            let next = header.first_lsn + u64::from(header.records);
            if next > lsn {
                return Ok(());
            }
            // The next group says which hash it follows; it is believed, as the first one walked always is.
            let len = padded(header.bytes as usize);
            let offset = self.mark.offset + len as u64;
            let both = self.window.get(self.mark.offset, len + BLOCK, limit);
            let both = both.map_err(|error| fault(&self.file, offset, error))?;
            let Decoded::Valid(follower) = GroupHeader::decode(both.get(len..).unwrap_or_default()) else {
                return Ok(()); // the last group, or damage behind it: walk this one, then see
            };
            self.place(Mark { offset, lsn: next, chain: follower.chain });
        }
        Ok(())
    }

    /// Walks bytes whose segment header is lost, as if it had said `header`. Only audit does so.
    pub(crate) fn without_header(file: String, header: SegmentHeader, bytes: Vec<u8>) -> Self {
        let mark = Mark { offset: BLOCK as u64, lsn: header.first_lsn, chain: header.chain };
        let window = Window::new(Source::Memory(bytes));
        Self { file, window, mark, lsn: mark.lsn, chain: mark.chain, group: None, current: None, header }
    }

    /// Looks behind the damage that stopped the walk for the next record or group that holds, and goes on there.
    /// Only a walk through memory can do so. Returns where it goes on.
    pub(crate) fn skip_damage(&mut self) -> Option<u64> {
        let Source::Memory(bytes) = &self.window.source else { return None };
        let start = self.mark.offset as usize;
        if let Some(open) = &self.group {
            let group = &bytes[start..start + open.header.frames_end()];
            let next = (open.at + 8..group.len())
                .step_by(8)
                .filter_map(|at| Some((at, Frame::decode(group, at).ok()?)))
                .find(|(_, frame)| frame.lsn >= self.lsn && frame.index < open.header.records);
            if let Some((at, frame)) = next {
                let header = open.header;
                self.lsn = frame.lsn;
                self.chain = frame.chain;
                self.group = Some(OpenGroup { header, at, index: frame.index });
                return Some((start + at) as u64);
            }
        }
        // A group that does not follow still holds in itself: it is the first to go on with.
        let from = if self.group.is_some() { start + BLOCK } else { start };
        for at in (from..bytes.len()).step_by(BLOCK) {
            let Decoded::Valid(header) = GroupHeader::decode(&bytes[at..]) else { continue };
            let follows = header.first_lsn == self.lsn && header.chain == self.chain;
            if header.first_lsn >= self.lsn && !(at == start && follows) {
                self.place(Mark { offset: at as u64, lsn: header.first_lsn, chain: header.chain });
                return Some(at as u64);
            }
        }
        None
    }

    /// Goes on at `mark`, whatever lies between.
    pub(crate) fn place(&mut self, mark: Mark) {
        self.mark = mark;
        self.lsn = mark.lsn;
        self.chain = mark.chain;
        self.group = None;
        self.current = None;
    }

    /// Makes sure that a group is open which has a record left; `false` at the end.
    fn enter(&mut self, limit: u64) -> Result<bool, JournalError> {
        if let Some(group) = &self.group {
            if group.index < group.header.records {
                return Ok(true);
            }
            let end = self.mark.offset + padded(group.header.bytes as usize) as u64;
            if group.at != group.header.frames_end() {
                let why = "a group is longer than its records";
                return Err(JournalError::damaged(&self.file, self.mark.offset + group.at as u64, why));
            }
            self.place(Mark { offset: end, lsn: self.lsn, chain: self.chain });
        }
        let Mark { offset, lsn, chain } = self.mark;
        let damaged = |at: usize, why: &str| Err(JournalError::damaged(&self.file, offset + at as u64, why));
        if offset >= limit {
            return Ok(false);
        }
        let head = self.window.get(offset, BLOCK, limit).map_err(|error| fault(&self.file, offset, error))?;
        let header = match GroupHeader::decode(head) {
            Decoded::Valid(header) => header,
            Decoded::Unwritten => return Ok(false),
            Decoded::Broken(why) => return damaged(0, why),
            Decoded::Newer(_) | Decoded::Older(_) => unreachable!("groups carry no version"),
        };
        if header.first_lsn != lsn {
            return damaged(0, &format!("a group begins with record {}, expected {lsn}", header.first_lsn));
        }
        if header.chain != chain {
            return damaged(0, "a group does not follow from the one before it");
        }
        let bytes = header.bytes as usize;
        if padded(bytes) > self.header.group_bytes_max as usize {
            return damaged(0, "a group is longer than any may be");
        }
        let all = self.window.get(offset, bytes, limit).map_err(|error| fault(&self.file, offset, error))?;
        if all.len() < bytes {
            return damaged(all.len(), "the file ends inside a group");
        }
        if all[bytes - TRAILER.len()..] != TRAILER {
            return damaged(bytes - TRAILER.len(), "a group lacks its trailer");
        }
        self.group = Some(OpenGroup { header, at: GROUP_HEADER, index: 0 });
        Ok(true)
    }
}

/// A compressed stream that does not decode is damage; anything else is the disk's fault.
fn fault(file: &str, offset: u64, error: io::Error) -> JournalError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::Other => {
            JournalError::damaged(file, offset, format!("it does not decompress: {error}"))
        }
        _ => JournalError::io("read", file, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_segments_have_the_names_of_segments() {
        assert_eq!(parse_name(&raw_name(7)), Some((7, false)));
        assert_eq!(parse_name(&packed_name(7)), Some((7, true)));
        for other in ["lock", "7.log", "000000000x.log", "0000000007.log.tmp", "0000000007.log.lz4.tmp"] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }
}
