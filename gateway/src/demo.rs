//! The demo festival and its crowd: simulated readers that stream real scans over real QUIC.
//!
//! [`festival`] makes what is missing, [`crowd`] decides who tries what, [`readers`] are the devices. Starting again
//! finds the festival, its tickets and its readers as they were, asks the node who is inside, and goes on from there.

pub mod crowd;
pub mod festival;
