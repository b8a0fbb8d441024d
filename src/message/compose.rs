//! Messages made here: what `apply_async(queue=…)` writes (`celery/app/amqp.py`, `as_task_v2`).

use super::time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// A new task.
#[derive(Debug, Clone)]
pub struct NewTask<'a> {
    /// Registered name.
    pub task: &'a str,
    /// Task id.
    pub id: &'a str,
    /// Queue it goes to, by the anonymous exchange.
    pub queue: &'a str,
    /// Positional arguments, a JSON array.
    pub args: &'a Value,
    /// Keyword arguments, a JSON object.
    pub kwargs: &'a Value,
    /// Not before this time, milliseconds since 1970.
    pub eta: Option<i64>,
    /// Who sends it, as `gen<pid>@<host>`.
    pub origin: &'a str,
}

/// The envelope, ready to be pushed.
pub fn compose(new: &NewTask) -> String {
    let body = json!([new.args, new.kwargs, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]);
    json!({
        "body": STANDARD.encode(body.to_string()),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py", "task": new.task, "id": new.id, "shadow": null, "eta": new.eta.map(time::format),
            "expires": null, "group": null, "group_index": null, "retries": 0, "timelimit": [null, null],
            "root_id": new.id, "parent_id": null, "argsrepr": new.args.to_string(),
            "kwargsrepr": new.kwargs.to_string(), "origin": new.origin, "ignore_result": false,
            "replaced_task_nesting": 0, "stamped_headers": null, "stamps": {},
        },
        "properties": {
            "correlation_id": new.id, "delivery_mode": 2, "priority": 0, "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": new.queue}, "delivery_tag": unique_id(),
        },
    })
    .to_string()
}

/// A random version 4 UUID.
pub fn unique_id() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, body};

    #[test]
    fn what_is_composed_can_be_read() {
        let (args, kwargs) = (json!([1, "ä"]), json!({"user_id": 5}));
        let new =
            NewTask { task: "t", id: "i", queue: "queue_3", args: &args, kwargs: &kwargs, eta: Some(0), origin: "o" };
        let message = Message::parse(compose(&new).into_bytes()).unwrap();
        assert_eq!(message.headers.eta.as_deref(), Some("1970-01-01T00:00:00.000000+00:00"));
        let arguments = body::arguments(&message).unwrap();
        assert_eq!((arguments.args.as_str(), arguments.canvas), (r#"[1,"ä"]"#, false));
    }

    #[test]
    fn ids_are_version_4_uuids() {
        let id = unique_id();
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
        assert!("89ab".contains(&id[19..20]), "{id}");
    }
}
