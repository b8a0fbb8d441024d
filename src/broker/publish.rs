//! Puts new messages into their queues, as a Celery producer does.

use super::{BrokerError, Connection, Keys};

/// Messages in one command. More save no time, and Redis serves nobody else meanwhile.
pub const BATCH: usize = 500;

/// Pushes messages to the end of a queue's line, in order; up to [`BATCH`] in one round trip.
///
/// # Errors
/// [`BrokerError`]; some of the messages may have been pushed.
pub async fn publish(
    connection: &mut Connection,
    keys: &Keys,
    queue: &str,
    messages: &[Vec<u8>],
) -> Result<(), BrokerError> {
    for batch in messages.chunks(BATCH) {
        let mut push = redis::cmd("LPUSH");
        push.arg(keys.list(queue));
        for message in batch {
            push.arg(message);
        }
        connection.query::<()>(&push).await?;
    }
    Ok(())
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
