//! Has tenants or queues wait, and go on. What runs goes on.

use super::script::{call, script};
use super::{BrokerError, Connection, Keys};
use crate::fairness::flow;

/// Pauses or resumes tenants and queues, for all workers that consume the same queues; how many of them were not in that
/// state before. Of a paused queue nothing is claimed, wherever it waits; producers go on.
///
/// # Errors
/// [`BrokerError`].
pub async fn set_paused(
    connection: &mut Connection,
    keys: &Keys,
    tenants: &[String],
    queues: &[String],
    paused: bool,
) -> Result<u64, BrokerError> {
    let script = script!("scripts/pause.lua");
    let mut invocation = call(&script, keys, "");
    invocation.arg(u8::from(paused)).arg(queues.len()).arg(queues);
    for tenant in tenants {
        invocation.arg(&*flow::of_tenant(tenant));
    }
    let mut redis = connection.redis.clone();
    connection.sorted(invocation.invoke_async(&mut redis)).await
}
