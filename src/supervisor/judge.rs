//! A child ended: what it was, what follows, who puts back what it had claimed.

use super::policy::{self, Death, Ended, Verdict};
use super::reap;
use super::run::Supervisor;
use super::slot::State;
use crate::channel::Exit;
use crate::telemetry::fields;
use std::time::Instant;

impl Supervisor {
    /// Reaps whoever has ended, until nobody is left.
    pub(super) fn reap(&mut self, now: Instant) {
        for index in 0..self.fleet.workers.len() {
            let child = self.fleet.workers[index].child.as_ref();
            if let Some(ended) = child.and_then(|child| reap::ended(child.pid())) {
                self.worker_ended(index, ended, now);
            }
        }
        let zygote = self.zygote.as_ref().and_then(|zygote| zygote.child.as_ref());
        if let Some(ended) = zygote.and_then(|child| reap::ended(child.pid())) {
            self.zygote_ended(ended, now);
        }
        let pids: Vec<Option<i32>> =
            self.fleet.workers.iter().map(|worker| worker.child.as_ref().map(|child| child.pid())).collect();
        let zygote = self.zygote.as_ref().and_then(|zygote| zygote.child.as_ref()).map(|child| child.pid());
        for (pid, ended) in reap::strangers(|pid| pids.contains(&Some(pid)) || zygote == Some(pid)) {
            match pids.iter().position(|known| *known == Some(pid)) {
                Some(index) => self.worker_ended(index, ended, now),
                None => self.zygote_ended(ended, now),
            }
        }
    }

    /// The process of the worker at this index ended, or could not be started.
    pub(super) fn worker_ended(&mut self, index: usize, ended: Ended, now: Instant) {
        // What it said last may have arrived since the reports were read.
        self.fleet.read(now);
        let worker = &mut self.fleet.workers[index];
        let (number, uptime) = (worker.number, worker.slot.uptime(now));
        worker.gone(ended);
        let death = Death {
            ended,
            daemon_ready: self.ready,
            stopping: self.drain.is_some(),
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
            Verdict::HaltSlot(exit) => {
                tracing::error!(
                    { fields::WORKER } = number,
                    "worker {number} ended ({ended}) and is not started again"
                );
                worker.slot.halt(why);
                if self.fleet.workers.iter().all(|w| matches!(w.slot.state(), State::Halted { .. })) {
                    self.begin_drain(Some(exit), now);
                }
            }
            Verdict::HaltDaemon(exit) => {
                tracing::error!({ fields::WORKER } = number, "worker {number} ended ({ended}): stopping");
                worker.slot.halt(why);
                self.begin_drain(Some(exit), now);
            }
        }
        if !ended.is(Exit::Ok) && !ended.is(Exit::HandedBack) && ended != Ended::Unborn {
            let owner = self.fleet.workers[index].owner.clone();
            self.fleet.bury(number, owner);
        }
    }

    /// The zygote ended, or could not be started.
    pub(super) fn zygote_ended(&mut self, ended: Ended, now: Instant) {
        let Some(zygote) = &mut self.zygote else { return };
        zygote.read(now);
        let (uptime, was_ready) = (zygote.slot.uptime(now), zygote.slot.was_ready());
        let ended = if zygote.failed { Ended::Code(i32::from(Exit::Config.code())) } else { ended };
        zygote.gone(&ended.to_string());
        let stopping = self.drain.is_some();
        let failures = zygote.slot.failures();
        let death = Death { ended, daemon_ready: zygote.ever_ready, stopping, was_ready, uptime, failures };
        match policy::zygote(&death, &self.backoff, now, fastrand::f64()) {
            Verdict::Restart { at, failures } => {
                let wait = at.saturating_duration_since(now).as_secs_f32();
                tracing::warn!("zygote ended ({ended}) after {uptime:.1?}; restarting in {wait:.1} s");
                zygote.slot.wait(at, failures);
            }
            Verdict::Done => tracing::debug!("zygote ended ({ended})"),
            Verdict::HaltDaemon(exit) | Verdict::HaltSlot(exit) => {
                tracing::error!("zygote ended ({ended}): stopping");
                zygote.slot.halt(zygote.note.clone().unwrap_or_default());
                self.begin_drain(Some(exit), now);
            }
        }
    }
}
