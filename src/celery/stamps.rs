//! `revoke_by_stamped_headers`: tasks taken back by what their senders have stamped on them. Pure.
//!
//! A stamp is kept where ids of revoked tasks are, as an id nobody has: so it outlives workers, and each learns of it
//! in time, in the same way.

use super::python;
use super::request::Arguments;
use super::revocation::{is_true, signal};
use crate::broker::revoked::STAMP;
use crate::message::object::Object;
use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};

/// Stamps whose tasks are taken back.
#[derive(Debug, PartialEq)]
pub struct Stamping {
    /// Values, or one value, by header.
    headers: Map<String, Value>,
    /// The signal for those that run; none if these are left alone.
    pub terminate: Option<Signal>,
}

impl Stamping {
    /// Reads a command; `None` if it is another.
    ///
    /// # Errors
    /// `repr()` of the exception Celery would answer with.
    pub fn of(method: &str, arguments: &Arguments) -> Option<Result<Stamping, String>> {
        (method == "revoke_by_stamped_headers").then(|| Stamping::read(arguments))
    }

    fn read(arguments: &Arguments) -> Result<Stamping, String> {
        let bad = || "TypeError('headers: a mapping, or a list of key=value')".to_owned();
        let headers = match arguments.get("headers") {
            Some(Value::Object(headers)) => headers.clone(),
            Some(Value::Array(pairs)) => {
                let pair = |pair: &Value| {
                    let (key, value) = pair.as_str()?.split_once('=')?;
                    Some((key.to_owned(), Value::from(value)))
                };
                pairs.iter().map(|one| pair(one).ok_or_else(bad)).collect::<Result<_, _>>()?
            }
            _ => return Err(bad()),
        };
        let signal = match arguments.get("signal") {
            Some(Value::String(name)) => signal(name)?,
            Some(Value::Number(number)) => signal(&number.to_string())?,
            _ => Signal::SIGTERM,
        };
        let terminate = arguments.get("terminate").is_some_and(is_true).then_some(signal);
        Ok(Stamping { headers, terminate })
    }

    /// Each stamp as it is kept among the revoked ids.
    pub fn marks(&self) -> Vec<String> {
        self.headers.iter().flat_map(|(header, values)| all(values).map(|value| mark(header, value))).collect()
    }

    /// What a worker answers that has ended tasks with these marks.
    pub fn answer(&self, ended: &[String]) -> Value {
        let told = python::repr(&Value::Object(self.headers.clone()));
        if self.terminate.is_none() {
            return json!({"ok": format!("headers {told} flagged as revoked, but not terminated")});
        }
        if ended.is_empty() {
            return json!({"ok": format!("headers {told} were not terminated")});
        }
        let found = |(header, values): (&String, &Value)| {
            let values = all(values).filter(|value| ended.contains(&mark(header, value)));
            let values: Vec<String> = values.map(python::repr).collect();
            (!values.is_empty()).then(|| format!("{}: {{{}}}", python::quoted(header), values.join(", ")))
        };
        let found: Vec<String> = self.headers.iter().filter_map(found).collect();
        json!({"ok": format!("headers defaultdict(<class 'set'>, {{{}}}) revoked", found.join(", "))})
    }
}

/// Stamps of a message, as they are kept when revoked (`celery/worker/request.py`, `Request.revoked`).
pub fn of_headers(headers: &str) -> Vec<String> {
    let parsed = |key| Object::parse(headers).ok()?.get(key).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let (Some(Value::Array(names)), Some(stamps)) = (parsed("stamped_headers"), parsed("stamps")) else {
        return Vec::new();
    };
    let names = names.iter().filter_map(Value::as_str);
    names.flat_map(|name| all(&stamps[name]).map(move |value| mark(name, value))).collect()
}

/// The values of a list; anything else is one value, and nothing is none.
fn all(values: &Value) -> impl Iterator<Item = &Value> {
    let (list, one) = match values {
        Value::Array(list) => (&list[..], None),
        Value::Null => (&[][..], None),
        one => (&[][..], Some(one)),
    };
    list.iter().chain(one)
}

fn mark(header: &str, value: &Value) -> String {
    format!("{STAMP}{header}{STAMP}{value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamping(arguments: Value) -> Result<Stamping, String> {
        Stamping::of("revoke_by_stamped_headers", arguments.as_object().unwrap()).unwrap()
    }

    #[test]
    fn stamps_are_found_whether_one_or_many() {
        let headers = json!({"stamped_headers": ["a", "b", "c"], "stamps": {"a": ["x", "y"], "b": 1, "d": "z"}});
        let found = of_headers(&headers.to_string());
        let wanted = |headers: Value| stamping(json!({"headers": headers})).unwrap().marks();
        assert_eq!(found, wanted(json!({"a": ["x", "y"], "b": 1})));
        assert_eq!(wanted(json!(["a=x"])), found[..1]);
        assert_ne!(wanted(json!({"b": "1"})), found[2..]);
        assert!(of_headers(r#"{"stamped_headers": null, "stamps": {}}"#).is_empty());
        for bad in [json!({}), json!({"headers": 7}), json!({"headers": ["a"]}), json!({"headers": {}, "signal": "?"})]
        {
            assert!(stamping(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn answers_are_celerys() {
        let wanted = |terminate| stamping(json!({"headers": {"a": ["x", "y"]}, "terminate": terminate})).unwrap();
        let ok = |stamping: &Stamping, ended: &[String]| stamping.answer(ended)["ok"].as_str().unwrap().to_owned();
        let marks = wanted(true).marks();
        let flagged = "headers {'a': ['x', 'y']} flagged as revoked, but not terminated";
        assert_eq!(ok(&wanted(false), &marks), flagged);
        assert_eq!(ok(&wanted(true), &[]), "headers {'a': ['x', 'y']} were not terminated");
        assert_eq!(ok(&wanted(true), &marks[..1]), "headers defaultdict(<class 'set'>, {'a': {'x'}}) revoked");
    }
}
