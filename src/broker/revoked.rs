//! Tasks that were taken back before they ran.
//!
//! Their ids are kept in Redis, so that a restart forgets none and a worker that was away learns of them. A worker
//! keeps a copy, so that a claim needs no question: each step answers with the number of the latest revocation, which
//! it reads along with counters it needs anyway, and only a worker that doesn't know that number asks for the rest.

use super::{BrokerError, Connection, Keys};
use redis::Script;
use std::collections::HashSet;
use std::time::Duration;

/// How long an id is kept. Celery forgets one after three hours if it has many, else never; a delayed task may be days
/// away.
pub const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// Ids kept at most, as in Celery (`celery/worker/state.py`, `REVOKES_MAX`): the earliest go first.
pub const MOST: usize = 50_000;

/// What begins so is no id, but a stamp: tasks that bear it must not run.
pub const STAMP: char = '\u{1f}';

/// Ids in one call of the script at most.
const BATCH: usize = 1000;

/// Keeps these ids.
///
/// # Errors
/// [`BrokerError`]; some of the ids may have been kept.
pub async fn revoke(connection: &mut Connection, keys: &Keys, ids: &[String]) -> Result<(), BrokerError> {
    let script = Script::new(include_str!("scripts/revoke.lua"));
    for batch in ids.chunks(BATCH) {
        let mut invocation = script.prepare_invoke();
        invocation.key(keys.revoked()).key(keys.tenants());
        invocation.arg(u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX)).arg(MOST).arg(batch);
        let mut redis = connection.redis.clone();
        connection.sorted(invocation.invoke_async::<i64>(&mut redis)).await?;
    }
    Ok(())
}

/// Ids of all tasks that were taken back, the earliest first; without stamps.
///
/// # Errors
/// [`BrokerError`].
pub async fn ids(connection: &mut Connection, keys: &Keys) -> Result<Vec<String>, BrokerError> {
    let mut range = redis::cmd("ZRANGE");
    let ids: Vec<Vec<u8>> = connection.query(range.arg(keys.revoked()).arg(0).arg(-1)).await?;
    let ids = ids.into_iter().map(|id| String::from_utf8_lossy(&id).into_owned());
    Ok(ids.filter(|id| !id.starts_with(STAMP)).collect())
}

/// A worker's copy of the ids.
#[derive(Debug)]
pub struct Revoked {
    keys: Keys,
    ids: HashSet<Vec<u8>>,
    /// There are stamps among them.
    stamps: bool,
    /// Number of the latest revocation in it.
    latest: i64,
}

impl Revoked {
    /// An empty copy.
    pub fn new(keys: Keys) -> Revoked {
        Revoked { keys, ids: HashSet::new(), stamps: false, latest: 0 }
    }

    /// Whether a task was taken back.
    pub fn contains(&self, id: &str) -> bool {
        self.ids.contains(id.as_bytes())
    }

    /// Whether there is a stamp among what was taken back: else none need be looked for.
    pub fn has_stamps(&self) -> bool {
        self.stamps
    }

    /// Whether there is a later revocation than the latest in here.
    pub fn is_behind(&self, latest: i64) -> bool {
        latest > self.latest
    }

    /// Takes in what has been revoked since.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn catch_up(&mut self, connection: &mut Connection) -> Result<(), BrokerError> {
        if self.ids.len() > 2 * MOST {
            // Most of these are forgotten by now.
            self.ids.clear();
            self.latest = 0;
        }
        let mut query = redis::cmd("ZRANGEBYSCORE");
        query.arg(self.keys.revoked()).arg(format!("({}", self.latest)).arg("+inf").arg("WITHSCORES");
        let new: Vec<(Vec<u8>, f64)> = connection.query(&query).await?;
        for (id, number) in new {
            self.latest = self.latest.max(number as i64);
            self.stamps |= id.first() == Some(&(STAMP as u8));
            self.ids.insert(id);
        }
        Ok(())
    }
}
