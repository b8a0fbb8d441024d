//! How a command speaks to a running supervisor, and finds it.
//!
//! An abstract socket named after the supervisor's pid: nothing to create, to own or to clean up, it works with and
//! without systemd, and it is gone when its process is. The kernel says who is at the other end of it, so neither
//! side can be fooled by somebody who took the name first.

use super::Exit;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;

/// What comes before the pid.
const PREFIX: &str = "fairstalk/supervisor/";

/// Sockets of this network namespace (proc(5)).
const SOCKETS: &str = "/proc/self/net/unix";

/// Command to supervisor: the only line it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// As SIGHUP; the answer is the [`Outcome`] of the reload that began after this line was read.
    Reload,
}

/// Supervisor to command, once, before it closes the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How the reload ended.
    pub exit: Exit,
    /// The same in words; several lines for the problems of a configuration.
    pub message: String,
    /// Changes that a reload can't make.
    pub notes: Vec<String>,
}

/// Where the supervisor with this pid listens.
///
/// # Errors
/// None in practice: the name is short.
pub fn address(pid: u32) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("{PREFIX}{pid}"))
}

/// Pids of the supervisors that listen in this network namespace, whoever runs them.
///
/// # Errors
/// If /proc can't be read.
pub fn running() -> io::Result<Vec<u32>> {
    Ok(listening(&std::fs::read_to_string(SOCKETS)?))
}

/// A connection has a line with the name of its listener, too; so each pid is kept once.
fn listening(sockets: &str) -> Vec<u32> {
    let names = sockets.lines().filter_map(|line| line.split_whitespace().nth(7)?.strip_prefix('@'));
    let mut pids: Vec<u32> = names.filter_map(|name| name.strip_prefix(PREFIX)?.parse().ok()).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supervisors_are_found_among_all_sockets() {
        let text = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 24118 /run/dbus/system_bus_socket\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 9 @fairstalk/supervisor/17\n\
                    0000000000000000: 00000003 00000000 00000000 0001 03 10 @fairstalk/supervisor/17\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 11 @fairstalk/supervisor/x\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 12 fairstalk/supervisor/18\n\
                    0000000000000000: 00000003 00000000 00000000 0001 03 13\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 14 @fairstalk/supervisor/4\n";
        assert_eq!(listening(text), [4, 17]);
        // Above the kernel's highest pid, so that no real daemon has this name.
        let _listener = std::os::unix::net::UnixListener::bind_addr(&address(4_194_307).unwrap()).unwrap();
        assert!(running().unwrap().contains(&4_194_307));
    }
}
