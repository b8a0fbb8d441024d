//! From a claim to a running task.

use super::engine::{Engine, Event};
use super::intake::{self, Plan, Reason};
use super::slots::RunnerState;
use super::story;
use super::work::{Phase, Record, Work};
use crate::broker::{Action, Claim, Settlement};
use crate::fairness::flow;
use crate::message::Message;
use crate::message::body::Arguments;
use crate::results::State;
use crate::runner::python::frames::Task;
use crate::runner::{Exception, command};
use serde_json::json;
use std::rc::Rc;
use std::time::{Duration, Instant};

impl Engine {
    /// Starts a claimed message in a free slot, or settles it at once where nothing has to run for it.
    /// It has waited in lanes for `waited` milliseconds; `now` is the server's clock, milliseconds since 1970.
    pub(super) fn dispatch(&mut self, claim: Claim, waited: f64, now: i64) {
        let queue: Rc<str> = self.exchange.keys.queue_of(&claim.list).into();
        let unread = |action| {
            let flow = claim.flow.clone().unwrap_or_else(|| flow::of_queue(&queue));
            Settlement::new(claim.sequence, flow, Some(0.0), action)
        };
        if claim.raw.len() as u64 > self.start.config.delivery.max_message_size {
            let text = format!("{} bytes; [delivery] max_message_size allows fewer", claim.raw.len());
            let entry = story::entry(&self.start, Reason::TooLarge, &text, &queue, None, now);
            return self.outbox.push(unread(Action::Dead { message: claim.raw, entry }));
        }
        let message = match Message::parse(claim.raw) {
            Ok(message) => message,
            Err((malformed, raw)) => {
                let entry = story::entry(&self.start, Reason::Malformed, &malformed.to_string(), &queue, None, now);
                return self.outbox.push(unread(Action::Dead { message: raw, entry }));
            }
        };
        let unseen = claim.flow.is_none();
        if unseen {
            self.naming.see(self.registry.as_ref(), &message, &queue);
        }
        let flow = claim.flow.unwrap_or_else(|| self.flow_of(&message, &queue));
        self.tally.begin(claim.sequence, &flow, waited, unseen, Instant::now());
        let work = Work {
            sequence: claim.sequence,
            list: claim.list,
            queue,
            message,
            flow,
            pid: None,
            started: Instant::now(),
            soft_limit: None,
            hard_limit: None,
            phase: Phase::Python,
        };
        match intake::plan(&self.start.config, self.registry.as_ref(), &work.message, now) {
            Plan::Python => self.start_python(work),
            Plan::Command(arguments) => self.start_command(work, &arguments),
            Plan::Delay(due) => {
                let settlement = work.settlement(0.0, Action::Ack);
                let action = Action::Delay { message: work.message.raw, due };
                self.outbox.push(Settlement { action, ..settlement });
            }
            Plan::Expired => self.expired(work),
            Plan::Unknown => self.unknown(work, now),
            Plan::Lost => self.lost(work, now),
            Plan::Dead(reason, text) => {
                let entry = story::entry(&self.start, reason, &text, &work.queue, Some(&work.message), now);
                let settlement = work.settlement(0.0, Action::Ack);
                self.outbox
                    .push(Settlement { action: Action::Dead { message: work.message.raw, entry }, ..settlement });
            }
        }
    }

    /// Slot for a task that has just been claimed: never more are claimed than are free.
    fn free_slot(&self) -> Option<usize> {
        let python = self.python();
        self.slots.iter().position(|slot| slot.is_free(python))
    }

    /// Puts work into a free slot; where there is none, which the claim rules out, it goes back.
    fn place(&mut self, work: Work) -> Option<usize> {
        match self.free_slot() {
            Some(index) => {
                self.slots[index].work = Some(work);
                Some(index)
            }
            None => {
                let settlement = work.settlement(0.0, Action::Ack);
                self.outbox.push(Settlement { action: Action::Front(work.message.raw), ..settlement });
                None
            }
        }
    }

    fn start_python(&mut self, mut work: Work) {
        let info = self.registry.as_ref().and_then(|registry| registry.tasks.get(&work.message.headers.task));
        let (hard, soft) = work.message.headers.timelimit.unwrap_or((None, None));
        let hard = hard.or(info.and_then(|info| info.time_limit));
        let soft = soft.or(info.and_then(|info| info.soft_time_limit));
        let after = |seconds: f64| Duration::try_from_secs_f64(seconds).ok().map(|wait| work.started + wait);
        work.hard_limit = hard.and_then(|seconds| Some((after(seconds)?, seconds)));
        work.soft_limit = soft.and_then(after);
        let Some(index) = self.place(work) else { return };
        let slot = &mut self.slots[index];
        let (RunnerState::Ready(runner), Some(work)) = (&slot.runner, &mut slot.work) else { return };
        work.pid = runner.pid;
        story::started(&self.start, work);
        if let Err(malformed) = runner.give(&work.message, &Task::Run) {
            let text = malformed.to_string();
            self.bury(index, Reason::Malformed, &text);
        }
    }

    fn start_command(&mut self, mut work: Work, arguments: &Arguments) {
        let headers = &work.message.headers;
        let Some(task) = self.start.config.tasks.get(&headers.task) else { return };
        // The arguments go in byte for byte, so this is not built as a JSON value.
        let input = format!(
            r#"{{"id": {}, "task": {}, "args": {}, "kwargs": {}, "retries": {}, "queue": {}, "tenant": {}}}"#,
            json!(headers.id),
            json!(headers.task),
            arguments.args,
            arguments.kwargs,
            headers.attempt() - 1,
            json!(&*work.queue),
            json!(work.tenant())
        );
        let sequence = work.sequence;
        let (lines, exit) = (self.tell.clone(), self.tell.clone());
        story::started(&self.start, &work);
        work.hard_limit = task.time_limit.map(|limit| (work.started + limit, limit.as_secs_f64()));
        let running = command::start(
            task,
            input.into_bytes(),
            move |line| drop(lines.send(Event::CommandLine(sequence, line))),
            move |end| drop(exit.send(Event::CommandExit(sequence, end))),
        );
        // A command that could not be started has sent its end already; it is handled like any other.
        work.pid = running.as_ref().map(|running| running.pid);
        work.phase = running.map_or(Phase::Stopping, Phase::Command);
        self.place(work);
    }

    /// Too late: not run, and whoever waits for the result is told.
    fn expired(&mut self, work: Work) {
        if self.start.config.tasks.contains_key(&work.message.headers.task) {
            let exception =
                Exception { kind: "TaskRevokedError", module: "celery.exceptions", arguments: json!(["expired"]) };
            return self.end_here(work, &State::Revoked(&exception), Action::Ack);
        }
        self.record(work, "expired", String::new(), None);
    }

    /// Not registered: dead letter, and whoever waits for the result gets Celery's `NotRegistered`.
    fn unknown(&mut self, work: Work, now: i64) {
        let name = &work.message.headers.task;
        let text = format!("task {name:?} is neither registered in the application nor configured in [tasks]");
        let entry = story::entry(&self.start, Reason::UnknownTask, &text, &work.queue, Some(&work.message), now);
        if self.python() {
            return self.record(work, "unregistered", text, Some(entry));
        }
        let exception = Exception { kind: "NotRegistered", module: "celery.exceptions", arguments: json!([name]) };
        let action = Action::Dead { message: work.message.raw.clone(), entry };
        self.end_here(work, &State::Failure(&exception, ""), action);
    }

    /// It took its worker with it too often: dead letter, and whoever waits for the result gets Celery's
    /// `WorkerLostError`, as for a task whose runner died too often.
    fn lost(&mut self, work: Work, now: i64) {
        let why = format!("its worker died {} times while it ran", work.message.deliveries);
        let entry = story::entry(&self.start, Reason::Lost, &why, &work.queue, Some(&work.message), now);
        let text = format!("Worker exited prematurely: {why}.");
        if !self.start.config.tasks.contains_key(&work.message.headers.task) {
            return self.record(work, "lost", text, Some(entry));
        }
        let exception = Exception { kind: "WorkerLostError", module: "billiard.exceptions", arguments: json!([text]) };
        let action = Action::Dead { message: work.message.raw.clone(), entry };
        self.end_here(work, &State::Failure(&exception, ""), action);
    }

    /// Settles a task nothing ran for, with a result written here.
    fn end_here(&mut self, work: Work, state: &State, action: Action) {
        let stores = self.results_of(&work.message, state);
        self.outbox.push(Settlement { stores, ..work.settlement(0.0, action) });
    }

    /// Has a runner record the end of a task, in a slot of its own.
    fn record(&mut self, mut work: Work, why: &'static str, text: String, dead: Option<String>) {
        work.phase = Phase::Recording(Record { why, text, dead, given: false });
        if let Some(index) = self.place(work) {
            self.give_record(index);
        }
    }

    /// Gives the record of a slot to its runner, if that is ready and hasn't got it.
    pub(super) fn give_record(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let RunnerState::Ready(runner) = &slot.runner else { return };
        let Some(Work { phase: Phase::Recording(record), message, .. }) = &mut slot.work else { return };
        if !record.given {
            record.given = true;
            // Can't fail: a record does without a body that can't be read.
            let _ = runner.give(message, &Task::Record(&record.note()));
        }
    }
}
