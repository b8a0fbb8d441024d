//! Where one tenant stands among the others, for `fairstalk tenants --explain`. Nothing here changes anything.

use super::bars::{Bars, bars};
use super::keys::PRIORITY_SUFFIXES;
use super::{BrokerError, Connection, Keys};

/// Tenants that are named as the first to be served.
const FIRST: isize = 5;

/// What decides about a tenant's turn, besides its own figures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    /// The server's clock, milliseconds since 1970.
    pub now: i64,
    /// Virtual time where newcomers begin, milliseconds.
    pub floor: f64,
    /// Tenants that wait and may run.
    pub ready: u64,
    /// The first of them with their virtual times.
    pub first: Vec<(String, f64)>,
    /// Place of this one among them, from 0.
    pub place: Option<u64>,
    /// It was told to wait.
    pub paused: bool,
    /// Its messages that wait for their time.
    pub delayed: u64,
    /// What keeps queues and tasks from being served.
    pub bars: Bars,
    /// Messages in the lists of its queue, which nobody has looked at yet.
    pub unseen: u64,
}

/// Counts a flow's messages in one part of the delayed ones, where they are, not here: they may be many and large.
const DELAYED: &str = "
local cursor, found = unpack(redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', 500))
local count = 0
for i = 2, #found, 2 do
  if string.match(found[i], '^.-%z(.-)%z') == ARGV[2] then count = count + 1 end
end
return {cursor, count}";

/// The server's clock, milliseconds since 1970, and all tenants that were told to wait, by flow.
///
/// # Errors
/// [`BrokerError`].
pub async fn paused(connection: &mut Connection, keys: &Keys) -> Result<(i64, Vec<String>), BrokerError> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("TIME").cmd("SMEMBERS").arg(keys.paused());
    let (time, paused): ((i64, i64), _) = connection.pipeline(&pipeline).await?;
    Ok((millis(time), paused))
}

fn millis((seconds, micros): (i64, i64)) -> i64 {
    seconds * 1000 + micros / 1000
}

/// Asks for it; `queue` is that of the tenant, if there is one.
///
/// # Errors
/// [`BrokerError`].
pub async fn standing(
    connection: &mut Connection,
    keys: &Keys,
    flow: &str,
    queue: Option<&str>,
) -> Result<Standing, BrokerError> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("TIME").cmd("HGET").arg(keys.tenants()).arg("floor").cmd("ZCARD").arg(keys.ready());
    pipeline.cmd("ZRANGE").arg(keys.ready()).arg(0).arg(FIRST - 1).arg("WITHSCORES");
    pipeline.cmd("ZRANK").arg(keys.ready()).arg(flow).cmd("SISMEMBER").arg(keys.paused()).arg(flow);
    type Answers = ((i64, i64), Option<f64>, u64, Vec<(String, f64)>, Option<u64>, bool);
    let (time, floor, ready, first, place, paused): Answers = connection.pipeline(&pipeline).await?;
    let first = first.into_iter().map(|(flow, virtual_time)| (flow, virtual_time / 1000.0)).collect();
    let mut standing =
        Standing { now: millis(time), floor: floor.unwrap_or(0.0), ready, first, place, paused, ..Standing::default() };
    standing.bars = bars(connection, keys).await?;
    if let Some(queue) = queue {
        let mut lengths = redis::pipe();
        keys.lists(queue).for_each(|list| {
            lengths.cmd("LLEN").arg(list);
        });
        let lengths: [u64; PRIORITY_SUFFIXES.len()] = connection.pipeline(&lengths).await?;
        standing.unseen = lengths.iter().sum();
    }
    let mut cursor = "0".to_owned();
    loop {
        let mut part = redis::cmd("EVAL");
        part.arg(DELAYED).arg(1).arg(keys.delayed_messages()).arg(&cursor).arg(flow);
        let (next, count): (String, u64) = connection.query(&part).await?;
        standing.delayed += count;
        cursor = next;
        if cursor == "0" {
            return Ok(standing);
        }
    }
}
