//! A step on its way: sent, and not answered yet.
//!
//! While runners have enough in their inbox, nobody has to wait for Redis: what they say meanwhile is heard, and the step's
//! answer comes in among it. Only one is on its way at a time, and as long as it is nothing else is asked of Redis.

use super::engine::{Claiming, Engine};
use super::exchange::Trouble;
use crate::broker::{Action, BrokerError, Settlement, StepReply};
use std::future::{Future, poll_fn, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

/// What a step comes to.
pub(super) type Answer = Result<Option<StepReply>, BrokerError>;

/// A step that was sent.
pub(super) struct Flight {
    pub(super) answer: Pin<Box<dyn Future<Output = Answer>>>,
    /// What it settles; should it fail, it is told again.
    pub(super) settlements: Vec<Settlement>,
    /// How many it claims at most.
    pub(super) want: usize,
    /// For how many of these a slot is free.
    pub(super) slots: usize,
    /// How many it looks at.
    pub(super) look: usize,
    /// So many events tell of nothing that Redis doesn't know then; none if not all could be settled that has ended.
    pub(super) events: Option<u64>,
    /// Flows it holds.
    pub(super) holds: Vec<Rc<str>>,
}

/// The answer of the step on its way; never, if there is none.
pub(super) async fn answer(flight: &mut Option<Flight>) -> Answer {
    poll_fn(|context| match flight {
        Some(flight) => flight.answer.as_mut().poll(context),
        None => std::task::Poll::Pending,
    })
    .await
}

impl Engine {
    /// Whether the step on its way may come in later: it fills no free slot, and nothing else is to be asked of Redis.
    pub(super) fn may_fly(&self) -> bool {
        self.claiming == Claiming::Yes
            && self.exchange.is_connected()
            && !self.ahead.works.is_empty()
            && Instant::now() < self.exchange.beat_at
            && !self.has_to_note()
    }

    /// Has the step on its way sent.
    pub(super) async fn send(&mut self) -> Result<(), Trouble> {
        self.look_for_answer().await?;
        tokio::task::yield_now().await; // the connection's turn
        Ok(())
    }

    /// Takes in the answer, if it is here.
    pub(super) async fn look_for_answer(&mut self) -> Result<(), Trouble> {
        tokio::select! {
            biased;
            answer = answer(&mut self.flight) => self.land(answer).await,
            () = ready(()) => Ok(()),
        }
    }

    /// Waits for the answer.
    pub(super) async fn await_answer(&mut self) -> Result<(), Trouble> {
        if self.flight.is_none() {
            return Ok(());
        }
        let answer = answer(&mut self.flight).await;
        self.land(answer).await
    }

    /// The step has come to this.
    pub(super) async fn land(&mut self, answer: Answer) -> Result<(), Trouble> {
        let Some(flight) = self.flight.take() else { return Ok(()) };
        let reply = match answer {
            Ok(Some(reply)) => reply,
            failed => {
                self.outbox.splice(..0, flight.settlements);
                return Err(failed.map_or_else(Trouble::from, |_| Trouble::LeaseLost));
            }
        };
        for settlement in flight.settlements.iter().filter(|settlement| settlement.action != Action::Store) {
            self.tally.end(settlement.sequence, Instant::now());
        }
        if let Some(events) = flight.events {
            self.events.release(events);
        }
        self.ahead.stepped(flight.holds);
        self.take_in(reply, flight.want, flight.slots, flight.look).await
    }

    /// Takes in an answer, once it is known which of its claims are of revoked tasks.
    pub(super) async fn take_in(
        &mut self,
        reply: StepReply,
        want: usize,
        slots: usize,
        look: usize,
    ) -> Result<(), Trouble> {
        // Should this fail, what was claimed is unknown to us and goes back once Redis is there again.
        let exchange = &mut self.exchange;
        if let Some(connection) = &mut exchange.connection
            && exchange.revoked.is_behind(reply.revoked)
        {
            exchange.revoked.catch_up(connection).await?;
        }
        self.stepped(reply, want, slots, look);
        Ok(())
    }
}
