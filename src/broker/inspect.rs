//! What the reading commands ask Redis. Nothing here changes anything.

use super::bars::bars;
use super::connection::unexpected;
use super::kept::{Kept, KeptLine};
use super::keys::PRIORITY_SUFFIXES;
use super::{BrokerError, Connection, Keys};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// Tenants asked for in one go, about: the server is not held up by a hundred thousand of them.
const PAGE: u32 = 1000;

/// What waits in one queue.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QueueFigures {
    /// Its name.
    pub queue: String,
    /// Messages in its lists and in lanes.
    pub waiting: u64,
    /// Of these, by kombu's priority step (0, 3, 6, 9).
    pub by_priority: [u64; 4],
    /// Nothing of it is claimed until it is resumed.
    pub paused: bool,
}

/// A tenant that waits or runs, or a queue's messages that name no tenant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TenantFigures {
    /// Name of the flow.
    pub flow: String,
    /// Messages in its lanes. Those still in the lists are nobody's yet.
    pub waiting: u64,
    /// Its tasks under way, over the whole fleet.
    pub running: u64,
    /// Running time it has had by its weight, milliseconds; only the differences between tenants mean something.
    pub virtual_time: f64,
    /// What one of its tasks takes, a moving average in milliseconds; none before the first has ended.
    pub cost: Option<f64>,
    /// Its share of running time relative to others.
    pub weight: f64,
    /// Most of its tasks under way at once, if there is a limit.
    pub max_concurrency: Option<u64>,
    /// Least time between two starts, milliseconds, if its rate is limited.
    pub interval: Option<f64>,
    /// When its next task may start, milliseconds since 1970, if its rate is limited and it has to wait.
    pub not_before: Option<f64>,
    /// It waits until it is resumed.
    pub paused: bool,
    /// Where its messages wait, by list.
    pub lines: Vec<LineFigures>,
}

/// What waits of one tenant in one lane.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LineFigures {
    /// The list the messages came from.
    pub list: String,
    /// They were delayed and their time has come: they run before the others of their list.
    pub due: bool,
    /// The task whose rate is limited and that they are all of, if they wait for it.
    pub task: Option<String>,
    /// How many.
    pub waiting: u64,
    /// Since when the oldest of them waits here, milliseconds since 1970.
    pub since: Option<i64>,
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

/// All queues, in their order. What moves meanwhile from a list into a lane may be counted twice or not at all.
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
    let mut in_lanes: HashMap<String, u64> = HashMap::new();
    for line in tenants(connection, keys).await?.into_iter().flat_map(|tenant| tenant.lines) {
        *in_lanes.entry(line.list).or_default() += line.waiting;
    }
    let paused = bars(connection, keys).await?.queues;
    let figures = keys.queues.iter().zip(lengths.as_chunks::<{ PRIORITY_SUFFIXES.len() }>().0);
    let figures = figures.map(|(queue, lengths)| {
        let mut by_priority = *lengths;
        for (count, list) in by_priority.iter_mut().zip(keys.lists(queue)) {
            *count += in_lanes.get(&list).copied().unwrap_or(0);
        }
        let (waiting, paused) = (by_priority.iter().sum(), paused.contains(queue));
        QueueFigures { queue: queue.clone(), waiting, by_priority, paused }
    });
    Ok(figures.collect())
}

/// All tenants that wait or run, by name.
///
/// # Errors
/// [`BrokerError`].
pub async fn tenants(connection: &mut Connection, keys: &Keys) -> Result<Vec<TenantFigures>, BrokerError> {
    // A tenant may come up in two pages.
    let mut tenants: BTreeMap<String, TenantFigures> = BTreeMap::new();
    let mut cursor = 0_u64;
    loop {
        let mut page = redis::cmd("HSCAN");
        page.arg(keys.tenants()).arg(cursor).arg("COUNT").arg(PAGE);
        let (next, found): (u64, Vec<(String, Vec<u8>)>) = connection.query(&page).await?;
        for (flow, value) in found.into_iter().filter(|(flow, _)| flow.contains(':')) {
            let kept = Kept::read(&value).map_err(|_| unexpected(&connection.address, "tenants"))?;
            tenants.insert(flow.clone(), figures(flow, kept));
        }
        cursor = next;
        if cursor == 0 {
            return Ok(tenants.into_values().collect());
        }
    }
}

fn figures(flow: String, kept: Kept) -> TenantFigures {
    let lines = kept.l.into_iter().map(|(line, KeptLine { n: waiting, t: marks, .. })| {
        let mut parts = line.splitn(3, '\u{1f}');
        let (list, due) = (parts.next().unwrap_or_default().to_owned(), parts.next() == Some("due"));
        let since = marks.as_deref().unwrap_or_default().as_chunks::<2>().0.iter().map(|[_, since]| *since).min();
        LineFigures { list, due, task: parts.next().map(str::to_owned), waiting, since }
    });
    TenantFigures {
        flow,
        waiting: kept.n,
        running: kept.r,
        virtual_time: kept.v,
        cost: kept.c,
        weight: kept.w.unwrap_or(1.0),
        interval: kept.i,
        not_before: kept.z,
        paused: kept.p.unwrap_or_default(),
        max_concurrency: kept.m,
        lines: lines.collect(),
    }
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

/// The fleet's workers of all hosts, by name. Those of another application on the same Redis are its own affair.
///
/// # Errors
/// [`BrokerError`].
pub async fn workers(connection: &mut Connection, keys: &Keys) -> Result<Vec<WorkerFigures>, BrokerError> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("ZRANGE").arg(keys.owners()).arg(0).arg(-1).cmd("HGETALL").arg(keys.figures());
    let (mut owners, figures): (Vec<String>, HashMap<String, String>) = connection.pipeline(&pipeline).await?;
    owners.retain(|owner| !keys.is_foreign(owner));
    let mut pipeline = redis::pipe();
    for owner in &owners {
        pipeline.cmd("HLEN").arg(keys.claims(owner)).cmd("HEXISTS").arg(keys.claims(owner)).arg("lease");
    }
    let claimed: Vec<u64> = if owners.is_empty() { Vec::new() } else { connection.pipeline(&pipeline).await? };
    let mut workers: Vec<WorkerFigures> = owners
        .into_iter()
        .zip(claimed.chunks_exact(2))
        .map(|(owner, claimed)| {
            let mut figures: Value =
                figures.get(&owner).and_then(|json| serde_json::from_str(json).ok()).unwrap_or(Value::Null);
            if let Some(figures) = figures.as_object_mut() {
                figures.remove("minute"); // told tenant by tenant, in `minute.rs`
            }
            // One field of the hash may be the lease.
            WorkerFigures { owner, figures, claimed: claimed[0].saturating_sub(claimed[1]) }
        })
        .collect();
    workers.sort_by_key(|worker| worker.figures["node"].to_string());
    Ok(workers)
}
