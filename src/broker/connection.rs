//! One connection of a worker or a command to Redis.

use super::dial::{self, Carrier, info};
use super::{BrokerError, Keys, wake::Wake};
use crate::config::Broker;
use crate::tls::Verify;
use redis::aio::{AsyncPushSender, MultiplexedConnection, SendError};
use redis::{AsyncConnectionConfig, ConnectionAddr, ErrorKind, FromRedisValue, PushInfo, RedisError, RedisResult};
use std::future::Future;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// An open connection.
#[derive(Clone)]
pub struct Connection {
    pub(super) redis: MultiplexedConnection,
    _carrier: Option<Arc<Carrier>>,
    /// What is asked of the server's certificate, with TLS.
    pub(super) verify: Option<Verify>,
    pub(super) address: String,
    /// Database number of the broker.
    pub database: i64,
    /// Rings when something may be claimed, and when the connection ends.
    pub wake: Wake,
}

impl Connection {
    /// Connects and authenticates. Reading commands need no more.
    ///
    /// # Errors
    /// [`BrokerError`], sorted by what to do about it.
    pub async fn open(broker: &Broker) -> Result<Connection, BrokerError> {
        let wake = Wake::default();
        let ring = wake.clone();
        let push = move |info: PushInfo| -> Result<(), SendError> {
            ring.push(&info);
            Ok(())
        };
        Connection::open_with(broker, wake, push).await
    }

    /// Connects to listen: what the server pushes comes out of the receiver, the end of the connection too.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn listen(broker: &Broker) -> Result<(Connection, UnboundedReceiver<PushInfo>), BrokerError> {
        let (sender, receiver) = unbounded_channel();
        Ok((Connection::open_with(broker, Wake::default(), sender).await?, receiver))
    }

    async fn open_with(broker: &Broker, wake: Wake, push: impl AsyncPushSender) -> Result<Connection, BrokerError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(broker.timeout))
            .set_response_timeout(Some(broker.timeout))
            .set_push_sender(push);
        let (redis, carrier) = dial::dial(broker, &config).await?;
        let (address, database) = (address(broker), database(&broker.url));
        let verify = broker.tls.as_ref().map(|tls| tls.verify);
        Ok(Connection { redis, _carrier: carrier, verify, address, database, wake })
    }

    /// Asks the server to ring when a queue changes.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn watch(&mut self, keys: &Keys) -> Result<(), BrokerError> {
        let mut tracking = redis::cmd("CLIENT");
        tracking.arg("TRACKING").arg("ON").arg("BCAST").arg("NOLOOP");
        for prefix in keys.tracking_prefixes() {
            tracking.arg("PREFIX").arg(prefix);
        }
        self.query(&tracking).await
    }

    /// Asks the server to ring no more: a worker with a backlog before it has no need of it, and every pop by
    /// another worker would ring too.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn unwatch(&mut self) -> Result<(), BrokerError> {
        self.query(redis::cmd("CLIENT").arg("TRACKING").arg("OFF")).await
    }

    /// Runs one command.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn query<T: FromRedisValue>(&mut self, command: &redis::Cmd) -> Result<T, BrokerError> {
        command.query_async(&mut self.redis).await.map_err(|source| BrokerError::new(&self.address, source))
    }

    /// Runs commands in one round trip.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn pipeline<T: FromRedisValue>(&mut self, pipeline: &redis::Pipeline) -> Result<T, BrokerError> {
        pipeline.query_async(&mut self.redis).await.map_err(|source| BrokerError::new(&self.address, source))
    }

    /// Gives a client error its address.
    pub(super) async fn sorted<T>(&self, exchange: impl Future<Output = RedisResult<T>>) -> Result<T, BrokerError> {
        exchange.await.map_err(|source| BrokerError::new(&self.address, source))
    }
}

/// An answer whose shape nobody expected.
pub(super) fn unexpected(address: &str, what: &'static str) -> BrokerError {
    BrokerError::new(address, RedisError::from((ErrorKind::UnexpectedReturnType, what)))
}

/// `host:port` or the path of the socket, for messages: never a password. With Sentinels their name for the primary.
pub fn address(broker: &Broker) -> String {
    if let Some(sentinel) = &broker.sentinel {
        return format!("{} of the sentinels {}", sentinel.master, sentinel.places().join(", "));
    }
    info(&broker.url).map_or_else(|_| "(invalid address)".to_owned(), |info| info.addr().to_string())
}

/// The server by one name, whatever the order of the Sentinels: what `results.py` makes of the application's.
pub fn server(broker: &Broker) -> String {
    let Some(sentinel) = &broker.sentinel else { return address(broker) };
    let mut places = sentinel.places();
    places.sort();
    format!("{} of {}", sentinel.master, places.join(", "))
}

/// Database number of a Redis URL; 0 if there is none.
pub fn database(url: &str) -> i64 {
    info(url).map_or(0, |info| info.redis_settings().db())
}

/// `host:port/db` of a Redis URL; none for a socket, and where Sentinels know it.
pub fn tcp_database(url: &str) -> Option<String> {
    let info = info(url).ok().filter(|_| !url.starts_with("sentinel:"))?;
    matches!(info.addr(), ConnectionAddr::Tcp(..)).then(|| format!("{}/{}", info.addr(), info.redis_settings().db()))
}

/// A broker as kombu describes a connection to it (`kombu/connection.py`, `Connection.info`), without its password.
pub fn described(broker: &Broker) -> serde_json::Value {
    let (mut host, mut port, mut user, mut database) = (String::new(), None, None, 0);
    if let Ok(info) = info(&broker.url) {
        match info.addr() {
            ConnectionAddr::Tcp(name, number) => (host, port) = (name.clone(), Some(*number)),
            ConnectionAddr::Unix(path) => host = path.display().to_string(),
            _ => {}
        }
        user = info.redis_settings().username().map(str::to_owned);
        database = info.redis_settings().db();
    }
    let transport = match (&broker.sentinel, &broker.tls) {
        (Some(_), _) => "sentinel",
        (None, Some(_)) => "rediss",
        (None, None) => "redis",
    };
    serde_json::json!({
        "hostname": host, "userid": user, "virtual_host": database.to_string(), "port": port, "insist": false,
        "ssl": broker.tls.is_some(), "transport": transport, "connect_timeout": broker.timeout.as_secs_f64(),
        "transport_options": {"visibility_timeout": broker.visibility_timeout.as_secs(),
            "global_keyprefix": broker.key_prefix},
        "login_method": null, "uri_prefix": null, "heartbeat": 0, "failover_strategy": "round-robin",
        "alternates": [], "credential_provider": null,
    })
}
