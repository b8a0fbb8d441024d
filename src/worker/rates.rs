//! Tasks whose rate is limited: as `[tasks]` says, as the application does, or as remote control has said since.
//!
//! The limits are kept by the scripts, for the whole fleet; the worker says which there are, and puts messages of these
//! tasks into lanes of their own.

use super::engine::Engine;
use super::exchange::Trouble;
use crate::broker::bars::limit_tasks;
use crate::celery::python::quoted;
use crate::celery::request::Arguments;
use crate::config::{Config, parse_rate};
use crate::runner::python::Registry;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// The limits as this worker knows them.
#[derive(Debug, Default)]
pub struct Rates {
    /// Starts a second; 0: no limit.
    configured: BTreeMap<String, f64>,
    /// By remote control; it goes before all else, until the worker ends.
    said: HashMap<String, f64>,
    /// Least time between two starts of each limited task, milliseconds.
    intervals: BTreeMap<Rc<str>, f64>,
    /// Redis knows them.
    told: bool,
}

impl Rates {
    /// As configured.
    pub fn new(config: &Config) -> Rates {
        let mut rates = Rates { configured: config.rate_limits.clone(), ..Rates::default() };
        rates.learn(None);
        rates
    }

    /// Takes note of what the tasks of the application say of themselves.
    pub(super) fn learn(&mut self, registry: Option<&Registry>) {
        let own = registry.into_iter().flat_map(|registry| &registry.tasks);
        let own = own.filter_map(|(task, info)| Some((task, info.rate_limit?)));
        let mut rates: HashMap<&String, f64> = own.collect();
        rates.extend(self.configured.iter().map(|(task, rate)| (task, *rate)));
        rates.extend(self.said.iter().map(|(task, rate)| (task, *rate)));
        // Such a name can't stand in the name of a lane, and nobody gives it to a task.
        let sound = |task: &str| !task.contains(['\0', '\u{1f}']);
        let limited = rates.into_iter().filter(|(task, rate)| *rate > 0.0 && sound(task));
        self.intervals = limited.map(|(task, rate)| (task.as_str().into(), 1000.0 / rate)).collect();
        self.told = false;
    }

    /// Another connection: Redis may have forgotten.
    pub(super) fn forget(&mut self) {
        self.told = false;
    }

    /// The task, if its rate is limited.
    pub(super) fn limited(&self, task: &str) -> Option<Rc<str>> {
        self.intervals.get_key_value(task).map(|(task, _)| Rc::clone(task))
    }
}

impl Engine {
    /// Has Redis know the limits before anything is claimed or filed by them.
    pub(super) async fn tell_rates(&mut self) -> Result<(), Trouble> {
        if self.rates.told || self.python() && self.registry.is_none() || !self.exchange.is_connected() {
            return Ok(());
        }
        let Some(connection) = &mut self.exchange.connection else { return Ok(()) };
        limit_tasks(connection, &self.exchange.keys, &self.rates.intervals).await?;
        self.rates.told = true;
        Ok(())
    }
}

/// Celery's `rate_limit` (`celery/worker/control.py`), with its answers; here the rate is that of the whole fleet.
pub(super) fn set_rate(engine: &mut Engine, arguments: &Arguments) -> Result<Value, String> {
    let task = arguments.get("task_name").and_then(Value::as_str).unwrap_or_default();
    let text = match arguments.get("rate_limit") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let Some(rate) = parse_rate(if text.is_empty() { "0" } else { &text }) else {
        let (number, unit) = text.split_once('/').unwrap_or((&text, "s"));
        if number.trim().parse::<f64>().is_ok_and(|number| number.is_finite()) && !["", "s", "m", "h"].contains(&unit) {
            return Err(format!("KeyError({})", quoted(unit)));
        }
        let cause = format!("could not convert string to float: {}", quoted(number));
        return Ok(json!({"error": format!("Invalid rate limit string: ValueError(\"{cause}\")")}));
    };
    let registered = engine.registry.as_ref().is_some_and(|registry| registry.tasks.contains_key(task));
    if !registered && !engine.start.config.tasks.contains_key(task) {
        tracing::error!("remote control: a rate limit for {task:?}, which nobody knows");
        return Ok(json!({"error": "unknown task"}));
    }
    engine.rates.said.insert(task.to_owned(), rate);
    engine.rates.learn(engine.registry.as_ref());
    let (done, shown) = if rate > 0.0 {
        ("new rate limit set successfully", &*text)
    } else {
        ("rate limit disabled successfully", "none")
    };
    tracing::info!("remote control: rate limit of {task} over all workers: {shown}");
    Ok(json!({"ok": done}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Surroundings, parse};
    use crate::runner::python::TaskInfo;

    #[test]
    fn remote_control_goes_before_the_file_and_that_before_the_task() {
        let surroundings = Surroundings { environment: Default::default(), cores: 1 };
        let text = "[python]\napp = \"a\"\n[tasks.b]\nrate_limit = \"2/s\"\n[tasks.c]\nrate_limit = 4";
        let mut rates = Rates::new(&parse(text, std::path::Path::new("/f"), &surroundings).unwrap());
        let info = |rate| TaskInfo { rate_limit: rate, ..TaskInfo::default() };
        let tasks = [("a", Some(1.0)), ("b", Some(8.0)), ("c", None), ("d", None)];
        let tasks = tasks.map(|(task, rate)| (task.to_owned(), info(rate))).into();
        let registry = Registry { tasks, ..Registry::default() };
        rates.said.insert("c".into(), 0.0);
        rates.learn(Some(&registry));
        let expected = BTreeMap::from([("a".into(), 1000.0), ("b".into(), 500.0)]);
        assert_eq!(rates.intervals, expected);
        assert!(rates.limited("b").is_some() && rates.limited("c").is_none() && !rates.told);
    }
}
