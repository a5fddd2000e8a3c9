//! The doors: QUIC for devices, HTTP for people, live streams, pages; the one binary `tapgate`.

pub mod auth;
pub mod cli;
pub mod commands;
pub mod config;
pub mod control;
pub mod demo;
pub mod folder;
pub mod http;
pub mod keys;
pub mod latency;
pub mod listen;
pub mod live;
pub mod metrics;
pub mod pages;
pub mod proxies;
pub mod quic;
pub mod read_models;
pub mod secret;
pub mod serve;
pub mod shares;
pub mod tls;
