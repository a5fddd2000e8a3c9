//! The gates: festivals with their zones, categories, tickets and devices. `admission` decides about a scan.

pub(crate) mod admission;
pub mod category;
pub mod command;
pub mod connections;
pub mod device;
pub mod event;
pub mod festival;
pub mod view;
pub mod zone;

pub use admission::UNDO_WITHIN_MS;
