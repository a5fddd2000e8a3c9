//! Hosts a shard: an actix actor on an arbiter's thread around a [`Pipeline`]. actix's actors are known in this file and what
//! lies under it alone.
//!
//! There is an actor for every shard of the journal, whether that shard is here or not: it is taken up and given up by
//! messages, so that nobody who reaches it has to ask where it is. Around a shard that is elsewhere the pipeline is down.
//!
//! Messages carry batches. The journal's thread tells of durable records through two atomics and at most one message,
//! so that its news can neither be lost in a full mailbox nor fill it.

mod link;
mod reply_to;
mod to_journal;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::prelude::*;
use engine::model::ids::ShardId;
use engine::model::rejection::Rejection;
use engine::shard::Shard;
use storage::journal::Journal;
use tokio::sync::oneshot;

pub use self::link::Standing;
pub(crate) use self::link::{Acks, Link};
pub(crate) use self::reply_to::{ReplySender, ReplyTo};
use self::to_journal::{answered_early, forget, gather, write_all_down, write_down};
use crate::clock::NodeClock;
use crate::limits::{IN_FLIGHT_MAX, MAILBOX_MAX};
use crate::notices::Notices;
use crate::outbox_sender::{Delivery, OutboxSender};
use crate::peers::Border;
use crate::pipeline::{Effect, Pipeline, Stepped, Work};
use crate::reply::{Answered, Busy};

/// A batch.
struct Submit(Work, ReplyTo);

impl Message for Submit {
    type Result = ();
}

/// What the host is told beside batches. Few at a time, so these ignore the mailbox's bound.
pub(crate) enum Control {
    /// Look at [`Link::durable`].
    Durable,
    /// Look at [`Link::inbox`].
    Inbox,
    /// Step, now that the mailbox is empty.
    Pump,
    /// The journal has failed, or refused a record of this shard, or lost the shard.
    Failed,
    /// A state rebuilt from the journal after a panic, for that hosting ([`Rebuild`]).
    Rebuilt(u64, Box<Shard>),
    /// No state can be rebuilt: the shard stays down.
    NotRebuilt(u64),
    /// Host this shard, all of whose records are in the journal. The answer: whether it is still expected here.
    TakeUp(Box<Shard>, oneshot::Sender<bool>),
    /// Host it no longer, once nothing is under way in it, and hand over the state.
    GiveUp(GiveUp),
}

/// How a shard is to be given up.
pub(crate) struct GiveUp {
    /// So long messages of other shards are taken in for the sake of answers that wait for them.
    pub(crate) finish_until: Instant,
    /// If it is not at rest by then, it goes down.
    pub(crate) rest_until: Instant,
    /// The state; none of a shard that is down: it may be ahead of the journal.
    pub(crate) done: oneshot::Sender<Option<Shard>>,
}

impl Message for Control {
    type Result = ();
}

/// Asks for a shard to be rebuilt from snapshot and journal, by which of its hostings here it is for: one that has ended
/// needs it no more. The answer is [`Control::Rebuilt`] or [`Control::NotRebuilt`]. `false`: there is nobody to do it.
pub(crate) type Rebuild = Box<dyn Fn(ShardId, u64) -> bool + Send>;

/// The actor around one shard, or around the place of one that is elsewhere.
pub(crate) struct ShardActor {
    id: ShardId,
    pipeline: Pipeline<ReplyTo>,
    outbox_sender: OutboxSender,
    /// Where messages are sent later than now counts from here.
    began: Instant,
    link: Arc<Link>,
    /// Of all shards, by number.
    links: Arc<[Arc<Link>]>,
    border: Border,
    journal: Arc<dyn Journal>,
    clock: Arc<NodeClock>,
    notices: Notices,
    rebuild: Rebuild,
    pump_due: bool,
    rebuilding: bool,
    /// Counts how often the shard was taken up here.
    hosting: u64,
    /// It is being given up; until when messages of other shards are taken in.
    leaving: Option<Instant>,
}

impl ShardActor {
    /// Starts the actor on the present arbiter, around the place of a shard.
    pub(crate) fn start_here(
        id: ShardId,
        links: Arc<[Arc<Link>]>,
        border: Border,
        journal: Arc<dyn Journal>,
        clock: Arc<NodeClock>,
        notices: Notices,
        rebuild: Rebuild,
    ) {
        let shared = Arc::clone(&links[usize::from(id.0)]);
        let link = Arc::clone(&shared);
        let nothing = nothing(id);
        let addr = Self::create(|ctx: &mut Context<Self>| {
            ctx.set_mailbox_capacity(MAILBOX_MAX);
            Self {
                id,
                outbox_sender: OutboxSender::new(&nothing),
                began: Instant::now(),
                pipeline: Pipeline::elsewhere(nothing),
                link,
                links,
                border,
                journal,
                clock,
                notices,
                rebuild,
                pump_due: false,
                rebuilding: false,
                hosting: 0,
                leaving: None,
            }
        });
        shared.starts(addr);
    }

    /// Releases what is durable, then decides what waits.
    fn pump(&mut self) {
        for _ in 0..self.link.durable.swap(0, Ordering::Acquire) {
            let releases = self.pipeline.durable();
            self.release(releases);
        }
        self.take_post();
        while self.pipeline.is_ready() {
            let buffer = self.link.spare.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
            match self.pipeline.step(self.clock.now(), buffer.unwrap_or_default()) {
                Stepped::Record(record, releases) => {
                    self.hand_over(record);
                    self.release(releases);
                }
                Stepped::Nothing(releases) => self.release(releases),
                Stepped::Panicked => {
                    let shard = self.id.0;
                    tracing::error!(shard, culprit = ?self.pipeline.culprit(), "a step panicked; rebuilding the shard");
                }
            }
        }
        self.link.set_time(self.pipeline.shard().now());
        // What was handed out before the panic has to be in the journal before the state can be read back from it.
        let poisoned = self.pipeline.is_poisoned() && !self.pipeline.is_down();
        if poisoned && self.pipeline.in_flight() == 0 && !self.rebuilding {
            self.rebuilding = true;
            if !(self.rebuild)(self.id, self.hosting) {
                return self.fail();
            }
        }
        self.send();
    }

    /// Hands a record to the journal when everybody on this thread who is ready now has had a turn, or when there is
    /// enough: the journal's thread is quick to write the first record it sees, and the others would have to wait for the
    /// next write.
    fn hand_over(&self, record: Vec<u8>) {
        let (alone, enough) = gather(self.id, record);
        let full = enough && write_down(&*self.journal, &self.links);
        // What is left there has somebody who comes for it.
        if full || alone && !enough {
            let (journal, links) = (Arc::clone(&self.journal), Arc::clone(&self.links));
            actix::spawn(write_all_down(journal, links, Arc::clone(&self.link)));
        }
    }

    /// Takes in what other shards have sent, as soon as a step would find room: until then it lies in slots that have
    /// one place for each of them.
    fn take_post(&mut self) {
        let out = self.pipeline.is_down() || self.pipeline.is_poisoned();
        if out || self.pipeline.in_flight() >= IN_FLIGHT_MAX || !self.finishes() {
            return;
        }
        for work in self.link.inbox.take() {
            self.pipeline.take(work, ReplyTo::Nobody);
        }
    }

    /// Whether messages of other shards are taken in: always, but for a shard that is being given up. Its answers that wait
    /// for them have a little time left.
    fn finishes(&self) -> bool {
        self.leaving.is_none_or(|until| self.pipeline.has_deferred() && Instant::now() < until)
    }

    /// Sends other shards what is due.
    fn send(&mut self) {
        if self.pipeline.is_down() || self.pipeline.is_poisoned() {
            return;
        }
        let now_ms = self.began.elapsed().as_millis() as u64;
        for Delivery { to, first, messages } in self.outbox_sender.due(self.pipeline.shard(), now_ms) {
            self.deliver(to, Work::Deliver { from: self.id, first, messages });
        }
    }

    /// Brings another shard what this one has for it, here or on another node. If it is nowhere, that waits for it here.
    fn deliver(&self, to: ShardId, work: Work) {
        let link = &self.links[usize::from(to.0)];
        match self.border.host(link, to) {
            Some(node) => self.border.carry(node, to, work),
            None => link.bring(work),
        }
    }

    fn release(&mut self, releases: Vec<Effect<ReplyTo>>) {
        let mut answered = 0;
        for release in releases {
            match release {
                Effect::Device { to, replies } => {
                    answered += replies.len();
                    if replies.iter().any(|reply| !reply.durable) {
                        answered_early();
                    }
                    to.tell(Answered::Device(replies));
                }
                Effect::Confirmed { to, seqs } => to.tell(Answered::Confirmed(seqs)),
                Effect::Terminal { to, replies } => {
                    answered += replies.len();
                    self.link.terminals.fetch_sub(replies.len(), Ordering::AcqRel);
                    to.tell(Answered::Terminal(replies));
                }
                Effect::NotAnswered { to, seqs, why } => {
                    answered += seqs.len();
                    if to.is_terminal() {
                        self.link.terminals.fetch_sub(seqs.len(), Ordering::AcqRel);
                    }
                    to.tell(Answered::TurnedAway(seqs, Busy::of(why)));
                }
                Effect::NotConfirmed { to, seqs } => {
                    to.tell(Answered::NotConfirmed(seqs, Busy::of(Rejection::InDoubt)));
                }
                Effect::Send { to, through } => self.outbox_sender.may_send(to, through),
                Effect::Ack { to, through } => self.deliver(to, Work::Delivered { to: self.id, through }),
                Effect::Admin { to, answer, repeated } => {
                    answered += 1;
                    to.tell(Answered::Admin(answer, repeated));
                }
                Effect::View { to, view } => {
                    answered += 1;
                    to.tell(Answered::View(view));
                }
                Effect::Notice(notice) => self.notices.say(notice),
            }
        }
        self.link.pending.fetch_sub(answered, Ordering::AcqRel);
    }

    /// The shard goes down, and stays down until it is given up or the node starts again: whoever waits is told so.
    fn fail(&mut self) {
        self.link.goes_down(Standing::Down);
        self.turn_away();
    }

    /// Tells whoever waits that nothing comes of it here.
    fn turn_away(&mut self) {
        let releases = self.pipeline.go_down();
        self.release(releases);
    }

    /// Begins to host a shard that has recovered, if it is still expected: it may have been lost again meanwhile.
    fn take_up(&mut self, shard: Shard) -> bool {
        let now = shard.now();
        if !self.link.arrives(now) {
            return false;
        }
        self.outbox_sender = OutboxSender::new(&shard);
        self.pipeline = Pipeline::new(shard);
        (self.hosting, self.rebuilding, self.leaving) = (self.hosting + 1, false, None);
        true
    }

    /// Hosts the shard no longer; its state, if it is at rest and not down.
    fn leave(&mut self) -> Option<Shard> {
        let was_up = !self.pipeline.is_down();
        // Nothing waits but for other shards, if that.
        self.turn_away();
        // What it has decided and not handed over is never written, whoever hosts it next.
        forget(self.id);
        let at_rest = self.link.leaves() && was_up;
        (self.rebuilding, self.leaving) = (false, None);
        let pipeline = core::mem::replace(&mut self.pipeline, Pipeline::elsewhere(nothing(self.id)));
        at_rest.then(|| pipeline.into_shard())
    }
}

/// What stands in for a shard that is elsewhere. It has no others to send anything to, since it sends nothing.
fn nothing(id: ShardId) -> Shard {
    Shard::new(id, 0)
}

impl Actor for ShardActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(Duration::from_secs(1), |this, _| {
            if this.pipeline.is_down() || this.rebuilding {
                return;
            }
            this.pipeline.take(Work::Tick, ReplyTo::Nobody);
            this.pump();
            if this.links.iter().any(|link| !link.serving.load(Ordering::Acquire)) {
                let (links, border) = (Arc::clone(&this.links), this.border.clone());
                let out = |id: ShardId, link: &Link| link.is_out() && border.host(link, id).is_none();
                let releases = this.pipeline.put_off(|id| out(id, &links[usize::from(id.0)]));
                this.release(releases);
            }
        });
    }
}

impl Handler<Submit> for ShardActor {
    type Result = ();

    fn handle(&mut self, Submit(work, asker): Submit, ctx: &mut Self::Context) {
        self.pipeline.take(work, asker);
        if self.pipeline.is_down() {
            return self.turn_away();
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
            Control::Inbox => self.pump(),
            Control::Failed => self.fail(),
            Control::Rebuilt(hosting, _) | Control::NotRebuilt(hosting)
                if hosting != self.hosting || self.pipeline.is_down() => {}
            Control::NotRebuilt(_) => self.fail(),
            Control::Rebuilt(_, shard) if shard.seq() != self.pipeline.handed_seq() => {
                let (found, handed) = (shard.seq(), self.pipeline.handed_seq());
                tracing::error!(shard = shard.id().0, found, handed, "a rebuilt shard lacks records and stays down");
                self.fail();
            }
            Control::Rebuilt(_, shard) => {
                self.rebuilding = false;
                let release = self.pipeline.rebuilt(*shard);
                self.release(release.into_iter().collect());
                // All that it has is in the journal, or it could not have been rebuilt.
                self.outbox_sender = OutboxSender::new(self.pipeline.shard());
                for from in self.pipeline.stuck() {
                    self.link.stuck.store(true, Ordering::Release);
                    tracing::error!(shard = self.id.0, from = from.0, "a message panics; no more are taken in");
                }
                self.pump();
            }
            Control::TakeUp(shard, done) => {
                // Whoever asked for it may have given up waiting.
                let _ = done.send(self.take_up(*shard));
                self.pump();
            }
            Control::GiveUp(how) => {
                self.leaving = Some(how.finish_until);
                self.pump();
                if !self.pipeline.is_down() && Instant::now() >= how.rest_until {
                    tracing::error!(shard = self.id.0, "a shard that is given up does not come to rest; it is down");
                    self.fail();
                }
                if self.pipeline.is_down() || self.pipeline.is_idle() && !self.finishes() {
                    let _ = how.done.send(self.leave());
                } else {
                    ctx.notify_later(Control::GiveUp(how), Duration::from_millis(2));
                }
            }
        }
    }
}
