//! Whose task a message is. Pure.

pub mod discovery;
pub mod flow;
pub mod policy;

use crate::config::Tenancy;
use crate::message::Message;
use crate::message::body::Arguments;
use crate::message::object::Object;
use discovery::Name;
use serde_json::value::RawValue;

/// The tenant of a message: the configured header, else the named argument, by keyword or by its position among
/// the task's `parameters` (without the `self` of a bound task). `None` where nothing says it.
pub fn tenant(
    tenancy: &Tenancy,
    message: &Message,
    arguments: Option<&Arguments>,
    parameters: &[String],
) -> Option<String> {
    let find = |json: &str, key: &str| Object::parse(json).ok().and_then(|object| object.get(key).and_then(plain));
    let header = tenancy.header.as_ref().and_then(|name| find(message.headers_json(), name));
    header.or_else(|| {
        let (name, arguments) = (tenancy.parameter.as_ref()?, arguments?);
        find(&arguments.kwargs, name).or_else(|| {
            let position = parameters.iter().position(|parameter| parameter == name)?;
            let args: Vec<&RawValue> = serde_json::from_str(&arguments.args).ok()?;
            args.get(position).and_then(|value| plain(value.get()))
        })
    })
}

/// Headers of Celery's own (`celery/app/amqp.py`, `as_task_v2`), and what tracing libraries add: they name nobody.
const NO_TENANT: [&str; 24] = [
    "lang",
    "task",
    "id",
    "shadow",
    "eta",
    "expires",
    "group",
    "group_index",
    "retries",
    "timelimit",
    "root_id",
    "parent_id",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "ignore_result",
    "replaced_task_nesting",
    "stamped_headers",
    "stamps",
    "compression",
    "priority",
    "correlation_id",
    "traceparent",
    "sentry-trace",
];

/// Longest value that may be somebody's id, bytes.
const VALUE_MAX: usize = 200;

/// All that might say whose a message is: named arguments, arguments by position among the task's `parameters`, and
/// headers, with their values.
pub fn named(message: &Message, arguments: Option<&Arguments>, parameters: &[String]) -> Vec<(Name, String)> {
    let mut named = Vec::new();
    let mut add = |name: Name, json: &str| {
        named.extend(
            plain(json).filter(|value| !value.is_empty() && value.len() <= VALUE_MAX).map(|value| (name, value)),
        );
    };
    if let Ok(headers) = Object::parse(message.headers_json()) {
        for (name, json) in headers.iter().filter(|(name, _)| !NO_TENANT.contains(name)) {
            add(Name::Header(name.to_owned()), json);
        }
    }
    let Some(arguments) = arguments else { return named };
    if let Ok(kwargs) = Object::parse(&arguments.kwargs) {
        kwargs.iter().for_each(|(name, json)| add(Name::Parameter(name.to_owned()), json));
    }
    let args: Vec<&RawValue> = serde_json::from_str(&arguments.args).unwrap_or_default();
    for (name, value) in parameters.iter().zip(args) {
        add(Name::Parameter(name.clone()), value.get());
    }
    named
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant_of(header: Option<&str>, headers: &str, args: &str, kwargs: &str) -> Option<String> {
        let tenancy =
            Tenancy { parameter: Some("user_id".into()), header: header.map(Into::into), ..Tenancy::default() };
        let raw = format!(r#"{{"body": "", "headers": {headers}, "properties": {{}}}}"#);
        let message = Message::parse(raw.into_bytes()).unwrap();
        let arguments = Arguments { args: args.into(), kwargs: kwargs.into(), canvas: false };
        tenant(&tenancy, &message, Some(&arguments), &["job".into(), "user_id".into()])
    }

    #[test]
    fn header_then_keyword_then_position() {
        let headers = r#"{"task": "t", "id": "i", "x-user": "h"}"#;
        let all = |header| tenant_of(header, headers, r#"["j", 7]"#, r#"{"user_id": "k"}"#);
        assert_eq!(all(Some("x-user")).as_deref(), Some("h"));
        assert_eq!(all(Some("x-other")).as_deref(), Some("k"));
        assert_eq!(tenant_of(None, headers, r#"["j", 7]"#, "{}").as_deref(), Some("7"));
        assert_eq!(tenant_of(None, headers, r#"["j", 1.50]"#, "{}").as_deref(), Some("1.50"));
        assert_eq!(tenant_of(None, headers, r#"["j", null]"#, "{}"), None);
        assert_eq!(tenant_of(None, headers, r#"["j"]"#, "{}"), None);
    }

    #[test]
    fn all_that_may_say_it_is_named() {
        let headers = r#"{"task": "t", "id": "i", "root_id": "r", "x-user": "h", "flags": {"a": 1}}"#;
        let raw = format!(r#"{{"body": "", "headers": {headers}, "properties": {{}}}}"#);
        let message = Message::parse(raw.into_bytes()).unwrap();
        let arguments =
            Arguments { args: r#"["j", [1], 7]"#.into(), kwargs: r#"{"user": 8, "n": null}"#.into(), canvas: false };
        let parameters = ["job", "list", "page"].map(String::from);
        let parameter = |name: &str, value: &str| (Name::Parameter(name.into()), value.to_owned());
        let expected = [
            (Name::Header("x-user".into()), "h".to_owned()),
            parameter("user", "8"),
            parameter("job", "j"),
            parameter("page", "7"),
        ];
        assert_eq!(named(&message, Some(&arguments), &parameters), expected);
    }
}
