//! The dead letters: read page by page, put back or dropped in small batches, so that a hundred thousand of them
//! neither fill a command's memory nor keep the server from its work.

use super::{BrokerError, Connection, Keys};
use redis::Script;
use serde::Serialize;
use serde_json::Value;

/// Letters read in one go.
const PAGE: usize = 50;
/// Messages put back by one call of a script, at most.
const BATCH: usize = 20;
/// Bytes of messages put back by one call, at most; a larger message goes alone.
const BATCH_BYTES: u64 = 256 << 10;

/// One dead letter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetter {
    /// Name under which it can be asked for.
    pub name: String,
    /// When it came here, milliseconds since 1970.
    #[serde(skip)]
    pub at: i64,
    /// Why it is there, and what is known of it.
    pub entry: Value,
}

impl DeadLetter {
    /// A text of its entry.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.entry[key].as_str()
    }
}

/// Which end of time to begin at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The latest first.
    NewestFirst,
    /// The earliest first.
    OldestFirst,
}

/// A way through the dead letters of a span of time, page by page. What comes in or goes meanwhile doesn't
/// make it lose its place: it remembers a time, not a position.
#[derive(Debug)]
pub struct Walk {
    order: Order,
    /// Milliseconds since 1970, both included.
    from: i64,
    until: i64,
    /// So many with the very time at which the next page begins were seen already.
    skip: usize,
}

impl Walk {
    /// Through everything from `from` to `until`, both included, milliseconds since 1970.
    pub fn new(order: Order, from: i64, until: i64) -> Walk {
        Walk { order, from, until, skip: 0 }
    }

    /// The next letters; none at the end.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn next(&mut self, connection: &mut Connection, keys: &Keys) -> Result<Vec<DeadLetter>, BrokerError> {
        loop {
            let mut command = match self.order {
                Order::NewestFirst => {
                    redis::cmd("ZREVRANGEBYSCORE").arg(keys.dead()).arg(self.until).arg(self.from).take()
                }
                Order::OldestFirst => {
                    redis::cmd("ZRANGEBYSCORE").arg(keys.dead()).arg(self.from).arg(self.until).take()
                }
            };
            command.arg("WITHSCORES").arg("LIMIT").arg(self.skip).arg(PAGE);
            let named: Vec<(String, f64)> = connection.query(&command).await?;
            let named: Vec<(String, i64)> = named.into_iter().map(|(name, at)| (name, at as i64)).collect();
            let Some(&(_, last)) = named.last() else { return Ok(Vec::new()) };
            let same = named.iter().filter(|(_, at)| *at == last).count();
            let bound = match self.order {
                Order::NewestFirst => &mut self.until,
                Order::OldestFirst => &mut self.from,
            };
            self.skip = if *bound == last { self.skip + same } else { same };
            *bound = last;
            let letters = entries(connection, keys, named).await?;
            if !letters.is_empty() {
                return Ok(letters);
            }
        }
    }

    /// These, of the last page, are no longer there.
    pub fn removed(&mut self, letters: &[DeadLetter]) {
        let bound = match self.order {
            Order::NewestFirst => self.until,
            Order::OldestFirst => self.from,
        };
        self.skip = self.skip.saturating_sub(letters.iter().filter(|letter| letter.at == bound).count());
    }
}

async fn entries(
    connection: &mut Connection,
    keys: &Keys,
    named: Vec<(String, i64)>,
) -> Result<Vec<DeadLetter>, BrokerError> {
    let mut command = redis::cmd("HMGET");
    command.arg(keys.dead_entries());
    for (name, _) in &named {
        command.arg(name);
    }
    let entries: Vec<Option<Vec<u8>>> = connection.query(&command).await?;
    let letters = named.into_iter().zip(entries).filter_map(|((name, at), entry)| {
        // Gone since its name was read.
        let entry = serde_json::from_slice(&entry?).unwrap_or(Value::Null);
        Some(DeadLetter { name, at, entry })
    });
    Ok(letters.collect())
}

/// The message of a letter; none if it is gone.
///
/// # Errors
/// [`BrokerError`].
pub async fn message(connection: &mut Connection, keys: &Keys, name: &str) -> Result<Option<Vec<u8>>, BrokerError> {
    connection.query(redis::cmd("HGET").arg(keys.dead_messages()).arg(name)).await
}

/// Puts letters back: `list_and_message` says of each where its message goes, and the message. Returns how many
/// were put back; the others somebody else has put back or dropped meanwhile.
///
/// One script moves a batch, so a command that is killed has put back each of them once or not at all.
///
/// # Errors
/// [`BrokerError`]; it is then unknown whether the last batch was put back. Trying again does no harm.
pub async fn replay(
    connection: &mut Connection,
    keys: &Keys,
    letters: &[DeadLetter],
    list_and_message: impl Fn(&DeadLetter, Vec<u8>) -> (String, Vec<u8>),
) -> Result<u64, BrokerError> {
    let script = Script::new(include_str!("scripts/replay.lua"));
    let mut lengths = redis::pipe();
    for letter in letters {
        lengths.cmd("HSTRLEN").arg(keys.dead_messages()).arg(&letter.name);
    }
    let lengths: Vec<u64> = if letters.is_empty() { Vec::new() } else { connection.pipeline(&lengths).await? };
    let mut done = 0;
    let mut rest = letters;
    let mut left = &lengths[..];
    while !rest.is_empty() {
        let size = batch(left);
        let (now, later) = rest.split_at(size);
        (rest, left) = (later, &left[size..]);
        let mut command = redis::cmd("HMGET");
        command.arg(keys.dead_messages());
        for letter in now {
            command.arg(&letter.name);
        }
        let messages: Vec<Option<Vec<u8>>> = connection.query(&command).await?;
        let mut invocation = script.prepare_invoke();
        invocation.key(keys.dead()).key(keys.dead_messages()).key(keys.dead_entries());
        for (letter, message) in now.iter().zip(messages) {
            let (list, message) = match message {
                Some(message) => list_and_message(letter, message),
                None => (keys.dead(), Vec::new()), // gone meanwhile: never looked at
            };
            invocation.key(list).arg(&letter.name).arg(message);
        }
        let mut redis = connection.redis.clone();
        let moved: u64 = connection.sorted(invocation.invoke_async(&mut redis)).await?;
        done += moved;
    }
    Ok(done)
}

/// How many of the next messages, by their lengths, one call may take; at least one.
fn batch(lengths: &[u64]) -> usize {
    let mut bytes = 0;
    let fit = lengths.iter().take(BATCH).take_while(|&&length| {
        bytes += length;
        bytes <= BATCH_BYTES
    });
    fit.count().max(1)
}

/// Drops letters for good. Returns how many were still there.
///
/// # Errors
/// [`BrokerError`]; it is then unknown whether they were dropped.
pub async fn drop(connection: &mut Connection, keys: &Keys, letters: &[DeadLetter]) -> Result<u64, BrokerError> {
    if letters.is_empty() {
        return Ok(0);
    }
    let names: Vec<&str> = letters.iter().map(|letter| letter.name.as_str()).collect();
    let mut pipeline = redis::pipe();
    pipeline.atomic();
    pipeline.cmd("HDEL").arg(keys.dead_messages()).arg(&names);
    pipeline.cmd("HDEL").arg(keys.dead_entries()).arg(&names).ignore();
    pipeline.cmd("ZREM").arg(keys.dead()).arg(&names).ignore();
    let (dropped,): (u64,) = connection.pipeline(&pipeline).await?;
    Ok(dropped)
}

/// The server's clock, milliseconds since 1970: the one by which letters are dated.
///
/// # Errors
/// [`BrokerError`].
pub async fn now(connection: &mut Connection) -> Result<i64, BrokerError> {
    let (seconds, micros): (i64, i64) = connection.query(&redis::cmd("TIME")).await?;
    Ok(seconds * 1000 + micros / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_by_count_and_by_bytes() {
        assert_eq!(batch(&[10; 50]), BATCH);
        assert_eq!(batch(&[BATCH_BYTES / 3; 50]), 3);
        assert_eq!(batch(&[BATCH_BYTES * 10, 1]), 1);
        assert_eq!(batch(&[1, BATCH_BYTES]), 1);
        assert_eq!(batch(&[0, 0]), 2);
    }
}
