//! Looks into the lists that no script makes: each byte that comes into Lua is hashed there, which costs several times what it
//! takes to send it.

use super::reply::bytes;
use super::{BrokerError, Connection, Looked};
use redis::Value;
use std::rc::Rc;

/// The first so many messages of each of these lists, the oldest first.
pub(super) async fn show(connection: &mut Connection, lists: Vec<(Rc<str>, i64)>) -> Result<Vec<Looked>, BrokerError> {
    if lists.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipeline = redis::pipe();
    for (list, count) in &lists {
        pipeline.cmd("LRANGE").arg(&**list).arg(-count).arg(-1);
    }
    let shown: Vec<Vec<Value>> = connection.pipeline(&pipeline).await?;
    let messages = |shown: Vec<Value>| shown.into_iter().rev().filter_map(bytes).collect();
    Ok(lists.into_iter().zip(shown).map(|((list, _), shown)| Looked { list, messages: messages(shown) }).collect())
}
