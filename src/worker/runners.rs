//! The life of the Python runners: started, heard, limited, buried, replaced.

use super::engine::{Claiming, Engine, Event, Failure};
use super::letter::{Death, Letter};
use super::rules::Rules;
use super::slots::{RunnerState, slot_of};
use super::story;
use super::work::{Phase, Record, Terminated, Then, Work};
use crate::broker::{Action, Reason, Settlement, Store};
use crate::channel::Exit;
use crate::message::rewrite;
use crate::runner::Said;
use crate::runner::python::{PythonRunner, Wanted, Zygote, ZygoteSaid};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// Longer than anything lasts here: one KILL is enough.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// Why a task was killed that is not handed back.
pub(super) const OVER: &str = "it was killed because [workers] drain_timeout was over";

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
            ZygoteSaid::Registry(mut registry) => {
                self.remote.learn(std::mem::take(&mut registry.answers));
                if let Some(database) = registry.results_db {
                    self.exchange.stepper.set_results_db(database);
                }
                tracing::debug!(tasks = registry.tasks.len(), results_db = registry.results_db, "application known");
                self.rates.learn(Some(&registry));
                self.registry = Some(*registry);
                self.learn_events();
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
            ZygoteSaid::Exited { pid, status, peak } => {
                let death = Death::of(pid, status).with_peak(peak);
                let Some(index) = self.slot_of_runner(pid) else { return };
                self.see_started();
                let slot = &mut self.slots[index];
                match slot.runner.process() {
                    Some(runner) if slot.work.is_some() || self.dismissed.is_some() => {
                        // What it said last may be its explanation, or what the application said at its end: it is heard first.
                        let (said, tell) = (runner.last_words(), self.tell.clone());
                        slot.runner.dies();
                        tokio::task::spawn_local(async move {
                            said.await;
                            // Fails only when the worker has ended.
                            let _ = tell.send(Event::RunnerDied(pid, death));
                        });
                    }
                    _ => self.runner_died(index, &death),
                }
            }
            ZygoteSaid::Fenced { owner } => self.fenced(&owner),
            ZygoteSaid::Closed => self.zygote_died(),
        }
    }

    fn slot_of_runner(&mut self, pid: u32) -> Option<usize> {
        let is = |runner: &mut PythonRunner| runner.pid == Some(pid);
        self.slots.iter_mut().position(|slot| slot.runner.process().is_some_and(is))
    }

    /// A runner is dead, and all it said has been heard.
    pub(super) fn runner_buried(&mut self, pid: u32, death: &Death) {
        // If the zygote has died meanwhile, it has no slot any more.
        if let Some(index) = self.slot_of_runner(pid) {
            self.runner_died(index, death);
        }
    }

    /// The zygote's death takes its runners with it; that is not the fault of what they ran.
    fn zygote_died(&mut self) {
        tracing::warn!("the Python zygote is gone and its runners with it; what they ran is handed back");
        self.see_started();
        self.recall();
        self.put_back_all();
        self.registry = None;
        self.look_away();
        self.unfence();
        for index in (0..self.slots.len()).rev() {
            let slot = &mut self.slots[index];
            if let Some(runner) = slot.runner.process() {
                runner.signal(Signal::KILL); // the kernel does it too, but nobody says when
            }
            slot.runner = RunnerState::Absent;
            if slot.work.as_ref().is_some_and(|work| !matches!(work.phase, Phase::Command(_))) {
                self.hand_back(index, false, "the Python zygote died while it ran");
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
            let tell = move |claim, said| drop(tell.send(Event::Runner(number, claim, said)));
            let tasks_max = self.start.config.python.as_ref().and_then(|python| python.max_tasks_per_runner);
            let wanted = Wanted { number, node: &self.start.node, owner: &self.start.owner, slot: index, tasks_max };
            let leaf = self.memory.leaf(self.start.config.workers.memory_limit);
            match PythonRunner::start(zygote, &wanted, leaf, &self.ahead.inbox, tell).await {
                Ok(runner) => slot.runner = RunnerState::Starting(runner),
                Err(error) => {
                    tracing::error!(%error, "can't start a runner");
                    slot.runner_died(now);
                }
            }
        }
    }

    /// A runner has said something about this claim.
    pub(super) fn runner_said(&mut self, number: u64, claim: u64, said: Said) {
        let index = slot_of(number);
        if !self.slots[index].is_current(number) {
            return;
        }
        self.attribute(index, claim);
        match said {
            Said::Ready => {
                let slot = &mut self.slots[index];
                slot.runner.started();
                self.look = true;
                if !self.ahead.works.is_empty() {
                    self.allow();
                }
                self.give_record(index);
            }
            // Of what was put back there is nothing to tell: it runs again.
            Said::Ended(_) if !self.has(index, claim) => {
                tracing::warn!(claim, "a runner has ended what it was not known to have");
            }
            Said::Ended(ended) => self.python_ended(index, ended),
            Said::Store(store) => {
                if let Some(work) = self.slots[index].work.as_ref().filter(|work| work.sequence == claim) {
                    let settlement = work.settlement(Action::Store);
                    self.store_now(settlement, store);
                }
            }
            Said::Log { level, logger, text } => {
                let work = &mut self.slots[index].work;
                story::logged(&self.start, work.as_ref(), level, &logger, &text);
                keep(work, &text);
            }
            Said::Output(line) => self.wrote(claim, &line),
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

    /// The task of this claim has written a line, or what it has left behind, after its end.
    pub(super) fn wrote(&mut self, sequence: u64, line: &str) {
        let Some(index) = self.slot_of_claim(sequence) else { return story::wrote(&self.start, None, line) };
        let work = &mut self.slots[index].work;
        story::wrote(&self.start, work.as_ref(), line);
        keep(work, line);
    }

    /// A runner is dead: its task is handed back, or recorded as lost, and another takes its place.
    fn runner_died(&mut self, index: usize, death: &Death) {
        let how = &death.words;
        self.see_started(); // what it said last may have been the end of one task, and the next one it did not survive
        if !self.ahead.works.is_empty() && !self.ahead.recalled {
            self.recall(); // it may have taken one that it has not begun
        }
        let slot = &mut self.slots[index];
        let retired = matches!(slot.runner, RunnerState::Retiring(_));
        let killed = slot.runner.process().and_then(|runner| runner.leaf.as_ref()?.outgrown());
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
            Phase::Stopping => self.hand_back(index, false, OVER),
            Phase::Noting(_) => self.hand_back(index, false, "its runner died before it started"),
            // Whatever killed it in the end: revoked is revoked.
            Phase::Python if work.terminated.is_some() => {
                story::dropped(&self.start, work);
                let text = work.terminated.map(|terminated| terminated.signal.to_string()).unwrap_or_default();
                work.phase = Phase::Recording(Record { why: "terminated", text, then: Then::Ack, given: false });
            }
            Phase::Python if work.outgrown.or(killed).is_some() => {
                let peak = work.outgrown.or(killed).unwrap_or_default();
                self.python_outgrew(index, peak);
            }
            Phase::Python => {
                story::lost(&self.start, work, how);
                let (rules, deliveries) = (work.rules, work.message.deliveries + 1);
                if rules.again_when_lost && deliveries < self.start.config.delivery.max_deliveries {
                    return self.hand_back(index, true, "");
                }
                let (reason, why) = match rules {
                    Rules { once: true, .. } => (Reason::AtMostOnce, format!("its runner died while it ran: {how}")),
                    Rules { again_when_lost: false, .. } => {
                        let why = format!("its runner died while it ran, and it has no reject_on_worker_lost: {how}");
                        (Reason::Lost, why)
                    }
                    _ => {
                        let why = format!("its runner died {deliveries} times while it ran, the last time: {how}");
                        (Reason::Lost, why)
                    }
                };
                self.give_up(index, reason, &why, Some(death));
            }
        }
    }

    /// Puts the message of a slot back to the front of its list; or, if it was started for good, gives it up, for
    /// this reason.
    pub(super) fn hand_back(&mut self, index: usize, counted: bool, why: &str) {
        match &mut self.slots[index].work {
            Some(Work { noted: true, phase: Phase::Recording(record), .. }) => record.given = false,
            Some(Work { noted: true, .. }) => self.give_up(index, Reason::AtMostOnce, why, None),
            work => {
                if let Some(work) = work.take() {
                    if !counted {
                        story::handed_back(&self.start, &work); // else it is told already how it was lost
                    }
                    self.events.rejected(&work, true);
                    let back = Action::Front(rewrite::redelivered(&work.message, counted));
                    self.outbox.push(work.settlement(back));
                }
            }
        }
    }

    /// Raises the soft limit in what is over it, and kills what is over the hard one.
    pub(super) fn enforce_limits(&mut self, now: Instant) {
        for index in 0..self.slots.len() {
            let over = |work: &&Work| work.is_running() && work.is_over(now);
            let Some(work) = self.slots[index].work.as_ref().filter(over) else { continue };
            if matches!(work.phase, Phase::Command(_)) || self.aim(index) {
                self.enforce(index, now);
            }
        }
    }

    fn enforce(&mut self, index: usize, now: Instant) {
        let slot = &mut self.slots[index];
        let Some(work) = &mut slot.work else { return };
        let runner = slot.runner.process();
        match (&work.phase, work.hard_limit) {
            (Phase::Python, Some((limit, seconds))) if now >= limit => {
                story::over_limit(&self.start, work, seconds);
                work.hard_limit = None;
                let again = work.message.deliveries + 1 < self.start.config.delivery.max_deliveries;
                let then = match work.rules {
                    Rules { again_after_timeout: true, .. } if again => Then::Again,
                    Rules { again_after_timeout: false, keep_failed: false, .. } => Then::Ack,
                    _ => {
                        let (why, now) = (format!("over its hard time limit of {seconds} s"), self.exchange.now());
                        let letter = Letter::of_work(Reason::Failed, &why, work, now);
                        Then::Dead(letter.write(&self.start, self.registry.as_ref()))
                    }
                };
                let record = Record { why: "time-limit", text: seconds.to_string(), then, given: false };
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

    /// A runner that has done its share goes, and a fresh one comes.
    pub(super) fn retire_if_old(&mut self, index: usize) {
        let limit = self.start.config.python.as_ref().and_then(|python| python.max_tasks_per_runner);
        let pid = self.slots[index].runner.process().and_then(|runner| runner.pid);
        let bloated = self.is_bloated(pid);
        let slot = &mut self.slots[index];
        if bloated || slot.worn || limit.is_some_and(|limit| slot.finished >= limit) {
            slot.runner.dismiss();
            self.allow();
        }
    }

    /// Kills whatever runs the task of a slot; its end is told later.
    pub(super) fn kill(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let Some(work) = &mut slot.work else { return };
        match &work.phase {
            Phase::Noting(_) => return self.hand_back(index, false, OVER),
            Phase::Recording(_) if work.noted => return, // its end is about to be told
            Phase::Command(command) => command.kill(),
            Phase::Python | Phase::Recording(_) | Phase::Stopping => {
                if let Some(runner) = slot.runner.process() {
                    runner.signal(Signal::KILL);
                }
            }
        }
        work.phase = Phase::Stopping;
    }
}

/// Keeps the last lines of a task.
fn keep(work: &mut Option<Work>, text: &str) {
    if let Some(work) = work {
        work.tail.push(text);
    }
}
