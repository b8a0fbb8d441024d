//! The options of `celery worker` and `celery multi`, and what becomes of each.
//!
//! Their names are those of `celery.bin.celery`, `celery.bin.worker` and `celery.apps.multi` (5.7, and 4.4 where they were
//! called otherwise). `tests/e2e/test_migrate.py` compares them with the Celery that is installed.

use Fate::{Absent, Needless, Taken};
use Key::*;

/// An option.
#[derive(Debug, PartialEq)]
pub struct Known {
    /// As it is written, the short form first.
    pub names: &'static [&'static str],
    /// Whether a value follows.
    pub valued: bool,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of an option.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is translated.
    Taken(Key),
    /// It has no counterpart, and nothing is missing without it, because…
    Needless(&'static str),
    /// It has no counterpart, and something may be missing; what to do instead.
    Absent(&'static str),
}

/// Options that are translated, each in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named after its option")]
pub enum Key {
    App,
    Broker,
    ResultBackend,
    Loader,
    ConfigModule,
    SkipChecks,
    Workdir,
    Hostname,
    LogLevel,
    Concurrency,
    Pool,
    Autoscale,
    Events,
    TimeLimit,
    SoftTimeLimit,
    MaxTasks,
    MaxMemory,
    Queues,
    ExcludeQueues,
    Beat,
    Schedule,
    Scheduler,
    Uid,
    Gid,
    Umask,
    Prefix,
    Suffix,
    RangePrefix,
}

const fn flag(names: &'static [&'static str], fate: Fate) -> Known {
    Known { names, valued: false, fate }
}

const fn valued(names: &'static [&'static str], fate: Fate) -> Known {
    Known { names, valued: true, fate }
}

const PREFETCH: &str = "nothing is claimed before a slot is free";
const HEARTBEAT: &str = "what makes a worker alive is its lease in Redis";
const TERMINAL: &str = "it only concerns the terminal";
const JOURNAL: &str = "the log goes to standard error, and so to the journal";

/// All of them.
pub const OPTIONS: &[Known] = &[
    valued(&["-A", "--app"], Taken(App)),
    valued(&["-b", "--broker"], Taken(Broker)),
    valued(&["--result-backend"], Taken(ResultBackend)),
    valued(&["--loader"], Taken(Loader)),
    valued(&["--config"], Taken(ConfigModule)),
    valued(&["--workdir"], Taken(Workdir)),
    flag(&["--skip-checks"], Taken(SkipChecks)),
    flag(&["-C", "--no-color"], Needless(TERMINAL)),
    flag(&["-q", "--quiet"], Needless(TERMINAL)),
    valued(&["-n", "--hostname"], Taken(Hostname)),
    flag(&["-D", "--detach"], Needless("systemd keeps it in the background")),
    valued(&["-S", "--statedb"], Needless("ids of revoked tasks are kept in Redis")),
    valued(&["-l", "--loglevel"], Taken(LogLevel)),
    valued(&["-O", "--optimization"], Needless(PREFETCH)),
    valued(&["--prefetch-multiplier"], Needless(PREFETCH)),
    flag(&["--disable-prefetch"], Needless(PREFETCH)),
    valued(&["-c", "--concurrency"], Taken(Concurrency)),
    valued(&["-P", "--pool"], Taken(Pool)),
    flag(&["-E", "--task-events", "--events"], Taken(Events)),
    valued(&["--time-limit"], Taken(TimeLimit)),
    valued(&["--soft-time-limit"], Taken(SoftTimeLimit)),
    valued(&["--max-tasks-per-child", "--maxtasksperchild"], Taken(MaxTasks)),
    valued(&["--max-memory-per-child"], Taken(MaxMemory)),
    valued(
        &["--pool-start-method"],
        Absent("runners are forked, from a process that has imported the application and runs no thread of its own"),
    ),
    flag(&["--purge", "--discard"], Absent("nothing is deleted at a start; `celery purge` does it once")),
    valued(&["-Q", "--queues"], Taken(Queues)),
    valued(&["-X", "--exclude-queues"], Taken(ExcludeQueues)),
    valued(&["-I", "--include"], Absent("name these modules in the application's setting `include`")),
    flag(&["--without-gossip"], Needless("workers don't gossip")),
    flag(&["--without-mingle"], Needless("workers find what they share in Redis")),
    flag(&["--without-heartbeat"], Needless(HEARTBEAT)),
    valued(&["--heartbeat-interval"], Needless(HEARTBEAT)),
    valued(&["--autoscale"], Taken(Autoscale)),
    flag(&["-B", "--beat"], Taken(Beat)),
    valued(&["-s", "--schedule-filename", "--schedule"], Taken(Schedule)),
    valued(&["--scheduler"], Taken(Scheduler)),
    valued(&["-f", "--logfile"], Needless(JOURNAL)),
    valued(&["-p", "--pidfile"], Needless("systemd knows its processes")),
    valued(&["--uid"], Taken(Uid)),
    valued(&["--gid"], Taken(Gid)),
    valued(&["--umask"], Taken(Umask)),
    valued(&["--executable"], Needless("[python] interpreter says which Python it is")),
    valued(&["--prefix"], Taken(Prefix)),
    valued(&["--suffix"], Taken(Suffix)),
    valued(&["--range-prefix"], Taken(RangePrefix)),
    flag(&["--nosplash"], Needless(TERMINAL)),
    flag(&["--verbose"], Needless(TERMINAL)),
];

/// The option that is written so.
pub fn find(name: &str) -> Option<&'static Known> {
    OPTIONS.iter().find(|known| known.names.contains(&name))
}

/// Variables that stand for an option where it is not given: click's `CELERY_WORKER_…`, and those of `celery.bin.celery`.
pub fn of_variable(name: &str) -> Option<&'static Known> {
    let option = match name {
        "APP" | "CELERY_APP" => "-A".to_owned(),
        "BROKER_URL" | "CELERY_BROKER" => "-b".to_owned(),
        "RESULT_BACKEND" => "--result-backend".to_owned(),
        "LOADER" => "--loader".to_owned(),
        "CONFIG_MODULE" => "--config".to_owned(),
        name => format!("--{}", name.strip_prefix("CELERY_WORKER_")?.to_ascii_lowercase().replace('_', "-")),
    };
    find(&option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_has_two_meanings() {
        let mut names: Vec<&str> = OPTIONS.iter().flat_map(|known| known.names).copied().collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_variable_stands_for_its_option() {
        assert_eq!(of_variable("CELERY_WORKER_MAX_TASKS_PER_CHILD"), find("--max-tasks-per-child"));
        assert_eq!(of_variable("CELERY_APP"), find("-A"));
        assert_eq!(of_variable("CELERY_WORKER_SEND_TASK_EVENTS"), None);
        assert_eq!(of_variable("PATH"), None);
    }
}
