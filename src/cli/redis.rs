//! What the commands that talk to Redis share.

use super::{Error, Settings};
use crate::broker::{Connection, Keys};
use crate::config::Config;
use std::future::Future;

/// Runs one command's exchange with Redis on a runtime of its own.
///
/// # Errors
/// Whatever `exchange` returns.
pub fn block_on<T>(exchange: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    runtime.block_on(exchange)
}

/// Reads the configuration and connects.
///
/// # Errors
/// A configuration that can't be used, or Redis can't be reached.
pub async fn connect(settings: &Settings) -> Result<(Config, Keys, Connection), Error> {
    let config = settings.config()?;
    let keys = Keys::new(&config.broker, &config.queues);
    let connection = Connection::open(&config.broker).await?;
    Ok((config, keys, connection))
}
