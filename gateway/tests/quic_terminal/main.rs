//! Terminals at the QUIC door: payments by wristband, QR and id, everything twice, wristbands that move and get lost, bad
//! input, over a real node of two shards.

mod bad_input;
mod down;
mod evening;
mod full;
mod given_up;
mod link;
mod replaced;
mod replay;
mod tags;

#[path = "../common/mod.rs"]
mod common;
