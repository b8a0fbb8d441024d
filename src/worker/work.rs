//! A task under way in one slot.

use super::rules::Rules;
use super::tail::Tail;
use crate::broker::{Action, Settlement};
use crate::fairness::flow;
use crate::message::Message;
use crate::message::body::Arguments;
use crate::runner::command::RunningCommand;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

/// A claimed message from its claim to its settlement.
#[derive(Debug)]
pub struct Work {
    /// Number of the claim.
    pub sequence: u64,
    /// List it came from.
    pub list: Rc<str>,
    /// Its queue.
    pub queue: Rc<str>,
    /// The message.
    pub message: Message,
    /// Whose task it is.
    pub flow: Rc<str>,
    /// Pid of what runs it, where that is known.
    pub pid: Option<u32>,
    /// When it was given to its runner.
    pub started: Instant,
    /// It was claimed before a slot was free, so it is not known to the microsecond when it started.
    pub ahead: bool,
    /// When `SoftTimeLimitExceeded` is raised in it.
    pub soft_limit: Option<Instant>,
    /// When it is killed, and the limit in seconds.
    pub hard_limit: Option<(Instant, f64)>,
    /// An operator wants it to end.
    pub terminated: Option<Terminated>,
    /// Most memory it may use, in bytes.
    pub memory_limit: Option<u64>,
    /// What it used when it was killed for that, in bytes.
    pub outgrown: Option<u64>,
    /// Lines it has written so far.
    pub lines: Cell<u64>,
    /// When it is acknowledged, and what becomes of it if it doesn't simply end.
    pub rules: Rules,
    /// Monitors may be told of it.
    pub events: bool,
    /// Redis has noted that it was started for good: it never goes back.
    pub noted: bool,
    /// The last lines it said.
    pub tail: Tail,
    /// How far it is.
    pub phase: Phase,
}

impl Work {
    /// Whose task it is, where that is known.
    pub fn tenant(&self) -> Option<&str> {
        flow::tenant_of(&self.flow)
    }

    /// Milliseconds since it was given to its runner.
    pub fn ran(&self) -> f64 {
        self.started.elapsed().as_secs_f64() * 1000.0
    }

    /// A settlement of it, without results.
    pub fn settlement(&self, action: Action) -> Settlement {
        Settlement::new(self.sequence, Rc::clone(&self.flow), Some(self.ran()), action)
    }

    /// Something is to be done about it now, if it still runs.
    pub fn is_over(&self, now: Instant) -> bool {
        self.soft_limit.is_some_and(|limit| now >= limit)
            || self.hard_limit.is_some_and(|(limit, _)| now >= limit)
            || self.terminated.is_some_and(|terminated| now >= terminated.kill_at)
    }

    /// Its limits count: nothing has put an end to it yet.
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Python | Phase::Command(_))
    }
}

/// A task that was revoked while it ran.
#[derive(Debug, Clone, Copy)]
pub struct Terminated {
    /// The signal it got.
    pub signal: i32,
    /// When it is killed, if it has not ended until then; out of reach once it was.
    pub kill_at: Instant,
}

/// How far a task is.
#[derive(Debug)]
pub enum Phase {
    /// It is delivered at most once, and does not start before Redis has noted it. A command has its arguments ready.
    Noting(Option<Arguments>),
    /// A Python runner runs it.
    Python,
    /// A command runs it.
    Command(RunningCommand),
    /// A Python runner records its end, or will as soon as there is one.
    Recording(Record),
    /// Its runner was killed so that it can be handed back.
    Stopping,
}

/// An end that Celery has to be told because the task itself can't.
#[derive(Debug)]
pub struct Record {
    /// For the runner: `unregistered`, `expired`, `revoked`, `terminated`, `time-limit` or `lost`.
    pub why: &'static str,
    /// What the exception says.
    pub text: String,
    /// What becomes of the message then.
    pub then: Then,
    /// A runner has it.
    pub given: bool,
}

/// What becomes of a message whose end is recorded.
#[derive(Debug)]
pub enum Then {
    /// It is acknowledged.
    Ack,
    /// To the end of its list: it is tried again.
    Again,
    /// To the dead letters, with this entry.
    Dead(String),
}

impl Record {
    /// The note for the runner.
    pub fn note(&self) -> String {
        serde_json::json!({"why": self.why, "text": self.text}).to_string()
    }
}
