//! What keeps messages of whole queues or tasks from being claimed: pauses of queues, and rates of tasks.

use super::script::{call, script};
use super::{BrokerError, Connection, Keys};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What there is of it in a fleet.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Bars {
    /// Queues that are paused.
    pub queues: BTreeSet<String>,
    /// Tasks whose rate is limited.
    pub tasks: BTreeMap<String, TaskRate>,
}

/// The limited rate of a task.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TaskRate {
    /// Least time between two starts over the whole fleet, milliseconds.
    pub interval: f64,
    /// When the next may be, milliseconds since 1970.
    pub not_before: f64,
}

/// All of it.
///
/// # Errors
/// [`BrokerError`].
pub async fn bars(connection: &mut Connection, keys: &Keys) -> Result<Bars, BrokerError> {
    let mut all = redis::cmd("HGETALL");
    all.arg(keys.bars());
    let kept: Vec<(String, String)> = connection.query(&all).await?;
    let mut bars = Bars::default();
    for (name, value) in kept {
        if let Some(queue) = name.strip_prefix("queue:") {
            bars.queues.insert(queue.to_owned());
        } else if let Some(task) = name.strip_prefix("task:")
            && let Some((interval, not_before)) = value.split_once(' ')
            && let (Ok(interval), Ok(not_before)) = (interval.parse(), not_before.parse())
        {
            bars.tasks.insert(task.to_owned(), TaskRate { interval, not_before });
        }
    }
    Ok(bars)
}

/// Says which tasks have a limited rate, with the least time between two starts in milliseconds. It holds for the whole
/// fleet; limits that were said before are forgotten, but not when a task may start next.
///
/// # Errors
/// [`BrokerError`].
pub async fn limit_tasks(
    connection: &mut Connection,
    keys: &Keys,
    intervals: &BTreeMap<Rc<str>, f64>,
) -> Result<(), BrokerError> {
    let script = script!("scripts/rates.lua");
    let mut invocation = call(&script, keys, "");
    for (task, interval) in intervals {
        invocation.arg(&**task).arg(interval);
    }
    let mut redis = connection.redis.clone();
    connection.sorted(invocation.invoke_async(&mut redis)).await
}
