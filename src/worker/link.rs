//! The worker's end of its channel to the supervisor, which is its standard input.

use crate::channel::{BEAT_EVERY, Beat, Order, Report};
use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Orders come in.
pub struct Orders {
    lines: Lines<BufReader<OwnedReadHalf>>,
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
    let stream = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    stream.set_nonblocking(true)?;
    let (read, write) = UnixStream::from_std(stream)?.into_split();
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
async fn write_reports(mut write: OwnedWriteHalf, mut reports: UnboundedReceiver<Report>, figures: Rc<Cell<Beat>>) {
    let mut tick = tokio::time::interval(BEAT_EVERY);
    loop {
        let report = tokio::select! {
            report = reports.recv() => match report {
                Some(report) => report,
                None => return,
            },
            _ = tick.tick() => Report::Beat(figures.get()),
        };
        let Ok(mut line) = serde_json::to_string(&report) else { continue };
        line.push('\n');
        if write.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}
