//! Where other shards lay down what they have for one: a slot for each of them, so that however long this one is busy or
//! being rebuilt, no more lies here than one delivery and one number a shard. What comes later holds all of what came
//! before, since a delivery begins with the first message that was not acknowledged.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use engine::model::ids::ShardId;
use engine::shard::outbox::Message;

use crate::pipeline::Work;

/// One shard's slots.
#[derive(Default)]
pub(crate) struct ShardInbox(Mutex<Slots>);

#[derive(Default)]
struct Slots {
    messages: BTreeMap<ShardId, (u64, Vec<Message>)>,
    acknowledgements: BTreeMap<ShardId, u64>,
    /// Somebody was told to look.
    told: bool,
}

impl ShardInbox {
    /// Lays down messages; says whether the shard has to be told to look.
    pub(crate) fn put_messages(&self, from: ShardId, first: u64, messages: Vec<Message>) -> bool {
        let mut slots = self.slots();
        slots.messages.insert(from, (first, messages));
        !core::mem::replace(&mut slots.told, true)
    }

    /// Lays down how far another shard is with our messages; says whether the shard has to be told to look.
    pub(crate) fn put_acknowledgement(&self, from: ShardId, through: u64) -> bool {
        let mut slots = self.slots();
        let known = slots.acknowledgements.entry(from).or_default();
        *known = through.max(*known);
        !core::mem::replace(&mut slots.told, true)
    }

    /// Everything that lies here.
    pub(crate) fn take(&self) -> Vec<Work> {
        let Slots { messages, acknowledgements, .. } = core::mem::take(&mut *self.slots());
        let messages = messages.into_iter().map(|(from, (first, messages))| Work::Deliver { from, first, messages });
        let acknowledgements = acknowledgements.into_iter().map(|(to, through)| Work::Delivered { to, through });
        acknowledgements.chain(messages).collect()
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
