//! Hosts a shard: an actix actor on an arbiter's thread around a [`Pipeline`]. actix is known in this file alone.
//!
//! Messages carry batches. The journal's thread tells of durable records through two atomics and at most one message,
//! so that its news can neither be lost in a full mailbox nor fill it.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use actix::prelude::*;
use engine::command::OfficeAnswer;
use engine::ids::ShardId;
use engine::rejection::Rejection;
use engine::shard::Shard;
use engine::view::{Notice, View};
use storage::journal::{Journal, Position, Sink};
use tokio::sync::{broadcast, oneshot};

use crate::clock;
use crate::courier::Courier;
use crate::limits::{GATHER_BYTES, IN_FLIGHT_MAX, MAILBOX_MAX};
use crate::node::{Inbox, TerminalInbox};
use crate::pipeline::{Pipeline, Release, Stepped, Work};
use crate::post::Post;

/// Who asked.
#[derive(Clone)]
pub(crate) enum Asker {
    /// A reader's session.
    Inbox(Arc<dyn Inbox>),
    /// A terminal's session.
    Terminal(Arc<dyn TerminalInbox>),
    /// Somebody in the office, who waits.
    Office(Once<(OfficeAnswer, bool)>),
    /// Somebody with a question, who waits.
    Query(Once<View>),
    /// The host itself.
    Nobody,
}

/// Where one answer goes, once.
pub(crate) struct Once<T>(Arc<Mutex<Option<oneshot::Sender<T>>>>);

impl<T> Clone for Once<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Once<T> {
    /// The place, and where to wait for it.
    pub(crate) fn new() -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(sender)))), receiver)
    }
    fn send(&self, answer: T) {
        let sender = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        // Whoever asked may have gone away meanwhile.
        let _ = sender.map(|sender| sender.send(answer));
    }
}

/// What a shard shares with the doors and the journal.
pub(crate) struct Link {
    addr: OnceLock<Addr<ShardActor>>,
    /// Commands let in and not yet answered.
    pub(crate) pending: AtomicUsize,
    /// The same of terminals, over all shards of this one's thread.
    pub(crate) terminals: Arc<AtomicUsize>,
    /// Records that became durable and that the actor has not heard of.
    durable: AtomicU64,
    /// A message to the actor about them is under way.
    told: AtomicBool,
    /// Record buffers to use again; never more than two are under way.
    spare: Mutex<Vec<Vec<u8>>>,
    /// What other shards have sent.
    pub(crate) post: Post,
    /// Takes commands.
    pub(crate) serving: AtomicBool,
    /// Takes in no more messages of some shards, because one of them panics.
    pub(crate) stuck: AtomicBool,
    /// The journal has refused a record of this shard: it gets no other.
    refused: AtomicBool,
}

impl Link {
    /// For a shard on a thread whose terminals' commands are counted there.
    pub(crate) fn new(terminals: Arc<AtomicUsize>) -> Self {
        Self {
            terminals,
            addr: OnceLock::new(),
            pending: AtomicUsize::new(0),
            durable: AtomicU64::new(0),
            told: AtomicBool::new(false),
            spare: Mutex::new(Vec::new()),
            post: Post::default(),
            serving: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            refused: AtomicBool::new(false),
        }
    }

    /// Puts work into the mailbox; gives it back if that is full or the shard is gone.
    pub(crate) fn send(&self, work: Work, asker: Asker) -> Result<(), Work> {
        let Some(addr) = self.addr.get() else { return Err(work) };
        addr.try_send(Enter(work, asker)).map_err(|error| match error {
            SendError::Full(enter) | SendError::Closed(enter) => enter.0,
        })
    }

    /// The same past the mailbox's bound: whoever calls this has counted.
    pub(crate) fn send_urgently(&self, work: Work, asker: Asker) {
        if let Some(addr) = self.addr.get() {
            addr.do_send(Enter(work, asker));
        }
    }

    /// Brings a shard what another has sent; `put` lays it down.
    fn bring(&self, put: impl FnOnce(&Post) -> bool) {
        if put(&self.post) {
            self.tell(Control::Post);
        }
    }

    pub(crate) fn tell(&self, message: Control) {
        if let Some(addr) = self.addr.get() {
            addr.do_send(message);
        }
    }
}

/// The journal's news, spread to the shards.
pub(crate) struct Acks {
    pub(crate) links: Arc<[Arc<Link>]>,
    pub(crate) failed: Arc<AtomicBool>,
}

impl Sink for Acks {
    fn durable(&self, shard: ShardId, count: usize, _last: Position, buffers: &mut Vec<Vec<u8>>) {
        let link = &self.links[usize::from(shard.0)];
        {
            let mut spare = link.spare.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            spare.append(buffers);
            spare.truncate(IN_FLIGHT_MAX);
        }
        link.durable.fetch_add(count as u64, Ordering::Release);
        if !link.told.swap(true, Ordering::AcqRel) {
            link.tell(Control::Durable);
        }
    }

    fn failed(&self, why: &str) {
        tracing::error!(why, "the journal has failed: nothing is acknowledged any more until a restart");
        self.failed.store(true, Ordering::Release);
        self.links.iter().for_each(|link| link.tell(Control::Failed));
    }
}

/// A batch.
struct Enter(Work, Asker);

impl Message for Enter {
    type Result = ();
}

/// What the host is told beside batches. Few at a time, so these ignore the mailbox's bound.
pub(crate) enum Control {
    /// Look at [`Link::durable`].
    Durable,
    /// Look at [`Link::post`].
    Post,
    /// Step, now that the mailbox is empty.
    Pump,
    /// The journal has failed.
    Failed,
    /// A state rebuilt from the journal after a panic.
    Rebuilt(Box<Shard>),
    /// No state can be rebuilt: the shard stays down.
    Lost,
    /// Stop, once idle, and hand over the state.
    Stop(oneshot::Sender<Shard>),
}

impl Message for Control {
    type Result = ();
}

thread_local! {
    /// Records of this thread's shards on their way to the journal.
    static HANDED_OVER: RefCell<Vec<(ShardId, Vec<u8>)>> = const { RefCell::new(Vec::new()) };
}

/// Hands over to the journal what has gathered. Behind a record that was refused no other of that shard may come: the
/// journal would have a gap, and could not be replayed.
fn write_down(journal: &dyn Journal, links: &[Arc<Link>]) {
    for (shard, record) in HANDED_OVER.take() {
        let link = &links[usize::from(shard.0)];
        if link.refused.load(Ordering::Acquire) {
            continue;
        }
        if let Err(refused) = journal.append(shard, record) {
            tracing::error!(shard = shard.0, reason = ?refused.reason, "the journal refused a record");
            link.refused.store(true, Ordering::Release);
            link.tell(Control::Failed);
        }
    }
}

/// Asks for a shard to be rebuilt from snapshot and journal. The answer is [`Control::Rebuilt`] or [`Control::Lost`].
pub(crate) type Rebuild = Box<dyn Fn(ShardId) + Send>;

/// The actor around one shard.
pub(crate) struct ShardActor {
    pipeline: Pipeline<Asker>,
    courier: Courier,
    /// Where messages are sent later than now counts from here.
    began: Instant,
    link: Arc<Link>,
    /// Of all shards, by number.
    links: Arc<[Arc<Link>]>,
    journal: Arc<dyn Journal>,
    notices: broadcast::Sender<Notice>,
    rebuild: Rebuild,
    pump_due: bool,
    rebuilding: bool,
    failed: bool,
}

impl ShardActor {
    /// Starts the actor on the present arbiter.
    pub(crate) fn start_here(
        shard: Shard,
        links: Arc<[Arc<Link>]>,
        journal: Arc<dyn Journal>,
        notices: broadcast::Sender<Notice>,
        rebuild: Rebuild,
    ) {
        let shared = Arc::clone(&links[usize::from(shard.id().0)]);
        let link = Arc::clone(&shared);
        let addr = Self::create(|ctx: &mut Context<Self>| {
            ctx.set_mailbox_capacity(MAILBOX_MAX);
            Self {
                courier: Courier::new(&shard),
                began: Instant::now(),
                pipeline: Pipeline::new(shard),
                link,
                links,
                journal,
                notices,
                rebuild,
                pump_due: false,
                rebuilding: false,
                failed: false,
            }
        });
        let first = shared.addr.set(addr).is_ok();
        assert!(first, "a shard is started once");
        shared.serving.store(true, Ordering::Release);
    }

    /// Releases what is durable, then decides what waits.
    fn pump(&mut self) {
        for _ in 0..self.link.durable.swap(0, Ordering::Acquire) {
            let releases = self.pipeline.durable();
            self.release(releases);
        }
        self.take_post();
        while self.pipeline.is_ready() && !self.failed {
            let buffer = self.link.spare.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
            match self.pipeline.step(clock::now(), buffer.unwrap_or_default()) {
                Stepped::Record(record, releases) => {
                    self.hand_over(record);
                    self.release(releases);
                }
                Stepped::Nothing(releases) => self.release(releases),
                Stepped::Panicked => {
                    let shard = self.pipeline.shard().id().0;
                    tracing::error!(shard, culprit = ?self.pipeline.culprit(), "a step panicked; rebuilding the shard");
                }
            }
        }
        // What was handed out before the panic has to be in the journal before the state can be read back from it.
        if self.pipeline.is_poisoned() && self.pipeline.in_flight() == 0 && !self.rebuilding && !self.failed {
            self.rebuilding = true;
            (self.rebuild)(self.pipeline.shard().id());
        }
        self.send();
    }

    /// Hands a record to the journal when everybody on this thread who is ready now has had a turn, or when there is
    /// enough: the journal's thread is quick to write the first record it sees, and the others would have to wait for the
    /// next write.
    fn hand_over(&self, record: Vec<u8>) {
        let shard = self.pipeline.shard().id();
        let (alone, enough) = HANDED_OVER.with_borrow_mut(|records| {
            records.push((shard, record));
            let bytes: usize = records.iter().map(|(_, record)| record.len()).sum();
            (records.len() == 1, bytes >= GATHER_BYTES)
        });
        if enough {
            write_down(&*self.journal, &self.links);
        } else if alone {
            let (journal, links) = (Arc::clone(&self.journal), Arc::clone(&self.links));
            actix::spawn(async move { write_down(&*journal, &links) });
        }
    }

    /// Takes in what other shards have sent, as soon as a step would find room: until then it lies in slots that have
    /// one place for each of them.
    fn take_post(&mut self) {
        if self.failed || self.pipeline.is_poisoned() || self.pipeline.in_flight() >= IN_FLIGHT_MAX {
            return;
        }
        for work in self.link.post.take() {
            self.pipeline.take(work, Asker::Nobody);
        }
    }

    /// Sends other shards what is due.
    fn send(&mut self) {
        if self.failed || self.pipeline.is_poisoned() {
            return;
        }
        let shard = self.pipeline.shard();
        let now_ms = self.began.elapsed().as_millis() as u64;
        for delivery in self.courier.due(shard, now_ms) {
            let from = shard.id();
            self.links[usize::from(delivery.to.0)]
                .bring(|post| post.put_messages(from, delivery.first, delivery.messages));
        }
    }

    fn release(&mut self, releases: Vec<Release<Asker>>) {
        let mut answered = 0;
        for release in releases {
            match release {
                Release::Device { to, replies } => {
                    answered += replies.len();
                    if let Asker::Inbox(inbox) = to {
                        inbox.answered(&replies);
                    }
                }
                Release::Confirmed { to, seqs } => {
                    if let Asker::Inbox(inbox) = to {
                        inbox.confirmed(&seqs);
                    }
                }
                Release::Terminal { to, replies } => {
                    answered += replies.len();
                    self.link.terminals.fetch_sub(replies.len(), Ordering::AcqRel);
                    if let Asker::Terminal(inbox) = to {
                        inbox.answered(&replies);
                    }
                }
                Release::Send { to, through } => self.courier.may_send(to, through),
                Release::Ack { to, through } => {
                    let me = self.pipeline.shard().id();
                    self.links[usize::from(to.0)].bring(|post| post.put_acknowledgement(me, through));
                }
                Release::Office { to, answer, repeated } => {
                    answered += 1;
                    if let Asker::Office(once) = to {
                        once.send((answer, repeated));
                    }
                }
                Release::View { to, view } => {
                    answered += 1;
                    if let Asker::Query(once) = to {
                        once.send(view);
                    }
                }
                // Nobody may be connected.
                Release::Notice(notice) => drop(self.notices.send(notice)),
            }
        }
        self.link.pending.fetch_sub(answered, Ordering::AcqRel);
    }

    /// The journal takes nothing any more: what waits is told so, what is under way gets no answer, for nobody knows
    /// whether it is durable. Devices ask again after the restart.
    fn fail(&mut self) {
        self.failed = true;
        self.link.serving.store(false, Ordering::Release);
        for (commands, asker) in self.pipeline.abandon() {
            if !matches!(asker, Asker::Nobody) {
                self.link.pending.fetch_sub(commands, Ordering::AcqRel);
            }
            match asker {
                Asker::Office(once) => once.send((OfficeAnswer::Rejected(Rejection::Unavailable), false)),
                Asker::Query(once) => once.send(View::No(Rejection::Unavailable)),
                Asker::Terminal(_) => {
                    self.link.terminals.fetch_sub(commands, Ordering::AcqRel);
                }
                Asker::Inbox(_) | Asker::Nobody => {}
            }
        }
    }
}

impl Actor for ShardActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(Duration::from_secs(1), |this, _| {
            if this.failed || this.rebuilding {
                return;
            }
            this.pipeline.take(Work::Tick, Asker::Nobody);
            this.pump();
        });
    }
}

impl Handler<Enter> for ShardActor {
    type Result = ();

    fn handle(&mut self, Enter(work, asker): Enter, ctx: &mut Self::Context) {
        self.pipeline.take(work, asker);
        if self.failed {
            return self.fail();
        }
        // Not at once: what else lies in the mailbox shares the record.
        if !core::mem::replace(&mut self.pump_due, true) {
            ctx.notify(Control::Pump);
        }
    }
}

impl Handler<Control> for ShardActor {
    type Result = ();

    fn handle(&mut self, message: Control, ctx: &mut Self::Context) {
        match message {
            Control::Durable => {
                self.link.told.store(false, Ordering::Release);
                self.pump();
            }
            Control::Pump => {
                self.pump_due = false;
                self.pump();
            }
            Control::Post => self.pump(),
            Control::Failed | Control::Lost => self.fail(),
            Control::Rebuilt(shard) => {
                self.rebuilding = false;
                let release = self.pipeline.rebuilt(*shard);
                self.release(release.into_iter().collect());
                // All that it has is in the journal, or it could not have been rebuilt.
                self.courier = Courier::new(self.pipeline.shard());
                for from in self.pipeline.stuck() {
                    self.link.stuck.store(true, Ordering::Release);
                    tracing::error!(
                        shard = self.pipeline.shard().id().0,
                        from = from.0,
                        "a message panics; no more are taken in"
                    );
                }
                self.pump();
            }
            Control::Stop(done) => {
                self.pump();
                if self.pipeline.is_idle() || self.failed {
                    self.link.serving.store(false, Ordering::Release);
                    // Whoever asked for it may have given up waiting.
                    let _ = done.send(self.pipeline.shard().clone());
                    ctx.stop();
                } else {
                    ctx.notify_later(Control::Stop(done), Duration::from_millis(2));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::journal::{Cursor, JournalError, Reader, Reason, Refused};

    /// Has room for short records only.
    #[derive(Default)]
    struct Narrow(Mutex<Vec<(ShardId, Vec<u8>)>>);

    impl Journal for Narrow {
        fn shards(&self) -> u16 {
            2
        }
        fn append(&self, shard: ShardId, record: Vec<u8>) -> Result<(), Refused> {
            if record.len() > 2 {
                return Err(Refused { reason: Reason::Full, record });
            }
            self.0.lock().unwrap().push((shard, record));
            Ok(())
        }
        fn reader(&self, _: &Cursor) -> Result<Box<dyn Reader>, JournalError> {
            unreachable!("nobody reads")
        }
        fn end(&self) -> Cursor {
            Cursor::start(2)
        }
        fn failure(&self) -> Option<String> {
            None
        }
        fn close(&self) -> Result<(), JournalError> {
            Ok(())
        }
    }

    /// Behind a gap nothing can be replayed, so a shard whose record found no room gets none for the next, shorter one;
    /// neither of those that were gathered with it nor of later ones.
    #[test]
    fn behind_a_refused_record_comes_no_other() {
        let (journal, links) = (Narrow::default(), [0, 1].map(|_| Arc::new(Link::new(Arc::default()))));
        let (one, other) = (ShardId(0), ShardId(1));
        for gathered in
            [vec![(one, vec![1]), (one, vec![2; 3]), (one, vec![3]), (other, vec![4])], vec![(one, vec![5])]]
        {
            HANDED_OVER.set(gathered);
            write_down(&journal, &links);
        }
        assert_eq!(*journal.0.lock().unwrap(), [(one, vec![1]), (other, vec![4])]);
    }
}
