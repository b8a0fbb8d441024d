//! What a runner says on its channel, and what its tasks write to standard output and error.
//!
//! A line of output doesn't tell whose it is. It is of the task that the runner has begun last: a runner neither tells the end of
//! a task nor begins another before all that is in the pipe was read (`output.py`).

use super::frames;
use super::inbox::Latest;
use crate::runner::Said;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{read, retry_on_intr};
use std::io;
use tokio::net::unix::{OwnedReadHalf, pipe};
use tokio::task::yield_now;

/// A line of output longer than this is cut into several.
const MAX_LINE: usize = 16 * 1024;

/// Passes on what a runner says, with the number of the claim it is about, until both its channel and its output have ended.
pub(super) async fn listen(channel: OwnedReadHalf, output: pipe::Receiver, latest: Latest, tell: impl Fn(u64, Said)) {
    let mut channel = Some(Channel { socket: channel, buffer: Vec::with_capacity(4096) });
    let mut output = Some(Output { pipe: output, claim: 0, line: Vec::new() });
    while channel.is_some() || output.is_some() {
        tokio::select! {
            _ = async { channel.as_ref()?.socket.readable().await.ok() }, if channel.is_some() => {}
            _ = async { output.as_ref()?.ready().await.ok() }, if output.is_some() => {}
        }
        // In this order: as long as something is in the pipe, the task it is of does not end; and the ends of those before
        // it are in the channel.
        let found = output.as_ref().map(Output::found);
        let claim = if found == Some(Found::Something) { latest.get() } else { 0 };
        if channel.as_mut().is_some_and(|channel| !channel.hear(&tell)) {
            channel = None;
            tell(0, Said::Closed);
        }
        match (&mut output, found) {
            (Some(there), Some(Found::Something)) => {
                there.pass_on(claim, &tell);
                // A task that writes without end must not keep the worker from everything else.
                yield_now().await;
            }
            (Some(there), Some(Found::End)) => {
                there.flush(&tell);
                output = None;
            }
            _ => {}
        }
    }
}

/// Frames of the runner.
struct Channel {
    socket: OwnedReadHalf,
    buffer: Vec<u8>,
}

impl Channel {
    /// Tells all that is there; false at the end, and if it is not what a runner may say.
    fn hear(&mut self, tell: &impl Fn(u64, Said)) -> bool {
        loop {
            match self.socket.try_read_buf(&mut self.buffer) {
                Ok(count) if count > 0 => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Ok(_) | Err(_) => return false,
            }
            loop {
                match frames::take(&mut self.buffer) {
                    Ok(Some((claim, said))) => tell(claim, said),
                    Ok(None) => break,
                    Err(error) => {
                        tracing::error!(error, "a runner broke the protocol: a task wrote to its channel?");
                        return false;
                    }
                }
            }
        }
    }
}

/// What is in the pipe.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Something,
    /// Nobody has it open any more.
    End,
}

/// Raw output: what C libraries and the task's own child processes write.
struct Output {
    pipe: pipe::Receiver,
    /// Whose the line is that has begun.
    claim: u64,
    line: Vec<u8>,
}

impl Output {
    /// Waits until there is something to be done with it.
    async fn ready(&self) -> io::Result<()> {
        loop {
            self.pipe.readable().await?;
            let found = self.pipe.try_io(|| match self.found() {
                Found::Nothing => Err(io::ErrorKind::WouldBlock.into()),
                Found::Something | Found::End => Ok(()),
            });
            if found.is_ok() {
                return found;
            }
        }
    }

    /// What is in it at this moment: what tokio knows may be as old as its last look at all descriptors.
    fn found(&self) -> Found {
        let mut polled = [PollFd::new(&self.pipe, PollFlags::IN)];
        let done = retry_on_intr(|| poll(&mut polled, Some(&Timespec::default())));
        let events = polled[0].revents();
        if done.is_ok() && events.contains(PollFlags::IN) {
            Found::Something
        } else if done.is_ok() && events.is_empty() {
            Found::Nothing
        } else {
            Found::End
        }
    }

    /// Tells lines that are there: of the task of this claim.
    fn pass_on(&mut self, claim: u64, tell: &impl Fn(u64, Said)) {
        if claim != self.claim {
            self.flush(tell);
            self.claim = claim;
        }
        let mut chunk = [0; MAX_LINE];
        let count = retry_on_intr(|| read(&self.pipe, &mut chunk)).unwrap_or(0);
        for part in chunk[..count].split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || self.line.len() >= MAX_LINE {
                self.flush(tell);
            }
        }
    }

    fn flush(&mut self, tell: &impl Fn(u64, Said)) {
        if !self.line.is_empty() {
            tell(self.claim, Said::Output(String::from_utf8_lossy(&self.line).trim_end_matches('\n').to_owned()));
            self.line.clear();
        }
    }
}
