//! Moves shards to this node and away from it: what the consumer group assigns is got ready, claimed in the log and taken up;
//! what another node has claimed is given up.
//!
//! It looks at three things, and compares them whenever one of them may have changed: what the group assigns, what the log says
//! is owned here, and how each shard stands in the node. What to do follows from that alone (`Plan`), so whatever was missed
//! or has failed is done the next time.
//!
//! A shard that is assigned to another node is served here until that one has claimed it (`storage::journal::kafka::group`).
//!
//! A server that is alone has no group: every shard is its own, and one that it has lost, because nobody knows what became of a
//! write, it claims again. What somebody else has claimed it leaves alone: two servers that both think they are alone
//! would claim it in turn for ever, and a person has to see to that.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actors::{Node, PlacementError, Standing};
use engine::model::ids::{NodeNo, ShardId};
use storage::journal::kafka::group::{Group, GroupView};
use storage::journal::kafka::{Claims, Options};
use storage::journal::{JournalError, Position};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::placement::Placement;

/// How often it looks although nothing has called it.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How many shards are got ready at once: each reads its part of the log, which takes a core.
const READY_AT_ONCE: usize = 4;
/// After how long a shard that somebody else has claimed is claimed back if the group still assigns it to this node. By then the
/// group has noticed who was away: it takes a session at most. Sooner, two nodes would claim it in turn.
const CLAIM_BACK_AFTER: Duration = Duration::from_secs(5);
/// When taking over a shard is tried again after it has failed: soon, and then less and less often.
const AGAIN_MIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// How long leaving waits for the other nodes to take over what is here. They need about a second, and a replay for what they
/// have no shadow of.
const LEAVE_WITHIN: Duration = Duration::from_secs(15);

/// Runs until it is told to leave. Clones share it.
#[derive(Clone)]
pub struct Driver(Arc<Inner>);

struct Inner {
    node: Node,
    claims: Claims,
    options: Options,
    group: Mutex<Option<Arc<Group>>>,
    /// There is no group, and none is needed.
    alone: bool,
    stopped: AtomicBool,
    wake: Arc<Notify>,
    /// Taking a shard over has failed so often, and last because of this.
    faults: Mutex<Vec<Option<String>>>,
    ready: Semaphore,
    /// All that was assigned has been here.
    settled: AtomicBool,
}

/// A shard, for whoever asks how the cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub shard: ShardId,
    /// The node that the log says has it; `None`: nobody, or somebody who is none.
    pub owner: Option<NodeNo>,
    /// How often it was taken over.
    pub epoch: u64,
    /// Where its records end, as far as this node knows.
    pub end: Position,
    /// How it stands on this node.
    pub standing: Standing,
    /// Whether the group assigns it to this node.
    pub assigned: bool,
    /// Why it could not be taken over here the last time.
    pub fault: Option<String>,
}

impl Driver {
    /// Joins the group and begins. `options` are the journal's, and name this node. Without a session it is alone. Call it
    /// inside a tokio runtime.
    ///
    /// # Errors
    /// As [`Group::join`].
    pub fn start(node: Node, claims: Claims, options: Options, session_ms: Option<u32>) -> Result<Self, JournalError> {
        let wake = Arc::new(Notify::new());
        let called = Arc::clone(&wake);
        let group = session_ms.map(|session_ms| Group::join(&options, session_ms, move || called.notify_one()));
        let group = group.transpose()?.map(Arc::new);
        let this = Self(Arc::new(Inner {
            faults: Mutex::new(vec![None; usize::from(claims.shards())]),
            node,
            claims,
            options,
            alone: group.is_none(),
            group: Mutex::new(group),
            stopped: AtomicBool::new(false),
            wake,
            ready: Semaphore::new(READY_AT_ONCE),
            settled: AtomicBool::new(false),
        }));
        tokio::spawn(run(Arc::clone(&this.0)));
        Ok(this)
    }

    /// Whether there are no other nodes.
    pub fn is_alone(&self) -> bool {
        self.0.alone
    }

    /// The node that this is.
    pub fn this_node(&self) -> NodeNo {
        self.0.options.member.as_ref().map_or(NodeNo(0), |member| member.node)
    }

    /// Every shard, as this node sees it.
    pub fn shards(&self) -> Vec<Placed> {
        let Inner { claims, node, .. } = &*self.0;
        let (assigned, faults, ends) = (self.0.assigned(), self.0.faults().clone(), node.durable_end());
        let placed = |(shard, fault): (u16, Option<String>)| {
            let shard = ShardId(shard);
            let owner = claims.owner(shard).map(|owner| owner.node);
            let (standing, assigned) = (node.standing(shard), assigned.contains(&shard));
            let (epoch, end) = (claims.epoch(shard), ends.get(shard));
            Placed { shard, owner, epoch, end, standing, assigned, fault }
        };
        (0..).zip(faults).map(placed).collect()
    }

    /// The group, as its coordinator knows it. Blocks for some round trips.
    ///
    /// # Errors
    /// As [`Group::view`].
    pub fn group(&self) -> Result<GroupView, JournalError> {
        let group = self.0.group();
        match group {
            Some(group) => group.view(&self.0.options),
            None => storage::journal::kafka::group::look(&self.0.options),
        }
    }

    /// Whether the node has a place in the group, or wants one.
    pub fn takes_part(&self) -> bool {
        self.0.group().is_some_and(|group| group.is_wanted())
    }

    /// Gives up the node's place in the group, so that the others take over its shards, one after the other, as soon as they
    /// can; until then they are served here. `false`: there is no other, as far as the group's coordinator says. The node stays
    /// up, and takes its part again after [`Driver::come_back`].
    pub async fn begin_leaving(&self) -> bool {
        let this = self.clone();
        let others = tokio::task::spawn_blocking(move || this.group().map(|group| group.places > 1)).await;
        if let Some(group) = self.0.group() {
            group.want(false);
        }
        matches!(others, Ok(Ok(true)))
    }

    /// Leaves, and waits until the others have all that was here, or some seconds at most. Says how many shards are left. If
    /// nobody is known to be there, nobody is waited for.
    pub async fn leave(&self) -> usize {
        let (others, began, mut said) = (self.begin_leaving().await, Instant::now(), 0);
        loop {
            let left = self.0.here();
            if left == 0 || !others || began.elapsed() > LEAVE_WITHIN {
                return left;
            }
            if left != said {
                info!(shards = left, "other nodes are taking over what is here");
                said = left;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Takes part again, after [`Driver::begin_leaving`].
    pub fn come_back(&self) {
        if let Some(group) = self.0.group() {
            group.want(true);
        }
    }

    /// Ends it. What is still here stays here until the node stops.
    pub async fn stop(&self) {
        self.0.stopped.store(true, Ordering::Release);
        let group = self.0.group.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.0.wake.notify_one();
        // Leaving waits for the brokers, within bounds.
        let _ = tokio::task::spawn_blocking(move || drop(group)).await;
    }
}

impl Placement for Driver {
    fn has_settled(&self) -> bool {
        self.0.settled.load(Ordering::Acquire)
    }

    fn fault(&self) -> Option<String> {
        let Inner { node, claims, .. } = &*self.0;
        let twin = claims.has_twin().then(|| {
            "another process has the same node number: give each its own in the settings, and restart them".to_owned()
        });
        let joined = match self.0.group() {
            Some(group) if group.is_wanted() && !group.has_joined() => {
                let why = group.fault().map(|why| format!(": {why}")).unwrap_or_default();
                Some(format!("this node has no place in the consumer group{why}"))
            }
            _ => None,
        };
        let faults = self.0.faults();
        // What somebody else has taken from a server that is alone, the node itself says.
        let waits = |shard: &ShardId| {
            node.standing(*shard) != Standing::Serving && !(self.0.alone && claims.is_anothers(*shard))
        };
        let waits = self.0.assigned().into_iter().find(waits);
        let waits = waits.map(|shard| match &faults[usize::from(shard.0)] {
            Some(why) => format!("shard {} cannot be taken over: {why}", shard.0),
            None => format!("shard {} is being taken over", shard.0),
        });
        let all: Vec<String> = [twin, joined, waits].into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

impl Inner {
    /// Nobody waits under its lock: not for brokers either.
    fn group(&self) -> Option<Arc<Group>> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn faults(&self) -> MutexGuard<'_, Vec<Option<String>>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn assigned(&self) -> BTreeSet<ShardId> {
        if self.alone {
            return (0..self.claims.shards()).map(ShardId).collect();
        }
        self.group().map(|group| group.assigned()).unwrap_or_default()
    }

    /// How many shards serve here or are on their way.
    fn here(&self) -> usize {
        let here = |shard: &ShardId| self.node.standing(*shard) != Standing::Elsewhere;
        (0..self.claims.shards()).map(ShardId).filter(here).count()
    }
}

/// Until the group is taken away.
async fn run(inner: Arc<Inner>) {
    let mut plans: Vec<Plan> = (0..inner.claims.shards()).map(|_| Plan::new(Instant::now())).collect();
    let mut losses = inner.node.losses();
    let mut moves = JoinSet::new();
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !inner.stopped.load(Ordering::Acquire) {
        tokio::select! {
            () = inner.wake.notified() => {}
            // Its sender is in the node.
            _ = losses.changed() => {}
            _ = every.tick() => {}
            Some(moved) = moves.join_next(), if !moves.is_empty() => {
                let (shard, outcome): (ShardId, Result<(), Fault>) = match moved {
                    Ok(moved) => moved,
                    Err(why) => {
                        error!(%why, "moving a shard panicked; it is not moved again before a restart");
                        continue;
                    }
                };
                let (at, now) = (usize::from(shard.0), Instant::now());
                plans[at].ended(outcome.is_ok(), now);
                if let Err(why) = &outcome {
                    warn!(shard = shard.0, %why, "a shard could not be taken over; it is tried again");
                }
                inner.faults()[at] = outcome.err().map(|why| why.to_string());
            }
        }
        let (assigned, now) = (inner.assigned(), Instant::now());
        // Nothing more can be served here until a restart: let the others have it.
        if let Some(group) = inner.group().filter(|group| group.is_wanted() && inner.node.journal().failure().is_some())
        {
            error!("this node's journal has failed: it leaves its shards to the others");
            group.want(false);
        }
        let joined = inner.alone || inner.group().is_some_and(|group| group.has_joined());
        if joined && assigned.iter().all(|shard| inner.node.standing(*shard) == Standing::Serving) {
            inner.settled.store(true, Ordering::Release);
        }
        for (plan, shard) in plans.iter_mut().zip((0..).map(ShardId)) {
            let seen = Seen {
                assigned: assigned.contains(&shard),
                owned: inner.claims.owns(shard),
                anothers: inner.claims.is_anothers(shard),
                standing: inner.node.standing(shard),
            };
            if inner.alone && seen.anothers {
                continue;
            }
            match plan.next(&seen, now) {
                Step::Nothing => {}
                Step::TakeOver => _ = moves.spawn(take_over(Arc::clone(&inner), shard)),
                Step::GiveUp => _ = moves.spawn(give_up(inner.node.clone(), shard)),
            }
        }
    }
}

/// Why a shard did not move.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Placement(#[from] PlacementError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("{0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// Gets a shard ready, claims it, serves it.
async fn take_over(inner: Arc<Inner>, shard: ShardId) -> (ShardId, Result<(), Fault>) {
    let taken = async {
        let ready = {
            let _permit = inner.ready.acquire().await;
            inner.node.prepare(shard).await?
        };
        let (claims, began) = (inner.claims.clone(), Instant::now());
        let from = claims.owner(shard).map(|owner| owner.node.0);
        tokio::task::spawn_blocking(move || claims.claim(shard)).await??;
        let claimed = began.elapsed();
        let events = inner.node.take_up_prepared(ready).await?.events;
        let (claim_ms, ms) = (claimed.as_millis() as u64, began.elapsed().as_millis() as u64);
        info!(shard = shard.0, from, events, claim_ms, ms, "a shard is served here now");
        Ok(())
    };
    (shard, taken.await)
}

/// Lets go of a shard that is somebody else's: of its state nothing is needed.
async fn give_up(node: Node, shard: ShardId) -> (ShardId, Result<(), Fault>) {
    match node.give_up(shard).await {
        // It has gone by itself.
        Ok(_) | Err(PlacementError::Standing { .. }) => (shard, Ok(())),
        Err(why) => (shard, Err(why.into())),
    }
}

/// What is seen of one shard.
struct Seen {
    assigned: bool,
    /// The log says that it is this node's.
    owned: bool,
    /// The log says that somebody else has claimed it last.
    anothers: bool,
    standing: Standing,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    TakeOver,
    GiveUp,
}

/// What is remembered of one shard.
struct Plan {
    under_way: Option<Step>,
    assigned: bool,
    failures: u32,
    not_before: Instant,
}

impl Plan {
    fn new(now: Instant) -> Self {
        Self { under_way: None, assigned: false, failures: 0, not_before: now }
    }

    fn next(&mut self, seen: &Seen, now: Instant) -> Step {
        if seen.assigned && !self.assigned {
            (self.failures, self.not_before) = (0, now);
        }
        self.assigned = seen.assigned;
        if self.under_way.is_some() {
            return Step::Nothing;
        }
        let step = match &seen.standing {
            Standing::Elsewhere if seen.assigned && now >= self.not_before => Step::TakeOver,
            // One that could be claimed again meanwhile has to be replayed all the same.
            Standing::Lost(_) => Step::GiveUp,
            Standing::Serving | Standing::Down if !seen.owned => Step::GiveUp,
            Standing::Elsewhere | Standing::Arriving | Standing::Serving | Standing::Leaving | Standing::Down => {
                Step::Nothing
            }
        };
        self.under_way = (step != Step::Nothing).then_some(step);
        if step == Step::GiveUp {
            self.not_before = now + if seen.anothers { CLAIM_BACK_AFTER } else { AGAIN_MIN };
        }
        step
    }

    fn ended(&mut self, well: bool, now: Instant) {
        if self.under_way.take() == Some(Step::TakeOver) && well {
            self.failures = 0;
        }
        if !well {
            let again = AGAIN_MIN * 2_u32.saturating_pow(self.failures.min(16));
            self.failures += 1;
            self.not_before = now + again.min(AGAIN_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shard's evening: what is seen after how many milliseconds, and what is done about it. What is begun ends at once, well
    /// unless it says `fails`.
    fn evening(steps: &[(u64, &str, &str)]) {
        let began = Instant::now();
        let mut plan = Plan::new(began);
        for (at, seen, done) in steps {
            let now = began + Duration::from_millis(*at);
            let says = |word: &str| seen.split(' ').any(|said| said == word);
            let standing = [
                ("serving", Standing::Serving),
                ("arriving", Standing::Arriving),
                ("lost", Standing::Lost("somebody else".into())),
                ("down", Standing::Down),
            ];
            let standing =
                standing.into_iter().find(|(word, _)| says(word)).map_or(Standing::Elsewhere, |(_, how)| how);
            let step = plan.next(
                &Seen { assigned: says("assigned"), owned: says("owned"), anothers: says("anothers"), standing },
                now,
            );
            let expected = match *done {
                "takes over" | "fails" => Step::TakeOver,
                "gives up" => Step::GiveUp,
                _ => Step::Nothing,
            };
            assert_eq!(step, expected, "after {at} ms: {seen}");
            if step != Step::Nothing {
                assert_eq!(
                    plan.next(
                        &Seen { assigned: false, owned: false, anothers: true, standing: Standing::Elsewhere },
                        now
                    ),
                    Step::Nothing,
                    "one step at a time"
                );
                plan.assigned = says("assigned");
                plan.ended(*done != "fails", now);
            }
        }
    }

    #[test]
    fn what_is_assigned_is_taken_over_and_what_another_has_claimed_is_given_up() {
        evening(&[
            (0, "", "nothing"),
            (10, "assigned anothers", "takes over"),
            (20, "assigned owned arriving", "nothing"),
            (30, "assigned owned serving", "nothing"),
            // The group gives it away; nobody has claimed it yet.
            (40, "owned serving", "nothing"),
            (9_000, "owned serving", "nothing"),
            (9_010, "anothers lost", "gives up"),
            (9_020, "anothers", "nothing"),
            // And back.
            (9_030, "assigned anothers", "takes over"),
        ]);
    }

    #[test]
    fn two_nodes_do_not_claim_a_shard_in_turn() {
        evening(&[
            (0, "assigned", "takes over"),
            (10, "assigned owned serving", "nothing"),
            // This node was away, and does not know yet that the group has given its shard to another.
            (20_000, "assigned anothers lost", "gives up"),
            (20_001, "assigned anothers", "nothing"),
            (24_900, "assigned anothers", "nothing"),
            // The group means it.
            (25_001, "assigned anothers", "takes over"),
        ]);
    }

    #[test]
    fn a_write_of_unknown_fate_and_brokers_that_are_away_are_tried_again() {
        evening(&[
            (0, "assigned", "takes over"),
            (10, "assigned lost", "gives up"),
            (11, "assigned", "nothing"),
            (150, "assigned", "fails"),
            (200, "assigned", "nothing"),
            (260, "assigned", "fails"),
            (400, "assigned", "nothing"),
            (470, "assigned", "takes over"),
            // The loss came before anybody was there to hear of it.
            (500, "assigned serving", "gives up"),
            (700, "assigned owned down", "nothing"),
        ]);
    }
}
