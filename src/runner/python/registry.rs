//! What the zygote tells of the application.

use serde::Deserialize;
use std::collections::HashMap;

/// The application, as far as the daemon has to know it.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Registry {
    /// Celery's `timezone` setting: that of times without an offset.
    pub timezone: String,
    /// Database of the results if the worker writes them; none if Celery does.
    pub results_db: Option<i64>,
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
}
