//! The workers: their slots, their processes, and who puts back what a dead one had claimed.

use super::child::Child;
use super::liveness::{Blow, Vigil};
use super::policy::Ended;
use super::slot::{Slot, State};
use super::status::Throughput;
use super::wire::SendError;
use crate::channel::{Beat, Exit, Order, Report, Start};
use crate::config::Config;
use crate::telemetry::fields;
use nix::sys::signal::Signal;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Dead owners told to one replacement at most. Older ones are left to the end of their lease in Redis.
const RECOVER_MAX: usize = 32;

/// One worker: a slot, and the process in it.
pub struct Worker {
    /// Number, from 1.
    pub number: u32,
    /// States.
    pub slot: Slot,
    /// The process.
    pub child: Option<Child>,
    /// Name under which the present process holds claims.
    pub owner: String,
    /// Owners whose claims the next process is to put back; forgotten when it is ready.
    pub recover: Vec<String>,
    /// Watches for silence.
    pub vigil: Vigil,
    /// Latest figures.
    pub beat: Option<Beat>,
    /// Why it can't work, or how the last process ended.
    pub note: Option<String>,
    /// What it said before it failed.
    pub failure: Option<(Exit, String)>,
}

impl Worker {
    fn new(number: u32, now: Instant) -> Self {
        Self {
            number,
            slot: Slot::new(now),
            child: None,
            owner: String::new(),
            recover: Vec::new(),
            vigil: Vigil::new(now),
            beat: None,
            note: None,
            failure: None,
        }
    }

    /// Sends an order. A process that hasn't read for a megabyte is as good as silent and is killed.
    pub fn order(&mut self, order: &Order) {
        let Some(child) = &mut self.child else { return };
        match child.wire.send(order) {
            Ok(()) | Err(SendError::Closed) => {}
            Err(error) => {
                tracing::error!({ fields::WORKER } = self.number, %error, "order not sent: KILL");
                child.kill_group();
            }
        }
    }

    /// Starts a process.
    fn start(&mut self, daemon: &Daemon<'_>, command: Command, now: Instant) -> io::Result<()> {
        self.slot.start();
        self.owner = format!("{}:{}.{}", daemon.owner, self.number, self.slot.incarnation());
        (self.vigil, self.beat, self.failure) = (Vigil::new(now), None, None);
        self.child = Some(Child::spawn(command)?);
        let order = Order::Start(Box::new(Start {
            config: daemon.config.clone(),
            worker: self.number,
            owner: self.owner.clone(),
            node: daemon.config.workers.node_name(self.number, daemon.host),
            zygote: daemon.zygote.map(<[u8]>::to_vec),
            cgroup: daemon.cgroup.map(Path::to_owned),
            recover: self.recover.clone(),
        }));
        self.order(&order);
        Ok(())
    }

    /// Reads what it reports; returns how many tasks it has settled since the last time.
    fn read(&mut self, now: Instant) -> u64 {
        let Some(child) = &mut self.child else { return 0 };
        child.wire.flush();
        let mut settled = 0;
        for line in child.wire.lines() {
            self.vigil.heard(now);
            match serde_json::from_slice(&line) {
                Ok(Report::Ready) => {
                    if *self.slot.state() == State::Starting {
                        tracing::info!({ fields::WORKER } = self.number, "worker {} is ready", self.number);
                        self.recover.clear();
                    }
                    self.slot.ready(now);
                    self.note = None;
                }
                Ok(Report::Waiting { reason }) => {
                    if self.note.as_ref() != Some(&reason) {
                        tracing::warn!({ fields::WORKER } = self.number, "worker {} waits: {reason}", self.number);
                    }
                    self.note = Some(reason);
                }
                Ok(Report::Beat(beat)) => {
                    settled += beat.done.saturating_sub(self.beat.map_or(0, |before| before.done));
                    self.beat = Some(beat);
                }
                Ok(Report::Failed { exit, message }) => {
                    tracing::error!({ fields::WORKER } = self.number, "worker {}: {message}", self.number);
                    self.failure = Some((exit, message));
                }
                Err(error) => {
                    tracing::warn!({ fields::WORKER } = self.number, %error, "unreadable report");
                }
            }
        }
        settled
    }

    /// The process is gone.
    pub fn gone(&mut self, ended: Ended) {
        self.slot.exited();
        (self.child, self.beat) = (None, None);
        self.note = Some(match self.failure.take() {
            Some((_, message)) => message,
            None => ended.to_string(),
        });
    }

    /// Kills it if it has been silent for too long.
    fn judge_silence(&mut self, timeout: std::time::Duration, now: Instant) {
        let Some(child) = &self.child else { return };
        let silence = self.vigil.silence(now).as_secs_f32();
        match self.vigil.judge(now, timeout) {
            Some(Blow::Abort) => {
                tracing::error!(
                    { fields::WORKER } = self.number,
                    "worker {} silent for {silence:.1} s: ABRT",
                    self.number
                );
                child.kill(Signal::SIGABRT);
            }
            Some(Blow::Kill) => {
                tracing::error!({ fields::WORKER } = self.number, "worker {} has not ended: KILL", self.number);
                child.kill_group();
            }
            None => {}
        }
    }
}

/// What every worker of the daemon has in common.
pub struct Daemon<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Name of this machine.
    pub host: &'a str,
    /// First part of every owner name.
    pub owner: &'a str,
    /// Name of the zygote's socket.
    pub zygote: Option<&'a [u8]>,
    /// Folder in which workers may make cgroups.
    pub cgroup: Option<&'a Path>,
}

/// All workers.
pub struct Fleet {
    /// In the order of their numbers.
    pub workers: Vec<Worker>,
    /// Tasks settled by all of them.
    pub throughput: Throughput,
    /// Messages in all queues, by the latest beat of any.
    pub waiting: u64,
}

impl Fleet {
    /// So many slots, each due now.
    pub fn new(processes: u32, now: Instant) -> Self {
        let workers = (1..=processes).map(|number| Worker::new(number, now)).collect();
        Self { workers, throughput: Throughput::default(), waiting: 0 }
    }

    /// Whether every worker is ready.
    pub fn all_ready(&self) -> bool {
        self.workers.iter().all(|worker| *worker.slot.state() == State::Ready)
    }

    /// Reads all reports.
    pub fn read(&mut self, now: Instant) {
        for worker in &mut self.workers {
            let before = worker.beat;
            let settled = worker.read(now);
            if worker.beat != before {
                self.waiting = worker.beat.map_or(self.waiting, |beat| beat.waiting);
                self.throughput.add(settled, now);
            }
        }
    }

    /// Starts every process that is due; returns those that could not be started.
    pub fn start_due(
        &mut self,
        daemon: &Daemon<'_>,
        command: &dyn Fn(u32) -> Command,
        paused: bool,
        now: Instant,
    ) -> Vec<u32> {
        let mut unborn = Vec::new();
        for worker in self.workers.iter_mut().filter(|worker| worker.slot.due().is_some_and(|due| due <= now)) {
            if let Err(error) = worker.start(daemon, command(worker.number), now) {
                tracing::error!({ fields::WORKER } = worker.number, %error, "worker not started");
                unborn.push(worker.number);
            } else if paused {
                worker.order(&Order::Pause);
            }
        }
        unborn
    }

    /// Kills the silent.
    pub fn judge_silence(&mut self, timeout: std::time::Duration, now: Instant) {
        self.workers.iter_mut().for_each(|worker| worker.judge_silence(timeout, now));
    }

    /// Sends an order to every living worker.
    pub fn order_all(&mut self, order: &Order) {
        self.workers.iter_mut().for_each(|worker| worker.order(order));
    }

    /// Tells those who can to put back what a dead owner had claimed: at once one living worker, a ready one if there
    /// is one, and in any case the next process in the same slot. Doing it twice does no harm, and either may die.
    pub fn bury(&mut self, number: u32, owner: String) {
        let rank = |worker: &Worker| match worker.slot.state() {
            State::Ready => 0,
            State::Starting => 1,
            _ => 2,
        };
        let living = self.workers.iter_mut().filter(|worker| worker.slot.is_live() && worker.number != number);
        let mut told = false;
        if let Some(worker) = living.min_by_key(|worker| rank(worker)) {
            worker.order(&Order::Recover { owners: vec![owner.clone()] });
            told = true;
        }
        match self.workers.iter_mut().find(|worker| worker.number == number) {
            Some(dead) if dead.slot.due().is_some() => remember(&mut dead.recover, owner),
            _ if told => {}
            _ => match self.workers.iter_mut().find(|worker| worker.slot.due().is_some()) {
                Some(next) => remember(&mut next.recover, owner),
                None => tracing::warn!({ fields::OWNER } = owner, "its claims return when its lease in Redis ends"),
            },
        }
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
