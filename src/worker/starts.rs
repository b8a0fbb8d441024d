//! How a task is started; and one that is delivered at most once not before Redis has noted it.
//!
//! Until the note is made its message is a claim like any other and goes back, whoever dies. From then on it never
//! does: it ends with its task or as a dead letter (`Engine::give_up`), whether the task had begun or was just about to.

use super::engine::{Engine, Event};
use super::exchange::Trouble;
use super::letter::{Death, Letter};
use super::slots::RunnerState;
use super::story;
use super::work::{Phase, Record, Then, Work};
use crate::broker::{Action, Reason, start};
use crate::message::body::Arguments;
use crate::results::State;
use crate::runner::python::frames;
use crate::runner::{command, worker_lost};
use serde_json::json;
use std::time::{Duration, Instant};

impl Engine {
    /// Starts a Python task in a free slot, unless that has to be noted first; or puts it behind others.
    pub(super) fn take_python(&mut self, mut work: Work) {
        if work.rules.once {
            work.phase = Phase::Noting(None);
            self.place(work);
        } else if self.free_slot().is_some_and(|index| self.ahead.is_idle(index)) {
            self.start_in_slot(work);
        } else {
            self.give_ahead(work);
        }
    }

    /// Starts a Python task in a free slot; where there is none it goes back.
    pub(super) fn start_in_slot(&mut self, work: Work) {
        if let Some(index) = self.place(work) {
            self.start_python(index);
        }
    }

    /// The same for a command.
    pub(super) fn take_command(&mut self, work: Work, arguments: Arguments) {
        if work.rules.once {
            self.place(Work { phase: Phase::Noting(Some(arguments)), ..work });
        } else if let Some(index) = self.place(work) {
            self.start_command(index, &arguments);
        }
    }

    /// Something is about to start for good.
    pub(super) fn has_to_note(&self) -> bool {
        self.slots.iter().flat_map(|slot| &slot.work).any(|work| matches!(work.phase, Phase::Noting(_)))
    }

    /// Has Redis note what is about to start for good, and starts it.
    pub(super) async fn note_starts(&mut self) -> Result<(), Trouble> {
        let waiting = self.slots.iter().flat_map(|slot| &slot.work);
        let waiting = waiting.filter(|work| matches!(work.phase, Phase::Noting(_)));
        let mut waiting: Vec<(u64, &[u8])> = waiting.map(|work| (work.sequence, &work.message.raw[..])).collect();
        let Some(connection) = self.exchange.connection.as_mut().filter(|_| !waiting.is_empty()) else {
            return Ok(());
        };
        waiting.sort_unstable_by_key(|(sequence, _)| *sequence);
        let (keys, number) = (&self.exchange.keys, self.exchange.number);
        let may = start::note(connection, keys, &self.start.owner, number, &waiting).await?;
        let may = may.ok_or(Trouble::LeaseLost)?;
        for sequence in waiting.into_iter().map(|(sequence, _)| sequence).collect::<Vec<_>>() {
            let Some(index) = self.slot_of_claim(sequence) else { continue };
            if may.contains(&sequence) {
                self.begin(index);
            } else {
                tracing::debug!(claim = sequence, "taken over by others before it was started");
                self.slots[index].work = None;
                self.look = true;
            }
        }
        Ok(())
    }

    fn begin(&mut self, index: usize) {
        let Some(work) = &mut self.slots[index].work else { return };
        work.noted = true;
        match std::mem::replace(&mut work.phase, Phase::Python) {
            Phase::Noting(Some(arguments)) => self.start_command(index, &arguments),
            _ => self.start_python(index),
        }
    }

    fn start_python(&mut self, index: usize) {
        self.set_off(index);
        let slot = &self.slots[index];
        let (RunnerState::Ready(runner), Some(work)) = (&slot.runner, &slot.work) else { return };
        match frames::encode(work.sequence, &work.message, &self.events.run(work)) {
            Ok(frame) => runner.give(frame),
            Err(malformed) => {
                let text = malformed.to_string();
                self.bury(index, Reason::Malformed, &text);
            }
        }
    }

    /// From now on the task of a slot runs in Python, and its limits count.
    pub(super) fn set_off(&mut self, index: usize) {
        let Some(work) = &self.slots[index].work else { return };
        let (own_hard, own_soft) = self.limits_of(&work.message.headers.task);
        self.remote.started(&work.message.headers.task);
        let slot = &mut self.slots[index];
        let (Some(runner), Some(work)) = (slot.runner.process(), &mut slot.work) else { return };
        let (hard, soft) = work.message.headers.timelimit.unwrap_or((None, None));
        // The call's, else the task's, which knows the application's setting, else the worker's own, as in
        // `celery/worker/request.py`, `execute_using_pool`. 0 is none, as is one beyond the end of the clock.
        let given = |seconds: &f64| *seconds > 0.0;
        let python = self.start.config.python.as_ref();
        let all_hard = python.and_then(|python| python.time_limit).map(|limit| limit.as_secs_f64());
        let all_soft = python.and_then(|python| python.soft_time_limit).map(|limit| limit.as_secs_f64());
        let hard = hard.filter(given).or(own_hard).or(all_hard);
        let soft = soft.filter(given).or(own_soft).or(all_soft);
        let started = Instant::now();
        let after = |seconds| started.checked_add(Duration::try_from_secs_f64(seconds).ok()?);
        work.started = started;
        work.hard_limit = hard.and_then(|seconds| Some((after(seconds)?, seconds)));
        work.soft_limit = soft.and_then(after);
        work.pid = runner.pid;
        self.memory.began(work.memory_limit, runner.leaf.as_ref());
        story::started(&self.start, work);
        self.events.started(work);
    }

    fn start_command(&mut self, index: usize, arguments: &Arguments) {
        let Some(work) = &self.slots[index].work else { return };
        let limit = self.limit_of_command(&work.message.headers.task);
        self.remote.started(&work.message.headers.task);
        let Some(work) = &mut self.slots[index].work else { return };
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
        work.started = Instant::now();
        story::started(&self.start, work);
        self.events.started(work);
        let limit = limit.unwrap_or(task.time_limit.map(|limit| limit.as_secs_f64()));
        let after = |seconds| work.started.checked_add(Duration::try_from_secs_f64(seconds).ok()?);
        work.hard_limit = limit.and_then(|seconds| Some((after(seconds)?, seconds)));
        let leaf = work.memory_limit.and_then(|limit| self.memory.leaf(Some(limit)));
        let running = command::start(
            task,
            input.into_bytes(),
            leaf,
            move |line| drop(lines.send(Event::CommandLine(sequence, line))),
            move |end| drop(exit.send(Event::CommandExit(sequence, end))),
        );
        // A command that could not be started has sent its end already; it is handled like any other.
        work.pid = running.as_ref().map(|running| running.pid);
        self.memory.began(work.memory_limit, running.as_ref().and_then(|running| running.leaf.as_ref()));
        work.phase = running.map_or(Phase::Stopping, Phase::Command);
    }

    /// The task of a slot has started, didn't come to its end and is not tried again: whoever waits for its result
    /// gets Celery's `WorkerLostError`, and its message becomes a dead letter.
    pub(super) fn give_up(&mut self, index: usize, reason: Reason, why: &str, death: Option<&Death>) {
        let now = self.exchange.now();
        let slot = &mut self.slots[index];
        let Some(work) = &mut slot.work else { return };
        let mut letter = Letter::of_work(reason, why, work, now);
        if let Some(death) = death {
            letter = letter.died(death);
        }
        let entry = letter.write(&self.start, self.registry.as_ref());
        let text = format!("Worker exited prematurely: {}.", death.map_or(why, |death| &death.words));
        if !self.start.config.tasks.contains_key(&work.message.headers.task) {
            // By the next runner of this slot.
            work.phase = Phase::Recording(Record { why: "lost", text, then: Then::Dead(entry), given: false });
        } else if let Some(work) = slot.work.take() {
            let action = Action::Dead { message: work.message.raw.clone(), entry };
            self.end_here(work, &State::Failure(&worker_lost(&text), ""), action);
        }
    }
}
