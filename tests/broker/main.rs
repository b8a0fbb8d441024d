//! The broker against a real Redis: one message, one place, whatever happens.

#![allow(clippy::unwrap_used, reason = "a test may panic, outside its #[test] functions too")]

mod census;
mod claiming;
mod counting;
mod cutting;
mod dead;
mod delaying;
mod fencing;
mod fleets;
mod holding;
mod leaving;
mod kombu;
mod limiting;
mod looking;
mod losing;
mod mixed;
mod model;
mod naming;
mod pausing;
mod picking;
mod portions;
mod pouring;
mod proxy;
mod random;
mod rating;
mod reading;
mod recovering;
mod results;
mod revoking;
mod server;
mod settling;
mod shrink;
mod sharing;
mod simulating;
mod stage;
mod stale;
mod starting;
mod trouble;
mod waking;
