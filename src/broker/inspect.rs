//! What the reading commands ask Redis. Nothing here changes anything.

use super::{BrokerError, Connection, Keys};
use serde::Serialize;
use serde_json::Value;

/// What waits in one queue.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QueueFigures {
    /// Its name.
    pub queue: String,
    /// Messages in its lists.
    pub waiting: u64,
    /// Of these, by kombu's priority step (0, 3, 6, 9).
    pub by_priority: [u64; 4],
}

/// Messages that are in no queue.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Elsewhere {
    /// Claimed by some worker (fairstalk's or Celery's).
    pub claimed: u64,
    /// Waiting for their time.
    pub delayed: u64,
    /// In the dead letters.
    pub dead: u64,
}

/// One worker process that holds a lease.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkerFigures {
    /// Its owner name.
    pub owner: String,
    /// What it last said of itself.
    pub figures: Value,
    /// Messages it holds.
    pub claimed: u64,
}

/// All queues, in their order.
///
/// # Errors
/// [`BrokerError`].
pub async fn queues(connection: &mut Connection, keys: &Keys) -> Result<Vec<QueueFigures>, BrokerError> {
    let mut pipeline = redis::pipe();
    for queue in &keys.queues {
        for list in keys.lists(queue) {
            pipeline.cmd("LLEN").arg(list);
        }
    }
    let lengths: Vec<u64> = connection.pipeline(&pipeline).await?;
    let figures = keys.queues.iter().zip(lengths.chunks_exact(4)).map(|(queue, lengths)| QueueFigures {
        queue: queue.clone(),
        waiting: lengths.iter().sum(),
        by_priority: [lengths[0], lengths[1], lengths[2], lengths[3]],
    });
    Ok(figures.collect())
}

/// What is in no queue.
///
/// # Errors
/// [`BrokerError`].
pub async fn elsewhere(connection: &mut Connection, keys: &Keys) -> Result<Elsewhere, BrokerError> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("HLEN").arg(keys.unacked()).cmd("ZCARD").arg(keys.delayed()).cmd("ZCARD").arg(keys.dead());
    let (claimed, delayed, dead) = connection.pipeline(&pipeline).await?;
    Ok(Elsewhere { claimed, delayed, dead })
}

/// All workers of all hosts, by name.
///
/// # Errors
/// [`BrokerError`].
pub async fn workers(connection: &mut Connection, keys: &Keys) -> Result<Vec<WorkerFigures>, BrokerError> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("ZRANGE").arg(keys.owners()).arg(0).arg(-1).cmd("HGETALL").arg(keys.figures());
    let (owners, figures): (Vec<String>, std::collections::HashMap<String, String>) =
        connection.pipeline(&pipeline).await?;
    let mut pipeline = redis::pipe();
    for owner in &owners {
        pipeline.cmd("HLEN").arg(keys.claims(owner)).cmd("HEXISTS").arg(keys.claims(owner)).arg("lease");
    }
    let claimed: Vec<u64> = if owners.is_empty() { Vec::new() } else { connection.pipeline(&pipeline).await? };
    let mut workers: Vec<WorkerFigures> = owners
        .into_iter()
        .zip(claimed.chunks_exact(2))
        .map(|(owner, claimed)| {
            let figures = figures.get(&owner).and_then(|json| serde_json::from_str(json).ok()).unwrap_or(Value::Null);
            // One field of the hash may be the lease.
            WorkerFigures { owner, figures, claimed: claimed[0].saturating_sub(claimed[1]) }
        })
        .collect();
    workers.sort_by_key(|worker| worker.figures["node"].to_string());
    Ok(workers)
}
