//! From the options of a worker to what the configuration says.

use super::nodes::Node;
use super::options::{Fate, Key};
use crate::init::started::{Slots, Started};
use std::path::PathBuf;
use std::time::Duration;

/// What the options come to.
#[derive(Debug, Default)]
pub struct Settings {
    /// `-A`.
    pub app: Option<String>,
    /// `--workdir`.
    pub workdir: Option<PathBuf>,
    /// `-b`, password included.
    pub broker: Option<String>,
    /// `--uid`, `--gid` and `--umask`, as keys of the unit.
    pub unit: Vec<(&'static str, String)>,
    /// Options that stand for variables, passwords included.
    pub env: Vec<(&'static str, String)>,
    /// What goes into the file.
    pub started: Started,
}

/// Longest time limit of the configuration.
const LONGEST: f64 = 30.0 * 86_400.0;
/// Least memory of a runner that the configuration takes, in KiB.
const LEAST_MEMORY: u64 = 1024;
/// Most slots in a process, and most processes.
const MOST: u32 = 256;
const PROCESSES: u32 = 64;
/// A pool of threads of this size may well be one of processes.
const THREADS: u32 = 64;

impl Settings {
    /// Translates the options of a node, the last of each.
    pub fn of(node: &Node) -> Settings {
        let mut settings = Settings::default();
        for (at, given) in node.given.iter().enumerate() {
            let again = node.given[at + 1..].iter().any(|later| later.known == given.known);
            match (&given.known.fate, again) {
                (_, _) if given.known.valued && given.value.is_empty() => settings.open(&given.said, "has no value"),
                (_, true) => settings.note(&given.said, "it is given again behind it, and the last one counts"),
                (Fate::Needless(why), _) => settings.note(&given.said, &format!("not needed: {why}")),
                (Fate::Absent(why), _) => settings.note(&given.said, &format!("no counterpart: {why}")),
                (Fate::Taken(key), _) => settings.take(*key, &given.said, &given.value),
            }
        }
        settings.slots(node);
        if let Some(name) = &node.name {
            settings.name(&format!("the node {name}"), name);
        }
        let limits = (settings.started.soft_time_limit, settings.started.time_limit);
        if let (Some(soft), Some(hard)) = limits
            && soft >= hard
        {
            settings.started.soft_time_limit = None;
            settings.note("--soft-time-limit", "not taken: it is not shorter than --time-limit");
        }
        settings
    }

    fn note(&mut self, said: &str, why: &str) {
        self.started.notes.push(format!("{}: {why}", one_line(said)));
    }

    fn open(&mut self, said: &str, what: &str) {
        self.started.open.push(format!("{}: {what}", one_line(said)));
    }

    fn take(&mut self, key: Key, said: &str, value: &str) {
        match key {
            Key::App => self.app = Some(value.to_owned()),
            Key::Workdir => self.workdir = Some(PathBuf::from(value)),
            Key::Broker => {
                self.broker = Some(value.to_owned());
                self.variable("CELERY_BROKER_URL", said, value);
            }
            Key::ResultBackend => self.variable("CELERY_RESULT_BACKEND", said, value),
            Key::Loader => self.variable("CELERY_LOADER", said, value),
            Key::ConfigModule => self.variable("CELERY_CONFIG_MODULE", said, value),
            Key::SkipChecks => self.variable("CELERY_SKIP_CHECKS", said, "true"),
            Key::Hostname => self.name(said, value),
            Key::LogLevel => self.level(said, value),
            Key::TimeLimit => self.started.time_limit = self.limit(said, value),
            Key::SoftTimeLimit => self.started.soft_time_limit = self.limit(said, value),
            Key::MaxTasks => match value.parse() {
                Ok(0) => self.note(said, "0 is no limit"),
                Ok(most) => self.started.max_tasks = Some(most),
                Err(_) => self.open(said, "is not a number; see [python] max_tasks_per_runner"),
            },
            Key::MaxMemory => match value.parse() {
                Ok(0) => self.note(said, "0 is no limit"),
                Ok(kib) if kib >= LEAST_MEMORY => self.started.max_memory = Some(kib),
                _ => self.open(said, "is no number of KiB from 1024 on; see [python] max_memory_per_runner"),
            },
            Key::Queues => self.started.queues = names(value),
            Key::ExcludeQueues => self.started.excluded = names(value),
            Key::Uid => self.unit.push(("User", value.to_owned())),
            Key::Gid => self.unit.push(("Group", value.to_owned())),
            Key::Umask => self.unit.push(("UMask", value.to_owned())),
            Key::Beat => self.open(
                said,
                "no scheduler runs inside the worker. Run `celery beat` in a unit of its own, one for all hosts: docs/migrate.md",
            ),
            Key::Schedule | Key::Scheduler => self.note(said, "an option of `celery beat`, which is to run by itself now"),
            Key::Events => self.started.events = true,
            // With the number of slots.
            Key::Concurrency | Key::Pool | Key::Autoscale => {}
            // With the names of nodes.
            Key::Prefix | Key::Suffix | Key::RangePrefix => {}
        }
    }

    /// An option that Celery itself hands on as a variable. Values with a password stay out of the file.
    fn variable(&mut self, name: &'static str, said: &str, value: &str) {
        self.env.push((name, value.to_owned()));
        let secret = value.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
        if secret {
            let where_to =
                "holds a login, so it is not written here. Let the application find it in its settings, or put";
            self.open(said, &format!("{where_to} {name}=… into a file for EnvironmentFile="));
        } else {
            self.started.env.insert(name.to_owned(), value.to_owned());
        }
    }

    fn level(&mut self, said: &str, value: &str) {
        self.started.level = match value.to_ascii_uppercase().as_str() {
            "DEBUG" => Some("debug"),
            "INFO" => Some("info"),
            "WARNING" => Some("warning"),
            "ERROR" => Some("error"),
            "CRITICAL" | "FATAL" => {
                self.note(said, "the least there is, is level = \"error\"");
                Some("error")
            }
            _ => {
                self.open(said, "is no level of Celery's; see [log] level");
                None
            }
        };
    }

    /// Seconds, also with a fraction.
    fn limit(&mut self, said: &str, value: &str) -> Option<Duration> {
        match value.parse::<f64>() {
            Ok(0.0) => {
                self.note(said, "0 is no limit");
                None
            }
            Ok(seconds) if seconds > 0.0 && seconds <= LONGEST => {
                // Up to the next millisecond, the finest the configuration knows.
                Some(Duration::from_secs_f64((seconds * 1000.0).ceil() / 1000.0))
            }
            _ => {
                self.open(said, "is no number of seconds up to 30 days; see [python] time_limit");
                None
            }
        }
    }

    /// `-n`.
    fn name(&mut self, said: &str, value: &str) {
        let pattern = if value.contains('@') { value.to_owned() } else { format!("celery@{value}") };
        let mut letters = pattern.split('%').skip(1).map(|rest| rest.chars().next());
        let plain = !pattern.chars().any(|c| c == ',' || c.is_whitespace());
        if !plain || letters.any(|letter| !matches!(letter, Some('h' | 'n' | 'd' | 'i' | '%'))) {
            return self.open(said, "can't be a node name here; see [workers] name");
        }
        self.started.name = Some(pattern);
    }

    /// `-c`, `--autoscale` and `-P` together say how many tasks run at once.
    fn slots(&mut self, node: &Node) {
        let last = |key| node.given.iter().rfind(|given| given.known.fate == Fate::Taken(key));
        let pool = last(Key::Pool).map(|given| (given.said.clone(), given.value.clone()));
        let concurrency = last(Key::Concurrency);
        let mut wanted = concurrency.and_then(|given| given.value.parse().ok()).filter(|wanted| *wanted > 0);
        let mut why = concurrency.map(|given| given.said.clone()).unwrap_or_default();
        if let Some(given) = concurrency
            && wanted.is_none()
            && !["auto", "0"].contains(&given.value.as_str())
        {
            self.open(&given.said, "is no number; see [workers] concurrency");
        }
        let mut least = None;
        if let Some(given) = last(Key::Autoscale) {
            // As in Celery: one number or two, the larger one is the most.
            let bounds: Vec<u32> = given.value.split(',').filter_map(|bound| bound.trim().parse().ok()).collect();
            if let (Some(most @ 1..), 1..=2) = (bounds.iter().copied().max(), bounds.len()) {
                (wanted, why) = (Some(most), given.said.clone());
                least = Some(if bounds.len() == 2 { bounds.iter().copied().min().unwrap_or(1) } else { 1 });
            } else {
                self.open(&given.said, "is not MAX,MIN; see [workers] concurrency");
            }
        }
        match pool.as_ref().map(|(said, name)| (said.as_str(), name.as_str())) {
            Some((said, "gevent" | "eventlet")) => {
                let ask = "has no counterpart: each slot is a process. Choose [workers] processes and concurrency by the memory there is";
                self.open(said, ask);
                wanted = None;
                self.started.slots = Some(Slots {
                    why: "To be chosen; these are the defaults".to_owned(),
                    processes: Some(2),
                    concurrency: 4,
                    least: None,
                });
            }
            Some((said, "threads")) => {
                if wanted.is_some_and(|wanted| wanted > THREADS) {
                    self.open(
                        said,
                        "each slot is a process here, not a thread: look whether the memory suffices for so many",
                    );
                }
                self.note(said, "no counterpart: each slot is a process, so tasks share no memory");
            }
            Some((said, "solo")) => {
                self.note(said, "one slot; the task runs in a process of its own all the same");
                least = None;
                (wanted, why) = (Some(1), said.to_owned());
            }
            Some((said, "prefork" | "processes")) => self.note(said, "not needed: each slot is a process"),
            Some((said, _)) => self.open(said, "is a pool of the application's own, which can't be used here"),
            None => {}
        }
        self.started.slots = match (wanted, node.count) {
            (Some(wanted), 1) => {
                let slots = Slots::of(&why, wanted.min(MOST));
                // Of two processes each gets its half, but none begins without a slot.
                let least = least.map(|least| least.div_ceil(slots.processes.unwrap_or(1)));
                Some(Slots { least, ..slots })
            }
            (Some(wanted), count) => Some(Slots {
                why: format!("{why}, on each of {count} nodes"),
                processes: Some(count.min(PROCESSES)),
                concurrency: wanted.min(MOST),
                least,
            }),
            (None, 1) => self.started.slots.take(),
            (None, count) => {
                self.open(
                    &format!("{count} nodes"),
                    "each had as many slots as there are CPUs; choose [workers] concurrency",
                );
                let why = "As many processes as there were nodes".to_owned();
                Some(Slots { why, processes: Some(count.min(PROCESSES)), concurrency: 1, least: None })
            }
        };
        if wanted.is_some_and(|wanted| wanted > MOST) || node.count > PROCESSES {
            self.open(&why, "is more than there can be: 256 slots in each of 64 processes");
        }
    }
}

fn names(value: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Text for a comment: nothing in it ends the line.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
