//! The way out: claiming stops, running tasks finish, what doesn't in time is handed back, nothing stays claimed.

use super::engine::{Claiming, Engine, Failure};
use super::work::Phase;
use crate::broker::BrokerError;
use crate::broker::lease::{LEASE, Others};
use crate::channel::Exit;
use std::time::{Duration, Instant};

/// How long killed runners may take to be gone, and Redis to take what is handed back, after the deadline.
const LAST_MOMENTS: Duration = Duration::from_secs(3);

/// How long runners may take to end that have nothing to run any more: the application may have something to do then.
const RUNNERS_WITHIN: Duration = Duration::from_secs(5);

/// How long the leases of others are watched before they count as dead: they renew theirs with every beat.
const WATCH_OTHERS: Duration = Duration::from_millis(LEASE.as_millis() as u64 + 1000);

impl Engine {
    /// The exit code, once a drain has come to its end.
    pub(super) async fn drained(&mut self) -> Result<Option<Exit>, Failure> {
        let Claiming::Draining(deadline) = self.claiming else { return Ok(None) };
        let now = Instant::now();
        if self.busy() == 0 && self.outbox.is_empty() && (now >= deadline || !self.is_still_needed()) {
            let gone = self.runners_gone(now, deadline + LAST_MOMENTS);
            return Ok(if gone { Some(self.leave(deadline + LAST_MOMENTS).await) } else { None });
        }
        if now < deadline {
            return Ok(None);
        }
        if self.handed_back.is_none() {
            self.handed_back = Some(self.busy());
            tracing::warn!("handing back {} running tasks", self.busy());
            for index in 0..self.slots.len() {
                self.kill(index);
            }
        }
        if now >= deadline + LAST_MOMENTS {
            tracing::error!("Redis does not take back {} tasks; their lease runs out", self.busy() + self.outbox.len());
            return Ok(Some(Exit::HandedBack));
        }
        // Commands tell their end themselves; a killed runner's is told by the zygote.
        Ok(None)
    }

    /// Has the runners end by themselves, which lets the application close what it holds; true once they have, or have
    /// taken too long: then the zygote kills them when this process is gone.
    fn runners_gone(&mut self, now: Instant, until: Instant) -> bool {
        let since = *self.dismissed.get_or_insert(now);
        for slot in &mut self.slots {
            slot.runner.dismiss();
        }
        let gone = self.slots.iter_mut().all(|slot| slot.runner.process().is_none());
        gone || now >= until.min(since + RUNNERS_WITHIN)
    }

    /// In a reload the last ones of an old generation may be the only ones who can recover what one of them held. At a
    /// stop nobody is waited for: the zygote that would have to answer may be gone for good.
    fn is_still_needed(&self) -> bool {
        let exchange = &self.exchange;
        let owed = !exchange.suspects.is_empty() || !self.fencing.is_empty() || !exchange.recover.is_empty();
        self.replaced && owed
    }

    /// Says goodbye. Where the others that are left only seem to live, because a whole daemon was killed just
    /// before, this worker is the last one: it waits for the end of their leases, puts their claims back and pours
    /// back what is delayed. Otherwise nobody would.
    async fn leave(&mut self, until: Instant) -> Exit {
        let exit = if self.handed_back.is_some_and(|count| count > 0) { Exit::HandedBack } else { Exit::Ok };
        let until = until.min(Instant::now() + WATCH_OTHERS);
        let mut before: Option<Others> = None;
        loop {
            match self.say_goodbye().await {
                Ok(others) if others.is_empty() || self.replaced || Instant::now() >= until => return exit,
                Ok(others) => {
                    let dead: Vec<String> = others.expired().map(str::to_owned).collect();
                    if dead.is_empty() && before.as_ref().is_some_and(|before| others.renewed_since(before)) {
                        return exit; // somebody lives, and will be the last one
                    }
                    for owner in dead {
                        if let Err(trouble) = self.recover_owner(&owner).await {
                            tracing::warn!("{trouble:?}; what {owner} held is put back when its lease is found over");
                            return exit;
                        }
                    }
                    before.get_or_insert(others);
                }
                Err(error) => {
                    tracing::warn!("{error}; the lease runs out by itself");
                    return exit;
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn say_goodbye(&mut self) -> Result<Others, BrokerError> {
        match &mut self.exchange.connection {
            Some(connection) => self.exchange.leases.leave(connection, &self.start.owner).await,
            None => Ok(Others::default()),
        }
    }

    /// All that is handed back goes in one step, in order, so nothing goes before the last runner is gone.
    pub(super) fn hands_back(&self) -> bool {
        self.handed_back.is_some() && self.busy() > 0
    }

    /// A task was killed to be handed back.
    pub(super) fn is_stopping(&self, index: usize) -> bool {
        self.handed_back.is_some()
            && self.slots[index].work.as_ref().is_some_and(|work| matches!(work.phase, Phase::Stopping))
    }
}
