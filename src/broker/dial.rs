//! From the URL of a server to an open connection, over TLS or without.

use super::{BrokerError, Kind, sentinel};
use crate::config::{Broker, Sentinel};
use crate::tls::{self, Fault, Tls};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    RedisError, RedisResult,
};
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// What carries a connection over TLS; ends with the last clone of the connection, whatever it waits for.
pub(super) struct Carrier(JoinHandle<()>);

impl Drop for Carrier {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects and authenticates.
pub(super) async fn dial(
    broker: &Broker,
    config: &AsyncConnectionConfig,
) -> Result<(MultiplexedConnection, Option<Arc<Carrier>>), BrokerError> {
    let address = super::address(broker);
    let fail = |source| BrokerError::new(&address, source);
    let info = info(&broker.url).map_err(fail)?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let info = info.set_redis_settings(settings.set_lib_name("fairstalk", env!("CARGO_PKG_VERSION")));
    if let Some(sentinel) = &broker.sentinel {
        let redis = by_sentinel(broker, &address, info, sentinel, config).await?;
        return Ok((redis, None));
    }
    let Some(tls) = &broker.tls else {
        let client = Client::open(info).map_err(fail)?;
        return match client.get_multiplexed_async_connection_with_config(config).await {
            Ok(redis) => Ok((redis, None)),
            Err(error) => Err(BrokerError::new(&address, error).without_tls()),
        };
    };
    let secured = secured(&address, &info, tls, config, broker.timeout / 2);
    let dialled = tokio::time::timeout(broker.timeout, secured).await;
    let (redis, carrier) = dialled.unwrap_or_else(|_| Err(BrokerError::of_tls(&address, Fault::timeout())))?;
    Ok((redis, Some(Arc::new(carrier))))
}

/// Half of the time is for the Sentinels, half for the server they name.
async fn by_sentinel(
    broker: &Broker,
    address: &str,
    info: ConnectionInfo,
    sentinel: &Sentinel,
    config: &AsyncConnectionConfig,
) -> Result<MultiplexedConnection, BrokerError> {
    let half = broker.timeout / 2;
    let (host, port) = sentinel::primary(address, sentinel, half).await?;
    let place = format!("{host}:{port}");
    let config = config.clone().set_connection_timeout(Some(half));
    let client = Client::open(info.set_addr(ConnectionAddr::Tcp(host, port)));
    let client = client.map_err(|error| BrokerError::new(address, error))?;
    let mut redis = client.get_multiplexed_async_connection_with_config(&config).await.map_err(|error| {
        let known = BrokerError::new(&place, error);
        match known.kind {
            // That it refuses connections does not mean that there is no primary: others may be at another already.
            Kind::Unavailable => {
                BrokerError::said(known.kind, address, format!("its primary {place}: {}", known.cause))
            }
            _ => known,
        }
    })?;
    sentinel::certain(address, &place, &mut redis).await?;
    Ok(redis)
}

async fn secured(
    address: &str,
    info: &ConnectionInfo,
    tls: &Tls,
    config: &AsyncConnectionConfig,
    reach: Duration,
) -> Result<(MultiplexedConnection, Carrier), BrokerError> {
    let ConnectionAddr::Tcp(host, port) = info.addr() else {
        let error = RedisError::from((ErrorKind::InvalidClientConfig, "TLS is for TCP only"));
        return Err(BrokerError::new(address, error));
    };
    let stream = tls::connect(host, *port, tls, reach).await.map_err(|trouble| match trouble {
        tls::Trouble::Network(error) => BrokerError::new(address, error.into()),
        tls::Trouble::Tls(fault) => BrokerError::of_tls(address, fault),
    })?;
    match MultiplexedConnection::new_with_config(info.redis_settings(), stream, config.clone()).await {
        Ok((redis, carrier)) => Ok((redis, Carrier(tokio::spawn(carrier)))),
        Err(error) => Err(match inner(&error).and_then(|inner| Fault::of(inner, tls, false)) {
            Some(fault) => BrokerError::of_tls(address, fault),
            None => BrokerError::new(address, error),
        }),
    }
}

/// The error of the stream in one of the client.
fn inner(error: &RedisError) -> Option<&io::Error> {
    let shared = error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?;
    shared.downcast_ref()
}

/// A URL as the client reads it: TLS and Sentinels are ours, so it sees nothing of the one, and of the others the first.
pub(super) fn info(url: &str) -> RedisResult<ConnectionInfo> {
    let info = match url.split_once("://") {
        Some(("rediss" | "sentinel", rest)) => {
            let place = rest.split(['?', ';']).next().unwrap_or_default();
            format!("redis://{place}").into_connection_info()
        }
        _ => url.into_connection_info(),
    }?;
    // What is written is written whole; the kernel has nothing to wait for.
    Ok(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}
