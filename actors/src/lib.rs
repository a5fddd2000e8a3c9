//! Where actors live: shards on their threads, supervision, placement, delivery.
//!
//! One door: [`Node`], started on whatever journal was opened; [`Folder`] opens that of one machine. Readers' commands go in by [`Node::submit`] and come back through their session's [`Inbox`],
//! terminals' by [`Node::submit_terminal`] and [`TerminalInbox`];
//! the office asks by [`Node::ask`]; whoever only wants to know asks by [`Node::query`]. Shards come and go by
//! [`Node::take_up`] and [`Node::give_up`]; what is asked of one that is on another node goes there by [`Peers`], once the node
//! has joined others ([`Node::join`]).
//!
//! [`pipeline`] is one shard's way from commands to answers as a machine without threads or disk, [`outbox_sender`] the way of
//! its messages to other shards, [`resolve`] the way from a wristband's tag to its wallet, and [`recover`] the way from
//! snapshots and journal to shards: the simulator drives all four.

pub mod clock;
mod folder;
mod host;
mod inbox;
pub mod limits;
mod node;
mod notices;
pub mod outbox_sender;
pub mod peers;
pub mod pipeline;
pub mod recover;
mod reply;
pub mod resolve;
mod shadows;
mod supervisor;

pub use folder::Folder;
pub use host::Standing;
pub use node::{Health, Node, NodeConfig, PlacementError, Prepared, Recovered, StartError, Stores, Time};
pub use peers::{Answers, Parcel, Peers, Replies, Whereabouts};
pub use reply::{Answered, Busy, DeviceReply, Inbox, TerminalInbox, TerminalReply, TurnedAway};
