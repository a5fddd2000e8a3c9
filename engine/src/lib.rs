//! The rules: what each actor decides and applies, the shard that steps them, the record format, audit.
//!
//! Pure: no clock, randomness, files, sockets or threads. Time and ids arrive in the [`command`]; what a shard decides
//! leaves it as a record of [`event`]s and answers. Start at [`shard::Shard::step`]; [`gates`] and [`cashless`] have
//! what is decided, [`model`] the values both speak of, and [`shard::outbox`] what goes from shard to shard.

pub mod audit;
pub mod cashless;
pub mod command;
pub mod event;
pub mod gates;
pub mod model;
pub mod plants;
pub mod record;
pub mod shard;
pub mod view;
