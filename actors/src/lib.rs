//! Where actors live: shards on their threads, supervision, placement, delivery.
//!
//! One door: [`Node`]. Devices' commands go in by [`Node::submit`] and come back through their session's [`Inbox`];
//! the office asks by [`Node::ask`]; whoever only wants to know asks by [`Node::query`].
//!
//! [`pipeline`] is one shard's way from commands to answers as a machine without threads or disk, and [`recover`] the
//! way from snapshots and journal to shards: the simulator drives both.

pub mod clock;
mod host;
pub mod limits;
mod node;
pub mod pipeline;
pub mod recover;
mod supervisor;

pub use node::{Busy, DeviceReply, Health, Inbox, Node, NodeConfig, Recovered, StartError};
