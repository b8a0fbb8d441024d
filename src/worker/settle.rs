//! From the end of a task to what becomes of its message.

use super::dispatch::task_revoked;
use super::engine::Engine;
use super::letter::{Death, Letter};
use super::runners::OVER;
use super::story;
use super::work::{Phase, Record, Then, Work};
use crate::broker::{Action, Claim, Reason, Settlement, Store};
use crate::config::CommandTask;
use crate::fairness::flow;
use crate::memory::cgroup::Leaf;
use crate::message::{Message, rewrite};
use crate::results::{self, State};
use crate::runner::command::{self, CommandExit, Verdict};
use crate::runner::{Detail, Ended, Exception, Outcome};
use serde_json::json;

impl Engine {
    /// Gives a claim back as it came; one that was started for good, and that we have lost sight of, is never run again.
    pub(super) fn untouched(&self, claim: Claim) -> Settlement {
        if claim.started {
            return self.given_back(&self.start.owner, claim, self.exchange.now());
        }
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
        let aimed_at = std::mem::take(&mut slot.aimed_at);
        let Some(work) = slot.work.take() else { return };
        if work.terminated.is_some()
            && matches!(work.phase, Phase::Python)
            && let Some(runner) = slot.runner.process()
        {
            runner.retire(); // it has outlived its signal, or may yet die of it
        }
        let mut settlement = work.settlement(Action::Ack);
        self.stagger(index, work.started);
        if work.ahead {
            settlement.ran = Some(ended.runtime.as_secs_f64() * 1000.0);
        }
        self.learn_cost(settlement.ran);
        self.ahead.learn(ended.runtime);
        if !matches!(work.phase, Phase::Recording(_)) {
            story::ended(&self.start, &work, &ended);
        }
        self.events.ended(&work, &ended);
        let action = self.after_python(work, &ended);
        self.count(ended.outcome);
        self.outbox.push(Settlement { action, stores: ended.stores, ..settlement });
        self.retire_if_old(index);
        if aimed_at && !self.ahead.works.is_empty() {
            self.allow();
        }
    }

    /// What becomes of the message of a Python task that has ended.
    fn after_python(&self, work: Work, ended: &Ended) -> Action {
        let (reason, why) = match (&work.phase, ended.outcome) {
            (Phase::Recording(Record { then: Then::Ack, .. }), Outcome::Refused) => {
                (Reason::Malformed, ended.detail.exception.as_str())
            }
            (Phase::Recording(_), _) => {
                let Phase::Recording(Record { then, .. }) = work.phase else { return Action::Ack };
                return match then {
                    Then::Ack => Action::Ack,
                    Then::Again => Action::Back(rewrite::redelivered(&work.message, true)),
                    Then::Dead(entry) => Action::Dead { message: work.message.raw, entry },
                };
            }
            (_, Outcome::Requeued) if work.noted => {
                (Reason::Rejected, "it wants to be queued again, but is delivered at most once")
            }
            (_, Outcome::Requeued) => return Action::Back(rewrite::redelivered(&work.message, false)),
            (_, Outcome::Refused) => (Reason::Malformed, ended.detail.exception.as_str()),
            (_, Outcome::Failure) if work.rules.keep_failed && !ended.detail.expected => {
                (Reason::Failed, ended.detail.exception.as_str())
            }
            (_, Outcome::Rejected) if work.rules.keep_failed => (Reason::Rejected, ended.detail.exception.as_str()),
            _ => return Action::Ack,
        };
        let letter = Letter::of_work(reason, why, &work, self.exchange.now());
        let letter = letter.failed(&ended.detail.exception, ended.detail.traceback.as_deref());
        let entry = letter.write(&self.start, self.registry.as_ref());
        Action::Dead { message: work.message.raw, entry }
    }

    /// A command has ended.
    pub(super) fn command_ended(&mut self, sequence: u64, exit: &CommandExit) {
        let Some(index) = self.slot_of_claim(sequence) else { return };
        if self.is_stopping(index) && !succeeded(exit) {
            return self.hand_back(index, false, OVER);
        }
        let Some(work) = self.slots[index].work.take() else { return };
        self.stagger(index, work.started);
        if work.terminated.is_some() && !succeeded(exit) {
            story::dropped(&self.start, &work);
            return self.end_here(work, &State::Revoked(&task_revoked("terminated")), Action::Ack);
        }
        let killed = match &work.phase {
            Phase::Command(command) => command.leaf.as_ref().and_then(Leaf::outgrown),
            _ => None,
        };
        if let Some(peak) = killed.or(work.outgrown).filter(|_| !succeeded(exit)) {
            self.count(Outcome::Failure);
            return self.command_outgrew(work, peak);
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
            let action = self.after_failed_command(work, exit, &ended.detail);
            return self.settle_command(work, &State::Failure(exception, &exit.stderr), action, &ended);
        }
        let wait = command::retry_wait(task, retries, fastrand::f64());
        let due = self.exchange.now() + i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2);
        detail.when = Some(format!("in {:.1} s", wait.as_secs_f64()));
        let ended = end(Outcome::Retry, exit, detail);
        let action = Action::Delay { message: rewrite::retried(&work.message, due), due };
        self.settle_command(work, &State::Retry(exception, &exit.stderr), action, &ended);
    }

    /// What becomes of the message of a command that has failed for good.
    fn after_failed_command(&self, work: &Work, exit: &CommandExit, detail: &Detail) -> Action {
        if !work.rules.keep_failed {
            return Action::Ack;
        }
        let mut letter = Letter::of_work(Reason::Failed, &detail.exception, work, self.exchange.now());
        let death = exit.status.map(|status| Death::of_command(work.pid, status));
        if let Some(death) = &death {
            letter = letter.died(death);
        }
        let entry = letter.failed(&detail.exception, detail.traceback.as_deref());
        let entry = entry.write(&self.start, self.registry.as_ref());
        Action::Dead { message: work.message.raw.clone(), entry }
    }

    /// The result to store for a task that Celery doesn't run; none if nobody wants it.
    pub(super) fn results_of(&self, message: &Message, state: &State) -> Vec<Store> {
        if message.headers.ignore_result == Some(true) {
            return Vec::new();
        }
        vec![results::store(&self.start.config.results, message, state, self.exchange.now())]
    }

    pub(super) fn settle_command(&mut self, work: &Work, state: &State, action: Action, ended: &Ended) {
        story::ended(&self.start, work, ended);
        self.events.settled(work, state, ended.runtime);
        self.count(ended.outcome);
        self.learn_cost(Some(work.ran()));
        let stores = self.results_of(&work.message, state);
        self.outbox.push(Settlement { stores, ..work.settlement(action) });
    }

    /// Takes the task out of a slot and puts its message to the dead letters.
    pub(super) fn bury(&mut self, index: usize, reason: Reason, text: &str) {
        let Some(work) = self.slots[index].work.take() else { return };
        let letter = Letter::of_work(reason, text, &work, self.exchange.now());
        let entry = letter.write(&self.start, self.registry.as_ref());
        self.events.buried(&work, text);
        self.settle(work, |message| Action::Dead { message, entry });
    }

    /// The next task of a tenant that has run none is expected to take what tasks take here, about.
    fn learn_cost(&mut self, ran: Option<f64>) {
        self.expected += ran.map_or(0.0, |ran| (ran - self.expected) / 16.0);
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
