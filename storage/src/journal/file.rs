//! The file journal: one log per node, and a thread that writes it.
//!
//! The thread takes all that is queued, writes it as one group, tells the sink, and goes on. There is no timer that
//! fills a batch: while one group is being written the next one gathers by itself, and alone a record goes at once, written
//! by the shard's own thread (`group_writer.rs`).
//!
//! Opening takes the folder's lock and recovers; [`Opened::start`] begins to take records.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use engine::model::ids::ShardId;

use super::{
    Cursor, Journal, JournalError, OpenedJournal, Reader, Records, Refused, Sink,
    disk::{Disk, FolderDisk},
    group_writer::Shared,
    housekeeper::Housekeeper,
    log::{End, LogOptions, LogWriter},
    offline,
    queue::{Queue, Queued},
    reached::{self, Keeper},
    reader::{LogReader, Tip},
    recover::{Recovery, recover},
};

/// The settings of a file journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The shape of the log.
    pub log: LogOptions,
    /// How many bytes may be handed over and not yet durable. Default 32 MiB: a quarter of a second of the highest
    /// load. A single longer record is taken when nothing else is queued.
    pub queue_bytes_max: usize,
    /// How many records may be handed over and not yet durable. Default 4,096: 16 shards, 256 batches each.
    pub queue_records_max: usize,
    /// How long the thread looks for a record before it sleeps, in µs; 0 never looks. Waking a sleeping thread costs
    /// 70–90 µs, so a wait about a quarter as long wins when records come close together and wastes little when they
    /// do not. Default 20, and 0 on a machine with one core.
    pub spin_us: u32,
    /// The longest write, in µs, after which a shard's thread may be the one that waits for the next. Default 1,000: a few
    /// times what the disks take that were measured (70–210 µs). Where a disk takes longer, a hop no longer matters.
    pub quick_us: u32,
    /// Whether sealed segments are compressed in the background. Default true.
    pub compress: bool,
}

impl Default for Options {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            log: LogOptions::default(),
            queue_bytes_max: 32 << 20,
            queue_records_max: 4096,
            spin_us: if cores > 1 { 20 } else { 0 },
            quick_us: 1_000,
            compress: true,
        }
    }
}

/// A journal that is fenced and recovered, and takes no records yet: the moment to replay.
pub struct Opened<D: Disk = FolderDisk> {
    disk: Arc<D>,
    options: Options,
    writer: LogWriter<D>,
    tip: Arc<Tip>,
    recovery: Recovery,
}

impl<D: Disk> Opened<D> {
    /// What recovery found and did.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// The writer and the readers, for whoever drives them without threads, as the simulator does.
    pub fn into_parts(self) -> (LogWriter<D>, Readers<D>) {
        (self.writer, Readers { disk: self.disk, tip: self.tip })
    }

    /// Starts the threads. From now on records are taken, and `sink` hears what becomes of them.
    ///
    /// # Errors
    /// [`JournalError::Io`] if the system gives no threads.
    pub fn start(self, sink: Arc<dyn Sink>) -> Result<FileJournal<D>, JournalError> {
        let Self { disk, options, writer, tip, recovery } = self;
        let housekeeper = Arc::new(Housekeeper::new(Arc::clone(&disk), options.log, options.compress));
        housekeeper.sealed(&recovery.sealed);

        let fault = |error| JournalError::io("start a thread for", "the journal", error);
        let preparer = {
            let housekeeper = Arc::clone(&housekeeper);
            thread::Builder::new()
                .name("journal-prepare".into())
                .spawn(move || housekeeper.prepare_all())
                .map_err(fault)?
        };
        let packer = {
            let keeper = Arc::clone(&housekeeper);
            let packer = thread::Builder::new().name("journal-pack".into()).spawn(move || keeper.pack_all());
            packer.inspect_err(|_| housekeeper.stop()).map_err(fault)?
        };
        let reached = Arc::new(Keeper::new(Arc::clone(&disk), Arc::clone(&tip)));
        let keeper = {
            let keeper = Arc::clone(&reached);
            let keeper = thread::Builder::new().name("journal-reached".into()).spawn(move || keeper.keep());
            keeper.inspect_err(|_| housekeeper.stop()).map_err(fault)?
        };
        let queue = Queue::new(options.queue_bytes_max, options.queue_records_max);
        let beside = (tip, Arc::clone(&housekeeper), Arc::clone(&reached));
        let shared = Arc::new(Shared::new(queue, writer, beside, sink, options.quick_us));
        let spawned = {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("journal".into()).spawn(move || shared.run(options.spin_us))
        };
        let threads = match spawned {
            Ok(flusher) => Threads { flusher, preparer, packer, keeper },
            Err(error) => {
                housekeeper.stop();
                reached.stop();
                return Err(fault(error));
            }
        };
        let record_bytes_max = options.log.record_bytes_max();
        Ok(FileJournal { disk, shared, record_bytes_max, threads: Mutex::new(Some(threads)) })
    }
}

impl<D: Disk> Records for Opened<D> {
    fn shards(&self) -> u16 {
        self.tip.shards
    }

    fn end(&self) -> Cursor {
        self.tip.cursor()
    }

    fn reader(&self, from: &Cursor) -> Result<Box<dyn Reader>, JournalError> {
        Ok(Box::new(LogReader::open(Arc::clone(&self.disk), Arc::clone(&self.tip), from)?))
    }

    fn records_between(&self, from: &Cursor, to: &Cursor) -> u64 {
        offline::records_between(from, to)
    }
}

impl<D: Disk> OpenedJournal for Opened<D> {
    fn start(self: Box<Self>, sink: Arc<dyn Sink>) -> Result<Arc<dyn Journal>, JournalError> {
        Ok(Arc::new((*self).start(sink)?))
    }
}

/// Makes readers beside a writer that its caller drives.
pub struct Readers<D: Disk> {
    disk: Arc<D>,
    tip: Arc<Tip>,
}

impl<D: Disk> Readers<D> {
    /// The writer's group is durable: readers see it from now on.
    pub fn durable_up_to(&self, end: End) {
        self.tip.moved_to(end);
    }

    /// Writes down beside the log how far it is durable, as a running journal does now and then.
    ///
    /// # Errors
    /// The disk's own.
    pub fn write_reached(&self) -> Result<(), JournalError> {
        reached::write(&*self.disk, &self.tip.end())
    }
}

impl<D: Disk> Records for Readers<D> {
    fn shards(&self) -> u16 {
        self.tip.shards
    }

    fn end(&self) -> Cursor {
        self.tip.cursor()
    }

    fn reader(&self, from: &Cursor) -> Result<Box<dyn Reader>, JournalError> {
        Ok(Box::new(LogReader::open(Arc::clone(&self.disk), Arc::clone(&self.tip), from)?))
    }

    fn records_between(&self, from: &Cursor, to: &Cursor) -> u64 {
        offline::records_between(from, to)
    }
}

/// A running file journal.
pub struct FileJournal<D: Disk = FolderDisk> {
    disk: Arc<D>,
    shared: Arc<Shared<D>>,
    record_bytes_max: usize,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    flusher: JoinHandle<()>,
    preparer: JoinHandle<()>,
    packer: JoinHandle<()>,
    keeper: JoinHandle<()>,
}

impl FileJournal {
    /// Opens the journal in `dir`, a folder that exists: takes its lock, finds the end of the log, cuts back a torn
    /// tail. An empty folder becomes a new journal.
    ///
    /// # Errors
    /// [`JournalError::Missing`], [`JournalError::ReadOnly`], [`JournalError::Locked`],
    /// [`JournalError::WrongShards`], [`JournalError::NewerVersion`], [`JournalError::Damaged`],
    /// [`JournalError::NotWhole`], [`JournalError::DiskFull`], or the disk's own.
    pub fn open(dir: &Path, options: Options) -> Result<Opened, JournalError> {
        options.log.check()?;
        FileJournal::open_on(FolderDisk::lock(dir)?, options)
    }
}

impl<D: Disk> FileJournal<D> {
    /// Opens the journal on a disk that is this process's alone.
    ///
    /// # Errors
    /// As [`FileJournal::open`].
    pub fn open_on(disk: D, options: Options) -> Result<Opened<D>, JournalError> {
        let disk = Arc::new(disk);
        let (writer, recovery) = recover(Arc::clone(&disk), options.log)?;
        let tip = Arc::new(Tip::new(options.log.shards, recovery.first_segment, recovery.end));
        Ok(Opened { disk, options, writer, tip, recovery })
    }
}

impl<D: Disk> Records for FileJournal<D> {
    fn shards(&self) -> u16 {
        self.shared.tip.shards
    }

    fn end(&self) -> Cursor {
        self.shared.tip.cursor()
    }

    fn reader(&self, from: &Cursor) -> Result<Box<dyn Reader>, JournalError> {
        Ok(Box::new(LogReader::open(Arc::clone(&self.disk), Arc::clone(&self.shared.tip), from)?))
    }

    fn records_between(&self, from: &Cursor, to: &Cursor) -> u64 {
        offline::records_between(from, to)
    }
}

impl<D: Disk> Journal for FileJournal<D> {
    fn append(&self, shard: ShardId, record: Vec<u8>) -> Result<(), Refused> {
        assert!(shard.0 < self.shared.tip.shards, "{shard:?} of {}", self.shared.tip.shards);
        if record.len() > self.record_bytes_max {
            return Err(Refused { reason: super::Reason::TooLarge, record });
        }
        self.shared.queue.push(shard, record)
    }

    fn write_here(&self, records: &mut Queued) -> bool {
        self.shared.write_here(records)
    }

    fn failure(&self) -> Option<String> {
        self.shared.failure().cloned()
    }

    fn close(&self) -> Result<(), JournalError> {
        self.shared.queue.close();
        let threads = self.threads.lock().expect("nothing panics under this lock").take();
        if let Some(Threads { flusher, preparer, packer, keeper }) = threads {
            // None can panic: the flusher catches, and whatever the housekeeper leaves undone is done again.
            let _ = flusher.join();
            self.shared.settle();
            self.shared.housekeeper.stop();
            self.shared.reached.stop();
            let _ = (preparer.join(), packer.join(), keeper.join());
            self.disk.release();
        }
        self.failure().map_or(Ok(()), |why| Err(JournalError::Failed(why)))
    }
}

impl<D: Disk> Drop for FileJournal<D> {
    fn drop(&mut self) {
        // Whoever wants to know how it went calls `close`.
        let _ = self.close();
    }
}
