//! Has tenants wait, and run again. What they run goes on.

use super::script::{call, script};
use super::{BrokerError, Connection, Keys};
use crate::fairness::flow;

/// Pauses or resumes tenants; how many of them were not in that state before.
///
/// # Errors
/// [`BrokerError`].
pub async fn set_paused(
    connection: &mut Connection,
    keys: &Keys,
    tenants: &[String],
    paused: bool,
) -> Result<u64, BrokerError> {
    let script = script!("scripts/pause.lua");
    let mut invocation = call(&script, keys, "");
    invocation.arg(u8::from(paused));
    for tenant in tenants {
        invocation.arg(&*flow::of_tenant(tenant));
    }
    let mut redis = connection.redis.clone();
    connection.sorted(invocation.invoke_async(&mut redis)).await
}
