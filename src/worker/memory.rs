//! Memory limits of what runs: a cgroup for each runner and command where the supervisor has made room for them, else
//! a look at `/proc` now and then. While no task with a limit runs, nothing is looked at.
//!
//! A task that outgrows its limit is not tried again: it would do so again. Its message goes to the dead letters at
//! once, and whoever waits for it gets what Celery's parent process records when the kernel kills a child.

use super::engine::Engine;
use super::letter::Letter;
use super::story;
use super::work::{Phase, Record, Then, Work};
use crate::broker::{Action, Reason};
use crate::channel::Start;
use crate::memory::cgroup::{Leaf, Leaves};
use crate::memory::shown;
use crate::memory::usage::Proc;
use crate::results::State;
use crate::runner::python::Registry;
use crate::runner::worker_lost;
use rustix::process::Signal;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Time between two looks at a task that has used more than half of what it may.
const LOOK_OFTEN: Duration = Duration::from_millis(100);
/// Time between two looks at one that has not.
const LOOK_SELDOM: Duration = Duration::from_millis(250);

/// What a worker keeps limits with.
#[derive(Debug)]
pub struct Guard {
    /// Where cgroups are made, if they can be.
    leaves: Option<Rc<Leaves>>,
    /// Whose they are.
    owner: String,
    proc: Proc,
    /// When to look at `/proc` next.
    pub(super) look_at: Option<Instant>,
}

impl Guard {
    /// As the supervisor has prepared it.
    pub fn new(start: &Start) -> Guard {
        let owner = start.owner.rsplit(':').next().unwrap_or_default().to_owned();
        let leaves = start.cgroup.clone().map(Leaves::new);
        if let Some(leaves) = &leaves {
            leaves.inherit(&owner);
        }
        Guard { leaves, owner, proc: Proc::default(), look_at: None }
    }

    /// A cgroup for what is started next, if there can be one.
    pub(super) fn leaf(&self, limit: Option<u64>) -> Option<Leaf> {
        let leaves = self.leaves.as_ref()?;
        leaves.sweep();
        let leaf = leaves.leaf(&self.owner, limit);
        leaf.inspect_err(|error| tracing::warn!("no cgroup for a task: {error}; its memory is looked at instead")).ok()
    }

    /// Resident bytes of a process.
    pub(super) fn resident(&self, pid: u32) -> u64 {
        self.proc.resident(pid)
    }

    /// A task starts that is in this cgroup, or in none of its own.
    pub(super) fn began(&mut self, limit: Option<u64>, leaf: Option<&Leaf>) {
        let bound = leaf.is_some_and(|leaf| match leaf.bound(limit) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("the kernel refuses a memory limit: {error}; the task is looked at instead");
                false
            }
        });
        if limit.is_some() && !bound {
            let soon = Instant::now() + LOOK_OFTEN;
            self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
        }
    }
}

impl Engine {
    /// Looks at the tasks that no cgroup bounds, if it is time, and kills those that have outgrown their limit.
    pub(super) fn watch_memory(&mut self, now: Instant) {
        if self.memory.look_at.is_none_or(|at| now < at) {
            return;
        }
        let mut next: Option<Duration> = None;
        for slot in &mut self.slots {
            let Some(work) = slot.work.as_mut().filter(|work| work.is_running() && work.outgrown.is_none()) else {
                continue;
            };
            let bound = match &work.phase {
                Phase::Command(command) => command.leaf.is_some(),
                _ => slot.runner.process().is_some_and(|runner| runner.leaf.is_some()),
            };
            let (Some(limit), Some(pid), false) = (work.memory_limit, work.pid, bound) else { continue };
            let used = self.memory.proc.used(pid, limit);
            if used <= limit {
                let wait = if used > limit / 2 { LOOK_OFTEN } else { LOOK_SELDOM };
                next = Some(next.map_or(wait, |next| next.min(wait)));
                continue;
            }
            work.outgrown = Some(used);
            match &work.phase {
                Phase::Command(command) => command.kill(),
                _ => {
                    if let Some(runner) = slot.runner.process() {
                        runner.signal(Signal::KILL);
                    }
                    // It may end its task in this very moment: then that counts, but it gets no other.
                    slot.runner.retire();
                }
            }
        }
        self.memory.look_at = next.map(|wait| now + wait);
    }

    /// A runner that keeps too much memory after a task goes.
    pub(super) fn is_bloated(&self, pid: Option<u32>) -> bool {
        let limit = self.start.config.python.as_ref().and_then(|python| python.max_memory_per_runner);
        limit.zip(pid).is_some_and(|(limit, pid)| self.memory.resident(pid) > limit)
    }

    /// A Python task was killed for using so much memory: its end is recorded, and its message set aside.
    pub(super) fn python_outgrew(&mut self, index: usize, peak: u64) {
        let now = self.exchange.now();
        let Some(work) = &mut self.slots[index].work else { return };
        let (text, entry) = outgrew(&self.start, self.registry.as_ref(), work, peak, now);
        work.phase = Phase::Recording(Record { why: "lost", text, then: Then::Dead(entry), given: false });
    }

    /// A command was killed for using so much memory.
    pub(super) fn command_outgrew(&mut self, work: Work, peak: u64) {
        let (text, entry) = outgrew(&self.start, self.registry.as_ref(), &work, peak, self.exchange.now());
        let action = Action::Dead { message: work.message.raw.clone(), entry };
        self.end_here(work, &State::Failure(&worker_lost(&text), ""), action);
    }
}

/// Tells that a task was killed for using so much memory. Returns what the exception says, as Celery words it, and the
/// entry of the dead letters.
fn outgrew(start: &Start, registry: Option<&Registry>, work: &Work, peak: u64, now: i64) -> (String, String) {
    let limit = work.memory_limit.unwrap_or(peak);
    let why = format!("memory limit of {} exceeded, {} at its peak", shown(limit), shown(peak));
    story::outgrew(start, work, &why, peak);
    let entry = Letter::of_work(Reason::Memory, &why, work, now).peak(peak).write(start, registry);
    (format!("Worker exited prematurely: signal 9 (SIGKILL): {why}."), entry)
}
