//! When a silent child is killed. Pure.
//!
//! A worker beats from the runtime that does the work; when that is stuck, the beats stop. The first answer is ABRT,
//! which leaves a trace of what it was doing; the second, whatever it says meanwhile, is KILL.

use std::time::{Duration, Instant};

/// From ABRT to KILL.
pub const TRACE_FOR: Duration = Duration::from_secs(2);

/// A pass may be late by this on a busy machine. With the longest time between two beats it is less than the least
/// `liveness_timeout`.
const LATE: Duration = Duration::from_millis(250);

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// SIGABRT.
    Abort,
    /// SIGKILL.
    Kill,
}

/// Watches one process.
#[derive(Debug)]
pub struct Vigil {
    heard: Instant,
    aborted: Option<Instant>,
    killed: bool,
}

impl Vigil {
    /// A process was started now: it has the whole time-out for its first sign.
    pub fn new(now: Instant) -> Self {
        Self { heard: now, aborted: None, killed: false }
    }

    /// A sign of life arrived.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Time since the last sign of life.
    pub fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    /// What is due; each blow is returned once.
    pub fn judge(&mut self, now: Instant, timeout: Duration) -> Option<Blow> {
        if self.due(timeout)? > now {
            return None;
        }
        if self.aborted.is_some() {
            self.killed = true;
            return Some(Blow::Kill);
        }
        self.aborted = Some(now);
        Some(Blow::Abort)
    }

    /// When to look again; never after the KILL.
    pub fn due(&self, timeout: Duration) -> Option<Instant> {
        match self.aborted {
            _ if self.killed => None,
            Some(at) => Some(at + TRACE_FOR),
            None => Some(self.heard + timeout),
        }
    }
}

/// Whether the supervisor itself stood still between two passes (suspended machine, frozen cgroup, SIGSTOP). Its
/// children stood still with it most likely: their silence says nothing, they get a fresh time-out.
pub fn stood_still(last_pass: Instant, now: Instant, ceiling: Duration) -> bool {
    now.saturating_duration_since(last_pass) > ceiling + LATE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abort_then_kill_each_once() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut vigil = Vigil::new(start);
        assert_eq!(vigil.judge(start + 9 * second, 10 * second), None);
        vigil.heard(start + 9 * second);
        assert_eq!(vigil.judge(start + 18 * second, 10 * second), None);
        assert_eq!(vigil.judge(start + 19 * second, 10 * second), Some(Blow::Abort));
        assert_eq!(vigil.judge(start + 20 * second, 10 * second), None);
        vigil.heard(start + 20 * second);
        assert_eq!(vigil.due(10 * second), Some(start + 21 * second), "a late beat saves nobody");
        assert_eq!(vigil.judge(start + 21 * second, 10 * second), Some(Blow::Kill));
        assert_eq!((vigil.judge(start + 99 * second, second), vigil.due(second)), (None, None));
    }

    #[test]
    fn a_pause_of_the_supervisor_is_noticed() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        assert!(!stood_still(start, start + second, second));
        assert!(!stood_still(start, start + second + LATE, second));
        assert!(stood_still(start, start + 2 * second, second));
    }
}
