//! Stopping: first the workers, then the zygote, which the workers' last tasks may still need.

use super::drain::Drain;
use super::run::Supervisor;
use crate::channel::{Exit, Order};
use std::time::Instant;

impl Supervisor {
    /// Tells every worker to finish. `halt` is the exit code if something failed, none if the stop was asked for.
    pub(super) fn begin_drain(&mut self, halt: Option<Exit>, now: Instant) {
        if self.drain.is_some() {
            return;
        }
        let within = self.config.workers.drain_timeout;
        self.drain = Some(Drain::new(within, halt, now));
        self.notifier.stopping();
        let order = Order::Drain { within_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX) };
        for worker in &mut self.fleet.workers {
            if worker.slot.is_live() {
                worker.slot.drain();
                worker.order(&order);
            } else if worker.slot.due().is_some() {
                worker.slot.halt("");
            }
        }
        if let Some(zygote) = &mut self.zygote
            && zygote.slot.due().is_some()
        {
            zygote.slot.halt("");
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
        match &mut self.zygote {
            Some(zygote) if zygote.child.is_some() => {
                zygote.close(now);
                None
            }
            _ => Some(exit),
        }
    }
}
