//! The rules: what each actor decides and applies, the shard that steps them, the record format, audit.
//!
//! Pure: no clock, randomness, files, sockets or threads. Time and ids arrive in the [`command`]; what a shard decides
//! leaves it as a record of [`event`]s and answers. Start at [`shard::Shard::step`]; money at [`cash`], what goes from
//! shard to shard at [`outbox`].

mod admission;
pub mod audit;
pub mod cash;
pub mod category;
pub mod command;
pub mod connections;
pub mod credential;
pub mod dedupe;
pub mod device;
pub mod event;
pub mod festival;
pub mod ids;
pub mod money;
pub mod operators;
pub mod outbox;
pub mod plants;
pub mod principal;
pub mod record;
pub mod rejection;
pub mod shard;
pub mod status;
pub mod time;
pub mod view;
pub mod zone;

pub use admission::UNDO_WITHIN_MS;
