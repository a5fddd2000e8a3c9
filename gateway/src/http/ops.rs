//! For whoever runs the installation: probes, figures, operators' keys.

pub mod api_keys;
pub mod health;
