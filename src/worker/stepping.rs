//! The step of a busy worker: what has ended goes in, what can start comes out, what is new is looked at.

use super::bounds;
use super::engine::{Claiming, Engine};
use super::exchange::Trouble;
use super::flight::Flight;
use super::lanes::sorted;
use super::ring::Echo;
use crate::broker::{Action, Filing, Looked, Room, Rung, Step, StepReply};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Steps are quick if one follows the other within this time.
const QUICK: Duration = Duration::from_millis(2);

impl Engine {
    /// Something has ended that Redis doesn't know of and can be told.
    pub(super) fn settles(&self) -> bool {
        !self.outbox.is_empty() && !self.hands_back()
    }

    /// Sends what has ended and asks for what free slots can take, in one exchange, and waits for the answer if a slot does.
    pub(super) async fn step(&mut self) -> Result<(), Trouble> {
        let most = self.bounds.want();
        let (slots, room) = (self.free().min(most), self.ahead_room());
        let claims = self.look && self.claiming == Claiming::Yes && self.exchange.leased;
        let look = self.reach();
        if self.claiming != Claiming::Yes {
            // What was seen stays where it is, for others.
            self.filings.clear();
            self.gaze.at_hand.clear();
        }
        if self.hands_back() {
            return Ok(());
        }
        // What goes back to the front goes latest first, which costs least: each is put in front of the one before.
        self.outbox.sort_by_key(|settlement| match settlement.action {
            Action::Front(_) => u64::MAX - settlement.sequence,
            _ => 0,
        });
        // There may be more than one script call can take. While some of it goes to the front, nothing is claimed from behind.
        let batch = bounds::batch(&self.outbox);
        let rest = &self.outbox[batch..];
        let claims = claims && !rest.iter().any(|settlement| settlement.action.is_back());
        // Else what has ended would pile up as long as there is something to claim.
        let room = room.min(most.saturating_sub(rest.len()));
        let (slots, want) = if claims { (slots, (slots + room).min(most)) } else { (0, 0) };
        let Engine { exchange, gaze, naming, .. } = self;
        let Some(connection) = &exchange.connection else { return Ok(()) };
        let idle = want == 0 && look == 0 && self.outbox.is_empty() && self.filings.is_empty();
        if idle && !self.ahead.releases() {
            return Ok(());
        }
        let (holds, releases) = self.ahead.holds(rest);
        let at_hand = std::mem::take(&mut gaze.at_hand);
        // What rings from here on is for the next step.
        self.look &= want == 0;
        let rung = if look > 0 { gaze.look() } else { Rung::Everywhere }; // not asked for
        // Where something was seen that is not filed yet, there is more.
        let known = at_hand.is_empty() && self.filings.is_empty() && exchange.watching;
        let rung = if known { rung } else { Rung::Everywhere };
        let counts: Vec<_> = at_hand.iter().map(|seen| (Rc::clone(&seen.list), seen.messages.len())).collect();
        let step = Step {
            owner: &self.start.owner,
            connection: Some(exchange.number),
            sequence: exchange.sequence,
            want,
            slots,
            cursor: exchange.cursor,
            settlements: &self.outbox[..batch],
            epoch: naming.epoch(),
            filings: &self.filings,
            at_hand: &counts,
            look,
            large: gaze.is_large(),
            rung: &rung,
            unseen: true,
            expected: self.expected,
            holds: &holds,
            releases: &releases,
        };
        let answer = Box::pin(exchange.stepper.send(connection, &step));
        let settlements = self.outbox.drain(..batch).collect();
        let events = self.outbox.is_empty().then(|| self.events.so_far());
        self.flight = Some(Flight { answer, settlements, want, slots, look, events, holds });
        self.ahead.sent();
        self.send().await?;
        self.read(at_hand);
        if slots > 0 || !self.may_fly() { self.await_answer().await } else { Ok(()) }
    }

    /// Reads what is at hand of long lists, while Redis files what came before it.
    fn read(&mut self, at_hand: Vec<Looked>) {
        let Engine { exchange, naming, rates, registry, .. } = self;
        let (keys, mut room) = (&exchange.keys, Room::default());
        let read = at_hand.into_iter().map(|seen| sorted(keys, naming, rates, registry.as_ref(), seen, &mut room));
        let (read, mut rest): (Vec<Option<Filing>>, Vec<Looked>) = read.unzip();
        // Lists for which there was no room are the first next time.
        let full = read.iter().position(Option::is_none).unwrap_or(0);
        rest.rotate_left(full);
        self.gaze.at_hand = rest.into_iter().filter(|rest| !rest.messages.is_empty()).collect();
        self.filings = read.into_iter().flatten().collect();
    }

    /// What a step has answered that wanted and looked at so many, and claimed for so many slots.
    pub(super) fn stepped(&mut self, reply: StepReply, want: usize, slots: usize, look: usize) {
        self.forget(&reply.refused);
        let exchange = &mut self.exchange;
        exchange.clock = (reply.now, Instant::now());
        exchange.cursor = reply.cursor;
        self.naming.heard(reply.epoch);
        exchange.sequence += reply.claims.len() as u64;
        exchange.due_at = reply.next_due.map(|due| due_at(u64::try_from(due - reply.now).unwrap_or(0)));
        if let Some(turn) = reply.turn.map(due_at) {
            exchange.due_at = Some(exchange.due_at.map_or(turn, |due| due.min(turn)));
        }
        if want > 0 {
            exchange.looked = true;
            let all = reply.claims.len() == want;
            self.look |= all;
            if let Some(budget) = &mut self.budget {
                budget.backlog = reply.behind > 0;
            }
            let quick = exchange.full_at.replace(Instant::now()).is_some_and(|last| last.elapsed() < QUICK);
            exchange.full_steps = if all && quick { exchange.full_steps + 1 } else { 0 };
        }
        self.bounds.claimed(&reply.claims);
        self.gaze.echo = Echo::of(&reply.claims, Instant::now());
        let waiting = reply.behind + reply.looked.iter().map(|looked| looked.messages.len()).sum::<usize>();
        if look > 0 {
            if !reply.looked.is_empty() {
                self.cut_rests(Instant::now());
            }
            self.file(reply.looked);
            if reply.turn.is_some() {
                self.gaze.rung = Rung::Everywhere; // when it is mine
            }
            // What is filed now can be claimed with the next step.
            self.look |= !self.filings.is_empty();
        }
        if !reply.lost.is_empty() {
            tracing::debug!(claims = ?reply.lost, "already settled, or taken over by others");
        }
        self.ahead.in_line = reply.claims.len() > slots;
        for (claim, waited) in reply.claims.into_iter().zip(reply.waits) {
            self.dispatch(claim, waited, reply.now);
        }
        self.grow_for(waiting);
        let busy = u32::try_from(self.busy().min(self.slots.len())).unwrap_or(u32::MAX);
        self.reports.update(|figures| figures.busy = busy);
    }
}

/// When to look for a delayed message that is due in so many milliseconds.
pub(super) fn due_at(wait: u64) -> Instant {
    Instant::now() + Duration::from_millis(wait.min(86_400_000))
}
