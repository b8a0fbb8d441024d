//! The zygote's place: its listening socket, which outlives each single zygote, and the process itself.
//!
//! The socket is bound once, to an abstract name the kernel chooses, and inherited by every zygote. So when one
//! dies, workers' connections wait in the backlog until the next one accepts them, and no name is ever
//! announced that nobody listens on.

use super::child::Child;
use super::launch::ZygoteLauncher;
use super::slot::{Slot, State};
use crate::channel::{ZygoteOrder, ZygoteReport};
use crate::config::Config;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, getsockname, listen, socket};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a zygote may take to end after its channel was closed or it reported failure. The application may have
/// something to do at its end: to close connections, to send what it has measured.
pub const END_WITHIN: Duration = Duration::from_secs(5);

/// Connections that wait for a zygote: one from each worker, and room.
const BACKLOG: i32 = 128;

/// One zygote after the other.
pub struct Zygote {
    listener: OwnedFd,
    name: Vec<u8>,
    /// States of the process.
    pub slot: Slot,
    /// The process.
    pub child: Option<Child>,
    /// Traceback, or how the last one ended.
    pub note: Option<String>,
    /// It reported that it can't work.
    pub failed: bool,
    /// One of them has been ready.
    pub ever_ready: bool,
    /// This one was told that its workers are ready.
    served: bool,
    kill_at: Option<Instant>,
}

impl Zygote {
    /// Binds the socket.
    pub fn new(now: Instant) -> nix::Result<Self> {
        let (listener, name) = listen_anywhere()?;
        let slot = Slot::new(now);
        let (failed, ever_ready, served) = (false, false, false);
        Ok(Self { listener, name, slot, child: None, note: None, failed, ever_ready, served, kill_at: None })
    }

    /// Abstract name of the socket, without the leading NUL.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Starts a process.
    pub fn start(&mut self, config: &Config, launcher: &ZygoteLauncher) -> io::Result<()> {
        self.slot.start();
        (self.failed, self.served, self.kill_at) = (false, false, None);
        let Some(python) = &config.python else { return Ok(()) };
        let number = self.listener.as_raw_fd();
        let command = (launcher.command)(python, number);
        // Inherited by this child alone: nobody else can be started in between, there is one thread.
        fcntl(&self.listener, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let spawned = Child::spawn(command);
        fcntl(&self.listener, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        let child = self.child.insert(spawned?);
        if let Err(error) = child.wire.send_line((launcher.bootstrap)(config, number).into_bytes()) {
            tracing::warn!(%error, "the zygote could not be told what to do");
        }
        Ok(())
    }

    /// Reads what it reports. A zygote that closes its channel or reports failure is to end soon.
    pub fn read(&mut self, now: Instant) {
        let Some(child) = &mut self.child else { return };
        child.wire.flush();
        let lines = child.wire.lines();
        let closed = child.wire.is_closed();
        for line in lines {
            match serde_json::from_slice(&line) {
                Ok(ZygoteReport::Ready { tasks, import_ms, warnings }) => {
                    self.slot.ready(now);
                    (self.ever_ready, self.note) = (true, None);
                    tracing::info!(tasks, import_ms, "application imported");
                    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                }
                Ok(ZygoteReport::Failed { message }) => {
                    tracing::error!("the application can't be imported: {message}");
                    (self.failed, self.note) = (true, Some(message));
                }
                Err(error) => tracing::warn!(%error, "the zygote sent something unreadable"),
            }
        }
        if (closed || self.failed) && self.kill_at.is_none() {
            self.kill_at = Some(now + END_WITHIN);
        }
    }

    /// Tells it, once, that the workers it serves are ready.
    pub fn serves(&mut self) {
        if *self.slot.state() == State::Ready && !self.served {
            self.served = true;
            self.order(ZygoteOrder::Ready);
        }
    }

    /// Tells it something. One that is gone will be found out by its closed channel.
    pub fn order(&mut self, order: ZygoteOrder) {
        if let Some(child) = &mut self.child
            && let Err(error) = child.wire.send(&order)
        {
            tracing::debug!(%error, ?order, "the zygote was not told");
        }
    }

    /// Closes its channel, which tells it to end.
    pub fn close(&mut self, now: Instant) {
        if let Some(child) = &mut self.child
            && !child.wire.is_closed()
        {
            child.wire.close();
            self.kill_at = Some(now + END_WITHIN);
        }
    }

    /// Kills it if it should have ended by now.
    pub fn kill_overdue(&mut self, now: Instant) {
        if let (Some(child), Some(at)) = (&self.child, self.kill_at)
            && at <= now
        {
            tracing::warn!(pid = child.pid(), "the zygote does not end: KILL");
            child.kill_group();
            self.kill_at = None;
        }
    }

    /// The process is gone, and this is how.
    pub fn gone(&mut self, how: &str) {
        self.slot.exited();
        (self.child, self.kill_at) = (None, None);
        self.note.get_or_insert_with(|| how.to_owned());
    }

    /// The earliest time at which something is due.
    pub fn due(&self) -> Option<Instant> {
        self.slot.due().or(self.kill_at)
    }
}

/// An abstract name chosen by the kernel ("autobind"), so that two daemons never collide.
fn listen_anywhere() -> nix::Result<(OwnedFd, Vec<u8>)> {
    let listener = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(listener.as_raw_fd(), &UnixAddr::new_unnamed())?;
    listen(&listener, Backlog::new(BACKLOG)?)?;
    let name = getsockname::<UnixAddr>(listener.as_raw_fd())?;
    let name = name.as_abstract().ok_or(nix::Error::EADDRNOTAVAIL)?.to_vec();
    Ok((listener, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixStream};

    #[test]
    fn the_kernel_chooses_a_name_and_connections_wait() {
        let (first, second) = (Zygote::new(Instant::now()).unwrap(), Zygote::new(Instant::now()).unwrap());
        assert!(!first.name().is_empty() && first.name() != second.name());
        let address = SocketAddr::from_abstract_name(first.name()).unwrap();
        let waiting: Vec<_> = (0..16).map(|_| UnixStream::connect_addr(&address).unwrap()).collect();
        drop(waiting);
        drop(first);
        assert!(UnixStream::connect_addr(&address).is_err());
    }
}
