//! How children are started: the one thing about them the supervisor is told from outside, so that tests can
//! put others in their place.

use crate::config::{Config, Problems, Python};
use crate::memory::allocator;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the command of the worker with this number.
pub type WorkerCommand = Box<dyn Fn(u32) -> Command>;
/// Makes the zygote's command, given the number under which it inherits the listening socket.
pub type ZygoteCommand = Box<dyn Fn(&Python, RawFd) -> Command>;
/// Makes the zygote's first line.
pub type ZygoteBootstrap = Box<dyn Fn(&Config, RawFd) -> String>;

/// Reads and checks the configuration, as it was read at the start.
pub type Loader = Box<dyn Fn() -> Result<Config, Problems>>;

/// Makes the commands of all children. Standard input, process group and notification variables are set by the
/// supervisor.
pub struct Launcher {
    /// Command of the worker with this number.
    pub worker: WorkerCommand,
    /// How to start a zygote; asked only if there is a `[python]` section.
    pub zygote: ZygoteLauncher,
}

/// Makes the zygote's command and its first line.
pub struct ZygoteLauncher {
    /// The command; it inherits the listening socket under this number.
    pub command: ZygoteCommand,
    /// One line of JSON, sent on the channel first.
    pub bootstrap: ZygoteBootstrap,
}

impl Launcher {
    /// The real thing: workers are this very image, executed again as `fairstalk: worker N`.
    ///
    /// Not bare forks: signal registrations are not inherited, each worker has a command line of its own and no
    /// `unsafe` is needed. Through `/proc/self/exe`, so that a binary replaced on disk is not started by accident.
    pub fn own_image(zygote: ZygoteLauncher) -> Self {
        let worker = |number: u32| {
            let mut command = Command::new("/proc/self/exe");
            command.arg0("fairstalk:").arg("worker").arg(number.to_string());
            allocator::set(&mut command);
            command
        };
        Self { worker: Box::new(worker), zygote }
    }
}
