//! One Python runner, as its worker sees it.

use super::frames::{self, Task};
use super::zygote::{Wanted, Zygote};
use crate::message::{Malformed, Message};
use crate::runner::Said;
use rustix::fd::OwnedFd;
use rustix::process::{Signal, pidfd_send_signal};
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::task::JoinHandle;

/// A line of output longer than this is cut into several.
const MAX_LINE: u64 = 16 * 1024;

/// How long the last output of a dead runner is waited for.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A runner process and its channel.
#[derive(Debug)]
pub struct PythonRunner {
    /// Pid, once the zygote has told it.
    pub pid: Option<u32>,
    pidfd: Option<OwnedFd>,
    /// Those who pass on what it says.
    readers: Vec<JoinHandle<()>>,
    writer: Rc<tokio::sync::Mutex<OwnedWriteHalf>>,
}

impl PythonRunner {
    /// Asks the zygote for a runner; what it says goes to `tell`. The runner is usable after [`Said::Ready`].
    ///
    /// # Errors
    /// If descriptors run out or the zygote is gone.
    pub async fn start(
        zygote: &Zygote,
        wanted: &Wanted<'_>,
        tell: impl Fn(Said) + Clone + 'static,
    ) -> io::Result<PythonRunner> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let (output, their_output) = io::pipe()?;
        ours.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(ours)?.into_split();
        let output = pipe::Receiver::from_owned_fd(output.into())?;
        zygote.spawn(wanted, theirs.into(), their_output.into()).await?;
        let frames = tokio::task::spawn_local(read_frames(reader, tell.clone()));
        let lines = tokio::task::spawn_local(read_lines(output, tell));
        let readers = vec![frames, lines];
        Ok(PythonRunner { pid: None, pidfd: None, readers, writer: Rc::new(tokio::sync::Mutex::new(writer)) })
    }

    /// It is dead: ends when all it has said was passed on, or after a moment, because something it has started may
    /// hold its output open.
    pub fn last_words(&mut self) -> impl Future<Output = ()> + use<> {
        let readers = std::mem::take(&mut self.readers);
        async move {
            let all = async {
                for reader in readers {
                    let _ = reader.await; // a reader that has panicked says nothing more
                }
            };
            let _ = tokio::time::timeout(LAST_WORDS, all).await;
        }
    }

    /// The zygote has told its pid.
    pub fn started(&mut self, pid: u32, pidfd: OwnedFd) {
        self.pid = Some(pid);
        self.pidfd = Some(pidfd);
    }

    /// Gives it a task, or one to record. A dead runner takes it without complaint: its end is told elsewhere.
    ///
    /// # Errors
    /// [`Malformed`] if the message has no body to give.
    pub fn give(&self, message: &Message, task: &Task) -> Result<(), Malformed> {
        let frame = frames::encode(message, task)?;
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
        Ok(())
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

async fn read_frames(mut reader: OwnedReadHalf, tell: impl Fn(Said)) {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        match reader.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        loop {
            match frames::take(&mut buffer) {
                Ok(Some(said)) => tell(said),
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(error, "a runner broke the protocol: a task wrote to its channel?");
                    tell(Said::Closed);
                    return;
                }
            }
        }
    }
    tell(Said::Closed);
}

/// Lines of raw output: what C libraries and the task's own child processes write.
async fn read_lines(output: pipe::Receiver, tell: impl Fn(Said)) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut output).take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => tell(Said::Output(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned())),
        }
    }
}
