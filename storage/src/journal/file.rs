//! The file journal: one log per node, on a thread of its own.
//!
//! The thread takes all that is queued, writes it as one group, tells the sink, and goes on. There is no timer that
//! fills a batch: while one group is being written the next one gathers by itself, and alone a record goes at once.
//!
//! Opening takes the folder's lock and recovers; [`Opened::start`] begins to take records.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, OnceLock},
    thread::{self, JoinHandle},
    time::Instant,
};

use engine::model::ids::ShardId;

use super::{
    Cursor, Journal, JournalError, OpenedJournal, Reader, Records, Refused, Sink,
    disk::{Disk, FolderDisk},
    housekeeper::Housekeeper,
    log::{End, LogOptions, LogWriter, NotStaged},
    offline,
    queue::{Acks, Queue, Queued},
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
        let shared = Arc::new(Shared {
            queue: Queue::new(options.queue_bytes_max, options.queue_records_max),
            record_bytes_max: options.log.record_bytes_max(),
            failure: OnceLock::new(),
        });
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
        let flusher = Flusher {
            reached: Arc::clone(&reached),
            acks: Acks::new(tip.shards),
            figures: Figures::new(),
            spin_us: options.spin_us,
            shared: Arc::clone(&shared),
            tip: Arc::clone(&tip),
            housekeeper: Arc::clone(&housekeeper),
            writer,
            sink,
        };
        let spawned = thread::Builder::new().name("journal".into()).spawn(move || flusher.run_guarded());
        let threads = match spawned {
            Ok(flusher) => Threads { flusher, preparer, packer, keeper },
            Err(error) => {
                housekeeper.stop();
                reached.stop();
                return Err(fault(error));
            }
        };
        Ok(FileJournal { disk, shared, tip, housekeeper, reached, threads: Mutex::new(Some(threads)) })
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
    shared: Arc<Shared>,
    tip: Arc<Tip>,
    housekeeper: Arc<Housekeeper<D>>,
    reached: Arc<Keeper<D>>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    flusher: JoinHandle<()>,
    preparer: JoinHandle<()>,
    packer: JoinHandle<()>,
    keeper: JoinHandle<()>,
}

/// What callers and the journal's thread share.
struct Shared {
    queue: Queue,
    record_bytes_max: usize,
    failure: OnceLock<String>,
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

impl<D: Disk> Journal for FileJournal<D> {
    fn append(&self, shard: ShardId, record: Vec<u8>) -> Result<(), Refused> {
        assert!(shard.0 < self.tip.shards, "{shard:?} of {}", self.tip.shards);
        if record.len() > self.shared.record_bytes_max {
            return Err(Refused { reason: super::Reason::TooLarge, record });
        }
        self.shared.queue.push(shard, record)
    }

    fn failure(&self) -> Option<String> {
        self.shared.failure.get().cloned()
    }

    fn close(&self) -> Result<(), JournalError> {
        self.shared.queue.close();
        let threads = self.threads.lock().expect("nothing panics under this lock").take();
        if let Some(Threads { flusher, preparer, packer, keeper }) = threads {
            // None can panic: the flusher catches, and whatever the housekeeper leaves undone is done again.
            let _ = flusher.join();
            self.housekeeper.stop();
            self.reached.stop();
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

/// What the disk takes, for whoever draws it. Made once: looking figures up costs more than counting.
struct Figures {
    write: metrics::Histogram,
    bytes: metrics::Counter,
    failures: metrics::Counter,
}

impl Figures {
    fn new() -> Self {
        metrics::describe_histogram!(
            "tapgate_journal_write_seconds",
            metrics::Unit::Seconds,
            "Writing one group and making it durable."
        );
        metrics::describe_counter!("tapgate_journal_written_bytes_total", "Bytes of the groups that are durable.");
        metrics::describe_counter!(
            "tapgate_journal_failures_total",
            "Writes that failed. After one, nothing more is acknowledged until a restart."
        );
        let failures = metrics::counter!("tapgate_journal_failures_total");
        failures.absolute(0); // there before the first one, or an alert could not see it rise
        Self {
            write: metrics::histogram!("tapgate_journal_write_seconds"),
            bytes: metrics::counter!("tapgate_journal_written_bytes_total"),
            failures,
        }
    }
}

/// The journal's own thread.
struct Flusher<D: Disk> {
    writer: LogWriter<D>,
    shared: Arc<Shared>,
    tip: Arc<Tip>,
    housekeeper: Arc<Housekeeper<D>>,
    reached: Arc<Keeper<D>>,
    sink: Arc<dyn Sink>,
    acks: Acks,
    spin_us: u32,
    figures: Figures,
}

impl<D: Disk> Flusher<D> {
    fn run_guarded(mut self) {
        let why = match catch_unwind(AssertUnwindSafe(|| self.run())) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the journal's thread panicked".to_owned(),
        };
        self.figures.failures.increment(1);
        tracing::error!(why, "the journal has failed: nothing more is acknowledged");
        let why = self.shared.failure.get_or_init(|| why);
        self.shared.queue.fail();
        self.sink.failed(why);
    }

    fn run(&mut self) -> Result<(), JournalError> {
        let mut taken = Queued::new();
        loop {
            self.look_ahead();
            if taken.is_empty() {
                if !self.shared.queue.wait(&mut taken, self.spin_us) {
                    return Ok(());
                }
            } else {
                self.shared.queue.take(&mut taken);
            }
            self.stage(&mut taken);
            if self.writer.must_roll()
                && let Some(number) = self.writer.wants_next()
            {
                self.housekeeper.want(number);
                self.writer.offer_next(self.housekeeper.wait()?);
            }
            let began = Instant::now();
            if self.writer.flush()?.is_some() {
                let (end, group) = (self.writer.end(), self.writer.last_group());
                self.figures.write.record(began.elapsed());
                self.figures.bytes.increment(group.len() as u64);
                self.tip.recent.wrote(end.segment, end.offset - group.len() as u64, group);
                self.tip.moved_to(end);
            }
            self.shared.queue.done(self.acks.records(), self.acks.bytes());
            self.acks.tell(&*self.sink);
            let sealed = self.writer.take_sealed();
            if !sealed.is_empty() {
                self.reached.sealed();
                self.housekeeper.sealed(&sealed);
            }
        }
    }

    /// Keeps the next segment coming, off the path.
    fn look_ahead(&mut self) {
        let Some(number) = self.writer.wants_next() else { return };
        self.housekeeper.want(number);
        if self.writer.end().offset > self.writer.options().segment_bytes / 2 {
            self.housekeeper.hurry();
        }
        if let Some(file) = self.housekeeper.ready() {
            self.writer.offer_next(file);
        }
    }

    /// Fills one group with what fits.
    fn stage(&mut self, taken: &mut Queued) {
        while let Some((shard, record)) = taken.front() {
            match self.writer.stage(*shard, record) {
                Ok(position) => {
                    let (shard, record) = taken.pop_front().expect("it was in front");
                    self.acks.note(shard, position, record);
                }
                Err(NotStaged::GroupFull) => return,
                Err(NotStaged::TooLarge) => unreachable!("append refuses what is too large"),
            }
        }
    }
}
