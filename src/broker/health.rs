//! What a Redis server is like: whether it can be worked with, and what it would lose.
//!
//! `HELLO` is allowed to everybody. `INFO` and `CONFIG` may be forbidden to the user or, on a managed server, renamed;
//! then [`Health::unread`] says so, and nothing is guessed.

use super::{BrokerError, Connection, Keys, Kind};
use crate::tls::Verify;
use redis::Value;
use std::collections::HashMap;

/// Asks for what every worker needs: scripts that read a queue and write fairstalk's keys and kombu's. It changes nothing.
const PROBE: &str =
    "redis.call('LLEN', KEYS[1]) redis.call('HDEL', KEYS[2], '') return redis.call('ZREM', KEYS[3], '')";

/// What was found out.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// As the server says; empty if it doesn't.
    pub version: String,
    /// `standalone`, `cluster` or `sentinel`.
    pub mode: String,
    /// It copies another server.
    pub replica: bool,
    /// Memory limit in bytes, 0 for none.
    pub memory_limit: Option<u64>,
    /// What is deleted at the limit.
    pub eviction: Option<String>,
    /// Whether there is an append-only file.
    pub append_only: Option<bool>,
    /// When that is written through: `always`, `everysec`, `no`.
    pub fsync: Option<String>,
    /// When snapshots are taken: `seconds changes …`; empty for never.
    pub snapshots: Option<String>,
    /// Changes that are in no snapshot yet.
    pub changes: Option<u64>,
    /// What of the server's certificate is not verified, and what follows.
    pub unverified: Option<&'static str>,
    /// Commands that were refused, in words.
    pub unread: Vec<String>,
    /// Whether what workers do is refused.
    pub refused: Option<Refused>,
}

/// Workers could not work.
#[derive(Debug, Clone)]
pub struct Refused {
    /// What follows from it.
    pub kind: Kind,
    /// The server's words.
    pub text: String,
}

/// Asks the server. Its data is not changed.
///
/// # Errors
/// [`BrokerError`], if it goes away meanwhile. What it refuses to answer is no error.
pub async fn inspect(connection: &mut Connection, keys: &Keys) -> Result<Health, BrokerError> {
    let unverified = connection.verify.and_then(Verify::warning);
    let mut health = Health { unverified, ..Health::default() };
    let hello: HashMap<String, Value> = connection.query(&redis::cmd("HELLO")).await?;
    let word = |name: &str| hello.get(name).and_then(|value| redis::from_redis_value_ref::<String>(value).ok());
    health.version = word("version").unwrap_or_default();
    health.mode = word("mode").unwrap_or_default();
    health.replica = word("role").is_some_and(|role| role != "master");
    info(connection, &mut health).await?;
    config(connection, &mut health).await?;
    if health.mode == "standalone" && !health.replica {
        health.refused = probe(connection, keys).await?;
    }
    Ok(health)
}

async fn info(connection: &mut Connection, health: &mut Health) -> Result<(), BrokerError> {
    // All sections: a list of them is understood from Redis 7 on only.
    let Some(text) = allowed::<String>(connection, &redis::cmd("INFO"), "INFO", health).await? else { return Ok(()) };
    let fields: HashMap<&str, &str> = text.lines().filter_map(|line| line.trim().split_once(':')).collect();
    let number = |name: &str| fields.get(name).and_then(|value| value.parse().ok());
    health.memory_limit = number("maxmemory");
    health.eviction = fields.get("maxmemory_policy").map(|policy| (*policy).to_owned());
    health.append_only = number("aof_enabled").map(|on| on == 1);
    health.changes = number("rdb_changes_since_last_save");
    Ok(())
}

async fn config(connection: &mut Connection, health: &mut Health) -> Result<(), BrokerError> {
    for name in ["appendfsync", "save"] {
        let command = &mut redis::cmd("CONFIG");
        let command = command.arg("GET").arg(name);
        let answer = allowed::<HashMap<String, String>>(connection, command, "CONFIG GET", health).await?;
        let Some(value) = answer.and_then(|mut answer| answer.remove(name)) else { return Ok(()) };
        *(if name == "save" { &mut health.snapshots } else { &mut health.fsync }) = Some(value);
    }
    Ok(())
}

/// The answer, or none and a note if the server refuses it.
async fn allowed<T: redis::FromRedisValue>(
    connection: &mut Connection,
    command: &redis::Cmd,
    name: &str,
    health: &mut Health,
) -> Result<Option<T>, BrokerError> {
    match connection.query(command).await {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.kind == Kind::Unavailable => Err(error),
        Err(error) => {
            health.unread.push(format!("{name} ({})", error.cause));
            Ok(None)
        }
    }
}

/// Does what a worker does first, without an effect.
async fn probe(connection: &mut Connection, keys: &Keys) -> Result<Option<Refused>, BrokerError> {
    let mut script = redis::cmd("EVAL");
    script.arg(PROBE).arg(3);
    let queue = keys.queues.first().map(|queue| keys.key(queue)).unwrap_or_default();
    script.arg(queue).arg(keys.unacked()).arg(keys.owners());
    let tried = match connection.watch(keys).await {
        Ok(()) => connection.query::<Value>(&script).await.map(drop),
        Err(error) => Err(error),
    };
    match tried {
        Ok(()) => connection.unwatch().await.map(|()| None),
        Err(error) if error.cause.is_io_error() || error.cause.is_connection_dropped() => Err(error),
        Err(error) => Ok(Some(Refused { kind: error.kind, text: error.cause.to_string() })),
    }
}
