//! The answer to whose a message is, where the workers had to find it out: one for all of them, kept over restarts.

use super::script::{call, script};
use super::{BrokerError, Connection, Keys};

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

/// Replaces the answer of number `epoch` by another. Whether that was done, and what is in force now: another worker
/// may have been first. All that waits in lanes is then in the lists again, to be filed by the new answer.
///
/// # Errors
/// [`BrokerError`].
pub async fn replace(
    connection: &mut Connection,
    keys: &Keys,
    epoch: u64,
    answer: &str,
) -> Result<(bool, Kept), BrokerError> {
    let script = script!("scripts/answer.lua");
    let mut invocation = call(&script, keys, "");
    invocation.arg(epoch).arg(answer);
    let mut redis = connection.redis.clone();
    let (done, epoch, answer): (u8, u64, String) = connection.sorted(invocation.invoke_async(&mut redis)).await?;
    Ok((done == 1, Kept { epoch, answer: Some(answer).filter(|answer| !answer.is_empty()) }))
}
