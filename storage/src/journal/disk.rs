//! The disk as the log sees it: two small traits, and the real one.
//!
//! The log always calls `write_at`, then `sync`, and acknowledges after both. How they divide the work is the disk's
//! own matter: opened with `O_DIRECT` and `O_DSYNC`, the write itself is durable and `sync` has nothing to do. A
//! simulator puts its own disk here and drives the very same log over torn writes and lying flushes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};

use super::{
    JournalError,
    buffer::{AlignedBuffer, BLOCK},
};

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The log's own writes: offsets, lengths and buffers are multiples of [`BLOCK`], and `sync` is cheap.
    Log,
    /// Reading the log beside its writer, by blocks as well. Does not go through the page cache where that can be
    /// had, since direct writes and cached reads of one file do not mix well.
    Read,
    /// Any offset and length, through the page cache.
    Plain,
}

/// One folder of files, flat, named without separators.
pub trait Disk: Send + Sync + 'static {
    /// Its open files.
    type File: DiskFile;

    /// Makes a new file, `bytes` long, reserved on disk and zero to read. Durable once the file is synced and the
    /// directory too. An existing file is replaced.
    ///
    /// # Errors
    /// What the system says; a full disk is found out here.
    fn create(&self, name: &str, bytes: u64, access: Access) -> io::Result<Self::File>;

    /// Opens a file that exists.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, name: &str, access: Access) -> io::Result<Self::File>;

    /// The names of all files, in any order.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Removes a file. Whoever has it open keeps reading.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Renames a file, replacing another of that name.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes all that was created, removed or renamed durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_dir(&self) -> io::Result<()>;

    /// The writer is done: lets another process have the folder, though readers may still be open.
    fn release(&self);
}

/// One open file.
pub trait DiskFile: Send + Sync + 'static {
    /// Writes all of `bytes` at `offset`. Durable after [`DiskFile::sync`] only; until then any part of it may be.
    ///
    /// # Errors
    /// What the system says. Any part may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes all writes so far durable.
    ///
    /// # Errors
    /// What the system says. It is never tried again: a second call may succeed and mean nothing.
    fn sync(&self) -> io::Result<()>;

    /// Reads into `bytes` at `offset`, less than all of it only where the file ends.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn len(&self) -> io::Result<u64>;

    /// Says whether the file has no bytes.
    ///
    /// # Errors
    /// What the system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// How a durable write is made, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `O_DIRECT` and `O_DSYNC`: one system call, no copy, no page cache.
    Direct,
    /// `O_DSYNC` alone, where the file system knows no direct access (tmpfs).
    Dsync,
    /// `fdatasync` after each write.
    Flush,
}

impl Way {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "O_DIRECT|O_DSYNC",
            Self::Dsync => "O_DSYNC",
            Self::Flush => "fdatasync",
        }
    }

    fn flags(self) -> OFlags {
        match self {
            Self::Direct => OFlags::DIRECT | OFlags::DSYNC,
            Self::Dsync => OFlags::DSYNC,
            Self::Flush => OFlags::empty(),
        }
    }
}

/// A folder of this machine. One that was opened for writing holds the folder's lock until it is released or
/// dropped.
pub struct FolderDisk {
    dir: PathBuf,
    way: Way,
    /// The lock file; closing it frees the lock, also when the process is killed.
    lock: Mutex<Option<File>>,
}

const LOCK: &str = "lock";
const PROBE: &str = "probe.tmp";

impl FolderDisk {
    /// Takes the folder for this process alone and finds out the best way to write to it.
    ///
    /// # Errors
    /// [`JournalError::Missing`], [`JournalError::ReadOnly`], [`JournalError::Locked`], or what the system says.
    pub fn lock(dir: &Path) -> Result<Self, JournalError> {
        must_exist(dir)?;
        let lock = take_lock(&dir.join(LOCK))?;
        let way = best_way(dir)?;
        Ok(Self { dir: dir.to_owned(), way, lock: Mutex::new(Some(lock)) })
    }

    /// Takes the folder for reading, beside whoever writes to it.
    ///
    /// # Errors
    /// [`JournalError::Missing`].
    pub fn read_only(dir: &Path) -> Result<Self, JournalError> {
        must_exist(dir)?;
        Ok(Self { dir: dir.to_owned(), way: Way::Direct, lock: Mutex::new(None) })
    }

    /// How durable writes are made here.
    pub fn way(&self) -> Way {
        self.way
    }

    /// The same by another way than the best.
    #[cfg(test)]
    pub(crate) fn by(self, way: Way) -> Self {
        Self { way, ..self }
    }

    fn file(&self, name: &str, access: Access, options: &mut OpenOptions) -> io::Result<FolderFile> {
        let path = self.dir.join(name);
        let flags = match access {
            Access::Log => self.way.flags(),
            Access::Read if self.way == Way::Direct => OFlags::DIRECT,
            Access::Read | Access::Plain => OFlags::empty(),
        };
        let opened = options.clone().custom_flags(flags.bits() as i32).open(&path);
        let file = match opened {
            // A reader has not probed the folder: it finds out here that there is no direct access.
            Err(error) if access == Access::Read && error.kind() == io::ErrorKind::InvalidInput => options.open(&path),
            other => other,
        }?;
        let sync = access == Access::Plain || self.way == Way::Flush;
        Ok(FolderFile { file, sync })
    }
}

impl Disk for FolderDisk {
    type File = FolderFile;

    fn create(&self, name: &str, bytes: u64, access: Access) -> io::Result<FolderFile> {
        let file = self.file(name, access, OpenOptions::new().read(true).write(true).create(true).truncate(true))?;
        if bytes > 0 {
            match rustix::fs::fallocate(&file.file, FallocateFlags::empty(), 0, bytes) {
                // Not every file system can reserve; writing the zeros will then find out that the disk is full.
                Err(rustix::io::Errno::OPNOTSUPP) => file.file.set_len(bytes)?,
                other => other?,
            }
        }
        Ok(file)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<FolderFile> {
        self.file(name, access, OpenOptions::new().read(true).write(access == Access::Log))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            // A name that is not text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn release(&self) {
        self.lock.lock().expect("nothing panics under this lock").take();
    }
}

/// A file of a [`FolderDisk`].
pub struct FolderFile {
    file: File,
    /// Whether `sync` has anything to do.
    sync: bool,
}

impl DiskFile for FolderFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        if self.sync { self.file.sync_data() } else { Ok(()) }
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < bytes.len() {
            match self.file.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if !done.is_multiple_of(BLOCK) {
                break; // the file ends inside a block, and a direct read cannot go on from there
            }
        }
        Ok(done)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

fn must_exist(dir: &Path) -> Result<(), JournalError> {
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(JournalError::Missing { dir: dir.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(JournalError::Missing { dir: dir.to_owned() }),
        Err(error) => Err(JournalError::io("look at", &dir.display().to_string(), error)),
    }
}

/// How often, and how far apart, a lock is asked for that this very process is said to hold: half a second in all.
const OWN_LOCK_TRIES: u32 = 50;
const OWN_LOCK_PAUSE: Duration = Duration::from_millis(10);

fn take_lock(path: &Path) -> Result<File, JournalError> {
    let name = path.display().to_string();
    let fault = |error: io::Error| JournalError::io("lock", &name, error);
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(fault)?;
    let own = std::process::id().to_string();
    for attempt in 1.. {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut by = String::new();
                let read = file.rewind().and_then(|()| file.read_to_string(&mut by));
                // This process had it, and may have let go: a child that was forked meanwhile shares the open file until
                // it becomes another program.
                if by.trim() == own && attempt < OWN_LOCK_TRIES {
                    std::thread::sleep(OWN_LOCK_PAUSE);
                    continue;
                }
                let by =
                    if read.is_ok() && !by.trim().is_empty() { by.trim().to_owned() } else { "unknown".to_owned() };
                return Err(JournalError::Locked { by });
            }
            Err(error) => return Err(fault(error.into())),
        }
    }
    // For the other's message only; the lock itself is what counts.
    file.set_len(0).and_then(|()| file.rewind()).map_err(fault)?;
    writeln!(file, "{own}").map_err(fault)?;
    Ok(file)
}

/// Tries each way on a small file: some file systems accept the flag and refuse the write.
fn best_way(dir: &Path) -> Result<Way, JournalError> {
    let path = dir.join(PROBE);
    let mut last = io::Error::from(io::ErrorKind::Unsupported);
    for way in [Way::Direct, Way::Dsync, Way::Flush] {
        let tried = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(way.flags().bits() as i32)
            .open(&path)
            .and_then(|file| file.write_all_at(AlignedBuffer::zeroed(BLOCK).bytes(), 0));
        match tried {
            Ok(()) => {
                fs::remove_file(&path).map_err(|error| JournalError::io("remove", PROBE, error))?;
                return Ok(way);
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => last = error,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => last = error,
            Err(error) => return Err(JournalError::io("write to", &path.display().to_string(), error)),
        }
    }
    Err(JournalError::io("write to", &path.display().to_string(), last))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a child does between its fork and its exec: it holds the file that was locked a little longer.
    #[test]
    fn a_lock_that_a_child_still_shares_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let first = take_lock(&dir.path().join(LOCK)).unwrap();
        let shared = first.try_clone().unwrap();
        drop(first);
        let child = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(shared);
        });
        take_lock(&dir.path().join(LOCK)).expect("nobody uses the folder");
        child.join().unwrap();
    }

    #[test]
    fn a_missing_folder_is_not_created() {
        let dir = tempfile::tempdir().expect("temp dir");
        let missing = dir.path().join("no-mount");
        assert!(matches!(FolderDisk::lock(&missing), Err(JournalError::Missing { .. })));
        assert!(!missing.exists());
    }

    #[test]
    fn the_second_owner_learns_who_the_first_is() {
        let dir = tempfile::tempdir().expect("temp dir");
        let first = FolderDisk::lock(dir.path()).expect("free");
        let Err(JournalError::Locked { by }) = FolderDisk::lock(dir.path()) else { panic!("not locked") };
        assert_eq!(by, std::process::id().to_string());
        drop(first);
        FolderDisk::lock(dir.path()).expect("free again");
    }

    #[test]
    fn files_are_written_and_read_by_blocks() {
        let dir = tempfile::tempdir().expect("temp dir");
        let disk = FolderDisk::lock(dir.path()).expect("free");
        let file = disk.create("a", 2 * BLOCK as u64, Access::Log).expect("created");
        let mut buffer = AlignedBuffer::zeroed(BLOCK);
        buffer.bytes_mut().fill(5);
        file.write_at(BLOCK as u64, buffer.bytes()).expect("written");
        file.sync().expect("synced");
        let mut back = AlignedBuffer::zeroed(3 * BLOCK);
        let reader = disk.open("a", Access::Read).expect("opened");
        assert_eq!(reader.read_at(0, back.bytes_mut()).expect("read"), 2 * BLOCK);
        assert_eq!(back.bytes()[BLOCK..2 * BLOCK], [5; BLOCK]);
        assert!(back.bytes()[..BLOCK].iter().all(|byte| *byte == 0));
    }
}
