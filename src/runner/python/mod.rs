//! Python tasks: the zygote that imports the application, and the runners it forks.

pub mod frames;
pub mod inbox;
pub mod launch;
mod listen;
pub mod panel;
pub mod registry;
pub mod runner;
pub mod zygote;

pub use registry::{Registry, TaskInfo};
pub use runner::PythonRunner;
pub use zygote::{Wanted, Zygote, ZygoteSaid};
