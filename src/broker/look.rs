//! Looks into the lists that no script makes: each byte that comes into Lua is hashed there, which costs several times what it
//! takes to send it.

use super::{BrokerError, Connection, Looked, Step};
use redis::Value;
use std::rc::Rc;

/// What is behind the messages at hand, for each of their lists the oldest first. Once the script has filed what is before
/// them they are at the front; if it could not, or the turn is another's, this is dropped (`StepReply::with`).
pub(super) async fn behind(connection: &mut Connection, step: &Step<'_>) -> Result<Vec<Looked>, BrokerError> {
    let lists = i64::try_from(step.at_hand.len()).unwrap_or(i64::MAX);
    if lists == 0 || step.look == 0 {
        return Ok(Vec::new());
    }
    let share = (i64::try_from(step.look).unwrap_or(i64::MAX) / lists).max(1);
    let ranges = step.at_hand.iter().map(|(list, at_hand)| {
        let skip = i64::try_from(*at_hand).unwrap_or(i64::MAX / 2);
        (Rc::clone(list), -share - skip, -1 - skip)
    });
    show(connection, ranges.collect()).await
}

/// What is in these lists, from one place to another, the oldest first.
pub(super) async fn show(
    connection: &mut Connection,
    ranges: Vec<(Rc<str>, i64, i64)>,
) -> Result<Vec<Looked>, BrokerError> {
    if ranges.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipeline = redis::pipe();
    for (list, first, last) in &ranges {
        pipeline.cmd("LRANGE").arg(&**list).arg(*first).arg(*last);
    }
    let shown: Vec<Vec<Value>> = connection.pipeline(&pipeline).await?;
    let messages = |shown: Vec<Value>| shown.into_iter().rev().filter_map(bytes).collect();
    Ok(ranges.into_iter().zip(shown).map(|((list, ..), shown)| Looked { list, messages: messages(shown) }).collect())
}

/// The bytes of a reply, without a copy.
pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}
