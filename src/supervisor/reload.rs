//! Reload: the configuration is read again, the application imported again, and workers move over one by one.
//!
//! All of it is state of the loop; nothing waits. Until everything has moved, the old configuration is the one in
//! force; if the new one turns out not to work, those who have moved move back in the same way.

use super::backoff::Backoff;
use super::changes;
use super::generation::Generation;
use super::rolling::{self, Step, Target};
use super::run::Supervisor;
use super::status::one_line;
use super::worker::Worker;
use crate::channel::Exit;
use crate::channel::control::Outcome;
use crate::telemetry;
use std::time::Instant;

/// Why a reload failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// Exit code of the command that asked for it.
    pub exit: Exit,
    /// In words; of several lines the last says it for `STATUS=`, unless there is a summary.
    pub message: String,
}

/// A reload under way.
#[derive(Debug)]
pub(super) struct Reload {
    /// Generation all workers are to be of.
    target: u32,
    /// Keys that have changed.
    keys: Vec<String>,
    /// What can't be changed.
    notes: Vec<String>,
    /// Since when a new process is waited for.
    waits_since: Option<Instant>,
    /// What it does now, for `STATUS=`.
    pub doing: String,
    /// All workers have moved: there is no way back.
    committed: bool,
    /// It has failed and goes back.
    failure: Option<Failure>,
}

impl Reload {
    /// Keeps in words what is done now, with the worker of this number, if with any.
    fn tell(&mut self, number: Option<u32>, processes: u32) {
        self.doing = match number {
            _ if self.failure.is_some() => "going back to what ran before".to_owned(),
            Some(number) => format!("worker {number} of {}", processes.max(number)),
            None if self.committed => "the old application ends".to_owned(),
            None => "importing the application".to_owned(),
        };
    }
}

impl Supervisor {
    /// Whether a reload that was asked for can begin.
    pub(super) fn reload_due(&self) -> bool {
        self.reload_wanted && self.ready && self.reload.is_none() && self.drain.is_none()
    }

    /// Whether what is of this generation is new and has yet to show that it works.
    pub(super) fn is_trial(&self, generation: u32) -> bool {
        let forward = |reload: &Reload| !reload.committed && reload.failure.is_none();
        self.reload.as_ref().is_some_and(|reload| reload.target == generation && forward(reload))
    }

    /// Whether nothing of this generation is started any more.
    pub(super) fn is_outgoing(&self, generation: u32) -> bool {
        generation != self.current && self.reload.as_ref().is_none_or(|reload| reload.target != generation)
    }

    /// When a reload that does not get on is given up.
    pub(super) fn reload_deadline(&self) -> Option<Instant> {
        let reload = self.reload.as_ref().filter(|reload| reload.failure.is_none())?;
        let target = self.generations.iter().find(|generation| generation.number == reload.target)?;
        Some(reload.waits_since? + target.config.workers.reload_timeout)
    }

    /// Begins a reload that was asked for, and brings one that is under way forward.
    pub(super) fn advance_reload(&mut self, now: Instant) {
        if self.reload_due() {
            self.reload_wanted = false;
            self.control.begin();
            self.notifier.reloading();
            tracing::info!("reloading");
            match self.prepare(now) {
                Ok(reload) => self.reload = Some(reload),
                Err(failure) => {
                    tracing::error!("reload failed, nothing has changed: {}", failure.message);
                    self.end_reload(failed(failure));
                }
            }
        }
        while self.reload.is_some() && self.roll(now) {}
    }

    /// Everything that can fail without anything having been touched.
    fn prepare(&mut self, now: Instant) -> Result<Reload, Failure> {
        let unfit = |message: String| Failure { exit: Exit::Config, message };
        let wanted = (self.loader)().map_err(|problems| unfit(problems.to_string()))?;
        Backoff::new(wanted.workers.restart_min, wanted.workers.restart_max).map_err(|e| unfit(e.to_string()))?;
        let change = changes::between(&self.config, wanted);
        change.notes.iter().for_each(|note| tracing::warn!("{note}"));
        if !change.keys.is_empty() {
            tracing::info!("changed: {}", change.keys.join(", "));
        }
        let mut target = self.current;
        if change.replace {
            self.newest += 1;
            target = self.newest;
            let generation = Generation::new(target, change.config, now).map_err(|error| Failure {
                exit: Exit::Internal,
                message: format!("no socket for the new application: {error}"),
            })?;
            self.generations.push(generation);
        } else {
            self.generations.iter_mut().for_each(|generation| generation.config.clone_from(&change.config));
        }
        let (keys, notes) = (change.keys, change.notes);
        let doing = String::new();
        Ok(Reload { target, keys, notes, waits_since: None, doing, committed: false, failure: None })
    }

    /// Makes one step towards the target; false if something has to happen first.
    fn roll(&mut self, now: Instant) -> bool {
        let Some(reload) = &mut self.reload else { return false };
        let Some(target) = self.generations.iter().find(|generation| generation.number == reload.target) else {
            return false;
        };
        let settings = &target.config.workers;
        let (within, patience) = (settings.drain_timeout, settings.reload_timeout);
        let forward = reload.failure.is_none();
        let places: Vec<_> = self.fleet.workers.iter().map(Worker::place).collect();
        let aim = Target { generation: reload.target, processes: settings.processes };
        let imported = target.is_ready() || !forward || reload.committed;
        let step = if imported { rolling::next(&places, aim) } else { Step::AwaitReady(usize::MAX) };
        let number = match step {
            Step::Start(number) => Some(number),
            Step::AwaitReady(index) | Step::Retire(index) | Step::AwaitEnd(index) => {
                places.get(index).map(|place| place.number)
            }
            Step::Done => None,
        };
        reload.tell(number, settings.processes);
        if !matches!(step, Step::AwaitReady(_)) {
            reload.waits_since = None;
        }
        match step {
            Step::Start(number) => self.fleet.workers.push(Worker::new(number, reload.target, now)),
            Step::Retire(index) => {
                let own = |generation: &&Generation| generation.number == places[index].generation;
                let own = self.generations.iter().find(own);
                let replaced = own.is_some_and(|own| own.config.broker == target.config.broker);
                let named = own.is_some_and(|own| own.config.workers.name == settings.name);
                let succeeded = replaced && named && places[index].number <= settings.processes;
                self.retire(index, (replaced, succeeded), within, now);
            }
            Step::AwaitEnd(_) => return false,
            Step::AwaitReady(index) => {
                let since = *reload.waits_since.get_or_insert(now);
                if !forward || reload.committed || now < since + patience {
                    return false;
                }
                let (who, note) = match self.fleet.workers.get(index) {
                    Some(worker) => (format!("new worker {}", worker.number), worker.note.as_deref()),
                    None => ("the new application".to_owned(), target.note()),
                };
                let why = note.map(|note| format!(": {}", one_line(note))).unwrap_or_default();
                let message = format!("{who} was not ready within {patience:?}{why}");
                self.abandon(Failure { exit: Exit::Internal, message });
            }
            Step::Done if forward && !reload.committed => self.commit(),
            Step::Done if self.generations.len() > 1 => {
                self.close_generations(now);
                return self.generations.len() == 1;
            }
            Step::Done => self.finish(),
        }
        true
    }

    /// The new generation doesn't work: back to the old one.
    pub(super) fn abandon(&mut self, failure: Failure) {
        let Some(reload) = self.reload.as_mut().filter(|reload| reload.failure.is_none()) else { return };
        tracing::error!("reload failed, the old workers go on: {}", failure.message);
        let new = std::mem::replace(&mut reload.target, self.current);
        (reload.failure, reload.waits_since) = (Some(failure), None);
        if new == self.current {
            let config = self.config.clone();
            self.generations.iter_mut().for_each(|generation| generation.config.clone_from(&config));
        } else {
            // What waits to be started again has nobody to wait for.
            self.fleet.workers.retain(|worker| worker.generation != new || worker.slot.is_live());
        }
    }

    /// Everything has moved: the new configuration is the one in force, also for the supervisor itself.
    fn commit(&mut self) {
        let Some(reload) = &mut self.reload else { return };
        reload.committed = true;
        self.current = reload.target;
        let current = self.generations.iter().find(|generation| generation.number == self.current);
        let Some(config) = current.map(|generation| generation.config.clone()) else { return };
        if let Ok(backoff) = Backoff::new(config.workers.restart_min, config.workers.restart_max) {
            self.backoff = backoff;
        }
        telemetry::set_level(config.log.level);
        self.config = config;
    }

    /// Nothing of the other generation is left.
    fn finish(&mut self) {
        let Some(reload) = self.reload.take() else { return };
        let outcome = match reload.failure {
            Some(failure) => failed(failure),
            None => {
                tracing::info!("reloaded: {} workers", self.fleet.workers.len());
                let changed = match reload.keys.as_slice() {
                    [] => "the configuration is as before".to_owned(),
                    keys => format!("changed: {}", keys.join(", ")),
                };
                Outcome { exit: Exit::Ok, message: format!("reloaded; {changed}"), notes: reload.notes }
            }
        };
        self.end_reload(outcome);
    }

    /// systemd first: whoever waits for the outcome shall find its unit reloaded.
    fn end_reload(&mut self, outcome: Outcome) {
        self.reload_failure = (outcome.exit != Exit::Ok).then(|| summary(&outcome.message));
        self.notifier.ready();
        self.control.answer(&outcome, false);
    }

    /// The daemon stops: no reload comes to its end, none begins.
    pub(super) fn forget_reload(&mut self) {
        (self.reload, self.reload_wanted) = (None, false);
        let message = "the daemon is told to stop, or has to".to_owned();
        self.control.answer(&failed(Failure { exit: Exit::Internal, message }), true);
    }
}

fn failed(failure: Failure) -> Outcome {
    Outcome { exit: failure.exit, message: failure.message, notes: Vec::new() }
}

/// One line for `STATUS=`: of a configuration's problems the first, of a traceback the exception.
fn summary(message: &str) -> String {
    match (message.lines().next(), message.lines().any(|line| line.trim_start().starts_with("problem: "))) {
        (Some(first), true) => {
            let lines = message.lines().skip(1).filter(|line| !line.trim().is_empty()).take(2);
            let first_problem: Vec<&str> = lines.map(|line| line.trim().trim_start_matches("problem: ")).collect();
            format!("{first}: {}", first_problem.join(" "))
        }
        _ => one_line(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Problem, Problems};

    #[test]
    fn a_failure_fits_into_one_line() {
        let problem = |key: &str| Problem::new(key, "there is no such key", "take it out");
        let two = Problems { source: "x.toml".to_owned(), list: vec![problem("workers.a"), problem("workers.b")] };
        assert_eq!(summary(&two.to_string()), "2 problems in x.toml: workers.a there is no such key");
        assert_eq!(summary("Traceback:\n  File\nImportError: no\n"), "ImportError: no");
    }
}
