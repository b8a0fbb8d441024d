//! The one exchange of a busy worker: what has ended goes in, what can start comes out.

use super::connection::unexpected;
use super::{BrokerError, Connection, Keys};
use redis::{FromRedisValue, Script, Value};
use std::rc::Rc;

/// A result for the result backend.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// Key, also the channel it is published on.
    pub key: Vec<u8>,
    /// Encoded result.
    pub value: Vec<u8>,
    /// Time to live in milliseconds; 0 = for ever.
    pub ttl_ms: i64,
}

/// What becomes of a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// It has ended: the message is forgotten.
    Ack,
    /// Back to the front of its list: it runs next.
    Front(Vec<u8>),
    /// Back to the end of its list (`Reject(requeue=True)`).
    Back(Vec<u8>),
    /// To the delayed set.
    Delay {
        /// The message.
        message: Vec<u8>,
        /// When it is due, milliseconds since 1970.
        due: i64,
    },
    /// To the dead letters.
    Dead {
        /// The message.
        message: Vec<u8>,
        /// JSON: why.
        entry: String,
    },
    /// Nothing yet: only results are stored, the task still runs.
    Store,
}

/// One claim and what becomes of it. Results are stored first, and only if the claim is still held.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    /// Sequence number of the claim.
    pub sequence: u64,
    /// What becomes of it.
    pub action: Action,
    /// Results to store.
    pub stores: Vec<Store>,
}

/// A message taken from its list.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Number under which it is held.
    pub sequence: u64,
    /// List it came from.
    pub list: Rc<str>,
    /// The message.
    pub raw: Vec<u8>,
    /// Its task was started and must not be started again ([`super::start`]).
    pub started: bool,
}

/// A step's request.
#[derive(Debug)]
pub struct Step<'a> {
    /// Whose claims these are.
    pub owner: &'a str,
    /// Number of the owner's connection, as in its last beat; none while a dead owner's claims are recovered.
    pub connection: Option<u64>,
    /// First free sequence number.
    pub sequence: u64,
    /// How many messages to claim at most.
    pub want: usize,
    /// Queue to begin with.
    pub cursor: u32,
    /// What has ended.
    pub settlements: &'a [Settlement],
}

/// A step's answer.
#[derive(Debug, PartialEq)]
pub struct StepReply {
    /// The server's clock, milliseconds since 1970.
    pub now: i64,
    /// When the earliest delayed message is due.
    pub next_due: Option<i64>,
    /// Queue to begin with next time.
    pub cursor: u32,
    /// Sequence numbers of settlements whose claims were no longer held; nothing was stored for these.
    pub lost: Vec<u64>,
    /// What was claimed, in order.
    pub claims: Vec<Claim>,
}

/// The step script, made ready for one set of queues.
pub struct Stepper {
    script: Script,
    keys: Keys,
    results_db: i64,
}

impl Stepper {
    /// `results_db` is the database number of the result backend on the broker's server.
    pub fn new(keys: Keys, results_db: i64) -> Stepper {
        Stepper { script: Script::new(include_str!("scripts/step.lua")), keys, results_db }
    }

    /// Makes one step; `None` means that the lease is lost and nothing was done.
    ///
    /// # Errors
    /// [`BrokerError`]; it is then unknown whether the step was made. Settlements may be sent again, claims
    /// have to be looked up ([`super::lease::Leases::held`]).
    pub async fn call(&self, connection: &mut Connection, step: &Step<'_>) -> Result<Option<StepReply>, BrokerError> {
        let mut invocation = self.script.prepare_invoke();
        let keys = &self.keys;
        invocation.key(keys.unacked()).key(keys.unacked_index()).key(keys.claims(step.owner));
        invocation.key(keys.delayed()).key(keys.delayed_messages());
        invocation.key(keys.dead()).key(keys.dead_messages()).key(keys.dead_entries());
        for queue in &keys.queues {
            invocation.key(keys.list(queue));
        }
        invocation.arg(step.owner).arg(step.sequence).arg(step.want).arg(step.cursor).arg(keys.prefix_len());
        invocation.arg(connection.database).arg(self.results_db).arg(step.connection.unwrap_or(0));
        invocation.arg(step.settlements.len());
        for settlement in step.settlements {
            let (action, message, note): (&str, &[u8], String) = match &settlement.action {
                Action::Ack => ("ack", b"", String::new()),
                Action::Front(message) => ("front", message, String::new()),
                Action::Back(message) => ("back", message, String::new()),
                Action::Delay { message, due } => ("delay", message, due.to_string()),
                Action::Dead { message, entry } => ("dead", message, entry.clone()),
                Action::Store => ("store", b"", String::new()),
            };
            invocation.arg(settlement.sequence).arg(action).arg(message).arg(note).arg(settlement.stores.len());
            for store in &settlement.stores {
                invocation.arg(&store.key[..]).arg(&store.value[..]).arg(store.ttl_ms);
            }
        }
        let mut redis = connection.redis.clone();
        let reply: Vec<Value> = connection.sorted(invocation.invoke_async(&mut redis)).await?;
        if reply.is_empty() {
            return Ok(None);
        }
        decode(reply, step.sequence).map(Some).ok_or_else(|| unexpected(&connection.address, "step"))
    }
}

fn decode(reply: Vec<Value>, first: u64) -> Option<StepReply> {
    let [now, next_due, cursor, lost, claimed]: [Value; 5] = reply.try_into().ok()?;
    let next_due = i64::from_redis_value(next_due).ok()?;
    let claimed: Vec<Vec<u8>> = Vec::from_redis_value(claimed).ok()?;
    let mut claims = Vec::with_capacity(claimed.len() / 2);
    let mut parts = claimed.into_iter();
    let mut sequence = first;
    while let (Some(list), Some(raw)) = (parts.next(), parts.next()) {
        claims.push(Claim { sequence, list: String::from_utf8(list).ok()?.into(), raw, started: false });
        sequence += 1;
    }
    Some(StepReply {
        now: i64::from_redis_value(now).ok()?,
        next_due: (next_due >= 0).then_some(next_due),
        cursor: u32::from_redis_value(cursor).ok()?,
        lost: Vec::from_redis_value(lost).ok()?,
        claims,
    })
}
