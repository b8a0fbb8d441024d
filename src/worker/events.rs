//! What this worker tells monitors of its tasks, as `celery/worker/request.py` does; and the commands about that.
//!
//! Events are composed here when something happens, and go out once Redis knows of it: whoever hears that a task
//! has succeeded finds its result. While nobody wants them, nothing is composed.

use super::engine::Engine;
use super::work::{Phase, Record, Then, Work};
use crate::celery::Node;
use crate::celery::events::Outlet;
use crate::celery::events::event::{
    self, Failed, Received, Rejected, Revoked, Started, Succeeded, compose, hours_west,
};
use crate::celery::events::publisher::{Figures, Publisher, seconds};
use crate::celery::python::{self, quoted};
use crate::message::{Message, time};
use crate::results::State;
use crate::runner::python::Registry;
use crate::runner::python::frames::Task;
use crate::runner::{Ended, Outcome};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Celery's `event_exchange`, where there is no application to set another.
const EXCHANGE: &str = "celeryev";

/// How long the last events may take to go out when the worker ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// What tells monitors.
pub struct Events {
    node: Rc<Node>,
    outlet: Rc<Outlet>,
    /// Events of tasks are wanted.
    on: bool,
    /// They are because the configuration or the application says so: then no command changes it, as in Celery.
    fixed: bool,
    /// Time zone of the application's process.
    zone: TimeZone,
    publisher: Option<JoinHandle<()>>,
}

impl Events {
    /// Nothing goes out before the worker has introduced itself.
    pub fn new(node: Rc<Node>) -> Events {
        let (outlet, zone) = (Rc::default(), event::zone(None));
        Events { node, outlet, on: false, fixed: false, zone, publisher: None }
    }

    /// Whether events of this task are wanted.
    pub fn want(&self, work: &Work) -> bool {
        self.on && work.events
    }

    /// What its runner is to do with it: the event of its end shows the result.
    pub fn run(&self, work: &Work) -> Task<'static> {
        Task::Run { show_result: self.want(work) }
    }

    fn put(&self, kind: &str, fields: &impl Serialize) {
        let now = Timestamp::now();
        self.outlet.put(compose(&self.node, hours_west(&self.zone, now), seconds(now), kind, fields));
    }

    /// A message was claimed, to run or to be put off. `registry` knows the zone of times without an offset.
    pub fn received(&self, work: &Work, registry: Option<&Registry>) {
        if !self.want(work) {
            return;
        }
        let headers = &work.message.headers;
        let shown = Shown::of(&work.message);
        let zone = || TimeZone::get(registry.map_or("UTC", |registry| &registry.timezone)).unwrap_or(TimeZone::UTC);
        let aware = |text: &Option<String>| text.as_deref().map(|text| time::aware(text, &zone()));
        self.put(
            "task-received",
            &Received {
                uuid: &headers.id,
                name: shown.shadow.as_deref().unwrap_or(&headers.task),
                args: shown.argsrepr.unwrap_or(Shown::NONE),
                kwargs: shown.kwargsrepr.unwrap_or(Shown::NONE),
                root_id: headers.root_id.as_deref(),
                parent_id: headers.parent_id.as_deref(),
                retries: headers.attempt() - 1,
                eta: aware(&headers.eta),
                expires: aware(&headers.expires),
            },
        );
    }

    /// A task was started.
    pub fn started(&self, work: &Work) {
        if self.want(work) {
            self.put("task-started", &Started { uuid: &work.message.headers.id });
        }
    }

    /// A Python task has ended, or its end was recorded.
    pub fn ended(&self, work: &Work, ended: &Ended) {
        if !self.want(work) {
            return;
        }
        let detail = &ended.detail;
        match (&work.phase, ended.outcome) {
            (Phase::Recording(record), _) => self.recorded(work, record, ended),
            (_, Outcome::Success) => {
                self.succeeded(work, detail.result.as_deref().unwrap_or_default(), ended.runtime);
            }
            (_, Outcome::Failure | Outcome::Refused) => {
                self.failed("task-failed", work, &detail.exception, detail.traceback.as_deref());
            }
            (_, Outcome::Retry) => {
                self.failed("task-retried", work, &detail.exception, detail.traceback.as_deref());
            }
            (_, Outcome::Rejected) => {
                self.failed("task-failed", work, &detail.exception, detail.traceback.as_deref());
                self.rejected(work, false);
            }
            (_, Outcome::Requeued) => self.rejected(work, true),
            (_, Outcome::Ignored) => {} // Celery tells nothing of it either
        }
    }

    fn recorded(&self, work: &Work, record: &Record, ended: &Ended) {
        let detail = &ended.detail;
        match record.why {
            "unregistered" => {
                let exception = format!("NotRegistered({})", quoted(&work.message.headers.task));
                self.failed("task-failed", work, &exception, None);
            }
            "expired" | "revoked" | "terminated" => self.revoked(work, record.why == "expired"),
            _ => self.failed(
                "task-failed",
                work,
                &detail.exception,
                Some(detail.traceback.as_deref().unwrap_or_default()),
            ),
        }
        if matches!(record.then, Then::Again) {
            self.rejected(work, true);
        }
    }

    /// A task has ended that Celery doesn't run.
    pub fn settled(&self, work: &Work, state: &State, runtime: Duration) {
        if !self.want(work) {
            return;
        }
        let exception = |exception: &crate::runner::Exception| format!("{}{}", exception.kind, arguments(exception));
        match state {
            State::Success(value) => self.succeeded(work, &python::result(value.get()), runtime),
            State::Failure(why, trace) => {
                self.failed("task-failed", work, &exception(why), Some(*trace));
            }
            State::Retry(why, trace) => self.failed("task-retried", work, &exception(why), Some(*trace)),
            State::Revoked(why) => self.revoked(work, why.arguments[0] == "expired"),
        }
    }

    fn succeeded(&self, work: &Work, result: &str, runtime: Duration) {
        let uuid = &work.message.headers.id;
        self.put("task-succeeded", &Succeeded { uuid, result, runtime: runtime.as_secs_f64() });
    }

    fn failed(&self, kind: &str, work: &Work, exception: &str, traceback: Option<&str>) {
        self.put(kind, &Failed { uuid: &work.message.headers.id, exception, traceback });
    }

    fn revoked(&self, work: &Work, expired: bool) {
        let signum = work.terminated.map(|terminated| terminated.signal);
        let uuid = &work.message.headers.id;
        self.put("task-revoked", &Revoked { uuid, terminated: signum.is_some(), signum, expired });
    }

    /// A task was started and can't be brought to an end.
    pub fn buried(&self, work: &Work, why: &str) {
        if self.want(work) {
            self.failed("task-failed", work, why, Some(""));
        }
    }

    /// A message was given back without an end of its task.
    pub fn rejected(&self, work: &Work, requeue: bool) {
        if self.want(work) {
            self.put("task-rejected", &Rejected { uuid: &work.message.headers.id, requeue });
        }
    }

    /// How many there have been so far.
    pub fn so_far(&self) -> u64 {
        self.outlet.added()
    }

    /// What the first so many tell of is known to Redis.
    pub fn release(&self, first: u64) {
        self.outlet.release(first);
    }

    /// Command `enable_events`.
    pub fn enable(&mut self) -> &'static str {
        if std::mem::replace(&mut self.on, true) {
            return "task events already enabled";
        }
        tracing::info!("events of tasks are sent from now on: a monitor has asked for it");
        "task events enabled"
    }

    /// Command `disable_events`.
    pub fn disable(&mut self) -> &'static str {
        if self.fixed || !self.on {
            return "task events already disabled";
        }
        self.on = false;
        tracing::info!("events of tasks are not sent any more: a monitor has asked for it");
        "task events disabled"
    }

    /// Command `heartbeat`.
    pub fn pulse(&self) {
        self.outlet.ask_for_pulse();
    }

    /// Sends what is left, and that the node is gone.
    pub async fn close(&mut self) {
        self.outlet.release(self.outlet.added());
        self.outlet.close();
        if let Some(publisher) = self.publisher.take() {
            // What can't be sent by then is lost with the worker.
            let _ = tokio::time::timeout(FAREWELL, publisher).await;
        }
    }
}

impl Engine {
    /// The application is known: whether it wants events.
    pub(super) fn learn_events(&mut self) {
        let registry = self.registry.as_ref();
        let wanted = self.start.config.workers.events;
        let wanted = wanted.unwrap_or_else(|| registry.is_some_and(|registry| registry.send_task_events));
        self.events.fixed = wanted;
        self.events.on |= wanted;
        self.events.zone = event::zone(registry.and_then(|registry| registry.tz.as_deref()));
    }

    /// The worker is ready: from here on it speaks for its name.
    pub(super) fn introduce(&mut self) {
        if !self.events.node.introduce() {
            return;
        }
        let reports = self.reports.clone();
        let publisher = Publisher {
            broker: self.start.config.broker.clone(),
            keys: self.exchange.keys.clone(),
            exchange: self.registry.as_ref().map_or(EXCHANGE, |registry| &registry.event_exchange).to_owned(),
            zone: self.events.zone.clone(),
            node: Rc::clone(&self.events.node),
            outlet: Rc::clone(&self.events.outlet),
            figures: move || {
                let figures = reports.figures();
                Figures { active: figures.busy, processed: figures.done + u64::from(figures.busy) }
            },
        };
        self.events.publisher = Some(tokio::task::spawn_local(publisher.run()));
    }

    /// Lets events out, unless something has ended that Redis does not know yet.
    pub(super) fn release_events(&self) {
        if self.outbox.is_empty() && self.flight.is_none() {
            self.events.release(self.events.so_far());
        }
    }
}

/// Headers only events show, as the producer wrote them.
#[derive(Default, Deserialize)]
struct Shown<'a> {
    #[serde(borrow, default)]
    argsrepr: Option<&'a RawValue>,
    #[serde(borrow, default)]
    kwargsrepr: Option<&'a RawValue>,
    #[serde(default)]
    shadow: Option<String>,
}

impl<'a> Shown<'a> {
    const NONE: &'static RawValue = RawValue::NULL;

    fn of(message: &'a Message) -> Shown<'a> {
        serde_json::from_str(message.headers_json()).unwrap_or_default()
    }
}

/// Arguments of an exception as Python shows them.
fn arguments(exception: &crate::runner::Exception) -> String {
    let shown = python::result(&exception.arguments.to_string());
    format!("({})", shown.strip_prefix('[').and_then(|shown| shown.strip_suffix(']')).unwrap_or(&shown))
}
