//! The one place with `unsafe`: a command must die with the worker that started it, whatever kills that, and be in its
//! cgroup before it is the command.

#![allow(unsafe_code)]

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};
use std::fs::File;
use std::io;
use tokio::process::Command;

/// Has the kernel kill the command when the thread that starts it ends, that is, with a single-threaded worker,
/// when the worker ends (prctl(2), `PR_SET_PDEATHSIG`). `door` is the `cgroup.procs` of the cgroup it is to be in.
pub fn prepare(command: &mut Command, door: Option<File>) {
    let parent: Pid = getpid();
    let prepare = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        if let Some(door) = &door {
            nix::unistd::write(door, b"0")?;
        }
        // The worker may have died before the line above took effect.
        if getppid() == parent { Ok(()) } else { Err(io::Error::from(io::ErrorKind::BrokenPipe)) }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed: `prepare` makes three system
    // calls, allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
}
