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
fn compose(new: &NewTask, id: &str, tag: &str) -> String {
    let body = json!([new.args, new.kwargs, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]);
    json!({
        "body": STANDARD.encode(body.to_string()),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py", "task": new.task, "id": id, "shadow": null, "eta": new.eta.map(time::format),
            "expires": null, "group": null, "group_index": null, "retries": 0, "timelimit": [null, null],
            "root_id": id, "parent_id": null, "argsrepr": new.args.to_string(),
            "kwargsrepr": new.kwargs.to_string(), "origin": new.origin, "ignore_result": false,
            "replaced_task_nesting": 0, "stamped_headers": null, "stamps": {},
        },
        "properties": {
            "correlation_id": id, "delivery_mode": 2, "priority": 0, "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": new.queue}, "delivery_tag": tag,
        },
    })
    .to_string()
}

/// Many messages for one task that differ in nothing but their ids: composed once and copied, which takes a tenth of
/// the time.
#[derive(Debug)]
pub struct Copies {
    message: Vec<u8>,
    /// Where the task's id stands.
    ids: Vec<usize>,
    /// Where the delivery tag stands.
    tags: Vec<usize>,
}

impl Copies {
    /// Composes what is copied.
    pub fn of(new: &NewTask) -> Copies {
        // Random, so that neither stands anywhere else in the message.
        let (id, tag) = (unique_id(), unique_id());
        let message = compose(new, &id, &tag);
        let places = |of: &str| message.match_indices(of).map(|(at, _)| at).collect();
        Copies { ids: places(&id), tags: places(&tag), message: message.into_bytes() }
    }

    /// A new task's id, and its message.
    pub fn make(&mut self) -> (String, Vec<u8>) {
        let (id, tag) = (unique_id(), unique_id());
        for (places, new) in [(&self.ids, &id), (&self.tags, &tag)] {
            for &at in places {
                self.message[at..at + new.len()].copy_from_slice(new.as_bytes());
            }
        }
        (id, self.message.clone())
    }
}

/// A random version 4 UUID.
pub fn unique_id() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let mut id = String::with_capacity(36);
    for (at, nibble) in (0..32).rev().map(|place| (bits >> (4 * place)) as usize & 0xf).enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            id.push('-');
        }
        id.push(char::from(b"0123456789abcdef"[nibble]));
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, body};

    #[test]
    fn what_is_composed_can_be_read() {
        let (args, kwargs) = (json!([1, "ä"]), json!({"user_id": 5}));
        let new = NewTask { task: "t", queue: "queue_3", args: &args, kwargs: &kwargs, eta: Some(0), origin: "o" };
        let message = Message::parse(compose(&new, "i", "d").into_bytes()).unwrap();
        assert_eq!(message.headers.eta.as_deref(), Some("1970-01-01T00:00:00.000000+00:00"));
        let arguments = body::arguments(&message).unwrap();
        assert_eq!((arguments.args.as_str(), arguments.canvas), (r#"[1,"ä"]"#, false));
    }

    #[test]
    fn copies_differ_in_their_ids_only() {
        let (args, kwargs) = (json!(["x"]), json!({}));
        let new = NewTask { task: "t", queue: "q", args: &args, kwargs: &kwargs, eta: None, origin: "o" };
        let mut copies = Copies::of(&new);
        let made = [copies.make(), copies.make()];
        let mut texts = Vec::new();
        for (id, message) in &made {
            let text = String::from_utf8(message.clone()).unwrap();
            let value: Value = serde_json::from_str(&text).unwrap();
            let tag = value["properties"]["delivery_tag"].as_str().unwrap();
            for place in [&value["headers"]["id"], &value["headers"]["root_id"], &value["properties"]["correlation_id"]]
            {
                assert_eq!(place, id);
            }
            texts.push(text.replace(id, "I").replace(tag, "T"));
        }
        assert_eq!(texts[0], texts[1]);
        assert_eq!(texts[0], compose(&new, "I", "T"));
        assert_ne!(made[0].0, made[1].0);
    }

    #[test]
    fn ids_are_version_4_uuids() {
        let id = unique_id();
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
        assert!("89ab".contains(&id[19..20]), "{id}");
    }
}
