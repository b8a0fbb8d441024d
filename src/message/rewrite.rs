//! Changes to a message that goes back to Redis, with all other bytes left as they are.

use super::object::Object;
use super::{Message, time};

/// The message as it goes back after a delivery that came to no end.
///
/// Marked `redelivered` in both places kombu does (`kombu/transport/redis.py`, `_do_restore_message`); the
/// number of deliveries is kept beside it, where stock Celery ignores and preserves it. `counted` is false
/// where the delivery was cut short by us (a drain), which is not the task's fault.
pub fn redelivered(message: &Message, counted: bool) -> Vec<u8> {
    let deliveries = message.deliveries + u32::from(counted);
    rewrite(message, |headers, info| {
        headers.set("redelivered", "true".into());
        info.set("redelivered", "true".into());
        info.set("deliveries", deliveries.to_string());
    })
}

/// The message of the next attempt of a command task, not before `eta` (milliseconds since 1970).
pub fn retried(message: &Message, eta: i64) -> Vec<u8> {
    let retries = message.headers.attempt();
    rewrite(message, |headers, info| {
        headers.set("retries", retries.to_string());
        headers.set("eta", format!("\"{}\"", time::format(eta)));
        info.set("deliveries", "0".into());
    })
}

/// The message of a dead letter that is to be run after all: its retries and deliveries begin anew. Where the task
/// had `begun` before, the message is marked redelivered, for it may run a second time.
pub fn replayed(message: &Message, begun: bool) -> Vec<u8> {
    let (retries, deliveries) = (message.headers.retries.unwrap_or(0), message.deliveries);
    if retries == 0 && deliveries == 0 && !begun {
        return message.raw.clone();
    }
    rewrite(message, |headers, info| {
        if retries > 0 {
            headers.set("retries", "0".into());
        }
        if deliveries > 0 {
            info.set("deliveries", "0".into());
        }
        if begun {
            headers.set("redelivered", "true".into());
            info.set("redelivered", "true".into());
        }
    })
}

fn rewrite(message: &Message, change: impl FnOnce(&mut Object, &mut Object)) -> Vec<u8> {
    try_rewrite(message, change).unwrap_or_else(|_| message.raw.clone())
}

/// Fails only if the message is no JSON, and then it has no [`Message`].
fn try_rewrite(message: &Message, change: impl FnOnce(&mut Object, &mut Object)) -> serde_json::Result<Vec<u8>> {
    let raw = std::str::from_utf8(&message.raw).map_err(serde::de::Error::custom)?;
    let mut envelope = Object::parse(raw)?;
    let mut headers = Object::parse(envelope.get("headers").unwrap_or("{}"))?;
    let mut properties = Object::parse(envelope.get("properties").unwrap_or("{}"))?;
    let mut info = Object::parse(properties.get("delivery_info").unwrap_or("{}"))?;
    change(&mut headers, &mut info);
    let (headers, info) = (headers.to_string(), info.to_string());
    properties.set("delivery_info", info);
    let properties = properties.to_string();
    envelope.set("headers", headers);
    envelope.set("properties", properties);
    Ok(envelope.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: &str = r#"{"body": "W10=", "content-type": "application/json", "headers": {"task": "t", "id": "i", "x": 1.50}, "properties": {"delivery_info": {"exchange": "", "routing_key": "queue_1"}, "body_encoding": "base64", "delivery_tag": "d"}}"#;

    #[test]
    fn redelivery_is_marked_and_counted_and_nothing_else_changes() {
        let message = Message::parse(RAW.into()).unwrap();
        let again = redelivered(&message, true);
        let expected = RAW
            .replace(r#""x": 1.50"#, r#""x": 1.50, "redelivered": true"#)
            .replace(r#""queue_1"}"#, r#""queue_1", "redelivered": true, "deliveries": 1}"#);
        assert_eq!(String::from_utf8(again.clone()).unwrap(), expected);
        let message = Message::parse(again).unwrap();
        assert_eq!(message.deliveries, 1);
        assert_eq!(Message::parse(redelivered(&message, true)).unwrap().deliveries, 2);
        assert_eq!(Message::parse(redelivered(&message, false)).unwrap().deliveries, 1);
    }

    #[test]
    fn a_replay_begins_anew_and_changes_nothing_else() {
        let compact = RAW.replace(", ", ",");
        let fresh = Message::parse(compact.clone().into_bytes()).unwrap();
        assert_eq!(String::from_utf8(replayed(&fresh, false)).unwrap(), compact, "not even white space");
        let expected = RAW
            .replace(r#""x": 1.50"#, r#""x": 1.50, "redelivered": true"#)
            .replace(r#""queue_1"}"#, r#""queue_1", "redelivered": true}"#);
        let message = Message::parse(RAW.into()).unwrap();
        assert_eq!(String::from_utf8(replayed(&message, true)).unwrap(), expected);
        let used = RAW.replace(r#""x": 1.50"#, r#""x": 1.50, "retries": 3"#);
        let used = Message::parse(redelivered(&Message::parse(used.into()).unwrap(), true)).unwrap();
        let again = Message::parse(replayed(&used, true)).unwrap();
        assert_eq!((again.headers.retries, again.deliveries), (Some(0), 0));
    }

    #[test]
    fn a_retry_counts_and_waits() {
        let message = Message::parse(RAW.into()).unwrap();
        let next = Message::parse(retried(&message, 1_924_992_000_000)).unwrap();
        assert_eq!(next.headers.retries, Some(1));
        assert_eq!(next.headers.eta.as_deref(), Some("2031-01-01T00:00:00.000000+00:00"));
    }
}
