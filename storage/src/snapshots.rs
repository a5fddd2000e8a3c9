//! Snapshots: the state of a shard at a position of its journal, so that it need not replay from zero.
//!
//! A snapshot is a convenience, never the truth: one that does not verify is passed over with a warning, and the shard
//! replays from the one before it, or from zero. Two are kept for that reason.
//!
//! The file, little endian: magic "TAPGATES", format version (4), crc32c of the version and all that follows (4), length of the meta
//! data (4), meta data (postcard), body to the end of the file.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use engine::model::ids::ShardId;
use serde::{Deserialize, Serialize};

use crate::journal::{Chain, Position};

#[cfg(feature = "cluster")]
pub mod cql;

const MAGIC: [u8; 8] = *b"TAPGATES";
const VERSION: u32 = 1;
const HEADER: usize = 20;
/// How many snapshots a shard keeps.
pub const KEPT: usize = 2;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    pub shard: ShardId,
    /// The first position that it does not cover: where to replay from.
    pub position: Position,
    /// How many records of the shard it covers.
    pub seq: u64,
    /// The shard's time, in milliseconds since 1970.
    pub time_ms: i64,
    /// The shard's chain hash after the last record covered.
    pub chain: Chain,
    /// A hash of the state, for whoever restores it to compare.
    pub state_hash: [u8; 32],
    /// The format of the body, which is the engine's own matter.
    pub format: u32,
}

/// Whether a snapshot that verifies can be used: by what it says of itself, and its body.
pub type Accept<'a> = dyn FnMut(&SnapshotMeta, &[u8]) -> bool + 'a;

/// Where snapshots are kept.
pub trait Snapshots: Send + Sync + 'static {
    /// Keeps a snapshot, durably, and forgets all but the newest [`KEPT`] of that shard, by `seq`.
    ///
    /// # Errors
    /// [`SnapshotError`]; what was kept before is still there.
    fn save(&self, meta: &SnapshotMeta, body: &[u8]) -> Result<(), SnapshotError>;

    /// Takes the newest snapshot of `shard` that verifies, that covers no more than what lies before `within`, the journal's
    /// end, and that `accept` says yes to: only whoever knows the state can tell whether it is what it says. Says whether
    /// there was one. Damaged ones are passed over with a warning. So are those that are ahead of the journal, and they are
    /// set aside: the journal will reach their position again, with another history.
    ///
    /// # Errors
    /// [`SnapshotError::Io`] if the store cannot be asked; [`SnapshotError::NewerVersion`] if a newer program wrote the
    /// newest one.
    fn newest(&self, shard: ShardId, within: Position, accept: &mut Accept<'_>) -> Result<bool, SnapshotError>;
}

/// What can go wrong with snapshots.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The store's own fault.
    #[error("could not {doing} snapshot {file}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A newer program wrote it.
    #[error("snapshot {file} has version {found}, this program knows up to {VERSION}: start the newer program")]
    NewerVersion {
        file: String,
        /// Its version.
        found: u32,
    },
}

/// Snapshots as files in a folder.
pub struct FileSnapshots {
    dir: PathBuf,
}

impl FileSnapshots {
    /// Snapshots in `dir`, a folder that exists.
    ///
    /// # Errors
    /// [`SnapshotError::Io`] if it does not.
    pub fn open(dir: &Path) -> Result<Self, SnapshotError> {
        let this = Self { dir: dir.to_owned() };
        this.names(ShardId(0))?;
        Ok(this)
    }

    /// The snapshot that covers most of the journal, by name, of all that verify: up to which position. Changes nothing.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn furthest(&self) -> Result<Option<(String, Position)>, SnapshotError> {
        let dir = self.dir.display().to_string();
        let fault = |source| SnapshotError::Io { doing: "list the folder of", file: dir.clone(), source };
        let mut furthest: Option<(String, Position)> = None;
        for entry in fs::read_dir(&self.dir).map_err(fault)? {
            let Ok(name) = entry.map_err(fault)?.file_name().into_string() else { continue };
            if !name.ends_with(".snapshot") {
                continue;
            }
            // It may just have given way to a newer one.
            let Ok(bytes) = fs::read(self.dir.join(&name)) else { continue };
            let Ok((meta, _)) = decode(bytes) else { continue };
            if furthest.as_ref().is_none_or(|(_, position)| meta.position > *position) {
                furthest = Some((name, meta.position));
            }
        }
        Ok(furthest)
    }

    /// The shard's snapshots by name, newest first.
    fn names(&self, shard: ShardId) -> Result<Vec<String>, SnapshotError> {
        let dir = self.dir.display().to_string();
        let fault = |source| SnapshotError::Io { doing: "list the folder of", file: dir.clone(), source };
        let prefix = format!("{:05}-", shard.0);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(fault)? {
            let name = entry.map_err(fault)?.file_name().into_string();
            names.extend(name.ok().filter(|name| name.starts_with(&prefix) && name.ends_with(".snapshot")));
        }
        // The number is padded, so names sort as numbers do.
        names.sort_unstable_by(|left, right| right.cmp(left));
        Ok(names)
    }
}

impl Snapshots for FileSnapshots {
    fn save(&self, meta: &SnapshotMeta, body: &[u8]) -> Result<(), SnapshotError> {
        let name = format!("{:05}-{:020}.snapshot", meta.shard.0, meta.seq);
        let unfinished = self.dir.join(format!("{name}.tmp"));
        let fault = |doing: &'static str| {
            let file = name.clone();
            move |source| SnapshotError::Io { doing, file, source }
        };
        let head = encode_head(meta, body);
        let mut file = File::create(&unfinished).map_err(fault("create"))?;
        file.write_all(&head).and_then(|()| file.write_all(body)).map_err(fault("write"))?;
        file.sync_all().map_err(fault("flush"))?;
        drop(file);
        fs::rename(&unfinished, self.dir.join(&name)).map_err(fault("rename"))?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(fault("flush the folder of"))?;

        for old in self.names(meta.shard)?.iter().filter(|old| **old != name).skip(KEPT - 1) {
            fs::remove_file(self.dir.join(old)).map_err(fault("remove an older one than"))?;
        }
        Ok(())
    }

    fn newest(&self, shard: ShardId, within: Position, accept: &mut Accept<'_>) -> Result<bool, SnapshotError> {
        for name in self.names(shard)? {
            let bytes = fs::read(self.dir.join(&name)).map_err(|source| SnapshotError::Io {
                doing: "read",
                file: name.clone(),
                source,
            })?;
            match decode(bytes) {
                Ok((meta, _)) if meta.shard == shard && meta.position > within => {
                    tracing::warn!(
                        name,
                        covers = meta.position.0,
                        journal = within.0,
                        "a snapshot is skipped and set aside: it is ahead of the journal"
                    );
                    let aside = self.dir.join(format!("{name}.ahead"));
                    fs::rename(self.dir.join(&name), aside).map_err(|source| SnapshotError::Io {
                        doing: "set aside",
                        file: name,
                        source,
                    })?;
                }
                Ok((meta, body)) if meta.shard == shard => {
                    if accept(&meta, &body) {
                        return Ok(true);
                    }
                }
                Ok(_) => tracing::warn!(name, "a snapshot is skipped: it is of another shard than its name says"),
                Err(Unreadable::Newer(found)) => return Err(SnapshotError::NewerVersion { file: name, found }),
                Err(Unreadable::Damaged(why)) => tracing::warn!(name, why, "a snapshot is skipped: it is damaged"),
            }
        }
        Ok(false)
    }
}

fn encode_head(meta: &SnapshotMeta, body: &[u8]) -> Vec<u8> {
    let meta = postcard::to_allocvec(meta).expect("plain data always encodes");
    let mut head = Vec::with_capacity(HEADER + meta.len());
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&[0; 4]);
    head.extend_from_slice(&(meta.len() as u32).to_le_bytes());
    head.extend_from_slice(&meta);
    let crc = crc32c::crc32c_append(checksum(&head), body);
    head[12..16].copy_from_slice(&crc.to_le_bytes());
    head
}

/// Over all but the magic and the checksum itself.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[8..12]), &bytes[16..])
}

enum Unreadable {
    Newer(u32),
    Damaged(&'static str),
}

fn decode(mut bytes: Vec<u8>) -> Result<(SnapshotMeta, Vec<u8>), Unreadable> {
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    if bytes.len() < HEADER || bytes[..8] != MAGIC {
        return Err(Unreadable::Damaged("it does not begin like one"));
    }
    if checksum(&bytes) != number(12) {
        return Err(Unreadable::Damaged("it fails its checksum"));
    }
    match number(8) {
        VERSION => {}
        newer if newer > VERSION => return Err(Unreadable::Newer(newer)),
        _ => return Err(Unreadable::Damaged("it has version 0")),
    }
    let end = HEADER + number(16) as usize;
    let meta = bytes.get(HEADER..end).ok_or(Unreadable::Damaged("it is too short"))?;
    let meta = postcard::from_bytes(meta).map_err(|_| Unreadable::Damaged("its meta data does not decode"))?;
    bytes.drain(..end);
    Ok((meta, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::memory::MemorySnapshots;
    use crate::testing::snapshots::{meta, newest_of, suite};

    #[test]
    fn in_memory() {
        suite(&MemorySnapshots::new());
    }

    #[test]
    fn in_files() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = FileSnapshots::open(dir.path()).expect("opened");
        suite(&store);
        let ahead = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|ending| ending == "ahead");
        let kept = fs::read_dir(dir.path()).expect("lists").map(|entry| entry.expect("lists"));
        assert_eq!(kept.filter(ahead).count(), 1, "a person can still look at what was set aside");
    }

    #[test]
    fn every_flipped_bit_is_found_and_the_one_before_is_taken() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = FileSnapshots::open(dir.path()).expect("opened");
        store.save(&meta(0, 1), b"the state before").expect("saved");
        store.save(&meta(0, 2), b"the state").expect("saved");
        let newest = dir.path().join(&store.names(ShardId(0)).expect("listed")[0]);
        let good = fs::read(&newest).expect("read");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode(bad), Err(Unreadable::Damaged(_))), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(matches!(decode(good[..len].to_vec()), Err(Unreadable::Damaged(_))), "cut to {len}");
        }
        fs::write(&newest, &good[..good.len() / 2]).expect("damaged");
        let (found, body) = newest_of(&store, 0, Position(u64::MAX)).expect("there");
        assert_eq!((found.seq, body.as_slice()), (1, b"the state before".as_slice()));
    }
}
