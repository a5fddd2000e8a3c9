//! Where actors live.
