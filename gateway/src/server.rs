//! A running server: its settings, its folder with what is secret in it, its sockets, and how it starts and stops.

pub mod config;
pub mod control;
pub mod data_folder;
pub mod latency;
pub mod listen;
pub mod metrics;
#[cfg(feature = "cluster")]
mod peers;
#[cfg(feature = "cluster")]
pub mod placing;
pub mod proxies;
pub mod run;
pub mod secret;
pub mod stores;
pub mod tls;
