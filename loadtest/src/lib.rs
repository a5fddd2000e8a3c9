//! Crowds: workloads, the model that checks answers, the crash loop.
//!
//! `gate` loads a server over QUIC and checks every answer; `echo` shows what QUIC alone could carry; `crash` kills the
//! server under load and compares what was acknowledged with the journal; `cluster` does so with nodes on Kafka. What a reader of the load test knows and
//! does is [`reader`]; what it must be answered is [`model`]; who comes next is [`workload`]. [`sim`] plays whole evenings
//! in one thread, with every fault there is, each from one number.

pub mod admin;
pub mod bar;
pub mod cashless_model;
pub mod cli;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod crash;
pub mod drive;
pub mod echo;
pub mod gate;
pub mod link;
pub mod load;
pub mod machine;
pub mod mixed;
pub mod model;
pub mod pace;
pub mod reader;
pub mod report;
pub mod server;
pub mod sim;
pub mod simulated;
pub mod stage;
pub mod terminal;
pub mod workload;
