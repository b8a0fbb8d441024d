//! Keeps the slots of a worker out of step, where `[tenancy] stagger` says so. Without it no slot ever rests.
//!
//! Where all tasks take equally long, slots that once began together end together ever after: a bulk job that finds all
//! slots empty begins in all of them at once. Then the next slot gets free up to a whole task later, not a part of it, and
//! that is what a newcomer waits for. It comes back by itself if tasks of newcomers take a little longer than those of the bulk
//! job: the slot that ends first gets the newcomer's, and the others catch up with it. So of two slots that have begun and
//! ended together one rests for a moment before its next task; a budget keeps that to a hundredth of the running time.

use super::engine::Engine;
use std::time::{Duration, Instant};

/// Slots are in step if begin and end of their tasks are less than this part of a task apart.
const NEAR: u32 = 16;

/// Shorter tasks than this make nobody wait.
const SHORT: Duration = Duration::from_millis(10);

/// Longest rest.
const REST_MAX: Duration = Duration::from_millis(50);

/// Shorter rests change nothing.
const REST_MIN: Duration = Duration::from_millis(1);

/// Of the time that tasks run, this part may be rested.
const PART: u32 = 100;

/// When something new has come, a slot rests no longer than it takes to find out whose it is.
const CALLED: Duration = Duration::from_millis(3);

/// When a slot had its last task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// When that began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
}

impl Span {
    /// How long it took.
    fn length(self) -> Duration {
        self.ended - self.began
    }

    /// Both began and ended at about the same time.
    fn in_step(self, other: Span) -> bool {
        let near = (self.length() / NEAR).min(REST_MAX / 2);
        let apart = |one: Instant, other: Instant| one.max(other) - one.min(other);
        apart(self.began, other.began) < near && apart(self.ended, other.ended) < near
    }
}

/// How much may still be rested.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    left: Duration,
    /// In the last step something was left that could run.
    pub(super) backlog: bool,
}

impl Budget {
    /// For so many slots, all of which may have begun together.
    pub fn new(slots: usize) -> Budget {
        Budget { left: Budget::most(slots), backlog: false }
    }

    fn most(slots: usize) -> Duration {
        REST_MAX * u32::try_from(slots).unwrap_or(u32::MAX)
    }

    /// A slot has ended a task: until when it rests, if at all. `others` are the other slots that take tasks: what they ran
    /// last, and until when they rest.
    pub fn rest(&mut self, own: Span, others: &[(Option<Span>, Option<Instant>)]) -> Option<Instant> {
        let slots = others.len() + 1;
        self.left = (self.left + own.length() / PART).min(Budget::most(slots));
        if own.length() < SHORT || !self.backlog {
            return None;
        }
        let in_step = others.iter().filter_map(|&(span, rests)| {
            let span = span.filter(|&span| own.in_step(span))?;
            Some(rests.unwrap_or(span.ended))
        });
        // Spread evenly over the length of a task, one behind the other.
        let until = in_step.max()? + own.length() / u32::try_from(slots).unwrap_or(u32::MAX);
        let rest = until.saturating_duration_since(own.ended).min(REST_MAX).min(self.left);
        if rest < REST_MIN {
            return None;
        }
        self.left -= rest;
        Some(own.ended + rest)
    }
}

impl Engine {
    /// The slot has ended a task that began then. If it is in step with another, it rests.
    pub(super) fn stagger(&mut self, index: usize, began: Instant) {
        let Some(budget) = &mut self.budget else { return };
        let own = Span { began, ended: Instant::now() };
        let others = self.slots.iter().enumerate();
        let others: Vec<_> =
            others.filter(|(at, slot)| *at != index && !slot.closed).map(|(_, slot)| (slot.ran, slot.rests)).collect();
        let slot = &mut self.slots[index];
        (slot.ran, slot.rests) = (Some(own), budget.rest(own, &others));
        if let Some(until) = slot.rests {
            tracing::debug!("slot {index} rests for {} ms", until.saturating_duration_since(own.ended).as_millis());
        }
    }

    /// Slots that have rested may begin something.
    pub(super) fn end_rests(&mut self, now: Instant) {
        for slot in &mut self.slots {
            if slot.rests.is_some_and(|until| now >= until) {
                slot.rests = None;
                self.look = true;
            }
        }
    }

    /// Something new has come, perhaps of somebody who need not wait.
    pub(super) fn cut_rests(&mut self, now: Instant) {
        for slot in &mut self.slots {
            slot.rests = slot.rests.map(|until| until.min(now + CALLED));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn only_slots_in_step_rest_and_only_while_something_waits() {
        let begin = Instant::now();
        let span = |began, ended| Span { began: begin + ms(began), ended: begin + ms(ended) };
        let busy = Budget { backlog: true, ..Budget::new(2) };
        let rest = |mut budget: Budget, own, other| {
            budget.rest(own, &[(Some(other), None)]).map(|until| until.saturating_duration_since(begin))
        };
        assert_eq!(rest(busy, span(1, 51), span(0, 50)), Some(ms(75)));
        assert_eq!(rest(Budget { backlog: false, ..busy }, span(1, 51), span(0, 50)), None);
        assert_eq!(rest(Budget { left: Duration::ZERO, ..busy }, span(1, 51), span(0, 50)), None);
        // Began together, or ended together, but not both.
        assert_eq!(rest(busy, span(1, 51), span(0, 45)), None);
        assert_eq!(rest(busy, span(5, 51), span(0, 50)), None);
        assert_eq!(rest(busy, span(0, 5), span(0, 5)), None, "short");
        assert_eq!(rest(busy, span(0, 10_000), span(0, 10_000)), Some(ms(10_050)), "no longer than that");
    }

    /// Four slots that begin together, tasks of 50 ms, and one every 25 ms on average that goes first and takes 2 ms longer:
    /// how long these wait on average, ms; and what part of the time was rested.
    fn simulate(rests: bool) -> (f64, f64) {
        let (begin, mut budget) = (Instant::now(), Budget { backlog: rests, ..Budget::new(4) });
        let mut rng = fastrand::Rng::with_seed(1);
        let mut slots = [(None, None); 4];
        let mut ends: BinaryHeap<_> = (0..4).map(|slot| Reverse((begin + ms(50), slot, begin))).collect();
        let (mut call, mut waits, mut rested, mut now) = (begin, Vec::new(), Duration::ZERO, begin);
        while waits.len() < 10_000 {
            let Reverse((ended, at, began)) = ends.pop().unwrap();
            let own = Span { began, ended };
            let others: Vec<_> = (0..4).filter(|&other| other != at).map(|other| slots[other]).collect();
            let until = budget.rest(own, &others);
            slots[at] = (Some(own), until);
            now = until.unwrap_or(ended);
            rested += now - ended;
            let mut takes = 50.0;
            if call <= now {
                waits.push((now - call).as_secs_f64() * 1000.0);
                call += Duration::from_secs_f64(-0.025 * (1.0 - rng.f64()).ln());
                takes = 52.0;
            }
            ends.push(Reverse((now + Duration::from_secs_f64(takes / 1000.0), at, now)));
        }
        let mean = waits.iter().sum::<f64>() / waits.len() as f64;
        (mean, rested.as_secs_f64() / (4.0 * (now - begin).as_secs_f64()))
    }

    #[test]
    fn who_comes_waits_for_a_part_of_a_task_where_slots_began_together() {
        let (without, _) = simulate(false);
        let (wait, rested) = simulate(true);
        assert!(without > 25.0, "{without} ms: nothing was in step");
        assert!(wait < 20.0, "{wait} ms, without rests {without} ms");
        assert!(rested < 0.0101, "{rested} of the time");
    }
}
