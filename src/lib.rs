//! fairstalk runs the background tasks of a multi-tenant Celery application.
//!
//! The modules stand in the order in which a message meets them. An arrow points down only: a module
//! uses those above it in this list, never those below (`tests/layering.rs` holds it to that, and
//! `rustfmt.toml` keeps the list from being sorted by name).

pub mod tls;
pub mod config;
pub mod channel;
pub mod pace;
pub mod telemetry;
pub mod memory;
pub mod routing;
pub mod message;
pub mod fairness;
pub mod broker;
pub mod runner;
pub mod results;
pub mod celery;
pub mod worker;
pub mod supervisor;
pub mod init;
pub mod migrate;
pub mod cli;
