//! Puts back what dead owners held.

use super::engine::Engine;
use super::exchange::Trouble;
use super::intake::Reason;
use super::story::{self, Letter};
use crate::broker::step::Step;
use crate::broker::{Action, Claim, Settlement};
use crate::message::{Message, rewrite};
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
            // The latest first: each goes in front of the one before.
            let settlements: Vec<Settlement> =
                claims.into_iter().rev().map(|claim| self.given_back(owner, claim, now)).collect();
            let Some(connection) = &mut self.exchange.connection else { return Ok(()) };
            let step = Step { owner, connection: None, sequence: 0, want: 0, cursor: 0, settlements: &settlements };
            self.exchange.stepper.call(connection, &step).await?;
        }
        if count > 0 {
            tracing::warn!({ fields::OWNER } = owner, "put back {count} claims of a dead worker");
        }
        self.look = true;
        Ok(())
    }

    fn given_back(&self, owner: &str, claim: Claim, now: i64) -> Settlement {
        let queue = self.exchange.keys.queue_of(&claim.list).to_owned();
        let action = match Message::parse(claim.raw) {
            // Once more than that: even telling its caller takes the worker with it.
            Ok(message) if message.deliveries >= self.start.config.delivery.max_deliveries => {
                let text = format!("its worker died {} times while it ran", message.deliveries + 1);
                let tenant = self.tenant_of(&message);
                let letter =
                    Letter { queue: &queue, message: Some(&message), tenant: tenant.as_deref(), ..Letter::default() };
                let entry = story::entry(&self.start, Reason::Lost, &text, &letter, now);
                Action::Dead { message: message.raw, entry }
            }
            Ok(message) => {
                story::recovered(&self.start, owner, &queue, &message, self.tenant_of(&message).as_deref());
                Action::Front(rewrite::redelivered(&message, true))
            }
            // Whoever claims it next sees for himself.
            Err((_, raw)) => Action::Front(raw),
        };
        Settlement { sequence: claim.sequence, action, stores: Vec::new() }
    }
}
