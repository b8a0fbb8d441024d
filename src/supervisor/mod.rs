//! The supervisor: starts the workers and the zygote, watches them, replaces them, tells systemd.
//!
//! One thread, no runtime, no Redis: nothing that Redis or a task does can stop it from answering its watchdog.
//! What is decided (`backoff`, `slot`, `policy`, `liveness`, `drain`, `status`) is pure and takes the time and the
//! dice as parameters; what is done (`child`, `wire`, `reap`, `signals`, `notify`, `zygote`, `fleet`) is small;
//! `run` with `judge`, `stop` and `announce` puts both together.

mod announce;
pub mod backoff;
mod child;
mod drain;
mod fleet;
mod judge;
mod launch;
mod liveness;
mod notify;
pub mod policy;
mod reap;
mod run;
mod signals;
pub mod slot;
mod status;
mod stop;
mod wire;
mod zygote;

pub use launch::{Launcher, ZygoteLauncher};
pub use run::run;
