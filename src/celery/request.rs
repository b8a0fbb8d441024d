//! A command broadcast to workers (`kombu/pidbox.py`), and the reply to it. Pure.

use super::pattern;
use crate::message::compose::unique_id;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Named arguments of a command.
pub type Arguments = Map<String, Value>;

/// A command for one, some or all workers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Request {
    /// Name of the command.
    pub method: String,
    /// Its arguments.
    #[serde(deserialize_with = "or_default")]
    pub arguments: Arguments,
    destination: Value,
    pattern: Option<String>,
    matcher: Option<String>,
    /// Where a reply is awaited, if one is.
    pub reply_to: Option<ReplyTo>,
    ticket: Value,
    /// Lamport clock of the sender.
    #[serde(skip)]
    pub clock: u64,
    /// Until when the sender waits, seconds since 1970; 0 = for ever.
    #[serde(skip)]
    pub expires: f64,
}

/// Exchange and routing key by which the sender's queue is bound.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ReplyTo {
    /// `reply.celery.pidbox`
    pub exchange: String,
    /// The sender's own.
    pub routing_key: String,
}

#[derive(Deserialize)]
struct Envelope {
    body: String,
    #[serde(rename = "content-type", default)]
    content_type: String,
    #[serde(default)]
    headers: Value,
    #[serde(default)]
    properties: Value,
}

fn or_default<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Arguments, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Request {
    /// Reads what was published; none for what is no command or not JSON, which is all kombu accepts by default.
    pub fn parse(raw: &[u8]) -> Option<Request> {
        let envelope: Envelope = serde_json::from_slice(raw).ok()?;
        if envelope.content_type != "application/json" {
            return None;
        }
        let body = match envelope.properties["body_encoding"].as_str() {
            Some("base64") => STANDARD.decode(&envelope.body).ok()?,
            _ => envelope.body.into_bytes(),
        };
        let mut request: Request = serde_json::from_slice(&body).ok()?;
        request.clock = envelope.headers["clock"].as_u64().unwrap_or(0);
        request.expires = envelope.headers["expires"].as_f64().unwrap_or(0.0);
        Some(request)
    }

    /// Whether a node is meant (`kombu/pidbox.py`, `handle_message`).
    pub fn is_for(&self, node: &str) -> bool {
        match &self.destination {
            Value::Array(names) if !names.is_empty() => return names.iter().any(|name| name == node),
            Value::String(names) if !names.is_empty() => return names.contains(node),
            _ => {}
        }
        match (self.pattern.as_deref(), self.matcher.as_deref()) {
            (Some(pattern), Some(matcher)) if !pattern.is_empty() && !matcher.is_empty() => match matcher {
                "glob" => pattern::fits(pattern, node),
                "pcre" => pattern::begins(pattern, node),
                _ => false, // kombu raises an exception, and nobody answers
            },
            _ => true,
        }
    }

    /// Whether it goes to whoever hears it, without a choice.
    pub fn is_for_everyone(&self) -> bool {
        let named = match &self.destination {
            Value::Array(names) => !names.is_empty(),
            Value::String(names) => !names.is_empty(),
            _ => false,
        };
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        !(named || given(&self.pattern) && given(&self.matcher))
    }

    /// The reply of a node, ready to be pushed; none if nobody waits for it, or not any more. `now` in seconds since
    /// 1970.
    pub fn reply(&self, node: &str, value: &Value, clock: u64, now: f64) -> Option<(&ReplyTo, String)> {
        let to = self.reply_to.as_ref().filter(|_| self.expires <= 0.0 || now <= self.expires)?;
        let headers = json!({"ticket": self.ticket, "clock": clock});
        let info = json!({"exchange": to.exchange, "routing_key": to.routing_key});
        Some((to, envelope(&json!({node: value}), &headers, &info)))
    }
}

/// A command for all workers, ready to be published.
pub fn broadcast(method: &str, arguments: &Arguments) -> String {
    let body = json!({"method": method, "arguments": arguments, "destination": null, "pattern": null, "matcher": null});
    envelope(&body, &json!({"clock": 1, "expires": 0}), &json!({"exchange": "celery.pidbox", "routing_key": ""}))
}

fn envelope(body: &Value, headers: &Value, delivery_info: &Value) -> String {
    json!({
        "body": STANDARD.encode(body.to_string()),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {"delivery_mode": 1, "delivery_info": delivery_info, "priority": 0,
            "body_encoding": "base64", "delivery_tag": unique_id()},
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(members: Value) -> Request {
        let raw = envelope(&members, &json!({"clock": 7, "expires": 100.0}), &json!({}));
        Request::parse(raw.as_bytes()).unwrap()
    }

    #[test]
    fn who_is_meant() {
        let cases = [
            (json!({"method": "ping"}), true),
            (json!({"method": "ping", "destination": null, "pattern": null, "matcher": null}), true),
            (json!({"method": "ping", "destination": []}), true),
            (json!({"method": "ping", "destination": ["b@vm", "a@vm"]}), true),
            (json!({"method": "ping", "destination": ["b@vm"]}), false),
            (json!({"method": "ping", "pattern": "a@*", "matcher": "glob"}), true),
            (json!({"method": "ping", "pattern": "b@*", "matcher": "glob"}), false),
            (json!({"method": "ping", "pattern": "a.*", "matcher": "pcre"}), true),
            (json!({"method": "ping", "pattern": "vm", "matcher": "pcre"}), false),
            (json!({"method": "ping", "pattern": "(", "matcher": "pcre"}), false),
            (json!({"method": "ping", "pattern": "a@*", "matcher": "sql"}), false),
        ];
        for (members, expected) in cases {
            assert_eq!(request(members.clone()).is_for("a@vm"), expected, "{members}");
        }
        assert!(request(json!({"method": "ping", "destination": [], "pattern": "a"})).is_for_everyone());
        assert!(!request(json!({"method": "ping", "destination": ["a@vm"]})).is_for_everyone());
        assert!(!request(json!({"method": "ping", "pattern": "*", "matcher": "glob"})).is_for_everyone());
    }

    #[test]
    fn a_reply_carries_the_ticket_and_goes_where_it_is_awaited() {
        let to = json!({"exchange": "reply.celery.pidbox", "routing_key": "oid"});
        let asked = request(json!({"method": "ping", "arguments": null, "ticket": "t", "reply_to": to}));
        assert_eq!((asked.clock, asked.arguments.len()), (7, 0));
        let (to, reply) = asked.reply("a@vm", &json!({"ok": "pong"}), 8, 99.0).unwrap();
        assert_eq!((to.exchange.as_str(), to.routing_key.as_str()), ("reply.celery.pidbox", "oid"));
        let reply: Value = serde_json::from_str(&reply).unwrap();
        assert_eq!(reply["headers"], json!({"ticket": "t", "clock": 8}));
        let body = STANDARD.decode(reply["body"].as_str().unwrap()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), json!({"a@vm": {"ok": "pong"}}));
        assert!(asked.reply("a@vm", &Value::Null, 8, 101.0).is_none(), "nobody waits any more");
        assert!(request(json!({"method": "ping"})).reply("a@vm", &Value::Null, 8, 0.0).is_none());
    }

    #[test]
    fn what_is_no_command_is_none() {
        let good = broadcast("ping", &Arguments::new());
        assert!(Request::parse(good.as_bytes()).is_some());
        let other = good.replace("application/json", "application/x-yaml");
        let no_base64 = good.replace("\"body\":\"", "\"body\":\"*");
        let typed = envelope(&json!({"method": 7}), &Value::Null, &Value::Null);
        let deep = format!("{{\"body\": {}", "[".repeat(1000));
        for bad in ["", "[]", "{}", &good[1..], &good[..good.len() - 1], &other, &no_base64, &typed, &deep] {
            assert!(Request::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
