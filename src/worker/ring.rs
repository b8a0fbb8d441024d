//! What a worker does when a queue has changed: it looks at once, or leaves that to another.
//!
//! A message rings for every worker, and so does its claim, for whoever made it as well. If all looked at each ring, one task
//! of an idle fleet of n workers would cost 2n looks, of which one finds something, while the others take Redis and the
//! processor from it. So each queue has one worker that looks at once, and the others do a moment later, in case that one is
//! busy; and so does a worker that has just claimed from this queue.

use super::engine::Engine;
use super::lanes::LOOK_EVERY;
use crate::broker::{Claim, Rung};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// An own claim has rung by then: the server sends that right behind its answer.
const ECHO: Duration = Duration::from_millis(1);

/// Lists of which something was claimed unseen in the last step, and when.
#[derive(Debug, Default)]
pub struct Echo {
    lists: Vec<Rc<str>>,
    at: Option<Instant>,
}

impl Echo {
    /// A step has made these claims.
    pub fn of(claims: &[Claim], now: Instant) -> Echo {
        let unseen = claims.iter().filter(|claim| claim.flow.is_none());
        Echo { lists: unseen.map(|claim| Rc::clone(&claim.list)).collect(), at: Some(now) }
    }

    /// Whether that explains a ring for this list.
    fn explains(&self, list: &str, now: Instant) -> bool {
        self.at.is_some_and(|at| now < at + ECHO) && self.lists.iter().any(|claimed| **claimed == *list)
    }
}

impl Engine {
    /// There may be something to claim, wherever it may be.
    pub(super) fn look_everywhere(&mut self) {
        self.look = true;
        self.gaze.want(Rung::Everywhere);
    }

    /// Something has changed in Redis.
    pub(super) fn rung(&mut self, rung: Rung) {
        let Rung::Lists(lists) = rung else { return self.look_everywhere() };
        let keys = &self.exchange.keys;
        if lists.iter().any(|list| *list == keys.ring()) {
            return self.look_everywhere();
        }
        let (now, echo) = (Instant::now(), std::mem::take(&mut self.gaze.echo));
        let (mine, workers) = (self.start.worker as usize, self.start.config.workers.processes.max(1) as usize);
        let places = lists.iter().filter_map(|list| Some((list, keys.place_of(list)?)));
        let mut at_once = places.map(|(list, (_, queue))| {
            let first = queue % workers == mine % workers;
            first && !echo.explains(list, now)
        });
        let Some(first) = at_once.next() else { return }; // of another application
        if first || at_once.any(|first| first) {
            self.look = true;
            self.gaze.want(Rung::Lists(lists));
        } else {
            drop(at_once);
            self.gaze.rung.add(Rung::Lists(lists));
            self.gaze.later.get_or_insert(now + LOOK_EVERY);
        }
    }

    /// Looks where it was put off, if it is time, or if a step is made anyway.
    pub(super) fn look_later(&mut self, now: Instant) {
        if self.gaze.later.is_some_and(|at| now >= at || self.settles()) {
            self.gaze.later = None;
            (self.look, self.gaze.wanted) = (true, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_explains_one_ring_for_its_list_and_for_a_moment() {
        let claim = |list: &str, flow: Option<&str>| Claim {
            sequence: 1,
            list: list.into(),
            flow: flow.map(Into::into),
            number: 1,
            raw: Vec::new(),
            in_turn: false,
            started: false,
        };
        let now = Instant::now();
        let echo = Echo::of(&[claim("a", None), claim("b", Some("user 1"))], now);
        assert!(echo.explains("a", now) && !echo.explains("a", now + ECHO));
        assert!(!echo.explains("b", now), "what waited in a lane has rung before");
        assert!(!Echo::default().explains("a", now));
    }
}
