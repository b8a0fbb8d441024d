//! A task under way in one slot.

use crate::message::Message;
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
    /// Whose task it is, where that is known.
    pub tenant: Option<String>,
    /// Pid of what runs it, where that is known.
    pub pid: Option<u32>,
    /// When it was given to its runner.
    pub started: Instant,
    /// When `SoftTimeLimitExceeded` is raised in it.
    pub soft_limit: Option<Instant>,
    /// When it is killed, and the limit in seconds.
    pub hard_limit: Option<(Instant, f64)>,
    /// Most memory it may use, in bytes.
    pub memory_limit: Option<u64>,
    /// What it used when it was killed for that, in bytes.
    pub outgrown: Option<u64>,
    /// Lines it has written so far.
    pub lines: Cell<u64>,
    /// How far it is.
    pub phase: Phase,
}

impl Work {
    /// Its limits count: nothing has put an end to it yet.
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Python | Phase::Command(_))
    }
}

/// How far a task is.
#[derive(Debug)]
pub enum Phase {
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
    /// For the runner: `unregistered`, `expired`, `time-limit` or `lost`.
    pub why: &'static str,
    /// What the exception says.
    pub text: String,
    /// Entry of the dead letters, if the message goes there.
    pub dead: Option<String>,
    /// A runner has it.
    pub given: bool,
}

impl Record {
    /// The note for the runner.
    pub fn note(&self) -> String {
        serde_json::json!({"why": self.why, "text": self.text}).to_string()
    }
}
