//! `fairstalk reload`: tells the running daemon to reload and waits for what becomes of it.

use super::Error;
use crate::channel::Exit;
use crate::channel::control::{Outcome, Request, address, running};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

/// Have the running daemon read its configuration and import its application again, and wait for the outcome
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which daemon, if several run on this machine
    #[arg(long)]
    pid: Option<u32>,
}

/// Asks on the daemon's socket rather than with HUP, so that the answer is that of this very reload. There is no
/// time limit: the daemon has its own.
///
/// # Errors
/// No daemon to ask, or the reload failed; then everything is as it was before.
pub fn run(args: &Args) -> Result<Exit, Error> {
    let pid = match args.pid {
        Some(pid) => pid,
        None => only(&running().map_err(Error::Runtime)?)?,
    };
    let outcome = ask(pid).map_err(|error| {
        let remedy = "is it running, as this user, and in this network namespace? In a unit, use `systemctl reload`";
        Error::NoDaemon(format!("no answer from a daemon with pid {pid}: {error}; {remedy}"))
    })?;
    let outcome = outcome.ok_or_else(|| Error::Reload {
        exit: Exit::Internal,
        message: "the daemon ended before the reload did; its log says why".to_owned(),
    })?;
    for note in &outcome.notes {
        // Not eprintln!, which panics when nobody reads standard error any more.
        let _ = writeln!(std::io::stderr(), "fairstalk: {note}");
    }
    if outcome.exit != Exit::Ok {
        return Err(Error::Reload { exit: outcome.exit, message: outcome.message });
    }
    super::output::print(|out| writeln!(out, "{}", outcome.message).map_err(Error::Output))?;
    Ok(Exit::Ok)
}

/// The one daemon there is.
fn only(pids: &[u32]) -> Result<u32, Error> {
    match pids {
        [pid] => Ok(*pid),
        [] => Err(Error::NoDaemon("no daemon runs here; in a unit, use `systemctl reload`".to_owned())),
        several => {
            let pids: Vec<String> = several.iter().map(u32::to_string).collect();
            Err(Error::NoDaemon(format!("several daemons run here, name one with --pid: {}", pids.join(", "))))
        }
    }
}

/// The outcome; none if the daemon ended first.
fn ask(pid: u32) -> std::io::Result<Option<Outcome>> {
    let mut stream = UnixStream::connect_addr(&address(pid)?)?;
    let peer = getsockopt(&stream, PeerCredentials)?;
    if u32::try_from(peer.pid()) != Ok(pid) {
        return Err(std::io::Error::other(format!("its socket belongs to process {}", peer.pid())));
    }
    let request = serde_json::to_string(&Request::Reload)?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(if answer.is_empty() { None } else { Some(serde_json::from_str(&answer)?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn one_daemon_is_found_and_several_are_named() {
        assert_eq!(only(&[7]).unwrap(), 7);
        assert_eq!(only(&[]).unwrap_err().exit(), Exit::Unavailable);
        assert!(only(&[7, 9]).unwrap_err().to_string().ends_with("--pid: 7, 9"));
    }

    #[test]
    fn a_socket_with_a_daemons_name_that_is_not_the_daemons_is_not_believed() {
        // Process 4194305 is above the kernel's highest pid.
        let _taken = UnixListener::bind_addr(&address(4_194_305).unwrap()).unwrap();
        assert!(ask(4_194_305).unwrap_err().to_string().contains("belongs to process"));
        assert!(ask(4_194_306).is_err());
    }
}
