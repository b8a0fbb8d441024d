//! Names of all log fields. In the journal they are in upper case: `journalctl -u fairstalk TENANT=42`.
//!
//! Use: `tracing::info!({ fields::TASK_ID } = id, "…")`. A new field gets its line in the table here first: [`ALL`]
//! is what the documentation is made of.

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
    /// Whose task it is.
    TENANT = "tenant";
    /// Number of the worker.
    WORKER = "worker";
    /// Process that runs the task.
    RUNNER_PID = "runner_pid";
    /// Which delivery or try this is, from 1.
    ATTEMPT = "attempt";
    /// Milliseconds the task ran.
    RUNTIME_MS = "runtime_ms";
    /// How the task ended.
    OUTCOME = "outcome";
    /// Name under which a worker process holds claims.
    OWNER = "owner";
    /// Python logger a line came from.
    LOGGER = "logger";
}
