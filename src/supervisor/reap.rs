//! Learns which children ended, and how.
//!
//! Before a known child is reaped, what is left of its process group is killed: as long as the dead process is not
//! reaped its number can't be given to anybody else. So nothing a worker started goes on once its claims are put
//! back for others to run.
//!
//! rustix and not nix: the latter has no value for a death by a real-time signal and would leave it unreaped.

use super::policy::Ended;
use nix::sys::wait::{self, WaitPidFlag};
use rustix::io::Errno;
use rustix::process::{self, Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus};
use rustix::process::{kill_process_group, waitid, waitpid};

/// Whoever has ended stays unreaped; nobody is waited for.
const LOOK: WaitIdOptions = WaitIdOptions::EXITED.union(WaitIdOptions::NOHANG).union(WaitIdOptions::NOWAIT);

/// Whether somebody may have ended: false only if there are children and all of them live.
pub fn anybody() -> bool {
    !matches!(waitid(WaitId::All, LOOK), Ok(None))
}

/// Reaps one of these children if it has ended.
pub fn ended(pid: i32) -> Option<Ended> {
    let pid = Pid::from_raw(pid)?;
    match waitid(WaitId::Pid(pid), LOOK) {
        Ok(None) => return None,
        Ok(Some(_)) => {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        Err(error) => tracing::debug!(%error, "waitid"),
    }
    match waitpid(Some(pid), WaitOptions::NOHANG) {
        Ok(Some((_, status))) => Some(how(status)),
        Ok(None) => None,
        // Reaped by somebody else, which can't be: gone all the same, and nobody knows how.
        Err(Errno::CHILD) => Some(Ended::Signal(0)),
        Err(_) => None,
    }
}

/// Reaps processes that were never ours, as they end up with a process 1 or a subreaper. Called when all known
/// children have been looked at; should one of those have ended since, its end is returned instead of being lost.
///
/// Commands and runners die with the worker or zygote that started them, but what *they* started doesn't. They lead
/// process groups, so before one of them is reaped its group is killed, as in [`ended`].
pub fn strangers(is_known: impl Fn(i32) -> bool) -> Vec<(i32, Ended)> {
    let mut known = Vec::new();
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    loop {
        let (next, killed) = match wait::waitid(wait::Id::All, look) {
            Ok(wait::WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), signal == nix::sys::signal::SIGKILL),
            Ok(wait::WaitStatus::Exited(pid, _)) => (pid.as_raw(), false),
            // Nobody, or one that died by a signal nix has no value for.
            _ => (0, false),
        };
        let next = Pid::from_raw(next);
        if let Some(pid) = next.filter(|pid| killed || is_known(pid.as_raw_nonzero().get())) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        // waitpid(2) without a pid would only wait for our own process group, and none of these is in it.
        let reaped = match next {
            Some(pid) => waitpid(Some(pid), WaitOptions::NOHANG),
            None => process::wait(WaitOptions::NOHANG),
        };
        let Ok(Some((pid, status))) = reaped else { return known };
        let pid = pid.as_raw_nonzero().get();
        let ended = how(status);
        if is_known(pid) {
            known.push((pid, ended));
        } else {
            tracing::debug!(pid, "reaped an unknown process: {ended}");
        }
    }
}

fn how(status: WaitStatus) -> Ended {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, signal) => Ended::Signal(signal.unwrap_or(0)),
    }
}
