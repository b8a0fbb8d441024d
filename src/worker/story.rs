//! What the worker tells people: a task's story in the log, its own figures.

use super::work::Work;
use crate::broker::minute::Minute;
use crate::channel::{Beat, Start};
use crate::config::TaskLines;
use crate::message::{Message, time};
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

/// A task is with its runner; but for what is claimed ahead, that is the moment of its claim.
pub fn started(start: &Start, work: &Work) {
    if start.config.log.tasks == TaskLines::All {
        tell!(info, start, work, {}, "started");
    }
}

/// A message's time has not come: it waits in Redis.
pub fn delayed(start: &Start, work: &Work, due: i64) {
    if start.config.log.tasks == TaskLines::All {
        tell!(info, start, work, { fields::OUTCOME => "delayed" }, "claimed and put off until {}", time::format(due));
    }
}

/// A task is not run: it is `expired`, or was `revoked`.
pub fn revoked(start: &Start, work: &Work, why: &str) {
    tell!(info, start, work, { fields::OUTCOME => why }, "{why} before it could start");
}

/// A task has ended.
pub fn ended(start: &Start, work: &Work, ended: &Ended) {
    dropped(start, work);
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
    dropped(start, work);
    let deliveries = work.message.deliveries + 1;
    let most = start.config.delivery.max_deliveries;
    tell!(error, start, work, { fields::OUTCOME => "lost" }, "its runner died: {how} (delivery {deliveries} of {most})");
}

/// A task is killed for its time limit.
pub fn over_limit(start: &Start, work: &Work, seconds: f64) {
    dropped(start, work);
    tell!(error, start, work, { fields::OUTCOME => "time-limit" }, "killed: hard time limit of {seconds} s exceeded");
}

/// A task is sent a signal because it was taken back while it ran.
pub fn terminated(start: &Start, work: &Work, signal: &str) {
    tell!(warn, start, work, { fields::OUTCOME => "terminated" }, "terminated with {signal}: it was revoked");
}

/// `SoftTimeLimitExceeded` is raised in a task.
pub fn over_soft_limit(start: &Start, work: &Work) {
    tell!(warn, start, work, {}, "soft time limit exceeded after {:.1} s", work.ran() / 1000.0);
}

/// A task was killed for using too much memory.
pub fn outgrew(start: &Start, work: &Work, why: &str, peak: u64) {
    dropped(start, work);
    tell!(error, start, work, { fields::OUTCOME => "oom", fields::MEMORY_PEAK => peak }, "killed: {why}");
}

/// A task that ran goes back to the front of its queue, as it came.
pub fn handed_back(start: &Start, work: &Work) {
    dropped(start, work);
    tell!(warn, start, work, { fields::OUTCOME => "handed-back" }, "handed back to the front of its queue");
}

/// What a dead worker held goes back to the front of its queue.
pub fn recovered(start: &Start, owner: &str, queue: &str, message: &Message, tenant: Option<&str>) {
    let (deliveries, most) = (message.deliveries + 1, start.config.delivery.max_deliveries);
    tracing::warn!(
        { fields::TASK_ID } = message.headers.id,
        { fields::TASK_NAME } = message.headers.task,
        { fields::QUEUE } = queue,
        { fields::TENANT } = tenant,
        { fields::WORKER } = start.worker,
        { fields::ATTEMPT } = message.headers.attempt(),
        { fields::OUTCOME } = "recovered",
        { fields::OWNER } = owner,
        "its worker died: back to the front of its queue (delivery {deliveries} of {most})"
    );
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
    if !passes(start, work) {
        return;
    }
    match level {
        50.. => tell!(error, start, work, { fields::LOGGER => logger, fields::PRIORITY => 2 }, "{text}"),
        40..50 => tell!(error, start, work, { fields::LOGGER => logger }, "{text}"),
        30..40 => tell!(warn, start, work, { fields::LOGGER => logger }, "{text}"),
        20..30 => tell!(info, start, work, { fields::LOGGER => logger }, "{text}"),
        _ => tell!(debug, start, work, { fields::LOGGER => logger }, "{text}"),
    }
}

/// A line of a task's raw output.
pub fn wrote(start: &Start, work: Option<&Work>, line: &str) {
    match work {
        Some(work) if passes(start, work) => tell!(info, start, work, { fields::LOGGER => "output" }, "{line}"),
        Some(_) => {}
        None => tracing::info!({ fields::WORKER } = start.worker, { fields::LOGGER } = "output", "{line}"),
    }
}

/// Counts a line of a task: whether it may have one more. The first that may not is told of.
fn passes(start: &Start, work: &Work) -> bool {
    let most = u64::from(start.config.log.task_output);
    let lines = work.lines.get() + 1;
    work.lines.set(lines);
    if most > 0 && lines == most + 1 {
        tell!(warn, start, work, {}, "it has written {most} lines; what it writes from here on is dropped");
    }
    most == 0 || lines <= most
}

/// Tells how many lines of a task were dropped.
pub fn dropped(start: &Start, work: &Work) {
    let most = u64::from(start.config.log.task_output);
    let dropped = work.lines.get().saturating_sub(most);
    if most > 0 && dropped > 0 {
        let count = crate::telemetry::storm::grouped(dropped);
        tell!(warn, start, work, { fields::SUPPRESSED => dropped }, "{count} more lines it wrote were dropped");
    }
}

/// The worker's figures for `fairstalk status`, JSON.
pub fn figures(start: &Start, beat: &Beat, minute: &Minute) -> String {
    json!({"node": start.node, "worker": start.worker, "pid": std::process::id(), "figures": beat,
        "version": env!("CARGO_PKG_VERSION"), "minute": minute})
    .to_string()
}
