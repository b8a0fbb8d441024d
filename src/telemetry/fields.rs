//! Names of all log fields. In the journal they are in upper case: `journalctl -u fairstalk TENANT=42`.
//!
//! Use: `tracing::info!({ fields::TASK_ID } = id, "…")`. A new field gets its line in the table here first: [`ALL`]
//! is what the documentation is made of and held to.

/// Makes a constant of each line, and [`ALL`] of them together.
macro_rules! fields {
    ($($(#[doc = $meaning:literal])+ $constant:ident = $name:literal;)+) => {
        $($(#[doc = $meaning])+ pub const $constant: &str = $name;)+

        /// Every field with what it means, in the order in which they are documented.
        pub const ALL: &[(&str, &str)] = &[$(($name, concat!($($meaning),+).trim_ascii_start())),+];
    };
}

fields! {
    /// Id of the task, as Celery knows it.
    TASK_ID = "task_id";
    /// Registered name of the task.
    TASK_NAME = "task_name";
    /// Queue the message came from.
    QUEUE = "queue";
    /// Whose task it is, where `[tenancy]` says how to know.
    TENANT = "tenant";
    /// Number of the worker.
    WORKER = "worker";
    /// Process that runs the task.
    RUNNER_PID = "runner_pid";
    /// Which try this is, from 1.
    ATTEMPT = "attempt";
    /// Milliseconds the task ran.
    RUNTIME_MS = "runtime_ms";
    /// What became of the task.
    OUTCOME = "outcome";
    /// Most memory the task used, in bytes, where that was measured.
    MEMORY_PEAK = "memory_peak";
    /// Python logger a line of a task came from; `output` for what it wrote to standard output or error.
    LOGGER = "logger";
    /// Severity as syslog numbers it, where that says more than the level: 2 for Python's CRITICAL.
    PRIORITY = "priority";
    /// How many lines this one stands for, which are not in the log.
    SUPPRESSED = "suppressed";
    /// Name under which a worker process holds claims.
    OWNER = "owner";
}

/// Every value of [`OUTCOME`] with what it means.
pub const OUTCOMES: &[(&str, &str)] = &[
    ("succeeded", "it returned"),
    ("failed", "it failed for good"),
    ("to be retried", "it failed and will be tried again"),
    ("ignored", "it raised Ignore"),
    ("rejected", "it raised Reject"),
    ("requeued", "it raised Reject with requeue"),
    ("refused", "Python could not read the message"),
    ("time-limit", "it was killed for its hard time limit"),
    ("lost", "its runner died under it"),
    ("oom", "it was killed because it outgrew its memory limit"),
    ("delayed", "its time has not come; it waits in Redis"),
    ("expired", "its time was over before it could start"),
    ("revoked", "it was taken back before it could start"),
    ("terminated", "it was taken back while it ran, and is sent a signal"),
    ("handed-back", "it goes back to the front of its queue, uncounted"),
    ("recovered", "its worker died; it goes back to the front of its queue, counted"),
    ("dead-letter", "it was put to the dead letters"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_and_outcome_is_documented() {
        let text = include_str!("../../docs/logging.md");
        for (name, meaning) in ALL {
            let row = format!("| `{}` | {} |", name.to_uppercase(), meaning);
            assert!(text.contains(&row), "docs/logging.md has no row {row}");
        }
        for (word, meaning) in OUTCOMES {
            let row = format!("| `{word}` | {meaning} |");
            assert!(text.contains(&row), "docs/logging.md has no row {row}");
        }
    }
}
