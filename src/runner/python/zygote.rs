//! A worker's connection to the zygote: asks for runners, hears of their pids and ends.

use super::Registry;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::Deserialize;
use serde_json::json;
use std::collections::VecDeque;
use std::io;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream as StdUnixStream};
use std::path::Path;
use std::rc::Rc;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// What goes with an order for a runner: its channel, its output, the inbox and the table.
pub const DESCRIPTORS: usize = 4;

/// Asks for runners.
#[derive(Debug, Clone)]
pub struct Zygote {
    stream: Rc<UnixStream>,
}

/// A runner that is wanted.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Number it is spoken of by.
    pub number: u64,
    /// Node name its tasks see as `request.hostname`.
    pub node: &'a str,
    /// Owner name of its worker.
    pub owner: &'a str,
    /// Its slot.
    pub slot: usize,
    /// Tasks it may run before it is replaced.
    pub tasks_max: Option<u32>,
}

/// What the zygote says.
#[derive(Debug)]
pub enum ZygoteSaid {
    /// The application, once after connecting.
    Registry(Box<Registry>),
    /// A runner was forked.
    Started {
        /// Number it was asked for under.
        runner: u64,
        /// Its pid, for people.
        pid: u32,
        /// Its pid, for signals: never means anybody else.
        pidfd: OwnedFd,
    },
    /// A runner has ended; the status is that of wait(2).
    Exited {
        /// Its pid.
        pid: u32,
        /// Wait status.
        status: i32,
        /// The most memory it had, bytes.
        peak: u64,
    },
    /// No runner of this owner is left.
    Fenced {
        /// Whose runners were asked about.
        owner: String,
    },
    /// The zygote is gone, and its runners with it.
    Closed,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Registry(Box<Registry>),
    Started { runner: u64, pid: u32 },
    Exited { pid: u32, status: i32, peak: u64 },
    Fenced { owner: String },
}

impl Zygote {
    /// Connects to the socket the supervisor listens on for the zygote; it is answered as soon as there is one.
    ///
    /// # Errors
    /// If nobody listens: the supervisor is gone.
    pub fn connect(abstract_name: &[u8]) -> io::Result<Zygote> {
        let stream = StdUnixStream::connect_addr(&SocketAddr::from_abstract_name(abstract_name)?)?;
        stream.set_nonblocking(true)?;
        Ok(Zygote { stream: Rc::new(UnixStream::from_std(stream)?) })
    }

    /// Asks for a runner with its descriptors (`DESCRIPTORS` in `zygote.py`), in the cgroup with this door.
    ///
    /// # Errors
    /// If the zygote is gone.
    pub async fn spawn(
        &self,
        runner: &Wanted<'_>,
        door: Option<&Path>,
        descriptors: &[BorrowedFd<'_>; DESCRIPTORS],
    ) -> io::Result<()> {
        let order = json!({
            "runner": runner.number, "node": runner.node, "owner": runner.owner, "door": door,
            "slot": runner.slot, "tasks_max": runner.tasks_max,
        });
        self.send(&order, descriptors).await
    }

    /// Asks for a dead owner's runners to be gone; [`ZygoteSaid::Fenced`] is the answer.
    ///
    /// # Errors
    /// If the zygote is gone, and then they are too.
    pub async fn fence(&self, owner: &str) -> io::Result<()> {
        self.send(&json!({"fence": owner}), &[]).await
    }

    /// Has a process forked that answers a command of remote control; this is its end of a socket pair.
    ///
    /// # Errors
    /// If the zygote is gone.
    pub async fn ask(&self, channel: OwnedFd) -> io::Result<()> {
        self.send(&json!({"ask": "panel"}), &[channel.as_fd()]).await
    }

    async fn send(&self, order: &serde_json::Value, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let order = format!("{order}\n");
        self.stream
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
                let mut ancillary = SendAncillaryBuffer::new(&mut space);
                if !descriptors.is_empty() {
                    ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
                }
                let parts = [IoSlice::new(order.as_bytes())];
                let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                Ok(rustix::net::sendmsg(&*self.stream, &parts, &mut ancillary, flags)?)
            })
            .await?;
        Ok(())
    }

    /// Hears the zygote until it is gone, telling `tell`, which returns false when nobody listens any more.
    pub async fn listen(self, tell: impl Fn(ZygoteSaid) -> bool) {
        let mut buffer = Vec::new();
        let mut descriptors = VecDeque::new();
        while let Ok(true) = self.receive(&mut buffer, &mut descriptors).await {
            while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                let said = match serde_json::from_slice(&line) {
                    Ok(Line::Registry(registry)) => ZygoteSaid::Registry(registry),
                    Ok(Line::Exited { pid, status, peak }) => ZygoteSaid::Exited { pid, status, peak },
                    Ok(Line::Fenced { owner }) => ZygoteSaid::Fenced { owner },
                    Ok(Line::Started { runner, pid }) => match descriptors.pop_front() {
                        Some(pidfd) => ZygoteSaid::Started { runner, pid, pidfd },
                        None => continue,
                    },
                    Err(error) => {
                        tracing::error!(%error, "the zygote said something unintelligible");
                        continue;
                    }
                };
                if !tell(said) {
                    return;
                }
            }
        }
        tell(ZygoteSaid::Closed);
    }

    /// One recvmsg(2); false at end of file.
    async fn receive(&self, buffer: &mut Vec<u8>, descriptors: &mut VecDeque<OwnedFd>) -> io::Result<bool> {
        let mut chunk = vec![0; 65536];
        let count = self
            .stream
            .async_io(Interest::READABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
                let mut ancillary = RecvAncillaryBuffer::new(&mut space);
                let mut parts = [IoSliceMut::new(&mut chunk)];
                let received =
                    rustix::net::recvmsg(&*self.stream, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
                for message in ancillary.drain() {
                    if let RecvAncillaryMessage::ScmRights(rights) = message {
                        descriptors.extend(rights);
                    }
                }
                Ok(received.bytes)
            })
            .await?;
        buffer.extend_from_slice(&chunk[..count]);
        Ok(count > 0)
    }
}
