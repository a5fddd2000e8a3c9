//! Crowds: who comes next to a reader, and what they hold to it.

pub mod bar;
pub mod gate;
