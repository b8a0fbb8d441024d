//! The life of the Python runners: started, heard, limited, buried, replaced.

use super::engine::{Claiming, Engine, Event, Failure};
use super::intake::Reason;
use super::slots::{RunnerState, slot_of};
use super::story;
use super::work::{Phase, Record, Terminated};
use crate::broker::{Action, Settlement, Store};
use crate::channel::Exit;
use crate::message::rewrite;
use crate::runner::Said;
use crate::runner::python::{PythonRunner, Wanted, Zygote, ZygoteSaid};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// Longer than anything lasts here: one KILL is enough.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

impl Engine {
    /// Connects to the zygote. It answers with the registry once the application is imported.
    pub(super) fn connect_zygote(&mut self) -> Result<(), Failure> {
        let Some(name) = &self.start.zygote else { return Ok(()) };
        let zygote = Zygote::connect(name).map_err(|error| Failure {
            exit: Exit::Internal,
            message: format!("can't reach the supervisor's socket for the zygote: {error}"),
        })?;
        self.zygote_number += 1;
        let (number, tell) = (self.zygote_number, self.tell.clone());
        tokio::task::spawn_local(zygote.clone().listen(move |said| tell.send(Event::Zygote(number, said)).is_ok()));
        self.zygote = Some(zygote);
        Ok(())
    }

    pub(super) fn zygote_said(&mut self, said: ZygoteSaid) {
        match said {
            ZygoteSaid::Registry(registry) => {
                if let Some(database) = registry.results_db {
                    self.exchange.stepper.set_results_db(database);
                }
                tracing::debug!(tasks = registry.tasks.len(), results_db = registry.results_db, "application known");
                self.registry = Some(*registry);
                for slot in &mut self.slots {
                    slot.runner = RunnerState::Waiting(Instant::now());
                }
            }
            ZygoteSaid::Started { runner, pid, pidfd } => {
                let slot = &mut self.slots[slot_of(runner)];
                if slot.is_current(runner)
                    && let Some(process) = slot.runner.process()
                {
                    process.started(pid, pidfd);
                }
            }
            ZygoteSaid::Exited { pid, status } => {
                let dead = |runner: &mut PythonRunner| runner.pid == Some(pid);
                if let Some(index) = self.slots.iter_mut().position(|slot| slot.runner.process().is_some_and(dead)) {
                    self.runner_died(index, &describe(pid, status));
                }
            }
            ZygoteSaid::Fenced { owner } => self.fenced(&owner),
            ZygoteSaid::Closed => self.zygote_died(),
        }
    }

    /// The zygote's death takes its runners with it; that is not the fault of what they ran.
    fn zygote_died(&mut self) {
        tracing::warn!("the Python zygote is gone and its runners with it; what they ran is handed back");
        self.registry = None;
        self.unfence();
        for index in (0..self.slots.len()).rev() {
            let slot = &mut self.slots[index];
            if let Some(runner) = slot.runner.process() {
                runner.signal(Signal::KILL); // the kernel does it too, but nobody says when
            }
            slot.runner = RunnerState::Absent;
            if slot.work.as_ref().is_some_and(|work| !matches!(work.phase, Phase::Command(_))) {
                self.hand_back(index, false);
            }
        }
        self.waiting("waiting for the Python zygote".into());
        if self.connect_zygote().is_err() {
            // The supervisor's socket is gone, so the supervisor is; the orders end too and say so.
            self.zygote = None;
        }
    }

    /// Starts the runners whose time has come.
    pub(super) async fn start_runners(&mut self, now: Instant) {
        let Some(zygote) = &self.zygote else { return };
        let draining = matches!(self.claiming, Claiming::Draining(_));
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.runner_due(draining).is_none_or(|until| until > now) {
                continue;
            }
            let number = slot.next_number(index);
            let tell = self.tell.clone();
            let tell = move |said| drop(tell.send(Event::Runner(number, said)));
            let wanted = Wanted { number, node: &self.start.node, owner: &self.start.owner };
            match PythonRunner::start(zygote, &wanted, tell).await {
                Ok(runner) => slot.runner = RunnerState::Starting(runner),
                Err(error) => {
                    tracing::error!(%error, "can't start a runner");
                    slot.runner_died(now);
                }
            }
        }
    }

    pub(super) fn runner_said(&mut self, number: u64, said: Said) {
        let index = slot_of(number);
        if !self.slots[index].is_current(number) {
            return;
        }
        match said {
            Said::Ready => {
                let slot = &mut self.slots[index];
                slot.runner.started();
                self.look = true;
                self.give_record(index);
            }
            Said::Ended(ended) => self.python_ended(index, ended),
            Said::Store(store) => {
                if let Some(work) = &self.slots[index].work {
                    let settlement = work.settlement(0.0, Action::Store);
                    self.store_now(settlement, store);
                }
            }
            Said::Log { level, logger, text } => {
                story::logged(&self.start, self.slots[index].work.as_ref(), level, &logger, &text);
            }
            Said::Output(line) => story::wrote(&self.start, self.slots[index].work.as_ref(), &line),
            // Its exit status follows from the zygote, and with it the decision.
            Said::Closed => {}
        }
    }

    /// Stores a state of a task that still runs; while Redis is away only the latest is kept.
    fn store_now(&mut self, settlement: Settlement, store: Store) {
        let sequence = settlement.sequence;
        let pending = self.outbox.iter_mut().filter(|old| old.sequence == sequence && old.action == Action::Store);
        match pending.flat_map(|old| &mut old.stores).find(|old| old.key == store.key) {
            Some(old) => *old = store,
            None => self.outbox.push(Settlement { stores: vec![store], ..settlement }),
        }
    }

    pub(super) fn command_wrote(&self, sequence: u64, line: &str) {
        let work = self.slot_of_claim(sequence).and_then(|index| self.slots[index].work.as_ref());
        story::wrote(&self.start, work, line);
    }

    /// A runner is dead: its task is handed back, or recorded as lost, and another takes its place.
    fn runner_died(&mut self, index: usize, how: &str) {
        let slot = &mut self.slots[index];
        let retired = matches!(slot.runner, RunnerState::Retiring(_));
        slot.runner_died(Instant::now());
        if retired {
            slot.failures = 0;
        }
        let Some(work) = &mut slot.work else { return };
        match &mut work.phase {
            Phase::Recording(record) if record.given && record.why == "time-limit" => record.given = false,
            Phase::Recording(record) if record.given => {
                // It died of telling Celery: the message must not be lost over it.
                let text = format!("{}; recording that failed: {how}", record.text);
                self.bury(index, Reason::Lost, &text);
            }
            Phase::Recording(_) | Phase::Command(_) => {}
            Phase::Stopping => self.hand_back(index, false),
            Phase::Python if work.terminated.is_some() => {
                let text = work.terminated.map(|terminated| terminated.signal.to_string()).unwrap_or_default();
                work.phase = Phase::Recording(Record { why: "terminated", text, dead: None, given: false });
            }
            Phase::Python => {
                story::lost(&self.start, work, how);
                if work.message.deliveries + 1 < self.start.config.delivery.max_deliveries {
                    return self.hand_back(index, true);
                }
                let text = format!("Worker exited prematurely: {how}.");
                let why =
                    format!("its runner died {} times while it ran, the last time: {how}", work.message.deliveries + 1);
                let now = self.exchange.now();
                let dead = story::entry(&self.start, Reason::Lost, &why, &work.queue, Some(&work.message), now);
                work.phase = Phase::Recording(Record { why: "lost", text, dead: Some(dead), given: false });
            }
        }
    }

    /// Puts the message of a slot back to the front of its list.
    pub(super) fn hand_back(&mut self, index: usize, counted: bool) {
        if let Some(work) = self.slots[index].work.take() {
            self.outbox.push(work.settlement(work.ran(), Action::Front(rewrite::redelivered(&work.message, counted))));
        }
    }

    /// Raises the soft limit in what is over it, and kills what is over the hard one.
    pub(super) fn enforce_limits(&mut self, now: Instant) {
        for slot in &mut self.slots {
            let Some(work) = &mut slot.work else { continue };
            let runner = slot.runner.process();
            match (&work.phase, work.hard_limit) {
                (Phase::Python, Some((limit, seconds))) if now >= limit => {
                    story::over_limit(&self.start, work, seconds);
                    work.hard_limit = None;
                    let record = Record { why: "time-limit", text: seconds.to_string(), dead: None, given: false };
                    work.phase = Phase::Recording(record);
                    if let Some(runner) = runner {
                        runner.signal(Signal::KILL);
                    }
                    // Not ready until its successor says so: the record must not go to the one being killed.
                    slot.runner.retire();
                }
                (Phase::Command(command), Some((limit, _))) if now >= limit => {
                    command.kill();
                    work.phase = Phase::Stopping; // the limit stays: the exit is judged by it
                }
                (Phase::Python | Phase::Command(_), _) if work.terminated.is_some_and(|it| now >= it.kill_at) => {
                    work.terminated = work.terminated.map(|it| Terminated { kill_at: now + NEVER, ..it });
                    match (&work.phase, runner) {
                        (Phase::Command(command), _) => command.kill(),
                        (_, Some(runner)) => runner.signal(Signal::KILL),
                        (_, None) => {}
                    }
                }
                (Phase::Python, _) if work.soft_limit.is_some_and(|limit| now >= limit) => {
                    work.soft_limit = None;
                    story::over_soft_limit(&self.start, work);
                    if let Some(runner) = runner {
                        runner.signal(Signal::USR1);
                    }
                }
                _ => {}
            }
        }
    }

    /// A runner that has done its share goes, and a fresh one comes.
    pub(super) fn retire_if_old(&mut self, index: usize) {
        let limit = self.start.config.python.as_ref().and_then(|python| python.max_tasks_per_runner);
        let slot = &mut self.slots[index];
        if limit.is_some_and(|limit| slot.finished >= limit)
            && slot.runner.retire()
            && let Some(runner) = slot.runner.process()
        {
            runner.retire();
        }
    }

    /// Kills whatever runs the task of a slot; its end is told later.
    pub(super) fn kill(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let Some(work) = &mut slot.work else { return };
        match std::mem::replace(&mut work.phase, Phase::Stopping) {
            Phase::Command(command) => command.kill(),
            Phase::Python | Phase::Recording(_) | Phase::Stopping => {
                if let Some(runner) = slot.runner.process() {
                    runner.signal(Signal::KILL);
                }
            }
        }
    }
}

/// A wait status in Celery's words (`billiard.common.human_status`).
fn describe(pid: u32, status: i32) -> String {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap_or(0));
    match WaitStatus::from_raw(pid, status) {
        Ok(WaitStatus::Signaled(_, signal, _)) => format!("signal {} ({})", signal as i32, signal.as_str()),
        Ok(WaitStatus::Exited(_, code)) => format!("exitcode {code}"),
        _ => format!("wait status {status:#x}"),
    }
}
