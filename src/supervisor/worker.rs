//! One worker: its place, its process, what it reports and how it is told something.

use super::child::Child;
use super::liveness::{Blow, Vigil};
use super::policy::Ended;
use super::rolling::Place;
use super::slot::{Slot, State};
use super::wire::SendError;
use crate::channel::{Beat, Exit, Order, Report, Start};
use crate::config::Config;
use crate::telemetry::fields;
use nix::sys::signal::Signal;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What the workers of one generation have in common.
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

/// One worker: a slot, and the process in it.
pub struct Worker {
    /// Number, from 1. During a reload two may have the same.
    pub number: u32,
    /// Generation it is started in.
    pub generation: u32,
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
    /// It passes on that the daemon is to stop.
    pub stop: bool,
    /// When it is killed if it was told to finish and has not.
    kill_at: Option<Instant>,
}

impl Worker {
    /// A place whose first process is due now.
    pub fn new(number: u32, generation: u32, now: Instant) -> Self {
        Self {
            number,
            generation,
            slot: Slot::new(now),
            child: None,
            owner: String::new(),
            recover: Vec::new(),
            vigil: Vigil::new(now),
            beat: None,
            note: None,
            failure: None,
            stop: false,
            kill_at: None,
        }
    }

    /// As the plan of a reload sees it.
    pub fn place(&self) -> Place<'_> {
        Place { number: self.number, generation: self.generation, state: self.slot.state() }
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

    /// Starts a process, the so-many-th with this number.
    pub fn start(&mut self, daemon: &Daemon<'_>, birth: u32, command: Command, now: Instant) -> io::Result<()> {
        self.slot.start();
        let fleet = crate::broker::keys::fleet(&daemon.config.queues);
        self.owner = format!("{}.{fleet}:{}.{birth}", daemon.owner, self.number);
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
    pub fn read(&mut self, now: Instant) -> u64 {
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
                Ok(Report::Stop) => self.stop = true,
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

    /// Gives it the order to finish, since it isn't needed any more; it is killed at `kill_at`.
    pub fn retire(&mut self, order: &Order, kill_at: Instant) {
        tracing::info!({ fields::WORKER } = self.number, "old worker {} is told to finish", self.number);
        self.slot.drain();
        self.kill_at = Some(kill_at);
        self.order(order);
    }

    /// Kills it if it was told to finish and its time is over.
    pub fn kill_overdue(&mut self, now: Instant) {
        if let (Some(child), Some(at)) = (&self.child, self.kill_at)
            && at <= now
        {
            tracing::error!({ fields::WORKER } = self.number, "old worker {} has not ended in time: KILL", self.number);
            child.kill_group();
            self.kill_at = None;
        }
    }

    /// When to look at it again.
    pub fn due(&self, liveness: Duration) -> Option<Instant> {
        match &self.child {
            Some(_) => [self.vigil.due(liveness), self.kill_at].into_iter().flatten().min(),
            None => self.slot.due(),
        }
    }

    /// Kills it if it has been silent for too long.
    pub fn judge_silence(&mut self, timeout: Duration, now: Instant) {
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
