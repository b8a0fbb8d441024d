//! The way out: claiming stops, running tasks finish, what doesn't in time is handed back, nothing stays claimed.

use super::engine::{Claiming, Engine, Failure};
use super::work::Phase;
use crate::channel::Exit;
use std::time::{Duration, Instant};

/// How long killed runners may take to be gone, and Redis to take what is handed back, after the deadline.
const LAST_MOMENTS: Duration = Duration::from_secs(3);

impl Engine {
    /// The exit code, once a drain has come to its end.
    pub(super) async fn drained(&mut self) -> Result<Option<Exit>, Failure> {
        let Claiming::Draining(deadline) = self.claiming else { return Ok(None) };
        let now = Instant::now();
        if self.busy() == 0 {
            if self.outbox.is_empty() {
                return self.leave().await;
            }
            if now < deadline + LAST_MOMENTS {
                return Ok(None);
            }
        }
        if now < deadline {
            return Ok(None);
        }
        if self.handed_back.is_none() {
            self.handed_back = Some(self.busy());
            tracing::warn!("drain deadline passed: handing back {} running tasks", self.busy());
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

    async fn leave(&mut self) -> Result<Option<Exit>, Failure> {
        if let Some(connection) = &mut self.exchange.connection
            && let Err(error) = self.exchange.leases.leave(connection, &self.start.owner).await
        {
            tracing::warn!("{error}; the lease runs out by itself");
        }
        Ok(Some(if self.handed_back.is_some_and(|count| count > 0) { Exit::HandedBack } else { Exit::Ok }))
    }

    /// A task was killed to be handed back.
    pub(super) fn is_stopping(&self, index: usize) -> bool {
        self.handed_back.is_some()
            && self.slots[index].work.as_ref().is_some_and(|work| matches!(work.phase, Phase::Stopping))
    }
}
