//! What tests need of this crate, behind the feature `testing`, so that no server carries it: doubles of disk, journal
//! and snapshots, and for each trait the suite that every implementation passes.
//!
//! Whoever implements [`Journal`](crate::journal::Journal), [`Snapshots`](crate::snapshots::Snapshots) or
//! [`Views`](crate::views::Views), in this crate or in another, brings a subject and calls [`journals::suite`],
//! [`snapshots::suite`] or [`views::suite`] in a test. The engine's own decisions fill the read models ([`night`]).

pub mod faults;
pub mod journals;
pub mod memory;
pub mod night;
pub mod snapshots;
pub mod views;
