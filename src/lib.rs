//! fairstalk runs the background tasks of a multi-tenant Celery application.
//!
//! The modules stand in the order in which a message meets them. An arrow points down only: a module
//! uses those above it in this list, never those below (`tests/layering.rs` holds it to that).

pub mod broker;
pub mod celery;
pub mod channel;
pub mod cli;
pub mod config;
pub mod fairness;
pub mod message;
pub mod results;
pub mod routing;
pub mod runner;
pub mod supervisor;
pub mod telemetry;
pub mod worker;
