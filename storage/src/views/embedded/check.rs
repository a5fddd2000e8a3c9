//! Verifies the file beside its use: every page's checksum, by redb's own check, on a view of the file that stays as it was
//! while the store goes on.
//!
//! redb never overwrites a page that a reader may still need. So a read transaction pins what was durable when it began;
//! the header, which does change, is remembered; and whatever the check itself writes goes into memory. What it finds is a
//! suspicion: the store is then opened anew, which checks the file with nobody beside it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Builder, ReadTransaction, ReadableDatabase, StorageBackend};

use super::{ABOUT, attempt, fault};
use crate::views::{Check, ViewsError};

/// What the check may keep of the file in memory, in bytes.
const CACHE_BYTES: usize = 8 << 20;
const BLOCK: u64 = 4_096;
/// The most that the check may write, in blocks: 64 MiB, which redb's notes of free pages take at some 100 GB of file.
const BLOCKS_MAX: usize = 16_384;

/// A check of the file at `path`, whose last durable transaction is `pinned`: nothing was committed since.
pub(super) fn of(path: &Path, pinned: ReadTransaction) -> Result<Check, ViewsError> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let beside = Beside::new(path, Arc::clone(&cancelled))
        .map_err(|why| ViewsError::Store { doing: "look at", why: why.to_string() })?;
    let expected = followed(&pinned)?;
    let run = move || {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let db = builder.create_with_backend(beside).map_err(|why| fault("check", why.into()))?;
        let found = followed(&db.begin_read().map_err(|why| fault("check", why.into()))?)?;
        drop(pinned);
        // Where the newest transaction does not hold, redb may fall back to the one before it.
        if found == expected { Ok(()) } else { Err(ViewsError::Damaged("its newest part does not hold".into())) }
    };
    Ok(Check { run: Box::new(run), cancelled })
}

fn followed(txn: &ReadTransaction) -> Result<Option<Vec<u8>>, ViewsError> {
    attempt("read", || Ok(txn.open_table(ABOUT)?.get("followed")?.map(|bytes| bytes.value().to_vec())))
}

/// The file as it was, with what was written on top of it.
#[derive(Debug)]
struct Beside {
    file: File,
    cancelled: Arc<AtomicBool>,
    own: Mutex<Own>,
}

#[derive(Debug)]
struct Own {
    len: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Beside {
    fn new(path: &Path, cancelled: Arc<AtomicBool>) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let this = Self { file, cancelled, own: Mutex::new(Own { len, blocks: BTreeMap::new() }) };
        let header = this.block(0, &this.own())?;
        this.own().blocks.insert(0, header);
        Ok(this)
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn block(&self, number: u64, own: &Own) -> io::Result<Vec<u8>> {
        if let Some(block) = own.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = vec![0; BLOCK as usize];
        self.read_file(number * BLOCK, &mut block)?;
        Ok(block)
    }

    /// Zeros where the file has become shorter: nothing that is pinned lies there.
    fn read_file(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < out.len() {
            match self.file.read_at(&mut out[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
        out[done..].fill(0);
        Ok(())
    }
}

impl StorageBackend for Beside {
    fn len(&self) -> io::Result<u64> {
        Ok(self.own().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let own = self.own();
        let end = offset + out.len() as u64;
        if end > own.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_file(offset, out)?;
        for (&number, block) in own.blocks.range(offset / BLOCK..end.div_ceil(BLOCK)) {
            let (from, until) = ((number * BLOCK).max(offset), ((number + 1) * BLOCK).min(end));
            let within = (from - number * BLOCK) as usize..(until - number * BLOCK) as usize;
            out[(from - offset) as usize..(until - offset) as usize].copy_from_slice(&block[within]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.own().len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut own = self.own();
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let number = at / BLOCK;
            let within = (at % BLOCK) as usize;
            let len = (BLOCK as usize - within).min(data.len() - done);
            let mut block = self.block(number, &own)?;
            block[within..within + len].copy_from_slice(&data[done..done + len]);
            own.blocks.insert(number, block);
            if own.blocks.len() > BLOCKS_MAX {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            done += len;
        }
        Ok(())
    }
}
