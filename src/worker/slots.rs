//! The slots of one worker: each can have one task under way and, where there is an application, has one runner.

use super::stagger::Span;
use super::work::Work;
use crate::runner::python::PythonRunner;
use std::time::{Duration, Instant};

/// Bits of a runner's number that name its slot; the rest count its incarnations.
const SLOT_BITS: u32 = 16;

/// First wait before a runner that died is replaced, when the one before died too without finishing a task.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest such wait.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// One slot.
#[derive(Debug, Default)]
pub struct Slot {
    /// The task under way.
    pub work: Option<Work>,
    /// Its Python runner.
    pub runner: RunnerState,
    /// Runners that died in a row without having finished a task.
    pub failures: u32,
    /// Tasks the present runner has finished.
    pub finished: u32,
    /// A signal is meant for its task: its runner must not begin another.
    pub aimed_at: bool,
    /// It takes no more tasks, and has no runner longer than until its present one has ended.
    pub closed: bool,
    /// Its runner goes after the present task.
    pub worn: bool,
    /// When it had its last task; known only where slots may rest.
    pub ran: Option<Span>,
    /// Until when it takes nothing, so as not to end together with another (`stagger.rs`).
    pub rests: Option<Instant>,
    incarnation: u64,
}

/// The Python runner of a slot.
#[derive(Debug, Default)]
pub enum RunnerState {
    /// There is none, and none is wanted before this time.
    #[default]
    Absent,
    /// There will be one at this time.
    Waiting(Instant),
    /// Forked, not ready.
    Starting(PythonRunner),
    /// Can take a task.
    Ready(PythonRunner),
    /// Asked to go; its end is awaited.
    Retiring(PythonRunner),
    /// Dead while it had a task; what it said last is still being heard.
    Dying(PythonRunner),
}

impl RunnerState {
    /// The process, if there is one.
    pub fn process(&mut self) -> Option<&mut PythonRunner> {
        match self {
            RunnerState::Starting(runner)
            | RunnerState::Ready(runner)
            | RunnerState::Retiring(runner)
            | RunnerState::Dying(runner) => Some(runner),
            RunnerState::Absent | RunnerState::Waiting(_) => None,
        }
    }
}

impl RunnerState {
    /// The runner that was starting can take a task.
    pub fn started(&mut self) {
        *self = match std::mem::take(self) {
            RunnerState::Starting(runner) => RunnerState::Ready(runner),
            other => other,
        };
    }

    /// A ready runner is dead: it must not get another task before it is replaced.
    pub fn dies(&mut self) {
        *self = match std::mem::take(self) {
            RunnerState::Ready(runner) => RunnerState::Dying(runner),
            other => other,
        };
    }

    /// A ready runner takes no more tasks; its end is awaited. Any other is left as it is, and false returned.
    pub fn retire(&mut self) -> bool {
        let ready = matches!(self, RunnerState::Ready(_));
        *self = match std::mem::take(self) {
            RunnerState::Ready(runner) => RunnerState::Retiring(runner),
            other => other,
        };
        ready
    }

    /// A ready runner takes no more tasks, and ends when it has told the application so.
    pub fn dismiss(&mut self) {
        if self.retire()
            && let Some(runner) = self.process()
        {
            runner.retire();
        }
    }
}

impl Slot {
    /// A new number for the next runner of slot `index`.
    pub fn next_number(&mut self, index: usize) -> u64 {
        self.incarnation += 1;
        self.incarnation << SLOT_BITS | index as u64
    }

    /// Whether `number` is that of the present runner.
    pub fn is_current(&self, number: u64) -> bool {
        number >> SLOT_BITS == self.incarnation
    }

    /// Whether a task could start here now.
    pub fn is_free(&self, python: bool) -> bool {
        self.work.is_none()
            && !self.closed
            && self.rests.is_none()
            && (!python || matches!(self.runner, RunnerState::Ready(_)))
    }

    /// Whether its runner may begin a task without being told: not if it is to go, nor if it is to get a signal.
    pub fn may_take(&self) -> bool {
        matches!(self.runner, RunnerState::Ready(_)) && !self.aimed_at && !self.closed && !self.worn
    }

    /// When its next runner is to be started; a slot that will not run anything any more needs none.
    pub fn runner_due(&self, draining: bool) -> Option<Instant> {
        match self.runner {
            RunnerState::Waiting(until) if !(draining || self.closed) || self.work.is_some() => Some(until),
            _ => None,
        }
    }

    /// Whether its runner, where it needs one, has started.
    pub fn is_warm(&self, python: bool) -> bool {
        !python || self.closed || matches!(self.runner, RunnerState::Ready(_) | RunnerState::Retiring(_))
    }

    /// It is closed, and nothing runs here any more: nor does its runner, as soon as that can be told.
    pub fn empty(&mut self) {
        match &self.runner {
            RunnerState::Ready(runner) => {
                runner.retire();
                self.runner.retire();
            }
            RunnerState::Waiting(_) => self.runner = RunnerState::Absent,
            _ => {}
        }
    }

    /// It takes tasks again; where it has no runner, this is the state of its next one.
    pub fn reopen(&mut self, runner: RunnerState) {
        self.closed = false;
        if matches!(self.runner, RunnerState::Absent | RunnerState::Waiting(_)) {
            self.runner = runner;
        }
    }

    /// The runner is dead: when to start the next one.
    pub fn runner_died(&mut self, now: Instant) {
        let wait = match self.failures {
            0 => Duration::ZERO,
            failures => BACKOFF_MIN.saturating_mul(1 << failures.min(10)).min(BACKOFF_MAX),
        };
        self.failures += 1;
        (self.finished, self.worn, self.aimed_at) = (0, false, false);
        self.runner = RunnerState::Waiting(now + wait);
    }
}

/// Slot a runner's number belongs to.
pub fn slot_of(number: u64) -> usize {
    (number & ((1 << SLOT_BITS) - 1)) as usize
}
