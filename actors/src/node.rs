//! `Node`: the one door to the shards of this process.

mod asking;
mod placement;

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::model::ids::ShardId;
use engine::model::time::Timestamp;
use engine::shard::Shard;
use engine::view::Notice;
use ractor::{Actor, ActorRef};
use storage::journal::{Cursor, Journal, JournalError, OpenedJournal, Position};
use storage::snapshots::{SnapshotError, Snapshots};
use tokio::sync::{broadcast, oneshot, watch};

use crate::clock::{LOOK_EVERY, NodeClock, SystemClock};
use crate::host::{Acks, Control, Link, ShardActor, Standing};
use crate::limits::{CLOCK_BEHIND_MS_MAX, JOURNAL_AHEAD_MS_MAX, START_MS_MAX, STOP_MS_MAX};
use crate::notices::Notices;
use crate::peers::{Border, Peers};
use crate::recover::{self, RecoverError, Recovering};
use crate::shadows::Shadows;
use crate::supervisor::{Supervisor, SupervisorContext, SupervisorMessage};

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// How many threads host shards, at least one. Default: half the cores.
    pub threads: usize,
    /// Where the node takes its time from.
    pub clock: SystemClock,
    /// Which shards are here from the start; `None`: all of the journal's. Others come by [`Node::take_up`].
    pub begin_with: Option<Vec<ShardId>>,
    /// Of how many shards that are elsewhere a shadow is kept, at most, for [`Node::take_up`] to begin with. Each takes as much
    /// memory as the shard, and the time to replay what becomes durable of it. Default 0.
    pub shadows: usize,
}

impl Default for NodeConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads: (cores / 2).max(1), clock: SystemClock::default(), begin_with: None, shadows: 0 }
    }
}

/// What a node stands on: on one machine a [`crate::Folder`], or any other journal and snapshots that belong together.
pub struct Stores {
    /// Fenced: nobody else writes to it.
    pub journal: Box<dyn OpenedJournal>,
    /// Of the same shards.
    pub snapshots: Arc<dyn Snapshots>,
}

/// A handle to the node; clones are cheap.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    links: Arc<[Arc<Link>]>,
    border: Border,
    failed: Arc<AtomicBool>,
    stopping: AtomicBool,
    clock: Arc<NodeClock>,
    notices: Notices,
    losses: Arc<watch::Sender<()>>,
    journal: Arc<dyn Journal>,
    snapshots: Arc<dyn Snapshots>,
    shadows: Shadows,
    arbiters: Vec<actix::ArbiterHandle>,
    supervisor: ActorRef<SupervisorMessage>,
    /// Ends the actix system and the supervisor's runtime.
    threads: Mutex<Option<Threads>>,
    recovered: Recovered,
}

struct Threads {
    system: actix::System,
    system_thread: JoinHandle<()>,
    supervision: tokio::runtime::Runtime,
}

/// Why a node does not start. Each message is for whoever is on call.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be made.
    #[error("data folder {}: {source}", dir.display())]
    Folder {
        dir: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The journal does not open, or does not replay.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// A setting that cannot work.
    #[error("{0}")]
    Setting(String),
    /// The system gives no threads.
    #[error("cannot start threads: {0}")]
    Threads(std::io::Error),
    /// A shard's thread does not take it up.
    #[error("shard {0} did not start within {limit} s", limit = START_MS_MAX / 1_000)]
    Shard(usize),
}

impl From<JournalError> for StartError {
    fn from(error: JournalError) -> Self {
        Self::Recover(error.into())
    }
}
impl From<SnapshotError> for StartError {
    fn from(error: SnapshotError) -> Self {
        Self::Recover(error.into())
    }
}

pub use placement::{PlacementError, Prepared};

/// How the node is.
#[derive(Clone, Debug)]
pub struct Health {
    /// All shards that are here have recovered, and the journal takes writes.
    pub ready: bool,
    /// Why not, or what else is wrong, for whoever is on call.
    pub reason: Option<String>,
    /// The journal takes writes, and other shards serve beside those that are down.
    pub partly_up: bool,
}

/// How the clocks stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// The node's.
    pub now: Timestamp,
    /// By how many milliseconds the system's clock is ahead of it (less than 0: behind), while it is not followed.
    pub system_off_ms: Option<i64>,
    /// By how many milliseconds the shard that is furthest is ahead of it.
    pub journal_ahead_ms: i64,
}

/// What starting took, or taking up a shard.
#[derive(Clone, Copy, Debug)]
pub struct Recovered {
    /// Events replayed behind the snapshots, or behind a shadow.
    pub events: u64,
    /// From the opened journal, or the shard that nobody here had, to serving.
    pub took: Duration,
}

impl Node {
    /// Recovers the shards that it begins with from the newest snapshots and the journal, which its opener has fenced for
    /// them, and starts the threads. Blocks until they serve: call it where blocking is allowed.
    ///
    /// # Errors
    /// [`StartError`]: damaged, or what is replayed makes no sense; no threads; no such shard.
    pub fn start(config: NodeConfig, stores: Stores) -> Result<Self, StartError> {
        let Stores { journal, snapshots } = stores;
        let (began, shards) = (Instant::now(), journal.shards());
        if config.threads == 0 {
            return Err(StartError::Setting("threads must be at least 1".into()));
        }
        if let Some(unknown) = config.begin_with.iter().flatten().find(|id| id.0 >= shards) {
            return Err(StartError::Setting(format!("there is no shard {} of {shards}", unknown.0)));
        }
        let here = |id: ShardId| config.begin_with.as_ref().is_none_or(|these| these.contains(&id));
        let mut recovering = Recovering::from_snapshots(&*snapshots, &journal.end(), here)?;
        let mut reader = recovering.reader(&journal.end(), |from| journal.reader(from))?;
        while !recovering.replay(&mut *reader, u64::MAX)? {}
        drop(reader);
        let events = recovering.events;

        let terminals: Vec<Arc<AtomicUsize>> = (0..config.threads).map(|_| Arc::default()).collect();
        let links = (0..shards).map(|shard| usize::from(shard) % config.threads);
        let links: Arc<[Arc<Link>]> = links.map(|thread| Arc::new(Link::new(Arc::clone(&terminals[thread])))).collect();
        let failed = Arc::new(AtomicBool::new(false));
        // Before the journal can say of one that it is lost.
        (0..shards).map(ShardId).filter(|id| here(*id)).for_each(|id| {
            links[usize::from(id.0)].expect().expect("nobody else takes it up");
        });
        let losses = Arc::new(watch::Sender::new(()));
        let acks = Acks { links: Arc::clone(&links), failed: Arc::clone(&failed), losses: Arc::clone(&losses) };
        let journal = journal.start(Arc::new(acks))?;

        let context = SupervisorContext {
            journal: Arc::clone(&journal),
            snapshots: Arc::clone(&snapshots),
            links: Arc::clone(&links),
        };
        let supervision = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(4)
            .thread_name("supervisor")
            .enable_time()
            .build()
            .map_err(StartError::Threads)?;
        let spawned = std::thread::scope(|scope| {
            // On a thread of its own, since whoever calls may be in a runtime already, and those do not nest.
            scope.spawn(|| supervision.block_on(Actor::spawn(None, Supervisor, context))).join()
        });
        let Ok(Ok((supervisor, _))) = spawned else {
            return Err(StartError::Setting("the supervisor does not start".into()));
        };

        let clock = Arc::new(NodeClock::start(config.clock));
        supervision.spawn({
            let clock = Arc::clone(&clock);
            async move {
                let mut every = tokio::time::interval(LOOK_EVERY);
                loop {
                    every.tick().await;
                    clock.observe();
                }
            }
        });

        let (system, system_thread, arbiters) = start_system(config.threads).map_err(StartError::Threads)?;
        let notices = Notices::new();
        let border = Border::default();
        for id in (0..shards).map(ShardId) {
            let border = border.clone();
            let clock = Arc::clone(&clock);
            let links = Arc::clone(&links);
            let (journal, notices, supervisor) = (Arc::clone(&journal), notices.clone(), supervisor.clone());
            let rebuild: crate::host::Rebuild = Box::new(move |id, hosting| {
                let asked = supervisor.cast(SupervisorMessage::Rebuild(id, hosting)).is_ok();
                if !asked {
                    tracing::error!(
                        shard = id.0,
                        "the supervisor has gone, so a shard cannot be rebuilt; it stays down"
                    );
                }
                asked
            });
            let arbiter = &arbiters[usize::from(id.0) % arbiters.len()];
            arbiter.spawn_fn(move || ShardActor::start_here(id, links, border, journal, clock, notices, rebuild));
        }
        let within = Duration::from_millis(START_MS_MAX);
        let begins = all_are(&links, within, Link::has_started).and_then(|()| {
            for shard in recovering.into_shards() {
                warn_if_ahead(&shard, clock.now());
                let link = &links[usize::from(shard.id().0)];
                link.notify(Control::TakeUp(Box::new(shard), oneshot::channel().0));
            }
            // One that is lost meanwhile is no reason not to start.
            all_are(&links, within, |link| *link.standing() != Standing::Arriving)
        });
        if let Err(shard) = begins {
            system.stop();
            supervision.shutdown_background();
            return Err(StartError::Shard(shard));
        }
        let of = (Arc::clone(&journal), Arc::clone(&snapshots), Arc::clone(&links));
        let shadows = Shadows::start(config.shadows, of.0, of.1, of.2).map_err(|why| {
            system.stop();
            StartError::Threads(why)
        })?;
        Ok(Self(Arc::new(Inner {
            links,
            shadows,
            border,
            failed,
            stopping: AtomicBool::new(false),
            clock,
            notices,
            losses,
            journal,
            snapshots,
            arbiters,
            supervisor,
            threads: Mutex::new(Some(Threads { system, system_thread, supervision })),
            recovered: Recovered { events, took: began.elapsed() },
        })))
    }

    /// Joins other nodes: what is asked of a shard that is not here goes to whoever has it. Once; a second call changes nothing
    /// and says so.
    pub fn join(&self, peers: Arc<dyn Peers>) -> bool {
        self.0.border.join(peers)
    }

    /// What connected devices are to be told. A receiver that lags loses the oldest notices and is told so.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.0.notices.all()
    }

    /// The same of the shards here alone, for other nodes, whose devices are to be told too.
    pub fn own_notices(&self) -> broadcast::Receiver<Notice> {
        self.0.notices.own()
    }

    /// Tells this node's devices what another node's shard has said.
    pub fn notify(&self, notice: Notice) {
        self.0.notices.pass_on(notice);
    }

    /// How the node is, for `/readyz`.
    pub fn health(&self) -> Health {
        let reason = if let Some(why) = self.0.journal.failure() {
            Some(format!("the journal has failed: {why}"))
        } else if self.0.stopping.load(Ordering::Acquire) {
            Some("stopping".to_owned())
        } else {
            // One that was lost because another node has it is where it should be.
            let moved = |shard: usize, link: &Link| self.0.border.host(link, ShardId(shard as u16)).is_some();
            let here = self.0.links.iter().enumerate().filter(|(shard, link)| !moved(*shard, link));
            here.into_iter().find_map(|(shard, link)| why_down(shard, link))
        };
        let stuck = self.0.links.iter().position(|link| link.stuck.load(Ordering::Acquire));
        let stuck =
            stuck.map(|shard| format!("shard {shard} cannot take in a message from another shard; see the log"));
        let time = self.time();
        let jumped = time.system_off_ms.map(|off_ms| {
            let (by, way) = (in_words(off_ms), if off_ms > 0 { "ahead" } else { "behind" });
            format!(
                "the system's clock has jumped: it is {by} {way}, and is not followed; if it is right, run \
                 `tapgate clock accept`, otherwise correct it"
            )
        });
        let ahead = (time.journal_ahead_ms > JOURNAL_AHEAD_MS_MAX).then(|| {
            let by = in_words(time.journal_ahead_ms);
            format!(
                "the journal is {by} ahead of the clock, and its time stands still until the clock has caught up; if the \
                 clock is wrong, correct it and run `tapgate clock accept`"
            )
        });
        let ready = reason.is_none();
        let all: Vec<String> = [reason, stuck, jumped, ahead].into_iter().flatten().collect();
        let serves = |link: &Arc<Link>| link.serving.load(Ordering::Acquire);
        let partly_up = self.0.journal.failure().is_none() && self.0.links.iter().any(serves);
        Health { ready, partly_up, reason: (!all.is_empty()).then(|| all.join("; ")) }
    }

    /// The node's time: the system's at its start, counted on and slewed towards it; see [`crate::clock`].
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// How the clocks stand to each other.
    pub fn time(&self) -> Time {
        let now = self.now();
        let newest = self.0.links.iter().map(|link| link.time()).max().unwrap_or(now);
        Time { now, system_off_ms: self.0.clock.jumped(), journal_ahead_ms: newest.since_ms(now).max(0) }
    }

    /// The system's clock is right, wherever it has jumped: the node's goes there at once, by so many milliseconds. Shards
    /// whose time is ahead of it wait; theirs never goes back.
    pub fn accept_clock(&self) -> i64 {
        self.0.clock.accept()
    }

    /// What starting took.
    pub fn recovered(&self) -> Recovered {
        self.0.recovered
    }

    /// The journal, for those who follow it.
    pub fn journal(&self) -> Arc<dyn Journal> {
        Arc::clone(&self.0.journal)
    }

    /// Where the journal ends: all before it is durable.
    pub fn durable_end(&self) -> Cursor {
        self.0.journal.end()
    }

    /// How many threads host shards.
    pub fn threads(&self) -> usize {
        self.0.arbiters.len()
    }

    /// Runs a future on a thread that hosts shards. A door that lives there reaches its shards without waking another
    /// thread, which would cost more than the decision. It must never block.
    pub fn spawn_on<F>(&self, thread: usize, future: F) -> bool
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.arbiters[thread % self.0.arbiters.len()].spawn(future)
    }

    /// Stops taking commands, lets what was taken become durable and answered, writes snapshots, closes the journal.
    /// A second call does nothing.
    pub async fn stop(&self) {
        if self.0.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        let node = self.clone();
        // Between two pieces of a replay; whatever it panics with, it has said.
        let _ = tokio::task::spawn_blocking(move || node.0.shadows.stop()).await;
        let states: Vec<_> = self.0.links.iter().map(|link| placement::given_up(link, Duration::ZERO)).collect();
        let mut stopped = Vec::new();
        for state in states.into_iter().flatten() {
            // Its own thread waits no longer than that; this is for a thread that stands still.
            let waits = Duration::from_millis(STOP_MS_MAX + STOP_MS_MAX / 10);
            stopped.extend(tokio::time::timeout(waits, state).await.into_iter().flatten().flatten());
        }
        let node = self.clone();
        let closing = tokio::task::spawn_blocking(move || node.close(&stopped));
        if closing.await.is_err() {
            tracing::error!("closing the journal panicked");
        }
    }

    /// `stopped`: the shards that are at rest.
    fn close(&self, stopped: &[Shard]) {
        let end = self.0.journal.end();
        if let Err(error) = self.0.journal.close() {
            tracing::error!(%error, "the journal did not close cleanly; it has everything that was acknowledged");
        } else {
            // The journal's end is where each of them is.
            // Of one in which nothing has happened too: else the next start would read the journal from its beginning.
            // Of one that was lost meanwhile, another node may have moved the end.
            let lost = |id: ShardId| matches!(&*self.0.links[usize::from(id.0)].standing(), Standing::Lost(_));
            for shard in stopped.iter().filter(|shard| end.get(shard.id()) > Position(0) && !lost(shard.id())) {
                if let Err(error) = recover::save(&*self.0.snapshots, shard, end.get(shard.id())) {
                    tracing::warn!(%error, "a snapshot could not be written; the next start replays the journal");
                }
            }
        }
        self.0.supervisor.stop(None);
        let threads = self.0.threads.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(Threads { system, system_thread, supervision }) = threads else { return };
        supervision.shutdown_background();
        for arbiter in &self.0.arbiters {
            arbiter.stop();
        }
        system.stop();
        if system_thread.join().is_err() {
            tracing::error!("the actors' system panicked");
        }
    }
}

/// Why a shard does not serve that should.
fn why_down(shard: usize, link: &Link) -> Option<String> {
    let standing = link.standing();
    matches!(&*standing, Standing::Down | Standing::Lost(_)).then(|| format!("shard {shard} is {standing}"))
}

/// A journal that is ahead of the clock, as far as this shard goes, is worth a warning.
fn warn_if_ahead(shard: &Shard, now: Timestamp) {
    let ahead_ms = shard.now().since_ms(now);
    if ahead_ms > CLOCK_BEHIND_MS_MAX {
        tracing::warn!(
            shard = shard.id().0,
            ahead_ms,
            "the journal is ahead of the clock: its time stands still until the clock has caught up"
        );
    }
}

/// A span of time to the nearest unit that somebody would name.
fn in_words(ms: i64) -> String {
    match ms.unsigned_abs() / 1_000 {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s => format!("{} h", s / 3_600),
    }
}

/// Waits until this is so of all shards; one of which it is not, after so long.
fn all_are(links: &[Arc<Link>], within: Duration, so: impl Fn(&Link) -> bool) -> Result<(), usize> {
    let began = Instant::now();
    while let Some(missing) = links.iter().position(|link| !so(link)) {
        if began.elapsed() >= within {
            return Err(missing);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// One dedicated thread for actix's system, and the arbiters it makes.
fn start_system(threads: usize) -> std::io::Result<(actix::System, JoinHandle<()>, Vec<actix::ArbiterHandle>)> {
    let (made, making) = mpsc::channel();
    let thread = std::thread::Builder::new().name("actors".into()).spawn(move || {
        let runner = actix::System::new();
        let arbiters: Vec<actix::Arbiter> = (0..threads).map(|_| actix::Arbiter::new()).collect();
        let handles = arbiters.iter().map(actix::Arbiter::handle).collect();
        if made.send((actix::System::current(), handles)).is_ok()
            && let Err(error) = runner.run()
        {
            tracing::error!(%error, "the actors' system ended");
        }
        for arbiter in arbiters {
            // An arbiter whose thread has panicked has nothing left to tell.
            let _ = arbiter.join();
        }
    })?;
    let (system, handles) = making.recv().map_err(|_| std::io::Error::other("the actors' system does not start"))?;
    Ok((system, thread, handles))
}
