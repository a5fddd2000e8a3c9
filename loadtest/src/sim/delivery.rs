//! Messages between shards, over a network that loses, repeats, delays and reorders them and what acknowledges them.
//! What leaves is held against what the disk has confirmed.

use actors::outbox_sender::Delivery;
use actors::pipeline::Work;
use engine::model::ids::ShardId;
use engine::shard::outbox::Message;

use super::net::Packet;
use super::world::{Asker, DOORS_OPEN, World};
use super::{Check, breach};

impl World {
    /// A shard's courier sends what is due.
    pub(super) fn post(&mut self, shard: usize) -> Check {
        let now = (self.true_ms - DOORS_OPEN) as u64;
        let Some(node) = &mut self.node else { return Ok(()) };
        if node.pipelines[shard].is_down() {
            return Ok(());
        }
        let due = node.couriers[shard].due(node.pipelines[shard].shard(), now);
        for Delivery { to, first, messages } in due {
            let sent = &self.ledgers[shard].books.money.posts[usize::from(to.0)].sent;
            let durable = sent.get(first as usize - 1..).unwrap_or_default();
            if !durable.starts_with(&messages) {
                let what = format!("{first} and {} more to shard {}, {} are", messages.len(), to.0, sent.len());
                return breach("nothing is sent before it is durable", what);
            }
            self.send(Packet::Messages { from: ShardId(shard as u16), to, first, messages });
        }
        Ok(())
    }

    /// A shard may send messages.
    pub(super) fn may_send(&mut self, shard: usize, to: ShardId, through: u64) -> Check {
        let durable = self.ledgers[shard].books.money.posts[usize::from(to.0)].sent.len() as u64;
        if through > durable {
            let what = format!("{through} to shard {}, {durable} are", to.0);
            return breach("nothing is sent before it is durable", what);
        }
        if let Some(node) = &mut self.node {
            node.couriers[shard].may_send(to, through);
        }
        Ok(())
    }

    /// A shard tells another how far it is with its messages.
    pub(super) fn acknowledge(&mut self, shard: usize, to: ShardId, through: u64) -> Check {
        let durable = self.ledgers[shard].books.money.posts[usize::from(to.0)].received;
        if through > durable {
            let what = format!("{through} of shard {}, {durable} are", to.0);
            return breach("nothing is acknowledged before it is durable", what);
        }
        self.send(Packet::Received { by: ShardId(shard as u16), of: to, through });
        Ok(())
    }

    pub(super) fn messages_arrive(&mut self, from: ShardId, to: ShardId, first: u64, messages: Vec<Message>) {
        self.take(usize::from(to.0), Work::Deliver { from, first, messages }, Asker::Nobody);
    }

    pub(super) fn acknowledgement_arrives(&mut self, by: ShardId, of: ShardId, through: u64) {
        self.take(usize::from(of.0), Work::Delivered { to: by, through }, Asker::Nobody);
    }

    /// What a shard has just taken in was sent by another one, so, and is durable there.
    pub(super) fn taken_in(&self, shard: usize, before: &[u64]) -> Check {
        let me = &self.ledgers[shard].ahead.money;
        for (from, (&before, post)) in before.iter().zip(&me.posts).enumerate().filter(|(from, _)| *from != shard) {
            let sent = self.ledgers[from].books.money.posts[shard].sent.len() as u64;
            if post.received > before && post.received > sent {
                let what = format!("{} of shard {from}, which has {sent}", post.received);
                return breach("what is taken in was sent", what);
            }
        }
        Ok(())
    }
}
