//! From a claim to a running task.

use super::engine::Engine;
use super::intake::{self, Plan};
use super::letter::Letter;
use super::rules::Rules;
use super::slots::RunnerState;
use super::story;
use super::tail::Tail;
use super::work::{Phase, Record, Then, Work};
use crate::broker::{Action, Claim, Reason, Settlement};
use crate::celery::stamps;
use crate::fairness::flow;
use crate::message::Message;
use crate::results::State;
use crate::runner::python::frames::{self, Task};
use crate::runner::{Exception, worker_lost};
use serde_json::json;
use std::cell::Cell;
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
            let entry = Letter::new(Reason::TooLarge, &text, &queue, now).write(&self.start, self.registry.as_ref());
            return self.outbox.push(unread(Action::Dead { message: claim.raw, entry }));
        }
        self.ahead.weigh(claim.raw.len());
        let message = match Message::parse(claim.raw) {
            Ok(message) => message,
            Err((malformed, raw)) => {
                let entry = Letter::new(Reason::Malformed, &malformed.to_string(), &queue, now)
                    .write(&self.start, self.registry.as_ref());
                return self.outbox.push(unread(Action::Dead { message: raw, entry }));
            }
        };
        let task = &message.headers.task;
        let info = self.registry.as_ref().and_then(|registry| registry.tasks.get(task));
        let rules = Rules::of(&self.start.config.delivery, task, info);
        let (unseen, in_turn) = (claim.flow.is_none(), claim.in_turn);
        if unseen {
            self.naming.see(self.registry.as_ref(), &message, &queue);
        }
        let flow = claim.flow.unwrap_or_else(|| self.flow_of(&message, &queue));
        self.tally.begin(claim.sequence, &flow, waited, unseen, Instant::now());
        let mut work = Work {
            sequence: claim.sequence,
            list: claim.list,
            queue,
            message,
            flow,
            pid: None,
            started: Instant::now(),
            ahead: false,
            soft_limit: None,
            hard_limit: None,
            terminated: None,
            memory_limit: None,
            outgrown: None,
            lines: Cell::new(0),
            rules,
            events: info.is_none_or(|info| info.send_events),
            noted: false,
            tail: Tail::default(),
            phase: Phase::Python,
        };
        if self.is_barred(&work) {
            return self.put_back(work);
        }
        work.memory_limit = self.start.config.memory_limit(&work.message.headers.task);
        let revoked = self.is_revoked(&work.message);
        let limited = self.rates.limited(&work.message.headers.task).filter(|_| !in_turn);
        let plan = intake::plan(&self.start.config, self.registry.as_ref(), &work.message, revoked, now);
        if matches!(plan, Plan::Python | Plan::Command(_) | Plan::Builtin | Plan::Delay(_)) {
            self.events.received(&work, self.registry.as_ref());
        }
        match plan {
            plan @ (Plan::Python | Plan::Command(_) | Plan::Builtin) => match (limited, plan) {
                (Some(task), _) => self.settle(work, |message| Action::Limit { message, task }),
                (None, Plan::Command(arguments)) => self.take_command(work, arguments),
                (None, Plan::Builtin) => self.do_builtin(&work),
                (None, _) => self.take_python(work),
            },
            Plan::Delay(due) => {
                story::delayed(&self.start, &work, due);
                self.ahead.needed_no_slot(&work);
                self.settle(work, |message| Action::Delay { message, due });
            }
            Plan::Expired => self.revoked(work, "expired"),
            Plan::Revoked => self.revoked(work, "revoked"),
            Plan::Unknown => self.unknown(work, now),
            Plan::Lost => self.lost(work, now),
            Plan::Dead(reason, text) => {
                let entry = Letter::of_work(reason, &text, &work, now).write(&self.start, self.registry.as_ref());
                self.settle(work, |message| Action::Dead { message, entry });
            }
        }
    }

    /// Notes what becomes of a claim; the next step does it.
    pub(super) fn settle(&mut self, work: Work, action: impl FnOnce(Vec<u8>) -> Action) {
        let settlement = work.settlement(Action::Ack);
        self.outbox.push(Settlement { action: action(work.message.raw), ..settlement });
    }

    /// Slot for a task that has just been claimed.
    pub(super) fn free_slot(&self) -> Option<usize> {
        if !self.ahead.works.is_empty() {
            return None; // whichever is free may take one of these at any moment
        }
        let python = self.python();
        self.slots.iter().position(|slot| slot.is_free(python))
    }

    /// Puts work into a free slot; where there is none, which only one claimed ahead can find, it goes back.
    pub(super) fn place(&mut self, work: Work) -> Option<usize> {
        self.ahead.slotless = 0;
        match self.free_slot() {
            Some(index) => {
                self.slots[index].work = Some(work);
                Some(index)
            }
            None => {
                self.decline(work);
                None
            }
        }
    }

    /// Whether a task was taken back, by its id or by a stamp it bears.
    fn is_revoked(&self, message: &Message) -> bool {
        let revoked = &self.exchange.revoked;
        revoked.contains(&message.headers.id)
            || revoked.has_stamps()
                && stamps::of_headers(message.headers_json()).iter().any(|mark| revoked.contains(mark))
    }

    /// Too late, or taken back: not run, and whoever waits for the result is told.
    fn revoked(&mut self, work: Work, why: &'static str) {
        story::revoked(&self.start, &work, why);
        if self.is_own(&work.message.headers.task) {
            return self.end_here(work, &State::Revoked(&task_revoked(why)), Action::Ack);
        }
        self.record(work, why, String::new(), Then::Ack);
    }

    /// Not registered: dead letter, and whoever waits for the result gets Celery's `NotRegistered`.
    fn unknown(&mut self, work: Work, now: i64) {
        let name = &work.message.headers.task;
        let text = format!("task {name:?} is neither registered in the application nor configured in [tasks]");
        let entry = Letter::of_work(Reason::UnknownTask, &text, &work, now).write(&self.start, self.registry.as_ref());
        if self.python() {
            return self.record(work, "unregistered", text, Then::Dead(entry));
        }
        let exception = Exception { kind: "NotRegistered", module: "celery.exceptions", arguments: json!([name]) };
        let action = Action::Dead { message: work.message.raw.clone(), entry };
        self.end_here(work, &State::Failure(&exception, ""), action);
    }

    /// It took its worker with it too often: dead letter, and whoever waits for the result gets Celery's
    /// `WorkerLostError`, as for a task whose runner died too often.
    fn lost(&mut self, work: Work, now: i64) {
        let why = format!("its worker died {} times while it ran", work.message.deliveries);
        let entry = Letter::of_message(Reason::Lost, &why, &work.queue, &work.message, now)
            .write(&self.start, self.registry.as_ref());
        let text = format!("Worker exited prematurely: {why}.");
        if !self.is_own(&work.message.headers.task) {
            return self.record(work, "lost", text, Then::Dead(entry));
        }
        let action = Action::Dead { message: work.message.raw.clone(), entry };
        self.end_here(work, &State::Failure(&worker_lost(&text), ""), action);
    }

    /// Settles a task nothing ran for, with a result written here.
    pub(super) fn end_here(&mut self, work: Work, state: &State, action: Action) {
        self.events.settled(&work, state, Duration::ZERO);
        let stores = self.results_of(&work.message, state);
        self.outbox.push(Settlement { stores, ..work.settlement(action) });
    }

    /// Has a runner record the end of a task, in a slot of its own.
    fn record(&mut self, mut work: Work, why: &'static str, text: String, then: Then) {
        work.phase = Phase::Recording(Record { why, text, then, given: false });
        if let Some(index) = self.place(work) {
            self.give_record(index);
        }
    }

    /// Gives the record of a slot to its runner, if that is ready and hasn't got it.
    pub(super) fn give_record(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let RunnerState::Ready(runner) = &slot.runner else { return };
        let Some(Work { phase: Phase::Recording(record), message, sequence, .. }) = &mut slot.work else { return };
        if !record.given {
            record.given = true;
            // Can't fail: a record does without a body that can't be read.
            if let Ok(frame) = frames::encode(*sequence, message, &Task::Record(&record.note())) {
                runner.give(frame);
            }
        }
    }
}

/// Celery's exception for a task that was not run, or not to its end.
pub(super) fn task_revoked(why: &str) -> Exception {
    Exception { kind: "TaskRevokedError", module: "celery.exceptions", arguments: json!([why]) }
}
