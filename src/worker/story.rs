//! What the worker tells people: a task's story in the log, its entry in the dead letters, its own figures.

use super::intake::Reason;
use super::work::Work;
use crate::broker::minute::Minute;
use crate::channel::{Beat, Start};
use crate::config::TaskLines;
use crate::message::Message;
use crate::runner::{Ended, Outcome};
use crate::telemetry::fields;
use serde_json::json;

/// One event with the fields of a task; the level has to be a constant, so this is a macro.
macro_rules! tell {
    ($level:ident, $start:expr, $work:expr, { $($field:expr => $value:expr),* }, $($text:tt)+) => {
        tracing::$level!(
            { fields::TASK_ID } = $work.message.headers.id,
            { fields::TASK_NAME } = $work.message.headers.task,
            { fields::QUEUE } = &*$work.queue,
            { fields::TENANT } = $work.tenant(),
            { fields::WORKER } = $start.worker,
            { fields::RUNNER_PID } = $work.pid,
            { fields::ATTEMPT } = $work.message.headers.attempt(),
            $({ $field } = $value,)*
            $($text)+
        )
    };
}

/// A task is given to its runner.
pub fn started(start: &Start, work: &Work) {
    if start.config.log.tasks == TaskLines::All {
        tell!(info, start, work, {}, "started");
    }
}

/// A task has ended.
pub fn ended(start: &Start, work: &Work, ended: &Ended) {
    let runtime = u64::try_from(ended.runtime.as_millis()).unwrap_or(u64::MAX);
    let word = ended.outcome.word();
    let detail = &ended.detail;
    let trace = detail.traceback.as_deref().map(|trace| format!("\n{}", trace.trim_end())).unwrap_or_default();
    match ended.outcome {
        Outcome::Success | Outcome::Ignored if start.config.log.tasks == TaskLines::Failures => {}
        Outcome::Success | Outcome::Ignored => {
            tell!(info, start, work, { fields::RUNTIME_MS => runtime, fields::OUTCOME => word }, "{word}");
        }
        Outcome::Retry => {
            let when = detail.when.as_deref().unwrap_or("later");
            tell!(warn, start, work, { fields::RUNTIME_MS => runtime, fields::OUTCOME => word }, "{word} {when}: {}", detail.exception);
        }
        Outcome::Failure if detail.expected => {
            tell!(info, start, work, { fields::RUNTIME_MS => runtime, fields::OUTCOME => word }, "{word}: {}", detail.exception);
        }
        Outcome::Failure | Outcome::Rejected | Outcome::Requeued | Outcome::Refused => {
            tell!(error, start, work, { fields::RUNTIME_MS => runtime, fields::OUTCOME => word }, "{word}: {}{trace}", detail.exception);
        }
    }
}

/// A task's runner died under it.
pub fn lost(start: &Start, work: &Work, how: &str) {
    let deliveries = work.message.deliveries + 1;
    let most = start.config.delivery.max_deliveries;
    tell!(error, start, work, { fields::OUTCOME => "lost" }, "its runner died: {how} (delivery {deliveries} of {most})");
}

/// A task is killed for its time limit.
pub fn over_limit(start: &Start, work: &Work, seconds: f64) {
    tell!(error, start, work, { fields::OUTCOME => "time-limit" }, "killed: hard time limit of {seconds} s exceeded");
}

/// A record of Python's logging, of a task if one is under way.
pub fn logged(start: &Start, work: Option<&Work>, level: u32, logger: &str, text: &str) {
    let Some(work) = work else {
        return match level {
            40.. => tracing::error!({ fields::WORKER } = start.worker, { fields::LOGGER } = logger, "{text}"),
            30..40 => tracing::warn!({ fields::WORKER } = start.worker, { fields::LOGGER } = logger, "{text}"),
            20..30 => tracing::info!({ fields::WORKER } = start.worker, { fields::LOGGER } = logger, "{text}"),
            _ => tracing::debug!({ fields::WORKER } = start.worker, { fields::LOGGER } = logger, "{text}"),
        };
    };
    match level {
        40.. => tell!(error, start, work, { fields::LOGGER => logger }, "{text}"),
        30..40 => tell!(warn, start, work, { fields::LOGGER => logger }, "{text}"),
        20..30 => tell!(info, start, work, { fields::LOGGER => logger }, "{text}"),
        _ => tell!(debug, start, work, { fields::LOGGER => logger }, "{text}"),
    }
}

/// A line of a task's raw output.
pub fn wrote(start: &Start, work: Option<&Work>, line: &str) {
    match work {
        Some(work) => tell!(info, start, work, {}, "{line}"),
        None => tracing::info!({ fields::WORKER } = start.worker, "{line}"),
    }
}

/// Entry of the dead letters, JSON; also tells the log. `now` in milliseconds since 1970.
pub fn entry(start: &Start, reason: Reason, detail: &str, queue: &str, message: Option<&Message>, now: i64) -> String {
    let headers = message.map(|message| &message.headers);
    let (task, id) = (headers.map(|headers| &headers.task), headers.map(|headers| &headers.id));
    tracing::error!(
        { fields::TASK_ID } = id.map(String::as_str),
        { fields::TASK_NAME } = task.map(String::as_str),
        { fields::QUEUE } = queue,
        { fields::WORKER } = start.worker,
        { fields::OUTCOME } = "dead-letter",
        "to the dead letters, {}: {detail}",
        reason.word()
    );
    json!({
        "reason": reason.word(), "detail": detail, "task": task, "id": id, "queue": queue, "at": now,
        "node": start.node, "deliveries": message.map_or(0, |message| message.deliveries),
    })
    .to_string()
}

/// The worker's figures for `fairstalk status`, JSON.
pub fn figures(start: &Start, beat: &Beat, minute: &Minute) -> String {
    json!({"node": start.node, "worker": start.worker, "pid": std::process::id(), "figures": beat,
        "version": env!("CARGO_PKG_VERSION"), "minute": minute})
    .to_string()
}
