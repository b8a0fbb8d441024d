//! Messages of stock workers that died: kombu keeps them in `unacked`, for a worker of its own to restore when the
//! visibility timeout is over. Where none runs any more, we do it.

use super::connection::unexpected;
use super::keys::PRIORITY_SUFFIXES;
use super::script::{call, script};
use super::{BrokerError, Connection, Keys};
use crate::message::{Message, rewrite};
use redis::Script;
use serde_json::value::RawValue;
use std::time::{Duration, Instant};

/// A stock worker that restores holds kombu's mutex for some milliseconds. If it is killed meanwhile the mutex ends by itself
/// only after five minutes (`kombu/transport/redis.py`, `unacked_mutex_expire`); so long nobody would restore anything.
const DEAD_AFTER: Duration = Duration::from_secs(10);

/// The scripts around them.
pub struct Stale {
    look: Script,
    restore: Script,
    keys: Keys,
    visibility: Duration,
    /// Who holds kombu's mutex, each holding under a name of its own, and since when that is known.
    holder: Option<(Vec<u8>, Instant)>,
    dead_after: Duration,
}

impl Stale {
    /// `visibility` is the application's `visibility_timeout`: what was claimed less long ago is left alone.
    pub fn new(keys: Keys, visibility: Duration) -> Stale {
        let (look, restore) = (script!("scripts/stale.lua"), script!("scripts/restore.lua"));
        Stale { look, restore, keys, visibility, holder: None, dead_after: DEAD_AFTER }
    }

    /// The same, but whoever holds kombu's mutex for this long counts as dead.
    pub fn with_dead_after(self, dead_after: Duration) -> Stale {
        Stale { dead_after, ..self }
    }

    /// The holder of kombu's mutex, if it is dead; else nothing.
    async fn dead_holder(&mut self, connection: &mut Connection) -> Result<Vec<u8>, BrokerError> {
        let key = self.keys.key("unacked_mutex");
        let holder: Option<Vec<u8>> = connection.query(redis::cmd("GET").arg(key)).await?;
        match (holder, &self.holder) {
            (Some(holder), Some((known, since))) if holder == *known => {
                return Ok(if since.elapsed() > self.dead_after { holder } else { Vec::new() });
            }
            (holder, _) => self.holder = holder.map(|holder| (holder, Instant::now())),
        }
        Ok(Vec::new())
    }

    /// Puts back what is older, marked redelivered, to the front of its list. Returns how many messages that were.
    /// Messages of other queues than ours are left to those whose they are.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn restore(&mut self, connection: &mut Connection) -> Result<usize, BrokerError> {
        let (mut restored, mut from) = (0, 0);
        let dead = self.dead_holder(connection).await?;
        loop {
            let mut invocation = call(&self.look, &self.keys, "");
            invocation.arg(self.visibility.as_secs()).arg(from).arg(&dead);
            let mut redis = connection.redis.clone();
            let reply: Vec<redis::Value> = connection.sorted(invocation.invoke_async(&mut redis)).await?;
            let mut parts = reply.into_iter();
            let bad = || unexpected(&connection.address, "stale claims");
            let next: i64 = redis::from_redis_value(parts.next().ok_or_else(bad)?).map_err(|_| bad())?;
            let found: Result<Vec<Vec<u8>>, _> = parts.map(redis::from_redis_value).collect();
            let mut invocation = call(&self.restore, &self.keys, "");
            invocation.arg(self.visibility.as_secs()).arg(&dead);
            let mut any = false;
            for entry in found.map_err(|_| bad())?.chunks_exact(2) {
                if let Some((list, message)) = self.place(&entry[1]) {
                    invocation.arg(&entry[0]).arg(list).arg(message);
                    any = true;
                }
            }
            if any {
                restored += connection.sorted(invocation.invoke_async::<usize>(&mut redis)).await?;
            }
            match u64::try_from(next) {
                // What was put back is no longer there to be passed over; the rest is seen with a later beat.
                Ok(next) if !any => from = next,
                _ => return Ok(restored),
            }
        }
    }

    /// The list a message goes back to, and the message; none if it is not for us. `kept` is kombu's
    /// `[message, exchange, routing key]`; where queues are named by `apply_async(queue=…)`, the key is the queue.
    fn place(&self, kept: &[u8]) -> Option<(String, Vec<u8>)> {
        if kept.is_empty() {
            return Some((String::new(), Vec::new())); // its name alone is left
        }
        let (message, _, queue): (&RawValue, String, String) = serde_json::from_slice(kept).ok()?;
        self.keys.queues.contains(&queue).then_some(())?;
        let raw = message.get().as_bytes().to_vec();
        let list = format!("{}{}", self.keys.list(&queue), PRIORITY_SUFFIXES[step(message)]);
        let message = match Message::parse(raw) {
            Ok(message) => rewrite::redelivered(&message, false),
            Err((_, raw)) => raw, // whoever claims it sees for himself
        };
        Some((list, message))
    }
}

/// Priority step of a message, from 0 (`kombu/transport/virtual/base.py`, `_get_message_priority`).
fn step(message: &RawValue) -> usize {
    let envelope: serde_json::Value = serde_json::from_str(message.get()).unwrap_or_default();
    let priority = envelope["properties"]["priority"].as_i64().unwrap_or(0).clamp(0, 9);
    usize::try_from(priority / 3).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_belongs_to_the_step_kombu_takes() {
        let step_of = |priority: &str| {
            let text = format!(r#"{{"properties": {{"priority": {priority}}}}}"#);
            step(&RawValue::from_string(text).unwrap_or_else(|error| panic!("{error}")))
        };
        assert_eq!(
            ["0", "2", "3", "5", "6", "8", "9", "10", "-1", "null"].map(step_of),
            [0, 0, 1, 1, 2, 2, 3, 3, 0, 0]
        );
    }
}
