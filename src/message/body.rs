//! The body of a task: `[args, kwargs, embed]` (protocol 2) or one mapping (protocol 1). JSON only; every other
//! serializer is the application's Python's business.

use super::object::Object;
use super::{Malformed, Message};
use serde_json::value::RawValue;

/// Arguments of a task, as JSON, byte for byte.
#[derive(Debug, Clone, PartialEq)]
pub struct Arguments {
    /// Positional arguments: a JSON array.
    pub args: String,
    /// Keyword arguments: a JSON object.
    pub kwargs: String,
    /// The message has a callback, errback, chain or chord, which only Celery can go on with.
    pub canvas: bool,
}

/// Reads the arguments out of a JSON body.
///
/// # Errors
/// [`Malformed`] where the body is compressed, not JSON, or not a triple.
pub fn arguments(message: &Message) -> Result<Arguments, Malformed> {
    if message.content_type != "application/json" {
        return Err(Malformed::Unreadable(message.content_type.clone()));
    }
    if let Some(compression) = &message.headers.compression {
        return Err(Malformed::Unreadable(format!("a body compressed with {compression}")));
    }
    let body = message.body()?;
    let (args, kwargs, embed): (&RawValue, &RawValue, Option<Object>) =
        serde_json::from_slice(&body).map_err(Malformed::Body)?;
    let embed = embed.unwrap_or_default();
    let canvas = ["callbacks", "errbacks", "chain", "chord"].iter().any(|key| !is_empty(embed.get(key)));
    Ok(Arguments { args: args.get().to_owned(), kwargs: kwargs.get().to_owned(), canvas })
}

fn is_empty(json: Option<&str>) -> bool {
    matches!(json, None | Some("null") | Some("[]"))
}

/// Headers and body of protocol 2, both JSON, made of a body of protocol 1.
///
/// `own_headers` are the envelope's: empty when the producer wrote them, but a retry counted there wins.
pub(super) fn from_protocol_1(body: &[u8], own_headers: &str) -> Result<(String, String), Malformed> {
    let body = std::str::from_utf8(body)
        .map_err(|error| Malformed::Body(serde::de::Error::custom(format!("not UTF-8: {error}"))))?;
    let object = Object::parse(body).map_err(Malformed::Body)?;
    let own = Object::parse(own_headers).map_err(Malformed::Headers)?;
    let raw = |key: &str| object.get(key);
    let required = |key: &str| {
        raw(key).ok_or_else(|| Malformed::Body(serde::de::Error::custom(format!("protocol 1 without {key:?}"))))
    };
    let mut headers = Object::default();
    headers.set("lang", r#""py""#.into());
    headers.set("task", required("task")?.into());
    headers.set("id", required("id")?.into());
    for key in ["eta", "expires", "retries", "timelimit", "group_index"] {
        headers.set(key, own.get(key).or(raw(key)).unwrap_or("null").into());
    }
    headers.set("group", raw("group").filter(|group| *group != "null").or(raw("taskset")).unwrap_or("null").into());
    headers.set("root_id", required("id")?.into());
    let embed = |key: &str| raw(key).unwrap_or("null");
    let body = format!(
        r#"[{}, {}, {{"callbacks": {}, "errbacks": {}, "chain": null, "chord": {}}}]"#,
        raw("args").unwrap_or("[]"),
        raw("kwargs").unwrap_or("{}"),
        embed("callbacks"),
        embed("errbacks"),
        embed("chord")
    );
    Ok((headers.to_string(), body))
}
