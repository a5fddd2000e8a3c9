//! Who owns which shard, as the log says it, and taking shards over.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use engine::model::ids::ShardId;
use rdkafka::consumer::BaseConsumer;

use super::{
    Line,
    lane::{self, Lane},
    send,
    shared::Shared,
    topic,
};
use crate::journal::{JournalError, Member, Position, ownership::Incarnation};

/// How often a shard is claimed at least before its claimer gives up, for another reason than that somebody else has claimed it.
const CLAIMS_MAX: usize = 3;

/// A handle to the ownership of a running journal's shards. Clones are cheap.
#[derive(Clone)]
pub struct Claims {
    pub(super) shared: Arc<Shared>,
    pub(super) line: Arc<Line>,
    /// Follows every partition, on a thread of the journal's; others may ask it where they end.
    pub(super) tail: Arc<BaseConsumer>,
}

impl Claims {
    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.shared.options.shards
    }

    /// Takes over one shard, whoever owned it before, and says where its records end: replay up to there, then hand records
    /// over. Blocks for some round trips, and up to the time a write may take if writes of this process are still under way.
    /// Several threads may claim at once, each another shard.
    ///
    /// # Errors
    /// As [`KafkaJournal::open`](super::KafkaJournal::open).
    pub fn claim(&self, shard: ShardId) -> Result<Position, JournalError> {
        self.claim_each(&[shard])?;
        Ok(self.shared.end().get(shard))
    }

    /// Whether this journal owns a shard, as far as it knows. From memory.
    ///
    /// # Panics
    /// If the journal has no such shard.
    pub fn owns(&self, shard: ShardId) -> bool {
        self.shared.lane(shard).state().owner.owns()
    }

    /// Whether the valid claim of a shard is that of another process. From memory.
    ///
    /// # Panics
    /// If the journal has no such shard.
    pub fn is_anothers(&self, shard: ShardId) -> bool {
        let state = self.shared.lane(shard).state();
        state.owner.fold().epoch() > 0 && !state.is_ours(state.owner.fold().incarnation())
    }

    /// Who has a shard, as the log says it: whoever made the valid claim, as far as the tail has come. `None`: nobody has
    /// claimed it, or somebody who did not say who he is. From memory.
    ///
    /// # Panics
    /// If the journal has no such shard.
    pub fn owner(&self, shard: ShardId) -> Option<Arc<Member>> {
        self.shared.lane(shard).state().member.clone()
    }

    /// How many valid claims of a shard there have been, as far as the tail has come. From memory.
    ///
    /// # Panics
    /// If the journal has no such shard.
    pub fn epoch(&self, shard: ShardId) -> u64 {
        self.shared.lane(shard).state().owner.fold().epoch()
    }

    /// Whether another process that says it is this node has written of late.
    pub fn has_twin(&self) -> bool {
        self.shared.has_twin()
    }

    /// Takes over these, at the cost of one: what is asked and written of them is under way at the same time. What cannot be
    /// had keeps no other from being taken over; the first reason is the error.
    pub(super) fn claim_each(&self, shards: &[ShardId]) -> Result<(), JournalError> {
        let claimed = self.try_to_claim(shards);
        shards.iter().for_each(|shard| self.shared.lane(*shard).state().claiming = false);
        claimed
    }

    fn try_to_claim(&self, shards: &[ShardId]) -> Result<(), JournalError> {
        let options = &self.shared.options;
        let member = options.member.as_ref().map(Member::encode).unwrap_or_default();
        let began = Instant::now();
        let (mut claims, mut ended) = (0, Ok(()));
        let mut wanted: Vec<&Lane> = shards.iter().map(|shard| self.shared.lane(*shard)).collect();
        loop {
            wanted.retain(|lane| !lane.state().owner.owns());
            if wanted.is_empty() {
                return ended;
            }
            claims += 1;
            self.shared.tell_what_was_lost();
            self.line.renew_if_dead(&self.shared)?;
            let producer = self.line.now();
            // What is still under way would lie behind the claim, where only the new incarnation's records may lie.
            let write = Duration::from_millis(u64::from(options.write_timeout_ms) + 1_000);
            let waiting = Instant::now() + write;
            let mut waits =
                |lanes: &mut Vec<&Lane>, patience: Duration, what: &str, until: fn(&lane::State) -> bool| {
                    let deadline = waiting + patience;
                    lanes.retain(|lane| {
                        let left = deadline.saturating_duration_since(Instant::now());
                        let waited = self.shared.wait(lane, left, what, until);
                        let holds = waited.is_ok();
                        ended = std::mem::replace(&mut ended, Ok(())).and(waited);
                        holds
                    });
                };
            waits(&mut wanted, Duration::ZERO, "earlier writes to end", |state| state.under_way == 0);
            for (shard, end) in topic::ends_of(options, &self.tail, wanted.iter().map(|lane| lane.shard))? {
                self.shared.wait_for_tail(self.shared.lane(shard), end)?;
            }
            for lane in &wanted {
                let mut state = lane.state();
                if state.owner.is_idle() {
                    let (header, ticket) = state.claim(incarnation()?);
                    if let Err(why) = send(&self.shared, &producer, lane, &mut state, &header, ticket, &member) {
                        let decision = state.owner.failed(ticket, &why.to_string());
                        state.note(decision);
                    }
                }
            }
            let settled =
                |state: &lane::State| state.owner.is_idle() || (state.owner.owns() && state.owner.in_flight() == 0);
            let round = options.patience() + write;
            waits(&mut wanted, round, "a claim to be written", settled);
            for lane in &wanted {
                // What an earlier owner had under way may arrive behind the claim. A heartbeat in its place says: not so far.
                let mut state = lane.state();
                if state.owner.fold().epoch() > 1
                    && let Some((header, ticket)) = state.owner.heartbeat()
                    && let Err(why) = send(&self.shared, &producer, lane, &mut state, &header, ticket, &[])
                {
                    let decision = state.owner.failed(ticket, &why.to_string());
                    state.note(decision);
                }
            }
            waits(&mut wanted, round + write, "a heartbeat to be written", settled);
            wanted.retain(|lane| {
                let mut state = lane.state();
                // From here on a loss is told.
                state.claiming &= !state.owner.owns();
                let over = claims >= CLAIMS_MAX && began.elapsed() > options.patience();
                let is_over = !state.owner.owns() && (over || !state.is_worth_another_claim());
                if is_over && ended.is_ok() {
                    let why = state.lost.as_ref().map_or_else(String::new, ToString::to_string);
                    ended = Err(JournalError::Taken { shard: lane.shard, why });
                }
                !is_over
            });
        }
    }
}

/// An incarnation that never was.
fn incarnation() -> Result<Incarnation, JournalError> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| JournalError::io("draw", "an incarnation", error.into()))?;
    Ok(Incarnation(bytes))
}
