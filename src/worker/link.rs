//! The worker's end of its channel to the supervisor, which is its standard input.

use crate::channel::{BEAT_EVERY, Beat, Order, Report};
use crate::pace;
use std::cell::Cell;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, sleep_until};

/// Where the supervisor has not read for long, a report waits so long for room.
const FULL: Duration = Duration::from_millis(10);

/// Orders come in.
pub struct Orders {
    /// As from a pipe: a socket of tokio's would wake us each time the supervisor has read a report.
    lines: Lines<BufReader<pipe::Receiver>>,
}

/// Reports go out; the figures go with every beat.
#[derive(Clone)]
pub struct Reports {
    sender: UnboundedSender<Report>,
    figures: Rc<Cell<Beat>>,
}

/// Opens the channel. Has to be called within a `LocalSet`.
///
/// # Errors
/// If standard input is not a socket: this is not a command for people.
pub fn open() -> io::Result<(Orders, Reports)> {
    let write = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    write.peer_addr()?;
    write.set_nonblocking(true)?;
    let read = pipe::Receiver::from_owned_fd_unchecked(write.try_clone()?.into())?;
    let (sender, receiver) = unbounded_channel();
    let figures = Rc::new(Cell::new(Beat::default()));
    tokio::task::spawn_local(write_reports(write, receiver, Rc::clone(&figures)));
    Ok((Orders { lines: BufReader::new(read).lines() }, Reports { sender, figures }))
}

impl Orders {
    /// The next order; none when the supervisor is gone.
    pub async fn next(&mut self) -> Option<Order> {
        while let Ok(Some(line)) = self.lines.next_line().await {
            match serde_json::from_str(&line) {
                Ok(order) => return Some(order),
                Err(error) => tracing::error!(%error, "the supervisor said something unintelligible"),
            }
        }
        None
    }
}

impl Reports {
    /// Sends a report.
    pub fn send(&self, report: Report) {
        // Fails only if the writer has ended with the channel, and then the orders end too.
        let _ = self.sender.send(report);
    }

    /// Changes the figures sent with the next beat.
    pub fn update(&self, change: impl FnOnce(&mut Beat)) {
        let mut figures = self.figures.get();
        change(&mut figures);
        self.figures.set(figures);
    }

    /// The figures as they are.
    pub fn figures(&self) -> Beat {
        self.figures.get()
    }

    /// Lets the writer write what was sent: a socket that takes it at once needs no more than its turn.
    pub async fn flush(&self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}

/// Beats come from the runtime that does the work: if that hangs, they stop.
async fn write_reports(write: UnixStream, mut reports: UnboundedReceiver<Report>, figures: Rc<Cell<Beat>>) {
    let mut beat = Instant::now();
    loop {
        let report = tokio::select! {
            report = reports.recv() => match report {
                Some(report) => report,
                None => return,
            },
            () = sleep_until(beat.into()) => {
                beat = pace::tick_before(Instant::now() + BEAT_EVERY);
                Report::Beat(figures.get())
            }
        };
        let Ok(mut line) = serde_json::to_string(&report) else { continue };
        line.push('\n');
        if write_all(&write, line.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn write_all(mut write: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match write.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(FULL).await,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
