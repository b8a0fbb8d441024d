//! One place for a child, and the states it goes through. Pure.
//!
//! ```text
//! Waiting(until) → Starting → Ready → Draining → Exited → Waiting(until) …
//!                     └────────┴─────────────────┘ └────→ Halted(reason)
//! ```
//!
//! Never backward, and each transition asserts the states it may come from. A worker that loses Redis stays Ready:
//! that is its own affair and ends without a new process. A slot halts only without a living process, since
//! nobody would look after that process any more.

use std::time::{Duration, Instant};

/// Where a slot stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The process runs and has not reported ready yet.
    Starting,
    /// The process has reported ready.
    Ready,
    /// The process was told to finish.
    Draining,
    /// The process is gone; what follows is not decided yet, or nothing follows.
    Exited,
    /// The next process is started at this time.
    Waiting {
        /// When.
        until: Instant,
    },
    /// No further process is started.
    Halted {
        /// Fit for `STATUS=`; empty if the daemon stops and there is nothing to tell.
        reason: String,
    },
}

/// A slot for one process at a time.
#[derive(Debug)]
pub struct Slot {
    state: State,
    failures: u32,
    ready_at: Option<Instant>,
}

impl Slot {
    /// A slot whose first process is due now.
    pub fn new(now: Instant) -> Self {
        Self { state: State::Waiting { until: now }, failures: 0, ready_at: None }
    }

    /// Where it stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether it has a process.
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Starting | State::Ready | State::Draining)
    }

    /// Whether the present or last process ever reported ready.
    pub fn was_ready(&self) -> bool {
        self.ready_at.is_some()
    }

    /// Time since the present process reported ready; zero before.
    pub fn uptime(&self, now: Instant) -> Duration {
        self.ready_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    /// When the next process is due.
    pub fn due(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => Some(until),
            _ => None,
        }
    }

    /// Waiting → Starting: a process was started.
    pub fn start(&mut self) {
        debug_assert!(matches!(self.state, State::Waiting { .. }), "started from {:?}", self.state);
        self.state = State::Starting;
        self.ready_at = None;
    }

    /// Starting → Ready. A draining process may still report ready, and a ready one may say so again: no change.
    pub fn ready(&mut self, now: Instant) {
        debug_assert!(self.is_live(), "ready in {:?}", self.state);
        if self.state == State::Starting {
            self.state = State::Ready;
            self.ready_at = Some(now);
        }
    }

    /// Starting, Ready → Draining: the process was told to finish.
    pub fn drain(&mut self) {
        debug_assert!(self.is_live(), "drained in {:?}", self.state);
        self.state = State::Draining;
    }

    /// Starting, Ready, Draining → Exited: the process is gone.
    pub fn exited(&mut self) {
        debug_assert!(self.is_live(), "exited in {:?}", self.state);
        self.state = State::Exited;
    }

    /// Exited → Waiting: another process follows.
    pub fn wait(&mut self, until: Instant, failures: u32) {
        debug_assert_eq!(self.state, State::Exited, "waits though not exited");
        self.state = State::Waiting { until };
        self.failures = failures;
    }

    /// Exited, Waiting, Halted → Halted: nothing follows.
    pub fn halt(&mut self, reason: impl Into<String>) {
        debug_assert!(!self.is_live(), "halted in {:?}", self.state);
        self.state = State::Halted { reason: reason.into() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_round() {
        let now = Instant::now();
        let later = now + Duration::from_secs(3);
        let mut slot = Slot::new(now);
        assert_eq!(slot.due(), Some(now));
        slot.start();
        assert!(slot.is_live() && !slot.was_ready() && slot.uptime(later).is_zero());
        slot.ready(now);
        slot.ready(later);
        assert_eq!((slot.state(), slot.uptime(later)), (&State::Ready, Duration::from_secs(3)));
        slot.exited();
        slot.wait(later, 1);
        assert_eq!((slot.due(), slot.failures(), slot.is_live()), (Some(later), 1, false));
        slot.start();
        assert!(!slot.was_ready());
        slot.drain();
        slot.ready(later);
        assert_eq!(slot.state(), &State::Draining);
        slot.exited();
        slot.halt("stopping");
        assert_eq!(slot.due(), None);
    }

    /// Every transition from every state either is in the table or is refused.
    #[test]
    #[cfg(debug_assertions)]
    fn refuses_every_other_transition() {
        type Step = fn(&mut Slot);
        let now = Instant::now;
        let reach: [(&str, &[Step]); 6] = [
            ("waiting", &[]),
            ("starting", &[Slot::start]),
            ("ready", &[Slot::start, |s| s.ready(Instant::now())]),
            ("draining", &[Slot::start, Slot::drain]),
            ("exited", &[Slot::start, Slot::exited]),
            ("halted", &[Slot::start, Slot::exited, |s| s.halt("x")]),
        ];
        let steps: [(&str, Step, &[&str]); 6] = [
            ("start", Slot::start, &["waiting"]),
            ("ready", |s| s.ready(Instant::now()), &["starting", "ready", "draining"]),
            ("drain", Slot::drain, &["starting", "ready", "draining"]),
            ("exited", Slot::exited, &["starting", "ready", "draining"]),
            ("wait", |s| s.wait(Instant::now(), 1), &["exited"]),
            ("halt", |s| s.halt("x"), &["waiting", "exited", "halted"]),
        ];
        for (state, path) in reach {
            for (name, step, legal) in steps {
                let mut slot = Slot::new(now());
                path.iter().for_each(|step| step(&mut slot));
                let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| step(&mut slot))).is_ok();
                assert_eq!(taken, legal.contains(&state), "{name} from {state}");
            }
        }
    }
}
