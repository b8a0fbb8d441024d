//! The first worker of a daemon says once what its Redis might lose, and what else `fairstalk check` would warn of.

use crate::broker::health::{self, Health};
use crate::broker::{BrokerError, Connection, Grade, Keys, Kind, verdict};
use crate::channel::Start;
use crate::config::Config;
use std::time::Duration;

/// Wait before an absent server is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// Whether this is the worker that speaks: the first life of the first one. Owners end in `worker.incarnation`.
pub(super) fn speaks(start: &Start) -> bool {
    start.worker == 1 && start.owner.ends_with(":1.1")
}

/// Asks on a connection of its own, which it closes, so that no task waits for it. Waits for a server that is away.
pub(super) async fn warn(config: Config) {
    let health = loop {
        match ask(&config).await {
            Err(error) if error.kind == Kind::Unavailable => tokio::time::sleep(RETRY).await,
            // The worker itself has the same trouble, and says so.
            Err(_) => return,
            Ok(health) => break health,
        }
    };
    let address = crate::broker::address(&config.broker);
    for finding in verdict::verdict(&health) {
        match finding.grade {
            Grade::Note => tracing::debug!("Redis at {address}: {}", finding.text),
            Grade::Warning => tracing::warn!("Redis at {address}: {}", finding.text),
            Grade::Error(_) => tracing::error!("Redis at {address}: {}", finding.text),
        }
    }
}

async fn ask(config: &Config) -> Result<Health, BrokerError> {
    let mut connection = Connection::open(&config.broker).await?;
    health::inspect(&mut connection, &Keys::new(&config.broker, &config.queues)).await
}
