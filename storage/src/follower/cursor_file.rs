//! A follower's cursor in a file of its own, for a target that has no store to keep it in: whoever writes letters keeps
//! here how far they were written.
//!
//! The file, little endian: magic "TAPGATEF", format version (4), crc32c of all that follows (4), and the cursor
//! (postcard). It is replaced as a whole, so that a crash leaves the one before or this one.

use std::io;

use super::Followed;
use crate::journal::disk::{Access, Disk, DiskFile as _};

const MAGIC: [u8; 8] = *b"TAPGATEF";
const VERSION: u32 = 1;
const HEADER: usize = 16;

/// What can go wrong with it. Nobody begins anew because of it: what was done is done.
#[derive(Debug, thiserror::Error)]
pub enum CursorError {
    /// The disk's own fault.
    #[error("could not {doing} {file}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what was written.
    #[error("{file} is damaged: put a backup of it back, or whatever it stands for is done again from the beginning")]
    Damaged { file: String },
    /// A newer program wrote it.
    #[error("{file} has version {found}, this program knows up to {VERSION}: start the newer program")]
    NewerVersion {
        file: String,
        /// Its version.
        found: u32,
    },
}

/// The cursor of one follower. One writer.
pub struct CursorFile<D: Disk> {
    disk: D,
    name: String,
}

impl<D: Disk> CursorFile<D> {
    /// The file of this name in a folder that is this process's alone.
    pub fn on(disk: D, name: &str) -> Self {
        Self { disk, name: name.to_owned() }
    }

    /// What it says; `None` if there is none yet.
    ///
    /// # Errors
    /// [`CursorError`].
    pub fn read(&self) -> Result<Option<Followed>, CursorError> {
        let fault = |source| self.fault("read", source);
        let file = match self.disk.open(&self.name, Access::Plain) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(fault)?,
        };
        let mut bytes = vec![0; file.len().map_err(fault)? as usize];
        let read = file.read_at(0, &mut bytes).map_err(fault)?;
        bytes.truncate(read);
        let damaged = || CursorError::Damaged { file: self.name.clone() };
        if bytes.len() < HEADER || bytes[..8] != MAGIC {
            return Err(damaged());
        }
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        if number(8) > VERSION {
            return Err(CursorError::NewerVersion { file: self.name.clone(), found: number(8) });
        }
        if number(8) != VERSION || number(12) != crc32c::crc32c(&bytes[HEADER..]) {
            return Err(damaged());
        }
        postcard::from_bytes(&bytes[HEADER..]).map(Some).map_err(|_| damaged())
    }

    /// Puts `followed` in the place of what it says, durably.
    ///
    /// # Errors
    /// [`CursorError::Io`]; then it says what it said before, or this.
    pub fn write(&self, followed: &Followed) -> Result<(), CursorError> {
        let cursor = postcard::to_allocvec(followed).expect("plain data");
        let mut bytes = Vec::with_capacity(HEADER + cursor.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&cursor).to_le_bytes());
        bytes.extend_from_slice(&cursor);
        let unfinished = format!("{}.tmp", self.name);
        let file = self.disk.create(&unfinished, bytes.len() as u64, Access::Plain);
        let file = file.map_err(|source| self.fault("create", source))?;
        file.write_at(0, &bytes).map_err(|source| self.fault("write", source))?;
        file.sync().map_err(|source| self.fault("flush", source))?;
        self.disk.rename(&unfinished, &self.name).map_err(|source| self.fault("rename", source))?;
        self.disk.sync_dir().map_err(|source| self.fault("flush the folder of", source))
    }

    fn fault(&self, doing: &'static str, source: io::Error) -> CursorError {
        CursorError::Io { doing, file: self.name.clone(), source }
    }
}
