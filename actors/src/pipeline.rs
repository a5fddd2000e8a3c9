//! One shard's way from commands to answers, as a machine that knows no threads, clock or disk: the host drives it on a
//! real journal, the simulator on a faulty one.
//!
//! ```text
//! take ─→ waiting ─→ step: decide a batch, one record ─→ in flight ─→ durable: release
//! ```
//! What a record decided is released only when that record is durable, in order. An answer that changed nothing, or a
//! view, waits for the newest record in flight, since it may show what that record did. What another shard has a say in
//! waits longer still (`pipeline/deferred.rs`).

mod deferred;
mod down;
mod work;

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use engine::cashless::command::TerminalAnswer;
use engine::command::{AdminAnswer, Answer};
use engine::gates::command::{DeviceAction, DeviceAnswer, DeviceCommand};
use engine::model::ids::{ShardId, ZoneNo};
use engine::model::rejection::Rejection;
use engine::model::status::ScanAck;
use engine::model::time::Timestamp;
use engine::plants::{Plant, planted};
use engine::shard::{Shard, Step};
use engine::view::{Notice, Query, View};

use crate::limits::{IN_FLIGHT_EARLY_MAX, IN_FLIGHT_MAX, STEP_MAX, UNCONFIRMED_MAX, UNCONFIRMED_MS_MAX};
use crate::reply::{DeviceReply, TerminalReply};
use deferred::DeferredReplies;
pub use work::{Effect, Work};

/// One shard and what is under way in it.
pub struct Pipeline<R> {
    shard: Shard,
    waiting: VecDeque<(Work, R)>,
    in_flight: VecDeque<Flight<R>>,
    /// Scans answered and not yet durable, and since when.
    unconfirmed: VecDeque<(Timestamp, usize)>,
    step: Step,
    /// The last record handed out; the shard's own number runs ahead of it when a step panics.
    handed_seq: u64,
    poisoned: bool,
    /// So many of the waiting were there when a step panicked: they are tried one by one.
    suspects: usize,
    /// The first of them panicked alone.
    culprit: bool,
    deferred: DeferredReplies<R>,
    /// A message of these shards panicked alone. None may be skipped, so nothing more of theirs is taken in.
    stuck: BTreeSet<ShardId>,
    down: bool,
}

/// What waits for one record to become durable.
struct Flight<R> {
    releases: Vec<Effect<R>>,
    unconfirmed: bool,
}

/// What a step comes to.
#[derive(Debug)]
pub enum Stepped<R> {
    /// A record to hand to the journal, and what may leave at once.
    Record(Vec<u8>, Vec<Effect<R>>),
    /// Nothing happened; this may leave.
    Nothing(Vec<Effect<R>>),
    /// The step panicked: the state is not to be trusted. Rebuild it up to [`Pipeline::handed_seq`] and call
    /// [`Pipeline::rebuilt`].
    Panicked,
}

impl<R: Clone> Pipeline<R> {
    /// Around a shard that has recovered.
    pub fn new(shard: Shard) -> Self {
        Self {
            handed_seq: shard.seq(),
            shard,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            unconfirmed: VecDeque::new(),
            step: Step::default(),
            poisoned: false,
            suspects: 0,
            culprit: false,
            deferred: DeferredReplies::new(),
            stuck: BTreeSet::new(),
            down: false,
        }
    }

    /// Around the place of a shard that is elsewhere: whatever is taken is told so by [`Pipeline::go_down`]. `nothing` stands
    /// in for it.
    pub fn elsewhere(nothing: Shard) -> Self {
        Self { down: true, ..Self::new(nothing) }
    }

    /// The shard, to be hosted elsewhere.
    pub fn into_shard(self) -> Shard {
        self.shard
    }

    /// Queues work. The caller bounds how much.
    pub fn take(&mut self, work: Work, to: R) {
        let stuck = matches!(&work, Work::Deliver { from, .. } if self.stuck.contains(from));
        if !work.is_empty() && !stuck {
            self.waiting.push_back((work, to));
        }
    }

    /// Whether a step would find work and room.
    pub fn is_ready(&self) -> bool {
        let Some((work, _)) = self.waiting.front().filter(|_| !self.poisoned && !self.down) else { return false };
        self.in_flight.len() < IN_FLIGHT_MAX
            || (self.in_flight.len() < IN_FLIGHT_EARLY_MAX
                && matches!(work, Work::Device(commands) if answers_early(&self.shard, commands))
                && self.unconfirmed() + work.len() <= UNCONFIRMED_MAX)
    }

    /// Scans answered and not yet durable.
    fn unconfirmed(&self) -> usize {
        self.unconfirmed.iter().map(|(_, scans)| scans).sum()
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// Whether answers wait for other shards.
    pub fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// The shard, unless a step has panicked.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Whether a step has panicked and the state waits to be rebuilt.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// How many records are on their way to the disk.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The shards whose messages are not taken in any more until a restart, since one of them panics.
    pub fn stuck(&self) -> impl Iterator<Item = ShardId> {
        self.stuck.iter().copied()
    }

    /// The shard cannot go on: its record was refused, the journal has failed, or its state cannot be rebuilt. Says so to
    /// whoever waits: what was not decided has not happened; of what was decided nobody knows whether it is durable. From
    /// then on nothing is decided any more; whatever is taken all the same is told by the next call.
    pub fn go_down(&mut self) -> Vec<Effect<R>> {
        self.down = true;
        let mut told: Vec<Effect<R>> =
            self.waiting.drain(..).filter_map(|(work, to)| down::undecided(work, to)).collect();
        let held = self.in_flight.drain(..).flat_map(|flight| flight.releases);
        told.extend(held.filter_map(down::of_unknown_fate));
        told.extend(self.deferred.abandon().map(|to| down::admin(to, Rejection::StillPending)));
        self.unconfirmed.clear();
        if planted(Plant::DownShardSilent) { Vec::new() } else { told }
    }

    /// Whether [`Pipeline::go_down`] was called.
    pub fn is_down(&self) -> bool {
        self.down
    }

    /// Tells those who wait for a shard that is down to look again later: what they asked for goes on when it is back.
    pub fn put_off(&mut self, down: impl Fn(ShardId) -> bool) -> Vec<Effect<R>> {
        self.deferred.waiting_for(down).collect()
    }

    /// The sequence number of the last record handed out.
    pub fn handed_seq(&self) -> u64 {
        self.handed_seq
    }

    /// Decides what waits, up to the bound of one step. `buffer` becomes the record.
    pub fn step(&mut self, stamp: Timestamp, buffer: Vec<u8>) -> Stepped<R> {
        let count = self.next_batches();
        self.step.record = buffer;
        let (shard, step, waiting) = (&mut self.shard, &mut self.step, &self.waiting);
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            let batches = waiting.iter().take(count);
            shard.step_each(stamp, batches.flat_map(|(work, _)| work.commands()), step);
        }));
        if stepped.is_err() {
            self.poisoned = true;
            self.suspects = self.suspects.max(count);
            self.culprit = count == 1 && self.waiting[0].0.is_single();
            return Stepped::Panicked;
        }
        self.suspects = self.suspects.saturating_sub(count);
        let record = core::mem::take(&mut self.step.record);
        let happened = self.step.events > 0;
        let early = if happened { self.may_answer_early(stamp) } else { 0 };
        let (now, held, unconfirmed) = self.releases_of(stamp, count, early);
        if unconfirmed > 0 {
            self.unconfirmed.push_back((stamp, unconfirmed));
        }
        if happened {
            self.handed_seq = self.shard.seq();
            self.in_flight.push_back(Flight { releases: held, unconfirmed: unconfirmed > 0 });
            return Stepped::Record(record, now);
        }
        if let Some(newest) = self.in_flight.back_mut().filter(|_| !planted(Plant::ViewsBeforeDurable)) {
            newest.releases.extend(held);
            return Stepped::Nothing(now);
        }
        Stepped::Nothing(now.into_iter().chain(held).collect())
    }

    /// How many batches the next step takes: one while a suspect is among them.
    fn next_batches(&mut self) -> usize {
        if self.suspects > 0 {
            self.split_first();
            return 1;
        }
        let mut commands = 0;
        let fits = |(work, _): &&(Work, R)| {
            let first = commands == 0;
            commands += work.weight();
            first || commands <= STEP_MAX
        };
        self.waiting.iter().take_while(fits).count()
    }

    /// Tries a suspect batch command by command.
    fn split_first(&mut self) {
        let Some((work, to)) = self.waiting.front_mut() else { return };
        let Some(rest) = work.split_rest() else { return };
        let to = to.clone();
        self.waiting.insert(1, (rest, to));
        self.suspects += 1;
    }

    /// How many scans may be answered before they are durable: what is left of the bound, while the oldest is young
    /// enough. None while a change of policy is not durable itself: a crash would take with it that these answers stand.
    fn may_answer_early(&self, now: Timestamp) -> usize {
        let waiting = self.unconfirmed();
        let oldest = self.unconfirmed.front().map_or(0, |(since, _)| now.since_ms(*since));
        let held = self.in_flight.iter().flat_map(|flight| &flight.releases);
        let notices = held.filter_map(|release| if let Effect::Notice(notice) = release { Some(notice) } else { None });
        let changing = notices.chain(&self.step.notices).any(|notice| matches!(notice, Notice::PolicyChanged(_)));
        if changing || oldest >= UNCONFIRMED_MS_MAX { 0 } else { UNCONFIRMED_MAX.saturating_sub(waiting) }
    }

    /// What the first `count` batches are told: now, and with the record; and how many scans are told early, of at most
    /// `early`.
    fn releases_of(&mut self, stamp: Timestamp, count: usize, early: usize) -> (Vec<Effect<R>>, Vec<Effect<R>>, usize) {
        let (mut now, mut held, mut unconfirmed) = (Vec::new(), Vec::with_capacity(count), 0);
        let (mut acknowledged, mut ticked) = (false, false);
        let mut answers = self.step.answers.iter().enumerate();
        for (work, to) in self.waiting.drain(..count) {
            match work {
                Work::Device(commands) => {
                    let decided = answers_early(&self.shard, &commands) && unconfirmed + commands.len() <= early;
                    let answers = answers.by_ref().take(commands.len());
                    let replies: Vec<DeviceReply> =
                        answers.filter_map(|(_, answer)| device_reply(answer, !decided)).collect();
                    if decided {
                        unconfirmed += replies.len();
                        let seqs = replies.iter().map(|reply| reply.seq).collect();
                        held.push(Effect::Confirmed { to: to.clone(), seqs });
                        now.push(Effect::Device { to, replies });
                    } else if planted(Plant::AckBeforeDurable) {
                        now.push(Effect::Device { to, replies });
                    } else {
                        held.push(Effect::Device { to, replies });
                    }
                }
                Work::Terminal(commands) => {
                    let answers = answers.by_ref().take(commands.len());
                    let replies = answers.filter_map(|(_, answer)| terminal_reply(answer)).collect();
                    let release = Effect::Terminal { to, replies };
                    if planted(Plant::AckBeforeDurable) { now.push(release) } else { held.push(release) }
                }
                Work::Admin(_) => {
                    let Some((index, Answer::Admin { answer, repeated })) = answers.next() else { continue };
                    let until: Vec<(ShardId, u64)> = self
                        .step
                        .holds
                        .iter()
                        .filter(|hold| hold.answer == index && !planted(Plant::HeldAnswerEarly))
                        .map(|hold| (hold.to, hold.n))
                        .collect();
                    let waits = matches!(answer, AdminAnswer::Pending(_)) || !until.is_empty();
                    if waits && !self.deferred.has_room() {
                        let answer = AdminAnswer::Rejected(Rejection::StillPending);
                        held.push(Effect::Admin { to, answer, repeated: *repeated });
                    } else if let AdminAnswer::Pending(op) = answer {
                        self.deferred.wait(*op, to, *repeated, stamp);
                    } else if waits {
                        self.deferred.hold((to, *answer, *repeated), until, stamp);
                    } else {
                        held.push(Effect::Admin { to, answer: *answer, repeated: *repeated });
                    }
                }
                Work::Query(query) => held.push(Effect::View { view: view(&self.shard, &query), to }),
                Work::Deliver { .. } => {
                    if let Some((_, &Answer::Acked { from, through })) = answers.next() {
                        let early = planted(Plant::DeliveryAckedBeforeDurable);
                        if early { &mut now } else { &mut held }.push(Effect::Ack { to: from, through });
                    }
                }
                Work::Delivered { .. } => {
                    acknowledged = true;
                    answers.next();
                }
                Work::Tick => {
                    ticked = true;
                    answers.next();
                }
            }
        }
        // Whoever was told in this very step to wait has been noted down above.
        for (op, answer) in self.step.finished.drain(..).filter(|_| !planted(Plant::FinishedNeverTold)) {
            held.extend(self.deferred.finished(op, answer));
        }
        let sent = self.step.sent.drain(..).map(|(to, through)| Effect::Send { to, through });
        if planted(Plant::SentBeforeDurable) { &mut now } else { &mut held }.extend(sent);
        held.extend(self.step.notices.drain(..).map(Effect::Notice));
        if acknowledged {
            held.extend(self.deferred.delivered(&self.shard));
        }
        if ticked {
            now.extend(self.deferred.overdue(stamp));
        }
        (now, held, unconfirmed)
    }

    /// The oldest record in flight is durable: what it held may leave. Once the shard is down its askers have been told.
    ///
    /// # Panics
    /// If none is in flight: a journal that confirms what nobody wrote is not to be trusted.
    pub fn durable(&mut self) -> Vec<Effect<R>> {
        if self.down {
            return Vec::new();
        }
        let flight = self.in_flight.pop_front().expect("the journal confirms what was handed to it");
        if flight.unconfirmed {
            self.unconfirmed.pop_front();
        }
        flight.releases
    }

    /// Puts a state that was rebuilt from the journal in the place of one that a panic has spoilt. Every record handed
    /// out must be in it. A command that has panicked alone is set aside: this is what its asker is told.
    ///
    /// # Panics
    /// If the state is not the one after [`Pipeline::handed_seq`].
    pub fn rebuilt(&mut self, shard: Shard) -> Option<Effect<R>> {
        assert_eq!(shard.seq(), self.handed_seq, "rebuilt to the last record handed out");
        self.shard = shard;
        self.poisoned = false;
        if !core::mem::take(&mut self.culprit) {
            return None;
        }
        self.suspects = self.suspects.saturating_sub(1);
        let (work, to) = self.waiting.pop_front()?;
        let internal = Rejection::Internal;
        match work {
            Work::Device(commands) => {
                let command = commands.first()?;
                let zone = match &command.action {
                    DeviceAction::Scan(scan) => scan.zone,
                    DeviceAction::Undo(_) => ZoneNo(0),
                };
                let answer = DeviceAnswer::rejected(internal, zone, self.shard.now());
                Some(Effect::Device { to, replies: vec![DeviceReply { seq: command.seq, answer, durable: true }] })
            }
            Work::Terminal(commands) => {
                let command = commands.first()?;
                let answer = TerminalAnswer::rejected(internal, command.action.wallet(), self.shard.now());
                Some(Effect::Terminal { to, replies: vec![TerminalReply { seq: command.seq, answer }] })
            }
            Work::Admin(_) => Some(Effect::Admin { to, answer: AdminAnswer::Rejected(internal), repeated: false }),
            Work::Query(_) => Some(Effect::View { to, view: View::No(internal) }),
            Work::Deliver { from, .. } => {
                self.stuck.insert(from);
                self.waiting.retain(|(work, _)| !matches!(work, Work::Deliver { from: other, .. } if *other == from));
                self.suspects = self.suspects.min(self.waiting.len());
                None
            }
            Work::Delivered { .. } | Work::Tick => None,
        }
    }

    /// The command that panicked alone, for the log.
    pub fn culprit(&self) -> Option<&Work> {
        self.waiting.front().filter(|_| self.culprit).map(|(work, _)| work)
    }
}

/// Whether all of these may be answered before they are durable: scans, where the festival has chosen so.
fn answers_early(shard: &Shard, commands: &[DeviceCommand]) -> bool {
    shard.ack_of(commands[0].device.festival()) == ScanAck::Decided
        && commands.iter().all(|command| matches!(command.action, DeviceAction::Scan(_)))
}

/// A question that panics changes nothing, so the shard goes on.
fn view(shard: &Shard, query: &Query) -> View {
    catch_unwind(AssertUnwindSafe(|| shard.query(query))).unwrap_or(View::No(Rejection::Internal))
}

fn device_reply(answer: &Answer, durable: bool) -> Option<DeviceReply> {
    let Answer::Device { seq, answer, .. } = answer else { return None };
    Some(DeviceReply { seq: *seq, answer: *answer, durable })
}

fn terminal_reply(answer: &Answer) -> Option<TerminalReply> {
    let Answer::Terminal { seq, answer, .. } = answer else { return None };
    Some(TerminalReply { seq: *seq, answer: *answer })
}
