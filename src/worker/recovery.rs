//! Puts back what dead owners held.

use super::engine::Engine;
use super::exchange::Trouble;
use super::letter::Letter;
use super::story;
use crate::broker::{Action, Claim, Reason, Settlement, Step, Store};
use crate::config::Results;
use crate::fairness::flow;
use crate::message::{Message, rewrite};
use crate::results::{self, State};
use crate::runner::worker_lost;
use crate::telemetry::fields;

impl Engine {
    /// Has the zygote see to it that nothing of the dead owners runs any more. On other hosts that is not in our
    /// hands: there the lease has to be enough.
    pub(super) async fn fence_suspects(&mut self) {
        if self.exchange.suspects.is_empty() {
            return;
        }
        let suspects = std::mem::take(&mut self.exchange.suspects);
        let Some(zygote) = self.zygote.as_ref().filter(|_| self.registry.is_some()) else {
            if self.python() {
                self.exchange.suspects = suspects; // as soon as there is a zygote, or the lack of one is certain
            } else {
                self.exchange.recover(suspects);
            }
            return;
        };
        for owner in suspects {
            if self.fencing.contains(&owner) {
                continue;
            }
            match zygote.fence(&owner).await {
                Ok(()) => self.fencing.push(owner),
                Err(_) => self.exchange.suspects.push(owner), // the zygote is gone; its successor is asked
            }
        }
    }

    /// The zygote confirms that no runner of this owner is left.
    pub(super) fn fenced(&mut self, owner: &str) {
        self.fencing.retain(|fenced| fenced != owner);
        self.exchange.recover([owner.to_owned()]);
    }

    /// The zygote, or only our connection to it, is gone: whoever comes next is asked again.
    pub(super) fn unfence(&mut self) {
        self.exchange.suspects.append(&mut self.fencing);
    }

    /// What stock workers on the same queues held for too long goes back to its lists.
    pub(super) async fn restore_stale(&mut self) -> Result<(), Trouble> {
        let Some(connection) = &mut self.exchange.connection else { return Ok(()) };
        let restored = self.exchange.stale.restore(connection).await?;
        if restored > 0 {
            tracing::warn!("put back {restored} messages of Celery workers that died");
        }
        Ok(())
    }

    /// Each dead owner's claims go back to the front of their lists, marked redelivered and counted. One that has
    /// taken its worker with it too often is recognised by whoever claims it next, who also tells its caller.
    pub(super) async fn recover_owners(&mut self) -> Result<(), Trouble> {
        let mut owners = std::mem::take(&mut self.exchange.recover);
        owners.sort();
        owners.dedup();
        owners.retain(|owner| *owner != self.start.owner);
        while let Some(owner) = owners.last() {
            let recovered = self.recover_owner(owner).await;
            if recovered.is_err() {
                self.exchange.recover = owners;
                return recovered;
            }
            owners.pop();
        }
        Ok(())
    }

    pub(super) async fn recover_owner(&mut self, owner: &str) -> Result<(), Trouble> {
        let mut count = 0;
        loop {
            let Some(connection) = &mut self.exchange.connection else { return Ok(()) };
            let claims = self.exchange.leases.seize(connection, owner).await?;
            if claims.is_empty() {
                break;
            }
            count += claims.len();
            let now = self.exchange.now();
            // The latest first, which costs least: each goes in front of the one before.
            let settlements: Vec<Settlement> =
                claims.into_iter().rev().map(|claim| self.given_back(owner, claim, now)).collect();
            let Some(connection) = &mut self.exchange.connection else { return Ok(()) };
            let step = Step::settling(owner, &settlements);
            self.exchange.stepper.call(connection, &step).await?;
        }
        if self.exchange.keys.is_foreign(owner)
            && let Some(connection) = &mut self.exchange.connection
        {
            // If it was the last of its fleet, nobody else would empty its lanes.
            self.exchange.leases.leave(connection, owner).await?;
        }
        if count > 0 {
            tracing::warn!({ fields::OWNER } = owner, "put back {count} claims of a dead worker");
        }
        self.look = true;
        Ok(())
    }

    /// What becomes of a claim whose owner is dead. One whose task was started for good is not run again: it
    /// becomes a dead letter, and whoever waits for its result is told.
    pub(super) fn given_back(&self, owner: &str, claim: Claim, now: i64) -> Settlement {
        let queue = self.exchange.keys.queue_of(&claim.list).to_owned();
        let registry = self.registry.as_ref();
        if claim.started {
            let why = "its worker died while it ran, or just before it began";
            let reason = Reason::AtMostOnce;
            let (entry, stores, raw) = match Message::parse(claim.raw) {
                Ok(message) => {
                    let entry = Letter::of_message(reason, why, &queue, &message, now).write(&self.start, registry);
                    let text = format!("Worker exited prematurely: {why}.");
                    (entry, self.results_of_lost(&message, &text), message.raw)
                }
                Err((_, raw)) => (Letter::new(reason, why, &queue, now).write(&self.start, registry), Vec::new(), raw),
            };
            let flow = claim.flow.unwrap_or_else(|| flow::of_queue(&queue));
            let action = Action::Dead { message: raw, entry };
            return Settlement { stores, ..Settlement::new(claim.sequence, flow, None, action) };
        }
        let mut flow = claim.flow;
        let action = match Message::parse(claim.raw) {
            // Once more than that: even telling its caller takes the worker with it.
            Ok(message) if message.deliveries >= self.start.config.delivery.max_deliveries => {
                let text = format!("its worker died {} times while it ran", message.deliveries + 1);
                let letter = Letter::of_message(Reason::Lost, &text, &queue, &message, now);
                let entry = letter.write(&self.start, registry);
                Action::Dead { message: message.raw, entry }
            }
            Ok(message) => {
                let flow = flow.get_or_insert_with(|| self.flow_of(&message, &queue));
                story::recovered(&self.start, owner, &queue, &message, flow::tenant_of(flow));
                Action::Front(rewrite::redelivered(&message, true))
            }
            // Whoever claims it next sees for himself.
            Err((_, raw)) => Action::Front(raw),
        };
        Settlement::new(claim.sequence, flow.unwrap_or_else(|| flow::of_queue(&queue)), None, action)
    }

    /// The result of a task that was lost with its worker, written here: no runner has anything to do with it any more.
    /// Chords and errbacks of a Python task don't learn of it, as under Celery, which tells nobody at all.
    fn results_of_lost(&self, message: &Message, text: &str) -> Vec<Store> {
        let (exception, config) = (worker_lost(text), &self.start.config);
        let state = State::Failure(&exception, "");
        if self.is_own(&message.headers.task) {
            return self.results_of(message, &state);
        }
        let prefix = self.registry.as_ref().filter(|registry| registry.results_db.is_some());
        let Some(prefix) = prefix.and_then(|registry| registry.results_prefix.clone()) else { return Vec::new() };
        if message.headers.ignore_result == Some(true) {
            return Vec::new();
        }
        let results = Results { key_prefix: prefix, ..config.results.clone() };
        vec![results::store(&results, message, &state, self.exchange.now())]
    }
}
