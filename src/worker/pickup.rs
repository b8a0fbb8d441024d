//! What an idle worker does when a queue rings: it claims what has come, in one small exchange, and leaves the step out.

use super::bounds::WANT_MAX;
use super::engine::{Claiming, Engine};
use super::exchange::Trouble;
use crate::broker::Rung;
use crate::broker::pickup::{PickUp, Picked};
use std::time::{Duration, Instant};

/// Where it takes a step, as while somebody waits for the rate of a task, it is not tried again for so long.
const REST: Duration = Duration::from_secs(1);

impl Engine {
    /// The list that has rung, if there is nothing else to be done with Redis, and no more to be seen, than to claim what
    /// is in it.
    fn only_rung(&self) -> Option<&str> {
        let idle = self.look
            && self.claiming == Claiming::Yes
            && self.is_settled()
            && self.budget.is_none()
            && self.exchange.leased
            && self.exchange.watching
            && self.exchange.stepper.allows_unseen()
            && self.exchange.steps_only.is_none_or(|until| Instant::now() >= until);
        let Rung::Lists(lists) = &self.gaze.rung else { return None };
        let [list] = &lists[..] else { return None };
        let known = self.exchange.keys.place_of(list).is_some();
        (idle && known && self.free() > 0 && self.reach() > 0).then_some(list)
    }

    /// Nothing has ended, was seen, or is held, that the next step would tell Redis.
    fn is_settled(&self) -> bool {
        self.outbox.is_empty()
            && self.filings.is_empty()
            && self.gaze.at_hand.is_empty()
            && self.ahead.works.is_empty()
            && !self.ahead.releases()
    }

    /// Claims what has rung. Whatever is more than that is left for the step, which comes next.
    pub(super) async fn pick_up(&mut self) -> Result<(), Trouble> {
        let Some(list) = self.only_rung().map(str::to_owned) else { return Ok(()) };
        let (slots, look) = (self.free().min(WANT_MAX), self.reach());
        let exchange = &mut self.exchange;
        let Some(connection) = &mut exchange.connection else { return Ok(()) };
        let wanted = PickUp {
            owner: &self.start.owner,
            connection: exchange.number,
            sequence: exchange.sequence,
            slots,
            list: &list,
        };
        let reply = match exchange.picker.call(connection, &exchange.keys, &wanted).await? {
            Picked::Done(reply) => *reply,
            Picked::Refused => {
                exchange.steps_only = Some(Instant::now() + REST);
                return Ok(());
            }
            Picked::LeaseLost => return Err(Trouble::LeaseLost),
        };
        self.gaze.look();
        self.ahead.sent();
        self.look = false;
        let (due, more) = (self.exchange.due_at, reply.behind > 0);
        // Not all that could be had was taken, as far as a step would say: whether there is more is known.
        self.take_in(reply, slots + 1, slots, look).await?;
        self.exchange.due_at = due;
        if more {
            self.look_everywhere();
        }
        Ok(())
    }
}
