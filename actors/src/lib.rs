//! Where actors live: shards on their threads, supervision, placement, delivery.
//!
//! One door: [`Node`]. Devices' commands go in by [`Node::submit`] and come back through their session's [`Inbox`];
//! the office asks by [`Node::ask`]; whoever only wants to know asks by [`Node::query`].

mod node;

pub use node::{Busy, DeviceReply, Health, Inbox, Node, NodeConfig, StartError};
