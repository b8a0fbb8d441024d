//! Which server is the primary: asked of the Sentinels anew for each connection, so that a connection after a failover goes to
//! the new one.

use super::{BrokerError, Kind};
use crate::config::Sentinel;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisResult, Value};
use std::collections::HashMap;
use std::time::Duration;

/// Host and port of the primary, by the first Sentinel that knows it. They are asked in turn and share the time.
pub(super) async fn primary(
    address: &str,
    sentinel: &Sentinel,
    within: Duration,
) -> Result<(String, u16), BrokerError> {
    let each = within / u32::try_from(sentinel.addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut said = Vec::new();
    let (mut answered, mut refused) = (0, 0);
    for (host, port) in &sentinel.addresses {
        match ask(host, *port, sentinel, each).await {
            Ok(Some(primary)) => return Ok(primary),
            Ok(None) => answered += 1,
            Err(error) => {
                refused += usize::from(BrokerError::new("", error.clone()).kind == Kind::Configuration);
                said.push(format!("{host}:{port}: {error}"));
            }
        }
    }
    // Those that don't answer may know better.
    let all = sentinel.addresses.len();
    let (kind, text) = match (answered, refused) {
        (count, _) if count == all => {
            let remedy = "check [broker] master_name against `sentinel monitor` in sentinel.conf";
            (Kind::Configuration, format!("the sentinels know no primary of this name ({remedy})"))
        }
        (_, count) if count == all => {
            let remedy = "check [broker] sentinel_password_file";
            (Kind::Configuration, format!("no sentinel answers: {} ({remedy})", said.join("; ")))
        }
        (0, _) => (Kind::Unavailable, format!("no sentinel answers: {}", said.join("; "))),
        _ => {
            let text = format!("no sentinel knows a primary of this name, and not all answer: {}", said.join("; "));
            (Kind::Unavailable, text)
        }
    };
    Err(BrokerError::said(kind, address, text))
}

async fn ask(host: &str, port: u16, sentinel: &Sentinel, within: Duration) -> RedisResult<Option<(String, u16)>> {
    let info = ConnectionAddr::Tcp(host.to_owned(), port).into_connection_info()?;
    let settings = match &sentinel.password {
        Some(password) => info.redis_settings().clone().set_password(password),
        None => info.redis_settings().clone(),
    };
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(within)).set_response_timeout(Some(within));
    let client = Client::open(info.set_redis_settings(settings))?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(&sentinel.master).query_async(&mut connection).await
}

/// Sees that it is one: right after a failover a Sentinel may still name the server that was.
pub(super) async fn certain(address: &str, place: &str, redis: &mut MultiplexedConnection) -> Result<(), BrokerError> {
    // Not ROLE: HELLO is allowed to everybody.
    let hello: RedisResult<HashMap<String, Value>> = redis::cmd("HELLO").query_async(redis).await;
    let hello = hello.map_err(|source| BrokerError::new(address, source))?;
    let role = hello.get("role").and_then(|role| redis::from_redis_value_ref::<String>(role).ok());
    match role.as_deref() {
        Some("master") | None => Ok(()),
        Some(_) => {
            let text = format!("{place} is a replica: there is no other primary yet");
            Err(BrokerError::said(Kind::Unavailable, address, text))
        }
    }
}
