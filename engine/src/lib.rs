//! The rules: what each actor decides and applies. Pure: time and ids arrive in the command.

pub mod ids;
