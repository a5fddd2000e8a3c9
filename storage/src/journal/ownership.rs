//! Who owns a shard when its journal is a partition that several processes can write: the log itself says so.
//!
//! Somebody outside (the assignment of a consumer group, a person) says who *should* own a shard. Nobody can keep a process
//! that was paused, cut off or merely slow from writing once more; so what it writes has to be recognised afterwards, by
//! everybody, in the same way. Three rules do that. They are pure: no clock, no socket, no thread.
//!
//! - **What lies in a partition** ([`record`]): a *claim*, with which a process makes itself the owner; a *batch*, one
//!   record of the shard; a *heartbeat*, which an idle owner writes to notice that it is none any more.
//! - **The fold** ([`fold`]) is the same for the owner, for shadows, read models and the audit. A claim is valid if its epoch
//!   is the one after the current. A batch is valid if its epoch and incarnation are the current ones and its number is the
//!   next. Everything else is ignored.
//! - **The owner** ([`owner`]) appends a claim, reads the log through it, and owns the shard only if the fold says so *at that
//!   offset*; the number of its next batch comes from there. It acknowledges a batch only if that lies at the expected offset,
//!   counted from the claim, and is the oldest that is not acknowledged. In any other case, and whenever the fate of a write
//!   is unknown, it steps down, acknowledges nothing more, and has to claim again.
//!
//! `storage/tests/ownership.rs` drives these very machines through every interleaving of two processes, with crashes, lost
//! requests and late writes, and again with each of the clauses above left out (plants), which it has to notice.

pub mod fold;
pub mod owner;
pub mod record;

pub use fold::{Damage, Fold, Verdict};
pub use owner::{Decision, Owner, Ticket, Why};
pub use record::{Header, Incarnation, Log, Unreadable};
