//! `Node`: the one door to the shards of this process.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::cashless::command::TerminalCommand;
use engine::cashless::view::{LedgerView, WalletView};
use engine::command::ask::Ask;
use engine::command::{AdminAnswer, AdminCommand, IdempotencyKey};
use engine::gates::command::DeviceCommand;
use engine::model::ids::{Home, ShardId, WalletId};
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use engine::shard::Shard;
use engine::view::question::Question;
use engine::view::{Notice, Query, View};
use ractor::{Actor, ActorRef};
use storage::journal::{Cursor, Journal, JournalError, OpenedJournal, Position};
use storage::snapshots::{SnapshotError, Snapshots};
use tokio::sync::{broadcast, oneshot};

use crate::clock::{LOOK_EVERY, NodeClock, SystemClock};
use crate::host::{Acks, Control, Link, ReplySender, ReplyTo, ShardActor};
use crate::limits::{
    CLOCK_BEHIND_MS_MAX, JOURNAL_AHEAD_MS_MAX, KEYS_MAX, NOTICES_MAX, PENDING_MAX, START_MS_MAX, STOP_MS_MAX,
    TERMINALS_MAX, URGENT_MAX,
};
use crate::pipeline::Work;
use crate::recover::{self, RecoverError, Recovering};
use crate::reply::{Busy, Inbox, TerminalInbox, TurnedAway};
use crate::supervisor::{Supervisor, SupervisorContext, SupervisorMessage};

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// How many threads host shards, at least one. Default: half the cores.
    pub threads: usize,
    /// Where the node takes its time from.
    pub clock: SystemClock,
}

impl Default for NodeConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads: (cores / 2).max(1), clock: SystemClock::default() }
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
    failed: Arc<AtomicBool>,
    stopping: AtomicBool,
    clock: Arc<NodeClock>,
    notices: broadcast::Sender<Notice>,
    journal: Arc<dyn Journal>,
    snapshots: Arc<dyn Snapshots>,
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

/// How the node is.
#[derive(Clone, Debug)]
pub struct Health {
    /// All shards have recovered and the journal takes writes.
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

/// What starting took.
#[derive(Clone, Copy, Debug)]
pub struct Recovered {
    /// Events replayed behind the snapshots.
    pub events: u64,
    /// From the opened journal to serving.
    pub took: Duration,
}

impl Node {
    /// Recovers every shard from the newest snapshots and the journal, which its opener has fenced, and starts their
    /// threads. Blocks until they serve: call it where blocking is allowed.
    ///
    /// # Errors
    /// [`StartError`]: damaged, or what is replayed makes no sense; no threads.
    pub fn start(config: NodeConfig, stores: Stores) -> Result<Self, StartError> {
        let Stores { journal, snapshots } = stores;
        let (began, shards) = (Instant::now(), journal.shards());
        if config.threads == 0 {
            return Err(StartError::Setting("threads must be at least 1".into()));
        }
        let mut recovering = Recovering::from_snapshots(&*snapshots, &journal.end(), |_| true)?;
        let mut reader = recovering.reader(&journal.end(), |from| journal.reader(from))?;
        while !recovering.replay(&mut *reader, u64::MAX)? {}
        drop(reader);
        let events = recovering.events;

        let terminals: Vec<Arc<AtomicUsize>> = (0..config.threads).map(|_| Arc::default()).collect();
        let links = (0..shards).map(|shard| usize::from(shard) % config.threads);
        let links: Arc<[Arc<Link>]> = links.map(|thread| Arc::new(Link::new(Arc::clone(&terminals[thread])))).collect();
        let failed = Arc::new(AtomicBool::new(false));
        let acks = Acks { links: Arc::clone(&links), failed: Arc::clone(&failed) };
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
        let (notices, _) = broadcast::channel(NOTICES_MAX);
        for shard in recovering.into_shards() {
            let ahead_ms = shard.now().since_ms(clock.now());
            if ahead_ms > CLOCK_BEHIND_MS_MAX {
                tracing::warn!(
                    shard = shard.id().0,
                    ahead_ms,
                    "the journal is ahead of the clock: its time stands still until the clock has caught up"
                );
            }
            links[usize::from(shard.id().0)].set_time(shard.now());
            let clock = Arc::clone(&clock);
            let links = Arc::clone(&links);
            let (journal, notices, supervisor) = (Arc::clone(&journal), notices.clone(), supervisor.clone());
            let rebuild: crate::host::Rebuild = Box::new(move |id| {
                let asked = supervisor.cast(SupervisorMessage::Rebuild(id)).is_ok();
                if !asked {
                    tracing::error!(
                        shard = id.0,
                        "the supervisor has gone, so a shard cannot be rebuilt; it stays down"
                    );
                }
                asked
            });
            let arbiter = &arbiters[usize::from(shard.id().0) % arbiters.len()];
            arbiter.spawn_fn(move || ShardActor::start_here(shard, links, journal, clock, notices, rebuild));
        }
        if let Err(shard) = all_serve(&links, Duration::from_millis(START_MS_MAX)) {
            system.stop();
            supervision.shutdown_background();
            return Err(StartError::Shard(shard));
        }
        Ok(Self(Arc::new(Inner {
            links,
            failed,
            stopping: AtomicBool::new(false),
            clock,
            notices,
            journal,
            snapshots,
            arbiters,
            supervisor,
            threads: Mutex::new(Some(Threads { system, system_thread, supervision })),
            recovered: Recovered { events, took: began.elapsed() },
        })))
    }

    /// Hands over what one read of one device's stream has brought. All commands are of one device, hence of one home.
    ///
    /// # Errors
    /// [`Busy`]: none of them was taken; answer each of them so, at the door.
    pub fn submit(&self, commands: Vec<DeviceCommand>, inbox: &Arc<dyn Inbox>) -> Result<(), Busy> {
        let Some(first) = commands.first() else { return Ok(()) };
        let home = Home::Festival(first.device.festival());
        self.send(home, Work::Device(commands), ReplyTo::Inbox(Arc::clone(inbox))).map_err(Busy::of)
    }

    /// Hands over what one read of one terminal's stream has brought: each command goes to its wallet's shard, in the
    /// order in which it came there.
    ///
    /// # Errors
    /// [`TurnedAway`], by shard: some, or all, were not taken; answer each of these so, at the door.
    pub fn submit_terminal(
        &self,
        mut commands: Vec<TerminalCommand>,
        inbox: &Arc<dyn TerminalInbox>,
    ) -> Result<(), Vec<TurnedAway>> {
        let shard = |command: &TerminalCommand| self.shard_of(Home::Wallet(command.action.wallet()));
        commands.sort_by_cached_key(&shard); // stable
        let mut turned_away = Vec::new();
        while let Some(last) = commands.last().map(&shard) {
            let theirs = commands.split_off(commands.partition_point(|command| shard(command) < last));
            let link = &self.0.links[usize::from(last.0)];
            let refused = match self.check_terminals(link, theirs.len()) {
                Err(rejection) => Some((rejection, theirs)),
                Ok(()) => match self.put(link, Work::Terminal(theirs), ReplyTo::Terminal(Arc::clone(inbox))) {
                    Err((rejection, Work::Terminal(theirs))) => Some((rejection, theirs)),
                    _ => None,
                },
            };
            if let Some((rejection, theirs)) = refused {
                let seqs = theirs.iter().map(|command| command.seq).collect();
                turned_away.push(TurnedAway { busy: Busy::of(rejection), seqs });
            }
        }
        if turned_away.is_empty() { Ok(()) } else { Err(turned_away) }
    }

    /// How many more of terminals' commands all threads together have room for now: what is read beyond that is worth no
    /// work.
    pub fn room_for_terminals(&self) -> usize {
        // Shards are dealt out to the threads in turns, so these are one of each.
        let one_each = self.0.links.iter().take(self.0.arbiters.len());
        one_each.map(|link| TERMINALS_MAX.saturating_sub(link.terminals.load(Ordering::Acquire))).sum()
    }

    /// Whether a terminal's command about this wallet would be turned away now: worth asking before looking up a tag.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn has_room_for_terminal(&self, wallet: WalletId) -> Result<(), Busy> {
        self.check_terminals(self.link(Home::Wallet(wallet)), 1).map_err(Busy::of)
    }

    /// Whether [`Node::submit`] for this home would be turned away now: worth asking before verifying signatures.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn has_room(&self, home: Home) -> Result<(), Busy> {
        self.check(self.link(home), 1).map_err(Busy::of)
    }

    /// Asks for the office, and waits until the answer is durable; where another shard has a say, until that has had it.
    /// Never hangs: at worst it answers [`Rejection::Busy`], [`Rejection::Unavailable`], or
    /// [`Rejection::StillPending`] after [`crate::limits::DEFERRED_MS_MAX`], and the same key is told later how it ended.
    /// `true` says that nothing happened now: a repetition.
    pub async fn ask(&self, command: AdminCommand) -> (AdminAnswer, bool) {
        let (once, answer) = ReplySender::new();
        let home = command.action.home();
        match self.send(home, Work::Admin(Box::new(command)), ReplyTo::Admin(once)) {
            Ok(()) => answer.await.unwrap_or((AdminAnswer::Rejected(Rejection::Unavailable), false)),
            Err(rejection) => (AdminAnswer::Rejected(rejection), false),
        }
    }

    /// Asks without changing anything. What each shard answers for itself ([`Query::home`] is `None`) is asked of all
    /// and gathered; a shard that does not answer makes that the answer, so that no part is taken for the whole.
    pub async fn query(&self, query: Query) -> View {
        if let Some(home) = query.home() {
            return self.query_shard(self.shard_of(home), query).await;
        }
        let shards = (0..self.0.links.len() as u16).map(ShardId);
        let parts = futures_util::future::join_all(shards.map(|id| self.query_shard(id, query))).await;
        gather(parts)
    }

    /// Asks a question whose answer has one type, as [`Node::query`] does.
    ///
    /// # Errors
    /// The engine's rejection. An answer of another kind than was asked for is a bug: it is logged, and
    /// [`Rejection::Internal`].
    pub async fn get<Q: Question>(&self, question: Q) -> Result<Q::Answer, Rejection> {
        match self.query(question.query()).await {
            View::No(rejection) => Err(rejection),
            view => Q::answer(view).ok_or_else(|| {
                tracing::error!(question = std::any::type_name::<Q>(), "a shard has answered something else");
                Rejection::Internal
            }),
        }
    }

    /// Asks for a change whose answer has one type, as [`Node::ask`] does; also whether it had been answered before. An
    /// answer of another kind than was asked for is a bug: it is logged, and [`Rejection::Internal`].
    pub async fn ask_for<A: Ask>(
        &self,
        ask: A,
        by: Principal,
        key: Option<IdempotencyKey>,
    ) -> (Result<A::Answer, Rejection>, bool) {
        let (answer, repeated) = self.ask(AdminCommand { key, by, action: ask.action() }).await;
        let answer = match answer {
            AdminAnswer::Rejected(rejection) => Err(rejection),
            answer => A::answer(answer).ok_or_else(|| {
                tracing::error!(ask = std::any::type_name::<A>(), "a shard has answered something else");
                Rejection::Internal
            }),
        };
        (answer, repeated)
    }

    /// The same of those shards that answer, for what a part is enough for; and whether that was all of them.
    pub async fn query_those_up(&self, query: Query) -> (View, bool) {
        let shards = (0..self.0.links.len() as u16).map(ShardId);
        let mut parts = futures_util::future::join_all(shards.map(|id| self.query_shard(id, query))).await;
        let asked = parts.len();
        parts.retain(|part| !matches!(part, View::No(Rejection::Unavailable)));
        let all = parts.len() == asked;
        (if parts.is_empty() { View::No(Rejection::Unavailable) } else { gather(parts) }, all)
    }

    async fn query_shard(&self, shard: ShardId, query: Query) -> View {
        let (once, answer) = ReplySender::new();
        match self.send_to(&self.0.links[usize::from(shard.0)], Work::Query(query), ReplyTo::Query(once)) {
            Ok(()) => answer.await.unwrap_or(View::No(Rejection::Unavailable)),
            Err(rejection) => View::No(rejection),
        }
    }

    /// What connected devices are to be told. A receiver that lags loses the oldest notices and is told so.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.0.notices.subscribe()
    }

    /// How the node is, for `/readyz`.
    pub fn health(&self) -> Health {
        let reason = if let Some(why) = self.0.journal.failure() {
            Some(format!("the journal has failed: {why}"))
        } else if self.0.stopping.load(Ordering::Acquire) {
            Some("stopping".to_owned())
        } else {
            let down = self.0.links.iter().position(|link| !link.serving.load(Ordering::Acquire));
            down.map(|shard| format!("shard {shard} is down"))
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
        let mut states = Vec::new();
        for link in self.0.links.iter() {
            let (done, state) = oneshot::channel();
            link.notify(Control::Stop(done));
            states.push(state);
        }
        let (mut stopped, mut idle) = (Vec::new(), true);
        for state in states {
            match tokio::time::timeout(Duration::from_millis(STOP_MS_MAX), state).await {
                Ok(Ok(state)) => stopped.extend(state),
                _ => idle = false,
            }
        }
        let node = self.clone();
        let closing = tokio::task::spawn_blocking(move || node.close(&stopped, idle));
        if closing.await.is_err() {
            tracing::error!("closing the journal panicked");
        }
    }

    /// `idle`: nothing is under way in any shard.
    fn close(&self, stopped: &[Shard], idle: bool) {
        let end = self.0.journal.end();
        if let Err(error) = self.0.journal.close() {
            tracing::error!(%error, "the journal did not close cleanly; it has everything that was acknowledged");
        } else if idle {
            // So the journal's end is where each of them is that is not down.
            // Of one in which nothing has happened too: else the next start would read the journal from its beginning.
            for shard in stopped.iter().filter(|shard| end.get(shard.id()) > Position(0)) {
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

    fn shard_of(&self, home: Home) -> ShardId {
        home.shard(self.0.links.len() as u16)
    }

    fn link(&self, home: Home) -> &Link {
        &self.0.links[usize::from(self.shard_of(home).0)]
    }

    fn send(&self, home: Home, work: Work, asker: ReplyTo) -> Result<(), Rejection> {
        self.send_to(self.link(home), work, asker)
    }

    fn check(&self, link: &Link, commands: usize) -> Result<(), Rejection> {
        self.check_within(link, commands, PENDING_MAX)
    }

    fn check_within(&self, link: &Link, commands: usize, pending_max: usize) -> Result<(), Rejection> {
        let serves = link.serving.load(Ordering::Acquire);
        if !serves || self.0.failed.load(Ordering::Acquire) || self.0.stopping.load(Ordering::Acquire) {
            return Err(Rejection::Unavailable);
        }
        if link.pending.load(Ordering::Acquire) + commands > pending_max {
            return Err(Rejection::Busy);
        }
        Ok(())
    }

    fn check_terminals(&self, link: &Link, commands: usize) -> Result<(), Rejection> {
        self.check(link, commands)?;
        if link.terminals.load(Ordering::Acquire) + commands > TERMINALS_MAX {
            return Err(Rejection::Busy);
        }
        Ok(())
    }

    fn send_to(&self, link: &Link, work: Work, asker: ReplyTo) -> Result<(), Rejection> {
        let (pending_max, urgent) = match &work {
            Work::Admin(command) if command.action.protects_people() => (PENDING_MAX + KEYS_MAX + URGENT_MAX, true),
            Work::Query(Query::ApiKey(_)) => (PENDING_MAX + KEYS_MAX, true),
            _ => (PENDING_MAX, false),
        };
        self.check_within(link, work.len(), pending_max)?;
        if urgent {
            link.pending.fetch_add(work.len(), Ordering::AcqRel);
            link.send_urgently(work, asker);
            return Ok(());
        }
        self.put(link, work, asker).map_err(|(rejection, _)| rejection)
    }

    /// Into the shard's mailbox; gives the work back if that is full, or gone.
    fn put(&self, link: &Link, work: Work, asker: ReplyTo) -> Result<(), (Rejection, Work)> {
        let commands = work.len();
        let of_terminals = if let Work::Terminal(_) = work { commands } else { 0 };
        link.pending.fetch_add(commands, Ordering::AcqRel);
        link.terminals.fetch_add(of_terminals, Ordering::AcqRel);
        link.send(work, asker).inspect_err(|_| {
            link.pending.fetch_sub(commands, Ordering::AcqRel);
            link.terminals.fetch_sub(of_terminals, Ordering::AcqRel);
        })
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

/// Waits until all shards are up; one that is not, after so long.
fn all_serve(links: &[Arc<Link>], within: Duration) -> Result<(), usize> {
    let began = Instant::now();
    while let Some(missing) = links.iter().position(|link| !link.serving.load(Ordering::Acquire)) {
        if began.elapsed() >= within {
            return Err(missing);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// What all shards' answers to one question come to.
fn gather(parts: Vec<View>) -> View {
    let mut festivals = Vec::new();
    let mut wallets: Option<Vec<WalletView>> = None;
    let mut ledger: Option<Box<LedgerView>> = None;
    let mut next_seq: Option<u64> = None;
    let mut unknown = None;
    for part in parts {
        match part {
            View::Festivals(more) => festivals.extend(more),
            View::Wallets(more) => wallets.get_or_insert_default().extend(more),
            View::Ledger(part) => match &mut ledger {
                Some(sum) => sum.add(&part),
                None => ledger = Some(part),
            },
            View::NextSeq(part) => next_seq = next_seq.max(Some(part)),
            // It has not heard of that festival yet, so it has none of its money.
            View::No(Rejection::UnknownFestival | Rejection::NotCashless) => unknown = Some(part),
            other => return other,
        }
    }
    if let Some(next_seq) = next_seq {
        return View::NextSeq(next_seq);
    }
    if let Some(wallets) = wallets {
        return View::Wallets(wallets);
    }
    match (ledger, unknown) {
        (Some(sum), _) => View::Ledger(sum),
        (None, Some(unknown)) => unknown,
        (None, None) => View::Festivals(festivals),
    }
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
