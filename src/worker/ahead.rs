//! Tasks claimed before a slot is free for them.
//!
//! A task of some microseconds costs more in wake-ups and exchanges than in running time. While most are shorter than
//! `[workers] claim_ahead`, and only then, this worker claims as many as its slots get through in a few times that, and puts
//! them into the inbox that its runners take from ([`Inbox`]): they start in the order of their claims. Of whose tasks
//! it holds some that have not started, no other worker claims any meanwhile (`step.lua`, hold). What turns out to take longer
//! doesn't hold up the others: what no runner has taken after a while goes back.

use super::bounds::WANT_MAX;
use super::engine::{Claiming, Engine};
use super::slots::{RunnerState, Slot};
use super::work::Work;
use crate::broker::Settlement;
use crate::runner::python::frames;
use crate::runner::python::inbox::{Doing, Inbox, PACKET};
use std::collections::{HashSet, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Running time that is claimed ahead for each slot, in times of what a short task may take.
const REACH: u32 = 4;

/// Most that is claimed ahead: the runners have something while the next step is made.
const AHEAD_MAX: usize = 3 * WANT_MAX;

/// When nothing has started or ended for so many times of that, what has not been taken goes back; and for as long nothing is
/// claimed ahead.
pub(super) const STUCK: u32 = 10;

/// As long a task counts as at most: a few hundred short ones after a long one are enough to know better.
const LONG: Duration = Duration::from_millis(200);

/// What a task costs beside its running time, about.
const OVERHEAD: Duration = Duration::from_micros(25);

/// How often runners are looked at that may have taken something.
pub(super) const TICK: Duration = Duration::from_millis(2);

/// While there is enough to do, what has ended is collected for so long at most: one wake-up for all of it.
const COLLECT: Duration = Duration::from_millis(8);

/// What a worker has claimed ahead.
#[derive(Debug)]
pub struct Ahead {
    /// Where runners take it from.
    pub(super) inbox: Inbox,
    /// What is there, and what a runner has taken without having been seen with it, in order.
    pub(super) works: VecDeque<Work>,
    /// Nothing is in the inbox any more: what is left of `works` is with a runner, or was with one that is dead.
    pub(super) recalled: bool,
    /// Looks in a row that found no runner which could have any of it.
    pub(super) unseen: u32,
    /// When the last of these was.
    pub(super) unseen_at: Instant,
    /// Flows that were held in the last step.
    held: Vec<Rc<str>>,
    /// Of these nothing is put ahead that the step on its way claims, because something before it went back meanwhile.
    pub(super) barred: HashSet<Rc<str>>,
    /// The step has claimed more than there are free slots: all of it goes into the inbox, since who is given a task in another
    /// way could start it after one that was claimed later.
    pub(super) in_line: bool,
    /// Nothing is claimed ahead before this time.
    pub(super) not_before: Instant,
    /// When a task was last seen started or ended.
    moved: Instant,
    /// Four out of five tasks take less than this, about.
    runtime: Duration,
    /// Size of the larger messages of late, bytes.
    size: usize,
    /// Messages in a row that needed no slot.
    pub(super) slotless: usize,
    /// Most that a short task takes; zero if nothing is claimed ahead.
    pub(super) short: Duration,
}

impl Ahead {
    /// Nothing yet; how long tasks take has to be seen first.
    ///
    /// # Errors
    /// If descriptors or memory run out.
    pub fn new(short: Duration) -> io::Result<Ahead> {
        let now = Instant::now();
        Ok(Ahead {
            inbox: Inbox::new()?,
            works: VecDeque::new(),
            recalled: false,
            unseen: 0,
            unseen_at: now,
            held: Vec::new(),
            barred: HashSet::new(),
            in_line: false,
            not_before: now,
            moved: now,
            runtime: LONG,
            size: 0,
            slotless: 0,
            short,
        })
    }

    /// A task of Python has run so long. No average: on a busy machine a few short tasks are interrupted for long.
    pub(super) fn learn(&mut self, runtime: Duration) {
        if runtime > self.runtime {
            self.runtime += self.runtime / 8;
        } else {
            self.runtime -= self.runtime / 32;
        }
        self.runtime = self.runtime.clamp(Duration::from_micros(10), LONG);
    }

    /// A message has so many bytes. One that is large is followed by more, as likely as not.
    pub(super) fn weigh(&mut self, bytes: usize) {
        self.size = bytes.max(self.size - self.size / 16);
    }

    /// A message is done with that needed no slot, so one may have been claimed for which none was free.
    pub(super) fn needed_no_slot(&mut self, work: &Work) {
        self.slotless += 1;
        if !self.held.contains(&work.flow) {
            self.held.push(Rc::clone(&work.flow));
        }
    }

    /// How many more may be claimed for so many slots.
    fn room(&self, slots: usize, now: Instant) -> usize {
        if slots == 0 || now < self.not_before || self.runtime >= self.short || self.recalled {
            return 0;
        }
        let each = (self.short * REACH).as_nanos() / (self.runtime + OVERHEAD).as_nanos();
        // What one slot gets through is soon too little for a step.
        let reach = slots.max(2).saturating_mul(usize::try_from(each).unwrap_or(0));
        let all = reach.min(AHEAD_MAX).min(self.inbox.holds(self.size));
        // A few more are not worth a step of their own.
        let more = all.saturating_sub(self.works.len());
        if more < all / 4 { 0 } else { more }
    }

    /// Flows of which something has not started, or goes back after the next step only: these settlements; and the flows of
    /// which that was so in the last step.
    pub(super) fn holds(&self, rest: &[Settlement]) -> (Vec<Rc<str>>, Vec<Rc<str>>) {
        let mut holds: Vec<Rc<str>> = Vec::new();
        let back = rest.iter().filter(|settlement| settlement.action.is_back()).map(|settlement| &settlement.flow);
        for flow in self.works.iter().map(|work| &work.flow).chain(back) {
            if !holds.contains(flow) {
                holds.push(Rc::clone(flow));
            }
        }
        let releases = self.held.iter().filter(|flow| !holds.contains(flow)).cloned().collect();
        (holds, releases)
    }

    /// There is something to let go that Redis doesn't know of.
    pub(super) fn releases(&self) -> bool {
        self.held.iter().any(|flow| !self.works.iter().any(|work| work.flow == *flow))
    }

    /// A step is on its way, with all that went back until now.
    pub(super) fn sent(&mut self) {
        self.barred.clear();
    }

    /// It was made with these holds; now its claims are dispatched.
    pub(super) fn stepped(&mut self, holds: Vec<Rc<str>>) {
        self.held = holds;
    }

    /// Whether a task for this slot may be given to its runner itself. One that is about to look into the inbox, or finds
    /// something there, would start that first.
    pub(super) fn is_idle(&self, slot: usize) -> bool {
        self.short.is_zero() || !self.in_line && self.inbox.waits(slot)
    }

    /// How many no runner is known to have taken; they are taken in their order. None if a runner has nothing to do.
    fn untaken(&self, slots: usize) -> usize {
        let mut latest = 0;
        for doing in self.inbox.doings(slots) {
            match doing {
                Doing::Waiting => return 0,
                Doing::Looking => {}
                Doing::Task(sequence) => latest = latest.max(sequence),
            }
        }
        self.works.iter().rev().take_while(|work| work.sequence > latest).count()
    }

    /// When to look at the runners again.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        (!self.works.is_empty()).then(|| now + TICK)
    }
}

impl Engine {
    /// How many messages may be claimed for slots that are not free.
    pub(super) fn ahead_room(&self) -> usize {
        if self.claiming != Claiming::Yes {
            return 0;
        }
        let may = !self.ahead.short.is_zero() && self.ahead.works.is_empty() && Instant::now() >= self.ahead.not_before;
        if may && self.ahead.slotless >= WANT_MAX {
            return WANT_MAX; // by what came last, what comes next needs none
        }
        if !self.python() {
            return 0;
        }
        let able = self.slots.iter().filter(|slot| slot.may_take()).count();
        self.ahead.room(able, Instant::now())
    }

    /// Puts a Python task behind those that were claimed before it.
    pub(super) fn give_ahead(&mut self, mut work: Work) {
        self.ahead.slotless = 0;
        // Whoever has taken a worker with it before is not given company, and runners are made for the usual limit.
        let usual = work.message.deliveries == 0 && work.memory_limit == self.start.config.workers.memory_limit;
        let frame = match frames::encode(work.sequence, &work.message, &self.events.run(&work)) {
            Ok(frame) if usual && frame.len() <= PACKET => frame,
            _ => return self.start_in_slot(work),
        };
        if self.ahead.works.is_empty() {
            self.allow();
            (self.ahead.moved, self.ahead.recalled) = (Instant::now(), false);
        }
        // What is claimed by a step that was on its way when all was taken back goes back, too.
        if self.ahead.recalled || !self.ahead.inbox.give(&frame) {
            return self.put_back(work);
        }
        work.ahead = true;
        self.ahead.held.push(Rc::clone(&work.flow));
        self.ahead.works.push_back(work);
    }

    /// Lets every runner take that may.
    pub(super) fn allow(&self) {
        self.ahead.inbox.allow(self.slots.iter().map(Slot::may_take));
    }

    /// Looks what the runners have taken, wakes those that are idle, and takes back what nobody takes.
    pub(super) fn mind_ahead(&mut self, now: Instant) {
        if self.ahead.works.is_empty() {
            self.ahead.recalled = false;
            return;
        }
        let doings = self.see_started();
        if self.ahead.works.is_empty() {
            return;
        }
        if self.ahead.recalled {
            return self.give_up_lost(&doings, now);
        }
        let mut left = self.ahead.works.len();
        for (slot, doing) in self.slots.iter().zip(&doings) {
            if let (RunnerState::Ready(runner), Doing::Waiting | Doing::Looking) = (&slot.runner, doing)
                && slot.may_take()
                && left > 0
            {
                runner.give(frames::poke());
                left -= 1;
            }
        }
        if now >= self.ahead.moved + self.ahead.short * STUCK || self.claiming != Claiming::Yes {
            self.recall();
        }
    }

    /// Puts what runners say they run into their slots.
    pub(super) fn see_started(&mut self) -> Vec<Doing> {
        let doings = self.ahead.inbox.doings(self.slots.len());
        for (index, doing) in doings.iter().enumerate() {
            if let (Doing::Task(sequence), None) = (doing, &self.slots[index].work) {
                self.attribute(index, *sequence);
            }
        }
        doings
    }

    /// The runner of a slot says something of this task: if it was in the inbox, it is in the slot now.
    pub(super) fn attribute(&mut self, index: usize, sequence: u64) {
        let Some(at) = self.ahead.works.iter().position(|work| work.sequence == sequence) else { return };
        let work = self.ahead.works.remove(at);
        // What the table says may be ahead of what is heard: then it is the next one that is in the slot already.
        if let Some(next) = std::mem::replace(&mut self.slots[index].work, work) {
            self.ahead.works.push_front(next);
        }
        self.ahead.moved = Instant::now();
        self.set_off(index);
    }

    /// The task of this claim is in the slot.
    pub(super) fn has(&self, index: usize, sequence: u64) -> bool {
        self.slots[index].work.as_ref().is_some_and(|work| work.sequence == sequence)
    }

    /// Makes sure that a signal to the runner of a slot meets the task that the slot has, and no later one. False if that task
    /// has ended: its outcome is on its way.
    pub(super) fn aim(&mut self, index: usize) -> bool {
        if self.slots[index].work.is_none() {
            return false;
        }
        self.slots[index].aimed_at = true;
        self.allow();
        match self.ahead.inbox.doings(index + 1)[index] {
            Doing::Task(sequence) => self.has(index, sequence),
            Doing::Waiting => true, // it is about to get it
            Doing::Looking => false,
        }
    }

    /// While there is enough to do, what ends is collected, and nobody is disturbed.
    pub(super) fn collect(&self) {
        let ahead = &self.ahead;
        let slots = self.slots.len().max(1);
        let (mut left, until) = (ahead.works.len(), Instant::now() + COLLECT);
        if left <= 2 * slots || ahead.recalled {
            return;
        }
        let enough = left.div_ceil(2).max(left.saturating_sub(WANT_MAX));
        while left > enough {
            // By then so many are done, if the runners have the cores for themselves.
            let done = u32::try_from((left - enough) / slots + 1).unwrap_or(u32::MAX);
            let nap = until.saturating_duration_since(Instant::now()).min((ahead.runtime + OVERHEAD) * done);
            if nap.is_zero() {
                return;
            }
            // The whole thread: every end of a task would wake it otherwise.
            std::thread::sleep(nap);
            left = ahead.untaken(slots);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Action;

    #[test]
    fn what_goes_back_later_is_held_until_then() {
        let mut ahead = Ahead::new(Duration::from_millis(1)).unwrap();
        let settlement = |flow: &str, action| Settlement::new(1, flow.into(), None, action);
        let rest = [settlement("t:1", Action::Front(Vec::new())), settlement("t:2", Action::Ack)];
        let (holds, releases) = ahead.holds(&rest);
        assert_eq!((holds.clone(), releases), (vec!["t:1".into()], vec![]));
        ahead.stepped(holds);
        assert_eq!(ahead.holds(&rest).1, Vec::<Rc<str>>::new());
        assert_eq!(ahead.holds(&[]), (vec![], vec!["t:1".into()]));
    }
}
