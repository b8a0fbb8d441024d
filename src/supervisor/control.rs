//! Commands that speak to the running daemon: who they are, what they ask, who waits for which reload.
//!
//! Whoever asked before a reload began hears of that one; whoever asks during it hears of the next, because this one
//! may have read the configuration before it was edited.

use super::wire::Wire;
use crate::channel::control::{Outcome, Request, address};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};

/// Commands that may wait at the same time.
const CLIENTS_MAX: usize = 64;

/// Where a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It has said nothing yet.
    Silent,
    /// It waits for a reload to begin.
    Asked,
    /// It waits for the reload under way to end.
    Waits,
}

#[derive(Debug)]
struct Client {
    wire: Wire,
    stage: Stage,
}

/// The socket and those connected to it.
#[derive(Debug, Default)]
pub struct Control {
    listener: Option<UnixListener>,
    clients: Vec<Client>,
}

impl Control {
    /// Listens. Without the socket the daemon works all the same, and HUP reloads it.
    pub fn listen() -> Self {
        let listener = address(std::process::id()).and_then(|address| UnixListener::bind_addr(&address));
        let listener = listener.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
        match listener {
            Ok(listener) => Self { listener: Some(listener), clients: Vec::new() },
            Err(error) => {
                tracing::warn!("`fairstalk reload` will not find this daemon, no socket: {error}");
                Self::default()
            }
        }
    }

    /// Everything to poll for reading.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let clients = self.clients.iter().filter_map(|client| client.wire.interest().map(|(fd, _)| fd));
        self.listener.iter().map(AsFd::as_fd).chain(clients)
    }

    /// Hears what came; whether somebody asks for a reload.
    pub fn read(&mut self) -> bool {
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(UnixListener::accept) {
            match admit(stream) {
                Ok(wire) if self.clients.len() < CLIENTS_MAX => {
                    self.clients.push(Client { wire, stage: Stage::Silent });
                }
                Ok(_) => tracing::warn!("more than {CLIENTS_MAX} commands at once: one is turned away"),
                Err(error) => tracing::warn!("a command is turned away: {error}"),
            }
        }
        let mut asked = false;
        for client in &mut self.clients {
            for line in client.wire.lines() {
                match serde_json::from_slice(&line) {
                    Ok(Request::Reload) if client.stage == Stage::Silent => {
                        client.stage = Stage::Asked;
                        asked = true;
                    }
                    Ok(Request::Reload) => {}
                    Err(error) => {
                        tracing::warn!(%error, "a command said something unintelligible");
                        client.wire.close();
                    }
                }
            }
        }
        self.clients.retain(|client| !client.wire.is_closed());
        asked
    }

    /// A reload begins: whoever has asked until now waits for this one.
    pub fn begin(&mut self) {
        let asked = self.clients.iter_mut().filter(|client| client.stage == Stage::Asked);
        asked.for_each(|client| client.stage = Stage::Waits);
    }

    /// The reload under way is over, or, with `everybody`, no other will begin.
    pub fn answer(&mut self, outcome: &Outcome, everybody: bool) {
        for client in &mut self.clients {
            if client.stage == Stage::Waits || everybody {
                // Whoever doesn't read what fits into a socket's buffer has given up.
                let _ = client.wire.send(outcome);
                client.wire.close();
            }
        }
        self.clients.retain(|client| !client.wire.is_closed());
    }
}

/// An abstract socket has no file mode: only our own user and root may speak to the daemon.
fn admit(stream: UnixStream) -> io::Result<Wire> {
    let peer = getsockopt(&stream, PeerCredentials).map_err(io::Error::from)?;
    if peer.uid() != 0 && peer.uid() != nix::unistd::getuid().as_raw() {
        return Err(io::Error::other(format!("user {} is neither root nor the daemon's own", peer.uid())));
    }
    Wire::new(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Exit;
    use std::io::{Read, Write};

    fn outcome(message: &str) -> Outcome {
        Outcome { exit: Exit::Ok, message: message.to_owned(), notes: Vec::new() }
    }

    fn heard(mut stream: UnixStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn each_hears_of_the_reload_that_began_after_it_asked() {
        let mut control = Control::listen();
        let connect = || UnixStream::connect_addr(&address(std::process::id()).unwrap()).unwrap();
        let ask = |mut stream: UnixStream| {
            stream.write_all(b"{\"request\":\"reload\"}\n").unwrap();
            stream
        };
        let first = ask(connect());
        assert!(control.read() && !control.read());
        control.begin();
        let second = ask(connect());
        let (silent, mut odd, gone) = (connect(), connect(), ask(connect()));
        odd.write_all(b"hello\n").unwrap();
        drop(gone);
        assert!(control.read());
        assert_eq!(heard(odd), "");
        control.answer(&outcome("one"), false);
        assert!(heard(first).contains("\"message\":\"one\""));
        control.begin();
        control.answer(&outcome("two"), false);
        assert!(heard(second).contains("\"message\":\"two\""));
        assert_eq!(control.clients.len(), 1);
        control.answer(&outcome("over"), true);
        assert!(heard(silent).contains("\"message\":\"over\""));
        assert_eq!(control.fds().count(), 1);
    }
}
