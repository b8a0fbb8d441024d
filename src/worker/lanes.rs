//! What is new in the lists is read here, so that the next step can move it into its tenants' lanes.

use super::engine::{Claiming, Engine};
use super::naming::Naming;
use super::rates::Rates;
use super::ring::Echo;
use crate::broker::{Filing, Keys, LaneKind, Looked, Room, Rung};
use crate::fairness::flow;
use crate::message::Message;
use crate::runner::python::Registry;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Messages looked at in one step at most: reading them keeps neither Redis nor the worker from others for long.
const LOOK_MAX: usize = 200;

/// The same while short tasks run: what is claimed ahead must not run out meanwhile.
const LOOK_AHEAD: usize = 128;

/// Bytes to look at in one step, about.
const LOOK_BYTES: usize = 1 << 20;

/// From so many bytes on a message is large: what a look at a megabyte costs more in a script is ten times a round trip.
const LARGE: usize = 8192;

/// Of a list that shows so many there is a backlog, of which some is filed while some is read.
const LONG: usize = 100;

/// While no slot is free, and while a step follows the other without a pause, new messages can wait so long.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(2);

/// When, and how far, this worker looks into the lists.
#[derive(Debug)]
pub struct Gaze {
    /// There may be something new.
    pub wanted: bool,
    /// Where.
    pub rung: Rung,
    /// When to look there, if that was put off.
    pub later: Option<Instant>,
    /// What the last step has claimed.
    pub echo: Echo,
    /// When it looked last.
    last: Option<Instant>,
    /// Average size of the messages seen lately, bytes.
    size: usize,
    /// What was seen of long lists, to be read during the next step.
    pub at_hand: Vec<Looked>,
}

impl Default for Gaze {
    fn default() -> Gaze {
        Gaze {
            wanted: true,
            rung: Rung::Everywhere,
            later: None,
            echo: Echo::default(),
            last: None,
            size: 4096,
            at_hand: Vec::new(),
        }
    }
}

impl Gaze {
    /// There may be something new here as well.
    pub fn want(&mut self, rung: Rung) {
        self.rung.add(rung);
        self.wanted = true;
    }

    /// When to look, if there is something to look for.
    pub fn due(&self) -> Option<Instant> {
        self.wanted.then(|| self.last.map_or_else(Instant::now, |last| last + LOOK_EVERY))
    }

    /// Where to look now.
    pub fn look(&mut self) -> Rung {
        (self.last, self.later, self.wanted) = (Some(Instant::now()), None, false);
        std::mem::take(&mut self.rung)
    }

    /// How many messages to look at.
    fn reach(&self) -> usize {
        let at_hand: usize = self.at_hand.iter().map(|seen| seen.messages.len()).sum();
        // One at least: with a look the list stays this worker's.
        let reach = (LOOK_BYTES / self.size.max(1)).clamp(8, LOOK_MAX);
        reach.saturating_sub(at_hand.saturating_sub(reach)).max(1)
    }

    /// Whether messages are such that the script should not show them.
    pub fn is_large(&self) -> bool {
        self.size > LARGE
    }

    fn saw(&mut self, looked: &[Looked]) {
        let sizes = looked.iter().flat_map(|looked| &looked.messages).map(Vec::len);
        let (count, bytes) = sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size));
        if let Some(thrice) = (3 * bytes).checked_div(count) {
            self.size = (self.size + thrice) / 4;
        }
    }
}

impl Engine {
    /// When to look for new messages, or to file what was seen. A free slot is reason to look at once; without one,
    /// what is new is filed all the same, so that its tenant is known when a slot gets free.
    pub(super) fn look_due(&self) -> Option<Instant> {
        if self.claiming != Claiming::Yes {
            return None;
        }
        if !self.filings.is_empty() || !self.gaze.at_hand.is_empty() {
            return Some(Instant::now());
        }
        let due = self.gaze.due().filter(|_| self.can_read())?;
        Some(if self.exchange.watching() && self.free() > 0 { Instant::now() } else { due })
    }

    /// Whether it can be said whose a message is: the positions of parameters are the application's.
    fn can_read(&self) -> bool {
        !self.python() || self.registry.is_some()
    }

    /// The application is gone for now: what was seen and not read stays where it is, until it is known again whose it is.
    pub(super) fn look_away(&mut self) {
        self.gaze.at_hand.clear();
        self.gaze.want(Rung::Everywhere);
    }

    /// How many messages the step now to be made looks at.
    pub(super) fn reach(&self) -> usize {
        if !self.can_read() || self.look_due().is_none_or(|due| due > Instant::now()) {
            return 0;
        }
        let reach = self.gaze.reach();
        if self.ahead.works.is_empty() { reach } else { reach.min(LOOK_AHEAD) }
    }

    /// Drops what was read of these lists: somebody else has moved what was before it.
    pub(super) fn forget(&mut self, lists: &[String]) {
        let kept = |list: &str| !lists.iter().any(|refused| refused == list);
        self.filings.retain(|filing| kept(&filing.list));
        self.gaze.at_hand.retain(|seen| kept(&seen.list));
        if !lists.is_empty() {
            self.gaze.rung = Rung::Everywhere;
        }
    }

    /// Notes whose the messages are.
    pub(super) fn file(&mut self, looked: Vec<Looked>) {
        // While nobody rings there is always reason to look.
        if !looked.is_empty() || !self.exchange.watching() {
            self.gaze.want(Rung::Everywhere);
        }
        if !self.gaze.at_hand.is_empty() {
            self.gaze.rung = Rung::Everywhere; // there is more than what was shown now
        }
        self.gaze.saw(&looked);
        let Engine { exchange, gaze, naming, rates, registry, filings, .. } = self;
        let mut room = Room::beside(filings);
        for seen in looked {
            // Behind so many there are likely more: these are read while Redis shows them.
            match gaze.at_hand.iter_mut().find(|rest| rest.list == seen.list) {
                Some(rest) => rest.messages.extend(seen.messages),
                None if seen.messages.len() >= LONG => gaze.at_hand.push(seen),
                None => {
                    let (filing, rest) = sorted(&exchange.keys, naming, rates, registry.as_ref(), seen, &mut room);
                    filings.extend(filing);
                    gaze.at_hand.extend(Some(rest).filter(|rest| !rest.messages.is_empty()));
                }
            }
        }
    }

    /// Whose task a message is.
    pub(super) fn flow_of(&self, message: &Message, queue: &str) -> Rc<str> {
        self.naming.flow(self.registry.as_ref(), message, queue)
    }
}

/// Whose the messages are that were looked at, and which are of limited tasks, as far as there is room; and what is left for
/// another step.
pub(super) fn sorted(
    keys: &Keys,
    naming: &mut Naming,
    rates: &Rates,
    registry: Option<&Registry>,
    looked: Looked,
    room: &mut Room,
) -> (Option<Filing>, Looked) {
    Filing::new(looked, room, |list, raw| {
        let queue = keys.queue_of(list);
        match Message::parse(raw) {
            Ok(message) => {
                naming.see(registry, &message, queue);
                let flow = naming.flow(registry, &message, queue);
                LaneKind { flow, limited: rates.limited(&message.headers.task) }
            }
            Err(_) => flow::of_queue(queue).into(), // whoever claims it sees for himself
        }
    })
}
