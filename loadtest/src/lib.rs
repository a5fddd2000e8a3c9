//! Crowds.
