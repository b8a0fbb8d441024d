//! The start of a task that is delivered at most once: noted in Redis before it is made.
//!
//! Before the note the message is a claim like any other, and goes back if its worker dies. After it, it is never
//! put back: it ends with its task, or as a dead letter. There is no instant between.

use super::connection::unexpected;
use super::script::{call, script};
use super::{BrokerError, Connection, Keys};

/// Notes that these claims, by sequence number and message, are about to start. Returns the numbers of those that may;
/// `None` means that the lease is lost and nothing was done. `number` is that of the owner's connection.
///
/// # Errors
/// [`BrokerError`]; it is then unknown whether it was noted. Trying again does no harm.
pub async fn note(
    connection: &mut Connection,
    keys: &Keys,
    owner: &str,
    number: u64,
    claims: &[(u64, &[u8])],
) -> Result<Option<Vec<u64>>, BrokerError> {
    let script = script!("scripts/start.lua");
    let mut invocation = call(&script, keys, owner);
    invocation.arg(number);
    for (sequence, message) in claims {
        invocation.arg(*sequence).arg(*message);
    }
    let mut redis = connection.redis.clone();
    let answer: Vec<i64> = connection.sorted(invocation.invoke_async(&mut redis)).await?;
    if answer == [-1] {
        return Ok(None);
    }
    let numbers: Result<Vec<u64>, _> = answer.into_iter().map(u64::try_from).collect();
    numbers.map(Some).map_err(|_| unexpected(&connection.address, "start"))
}
