//! The workers, and who puts back what a dead one had claimed.

use super::slot::State;
use super::status::Throughput;
use super::worker::{Daemon, Worker};
use crate::channel::Order;
use crate::telemetry::fields;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

/// Dead owners told to one replacement at most. Older ones are left to the end of their lease in Redis.
const RECOVER_MAX: usize = 32;

/// All workers.
pub struct Fleet {
    /// In the order in which they came.
    pub workers: Vec<Worker>,
    /// Tasks settled by all of them.
    pub throughput: Throughput,
    /// Messages in all queues, by the latest beat of any.
    pub waiting: u64,
    /// Tenants with messages, by the latest beat of any that knows.
    pub tenants: Option<u64>,
    /// How many processes each number has had: with it an owner name is never used twice.
    births: BTreeMap<u32, u32>,
}

impl Fleet {
    /// So many workers, each due now.
    pub fn new(processes: u32, generation: u32, now: Instant) -> Self {
        let workers = (1..=processes).map(|number| Worker::new(number, generation, now)).collect();
        Self { workers, throughput: Throughput::default(), waiting: 0, tenants: None, births: BTreeMap::new() }
    }

    /// Whether every worker is ready.
    pub fn all_ready(&self) -> bool {
        self.workers.iter().all(|worker| *worker.slot.state() == State::Ready)
    }

    /// Whether this generation has workers, and all it has are ready.
    pub fn serves(&self, generation: u32) -> bool {
        let mut own = self.workers.iter().filter(|worker| worker.generation == generation).peekable();
        own.peek().is_some() && own.all(|worker| *worker.slot.state() == State::Ready)
    }

    /// Reads all reports.
    pub fn read(&mut self, now: Instant) {
        for worker in &mut self.workers {
            let before = worker.beat;
            let settled = worker.read(now);
            if let Some(beat) = worker.beat.filter(|beat| Some(*beat) != before) {
                self.waiting = beat.waiting;
                self.tenants = beat.tenants.or(self.tenants);
                self.throughput.add(settled, now);
            }
        }
    }

    /// Starts every process that is due, in what the workers of its generation have in common; returns the indices of
    /// those that could not be started.
    pub fn start_due<'a>(
        &mut self,
        daemon: impl Fn(u32) -> Option<Daemon<'a>>,
        command: &dyn Fn(u32) -> Command,
        paused: bool,
        now: Instant,
    ) -> Vec<usize> {
        let mut unborn = Vec::new();
        for (index, worker) in self.workers.iter_mut().enumerate() {
            if worker.slot.due().is_none_or(|due| due > now) {
                continue;
            }
            let Some(daemon) = daemon(worker.generation) else { continue };
            let birth = self.births.entry(worker.number).or_default();
            *birth += 1;
            if let Err(error) = worker.start(&daemon, *birth, command(worker.number), now) {
                tracing::error!({ fields::WORKER } = worker.number, %error, "worker not started");
                unborn.push(index);
            } else if paused {
                worker.order(&Order::Pause);
            }
        }
        unborn
    }

    /// Kills the silent, and those who were to finish and have not.
    pub fn judge(&mut self, liveness: Duration, now: Instant) {
        for worker in &mut self.workers {
            worker.judge_silence(liveness, now);
            worker.kill_overdue(now);
        }
    }

    /// Sends an order to every living worker.
    pub fn order_all(&mut self, order: &Order) {
        self.workers.iter_mut().for_each(|worker| worker.order(order));
    }

    /// Whether this generation has, or is to have, a process.
    pub fn uses(&self, generation: u32) -> bool {
        self.workers.iter().any(|w| w.generation == generation && (w.slot.is_live() || w.slot.due().is_some()))
    }

    /// Tells those who can to put back what the dead worker at this index had claimed: at once one living worker of its
    /// generation, a ready one if there is one, and in any case the next process in the same place. Doing it twice does
    /// no harm, and either may die. False if there is neither.
    pub fn bury(&mut self, index: usize) -> bool {
        let (owner, generation) = (self.workers[index].owner.clone(), self.workers[index].generation);
        let told = self.tell(&owner, |worker| worker.generation == generation);
        let dead = &mut self.workers[index];
        let follows = dead.slot.due().is_some();
        if follows {
            remember(&mut dead.recover, owner);
        }
        told || follows
    }

    /// As [`Fleet::bury`] for an owner of whose runners none can be left: anybody may put back what it held.
    pub fn bury_anywhere(&mut self, owner: String) {
        if self.tell(&owner, |_| true) {
            return;
        }
        match self.workers.iter_mut().find(|worker| worker.slot.due().is_some()) {
            Some(next) => remember(&mut next.recover, owner),
            None => tracing::warn!({ fields::OWNER } = owner, "its claims return when its lease in Redis ends"),
        }
    }

    fn tell(&mut self, owner: &str, may: impl Fn(&Worker) -> bool) -> bool {
        let rank = |worker: &Worker| match worker.slot.state() {
            State::Ready => 0,
            State::Starting => 1,
            _ => 2,
        };
        let living = self.workers.iter_mut().filter(|worker| worker.slot.is_live() && may(worker));
        let chosen = living.min_by_key(|worker| rank(worker));
        let told = chosen.is_some();
        if let Some(worker) = chosen {
            worker.order(&Order::Recover { owners: vec![owner.to_owned()] });
        }
        told
    }
}

fn remember(owners: &mut Vec<String>, owner: String) {
    if owners.len() == RECOVER_MAX {
        owners.remove(0);
    }
    owners.push(owner);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_dead_are_remembered() {
        let mut owners = Vec::new();
        (0..40).for_each(|n| remember(&mut owners, n.to_string()));
        assert_eq!((owners.len(), owners[0].as_str(), owners[31].as_str()), (32, "8", "39"));
    }
}
