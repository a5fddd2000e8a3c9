//! What makes a server one of several: how nodes prove who they are and talk to each other, and which has which shard.

pub mod certificates;
pub mod driver;
pub mod peers;
pub mod shared_counts;

use std::sync::Arc;

use engine::model::ids::ShardId;
use storage::journal::Member;
use storage::journal::kafka::Claims;

/// Who has which shard. Asked for each command whose shard is not here, on the shards' threads: it answers from memory.
pub trait Directory: Send + Sync + 'static {
    /// How many shards there are.
    fn shards(&self) -> u16;
    /// The node that has a shard, as far as is known, this one or another.
    fn host(&self, shard: ShardId) -> Option<Arc<Member>>;
}

/// The log says it, and a journal on Kafka follows it.
impl Directory for Claims {
    fn shards(&self) -> u16 {
        Self::shards(self)
    }

    fn host(&self, shard: ShardId) -> Option<Arc<Member>> {
        self.owner(shard)
    }
}
