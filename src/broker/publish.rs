//! Puts new messages into their queues, as a Celery producer does.

use super::{BrokerError, Connection, Keys};

/// Pushes messages to the end of a queue's line, in order and in one round trip.
///
/// # Errors
/// [`BrokerError`]; some of the messages may have been pushed.
pub async fn publish(
    connection: &mut Connection,
    keys: &Keys,
    queue: &str,
    messages: &[String],
) -> Result<(), BrokerError> {
    if messages.is_empty() {
        return Ok(());
    }
    let mut pipeline = redis::pipe();
    for batch in messages.chunks(500) {
        let command = pipeline.cmd("LPUSH").arg(keys.list(queue));
        for message in batch {
            command.arg(message);
        }
        command.ignore();
    }
    connection.pipeline(&pipeline).await
}

/// The stored result of a task, once there is one in a final state; waits for it without polling.
///
/// # Errors
/// [`BrokerError`].
pub async fn result(connection: &mut Connection, key: &str) -> Result<String, BrokerError> {
    // Subscribed before the first look, so that nothing can come between.
    let mut subscribe = redis::cmd("SUBSCRIBE");
    subscribe.arg(key);
    connection.query::<()>(&subscribe).await?;
    loop {
        let stored: Option<String> = connection.query(redis::cmd("GET").arg(key)).await?;
        if let Some(result) = stored.filter(|result| is_final(result)) {
            return Ok(result);
        }
        connection.wake.rung().await;
    }
}

/// `celery.states.READY_STATES`.
fn is_final(result: &str) -> bool {
    let status = serde_json::from_str::<serde_json::Value>(result).ok().map(|value| value["status"].to_string());
    matches!(status.as_deref(), Some(r#""SUCCESS""# | r#""FAILURE""# | r#""REVOKED""#))
}
