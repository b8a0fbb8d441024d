//! What the worker writes on a message that it sets aside: the entry of a dead letter.

use super::work::Work;
use crate::broker::Reason;
use crate::channel::Start;
use crate::fairness::tenant;
use crate::message::{Message, body};
use crate::runner::python::Registry;
use crate::telemetry::fields;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// So much of a traceback is kept: its end, which says what happened.
const TRACEBACK: usize = 16 << 10;

/// How a process came to its end.
#[derive(Debug, Clone)]
pub struct Death {
    /// In Celery's words (`billiard.common.human_status`).
    pub words: String,
    /// Name of the signal that killed it.
    signal: Option<&'static str>,
    exit_code: Option<i32>,
    /// The most memory it had, bytes.
    peak: Option<u64>,
}

impl Death {
    /// That of a wait status.
    pub fn of(pid: u32, status: i32) -> Death {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap_or(0));
        match WaitStatus::from_raw(pid, status) {
            Ok(WaitStatus::Signaled(_, signal, _)) => Death {
                words: format!("signal {} ({})", signal as i32, signal.as_str()),
                signal: Some(signal.as_str()),
                exit_code: None,
                peak: None,
            },
            Ok(WaitStatus::Exited(_, code)) => {
                Death { words: format!("exitcode {code}"), signal: None, exit_code: Some(code), peak: None }
            }
            _ => Death { words: format!("wait status {status:#x}"), signal: None, exit_code: None, peak: None },
        }
    }

    /// Of a process that had so much memory at most, bytes.
    pub fn with_peak(self, bytes: u64) -> Death {
        Death { peak: Some(bytes), ..self }
    }

    /// That of a command.
    pub fn of_command(pid: Option<u32>, status: ExitStatus) -> Death {
        Death::of(pid.unwrap_or(0), status.into_raw())
    }
}

/// An entry in the making.
#[derive(Debug)]
pub struct Letter<'a> {
    reason: Reason,
    detail: &'a str,
    queue: &'a str,
    /// Milliseconds since 1970.
    now: i64,
    message: Option<&'a Message>,
    work: Option<&'a Work>,
    death: Option<&'a Death>,
    memory_peak: Option<u64>,
    exception: Option<&'a str>,
    traceback: Option<&'a str>,
}

impl<'a> Letter<'a> {
    /// About a message nobody could read.
    pub fn new(reason: Reason, detail: &'a str, queue: &'a str, now: i64) -> Letter<'a> {
        let (message, work, death, memory_peak, exception, traceback) = (None, None, None, None, None, None);
        Letter { reason, detail, queue, now, message, work, death, memory_peak, exception, traceback }
    }

    /// About a message that was not under way here.
    pub fn of_message(reason: Reason, detail: &'a str, queue: &'a str, message: &'a Message, now: i64) -> Letter<'a> {
        Letter { message: Some(message), ..Letter::new(reason, detail, queue, now) }
    }

    /// About a task under way here.
    pub fn of_work(reason: Reason, detail: &'a str, work: &'a Work, now: i64) -> Letter<'a> {
        Letter { work: Some(work), ..Letter::of_message(reason, detail, &work.queue, &work.message, now) }
    }

    /// With the end of what ran it.
    pub fn died(self, death: &'a Death) -> Letter<'a> {
        Letter { death: Some(death), memory_peak: self.memory_peak.or(death.peak), ..self }
    }

    /// With the most memory it used, in bytes.
    pub fn peak(self, bytes: u64) -> Letter<'a> {
        Letter { memory_peak: Some(bytes), ..self }
    }

    /// With its exception.
    pub fn failed(self, exception: &'a str, traceback: Option<&'a str>) -> Letter<'a> {
        Letter { exception: Some(exception), traceback, ..self }
    }

    /// Whose task it is, where that can be known.
    fn tenant(&self, start: &Start, registry: Option<&Registry>) -> Option<String> {
        if let Some(tenant) = self.work.and_then(Work::tenant) {
            return Some(tenant.to_owned());
        }
        let message = self.message?;
        let info = registry.and_then(|registry| registry.tasks.get(&message.headers.task));
        let arguments = body::arguments(message).ok();
        let parameters = info.map_or(&[][..], |info| &info.parameters);
        tenant(&start.config.tenancy, message, arguments.as_ref(), parameters)
    }

    /// The entry, JSON; also tells the log.
    pub fn write(self, start: &Start, registry: Option<&Registry>) -> String {
        let headers = self.message.map(|message| &message.headers);
        let (task, id) = (headers.map(|headers| &headers.task), headers.map(|headers| &headers.id));
        let tenant = self.tenant(start, registry);
        tracing::error!(
            { fields::TASK_ID } = id.map(String::as_str),
            { fields::TASK_NAME } = task.map(String::as_str),
            { fields::QUEUE } = self.queue,
            { fields::TENANT } = tenant,
            { fields::WORKER } = start.worker,
            { fields::ATTEMPT } = headers.map(|headers| headers.attempt()),
            { fields::MEMORY_PEAK } = self.memory_peak,
            { fields::OUTCOME } = "dead-letter",
            "to the dead letters, {}: {}",
            self.reason.word(),
            self.detail
        );
        let mut entry = json!({
            "reason": self.reason.word(), "detail": self.detail, "task": task, "id": id, "queue": self.queue,
            "at": self.now, "node": start.node, "deliveries": self.message.map_or(0, |message| message.deliveries),
        });
        let mut add = |key: &str, value: Value| {
            if !value.is_null() {
                entry[key] = value;
            }
        };
        add("tenant", tenant.into());
        add("attempt", headers.map(|headers| headers.attempt()).into());
        if let Some(work) = self.work.filter(|_| self.reason.began()) {
            let ran = i64::try_from(work.started.elapsed().as_millis()).unwrap_or(i64::MAX);
            add("started", self.now.saturating_sub(ran).into());
            add("runner_pid", work.pid.into());
            if !work.tail.is_empty() {
                add("output", json!(work.tail));
            }
        }
        add("signal", self.death.and_then(|death| death.signal).into());
        add("exit_code", self.death.and_then(|death| death.exit_code).into());
        add("memory_peak", self.memory_peak.into());
        add("exception", self.exception.into());
        let end = |text: &'a str| &text[text.ceil_char_boundary(text.len().saturating_sub(TRACEBACK))..];
        add("traceback", self.traceback.filter(|traceback| !traceback.is_empty()).map(end).into());
        entry.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_in_celerys_words() {
        let death = Death::of(7, 9);
        assert_eq!(
            (death.words.as_str(), death.signal, death.exit_code),
            ("signal 9 (SIGKILL)", Some("SIGKILL"), None)
        );
        let death = Death::of_command(None, ExitStatus::from_raw(3 << 8));
        assert_eq!((death.words.as_str(), death.signal, death.exit_code), ("exitcode 3", None, Some(3)));
    }
}
