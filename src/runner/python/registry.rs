//! What the zygote tells of the application.

use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;

/// The application, as far as the daemon has to know it.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Registry {
    /// Celery's `timezone` setting: that of times without an offset.
    pub timezone: String,
    /// `TZ` of its process: Django sets it.
    pub tz: Option<String>,
    /// Celery's `worker_send_task_events`.
    pub send_task_events: bool,
    /// Celery's `event_exchange`.
    pub event_exchange: String,
    /// Hard limit of tasks that have none of their own, in seconds.
    #[serde(default)]
    pub time_limit: Option<f64>,
    /// Soft limit likewise.
    #[serde(default)]
    pub soft_time_limit: Option<f64>,
    /// Commands of remote control that the application brings along, or answers in another way than Celery.
    #[serde(default)]
    pub commands: Vec<String>,
    /// What Celery answers to commands of remote control that are asked often, without arguments.
    #[serde(default)]
    pub answers: HashMap<String, Value>,
    /// Database of the results if the worker writes them; none if Celery does.
    pub results_db: Option<i64>,
    /// What stands before `celery-task-meta-` in the keys of the results; none if the worker doesn't write them.
    pub results_prefix: Option<String>,
    /// Registered tasks, Celery's own too.
    pub tasks: HashMap<String, TaskInfo>,
}

/// One registered task.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct TaskInfo {
    /// Positional parameters, without the `self` of a bound task.
    pub parameters: Vec<String>,
    /// Hard limit in seconds.
    pub time_limit: Option<f64>,
    /// Soft limit in seconds.
    pub soft_time_limit: Option<f64>,
    /// Most starts a second, over all workers.
    pub rate_limit: Option<f64>,
    /// Monitors may be told of it.
    pub send_events: bool,
    /// Its messages are acknowledged when it has ended, not before it starts.
    pub acks_late: bool,
    /// With `acks_late`: a failure is acknowledged; else it is rejected.
    pub acks_on_failure: bool,
    /// With `acks_late`: the end by the hard limit is acknowledged; else the message is queued again.
    pub acks_on_timeout: bool,
    /// With `acks_late`: the message is queued again when its process has died.
    pub reject_on_worker_lost: bool,
}
