//! The validated configuration. How it is read, checked and overridden is in [`load()`].
//!
//! The shape of the file and the types here are different things on purpose: only validated values leave
//! this folder, so that nobody further down has to ask again whether a number is in its range.

mod broker;
mod credentials;
mod environment;
mod keys;
mod load;
mod problem;
mod queues;
mod reader;
mod redis_url;
mod secure;
mod sentinel;
mod tasks;
mod tenancy;
mod units;
mod workers;
mod written;

pub use environment::Environment;
pub use keys::{SECTIONS, variable};
pub use load::{Surroundings, load, load_queues, parse, parse_queues};
pub use problem::{Problem, Problems};
pub use redis_url::without_password;
pub use sentinel::Sentinel;
pub use units::{parse_duration, parse_rate, show_duration, show_size};
pub use workers::{CONCURRENCY, Concurrency};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Everything fairstalk can be told. Only [`load()`] makes one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// `[broker]`
    pub broker: Broker,
    /// `[queues]`
    pub queues: Queues,
    /// `[workers]`
    pub workers: Workers,
    /// `[python]`: absent when only command tasks run.
    pub python: Option<Python>,
    /// `[tenancy]`
    pub tenancy: Tenancy,
    /// `[results]`
    pub results: Results,
    /// `[delivery]`
    pub delivery: Delivery,
    /// `[tasks."name"]`
    pub tasks: BTreeMap<String, CommandTask>,
    /// `memory_limit` of each `[tasks."name"]` without a command: of Python tasks that need another one than all.
    pub memory_limits: BTreeMap<String, u64>,
    /// `rate_limit` of each `[tasks."name"]`: most starts a second over the whole fleet.
    pub rate_limits: BTreeMap<String, f64>,
    /// `[log]`
    pub log: Log,
}

/// `[broker]`: where the queues are.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Broker {
    /// `redis://[user:password@]host[:port][/db]`, the same with `rediss://` and `ssl_…` parameters, or
    /// `unix:///path[?db=n]`, or `sentinel://…;sentinel://…`; the password from `password_file` is already in it.
    pub url: String,
    /// How the connection is secured, with `rediss://`; the files have been found and looked at.
    pub tls: Option<crate::tls::Tls>,
    /// Who knows where the server is, with `sentinel://`.
    pub sentinel: Option<Sentinel>,
    /// Kombu's `global_keyprefix`; empty by default.
    pub key_prefix: String,
    /// How long to wait for a connection or a reply before it counts as lost; default 5 s.
    pub timeout: Duration,
    /// `visibility_timeout` of the application: what a stock worker has held for longer is taken for lost; default 1 h.
    pub visibility_timeout: Duration,
}

/// `[queues]`: what is consumed, in the order of the queue number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Queues {
    /// All queue names.
    pub names: Vec<String>,
    /// Set when the names are `prefix` + number: a user's queue is then `md5(user) % count`.
    pub prefix: Option<String>,
    /// Queue of messages without a user.
    pub default: String,
}

/// `[workers]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workers {
    /// Worker processes; `"auto"` = cores; default 2.
    pub processes: u32,
    /// Slots (tasks at once) in each; `"auto"` = 2 x cores / processes, at least 1; default 4.
    pub concurrency: Concurrency,
    /// Slots above the fewest that nothing had use for so long are taken back; default 30 s.
    pub shrink_after: Duration,
    /// Node name pattern, filled in by [`Workers::node_name`]; default `worker%i@%h`.
    pub name: String,
    /// How long running tasks may take to finish after TERM; default 60 s.
    pub drain_timeout: Duration,
    /// A worker silent for this long gets ABRT, then KILL; default 10 s, at least 3 s.
    pub liveness_timeout: Duration,
    /// At a reload, the new application and each new worker have to be ready within this time; default 60 s.
    pub reload_timeout: Duration,
    /// First wait before a crashed worker is started again; doubles up to `restart_max`; default 200 ms.
    pub restart_min: Duration,
    /// Longest such wait; default 30 s.
    pub restart_max: Duration,
    /// A task that uses more memory than so many bytes is killed; none = any amount (default).
    pub memory_limit: Option<u64>,
    /// While most Python tasks take less than this, some are claimed before a slot is free; zero = never. Default 1 ms.
    pub claim_ahead: Duration,
    /// Whether monitors are told of every task; none = as the application's `worker_send_task_events` says (default).
    pub events: Option<bool>,
}

/// `[python]`: the application whose tasks run through Celery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Python {
    /// As in `celery -A APP`.
    pub app: String,
    /// Working directory, put first on `sys.path`; default `.`.
    pub directory: PathBuf,
    /// Python of the application's environment; default `python3`.
    pub interpreter: PathBuf,
    /// Additional environment.
    pub env: BTreeMap<String, String>,
    /// A runner is replaced after so many tasks; none = never (default).
    pub max_tasks_per_runner: Option<u32>,
    /// A runner that has more resident memory than so many bytes after a task is replaced; none = never (default).
    pub max_memory_per_runner: Option<u64>,
    /// Killed after this long, where call, task and application (`task_time_limit`) say nothing; none = never (default).
    pub time_limit: Option<Duration>,
    /// `SoftTimeLimitExceeded` is raised after this long, likewise; none = never (default).
    pub soft_time_limit: Option<Duration>,
}

/// `[tenancy]`: whose task a message is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tenancy {
    /// Name of the task parameter; default none (then the queue stands for the tenant).
    pub parameter: Option<String>,
    /// Message header that says it; looked at first.
    pub header: Option<String>,
    /// What stands for the tenant where a message names none; default its queue.
    pub fallback: Fallback,
    /// Running time relative to others, by tenant or pattern; default 1.
    pub weights: BTreeMap<String, f64>,
    /// Most tasks running at once over the whole fleet, by tenant or pattern; default no limit.
    pub max_concurrency: BTreeMap<String, u32>,
    /// Most starts a second over the whole fleet, by tenant or pattern; default no limit.
    pub rate_limit: BTreeMap<String, f64>,
    /// Free slots of the fleet that only a tenant that runs nothing may take; default 0.
    pub reserved_slots: u32,
    /// Slots that end together rest a moment, so that they no longer do; default no.
    pub stagger: bool,
}

/// What stands for the tenant of a message that names none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fallback {
    /// Its queue.
    #[default]
    Queue,
    /// The group it belongs to, else its queue.
    Group,
    /// The first task of its workflow: itself, if nothing sent it.
    Root,
}

/// `[results]` of command tasks (Python tasks use the application's own result backend).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Redis of the results; default the broker's server. Only the database number may differ from the broker's URL.
    pub url: String,
    /// Kept this long (`result_expires`); default 1 day; zero = for ever.
    pub expires: Duration,
    /// Result backend's `global_keyprefix`; empty by default.
    pub key_prefix: String,
}

/// `[delivery]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Content types that are run; default `["application/json"]`. Short names `json`, `pickle`, `yaml`, `msgpack` are allowed
    /// in the file.
    pub accept: Vec<String>,
    /// A message whose runner died this many times goes to the dead letters; default 3.
    pub max_deliveries: u32,
    /// Dead letters kept at most; default 10,000.
    pub dead_letters_max: u64,
    /// Dead letters kept this long; default 30 days.
    pub dead_letters_age: Duration,
    /// Messages larger than this go to the dead letters unread; default 64 MiB.
    pub max_message_size: u64,
    /// When a message is acknowledged; default [`Mode::AtLeastOnce`].
    pub mode: Mode,
    /// Messages of tasks that have failed for good become dead letters; default false.
    pub keep_failed: bool,
    /// What `[tasks."name"]` says otherwise.
    pub tasks: BTreeMap<String, TaskDelivery>,
}

/// When a message is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// When its task has ended; it may run a second time.
    AtLeastOnce,
    /// Before its task starts; it never runs a second time.
    AtMostOnce,
    /// As the task itself declares it to Celery: `acks_late` and its relatives.
    Declared,
}

/// What one task has otherwise than `[delivery]` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskDelivery {
    /// For [`Delivery::mode`].
    pub mode: Option<Mode>,
    /// For [`Delivery::keep_failed`].
    pub keep_failed: Option<bool>,
}

/// `[tasks."name"]`: a task that is not Python.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandTask {
    /// argv, executed without a shell.
    pub command: Vec<String>,
    /// Working directory; default `/`.
    pub directory: PathBuf,
    /// Additional environment.
    pub env: BTreeMap<String, String>,
    /// Tries after the first; default 3.
    pub max_retries: u32,
    /// Wait before the first retry, doubled with each further one; default 1 s.
    pub retry_backoff: Duration,
    /// Longest such wait; default 10 min.
    pub retry_backoff_max: Duration,
    /// Uniform jitter over the wait, as Celery's `retry_jitter`; default true.
    pub retry_jitter: bool,
    /// Killed and failed after this long; none = never (default).
    pub time_limit: Option<Duration>,
    /// Killed when it uses more memory than so many bytes; none = as in `[workers]` (default).
    pub memory_limit: Option<u64>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Log {
    /// Least severe level shown; default `info`.
    pub level: Level,
    /// Which tasks get a line of their own; default `failures`.
    pub tasks: TaskLines,
    /// Form of the lines; default `auto`.
    pub format: LogFormat,
    /// Where the journal listens; default `/run/systemd/journal/socket`.
    pub journal_socket: PathBuf,
    /// Lines of one kind are counted over this long; default 10 s.
    pub storm_window: Duration,
    /// So many warnings and errors of one kind are written about one task name in a window; 0 = all; default 100.
    pub storm_lines: u32,
    /// So many lines of one level that tasks of one name write are passed on in a window; 0 = all; default 3,000.
    pub storm_output: u32,
    /// So many lines that one run of a task writes are passed on; 0 = all; default 1,000.
    pub task_output: u32,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            level: Level::Info,
            tasks: TaskLines::Failures,
            format: LogFormat::Auto,
            journal_socket: PathBuf::from("/run/systemd/journal/socket"),
            storm_window: Duration::from_secs(10),
            storm_lines: 100,
            storm_output: 3000,
            task_output: 1000,
        }
    }
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// The journal, natively, if standard error goes there; else text.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
    /// The journal, natively, wherever standard error goes.
    Journal,
}

impl LogFormat {
    /// Each with the word it is chosen by.
    pub const WORDS: &[(&str, LogFormat)] = &[
        ("auto", LogFormat::Auto),
        ("text", LogFormat::Text),
        ("json", LogFormat::Json),
        ("journal", LogFormat::Journal),
    ];
}

/// Severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Everything.
    Debug,
    /// Life cycle and whatever the application logs at INFO.
    Info,
    /// What deserves a look.
    Warning,
    /// What failed.
    Error,
}

/// Which tasks get a line of their own when they end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskLines {
    /// Failures and retries.
    Failures,
    /// Every task, at its start and its end.
    All,
}

impl Config {
    /// Whether there is anything to run; commands that only look at queues work without.
    ///
    /// # Errors
    /// One problem, if there is neither a `[python]` section nor a `[tasks."name"]`.
    pub fn runnable(&self) -> Result<(), Problems> {
        if self.python.is_some() || !self.tasks.is_empty() {
            return Ok(());
        }
        let reason = "there is nothing to run: neither [python] nor any [tasks.\"name\"] is given";
        let remedy = "name the Celery application, [python] app = \"imgbackend\", or describe a command task";
        Err(Problems::one("the configuration", Problem::new("python.app", reason, remedy)))
    }
}

impl Delivery {
    /// When messages of this task are acknowledged.
    pub fn mode_of(&self, task: &str) -> Mode {
        self.tasks.get(task).and_then(|own| own.mode).unwrap_or(self.mode)
    }

    /// Whether messages of this task become dead letters when it has failed for good.
    pub fn keeps_failed(&self, task: &str) -> bool {
        self.tasks.get(task).and_then(|own| own.keep_failed).unwrap_or(self.keep_failed)
    }
}

impl Config {
    /// Most memory a task of this name may use, in bytes.
    pub fn memory_limit(&self, task: &str) -> Option<u64> {
        let own = match self.tasks.get(task) {
            Some(command) => command.memory_limit,
            None => self.memory_limits.get(task).copied(),
        };
        own.or(self.workers.memory_limit)
    }

    /// Whether any task has a limit.
    pub fn limits_memory(&self) -> bool {
        self.workers.memory_limit.is_some()
            || !self.memory_limits.is_empty()
            || self.tasks.values().any(|task| task.memory_limit.is_some())
    }
}

impl std::fmt::Debug for Broker {
    /// The URL may carry a password, so it is never printed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("key_prefix", &self.key_prefix).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Results {
    /// The URL may carry a password, so it is never printed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Results").field("expires", &self.expires).finish_non_exhaustive()
    }
}
