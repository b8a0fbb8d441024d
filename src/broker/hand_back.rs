//! Puts everything back for a stock Celery worker, when no worker of fairstalk lives any more.
//!
//! The last worker that leaves does the same by itself, and the scripts are the same. What differs is that nobody is
//! here who knows whose the messages are that were claimed unseen. So the lanes are poured first, and then the claims go
//! to the fronts of their lists, the latest first: they are older than whatever waits behind them. Claims that were
//! started for good become dead letters, as with every recovery, and so do those whose workers have died often enough: a stock
//! worker would not know.

use super::lease::{LEASE, Leases, Others};
use super::step::Stepper;
use super::{Action, BrokerError, Claim, Connection, Keys, Reason, Settlement, Step};
use crate::config::{Delivery, Tenancy};
use crate::fairness::flow;
use crate::fairness::policy::Policy;
use crate::message::{Message, rewrite};
use serde_json::json;
use std::time::{Duration, Instant};

/// How often living owners are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Settlements in one step at most.
const BATCH: usize = 100;

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is in its list again; so many messages had been claimed, by so many owners.
    Done {
        /// Messages that were under way.
        claims: usize,
        /// Messages of tasks that had been started for good: they are dead letters now.
        started: usize,
        /// Messages whose workers have died `max_deliveries` times under them: they are dead letters, too.
        lost: usize,
        /// Workers that held them.
        owners: usize,
    },
    /// These owners live, or may: nothing was changed.
    Alive(Vec<String>),
}

/// Puts claims, lanes and delayed messages back. Refuses while a lease is in force; with `wait`, it first waits for
/// leases to end, and refuses when one is renewed. It may be called again, whatever became of an earlier call.
///
/// # Errors
/// [`BrokerError`].
pub async fn hand_back(
    connection: &mut Connection,
    keys: &Keys,
    (tenancy, delivery): (&Tenancy, &Delivery),
    wait: bool,
) -> Result<Outcome, BrokerError> {
    let leases = Leases::new(keys.clone());
    let others = match ended(&leases, connection, wait).await? {
        Ok(others) => others,
        Err(alive) => return Ok(Outcome::Alive(alive)),
    };
    let owners: Vec<&str> = others.names().collect();
    let mut claims = Vec::new();
    for owner in &owners {
        leases.seize(connection, owner).await?;
        claims.extend(leases.held(connection, owner).await?.into_iter().map(|claim| (*owner, claim)));
    }
    for owner in owners.iter().chain(&[""]) {
        leases.pour_for_the_dead(connection, owner).await?;
    }
    claims.sort_by_key(|(_, claim)| std::cmp::Reverse(claim.number));
    let (count, mut started, mut lost) = (claims.len(), 0, 0);
    let stepper = Stepper::new(keys.clone(), 0, Policy::new(tenancy));
    for batch in claims.chunk_by(|(one, _), (other, _)| one == other).flat_map(|same| same.chunks(BATCH)) {
        let most = delivery.max_deliveries;
        let settlements = batch.iter().map(|(_, claim)| back(keys, claim, most, others.now()));
        let settlements: Vec<Settlement> = settlements.collect();
        let dead = |(settlement, _): &(&Settlement, _)| matches!(settlement.action, Action::Dead { .. });
        for (_, (_, claim)) in settlements.iter().zip(batch).filter(dead) {
            *if claim.started { &mut started } else { &mut lost } += 1;
        }
        stepper.call(connection, &Step::settling(batch[0].0, &settlements)).await?;
    }
    for owner in &owners {
        leases.seize(connection, owner).await?; // nothing is left of it, so it is forgotten
    }
    leases.leave(connection, "").await?;
    Ok(Outcome::Done { claims: count - started - lost, started, lost, owners: owners.len() })
}

/// The owners that are left, once all their leases are over; those that live, if they are not.
async fn ended(
    leases: &Leases,
    connection: &mut Connection,
    wait: bool,
) -> Result<Result<Others, Vec<String>>, BrokerError> {
    let until = Instant::now() + LEASE + Duration::from_secs(1);
    let before = leases.others(connection).await?;
    let mut now = before.clone();
    loop {
        let alive: Vec<String> = now.alive().map(str::to_owned).collect();
        if alive.is_empty() {
            return Ok(Ok(now));
        }
        if !wait || now.renewed_since(&before) || Instant::now() >= until {
            return Ok(Err(alive));
        }
        tokio::time::sleep(LOOK_EVERY).await;
        now = leases.others(connection).await?;
    }
}

fn back(keys: &Keys, claim: &Claim, max_deliveries: u32, now: i64) -> Settlement {
    let queue = keys.queue_of(&claim.list);
    let flow = claim.flow.clone().unwrap_or_else(|| flow::of_queue(queue));
    let dead = |message: Option<&Message>, reason, detail: &str| Action::Dead {
        message: claim.raw.clone(),
        entry: entry(message, reason, &format!("{detail}; put aside by hand-back"), (queue, &flow), now),
    };
    let action = match Message::parse(claim.raw.clone()) {
        message if claim.started => {
            let detail = "its worker died while it ran, or just before it began";
            dead(message.ok().as_ref(), Reason::AtMostOnce, detail)
        }
        Ok(message) if message.deliveries + 1 >= max_deliveries => {
            let detail = format!("its worker died {} times while it ran", message.deliveries + 1);
            dead(Some(&message), Reason::Lost, &detail)
        }
        Ok(message) => Action::List(rewrite::redelivered(&message, true)),
        Err((_, raw)) if raw.is_empty() => Action::Ack, // a stock worker has restored it
        Err((_, raw)) => Action::List(raw),
    };
    Settlement::new(claim.sequence, flow, None, action)
}

/// What the dead letters say. No application is here to tell its caller with.
fn entry(message: Option<&Message>, reason: Reason, detail: &str, (queue, flow): (&str, &str), now: i64) -> String {
    let mut entry = json!({ "reason": reason.word(), "detail": detail, "queue": queue, "at": now });
    if let Some(message) = message {
        let headers = &message.headers;
        (entry["task"], entry["id"]) = (json!(headers.task), json!(headers.id));
        (entry["attempt"], entry["deliveries"]) = (json!(headers.attempt()), json!(message.deliveries));
    }
    if let Some(tenant) = flow::tenant_of(flow) {
        entry["tenant"] = json!(tenant);
    }
    entry.to_string()
}
