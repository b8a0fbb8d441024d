//! From the end of a task to what becomes of its message.

use super::dispatch::task_revoked;
use super::engine::Engine;
use super::intake::Reason;
use super::story;
use super::work::{Phase, Record, Work};
use crate::broker::{Action, Claim, Settlement, Store};
use crate::config::CommandTask;
use crate::fairness::flow;
use crate::message::{Message, rewrite};
use crate::results::{self, State};
use crate::runner::command::{self, CommandExit, Verdict};
use crate::runner::{Detail, Ended, Exception, Outcome};
use serde_json::json;

impl Engine {
    /// Gives a claim back as it came.
    pub(super) fn untouched(&self, claim: Claim) -> Settlement {
        let queue = self.exchange.keys.queue_of(&claim.list);
        let mut flow = claim.flow;
        let action = match Message::parse(claim.raw) {
            Ok(message) => {
                flow.get_or_insert_with(|| self.flow_of(&message, queue));
                Action::Front(rewrite::redelivered(&message, false))
            }
            Err((_, raw)) if raw.is_empty() => Action::Ack, // a stock worker has restored it
            Err((_, raw)) => Action::Front(raw),
        };
        Settlement::new(claim.sequence, flow.unwrap_or_else(|| flow::of_queue(queue)), Some(0.0), action)
    }

    /// A Python task has ended, or its end is recorded.
    pub(super) fn python_ended(&mut self, index: usize, ended: Ended) {
        let slot = &mut self.slots[index];
        slot.failures = 0;
        slot.finished += 1;
        let Some(work) = slot.work.take() else { return };
        if work.terminated.is_some()
            && matches!(work.phase, Phase::Python)
            && let Some(runner) = slot.runner.process()
        {
            runner.retire(); // it has outlived its signal, or may yet die of it
        }
        let settlement = work.settlement(self.charge(&work), Action::Ack);
        if !matches!(work.phase, Phase::Recording(_)) {
            story::ended(&self.start, &work, &ended);
        }
        let action = match (work.phase, ended.outcome) {
            (Phase::Recording(Record { dead: Some(entry), .. }), _) => {
                Action::Dead { message: work.message.raw, entry }
            }
            (Phase::Recording(_), outcome) if outcome != Outcome::Refused => Action::Ack,
            (_, Outcome::Requeued) => Action::Back(rewrite::redelivered(&work.message, false)),
            (_, Outcome::Refused) => {
                let (now, why) = (self.exchange.now(), &ended.detail.exception);
                let entry = story::entry(&self.start, Reason::Malformed, why, &work.queue, Some(&work.message), now);
                Action::Dead { message: work.message.raw, entry }
            }
            _ => Action::Ack,
        };
        self.count(ended.outcome);
        self.outbox.push(Settlement { action, stores: ended.stores, ..settlement });
        self.retire_if_old(index);
    }

    /// A command has ended.
    pub(super) fn command_ended(&mut self, sequence: u64, exit: &CommandExit) {
        let Some(index) = self.slot_of_claim(sequence) else { return };
        if self.is_stopping(index) && !succeeded(exit) {
            return self.hand_back(index, false);
        }
        let Some(work) = self.slots[index].work.take() else { return };
        if work.terminated.is_some() && !succeeded(exit) {
            return self.end_here(work, &State::Revoked(&task_revoked("terminated")), Action::Ack);
        }
        let Some(task) = self.start.config.tasks.get(&work.message.headers.task).cloned() else { return };
        let verdict = match work.hard_limit {
            Some((limit, seconds)) if std::time::Instant::now() >= limit && !succeeded(exit) => {
                let arguments = json!([seconds]);
                Verdict::Failure(Exception { kind: "TimeLimitExceeded", module: "billiard.exceptions", arguments })
            }
            _ => command::judge(&task, exit),
        };
        match verdict {
            Verdict::Success(value) => {
                let ended = end(Outcome::Success, exit, Detail::default());
                self.settle_command(&work, &State::Success(&value), Action::Ack, &ended);
            }
            Verdict::Failure(exception) => self.command_failed(&work, &task, exit, &exception),
        }
    }

    fn command_failed(&mut self, work: &Work, task: &CommandTask, exit: &CommandExit, exception: &Exception) {
        let retries = work.message.headers.attempt() - 1;
        let mut detail = Detail {
            exception: format!("{}{}", exception.kind, exception.arguments),
            traceback: Some(exit.stderr.clone()),
            ..Detail::default()
        };
        if retries >= task.max_retries {
            let ended = end(Outcome::Failure, exit, detail);
            return self.settle_command(work, &State::Failure(exception, &exit.stderr), Action::Ack, &ended);
        }
        let wait = command::retry_wait(task, retries, fastrand::f64());
        let due = self.exchange.now() + i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2);
        detail.when = Some(format!("in {:.1} s", wait.as_secs_f64()));
        let ended = end(Outcome::Retry, exit, detail);
        let action = Action::Delay { message: rewrite::retried(&work.message, due), due };
        self.settle_command(work, &State::Retry(exception, &exit.stderr), action, &ended);
    }

    /// The result to store for a task that Celery doesn't run; none if nobody wants it.
    pub(super) fn results_of(&self, message: &Message, state: &State) -> Vec<Store> {
        if message.headers.ignore_result == Some(true) {
            return Vec::new();
        }
        vec![results::store(&self.start.config.results, message, state, self.exchange.now())]
    }

    fn settle_command(&mut self, work: &Work, state: &State, action: Action, ended: &Ended) {
        story::ended(&self.start, work, ended);
        self.count(ended.outcome);
        let stores = self.results_of(&work.message, state);
        let settlement = work.settlement(self.charge(work), action);
        self.outbox.push(Settlement { stores, ..settlement });
    }

    /// Takes the task out of a slot and puts its message to the dead letters.
    pub(super) fn bury(&mut self, index: usize, reason: Reason, text: &str) {
        let Some(work) = self.slots[index].work.take() else { return };
        let entry = story::entry(&self.start, reason, text, &work.queue, Some(&work.message), self.exchange.now());
        let settlement = work.settlement(work.ran(), Action::Ack);
        self.outbox.push(Settlement { action: Action::Dead { message: work.message.raw, entry }, ..settlement });
    }

    /// What a task that has ended costs its tenant, milliseconds; also what the next one is expected to take.
    fn charge(&mut self, work: &Work) -> f64 {
        let ran = work.ran();
        self.expected += (ran - self.expected) / 16.0;
        ran
    }

    /// Slot in which the message of a claim is under way.
    pub(super) fn slot_of_claim(&self, sequence: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.work.as_ref().is_some_and(|work| work.sequence == sequence))
    }

    fn count(&mut self, outcome: Outcome) {
        self.reports.update(|figures| {
            figures.done += 1;
            match outcome {
                Outcome::Failure | Outcome::Rejected | Outcome::Refused => figures.failed += 1,
                Outcome::Retry => figures.retried += 1,
                Outcome::Success | Outcome::Ignored | Outcome::Requeued => {}
            }
        });
    }
}

fn end(outcome: Outcome, exit: &CommandExit, detail: Detail) -> Ended {
    Ended { outcome, runtime: exit.runtime, stores: Vec::new(), detail }
}

fn succeeded(exit: &CommandExit) -> bool {
    exit.status.is_some_and(|status| status.success())
}
