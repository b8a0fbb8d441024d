//! The supervisor's end of a child's channel: lines of JSON over a stream socket, never blocking.
//!
//! Bounded in both directions: a child that doesn't read can't hold up the supervisor or fill its memory, and one that
//! writes without end gets its turn and no more.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Bytes that may wait for a child that doesn't read.
const UNSENT_MAX: usize = 1 << 20;
/// Longest line taken from a child.
const LINE_MAX: usize = 1 << 20;
/// Bytes taken from one child in one pass.
const READ_MAX: usize = 64 << 10;

/// Why a line could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The other side is gone.
    #[error("the channel is closed")]
    Closed,
    /// The other side has not read for long.
    #[error("the process doesn't read its channel")]
    Full,
    /// The message makes no JSON.
    #[error("not encodable")]
    Encode(#[from] serde_json::Error),
}

/// One end of a channel.
#[derive(Debug)]
pub struct Wire {
    stream: Option<UnixStream>,
    unsent: Vec<u8>,
    received: Vec<u8>,
    skipping: bool,
}

impl Wire {
    /// Takes over this end.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream: Some(stream), unsent: Vec::new(), received: Vec::new(), skipping: false })
    }

    /// The descriptor to poll, and whether something waits to be written; none once the channel is closed.
    pub fn interest(&self) -> Option<(BorrowedFd<'_>, bool)> {
        self.stream.as_ref().map(|stream| (stream.as_fd(), !self.unsent.is_empty()))
    }

    /// Whether the other side is gone.
    pub fn is_closed(&self) -> bool {
        self.stream.is_none()
    }

    /// Closes this end: the other side reads end of file.
    pub fn close(&mut self) {
        self.stream = None;
    }

    /// Sends one message as a line, now or when the other side reads.
    pub fn send(&mut self, message: &impl serde::Serialize) -> Result<(), SendError> {
        self.send_line(serde_json::to_vec(message)?)
    }

    /// Sends a line that is JSON already.
    pub fn send_line(&mut self, mut line: Vec<u8>) -> Result<(), SendError> {
        if self.stream.is_none() {
            return Err(SendError::Closed);
        }
        if self.unsent.len() + line.len() >= UNSENT_MAX {
            return Err(SendError::Full);
        }
        line.push(b'\n');
        self.unsent.append(&mut line);
        self.flush();
        Ok(())
    }

    /// Writes what the other side takes. An error shows as the end of the channel when it is read.
    pub fn flush(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let mut written = 0;
        while written < self.unsent.len() {
            match stream.write(&self.unsent[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => written = self.unsent.len(),
            }
        }
        self.unsent.drain(..written);
    }

    /// Complete lines that have arrived, at most one pass's worth; the rest stays in the socket.
    pub fn lines(&mut self) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let mut buffer = [0; 8 << 10];
        let mut budget = READ_MAX;
        while let Some(stream) = &mut self.stream
            && budget > 0
        {
            match stream.read(&mut buffer) {
                Ok(0) => self.close(),
                Ok(count) => {
                    self.take(&buffer[..count], &mut lines);
                    budget = budget.saturating_sub(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.close(),
            }
        }
        lines
    }

    /// Splits what arrived into lines; a line that is too long is left out whole.
    fn take(&mut self, mut bytes: &[u8], lines: &mut Vec<Vec<u8>>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let mut line = std::mem::take(&mut self.received);
            line.extend_from_slice(&bytes[..end]);
            if !std::mem::take(&mut self.skipping) && !line.is_empty() {
                lines.push(line);
            }
            bytes = &bytes[end + 1..];
        }
        if self.skipping || self.received.len() + bytes.len() > LINE_MAX {
            self.skipping = true;
            self.received = Vec::new();
        } else {
            self.received.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Wire, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        (Wire::new(near).unwrap(), far)
    }

    #[test]
    fn lines_arrive_whole_however_they_are_cut() {
        let (mut wire, mut far) = pair();
        far.write_all(b"{\"a\":1}\n\n{\"b\"").unwrap();
        assert_eq!(wire.lines(), [b"{\"a\":1}".to_vec()]);
        far.write_all(b":2}\n").unwrap();
        assert_eq!(wire.lines(), [b"{\"b\":2}".to_vec()]);
        assert!(!wire.is_closed() && wire.lines().is_empty());
        drop(far);
        assert!(wire.lines().is_empty() && wire.is_closed() && wire.interest().is_none());
    }

    #[test]
    fn what_was_written_before_the_end_is_read() {
        let (mut wire, mut far) = pair();
        far.write_all(b"last\n").unwrap();
        drop(far);
        assert_eq!(wire.lines(), [b"last".to_vec()]);
        assert!(wire.is_closed());
        assert!(matches!(wire.send_line(b"x".to_vec()), Err(SendError::Closed)));
    }

    #[test]
    fn a_child_that_does_not_read_blocks_nobody() {
        let (mut wire, mut far) = pair();
        let line = vec![b'x'; 10_000];
        let mut sent = 0;
        while wire.send_line(line.clone()).is_ok() {
            sent += 1;
        }
        assert!(matches!(wire.send_line(line.clone()), Err(SendError::Full)));
        assert!(wire.interest().unwrap().1 && wire.unsent.len() <= UNSENT_MAX);
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            far.read_to_end(&mut all).unwrap();
            all
        });
        while wire.interest().unwrap().1 {
            wire.flush();
        }
        wire.close();
        assert_eq!(reader.join().unwrap().len(), sent * 10_001);
    }

    #[test]
    fn a_flood_gets_its_turn_and_no_more() {
        let (mut wire, mut far) = pair();
        far.set_nonblocking(true).unwrap();
        let line = [vec![b'y'; 999], vec![b'\n']].concat();
        while far.write(&line).is_ok() {}
        let first = wire.lines().len();
        assert!(first <= READ_MAX / 1_000 + 9, "{first}");
        assert!(!wire.lines().is_empty());
    }

    #[test]
    fn a_line_without_end_is_left_out() {
        let (mut wire, _far) = pair();
        let mut lines = Vec::new();
        for _ in 0..(LINE_MAX / 4096 + 2) {
            wire.take(&[b'z'; 4096], &mut lines);
        }
        assert!(wire.received.is_empty());
        wire.take(b"zz\nok\n", &mut lines);
        assert_eq!(lines, [b"ok".to_vec()]);
    }
}
