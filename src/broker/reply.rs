//! What a step answers.

use super::Looked;
use super::look::Front;
use redis::{FromRedisValue, Value};
use std::rc::Rc;

/// A message taken from its list.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Number under which it is held.
    pub sequence: u64,
    /// List it came from.
    pub list: Rc<str>,
    /// Whose task it is; `None` if it was claimed unseen.
    pub flow: Option<Rc<str>>,
    /// Its number among all claims of the fleet.
    pub number: u64,
    /// The message.
    pub raw: Vec<u8>,
    /// It has waited for the rate of its task, and this is a start of it.
    pub in_turn: bool,
    /// Its task was started and must not be started again ([`super::start`]).
    pub started: bool,
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
    /// How long each of these waited in lanes, milliseconds; 0 if it was claimed unseen.
    pub waits: Vec<f64>,
    /// What is new in the lists, still there.
    pub looked: Vec<Looked>,
    /// What may be looked at that the script didn't show.
    pub(super) counted: Vec<Front>,
    /// Milliseconds until a list can be looked at that another worker is busy with.
    pub turn: Option<u64>,
    /// Number of the latest revocation (see [`super::revoked`]); 0 if there is none.
    pub revoked: i64,
    /// Number of the answer in force to whose a message is, if the step has read it.
    pub epoch: Option<u64>,
    /// Messages in lanes, if all that was wanted was claimed and more could run; else 0.
    pub behind: usize,
    /// Lists of which something was not filed, because it was no longer at the front. What is shown of these begins at the
    /// front, not behind what is at hand.
    pub refused: Vec<String>,
}

impl StepReply {
    /// With what is behind the messages at hand, where the script says that the caller looks at that list.
    pub(super) fn with(mut self, behind: Vec<Looked>) -> StepReply {
        for behind in behind {
            let looked = self.looked.iter_mut().find(|looked| looked.list == behind.list && looked.messages.is_empty());
            if let Some(looked) = looked {
                *looked = behind;
            }
        }
        self.looked.retain(|looked| !looked.messages.is_empty());
        self
    }
}

/// Reads what the script returns; the first claim has the sequence number `first`. None if the shape is unknown.
pub(super) fn decode(reply: Vec<Value>, first: u64) -> Option<StepReply> {
    let [now, next_due, cursor, lost, claimed, looked, turn, epoch, revoked, behind, refused]: [Value; 11] =
        reply.try_into().ok()?;
    let behind = i64::from_redis_value(behind).ok()?;
    let [next_due, turn, epoch] =
        [i64::from_redis_value(next_due), i64::from_redis_value(turn), i64::from_redis_value(epoch)];
    let (next_due, turn, epoch) = (next_due.ok()?, turn.ok()?, epoch.ok()?);
    let claimed: Vec<Value> = Vec::from_redis_value(claimed).ok()?;
    let mut claims = Vec::with_capacity(claimed.len() / 5);
    let mut waits = Vec::with_capacity(claimed.len() / 5);
    let mut parts = claimed.into_iter();
    let mut sequence = first;
    while let (Some(list), Some(flow), Some(number), Some(waited), Some(raw)) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    {
        let (list, flow) = (String::from_redis_value(list).ok()?, String::from_redis_value(flow).ok()?);
        let (number, waited) = (u64::from_redis_value(number).ok()?, f64::from_redis_value(waited).ok()?);
        let (flow, raw) = (flow_of(flow), bytes(raw)?);
        let (list, in_turn) = list.split_once('\u{1f}').map_or((&*list, false), |(list, _)| (list, true));
        claims.push(Claim { sequence, list: list.into(), flow, number, raw, in_turn, started: false });
        waits.push(waited);
        sequence += 1;
    }
    let looked: Vec<Vec<Value>> = Vec::from_redis_value(looked).ok()?;
    let mut counted = Vec::new();
    let looked = looked.into_iter().map(|seen| {
        let mut seen = seen.into_iter().peekable();
        let list: Rc<str> = String::from_redis_value(seen.next()?).ok()?.into();
        if let Some(&Value::Int(count)) = seen.peek() {
            counted.push(Front { list: Rc::clone(&list), skip: 0, count: usize::try_from(count).ok()? });
            return Some(Looked { list, messages: Vec::new() });
        }
        Some(Looked { list, messages: seen.map(bytes).collect::<Option<_>>()? })
    });
    let looked = looked.collect::<Option<_>>()?;
    Some(StepReply {
        now: i64::from_redis_value(now).ok()?,
        next_due: (next_due >= 0).then_some(next_due),
        cursor: u32::from_redis_value(cursor).ok()?,
        lost: Vec::from_redis_value(lost).ok()?,
        claims,
        waits,
        looked,
        counted,
        turn: u64::try_from(turn).ok(),
        revoked: i64::from_redis_value(revoked).ok()?,
        epoch: u64::try_from(epoch).ok(),
        behind: usize::try_from(behind).unwrap_or(0),
        refused: Vec::from_redis_value(refused).ok()?,
    })
}

/// The bytes of a reply, without a copy.
pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

/// Flow of a claim; empty where the message was claimed unseen.
pub(super) fn flow_of(flow: String) -> Option<Rc<str>> {
    (!flow.is_empty()).then(|| flow.into())
}
