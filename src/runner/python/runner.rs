//! One Python runner, as its worker sees it.

use super::frames;
use super::inbox::{BUFFER, Inbox};
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
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::task::JoinHandle;

/// A line of output longer than this is cut into several.
const MAX_LINE: usize = 16 * 1024;
/// So many reads empty a pipe (pipe(7): 64 KiB) of what was in it.
const PIPE_CHUNKS: usize = 5;

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
        let listener = Some(tokio::task::spawn_local(listen(reader, output, tell)));
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

/// Hears a runner until both its channel and its output have ended.
///
/// What it has written before it said something is told before that: else the last lines of a task, of a program it
/// ran above all, would be told after the end of it, and be nobody's.
async fn listen(mut reader: OwnedReadHalf, output: pipe::Receiver, tell: impl Fn(u64, Said)) {
    let mut output = Some(Lines { pipe: output, line: Vec::new() });
    let mut buffer = Vec::with_capacity(4096);
    let mut open = true;
    while open || output.is_some() {
        tokio::select! {
            more = async { output.as_mut()?.pipe.readable().await.ok() }, if output.is_some() => {
                if more.is_none() || !output.as_mut().is_some_and(|lines| lines.take(1, |pipe, chunk| pipe.try_read(chunk), &tell)) {
                    output = None;
                }
                // A task that writes without end must not keep the worker from everything else.
                tokio::task::yield_now().await;
            }
            read = reader.read_buf(&mut buffer), if open => {
                if output.as_mut().is_some_and(|lines| !lines.take(PIPE_CHUNKS, read_now, &tell)) {
                    output = None;
                }
                if !matches!(read, Ok(count) if count > 0) || !say(&mut buffer, &tell) {
                    open = false;
                    tell(0, Said::Closed);
                }
            }
        }
    }
}

/// Tells what is whole in the buffer; false if it is not what a runner may say.
fn say(buffer: &mut Vec<u8>, tell: &impl Fn(u64, Said)) -> bool {
    loop {
        match frames::take(buffer) {
            Ok(Some((sequence, said))) => tell(sequence, said),
            Ok(None) => return true,
            Err(error) => {
                tracing::error!(error, "a runner broke the protocol: a task wrote to its channel?");
                return false;
            }
        }
    }
}

/// Reads what is in the pipe at this moment: what tokio knows of it may be as old as its last look at all descriptors.
fn read_now(pipe: &pipe::Receiver, chunk: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::read(pipe, chunk)?)
}

/// Lines of raw output: what C libraries and the task's own child processes write.
struct Lines {
    pipe: pipe::Receiver,
    line: Vec<u8>,
}

impl Lines {
    /// Tells the lines that are there, in so many reads at most; false at the end of them.
    fn take(
        &mut self,
        reads: usize,
        read: impl Fn(&pipe::Receiver, &mut [u8]) -> io::Result<usize>,
        tell: &impl Fn(u64, Said),
    ) -> bool {
        let mut chunk = [0; MAX_LINE];
        for _ in 0..reads {
            match read(&self.pipe, &mut chunk) {
                Ok(0) => {
                    self.flush(tell);
                    return false;
                }
                Ok(count) => {
                    for part in chunk[..count].split_inclusive(|&byte| byte == b'\n') {
                        self.line.extend_from_slice(part);
                        if part.ends_with(b"\n") || self.line.len() >= MAX_LINE {
                            self.flush(tell);
                        }
                    }
                }
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    fn flush(&mut self, tell: &impl Fn(u64, Said)) {
        if !self.line.is_empty() {
            tell(0, Said::Output(String::from_utf8_lossy(&self.line).trim_end_matches('\n').to_owned()));
            self.line.clear();
        }
    }
}
