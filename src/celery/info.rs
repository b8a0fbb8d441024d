//! What workers tell of tasks and queues, in the form of Celery's (`celery/worker/request.py`, `Request.info`;
//! `kombu/entity.py`, `Queue.as_dict`). Pure.

use crate::message::object::Object;
use crate::message::{Message, body};
use serde_json::{Map, Value, json};

/// What is known of a task beside its message.
#[derive(Debug, Default)]
pub struct Seen {
    /// When it started, seconds since 1970.
    pub time_start: Option<f64>,
    /// Its message is gone whatever comes.
    pub acknowledged: bool,
    /// Pid of what runs it.
    pub pid: Option<u32>,
}

/// A task. With `safe`, its arguments are the texts its sender made of them; so they are where only Python can read
/// the body.
pub fn task(message: &Message, node: &str, seen: &Seen, safe: bool) -> Value {
    let headers = Object::parse(message.headers_json()).unwrap_or_default();
    let properties = Object::parse(message.properties_json()).unwrap_or_default();
    let parsed = |text: Option<&str>| text.and_then(|text| serde_json::from_str::<Value>(text).ok());
    let delivery = parsed(properties.get("delivery_info")).unwrap_or_default();
    let arguments = if safe { None } else { body::arguments(message).ok() };
    let written = |text: fn(&body::Arguments) -> &str| parsed(arguments.as_ref().map(text));
    let shown = |key| parsed(headers.get(key)).unwrap_or_default();
    json!({
        "id": message.headers.id,
        "name": message.headers.task,
        "args": written(|arguments| &arguments.args).unwrap_or_else(|| shown("argsrepr")),
        "kwargs": written(|arguments| &arguments.kwargs).unwrap_or_else(|| shown("kwargsrepr")),
        "type": message.headers.task,
        "hostname": node,
        "time_start": seen.time_start,
        "acknowledged": seen.acknowledged,
        "delivery_info": {
            "exchange": delivery["exchange"],
            "routing_key": delivery["routing_key"],
            "priority": parsed(properties.get("priority")),
            "redelivered": delivery["redelivered"].as_bool().unwrap_or(false),
        },
        "worker_pid": seen.pid,
    })
}

/// A queue as a worker consumes it that was told no more of it than its name. An exchange the application publishes
/// to is no business of those who read the queue.
pub fn queue(name: &str) -> Value {
    let exchange = json!({"name": name, "type": "direct", "arguments": null, "durable": true, "passive": false,
        "auto_delete": false, "delivery_mode": null, "no_declare": false});
    let mut queue: Map<String, Value> = Map::new();
    for key in [
        "queue_arguments",
        "binding_arguments",
        "consumer_arguments",
        "alias",
        "no_declare",
        "expires",
        "message_ttl",
        "max_length",
        "max_length_bytes",
        "max_priority",
    ] {
        queue.insert(key.to_owned(), Value::Null);
    }
    for (key, value) in [("durable", true), ("exclusive", false), ("auto_delete", false), ("no_ack", false)] {
        queue.insert(key.to_owned(), value.into());
    }
    queue.insert("name".to_owned(), name.into());
    queue.insert("exchange".to_owned(), exchange);
    queue.insert("routing_key".to_owned(), name.into());
    queue.insert("bindings".to_owned(), json!([]));
    Value::Object(queue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_as_they_are_or_as_text() {
        let raw = |body: &str| {
            let envelope = json!({"body": body, "content-type": "application/json", "headers": {"task": "t", "id": "i",
                "argsrepr": "(1,)", "kwargsrepr": "{}"}, "properties": {"priority": 3, "delivery_info": {
                "exchange": "", "routing_key": "q"}}});
            Message::parse(envelope.to_string().into_bytes()).map_err(|(malformed, _)| malformed).unwrap()
        };
        let (good, bad) = (raw("[[1], {\"a\": 2}, {}]"), raw("[[NaN], {}, {}]"));
        let info = task(&good, "n", &Seen::default(), false);
        assert_eq!((&info["args"], &info["kwargs"]), (&json!([1]), &json!({"a": 2})));
        assert_eq!(
            info["delivery_info"],
            json!({"exchange": "", "routing_key": "q", "priority": 3, "redelivered": false})
        );
        assert_eq!(task(&good, "n", &Seen::default(), true)["args"], "(1,)");
        assert_eq!(task(&bad, "n", &Seen::default(), false)["args"], "(1,)");
    }
}
