//! Whose task a message is. Pure.

use crate::config::Tenancy;
use crate::message::Message;
use crate::message::body::Arguments;
use crate::message::object::Object;

/// The tenant of a message: the configured header, else the named keyword argument. `None` where neither says it.
pub fn tenant(tenancy: &Tenancy, message: &Message, arguments: &Arguments) -> Option<String> {
    let find = |json: &str, key: &str| Object::parse(json).ok().and_then(|object| object.get(key).and_then(plain));
    let header = tenancy.header.as_ref().and_then(|name| find(message.headers_json(), name));
    header.or_else(|| tenancy.parameter.as_ref().and_then(|name| find(&arguments.kwargs, name)))
}

/// A JSON value as Python's `str()` shows it; null and containers name nobody.
fn plain(json: &str) -> Option<String> {
    match serde_json::from_str(json).ok()? {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Number(_) => Some(json.to_owned()),
        serde_json::Value::Bool(true) => Some("True".to_owned()),
        serde_json::Value::Bool(false) => Some("False".to_owned()),
        _ => None,
    }
}
