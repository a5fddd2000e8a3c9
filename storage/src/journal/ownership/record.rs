//! What lies in a partition, to the byte.
//!
//! The Kafka record's *key* is the header below, little endian; its *value* is the shard's own record, untouched. So nothing is
//! copied to put a header before a record. A heartbeat's value is empty; a claim's says who wants the shard (second table).
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 4 | magic `TGKJ` |
//! | 4 | 1 | version of this format, 1 |
//! | 5 | 1 | kind: 1 claim, 2 batch, 3 heartbeat |
//! | 6 | 2 | the shard, which is the partition |
//! | 8 | 8 | which log: the first 8 bytes of SHA-256 over the cluster's name |
//! | 16 | 8 | epoch |
//! | 24 | 16 | incarnation: drawn at random for each claim |
//! | 40 | 8 | batch: its number among the shard's batches, from 1 |
//! | 48 | 16 | batch: the chain hash before it |
//!
//! A claim and a heartbeat end at byte 40, a batch at byte 64. The chain hash after a batch is the file journal's: the first 16
//! bytes of SHA-256 over the hash before it, shard, length and record; before the first it is all zeros.
//!
//! The value of a claim is a [`Member`](crate::journal::Member) of the cluster, at most 1,024 bytes:
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 1 | version of this table, 1; another one may only add to its end |
//! | 1 | 4 | the node's number, from 1 |
//! | 5 | 2 | length of the next |
//! | 7 | | where other nodes reach it: `host:port`, UTF-8 |
//! | | 2 | length of the next |
//! | | | where devices reach it: `host:port`, UTF-8 |
//!
//! It is empty if the node is alone. Nothing that stands there decides who owns the shard: what is not understood is a claim of
//! somebody unknown, and no damage.

use core::fmt;

use engine::model::ids::ShardId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::journal::Chain;

const MAGIC: [u8; 4] = *b"TGKJ";
/// The newest version that this program reads, and the one that it writes.
pub const VERSION: u8 = 1;
const CLAIM: u8 = 1;
const BATCH: u8 = 2;
const HEARTBEAT: u8 = 3;
const SHORT: usize = 40;
/// The longest header, in bytes.
pub const HEADER_BYTES_MAX: usize = 64;

/// One attempt to own one shard. Never used twice.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub [u8; 16]);

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The first four bytes tell apart all that one log will ever see.
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Which log a record belongs to: that of one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Log(u64);

impl Log {
    /// The log of the cluster of this name.
    pub fn of(cluster: &str) -> Self {
        Self(u64::from_le_bytes(Sha256::digest(cluster)[..8].try_into().expect("8 of 32 bytes")))
    }
}

/// What a record says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Header {
    /// Whoever writes this wants to own the shard.
    Claim { epoch: u64, incarnation: Incarnation },
    /// One record of the shard.
    Batch { epoch: u64, incarnation: Incarnation, seq: u64, prev_hash: Chain },
    /// The owner had nothing to write.
    Heartbeat { epoch: u64, incarnation: Incarnation },
}

/// Why a record was not understood. Nothing behind it is read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("a record of format {found}, and this program knows up to {VERSION}: start the newer program")]
    Newer { found: u8 },
    #[error("a record of another cluster's log: check the topic and the cluster's name in the configuration")]
    OtherLog,
    #[error("a record of shard {found}: it was not written by this program")]
    OtherShard { found: u16 },
    #[error("not a record of a journal ({0}): something else writes into this topic")]
    NotOurs(&'static str),
}

impl Header {
    pub fn epoch(&self) -> u64 {
        match *self {
            Self::Claim { epoch, .. } | Self::Batch { epoch, .. } | Self::Heartbeat { epoch, .. } => epoch,
        }
    }

    pub fn incarnation(&self) -> Incarnation {
        match *self {
            Self::Claim { incarnation, .. } | Self::Batch { incarnation, .. } | Self::Heartbeat { incarnation, .. } => {
                incarnation
            }
        }
    }

    /// Writes it behind what is in `to`.
    pub fn encode(&self, log: Log, shard: ShardId, to: &mut Vec<u8>) {
        let kind = match self {
            Self::Claim { .. } => CLAIM,
            Self::Batch { .. } => BATCH,
            Self::Heartbeat { .. } => HEARTBEAT,
        };
        to.extend_from_slice(&MAGIC);
        to.extend_from_slice(&[VERSION, kind]);
        to.extend_from_slice(&shard.0.to_le_bytes());
        to.extend_from_slice(&log.0.to_le_bytes());
        to.extend_from_slice(&self.epoch().to_le_bytes());
        to.extend_from_slice(&self.incarnation().0);
        if let Self::Batch { seq, prev_hash, .. } = self {
            to.extend_from_slice(&seq.to_le_bytes());
            to.extend_from_slice(prev_hash);
        }
    }

    /// Reads what [`Header::encode`] wrote, for a record with a value of so many bytes that lies in `shard` of `log`.
    ///
    /// # Errors
    /// [`Unreadable`]. The version is looked at before anything that another version may have changed.
    pub fn decode(bytes: &[u8], value_bytes: usize, log: Log, shard: ShardId) -> Result<Self, Unreadable> {
        if bytes.len() < 5 || bytes[..4] != MAGIC {
            return Err(Unreadable::NotOurs("no header"));
        }
        if bytes[4] > VERSION {
            return Err(Unreadable::Newer { found: bytes[4] });
        }
        if bytes[4] == 0 || bytes.len() < SHORT {
            return Err(Unreadable::NotOurs("its header is cut short"));
        }
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let hash = |at: usize| bytes[at..at + 16].try_into().expect("16 bytes");
        if Log(number(8)) != log {
            return Err(Unreadable::OtherLog);
        }
        let found = u16::from_le_bytes([bytes[6], bytes[7]]);
        if found != shard.0 {
            return Err(Unreadable::OtherShard { found });
        }
        let (epoch, incarnation) = (number(16), Incarnation(hash(24)));
        match (bytes[5], bytes.len(), value_bytes) {
            (CLAIM, SHORT, _) => Ok(Self::Claim { epoch, incarnation }),
            (HEARTBEAT, SHORT, 0) => Ok(Self::Heartbeat { epoch, incarnation }),
            (BATCH, HEADER_BYTES_MAX, _) => {
                Ok(Self::Batch { epoch, incarnation, seq: number(40), prev_hash: hash(48) })
            }
            _ => Err(Unreadable::NotOurs("its kind and its length do not agree")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(0x0203);

    fn all() -> [Header; 3] {
        let (epoch, incarnation) = (5, Incarnation(*b"incarnation no 1"));
        [
            Header::Claim { epoch, incarnation },
            Header::Batch { epoch, incarnation, seq: 77, prev_hash: *b"what came before" },
            Header::Heartbeat { epoch, incarnation },
        ]
    }

    fn encoded(header: &Header) -> Vec<u8> {
        let mut bytes = Vec::new();
        header.encode(Log::of("rehearsal"), SHARD, &mut bytes);
        bytes
    }

    /// Read for ever: a change here is another version.
    #[test]
    fn records_are_what_the_table_says() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let common = "03022bcd3e14dca8fdb10500000000000000696e6361726e6174696f6e206e6f2031";
        let golden = [
            format!("54474b4a0101{common}"),
            format!("54474b4a0102{common}4d00000000000000776861742063616d65206265666f7265"),
            format!("54474b4a0103{common}"),
        ];
        for (header, golden) in all().iter().zip(golden) {
            assert_eq!(hex(&encoded(header)), golden);
        }
        assert_eq!(all().map(|header| encoded(&header).len()), [40, 64, 40]);
    }

    #[test]
    fn a_record_reads_back_and_no_other_does() {
        let log = Log::of("rehearsal");
        for header in all() {
            let bytes = encoded(&header);
            let with_value = !matches!(header, Header::Heartbeat { .. });
            assert_eq!(Header::decode(&bytes, 0, log, SHARD), Ok(header));
            assert_eq!(Header::decode(&bytes, 9, log, SHARD).is_ok(), with_value, "a heartbeat has no value");
            assert_eq!(Header::decode(&bytes, 0, Log::of("festival"), SHARD), Err(Unreadable::OtherLog));
            let other = Header::decode(&bytes, 0, log, ShardId(1));
            assert_eq!(other, Err(Unreadable::OtherShard { found: SHARD.0 }));
            for len in 0..bytes.len() {
                assert!(Header::decode(&bytes[..len], 0, log, SHARD).is_err(), "{len} bytes");
            }
            for kind in 4..=255 {
                let spoilt = [&bytes[..5], &[kind], &bytes[6..]].concat();
                assert!(matches!(Header::decode(&spoilt, 0, log, SHARD), Err(Unreadable::NotOurs(_))));
            }
            // Whatever else a newer version has changed.
            let newer = [&bytes[..4], &[2, 200, 9, 9]].concat();
            assert_eq!(Header::decode(&newer, 7, log, SHARD), Err(Unreadable::Newer { found: 2 }));
        }
    }
}
