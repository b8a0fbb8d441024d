//! The supervisor: starts the workers and the zygote, watches them, replaces them, tells systemd.
//!
//! One thread, no runtime, no Redis: nothing that Redis or a task does can stop it from answering its watchdog.
//! What is decided (`backoff`, `slot`, `policy`, `rolling`, `changes`, `liveness`, `drain`, `status`) is pure and takes
//! the time and the dice as parameters; what is done (`child`, `wire`, `reap`, `signals`, `notify`, `control`,
//! `zygote`, `generation`, `worker`, `fleet`) is small; `run` with `judge`, `reload`, `stop` and `announce` puts both
//! together.

mod announce;
pub mod backoff;
mod changes;
mod child;
mod control;
mod drain;
mod fleet;
mod generation;
mod judge;
mod launch;
mod liveness;
mod notify;
pub mod policy;
mod reap;
mod reload;
pub mod rolling;
mod run;
mod signals;
pub mod slot;
mod status;
mod stop;
mod wire;
mod worker;
mod zygote;

pub use launch::{Launcher, Loader, ZygoteLauncher};
pub use run::run;
