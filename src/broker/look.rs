//! Looks into the lists that no script makes: each byte that comes into Lua is hashed there, which costs several times what it
//! takes to send it.

use super::reply::bytes;
use super::{BrokerError, Connection, Looked};
use redis::Value;
use std::rc::Rc;

/// So many messages of a list, behind so many others of it.
#[derive(Debug, PartialEq)]
pub(super) struct Front {
    pub(super) list: Rc<str>,
    pub(super) skip: usize,
    pub(super) count: usize,
}

/// These messages, the oldest of each list first.
pub(super) async fn show(connection: &mut Connection, fronts: Vec<Front>) -> Result<Vec<Looked>, BrokerError> {
    if fronts.is_empty() {
        return Ok(Vec::new());
    }
    let from_end = |messages: usize| -i64::try_from(messages).unwrap_or(i64::MAX / 2);
    let mut pipeline = redis::pipe();
    for Front { list, skip, count } in &fronts {
        pipeline.cmd("LRANGE").arg(&**list).arg(from_end(skip + count)).arg(from_end(skip + 1));
    }
    let shown: Vec<Vec<Value>> = connection.pipeline(&pipeline).await?;
    let messages = |shown: Vec<Value>| shown.into_iter().rev().filter_map(bytes).collect();
    Ok(fronts
        .into_iter()
        .zip(shown)
        .map(|(front, shown)| Looked { list: front.list, messages: messages(shown) })
        .collect())
}
