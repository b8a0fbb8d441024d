//! What a new configuration changes, and what that takes. Pure.

use crate::config::Config;
use serde_json::{Map, Value};

/// Keys only the supervisor reads, and orders carry: a change is in force at once, nobody is replaced for it.
const LIVE: [&str; 6] = [
    "workers.processes",
    "workers.drain_timeout",
    "workers.liveness_timeout",
    "workers.reload_timeout",
    "workers.restart_min",
    "workers.restart_max",
];

/// What a reload leaves as it is: the supervisor's own log has its form since the start.
const RESTART: &str = "log.format";

/// A configuration that is to take the place of another.
#[derive(Debug)]
pub struct Change {
    /// The new one, with the old values of what can't be changed.
    pub config: Config,
    /// Keys with another value than before, as `workers.concurrency`.
    pub keys: Vec<String>,
    /// Whether workers have to be replaced for it.
    pub replace: bool,
    /// What can't be changed, in words.
    pub notes: Vec<String>,
}

/// Compares. An application is always imported again: its code may be another, which no key says.
pub fn between(old: &Config, mut new: Config) -> Change {
    let mut notes = Vec::new();
    if new.log.format != old.log.format {
        new.log.format = old.log.format;
        notes.push(format!("{RESTART} stays as it is until the daemon is started again"));
    }
    let keys = differing(old, &new);
    let replace = new.python.is_some() || keys.iter().any(|key| !LIVE.contains(&key.as_str()));
    Change { config: new, keys, replace, notes }
}

/// Names only: values may be secret.
fn differing(old: &Config, new: &Config) -> Vec<String> {
    let (old, new) = (table(serde_json::to_value(old).ok()), table(serde_json::to_value(new).ok()));
    let mut keys = Vec::new();
    for (section, new) in new {
        let (old, new) = (table(old.get(&section).cloned()), table(Some(new)));
        let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let changed = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
        keys.extend(changed.map(|name| format!("{section}.{name}")));
    }
    keys
}

/// A section that is not there has no keys.
fn table(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(table)) => table,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Surroundings, parse};

    fn config(text: &str) -> Config {
        let surroundings = Surroundings { environment: Environment::default(), cores: 1 };
        parse(text, std::path::Path::new("/x.toml"), &surroundings).unwrap()
    }

    #[test]
    fn what_a_change_takes() {
        let task = |command: &str| format!("[tasks.\"a.b\"]\ncommand = [\"{command}\"]");
        let table: [(&str, &str, &[&str], bool); 7] = [
            ("", "", &[], false),
            (
                "",
                "[workers]\nprocesses = 3\ndrain_timeout = \"5s\"",
                &["workers.drain_timeout", "workers.processes"],
                false,
            ),
            ("", "[workers]\nconcurrency = 9", &["workers.concurrency"], true),
            ("[log]\nlevel = \"debug\"", "", &["log.level"], true),
            (&task("/a"), &task("/b"), &["tasks.a.b"], true),
            ("", &task("/b"), &["tasks.a.b"], true),
            ("[python]\napp = \"a\"", "[python]\napp = \"a\"", &[], true),
        ];
        for (old, new, keys, replace) in table {
            let change = between(&config(old), config(new));
            assert_eq!((change.keys, change.replace), (keys.iter().map(|k| k.to_string()).collect(), replace), "{new}");
            assert!(change.notes.is_empty() && change.config == config(new));
        }
    }

    #[test]
    fn the_form_of_the_log_stays_and_that_is_said() {
        let change = between(&config(""), config("[log]\nformat = \"json\""));
        assert_eq!((change.config, change.replace, change.keys.len()), (config(""), false, 0));
        assert_eq!(change.notes, ["log.format stays as it is until the daemon is started again"]);
    }

    #[test]
    fn every_live_key_exists() {
        for key in LIVE.iter().chain([&RESTART]) {
            let (section, name) = key.split_once('.').unwrap();
            let known = crate::config::SECTIONS.iter().find(|(known, _)| *known == section).unwrap().1;
            assert!(known.contains(&name), "{key}");
        }
    }
}
