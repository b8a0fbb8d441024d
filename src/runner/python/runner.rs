//! One Python runner, as its worker sees it.

use super::inbox::{BUFFER, Inbox};
use super::listen;
use super::zygote::{Wanted, Zygote};
use crate::memory::cgroup::Leaf;
use crate::runner::Said;
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::process::{Signal, pidfd_send_signal};
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedWriteHalf, pipe};
use tokio::task::JoinHandle;

/// How long the last output of a dead runner is waited for.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A runner process and its channel.
#[derive(Debug)]
pub struct PythonRunner {
    /// Pid, once the zygote has told it.
    pub pid: Option<u32>,
    /// The cgroup it is in, if it is in one of its own.
    pub leaf: Option<Leaf>,
    pidfd: Option<OwnedFd>,
    /// Who passes on what it says.
    listener: Option<JoinHandle<()>>,
    writer: Rc<tokio::sync::Mutex<OwnedWriteHalf>>,
}

impl PythonRunner {
    /// Asks the zygote for a runner; what it says goes to `tell`, with the number of the claim it is about; it will be
    /// in the cgroup `leaf` and may take from `inbox`. It is usable after [`Said::Ready`].
    ///
    /// # Errors
    /// If descriptors run out or the zygote is gone.
    pub async fn start(
        zygote: &Zygote,
        wanted: &Wanted<'_>,
        leaf: Option<Leaf>,
        inbox: &Inbox,
        tell: impl Fn(u64, Said) + 'static,
    ) -> io::Result<PythonRunner> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let (output, their_output) = io::pipe()?;
        // As much as may be: what fits is given in one piece, without a second wake-up of either side.
        let _ = set_socket_send_buffer_size(&ours, BUFFER);
        ours.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(ours)?.into_split();
        let output = pipe::Receiver::from_owned_fd(output.into())?;
        let door = leaf.as_ref().map(Leaf::door);
        let [packets, table] = inbox.shared();
        zygote.spawn(wanted, door.as_deref(), &[theirs.as_fd(), their_output.as_fd(), packets, table]).await?;
        let listener = Some(tokio::task::spawn_local(listen::listen(reader, output, inbox.latest(wanted.slot)?, tell)));
        Ok(PythonRunner { pid: None, leaf, pidfd: None, listener, writer: Rc::new(tokio::sync::Mutex::new(writer)) })
    }

    /// It is dead: ends when all it has said was passed on, or after a moment, because something it has started may
    /// hold its output open.
    pub fn last_words(&mut self) -> impl Future<Output = ()> + use<> {
        let listener = self.listener.take();
        async move {
            if let Some(listener) = listener {
                let _ = tokio::time::timeout(LAST_WORDS, listener).await; // one that has panicked says nothing more
            }
        }
    }

    /// The zygote has told its pid.
    pub fn started(&mut self, pid: u32, pidfd: OwnedFd) {
        self.pid = Some(pid);
        self.pidfd = Some(pidfd);
    }

    /// Gives it a frame. A dead runner takes it without complaint: its end is told elsewhere.
    pub fn give(&self, frame: Vec<u8>) {
        let written = match self.writer.try_lock() {
            Ok(writer) => writer.try_write(&frame).unwrap_or(0),
            Err(_) => 0,
        };
        if written < frame.len() {
            // Larger than the socket takes at once; the runner reads it while the worker goes on.
            let writer = Rc::clone(&self.writer);
            tokio::task::spawn_local(async move {
                let _ = writer.lock().await.write_all(&frame[written..]).await;
            });
        }
    }

    /// Ends its channel: it finishes what it does, tells the application, and exits.
    pub fn retire(&self) {
        let writer = Rc::clone(&self.writer);
        tokio::task::spawn_local(async move {
            let _ = writer.lock().await.shutdown().await;
        });
    }

    /// Sends a signal; to a runner already dead, none.
    pub fn signal(&self, signal: Signal) {
        if let Some(pidfd) = &self.pidfd {
            let _ = pidfd_send_signal(pidfd, signal);
        }
    }
}
