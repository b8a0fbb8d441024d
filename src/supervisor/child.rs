//! One child process: started, spoken to, killed.
//!
//! Its standard input is its channel, its process group its own: Ctrl-C on a terminal reaches the supervisor alone,
//! and what a child leaves behind can be killed by group. All other descriptors are closed on exec.

use super::notify::VARIABLES;
use super::wire::Wire;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// A child that has not been reaped yet; only while that holds is its pid its own.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    /// Its channel.
    pub wire: Wire,
}

impl Child {
    /// Starts it.
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        let (near, far) = UnixStream::pair()?;
        let wire = Wire::new(near)?;
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        let child = command.stdin(Stdio::from(OwnedFd::from(far))).process_group(0).spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        Ok(Self { pid: Pid::from_raw(pid), wire })
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Sends it a signal. It may have ended already, which shows when it is reaped.
    pub fn kill(&self, signal: Signal) {
        if let Err(error) = kill(self.pid, signal) {
            tracing::debug!(pid = self.pid(), %error, "no {signal}");
        }
    }

    /// Kills it with its whole process group.
    pub fn kill_group(&self) {
        let _ = killpg(self.pid, Signal::SIGKILL);
        self.kill(Signal::SIGKILL);
    }
}
