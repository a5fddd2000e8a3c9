//! The doors: QUIC for devices, HTTP for people, live streams, pages; and the one binary, `tapgate`.

pub mod auth;
pub mod cli;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod demo;
pub mod http;
pub mod live;
pub mod pages;
pub mod placement;
pub mod quic;
pub mod read_models;
pub mod server;
pub mod shared_counts;
