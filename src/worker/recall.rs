//! What was claimed ahead and goes back: no runner takes it, or it needs more than an inbox.
//!
//! It goes to the front of its line, and what is claimed of its flow meanwhile goes back behind it, so that nothing is
//! started out of order.

use super::ahead::{STUCK, TICK};
use super::engine::Engine;
use super::slots::RunnerState;
use super::work::Work;
use crate::broker::{Action, Settlement};
use crate::message::rewrite;
use crate::runner::python::inbox::Doing;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Instant;

/// For so many times what a short task may take nothing is claimed ahead after a message that has to wait for a slot.
const DECLINED: u32 = 250;

/// So many looks at the runners, with all that they have said heard in between, show that none of them has a task.
const LOOKS: u32 = 5;

impl Engine {
    /// Nothing of this flow that the step has claimed may be put ahead, nor into a slot: something before it goes back.
    pub(super) fn is_barred(&self, work: &Work) -> bool {
        self.ahead.barred.contains(&work.flow)
    }

    /// Gives back a message that was claimed ahead and has to wait for a slot.
    pub(super) fn decline(&mut self, work: Work) {
        self.put_back(work);
        // There may be more of its kind.
        self.ahead.not_before = Instant::now() + self.ahead.short * DECLINED;
    }

    /// Gives a claimed message back, and with it all that was claimed of its flow after it.
    pub(super) fn put_back(&mut self, work: Work) {
        self.ahead.barred.insert(Rc::clone(&work.flow));
        self.ahead.not_before = self.ahead.not_before.max(Instant::now() + self.ahead.short * STUCK);
        let front = Action::Front(rewrite::redelivered(&work.message, false));
        self.outbox.push(Settlement { ran: Some(0.0), ..work.settlement(front) });
    }

    /// Takes back what no runner has taken; it goes to the front of its line.
    pub(super) fn recall(&mut self) {
        let sequences: HashSet<u64> = self.ahead.inbox.take_back().into_iter().collect();
        let works = std::mem::take(&mut self.ahead.works);
        for work in works {
            if sequences.contains(&work.sequence) {
                self.put_back(work);
            } else {
                self.ahead.works.push_back(work);
            }
        }
        (self.ahead.recalled, self.ahead.unseen) = (true, 0);
    }

    /// After a recall: what no living runner has was taken by one that died before it could say so, and never started.
    pub(super) fn give_up_lost(&mut self, doings: &[Doing], now: Instant) {
        let settled = doings.iter().enumerate().all(|(index, doing)| match &self.slots[index].runner {
            RunnerState::Ready(_) | RunnerState::Retiring(_) => match doing {
                Doing::Waiting => true,
                Doing::Looking => false,
                Doing::Task(sequence) => self.has(index, *sequence),
            },
            RunnerState::Dying(_) => false,
            RunnerState::Absent | RunnerState::Waiting(_) | RunnerState::Starting(_) => true,
        });
        if !settled {
            self.ahead.unseen = 0;
        } else if now >= self.ahead.unseen_at + TICK {
            (self.ahead.unseen, self.ahead.unseen_at) = (self.ahead.unseen + 1, now);
        }
        if self.ahead.unseen >= LOOKS {
            self.put_back_all();
        }
    }

    /// Gives back what no runner has begun, and none will.
    pub(super) fn put_back_all(&mut self) {
        while let Some(work) = self.ahead.works.pop_front() {
            self.put_back(work);
        }
    }
}
