//! What each tenant has had of this worker in the last minute. Time comes in from outside.

use crate::broker::minute::{Had, Minute};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The minute, and the parts in which it is forgotten.
const MINUTE: Duration = Duration::from_secs(60);
const PART: Duration = Duration::from_secs(10);

/// Tenants counted in one part; what more there are count only in the sum.
const TENANTS_MAX: usize = 1000;

/// Tenants told of with a beat: those that have run longest.
const TOLD_MAX: usize = 100;

/// One part of the minute.
#[derive(Debug)]
struct Part {
    begun: Instant,
    ran: f64,
    tenants: HashMap<Rc<str>, Had>,
}

impl Part {
    fn of(&mut self, flow: &Rc<str>) -> Option<&mut Had> {
        let full = self.tenants.len() >= TENANTS_MAX && !self.tenants.contains_key(flow);
        (!full).then(|| self.tenants.entry(Rc::clone(flow)).or_default())
    }
}

/// A task under way.
#[derive(Debug)]
struct Running {
    flow: Rc<str>,
    unseen: bool,
    counted: Instant,
}

/// Counts.
#[derive(Debug, Default)]
pub struct Tally {
    parts: VecDeque<Part>,
    running: HashMap<u64, Running>,
}

impl Tally {
    /// The claim of this number begins; it has waited so many milliseconds.
    pub fn begin(&mut self, sequence: u64, flow: &Rc<str>, waited: f64, unseen: bool, now: Instant) {
        if let Some(had) = self.part(now).of(flow) {
            had.waited(waited);
        }
        self.running.insert(sequence, Running { flow: Rc::clone(flow), unseen, counted: now });
    }

    /// It has ended.
    pub fn end(&mut self, sequence: u64, now: Instant) {
        if let Some(running) = self.running.remove(&sequence) {
            self.count(&running, now);
        }
    }

    /// The last minute.
    pub fn told(&mut self, now: Instant) -> Minute {
        self.part(now);
        for (sequence, mut running) in std::mem::take(&mut self.running) {
            self.count(&running, now);
            running.counted = now;
            self.running.insert(sequence, running);
        }
        let mut tenants: HashMap<&Rc<str>, Had> = HashMap::new();
        for (flow, had) in self.parts.iter().flat_map(|part| &part.tenants) {
            tenants.entry(flow).or_default().add(had);
        }
        for running in self.running.values().filter(|running| running.unseen) {
            tenants.entry(&running.flow).or_default().unseen += 1;
        }
        let mut tenants: Vec<(String, Had)> = tenants.into_iter().map(|(flow, had)| (flow.to_string(), had)).collect();
        tenants.sort_by(|(_, one), (_, other)| other.ran.total_cmp(&one.ran));
        tenants.truncate(TOLD_MAX);
        Minute { ran: self.parts.iter().map(|part| part.ran).sum(), tenants: tenants.into_iter().collect() }
    }

    fn count(&mut self, running: &Running, now: Instant) {
        let ran = now.saturating_duration_since(running.counted).min(MINUTE).as_secs_f64() * 1000.0;
        let part = self.part(now);
        part.ran += ran;
        if let Some(had) = part.of(&running.flow) {
            had.ran += ran;
        }
    }

    /// The present part.
    fn part(&mut self, now: Instant) -> &mut Part {
        while self.parts.front().is_some_and(|part| now.saturating_duration_since(part.begun) >= MINUTE) {
            self.parts.pop_front();
        }
        let last = self
            .parts
            .back()
            .filter(|part| now.saturating_duration_since(part.begun) < PART)
            .map(|_| self.parts.len() - 1);
        let at = last.unwrap_or_else(|| {
            self.parts.push_back(Part { begun: now, ran: 0.0, tenants: HashMap::new() });
            self.parts.len() - 1
        });
        &mut self.parts[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_in_the_last_minute_counts_also_while_it_runs() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let flow = |name: &str| -> Rc<str> { name.into() };
        tally.begin(1, &flow("t:a"), 20.0, false, at(0));
        tally.begin(2, &flow("t:b"), 0.0, true, at(0));
        tally.end(1, at(1));
        let told = tally.told(at(5));
        assert_eq!((told.ran, told.tenants["t:a"].ran, told.tenants["t:b"].ran), (6000.0, 1000.0, 5000.0));
        assert_eq!((told.tenants["t:a"].unseen, told.tenants["t:b"].unseen), (0, 1));
        for beat in 2..40 {
            tally.told(at(5 * beat));
        }
        let told = tally.told(at(200));
        assert!(!told.tenants.contains_key("t:a"), "forgotten");
        assert!((55_000.0..=70_000.0).contains(&told.ran), "{}", told.ran);
        tally.end(2, at(200));
        assert!(tally.told(at(300)).tenants.is_empty());
    }

    #[test]
    fn it_stays_small() {
        let (mut tally, now) = (Tally::default(), Instant::now());
        for number in 0..5000 {
            let flow: Rc<str> = format!("t:{number}").into();
            tally.begin(number, &flow, 0.0, false, now);
            tally.end(number, now + Duration::from_millis(1));
        }
        let told = tally.told(now);
        assert_eq!((told.tenants.len(), told.ran.round()), (TOLD_MAX, 5000.0));
    }
}
