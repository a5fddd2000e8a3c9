//! The QUIC door: one connection a device, frames on one stream, answers as they become durable.
