//! Names of things. An id that a person or a device sends back leads to its home by itself: the home's key is in it.

use serde::{Deserialize, Serialize};

/// One of the journal's shards, `0 .. shards`. The number of shards is fixed when a journal is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId(pub u16);
