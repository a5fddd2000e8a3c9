//! What a shard's actor shares with the doors, the journal and the other shards. How the shard stands is here too: whoever
//! finds that it cannot go on says so in one place, and the first reason stands.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use actix::prelude::*;
use engine::model::ids::ShardId;
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use storage::journal::{Position, Sink};

use super::{Control, ReplyTo, ShardActor, Submit};
use crate::inbox::ShardInbox;
use crate::limits::IN_FLIGHT_MAX;
use crate::pipeline::Work;

/// How a shard stands on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is about to serve.
    Starting,
    /// It takes commands.
    Serving,
    /// It cannot go on: the journal has failed or refused its record, or its state cannot be rebuilt.
    Down,
    /// The journal has lost it, for this reason.
    Lost(String),
}

/// What a shard shares with the doors and the journal.
pub(crate) struct Link {
    addr: OnceLock<Addr<ShardActor>>,
    /// Commands let in and not yet answered.
    pub(crate) pending: AtomicUsize,
    /// The same of terminals, over all shards of this one's thread.
    pub(crate) terminals: Arc<AtomicUsize>,
    /// Records that became durable and that the actor has not heard of.
    pub(super) durable: AtomicU64,
    /// A message to the actor about them is under way.
    pub(super) told: AtomicBool,
    /// Record buffers to use again; never more than two are under way.
    pub(super) spare: Mutex<Vec<Vec<u8>>>,
    /// What other shards have sent.
    pub(crate) inbox: ShardInbox,
    standing: Mutex<Standing>,
    /// Takes commands: what is asked for each of them in place of the standing.
    pub(crate) serving: AtomicBool,
    /// Takes in no more messages of some shards, because one of them panics.
    pub(crate) stuck: AtomicBool,
    /// The journal has refused a record of this shard, or lost the shard: it gets no other.
    pub(super) refused: AtomicBool,
    /// The shard's time, in milliseconds since 1970.
    time_ms: AtomicI64,
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
            inbox: ShardInbox::default(),
            standing: Mutex::new(Standing::Starting),
            serving: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            time_ms: AtomicI64::new(0),
        }
    }

    /// Puts work into the mailbox; gives it back if that is full or the shard is gone.
    pub(crate) fn send(&self, work: Work, asker: ReplyTo) -> Result<(), (Rejection, Work)> {
        let Some(addr) = self.addr.get() else { return Err((Rejection::Unavailable, work)) };
        addr.try_send(Submit(work, asker)).map_err(|error| match error {
            SendError::Full(enter) => (Rejection::Busy, enter.0),
            SendError::Closed(enter) => (Rejection::Unavailable, enter.0),
        })
    }

    /// The same past the mailbox's bound: whoever calls this has counted.
    pub(crate) fn send_urgently(&self, work: Work, asker: ReplyTo) {
        if let Some(addr) = self.addr.get() {
            addr.do_send(Submit(work, asker));
        }
    }

    /// Brings a shard what another has sent; `put` lays it down.
    pub(super) fn bring(&self, put: impl FnOnce(&ShardInbox) -> bool) {
        if put(&self.inbox) {
            self.notify(Control::Inbox);
        }
    }

    /// The actor is there.
    ///
    /// # Panics
    /// If there is one already.
    pub(super) fn starts(&self, addr: Addr<ShardActor>) {
        let mut standing = self.standing();
        assert!(self.addr.set(addr).is_ok(), "a shard is started once");
        if *standing == Standing::Starting {
            *standing = Standing::Serving;
            self.serving.store(true, Ordering::Release);
        } else {
            self.notify(Control::Failed);
        }
    }

    /// The actor finds that the shard cannot go on: no more is let in.
    pub(super) fn goes_down(&self, how: Standing) {
        self.down(how);
    }

    /// Somebody else finds that the shard cannot go on: no more is let in, no other record of it goes to the journal, and
    /// the actor is told.
    pub(super) fn take_down(&self, how: Standing) {
        self.refused.store(true, Ordering::Release);
        if self.down(how) {
            self.notify(Control::Failed);
        }
    }

    /// Whether it was up. The first reason stands, but for what the journal says in place of having refused.
    fn down(&self, how: Standing) -> bool {
        let mut standing = self.standing();
        let was_up = matches!(&*standing, Standing::Starting | Standing::Serving);
        if was_up || matches!((&*standing, &how), (Standing::Down, Standing::Lost(_))) {
            *standing = how;
            self.serving.store(false, Ordering::Release);
        }
        was_up
    }

    /// How the shard stands.
    pub(crate) fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn time(&self) -> Timestamp {
        Timestamp(self.time_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn set_time(&self, at: Timestamp) {
        self.time_ms.store(at.0, Ordering::Relaxed);
    }

    pub(crate) fn notify(&self, message: Control) {
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
            let mut spare = link.spare.lock().unwrap_or_else(PoisonError::into_inner);
            spare.append(buffers);
            spare.truncate(IN_FLIGHT_MAX);
        }
        link.durable.fetch_add(count as u64, Ordering::Release);
        if !link.told.swap(true, Ordering::AcqRel) {
            link.notify(Control::Durable);
        }
    }

    fn failed(&self, why: &str) {
        tracing::error!(why, "the journal has failed: nothing more is acknowledged until a restart");
        self.failed.store(true, Ordering::Release);
        self.links.iter().for_each(|link| link.notify(Control::Failed));
    }

    fn lost(&self, shard: ShardId, why: &str) {
        tracing::error!(shard = shard.0, why, "the journal has lost a shard; it is down here");
        self.links[usize::from(shard.0)].take_down(Standing::Lost(why.to_owned()));
    }
}
