//! What follows the death of a child: a pure function, so that every case stands in one table in the tests.

use super::backoff::Backoff;
use crate::channel::Exit;
use std::time::{Duration, Instant};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It could not even be started.
    Unborn,
}

impl Ended {
    /// Whether the status is this one.
    pub fn is(self, exit: Exit) -> bool {
        self == Self::Code(i32::from(exit.code()))
    }

    /// The exit code if it says that trying again is pointless.
    fn hopeless(self) -> Option<Exit> {
        [Exit::Usage, Exit::Config].into_iter().find(|exit| self.is(*exit))
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal(number) => match nix::sys::signal::Signal::try_from(number) {
                Ok(signal) => write!(f, "{}", signal.as_str()),
                Err(_) => write!(f, "signal {number}"),
            },
            Self::Unborn => f.write_str("not started"),
        }
    }
}

/// A death and what led to it.
#[derive(Debug, Clone, Copy)]
pub struct Death {
    /// How it ended.
    pub ended: Ended,
    /// The daemon has sent READY: everything has worked once.
    pub daemon_ready: bool,
    /// It was told to finish: the daemon stops, or another has taken its place.
    pub leaving: bool,
    /// A reload under way has started it, and it has not worked before.
    pub trial: bool,
    /// This process had reported ready.
    pub was_ready: bool,
    /// Since then.
    pub uptime: Duration,
    /// Failures in a row before this one.
    pub failures: u32,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start another process then.
    Restart {
        /// When.
        at: Instant,
        /// Failures in a row, this one counted; 0 if nobody is to blame.
        failures: u32,
    },
    /// Stop the daemon with this code: it has never worked and trying again won't help.
    HaltDaemon(Exit),
    /// Leave this slot empty, the others go on: what they run worked when they were started.
    HaltSlot(Exit),
    /// Give up the reload that started it: trying again won't help, and those it was to replace still work.
    Abandon(Exit),
    /// Nothing: it was to end.
    Done,
}

/// Judges a worker.
pub fn worker(death: &Death, backoff: &Backoff, now: Instant, jitter: f64) -> Verdict {
    if death.leaving {
        return Verdict::Done;
    }
    match death.ended.hopeless() {
        Some(exit) if death.trial => Verdict::Abandon(exit),
        Some(exit) if death.daemon_ready => Verdict::HaltSlot(exit),
        Some(exit) => Verdict::HaltDaemon(exit),
        None => restart(death, backoff, now, jitter),
    }
}

/// Judges a zygote. Its generation has only one, and workers wait for its successor; so once it has worked it never halts.
pub fn zygote(death: &Death, backoff: &Backoff, now: Instant, jitter: f64) -> Verdict {
    if death.leaving {
        return Verdict::Done;
    }
    match death.ended.hopeless() {
        Some(exit) if death.trial => Verdict::Abandon(exit),
        Some(exit) if !death.daemon_ready => Verdict::HaltDaemon(exit),
        _ => restart(death, backoff, now, jitter),
    }
}

/// A process that was ready and left by itself was asked to by somebody (a signal to it alone): no blame, shortest wait.
fn restart(death: &Death, backoff: &Backoff, now: Instant, jitter: f64) -> Verdict {
    let left = death.was_ready && (death.ended.is(Exit::Ok) || death.ended.is(Exit::HandedBack));
    let failures = if left { 0 } else { backoff.count(death.failures, death.uptime) };
    Verdict::Restart { at: now + backoff.wait(failures, jitter), failures }
}

/// Exit code of a daemon that stopped, from how its workers ended while it did: a worker that was killed or failed
/// outweighs one that handed work back.
pub fn outcome(ends: &[Ended]) -> Exit {
    if ends.iter().any(|end| !end.is(Exit::Ok) && !end.is(Exit::HandedBack)) {
        Exit::Internal
    } else if ends.iter().any(|end| end.is(Exit::HandedBack)) {
        Exit::HandedBack
    } else {
        Exit::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(3600);

    /// Each row: status, daemon ready, leaving, process was ready, uptime, failures before → worker, zygote.
    #[test]
    fn table() {
        use Ended::{Code, Signal, Unborn};
        use Verdict::{Done, HaltDaemon, HaltSlot};
        let now = Instant::now();
        let backoff = Backoff::new(MIN, Duration::from_secs(30)).unwrap();
        let again = |factor, failures| Verdict::Restart { at: now + MIN * factor, failures };
        let (no, yes, zero) = (false, true, Duration::ZERO);
        let table = [
            // Configuration errors.
            (Code(78), no, no, no, zero, 0, HaltDaemon(Exit::Config), HaltDaemon(Exit::Config)),
            (Code(64), no, no, no, zero, 3, HaltDaemon(Exit::Usage), HaltDaemon(Exit::Usage)),
            (Code(78), yes, no, no, zero, 0, HaltSlot(Exit::Config), again(1, 1)),
            (Code(64), yes, no, yes, LONG, 0, HaltSlot(Exit::Usage), again(1, 1)),
            (Code(78), no, yes, no, zero, 0, Done, Done),
            // Crashes.
            (Code(1), no, no, no, zero, 0, again(1, 1), again(1, 1)),
            (Code(70), yes, no, yes, zero, 1, again(2, 2), again(2, 2)),
            (Code(69), no, no, no, zero, 2, again(4, 3), again(4, 3)),
            (Signal(9), yes, no, yes, zero, 0, again(1, 1), again(1, 1)),
            (Signal(11), yes, no, yes, zero, 4, again(16, 5), again(16, 5)),
            (Signal(11), yes, no, yes, LONG, 4, again(1, 1), again(1, 1)),
            (Signal(78), no, no, no, zero, 0, again(1, 1), again(1, 1)),
            (Unborn, no, no, no, zero, 20, again(150, 21), again(150, 21)),
            // Left without being told: no blame, unless it never worked.
            (Code(0), yes, no, yes, zero, 7, again(1, 0), again(1, 0)),
            (Code(75), yes, no, yes, zero, 7, again(1, 0), again(1, 0)),
            (Code(0), yes, no, no, zero, 1, again(2, 2), again(2, 2)),
            // Stopping.
            (Code(0), yes, yes, yes, LONG, 0, Done, Done),
            (Signal(9), yes, yes, yes, LONG, 0, Done, Done),
        ];
        for (ended, daemon_ready, leaving, was_ready, uptime, failures, of_worker, of_zygote) in table {
            let death = Death { ended, daemon_ready, leaving, trial: false, was_ready, uptime, failures };
            assert_eq!(worker(&death, &backoff, now, 0.0), of_worker, "worker: {death:?}");
            assert_eq!(zygote(&death, &backoff, now, 0.0), of_zygote, "zygote: {death:?}");
        }
    }

    #[test]
    fn a_trial_that_is_hopeless_ends_the_reload_and_a_crash_is_tried_again() {
        let (now, backoff) = (Instant::now(), Backoff::new(MIN, LONG).unwrap());
        let trial = |ended, daemon_ready, leaving| {
            let uptime = Duration::ZERO;
            let death = Death { ended, daemon_ready, leaving, trial: true, was_ready: false, uptime, failures: 0 };
            (worker(&death, &backoff, now, 0.0), zygote(&death, &backoff, now, 0.0))
        };
        let (abandon, again) = (Verdict::Abandon(Exit::Config), Verdict::Restart { at: now + MIN, failures: 1 });
        assert_eq!(trial(Ended::Code(78), true, false), (abandon, abandon));
        assert_eq!(trial(Ended::Code(78), false, false), (abandon, abandon));
        assert_eq!(trial(Ended::Signal(9), true, false), (again, again));
        assert_eq!(trial(Ended::Code(78), true, true), (Verdict::Done, Verdict::Done));
    }

    #[test]
    fn the_worst_end_decides() {
        use Ended::{Code, Signal};
        let table: [(&[Ended], Exit); 6] = [
            (&[], Exit::Ok),
            (&[Code(0), Code(0)], Exit::Ok),
            (&[Code(0), Code(75)], Exit::HandedBack),
            (&[Code(75), Signal(9)], Exit::Internal),
            (&[Code(1), Code(0)], Exit::Internal),
            (&[Code(69)], Exit::Internal),
        ];
        for (ends, exit) in table {
            assert_eq!(outcome(ends), exit, "{ends:?}");
        }
    }

    #[test]
    fn ends_have_names() {
        assert_eq!(Ended::Code(70).to_string(), "exit 70");
        assert_eq!(Ended::Signal(9).to_string(), "SIGKILL");
        assert_eq!(Ended::Signal(40).to_string(), "signal 40");
    }
}
