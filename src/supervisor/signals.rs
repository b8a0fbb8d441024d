//! The supervisor's signals. A handler only notes that its signal came and makes the loop wake; everything else
//! happens in the loop.
//!
//! A flag for each signal and one socket to wake `poll(2)`. The flag is what counts: between fork and exec a child
//! shares the handlers, and a signal sent only to it writes into the parent's socket too. Its flags are its own
//! memory, though, so the supervisor wakes, finds no flag and takes no action.

use signal_hook::consts::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGUSR1};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// TERM, INT: stop; a second time: stop now.
    Stop,
    /// HUP: read the configuration again.
    Reload,
    /// TSTP, USR1: claim nothing more. USR1 for where TSTP is taken by the terminal.
    Pause,
    /// CONT: claim again.
    Resume,
    /// CHLD: a child ended. Nothing to do but to make a pass.
    Child,
}

/// All of them, in the order in which wishes are read when several came between two passes.
const WISHES: [(i32, Wish); 7] = [
    (SIGCHLD, Wish::Child),
    (SIGHUP, Wish::Reload),
    (SIGTSTP, Wish::Pause),
    (SIGUSR1, Wish::Pause),
    (SIGCONT, Wish::Resume),
    (SIGINT, Wish::Stop),
    (SIGTERM, Wish::Stop),
];

/// The registered signals.
pub struct Signals {
    wake: UnixStream,
    flags: Vec<(Arc<AtomicBool>, Wish)>,
}

impl Signals {
    /// Registers all of them, for as long as the process lives.
    pub fn register() -> io::Result<Self> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        let mut flags = Vec::with_capacity(WISHES.len());
        for (signal, wish) in WISHES {
            let flag = Arc::new(AtomicBool::new(false));
            // In this order: whoever is woken must find the flag.
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
            flags.push((flag, wish));
        }
        Ok(Self { wake, flags })
    }

    /// Readable when a signal came.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// What was asked for since the last call, each wish once: TERM and INT together are one request to stop.
    pub fn take(&mut self) -> Vec<Wish> {
        let mut bytes = [0; 64];
        // First the socket, then the flags: a signal in between leaves a byte and causes one more pass.
        while matches!(self.wake.read(&mut bytes), Ok(count) if count > 0) {}
        let came = self.flags.iter().filter(|(flag, _)| flag.swap(false, Ordering::AcqRel));
        let mut wishes: Vec<Wish> = came.map(|(_, wish)| *wish).collect();
        wishes.dedup();
        wishes
    }
}
