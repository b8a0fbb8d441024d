//! What waits for its time, to be looked at.

use super::{BrokerError, Connection, Keys};

/// Names read for each message that is told at most: most of what others have put aside is passed by unread.
const READ: usize = 10;

/// A message that waits for its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Delayed {
    /// When it is due, milliseconds since 1970.
    pub due: i64,
    /// The message.
    pub message: Vec<u8>,
}

/// Up to `most` of the messages due next that `owner` has put aside; and, if it is the first of its fleet by name, of
/// those whose owners are gone. So all owners together tell of each once.
///
/// # Errors
/// [`BrokerError`].
pub async fn of(
    connection: &mut Connection,
    keys: &Keys,
    owner: &str,
    most: usize,
) -> Result<Vec<Delayed>, BrokerError> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("ZRANGE").arg(keys.owners()).arg(0).arg(-1);
    pipeline.cmd("ZRANGE").arg(keys.delayed()).arg(0).arg(most * READ).arg("WITHSCORES");
    let (owners, names): (Vec<String>, Vec<(String, f64)>) = connection.pipeline(&pipeline).await?;
    let first = owners.iter().filter(|other| !keys.is_foreign(other)).min().is_some_and(|first| first == owner);
    let is_mine = |name: &str| {
        let by = name.rsplit_once(':').map_or(name, |(by, _)| by);
        by == owner || first && !keys.is_foreign(by) && !owners.iter().any(|other| other == by)
    };
    let mine: Vec<(String, f64)> = names.into_iter().filter(|(name, _)| is_mine(name)).take(most).collect();
    if mine.is_empty() {
        return Ok(Vec::new());
    }
    let mut get = redis::cmd("HMGET");
    get.arg(keys.delayed_messages());
    for (name, _) in &mine {
        get.arg(name);
    }
    let found: Vec<Option<Vec<u8>>> = connection.query(&get).await?;
    let found = mine.into_iter().zip(found).filter_map(|((_, due), kept)| {
        // List, NUL, flow, NUL, message; what has just become due is gone.
        let message = kept?.splitn(3, |&byte| byte == 0).nth(2)?.to_vec();
        Some(Delayed { due: due as i64, message })
    });
    Ok(found.collect())
}
