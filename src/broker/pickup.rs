//! What comes to an idle worker, claimed by a script that does nothing else.

use super::connection::unexpected;
use super::{BrokerError, Claim, Connection, Keys, StepReply};
use redis::{FromRedisValue, Script, Value};
use std::rc::Rc;

/// An idle worker's request.
#[derive(Debug)]
pub struct PickUp<'a> {
    /// Whose claims these will be.
    pub owner: &'a str,
    /// Number of the owner's connection, as in its last beat.
    pub connection: u64,
    /// First free sequence number.
    pub sequence: u64,
    /// How many to claim at most.
    pub slots: usize,
    /// The list that has rung.
    pub list: &'a str,
}

/// What came of it.
#[derive(Debug, PartialEq)]
pub enum Picked {
    /// It is done, with the answer a step would have given; nothing is said of what is due.
    Done(Box<StepReply>),
    /// It takes a step: nothing was done.
    Refused,
    /// The lease is lost: nothing was done.
    LeaseLost,
}

/// The script.
pub struct Picker {
    script: Script,
}

impl Default for Picker {
    fn default() -> Picker {
        Picker { script: Script::new(include_str!("scripts/pickup.lua")) }
    }
}

impl Picker {
    /// Claims what is in the list.
    ///
    /// # Errors
    /// [`BrokerError`]; it is then unknown whether it was done, as with a step.
    pub async fn call(
        &self,
        connection: &mut Connection,
        keys: &Keys,
        wanted: &PickUp<'_>,
    ) -> Result<Picked, BrokerError> {
        let mut invocation = self.script.prepare_invoke();
        invocation.key(keys.unacked()).key(keys.unacked_index()).key(keys.claims(wanted.owner));
        invocation.key(keys.tenants()).key(keys.intake()).key(wanted.list);
        invocation.arg(wanted.owner).arg(wanted.connection).arg(wanted.sequence).arg(wanted.slots);
        invocation.arg(keys.record_end(wanted.list));
        let mut redis = connection.redis.clone();
        let reply: Vec<Value> = connection.sorted(invocation.invoke_async(&mut redis)).await?;
        match reply.len() {
            0 => Ok(Picked::LeaseLost),
            1 => Ok(Picked::Refused),
            _ => {
                let reply = decode(reply, keys, wanted).ok_or_else(|| unexpected(&connection.address, "pick-up"))?;
                Ok(Picked::Done(Box::new(reply)))
            }
        }
    }
}

fn decode(reply: Vec<Value>, keys: &Keys, wanted: &PickUp<'_>) -> Option<StepReply> {
    let mut parts = reply.into_iter();
    let mut number = || i64::from_redis_value(parts.next()?).ok();
    let (now, epoch, revoked, last, more) = (number()?, number()?, number()?, number()?, number()?);
    let messages: Vec<Vec<u8>> = parts.map(|part| Vec::from_redis_value(part).ok()).collect::<Option<_>>()?;
    let (list, before): (Rc<str>, _) = (wanted.list.into(), last - i64::try_from(messages.len()).ok()?);
    let claims: Vec<Claim> = (1..)
        .zip(messages)
        .map(|(nth, raw)| Claim {
            sequence: wanted.sequence + nth - 1,
            list: Rc::clone(&list),
            flow: None,
            number: u64::try_from(before).unwrap_or(0) + nth,
            raw,
            in_turn: false,
            started: false,
        })
        .collect();
    let (_, queue) = keys.place_of(wanted.list)?;
    Some(StepReply {
        now,
        next_due: None,
        cursor: u32::try_from((queue + 1) % keys.queues.len()).ok()?,
        lost: Vec::new(),
        waits: vec![0.0; claims.len()],
        claims,
        looked: Vec::new(),
        counted: Vec::new(),
        turn: None,
        revoked,
        epoch: u64::try_from(epoch).ok(),
        behind: usize::try_from(more).unwrap_or(0),
        refused: Vec::new(),
    })
}
