//! How many slots there are: a number, or as many between two bounds as what waits makes use of.
//!
//! Slots are added at once when work waits and none is free: it would wait longer than a runner takes to start. They
//! are taken back when they were of no use for `[workers] shrink_after`. A slot that is taken back lets its task finish;
//! then its runner ends, and its memory is free.

use super::engine::{Claiming, Engine};
use super::slots::{RunnerState, Slot};
use crate::config::{self, Workers};
use std::time::{Duration, Instant};

/// Bounds, and what the slots were used for lately.
#[derive(Debug)]
pub struct Scale {
    least: u32,
    most: u32,
    /// It follows what waits.
    automatic: bool,
    after: Duration,
    /// Most slots in use since then.
    peak: usize,
    since: Instant,
}

impl Scale {
    /// As configured.
    pub fn new(workers: &Workers) -> Scale {
        let config::Concurrency { min: least, max: most } = workers.concurrency;
        let (automatic, after) = (least < most, workers.shrink_after);
        Scale { least, most, automatic, after, peak: 0, since: Instant::now() }
    }

    /// Whether the number of slots follows what waits.
    pub fn is_automatic(&self) -> bool {
        self.automatic
    }

    /// Fewest slots.
    pub fn least(&self) -> u32 {
        self.least
    }

    /// Most slots.
    pub fn most(&self) -> u32 {
        self.most
    }

    /// So many of `open` slots are in use; returns how many of them there should be.
    fn shrunk(&mut self, open: usize, busy: usize, now: Instant) -> usize {
        self.peak = self.peak.max(busy);
        let least = self.least as usize;
        if open > least && now.saturating_duration_since(self.since) < self.after {
            return open;
        }
        let wanted = self.peak.clamp(least, open.max(least));
        (self.peak, self.since) = (busy, now);
        wanted
    }

    /// How many slots there should be when so many messages wait and none of `open` slots is free.
    fn grown(&mut self, open: usize, waiting: usize, now: Instant) -> usize {
        let wanted = open.saturating_add(waiting).min(self.most as usize).max(open);
        if wanted > open {
            (self.peak, self.since) = (wanted, now);
        }
        wanted
    }
}

impl Engine {
    /// Slots in all.
    pub(super) fn open(&self) -> usize {
        self.slots.iter().filter(|slot| !slot.closed).count()
    }

    /// So many messages are known to wait.
    pub(super) fn grow_for(&mut self, waiting: usize) {
        let open = self.open();
        if waiting == 0 || !self.scale.automatic || self.claiming != Claiming::Yes || !self.is_full() {
            return;
        }
        let wanted = self.scale.grown(open, waiting, Instant::now());
        self.set_slots(wanted);
    }

    /// Each slot has a task, or its runner does not count: it is on its way already.
    fn is_full(&self) -> bool {
        self.slots.iter().filter(|slot| !slot.closed).all(|slot| slot.work.is_some())
    }

    /// Takes back what was of no use lately, and ends the runners of what was taken back.
    pub(super) fn shrink_if_quiet(&mut self, now: Instant) {
        if self.scale.automatic {
            let (open, busy) = (self.open(), self.busy());
            let wanted = self.scale.shrunk(open, busy, now);
            self.set_slots(wanted);
        }
        for slot in self.slots.iter_mut().filter(|slot| slot.closed && slot.work.is_none()) {
            slot.empty();
        }
    }

    /// Opens or closes slots until there are so many. Free ones are closed first.
    fn set_slots(&mut self, wanted: usize) {
        let mut open = self.open();
        if open == wanted {
            return;
        }
        tracing::info!("{wanted} slots in place of {open}");
        while open < wanted {
            let runner = match self.registry {
                Some(_) => RunnerState::Waiting(Instant::now()),
                None => RunnerState::Absent,
            };
            let closed = self.slots.iter().position(|slot| slot.closed).unwrap_or(self.slots.len());
            if closed == self.slots.len() {
                self.slots.push(Slot::default());
            }
            self.slots[closed].reopen(runner);
            open += 1;
        }
        while open > wanted {
            let free = self.slots.iter().rposition(|slot| !slot.closed && slot.work.is_none());
            let Some(index) = free.or_else(|| self.slots.iter().rposition(|slot| !slot.closed)) else { break };
            self.slots[index].closed = true;
            open -= 1;
        }
        let slots = self.open();
        self.reports.update(|figures| figures.slots = u32::try_from(slots).unwrap_or(u32::MAX));
        self.exchange.beat_soon(); // others count on so many slots
        self.look = true;
    }

    /// Another fixed number of slots.
    ///
    /// # Errors
    /// Why there can't be so many, in words.
    pub(super) fn resize(&mut self, change: i64) -> Result<(), &'static str> {
        let wanted = u32::try_from(i64::from(self.scale.most).saturating_add(change)).ok();
        let wanted = wanted.filter(|wanted| config::CONCURRENCY.contains(wanted)).ok_or(OUT_OF_RANGE)?;
        (self.scale.least, self.scale.most) = (wanted, wanted);
        self.set_slots(wanted as usize);
        Ok(())
    }

    /// Other bounds, as Celery's `Autoscaler.update`. Returns the most and the fewest.
    ///
    /// # Errors
    /// Why they can't be so, in words.
    pub(super) fn rescale(&mut self, most: Option<i64>, least: Option<i64>) -> Result<(u32, u32), &'static str> {
        let bound = |given: Option<i64>, present: u32| match given.map(u32::try_from) {
            None => Ok(present),
            Some(Ok(given)) if config::CONCURRENCY.contains(&given) => Ok(given),
            Some(_) => Err(OUT_OF_RANGE),
        };
        let (most, least) = (bound(most, self.scale.most)?, bound(least, self.scale.least)?);
        if least > most {
            return Err("min is above max");
        }
        (self.scale.least, self.scale.most) = (least, most);
        let wanted = self.open().clamp(least as usize, most as usize);
        self.set_slots(wanted);
        Ok((most, least))
    }
}

/// As in the configuration.
const OUT_OF_RANGE: &str = "a worker has from 1 to 256 slots";

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(least: u32, most: u32) -> Scale {
        let after = Duration::from_secs(30);
        Scale { least, most, automatic: true, after, peak: 0, since: Instant::now() }
    }

    #[test]
    fn grows_by_what_waits_and_shrinks_to_what_was_used() {
        let mut scale = scale(2, 10);
        let at = |seconds: u64| Instant::now() + Duration::from_secs(seconds);
        assert_eq!(scale.grown(2, 3, at(0)), 5);
        assert_eq!(scale.grown(5, 1000, at(0)), 10);
        assert_eq!(scale.shrunk(10, 10, at(20)), 10);
        assert_eq!(scale.shrunk(10, 4, at(29)), 10, "not yet");
        assert_eq!(scale.shrunk(10, 4, at(31)), 10, "all were needed in that time");
        assert_eq!(scale.shrunk(10, 6, at(50)), 10);
        assert_eq!(scale.shrunk(10, 1, at(62)), 6, "so many were needed since");
        assert_eq!(scale.shrunk(6, 0, at(93)), 2);
        assert_eq!(scale.shrunk(2, 0, at(200)), 2);
        assert_eq!(scale.grown(2, 1, at(200)), 3);
        assert_eq!(scale.shrunk(3, 0, at(229)), 3, "what is new stays for a while");
    }
}
