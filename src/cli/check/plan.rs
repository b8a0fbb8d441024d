//! What `run` would run: by whom, how much at once, of which queues.

use super::super::host_name;
use crate::broker::{Finding, Grade};
use crate::config::{Config, show_duration, show_size};
use nix::unistd::{Uid, User};
use serde::Serialize;

/// The plan, as `--json` shows it.
#[derive(Serialize)]
pub(super) struct Plan {
    /// Who runs `check`, and so would run the daemon.
    pub(super) user: String,
    #[serde(skip)]
    root: bool,
    /// Worker processes.
    pub(super) processes: u32,
    /// Slots in each, the most.
    pub(super) concurrency: u32,
    /// Slots in each, the fewest.
    pub(super) min_concurrency: u32,
    /// Tasks at once, the most.
    pub(super) slots: u32,
    /// Names of the workers.
    pub(super) nodes: Vec<String>,
    /// What is consumed.
    pub(super) queues: Vec<String>,
    /// For messages without a user.
    pub(super) default_queue: String,
    /// Of the configuration; those of tasks are the application's.
    pub(super) limits: Limits,
}

/// Limits, as they would be written in the file.
#[derive(Serialize)]
pub(super) struct Limits {
    /// Running tasks have this long when the daemon stops.
    pub(super) drain_timeout: String,
    /// Then a message whose runner died is a dead letter.
    pub(super) max_deliveries: u32,
    /// A larger message is a dead letter.
    pub(super) max_message_size: String,
    /// A runner is replaced after so many tasks.
    pub(super) max_tasks_per_runner: Option<u32>,
    /// Longest time limit of a command task.
    pub(super) command_time_limit: Option<String>,
}

impl Plan {
    /// Of a configuration, for the user who asks.
    pub(super) fn new(config: &Config) -> Plan {
        let uid = Uid::effective();
        let user = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        let workers = &config.workers;
        let host = host_name();
        Plan {
            user,
            root: uid.is_root(),
            processes: workers.processes,
            concurrency: workers.concurrency.max,
            min_concurrency: workers.concurrency.min,
            slots: workers.processes * workers.concurrency.max,
            nodes: (1..=workers.processes).map(|number| workers.node_name(number, &host)).collect(),
            queues: config.queues.names.clone(),
            default_queue: config.queues.default.clone(),
            limits: Limits {
                drain_timeout: show_duration(workers.drain_timeout),
                max_deliveries: config.delivery.max_deliveries,
                max_message_size: show_size(config.delivery.max_message_size),
                max_tasks_per_runner: config.python.as_ref().and_then(|python| python.max_tasks_per_runner),
                command_time_limit: config.tasks.values().filter_map(|task| task.time_limit).max().map(show_duration),
            },
        }
    }

    /// What is to be known about it.
    pub(super) fn findings(&self) -> Option<Finding> {
        let text = "this was tried as root; the daemon should run as the user the application runs as, so try it as \
                    that user too: sudo -u USER fairstalk check"
            .to_owned();
        self.root.then_some(Finding { grade: Grade::Note, code: "root", text })
    }
}
