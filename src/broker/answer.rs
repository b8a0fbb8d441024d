//! The answer to whose a message is, where the workers had to find it out: one for all of them, kept over restarts.

use super::script::{POUR, call, script};
use super::{BrokerError, Connection, Keys};
use redis::ToRedisArgs;

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Number of the answer; 0 before the first.
    pub epoch: u64,
    /// The answer, JSON.
    pub answer: Option<String>,
}

/// The answer in force.
///
/// # Errors
/// [`BrokerError`].
pub async fn read(connection: &mut Connection, keys: &Keys) -> Result<Kept, BrokerError> {
    let mut fields = redis::cmd("HMGET");
    fields.arg(keys.tenancy()).arg("epoch").arg("answer");
    let (epoch, answer): (Option<u64>, Option<String>) = connection.query(&fields).await?;
    Ok(Kept { epoch: epoch.unwrap_or(0), answer })
}

/// How far a replacement is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// It was begun by this call; otherwise another worker was first.
    pub begun: bool,
    /// What is in force now.
    pub kept: Kept,
    /// Another is on its way: all that waits in lanes goes to the lists again, to be filed by it. To be gone on with.
    pub coming: bool,
}

/// Begins to replace the answer of number `epoch` by another, and does a first part of it.
///
/// # Errors
/// [`BrokerError`].
pub async fn replace(
    connection: &mut Connection,
    keys: &Keys,
    epoch: u64,
    answer: &str,
) -> Result<Replacement, BrokerError> {
    replaced(connection, keys, epoch, answer).await
}

/// Does a part of the replacement that is on its way, if one is.
///
/// # Errors
/// [`BrokerError`].
pub async fn go_on(connection: &mut Connection, keys: &Keys) -> Result<Replacement, BrokerError> {
    replaced(connection, keys, "", "").await
}

async fn replaced(
    connection: &mut Connection,
    keys: &Keys,
    epoch: impl ToRedisArgs,
    answer: &str,
) -> Result<Replacement, BrokerError> {
    let script = script!("scripts/pour.lua", "scripts/answer.lua");
    let mut invocation = call(&script, keys, "");
    invocation.arg(epoch).arg(answer).arg(POUR);
    let mut redis = connection.redis.clone();
    let (begun, epoch, answer, coming): (bool, u64, String, bool) =
        connection.sorted(invocation.invoke_async(&mut redis)).await?;
    let kept = Kept { epoch, answer: Some(answer).filter(|answer| !answer.is_empty()) };
    Ok(Replacement { begun, kept, coming })
}
