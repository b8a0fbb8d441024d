//! Names of all log fields. In the journal they are in upper case: `journalctl -u fairstalk TENANT=42`.
//!
//! Use: `tracing::info!({ fields::TASK_ID } = id, "…")`. A new field gets its constant here first.

/// Id of the task, as Celery knows it.
pub const TASK_ID: &str = "task_id";
/// Registered name of the task.
pub const TASK_NAME: &str = "task_name";
/// Queue the message came from.
pub const QUEUE: &str = "queue";
/// Whose task it is.
pub const TENANT: &str = "tenant";
/// Number of the worker.
pub const WORKER: &str = "worker";
/// Process that runs the task.
pub const RUNNER_PID: &str = "runner_pid";
/// Which delivery or try this is, from 1.
pub const ATTEMPT: &str = "attempt";
/// Milliseconds the task ran.
pub const RUNTIME_MS: &str = "runtime_ms";
/// How the task ended.
pub const OUTCOME: &str = "outcome";
/// Name under which a worker process holds claims.
pub const OWNER: &str = "owner";
/// Python logger a line came from.
pub const LOGGER: &str = "logger";
