//! What the supervisor, its workers and the Python zygote say to each other.
//!
//! Each child has one stream socket to the supervisor as its standard input: one JSON object a line,
//! in both directions. End of file on it means that the other side is gone, so nobody outlives the
//! supervisor, and the supervisor needs no Redis to know how its workers are.

pub mod control;

use crate::config::Config;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Process exit codes, shared by every command and process of the daemon (numbers from sysexits.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Exit {
    /// Fine; for the daemon: everything that ran has finished.
    Ok = 0,
    /// The command line was wrong (EX_USAGE).
    Usage = 64,
    /// Redis, or the daemon that is to be told something, can't be reached (EX_UNAVAILABLE).
    Unavailable = 69,
    /// A defect of fairstalk itself (EX_SOFTWARE).
    Internal = 70,
    /// The drain deadline passed and running work was handed back (EX_TEMPFAIL).
    HandedBack = 75,
    /// The configuration, the credentials or the application can't be used (EX_CONFIG).
    Config = 78,
}

impl Exit {
    /// The number given to `exit(2)`.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Supervisor to worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Always the first: everything the worker needs to begin.
    Start(Box<Start>),
    /// Claim nothing more, let what runs finish for at most this long, hand back the rest, exit.
    Drain {
        /// Milliseconds from receipt.
        within_ms: u64,
        /// Others of this daemon go on, on the same Redis: it need not make sure that it isn't the last one.
        replaced: bool,
        /// Another worker has its name from now on, on the same Redis: it speaks for that name no more.
        succeeded: bool,
    },
    /// Hand back everything now and exit.
    HandBack,
    /// Claim nothing more until [`Order::Resume`]; what runs goes on.
    Pause,
    /// Claim again.
    Resume,
    /// These owners' processes are dead: put their claims back at once.
    Recover {
        /// Owner names, as in [`Start::owner`].
        owners: Vec<String>,
    },
}

/// What a worker needs to begin.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// The validated configuration: the worker never reads the file itself, so a file edited meanwhile changes nothing.
    pub config: Config,
    /// Number of the worker, from 1.
    pub worker: u32,
    /// Name under which it holds claims in Redis; new for every process, never reused.
    pub owner: String,
    /// Node name, as Flower and `celery inspect` see it.
    pub node: String,
    /// Abstract socket name (without the leading NUL) of the zygote, if there is a `[python]` section.
    pub zygote: Option<Vec<u8>>,
    /// Folder in which the worker may make cgroups for what it runs.
    pub cgroup: Option<PathBuf>,
    /// Owners known to be dead whose claims to put back before the first claim.
    pub recover: Vec<String>,
}

/// Worker to supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum Report {
    /// Alive, but can't work yet or for now; the reason is fit for `STATUS=`.
    Waiting {
        /// For instance `Redis at 127.0.0.1:6379: connection refused`.
        reason: String,
    },
    /// Redis answered, the runners are warm, the first claim pass is done. Sent again after a [`Report::Waiting`] is over.
    Ready,
    /// Sign of life, sent by the runtime that does the work.
    Beat(Beat),
    /// Somebody has asked all workers to stop, by Celery's remote control: the daemon is to stop as by TERM.
    Stop,
    /// The worker can't go on and exits with this code; before the first READY 64 and 78 stop the daemon.
    Failed {
        /// Exit code to come.
        exit: Exit,
        /// What is wrong and what to do about it.
        message: String,
    },
}

/// Figures of one worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    /// Slots that run a task.
    pub busy: u32,
    /// Slots in all.
    pub slots: u32,
    /// Messages waiting in all queues of the broker, delayed ones not counted.
    pub waiting: u64,
    /// Tasks settled since the worker started, whatever the outcome.
    pub done: u64,
    /// Of these: failed for good.
    pub failed: u64,
    /// Of these: to be tried again.
    pub retried: u64,
    /// Tenants that have messages waiting, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<u64>,
}

/// A worker sends [`Report::Beat`] at least as often.
pub const BEAT_EVERY: std::time::Duration = std::time::Duration::from_millis(1250);

/// Supervisor to zygote, after the line it begins with. The application may listen to either.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum ZygoteOrder {
    /// The workers it serves are ready.
    Ready,
    /// The daemon stops: what runs may finish. The end of the channel follows when nothing does any more.
    Stopping,
}

/// Zygote to supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZygoteReport {
    /// The application is imported; runners can be forked.
    Ready {
        /// Registered tasks, Celery's own not counted.
        tasks: u32,
        /// Milliseconds the import took.
        import_ms: u64,
        /// What in the application doesn't fit the configuration.
        #[serde(default)]
        warnings: Vec<String>,
    },
    /// The application can't be imported; exit code 78 follows.
    Failed {
        /// Python traceback.
        message: String,
    },
}
