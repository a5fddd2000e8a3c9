//! How the log looks on disk, and nothing else: encoding and decoding of its three headers.
//!
//! All numbers are little endian. A segment is a file of fixed length, zeroed before use and never reused. One disk
//! write is one **group**; it begins at a multiple of 4,096 and is padded with zeros to the next, so that a write that
//! was cut short never shares a block with durable data.
//!
//! ```text
//! segment = header block, group, group, …, zeros
//!
//! segment header (4,096 bytes, zeros after the last field)
//!    0   8  magic "TAPGATEJ"        ┐ these three stay where they are
//!    8   4  format version, 2       │ in every version to come
//!   12   4  crc32c of the block, with this field zero ┘
//!   16   8  number of the segment, from 1
//!   24   8  lsn of its first record
//!   32  16  chain hash before its first record
//!   48   8  incarnation: how many times the journal had been opened
//!   56   8  length of the segment in bytes
//!   64   4  longest group in bytes, padding included
//!   68   2  shards
//!
//! group = group header, frame, frame, …, trailer
//!
//! group header (64 bytes)
//!    0   4  magic "TGRP"
//!    4   4  crc32c of bytes 8 .. 64
//!    8   4  length in bytes, header to trailer, without the padding
//!   12   4  records
//!   16   8  lsn of its first record
//!   24   4  how many of its 512-byte sectors are all zero
//!   28   4  zero
//!   32  16  chain hash before its first record
//!   48   8  incarnation
//!   56   8  zero
//!
//! frame (40 bytes and the payload, then zeros to a multiple of 8)
//!    0   4  crc32c of bytes 4 .. 40 and the payload
//!    4   4  length of the payload
//!    8   8  lsn
//!   16  16  chain hash before this record
//!   32   2  shard
//!   34   2  zero
//!   36   4  index within its group, from 0
//!
//! trailer (8 bytes) "TGRPEND" 0xA5
//! ```
//!
//! The chain hash after a record is the first 16 bytes of SHA-256 over the hash before it, shard, length and payload.
//!
//! **Torn or damaged?** Disks write sectors whole or not at all, and the sectors of a segment are zero before. So a
//! write that was cut short lacks sectors: more of them are zero than its header says, or its trailer is missing, or
//! its header is. A group that has all its sectors and still fails a checksum was changed later: that is damage. The
//! trailer's last byte has four bits set, so one flipped bit cannot pass for a missing trailer.

use std::ops::Range;

use engine::model::ids::ShardId;
use engine::plants::{Plant, planted};
use sha2::{Digest, Sha256};

use super::{
    Chain,
    buffer::{BLOCK, is_zero},
};

/// The newest format version this program reads, and the one it writes. Version 1 was written while the records' format
/// was still being made, before any festival was recorded, and is refused; 2 is read for ever.
pub(crate) const VERSION: u32 = 2;
/// The oldest format version this program reads.
pub(crate) const OLDEST_VERSION: u32 = 2;
/// The unit a disk writes whole or not at all, in bytes.
pub(crate) const SECTOR: usize = 512;
pub(crate) const GROUP_HEADER: usize = 64;
pub(crate) const FRAME_HEADER: usize = 40;
pub(crate) const TRAILER: [u8; 8] = *b"TGRPEND\xA5";

const SEGMENT_MAGIC: [u8; 8] = *b"TAPGATEJ";
const GROUP_MAGIC: [u8; 4] = *b"TGRP";

/// The chain hash after a record.
pub(crate) fn chain_after(before: &Chain, shard: ShardId, payload: &[u8]) -> Chain {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(shard.0.to_le_bytes());
    hash.update((payload.len() as u32).to_le_bytes());
    hash.update(payload);
    hash.finalize()[..16].try_into().expect("16 of 32 bytes")
}

/// What a header turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded<T> {
    /// Nothing was written here.
    Unwritten,
    /// It holds.
    Valid(T),
    /// It holds, but a newer program wrote it.
    Newer(u32),
    /// It holds, but is from before the first version that is read for ever.
    Older(u32),
    /// It does not hold, for this reason.
    Broken(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub number: u64,
    pub first_lsn: u64,
    pub chain: Chain,
    pub incarnation: u64,
    pub segment_bytes: u64,
    pub group_bytes_max: u32,
    pub shards: u16,
}

impl SegmentHeader {
    pub(crate) fn encode(&self, block: &mut [u8]) {
        let block = &mut block[..BLOCK];
        block.fill(0);
        block[0..8].copy_from_slice(&SEGMENT_MAGIC);
        block[8..12].copy_from_slice(&VERSION.to_le_bytes());
        block[16..24].copy_from_slice(&self.number.to_le_bytes());
        block[24..32].copy_from_slice(&self.first_lsn.to_le_bytes());
        block[32..48].copy_from_slice(&self.chain);
        block[48..56].copy_from_slice(&self.incarnation.to_le_bytes());
        block[56..64].copy_from_slice(&self.segment_bytes.to_le_bytes());
        block[64..68].copy_from_slice(&self.group_bytes_max.to_le_bytes());
        block[68..70].copy_from_slice(&self.shards.to_le_bytes());
        let crc = crc32c::crc32c(block);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
    }

    pub(crate) fn decode(block: &[u8]) -> Decoded<Self> {
        if is_zero(block) {
            return Decoded::Unwritten;
        }
        if block.len() < BLOCK {
            return Decoded::Broken("the file ends inside the segment header");
        }
        let block = &block[..BLOCK];
        if block[0..8] != SEGMENT_MAGIC {
            return Decoded::Broken("the segment header lacks its magic");
        }
        let crc = crc32c::crc32c(&block[..12]);
        let crc = crc32c::crc32c_append(crc, &[0; 4]);
        if crc32c::crc32c_append(crc, &block[16..]) != u32_at(block, 12) {
            return Decoded::Broken("the segment header fails its checksum");
        }
        match u32_at(block, 8) {
            VERSION => Decoded::Valid(Self {
                number: u64_at(block, 16),
                first_lsn: u64_at(block, 24),
                chain: chain_at(block, 32),
                incarnation: u64_at(block, 48),
                segment_bytes: u64_at(block, 56),
                group_bytes_max: u32_at(block, 64),
                shards: u16_at(block, 68),
            }),
            newer if newer > VERSION => Decoded::Newer(newer),
            0 => Decoded::Broken("the segment header has version 0"),
            older => Decoded::Older(older),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    /// Header to trailer, without the padding.
    pub bytes: u32,
    pub records: u32,
    pub first_lsn: u64,
    pub zero_sectors: u32,
    pub chain: Chain,
    pub incarnation: u64,
}

impl GroupHeader {
    pub(crate) fn encode(&self, group: &mut [u8]) {
        let head = &mut group[..GROUP_HEADER];
        head.fill(0);
        head[0..4].copy_from_slice(&GROUP_MAGIC);
        head[8..12].copy_from_slice(&self.bytes.to_le_bytes());
        head[12..16].copy_from_slice(&self.records.to_le_bytes());
        head[16..24].copy_from_slice(&self.first_lsn.to_le_bytes());
        head[24..28].copy_from_slice(&self.zero_sectors.to_le_bytes());
        head[32..48].copy_from_slice(&self.chain);
        head[48..56].copy_from_slice(&self.incarnation.to_le_bytes());
        let crc = crc32c::crc32c(&head[8..]);
        head[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    pub(crate) fn decode(group: &[u8]) -> Decoded<Self> {
        let head = &group[..GROUP_HEADER.min(group.len())];
        if is_zero(head) {
            return Decoded::Unwritten;
        }
        if head.len() < GROUP_HEADER {
            return Decoded::Broken("the file ends inside a group header");
        }
        if head[0..4] != GROUP_MAGIC {
            return Decoded::Broken("a group header lacks its magic");
        }
        if crc32c::crc32c(&head[8..]) != u32_at(head, 4) {
            return Decoded::Broken("a group header fails its checksum");
        }
        let header = Self {
            bytes: u32_at(head, 8),
            records: u32_at(head, 12),
            first_lsn: u64_at(head, 16),
            zero_sectors: u32_at(head, 24),
            chain: chain_at(head, 32),
            incarnation: u64_at(head, 48),
        };
        if (header.bytes as usize) < GROUP_HEADER + FRAME_HEADER + TRAILER.len() || header.records == 0 {
            return Decoded::Broken("a group header names no record");
        }
        Decoded::Valid(header)
    }

    /// Where the frames end, from the start of the group.
    pub(crate) fn frames_end(&self) -> usize {
        self.bytes as usize - TRAILER.len()
    }

    /// Says whether every sector of the group's one write is there. `group` begins at the group and may be short.
    pub(crate) fn is_whole(&self, group: &[u8]) -> bool {
        let bytes = self.bytes as usize;
        group.len() >= bytes
            && group[bytes - 1] != 0
            && zero_sectors(&group[..bytes.next_multiple_of(SECTOR).min(group.len())]) <= self.zero_sectors
    }
}

/// How many sectors of `group` are all zero.
pub(crate) fn zero_sectors(group: &[u8]) -> u32 {
    group.chunks(SECTOR).filter(|sector| is_zero(sector)).count() as u32
}

/// A frame whose checksum holds. Whether it is the one that belongs here is for the reader to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub lsn: u64,
    pub index: u32,
    pub shard: ShardId,
    pub chain: Chain,
    /// Where its payload lies, from the start of the group.
    pub payload: Range<usize>,
    /// Where the next frame begins.
    pub end: usize,
}

impl Frame {
    /// What a payload of `len` bytes takes in a group.
    pub(crate) const fn room(len: usize) -> usize {
        (FRAME_HEADER + len).next_multiple_of(8)
    }

    /// Writes a frame to the start of `to`; returns what it took.
    pub(crate) fn encode(to: &mut [u8], lsn: u64, index: u32, shard: ShardId, chain: &Chain, payload: &[u8]) -> usize {
        let room = Self::room(payload.len());
        let to = &mut to[..room];
        to[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        to[8..16].copy_from_slice(&lsn.to_le_bytes());
        to[16..32].copy_from_slice(chain);
        to[32..34].copy_from_slice(&shard.0.to_le_bytes());
        to[34..36].fill(0);
        to[36..40].copy_from_slice(&index.to_le_bytes());
        to[FRAME_HEADER..FRAME_HEADER + payload.len()].copy_from_slice(payload);
        to[FRAME_HEADER + payload.len()..].fill(0);
        let crc = crc32c::crc32c(&to[4..FRAME_HEADER + payload.len()]);
        to[0..4].copy_from_slice(&crc.to_le_bytes());
        room
    }

    /// Reads the frame that begins at `at`, a place in `group`.
    pub(crate) fn decode(group: &[u8], at: usize) -> Result<Self, &'static str> {
        let head = group.get(at..at + FRAME_HEADER).ok_or("a record's header lies outside its group")?;
        let start = at + FRAME_HEADER;
        let len = u32_at(head, 4) as usize;
        let payload = start..start + len;
        let checked = group.get(at + 4..payload.end).ok_or("a record is longer than its group")?;
        if crc32c::crc32c(checked) != u32_at(head, 0) && !planted(Plant::TornTailAccepted) {
            return Err("a record fails its checksum");
        }
        Ok(Self {
            lsn: u64_at(head, 8),
            index: u32_at(head, 36),
            shard: ShardId(u16_at(head, 32)),
            chain: chain_at(head, 16),
            end: at + Self::room(len),
            payload,
        })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("2 bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn chain_at(bytes: &[u8], at: usize) -> Chain {
    bytes[at..at + 16].try_into().expect("16 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> SegmentHeader {
        SegmentHeader {
            number: 3,
            first_lsn: 77,
            chain: [9; 16],
            incarnation: 2,
            segment_bytes: 65_536,
            group_bytes_max: 8_192,
            shards: 16,
        }
    }

    #[test]
    fn headers_come_back_as_they_were_written() {
        let mut block = vec![0xFF; BLOCK];
        segment().encode(&mut block);
        assert_eq!(SegmentHeader::decode(&block), Decoded::Valid(segment()));

        let group =
            GroupHeader { bytes: 200, records: 1, first_lsn: 5, zero_sectors: 0, chain: [1; 16], incarnation: 1 };
        group.encode(&mut block);
        assert_eq!(GroupHeader::decode(&block), Decoded::Valid(group));
    }

    #[test]
    fn a_newer_version_is_told_from_a_flipped_bit() {
        let mut block = vec![0; BLOCK];
        segment().encode(&mut block);
        block[8] = VERSION as u8 + 1;
        assert_eq!(SegmentHeader::decode(&block), Decoded::Broken("the segment header fails its checksum"));
        block[12..16].fill(0);
        let crc = crc32c::crc32c(&block);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&block), Decoded::Newer(VERSION + 1));
    }

    #[test]
    fn a_frame_holds_whatever_its_payload_is() {
        for len in [0_usize, 1, 7, 8, 1000] {
            let payload = vec![0; len];
            let mut group = vec![0xEE; 4096];
            let end = 64 + Frame::encode(&mut group[64..], 0, 0, ShardId(0), &[0; 16], &payload);
            let frame = Frame::decode(&group, 64).expect("valid");
            assert_eq!((frame.payload.clone(), frame.end), (104..104 + len, end));
            assert_eq!(frame.end % 8, 0);
            group[frame.payload.end - 1] ^= 1;
            assert!(Frame::decode(&group, 64).is_err());
        }
        assert!(Frame::decode(&[0; 4096], 64).is_err(), "zeros are not a record");
    }
}
