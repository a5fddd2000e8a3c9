//! The rules: what each actor decides and applies, the shard that steps them, the record format, audit.
//!
//! Pure: no clock, randomness, files, sockets or threads. Time and ids arrive in the [`command`]; what a shard decides
//! leaves it as a record of [`event`]s and answers. Start at [`shard::Shard::step`].

pub mod command;
pub mod credential;
pub mod ids;
pub mod money;
pub mod rejection;
pub mod status;
pub mod time;
pub mod view;
