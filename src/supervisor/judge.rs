//! A child ended: what it was, what follows, who puts back what it had claimed.

use super::policy::{self, Death, Ended, Verdict};
use super::reap;
use super::reload::Failure;
use super::run::Supervisor;
use super::slot::State;
use crate::channel::Exit;
use crate::telemetry::fields;
use std::time::Instant;

impl Supervisor {
    /// Reaps whoever has ended, until nobody is left.
    pub(super) fn reap(&mut self, now: Instant) {
        if !reap::anybody() {
            return;
        }
        let workers = self.fleet.workers.iter().map(|worker| &worker.child);
        let zygotes = self.generations.iter().filter_map(|generation| generation.zygote.as_ref());
        let children = workers.chain(zygotes.map(|zygote| &zygote.child)).flatten();
        let pids: Vec<i32> = children.map(|child| child.pid()).collect();
        for pid in &pids {
            if let Some(ended) = reap::ended(*pid) {
                self.child_ended(*pid, ended, now);
            }
        }
        for (pid, ended) in reap::strangers(|pid| pids.contains(&pid)) {
            self.child_ended(pid, ended, now);
        }
    }

    fn child_ended(&mut self, pid: i32, ended: Ended, now: Instant) {
        let is = |child: &Option<super::child::Child>| child.as_ref().is_some_and(|child| child.pid() == pid);
        if let Some(index) = self.fleet.workers.iter().position(|worker| is(&worker.child)) {
            return self.worker_ended(index, ended, now);
        }
        let of = |generation: &&super::generation::Generation| generation.zygote.as_ref().is_some_and(|z| is(&z.child));
        if let Some(number) = self.generations.iter().find(of).map(|generation| generation.number) {
            self.zygote_ended(number, ended, now);
        }
    }

    /// The process of the worker at this index ended, or could not be started.
    pub(super) fn worker_ended(&mut self, index: usize, ended: Ended, now: Instant) {
        // What it said last may have arrived since the reports were read.
        self.fleet.read(now);
        let trial = self.is_trial(self.fleet.workers[index].generation);
        let outgoing = self.is_outgoing(self.fleet.workers[index].generation);
        let worker = &mut self.fleet.workers[index];
        let (number, uptime) = (worker.number, worker.slot.uptime(now));
        let retired = *worker.slot.state() == State::Draining;
        worker.gone(ended);
        let death = Death {
            ended,
            daemon_ready: self.ready,
            leaving: self.drain.is_some() || retired || outgoing,
            trial,
            was_ready: worker.slot.was_ready(),
            uptime,
            failures: worker.slot.failures(),
        };
        let verdict = policy::worker(&death, &self.backoff, now, fastrand::f64());
        if let Some(drain) = &mut self.drain {
            drain.ended(ended);
        }
        let why = worker.note.clone().unwrap_or_default();
        match verdict {
            Verdict::Restart { at, failures } => {
                let wait = at.saturating_duration_since(now).as_secs_f32();
                tracing::warn!(
                    { fields::WORKER } = number,
                    "worker {number} ended ({ended}) after {uptime:.1?}; restarting in {wait:.1} s"
                );
                worker.slot.wait(at, failures);
            }
            Verdict::Done => {
                tracing::info!({ fields::WORKER } = number, "worker {number} ended ({ended})");
                worker.note = None;
            }
            Verdict::HaltSlot(_) | Verdict::HaltDaemon(_) | Verdict::Abandon(_) => {
                tracing::error!(
                    { fields::WORKER } = number,
                    "worker {number} ended ({ended}) and is not started again"
                );
                worker.slot.halt(why.clone());
            }
        }
        if !ended.is(Exit::Ok) && !ended.is(Exit::HandedBack) && ended != Ended::Unborn {
            self.bury(index);
        }
        match verdict {
            Verdict::HaltDaemon(exit) => self.begin_drain(Some(exit), now),
            Verdict::HaltSlot(exit) => {
                if self.fleet.workers.iter().all(|w| matches!(w.slot.state(), State::Halted { .. })) {
                    self.begin_drain(Some(exit), now);
                }
            }
            Verdict::Abandon(exit) => {
                self.fleet.workers.remove(index);
                self.abandon(Failure { exit, message: format!("new worker {number}: {why}") });
            }
            Verdict::Done if self.drain.is_none() => drop(self.fleet.workers.remove(index)),
            Verdict::Done | Verdict::Restart { .. } => {}
        }
    }

    /// What the dead worker at this index had claimed is put back as soon as nothing of it can run any more.
    fn bury(&mut self, index: usize) {
        if self.fleet.bury(index) {
            return;
        }
        let (owner, number) = (self.fleet.workers[index].owner.clone(), self.fleet.workers[index].generation);
        let others = self.generations.iter().any(|other| other.number != number && self.fleet.uses(other.number));
        match self.generations.iter_mut().find(|generation| generation.number == number) {
            Some(generation) if others && !generation.is_gone() => generation.unburied.push(owner),
            _ => self.fleet.bury_anywhere(owner),
        }
    }

    /// The zygote of this generation ended, or could not be started.
    pub(super) fn zygote_ended(&mut self, number: u32, ended: Ended, now: Instant) {
        let leaving = self.drain.is_some() || self.is_outgoing(number);
        let trial = self.is_trial(number);
        let generation = self.generations.iter_mut().find(|generation| generation.number == number);
        let Some(zygote) = generation.and_then(|generation| generation.zygote.as_mut()) else { return };
        zygote.read(now);
        let (uptime, was_ready) = (zygote.slot.uptime(now), zygote.slot.was_ready());
        let ended = if zygote.failed { Ended::Code(i32::from(Exit::Config.code())) } else { ended };
        zygote.gone(&ended.to_string());
        let failures = zygote.slot.failures();
        let trial = trial && !zygote.ever_ready;
        let death = Death { ended, daemon_ready: zygote.ever_ready, leaving, trial, was_ready, uptime, failures };
        match policy::zygote(&death, &self.backoff, now, fastrand::f64()) {
            Verdict::Restart { at, failures } => {
                let wait = at.saturating_duration_since(now).as_secs_f32();
                tracing::warn!("zygote ended ({ended}) after {uptime:.1?}; restarting in {wait:.1} s");
                zygote.slot.wait(at, failures);
            }
            Verdict::Done => tracing::debug!("zygote ended ({ended})"),
            Verdict::Abandon(exit) => {
                let message = zygote.note.clone().unwrap_or_default();
                zygote.slot.halt("");
                self.abandon(Failure { exit, message: format!("the new application can't be used: {message}") });
            }
            Verdict::HaltDaemon(exit) | Verdict::HaltSlot(exit) => {
                tracing::error!("zygote ended ({ended}): stopping");
                zygote.slot.halt(zygote.note.clone().unwrap_or_default());
                self.begin_drain(Some(exit), now);
            }
        }
    }

    /// Generations nobody needs end, and what their dead had claimed is put back once nothing of theirs can run.
    pub(super) fn close_generations(&mut self, now: Instant) {
        for index in (0..self.generations.len()).rev() {
            let number = self.generations[index].number;
            if !self.is_outgoing(number) || self.fleet.uses(number) {
                continue;
            }
            self.generations[index].close(now);
            if self.generations[index].is_gone() {
                let generation = self.generations.remove(index);
                generation.unburied.into_iter().for_each(|owner| self.fleet.bury_anywhere(owner));
            }
        }
    }
}
