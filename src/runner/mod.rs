//! Runs one task: in a Python process through Celery's tracer, as a command, or right here where it is built in.

pub mod builtin;
pub mod command;
mod leash;
pub mod python;

use crate::broker::Store;
use serde_json::{Value, json};
use std::time::Duration;

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It returned.
    Success,
    /// It failed for good.
    Failure,
    /// It will be tried again; the message of the next attempt is already under way.
    Retry,
    /// It raised `Ignore`.
    Ignored,
    /// It raised `Reject(requeue=False)`.
    Rejected,
    /// It raised `Reject(requeue=True)`.
    Requeued,
    /// It was never run: Python could not read the message.
    Refused,
}

impl Outcome {
    /// Word for logs and `OUTCOME=`.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Success => "succeeded",
            Outcome::Failure => "failed",
            Outcome::Retry => "to be retried",
            Outcome::Ignored => "ignored",
            Outcome::Rejected => "rejected",
            Outcome::Requeued => "requeued",
            Outcome::Refused => "refused",
        }
    }
}

/// The end of a task.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// How long it ran.
    pub runtime: Duration,
    /// Results to store before the message is acknowledged.
    pub stores: Vec<Store>,
    /// What the log wants to know.
    pub detail: Detail,
}

/// What there is to say of an end other than success.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Detail {
    /// `repr()` of the value, where it was asked for.
    pub result: Option<String>,
    /// `repr()` of the exception, or what the command said.
    pub exception: String,
    /// Traceback, or the end of the command's standard error.
    pub traceback: Option<String>,
    /// The exception is one of the task's `throws`: no error to the operator.
    pub expected: bool,
    /// When the next attempt is due, in words.
    pub when: Option<String>,
}

/// An exception as Celery's JSON form of it: Python imports `module` and calls `kind(*arguments)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Exception {
    /// Class name.
    pub kind: &'static str,
    /// Module it is imported from.
    pub module: &'static str,
    /// Arguments.
    pub arguments: Value,
}

/// What a caller gets whose task was lost with the process that ran it.
pub fn worker_lost(text: &str) -> Exception {
    Exception { kind: "WorkerLostError", module: "billiard.exceptions", arguments: json!([text]) }
}

impl Exception {
    /// JSON of it, as it stands in a stored result.
    pub fn to_json(&self) -> String {
        json!({"exc_type": self.kind, "exc_message": self.arguments, "exc_module": self.module}).to_string()
    }
}

/// What a runner says while it works.
#[derive(Debug)]
pub enum Said {
    /// It can take a task.
    Ready,
    /// The task has ended.
    Ended(Ended),
    /// A state to store at once (`update_state`, STARTED).
    Store(Store),
    /// A record of Python's logging.
    Log {
        /// Python's numeric level.
        level: u32,
        /// Name of the logger.
        logger: String,
        /// The formatted record.
        text: String,
    },
    /// A line written to standard output or error.
    Output(String),
    /// The channel has ended: the process is dead or about to be.
    Closed,
}
