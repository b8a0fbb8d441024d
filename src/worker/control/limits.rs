//! Time limits that were set while the worker runs. As with Celery each worker keeps its own, until it ends.

use super::super::engine::Engine;
use super::{Answer, Asked, Outcome};
use serde_json::json;

/// The limits of one task, in seconds, in place of those it was written with.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    hard: Option<f64>,
    soft: Option<f64>,
}

pub(super) fn time_limit(engine: &mut Engine, asked: &Asked) -> Answer {
    set(engine, asked).into()
}

fn set(engine: &mut Engine, asked: &Asked) -> Outcome {
    let (task, hard, soft) = (asked.text("task_name")?, asked.number("hard")?, asked.number("soft")?);
    let known = engine.registry.as_ref().is_some_and(|registry| registry.tasks.contains_key(task));
    if !known && !engine.start.config.tasks.contains_key(task) {
        return Ok(json!({"error": "unknown task"}));
    }
    tracing::info!("new time limits for tasks of type {task}: soft {soft:?}, hard {hard:?}");
    let given = |limit: &f64| *limit > 0.0;
    let limits = Limits { hard: hard.filter(given), soft: soft.filter(given) };
    engine.remote.limits.insert(task.to_owned(), limits);
    Ok(json!({"ok": "time limits set successfully"}))
}

impl Engine {
    /// Hard and soft limit of a task where its message has none: that which was set by remote control, or else its
    /// own; where there is none, the application's.
    pub(in crate::worker) fn limits_of(&self, task: &str) -> (Option<f64>, Option<f64>) {
        let registry = self.registry.as_ref();
        let all = registry.map_or((None, None), |registry| (registry.time_limit, registry.soft_time_limit));
        let info = registry.and_then(|registry| registry.tasks.get(task));
        let own = info.map_or((None, None), |info| (info.time_limit, info.soft_time_limit));
        let (hard, soft) = self.remote.limits.get(task).map_or(own, |set| (set.hard, set.soft));
        (hard.or(all.0), soft.or(all.1))
    }

    /// The limit of a command that was set by remote control; none if none was.
    pub(in crate::worker) fn limit_of_command(&self, task: &str) -> Option<Option<f64>> {
        self.remote.limits.get(task).map(|set| set.hard)
    }
}
