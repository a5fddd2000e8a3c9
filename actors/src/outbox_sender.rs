//! How a shard's messages get to other shards: what may be sent, what is on its way, what is sent once more. A machine
//! without threads, clock or network: it says what is due, and whoever drives it carries that to [`Work::Deliver`] there
//! and brings [`Work::Delivered`] back. Both may be lost, repeated or late: the shards take each message in once and in
//! order (`engine/src/shard/outbox.rs`), so nothing here has to be remembered across a crash.
//!
//! To each shard one delivery is under way at a time, so that what waits at the other end is bounded by the number of
//! shards, and whatever gathers meanwhile shares the next.
//!
//! [`Work::Deliver`]: crate::pipeline::Work::Deliver
//! [`Work::Delivered`]: crate::pipeline::Work::Delivered

use std::collections::BTreeSet;

use engine::model::ids::ShardId;
use engine::plants::{Plant, planted};
use engine::shard::Shard;
use engine::shard::outbox::{DELIVER_MAX, Message};

use crate::limits::SEND_AGAIN_MS;

/// One shard's messages on their way to all the others.
#[derive(Debug)]
pub struct OutboxSender {
    /// By the other shard's number.
    routes: Vec<Route>,
    /// Where something is under way or due.
    to_look_at: BTreeSet<ShardId>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Route {
    /// Messages up to this number are durable.
    durable: u64,
    /// The last message of the delivery under way; at or below what was delivered if there is none.
    under_way: u64,
    sent_at_ms: u64,
}

/// Messages to one shard.
#[derive(Debug, PartialEq)]
pub struct Delivery {
    pub to: ShardId,
    /// The number of the first message.
    pub first: u64,
    /// In order; at most [`DELIVER_MAX`].
    pub messages: Vec<Message>,
}

impl OutboxSender {
    /// For a shard all of whose records are durable: one that has just recovered or was rebuilt.
    pub fn new(shard: &Shard) -> Self {
        let mut this =
            Self { routes: vec![Route::default(); usize::from(shard.shards())], to_look_at: BTreeSet::new() };
        for to in (0..shard.shards()).map(ShardId) {
            let (first, messages) = shard.outgoing(to);
            if !planted(Plant::OutboxSenderForgets) {
                this.routes[usize::from(to.0)].durable = first + messages.len() as u64 - 1;
            }
        }
        this.to_look_at = (0..shard.shards()).map(ShardId).collect();
        this
    }

    /// Messages up to this number have become durable ([`crate::pipeline::Effect::Send`]).
    pub fn may_send(&mut self, to: ShardId, through: u64) {
        let route = &mut self.routes[usize::from(to.0)];
        route.durable = route.durable.max(through);
        self.to_look_at.insert(to);
    }

    /// What is due at `now_ms`, counted from any moment that stays the same and never going back. To be asked after each
    /// step, and about once a second: what was lost is due again.
    pub fn due(&mut self, shard: &Shard, now_ms: u64) -> Vec<Delivery> {
        let mut due = Vec::new();
        for to in core::mem::take(&mut self.to_look_at) {
            let route = &mut self.routes[usize::from(to.0)];
            let (first, messages) = shard.outgoing(to);
            let waits = first <= route.under_way && now_ms < route.sent_at_ms.saturating_add(SEND_AGAIN_MS);
            if first > route.durable {
                continue;
            }
            self.to_look_at.insert(to); // until it is acknowledged
            if waits {
                continue;
            }
            let count = (route.durable - first + 1).min(DELIVER_MAX as u64);
            (route.under_way, route.sent_at_ms) = (first + count - 1, now_ms);
            due.push(Delivery { to, first, messages: messages.take(count as usize).cloned().collect() });
        }
        due
    }
}
