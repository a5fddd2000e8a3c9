//! What a shard's actor shares with the doors, the journal and the other shards. How the shard stands is here too: whoever
//! finds that it cannot go on says so in one place, and the first reason stands.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use actix::prelude::*;
use engine::model::ids::ShardId;
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use storage::journal::{Position, Sink};
use tokio::sync::watch;

use super::{Control, GiveUp, ReplyTo, ShardActor, Submit};
use crate::inbox::ShardInbox;
use crate::limits::IN_FLIGHT_MAX;
use crate::pipeline::Work;

/// How a shard stands on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is not here; another node may have it.
    Elsewhere,
    /// It is being recovered, and will serve.
    Arriving,
    /// It takes commands.
    Serving,
    /// It takes no more commands, and lets those that it has become durable.
    Leaving,
    /// It cannot go on: the journal has failed or refused its record, or its state cannot be rebuilt.
    Down,
    /// The journal has lost it, for this reason.
    Lost(String),
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elsewhere => f.write_str("not here"),
            Self::Arriving => f.write_str("being taken up"),
            Self::Serving => f.write_str("serving"),
            Self::Leaving => f.write_str("being given up"),
            Self::Down => f.write_str("down"),
            Self::Lost(why) => write!(f, "lost: {why}"),
        }
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
            standing: Mutex::new(Standing::Elsewhere),
            serving: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            time_ms: AtomicI64::new(0),
        }
    }

    /// So many commands are let in, of terminals or others.
    pub(crate) fn lets_in(&self, count: usize, terminals: bool) {
        self.pending.fetch_add(count, Ordering::AcqRel);
        self.terminals.fetch_add(if terminals { count } else { 0 }, Ordering::AcqRel);
    }

    /// So many are not waiting any more.
    pub(crate) fn answered(&self, count: usize, terminals: bool) {
        self.pending.fetch_sub(count, Ordering::AcqRel);
        self.terminals.fetch_sub(if terminals { count } else { 0 }, Ordering::AcqRel);
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

    /// Brings a shard what another has for it: messages, or how far it is with ours.
    pub(crate) fn bring(&self, work: Work) {
        let notify = match work {
            Work::Deliver { from, first, messages } => self.inbox.put_messages(from, first, messages),
            Work::Delivered { to, through } => self.inbox.put_acknowledgement(to, through),
            Work::Device(_) | Work::Terminal(_) | Work::Admin(_) | Work::Query(_) | Work::Tick => false,
        };
        if notify {
            self.notify(Control::Inbox);
        }
    }

    /// The actor is there.
    ///
    /// # Panics
    /// If there is one already.
    pub(super) fn starts(&self, addr: Addr<ShardActor>) {
        assert!(self.addr.set(addr).is_ok(), "one actor a shard");
    }

    /// Whether the actor is there.
    pub(crate) fn has_started(&self) -> bool {
        self.addr.get().is_some()
    }

    /// The shard is about to be taken up.
    ///
    /// # Errors
    /// How it stands, if it is not elsewhere.
    pub(crate) fn expect(&self) -> Result<(), Standing> {
        self.goes_from(&Standing::Elsewhere, Standing::Arriving)
    }

    /// Nothing has come of taking it up.
    pub(crate) fn expects_no_more(&self) {
        // Or it was lost meanwhile, which stays to be seen.
        let _ = self.goes_from(&Standing::Arriving, Standing::Elsewhere);
    }

    /// The actor hosts the shard from now on. `false`: it is not expected any more.
    pub(super) fn arrives(&self, now: Timestamp) -> bool {
        let mut standing = self.standing();
        if *standing != Standing::Arriving {
            return false;
        }
        // All that the journal has said of it is of an earlier hosting.
        self.durable.store(0, Ordering::Release);
        self.refused.store(false, Ordering::Release);
        self.stuck.store(false, Ordering::Release);
        self.set_time(now);
        *standing = Standing::Serving;
        self.serving.store(true, Ordering::Release);
        true
    }

    /// The shard is to be given up: no more is let in, and the actor is told.
    ///
    /// # Errors
    /// How it stands, if it does not serve and is not down.
    pub(crate) fn give_up(&self, how: GiveUp) -> Result<(), Standing> {
        let mut standing = self.standing();
        if !matches!(&*standing, Standing::Serving | Standing::Down | Standing::Lost(_)) {
            return Err(standing.clone());
        }
        *standing = Standing::Leaving;
        self.serving.store(false, Ordering::Release);
        self.notify(Control::GiveUp(how));
        Ok(())
    }

    /// The actor does not host the shard any more. `false`: it was lost meanwhile, whether the actor has heard of that or not.
    pub(super) fn leaves(&self) -> bool {
        core::mem::replace(&mut *self.standing(), Standing::Elsewhere) == Standing::Leaving
    }

    fn goes_from(&self, from: &Standing, to: Standing) -> Result<(), Standing> {
        let mut standing = self.standing();
        if *standing != *from {
            return Err(standing.clone());
        }
        *standing = to;
        Ok(())
    }

    /// The actor finds that the shard cannot go on: no more is let in.
    pub(super) fn goes_down(&self, how: Standing) {
        Self::down(&mut self.standing(), &self.serving, how);
    }

    /// Somebody else finds that the shard cannot go on: no more is let in, no other record of it goes to the journal, and
    /// the actor is told.
    pub(super) fn take_down(&self, how: Standing) {
        let mut standing = self.standing();
        self.refused.store(true, Ordering::Release);
        if Self::down(&mut standing, &self.serving, how) {
            // Before anybody else sees how it stands: whatever they tell the actor then comes behind this.
            self.notify(Control::Failed);
        }
    }

    /// Whether it was up. The first reason stands, but for what the journal says in place of having refused.
    fn down(standing: &mut Standing, serving: &AtomicBool, how: Standing) -> bool {
        let was_up = matches!(standing, Standing::Arriving | Standing::Serving | Standing::Leaving);
        if was_up || matches!((&*standing, &how), (Standing::Down, Standing::Lost(_))) {
            *standing = how;
            serving.store(false, Ordering::Release);
        }
        was_up
    }

    /// Why a command is not let in.
    pub(crate) fn why_not(&self) -> Rejection {
        match &*self.standing() {
            // It serves elsewhere in a moment.
            Standing::Leaving => Rejection::Busy,
            _ => Rejection::Unavailable,
        }
    }

    /// Whether nobody knows when it serves again.
    pub(super) fn is_out(&self) -> bool {
        matches!(&*self.standing(), Standing::Elsewhere | Standing::Down | Standing::Lost(_))
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
    pub(crate) losses: Arc<watch::Sender<()>>,
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
        tracing::debug!(shard = shard.0, why, "the journal has lost a shard; it is down here");
        self.links[usize::from(shard.0)].take_down(Standing::Lost(why.to_owned()));
        self.losses.send_replace(());
    }
}
