//! Compressing sealed segments. They are kept for good, and most of a quiet night's log is padding.
//!
//! The compressed file is written beside the segment, flushed, read back and walked to the same end, and only then
//! takes its place. A crash at any step leaves the segment, or its compressed twin, or both: readers take the segment
//! while it is there, and the next attempt begins anew.

use std::io::{self, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::{
    Chain, JournalError,
    buffer::{AlignedBuffer, BLOCK},
    disk::{Access, Disk, DiskFile},
    scan::{Walker, packed_name, raw_name},
};

/// How much is compressed between two looks at whether to go on, in bytes.
const CHUNK: usize = 256 * 1024;

/// What a segment amounts to.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    bytes: u64,
    lsn: u64,
    chain: Chain,
}

/// Compresses sealed segment `number` and removes the original. `go_on` is asked every 256 KiB; `Ok(false)` if it
/// abandoned the work.
///
/// # Errors
/// [`JournalError::Damaged`] if the segment or its compressed twin does not hold; the segment stays as it is.
pub fn pack_segment<D: Disk>(disk: &D, number: u64, go_on: &mut dyn FnMut(u64) -> bool) -> Result<bool, JournalError> {
    let (raw, packed) = (raw_name(number), packed_name(number));
    let unfinished = format!("{packed}.tmp");
    let fault = |doing: &'static str, name: &str| {
        let name = name.to_owned();
        move |error| JournalError::io(doing, &name, error)
    };

    let contents = walk(Walker::open_raw(disk, number)?, &raw)?;
    let file = disk.create(&unfinished, 0, Access::Plain).map_err(fault("create", &unfinished))?;
    if !compress(disk, &raw, contents.bytes, &file, go_on).map_err(fault("compress", &raw))? {
        return Ok(false);
    }
    file.sync().map_err(fault("flush", &unfinished))?;
    drop(file);

    let twin = disk.open(&unfinished, Access::Plain).map_err(fault("open", &unfinished))?;
    if walk(Walker::packed(unfinished.clone(), number, twin)?, &unfinished)? != contents {
        return Err(JournalError::damaged(&unfinished, 0, "it does not hold what was compressed"));
    }
    disk.rename(&unfinished, &packed).map_err(fault("rename", &unfinished))?;
    disk.sync_dir().map_err(fault("flush the folder of", &packed))?;
    disk.remove(&raw).map_err(fault("remove", &raw))?;
    disk.sync_dir().map_err(fault("flush the folder of", &packed))?;
    Ok(true)
}

fn walk<F: DiskFile>(walker: Option<Walker<F>>, name: &str) -> Result<Contents, JournalError> {
    let mut walker = walker.ok_or_else(|| JournalError::damaged(name, 0, "a sealed segment has no header"))?;
    while walker.advance(u64::MAX)? {}
    Ok(Contents { bytes: walker.mark().offset, lsn: walker.lsn(), chain: walker.chain() })
}

fn compress<D: Disk>(
    disk: &D,
    raw: &str,
    bytes: u64,
    to: &D::File,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> io::Result<bool> {
    let from = disk.open(raw, Access::Read)?;
    let info = FrameInfo::new()
        .block_size(BlockSize::Max256KB)
        .block_mode(BlockMode::Independent)
        .content_checksum(true)
        .content_size(Some(bytes));
    let mut encoder = FrameEncoder::with_frame_info(info, Sequential { file: to, at: 0 });
    let mut buffer = AlignedBuffer::zeroed(CHUNK);
    let mut at = 0;
    while at < bytes {
        let len = (bytes - at).min(CHUNK as u64) as usize;
        debug_assert!(len.is_multiple_of(BLOCK));
        if from.read_at(at, &mut buffer.bytes_mut()[..len])? < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        encoder.write_all(&buffer.bytes()[..len])?;
        at += len as u64;
        if !go_on(at) {
            return Ok(false);
        }
    }
    encoder.finish().map_err(io::Error::other)?;
    Ok(true)
}

/// A file, written from its beginning.
struct Sequential<'a, F: DiskFile> {
    file: &'a F,
    at: u64,
}

impl<F: DiskFile> Write for Sequential<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
