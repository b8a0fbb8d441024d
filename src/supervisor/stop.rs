//! Stopping: first the workers, then the zygote, which the workers' last tasks may still need.

use super::drain::{Drain, HAND_BACK_WITHIN};
use super::run::Supervisor;
use crate::channel::{Exit, Order, ZygoteOrder};
use std::time::{Duration, Instant};

impl Supervisor {
    /// Tells every worker to finish. `halt` is the exit code if something failed, none if the stop was asked for.
    pub(super) fn begin_drain(&mut self, halt: Option<Exit>, now: Instant) {
        if self.drain.is_some() {
            return;
        }
        let within = self.config.workers.drain_timeout;
        self.drain = Some(Drain::new(within, halt, now));
        self.notifier.stopping();
        self.forget_reload();
        let order = Order::Drain { within_ms: millis(within), replaced: false, succeeded: false };
        for worker in &mut self.fleet.workers {
            if worker.slot.is_live() {
                worker.slot.drain();
                worker.order(&order);
            } else if worker.slot.due().is_some() {
                worker.slot.halt("");
            }
        }
        for zygote in self.generations.iter_mut().filter_map(|generation| generation.zygote.as_mut()) {
            zygote.order(ZygoteOrder::Stopping);
            if zygote.slot.due().is_some() {
                zygote.slot.halt("");
            }
        }
    }

    /// Tells the worker at this index that another has taken its place, or that it is one too many. `replaced`: the others
    /// work on the same Redis; `succeeded`: one of them has its name.
    pub(super) fn retire(&mut self, index: usize, (replaced, succeeded): (bool, bool), within: Duration, now: Instant) {
        let worker = &mut self.fleet.workers[index];
        if worker.slot.is_live() {
            let order = Order::Drain { within_ms: millis(within), replaced, succeeded };
            worker.retire(&order, now + within + HAND_BACK_WITHIN);
        } else {
            self.fleet.workers.remove(index);
        }
    }

    /// Brings a stop forward; the exit code when everything is gone.
    pub(super) fn advance_drain(&mut self, now: Instant) -> Option<Exit> {
        let drain = self.drain.as_mut()?;
        self.notifier.extend(now);
        let left: Vec<_> = self.fleet.workers.iter().filter_map(|worker| worker.child.as_ref()).collect();
        if drain.overdue(now) && !left.is_empty() {
            tracing::error!("{} workers have not ended in time: KILL", left.len());
            left.iter().for_each(|child| child.kill_group());
        }
        if !left.is_empty() {
            return None;
        }
        let exit = drain.exit();
        self.generations.iter_mut().for_each(|generation| generation.close(now));
        self.generations.iter().all(|generation| generation.is_gone()).then_some(exit)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
