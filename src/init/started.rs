//! How a stock worker is started: what its command line says beyond the application's own settings, and before them.

use super::render::{list, quoted};
use crate::config::show_duration;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a command line sets. What it doesn't set, the application decides, else the default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Started {
    /// `-Q`; empty if it is not given.
    pub queues: Vec<String>,
    /// `-X`.
    pub excluded: Vec<String>,
    /// How many tasks at once.
    pub slots: Option<Slots>,
    /// Pattern for `[workers] name`.
    pub name: Option<String>,
    /// How long running tasks get at a stop.
    pub drain_timeout: Option<Duration>,
    /// Variables that stand for options.
    pub env: BTreeMap<String, String>,
    /// `-E`.
    pub events: bool,
    /// `--max-tasks-per-child`.
    pub max_tasks: Option<u32>,
    /// `--max-memory-per-child`, in KiB.
    pub max_memory: Option<u64>,
    /// `--time-limit`.
    pub time_limit: Option<Duration>,
    /// `--soft-time-limit`.
    pub soft_time_limit: Option<Duration>,
    /// `[log] level`.
    pub level: Option<&'static str>,
    /// What only a human can decide.
    pub open: Vec<String>,
    /// Each option that the file does not stand for, and why.
    pub notes: Vec<String>,
}

/// `[workers] processes` and `concurrency`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    /// What says so.
    pub why: String,
    /// None is `"auto"`: one for each core.
    pub processes: Option<u32>,
    /// In each process.
    pub concurrency: u32,
    /// The fewest in each process, where their number goes by what waits.
    pub least: Option<u32>,
}

impl Slots {
    /// So many tasks at once, in two processes where that comes out even.
    pub fn of(why: &str, wanted: u32) -> Slots {
        let halves = wanted >= 4 && wanted.is_multiple_of(2);
        let (why, processes, each) =
            if halves { (format!("{why}, in two processes"), 2, wanted / 2) } else { (why.to_owned(), 1, wanted) };
        Slots { why, processes: Some(processes), concurrency: each, least: None }
    }

    /// `[workers] concurrency` as it is written.
    pub(super) fn written(&self) -> String {
        const MOST: u32 = 256;
        let most = self.concurrency.min(MOST);
        match self.least.map(|least| least.clamp(1, MOST)).filter(|least| *least < most) {
            Some(least) => format!("{{ min = {least}, max = {most} }}"),
            None => most.to_string(),
        }
    }
}

impl Started {
    /// The keys of `[python]` that limit tasks and runners.
    pub(super) fn limits(&self) -> String {
        let mut text = String::new();
        let mut key = |name: &str, why: &str, value: String| text.push_str(&format!("# {why}.\n{name} = {value}\n"));
        if let Some(most) = self.max_tasks {
            key("max_tasks_per_runner", "--max-tasks-per-child", most.to_string());
        }
        if let Some(most) = self.max_memory {
            let why = "--max-memory-per-child. What a runner shares with the others counts too, as under Celery";
            key("max_memory_per_runner", why, quoted(&format!("{most}KiB")));
        }
        let limits = [
            ("time_limit", "--time-limit", self.time_limit),
            ("soft_time_limit", "--soft-time-limit", self.soft_time_limit),
        ];
        for (name, why, limit) in limits {
            if let Some(limit) = limit {
                key(name, why, quoted(&show_duration(limit)));
            }
        }
        text
    }

    /// `-Q`, as a comment.
    pub(super) fn said_queues(&self) -> String {
        match (self.queues.is_empty(), self.excluded.is_empty()) {
            (false, _) => "# Those of `celery worker -Q`.\n".to_owned(),
            (true, true) => "# What a worker without -Q consumes: task_queues, else the default queue.\n".to_owned(),
            (true, false) => {
                format!("# What a worker without -Q consumes, without those of -X: {}.\n", list(&self.excluded))
            }
        }
    }
}
