//! `revoke` and `terminate`: tasks taken back, and, if asked for, ended (`celery/worker/control.py`). Pure.

use super::python::quoted;
use super::request::Arguments;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Tasks to take back.
#[derive(Debug, PartialEq)]
pub struct Revocation {
    /// Their ids.
    pub ids: Vec<String>,
    /// The signal for those that run; none if these are left alone.
    pub terminate: Option<Signal>,
}

impl Revocation {
    /// Reads a command; `None` if it takes nothing back.
    ///
    /// # Errors
    /// `repr()` of the exception Celery would answer with.
    pub fn of(method: &str, arguments: &Arguments) -> Option<Result<Revocation, String>> {
        let terminate = match method {
            "revoke" => arguments.get("terminate").is_some_and(is_true),
            "terminate" => true,
            _ => return None,
        };
        Some(Revocation::read(arguments, terminate))
    }

    fn read(arguments: &Arguments, terminate: bool) -> Result<Revocation, String> {
        let text = |id: &Value| id.as_str().map(str::to_owned).ok_or_else(|| format!("TypeError('task_id: {id}')"));
        let mut ids = match arguments.get("task_id") {
            Some(Value::Array(ids)) => ids.iter().map(text).collect::<Result<Vec<_>, _>>()?,
            Some(Value::Null) | None => Vec::new(),
            Some(id) => vec![text(id)?],
        };
        ids.sort();
        ids.dedup();
        let signal = match arguments.get("signal").filter(|_| terminate) {
            Some(Value::String(name)) => signal(name)?,
            Some(Value::Number(number)) => signal(&number.to_string())?,
            _ => Signal::SIGTERM,
        };
        Ok(Revocation { ids, terminate: terminate.then_some(signal) })
    }

    /// The arguments of the command `revoke`.
    pub fn arguments(&self) -> Arguments {
        let mut arguments = Arguments::new();
        arguments.insert("task_id".to_owned(), json!(self.ids));
        arguments.insert("terminate".to_owned(), json!(self.terminate.is_some()));
        arguments.insert("signal".to_owned(), json!(self.terminate.map(Signal::as_str)));
        arguments
    }

    /// What a worker answers that has ended these of the tasks, in Celery's words.
    pub fn answer(&self, ended: &[String]) -> Value {
        json!({"ok": match self.terminate {
            None => format!("tasks {} flagged as revoked", set(&self.ids)),
            Some(_) if ended.is_empty() => "terminate: tasks unknown".to_owned(),
            Some(_) => format!("terminate: {}", ended.join(", ")),
        }})
    }
}

/// A signal by its name, with or without `SIG`, or by its number.
///
/// # Errors
/// `repr()` of a `ValueError`.
pub fn signal(name: &str) -> Result<Signal, String> {
    let named = || format!("SIG{}", name.strip_prefix("SIG").unwrap_or(name)).parse().ok();
    let numbered = |number: i32| Signal::try_from(number).ok();
    let found = name.parse().map_or_else(|_| named(), numbered);
    found.ok_or_else(|| format!("ValueError({})", quoted(&format!("no such signal: {name}"))))
}

/// Truth as in Python: Flower sends 1 and 0.
pub fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        _ => false,
    }
}

/// `repr()` of a set of texts.
fn set(ids: &[String]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| quoted(id)).collect();
    if ids.is_empty() { "set()".to_owned() } else { format!("{{{}}}", ids.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, arguments: Value) -> Option<Result<Revocation, String>> {
        Revocation::of(method, arguments.as_object().unwrap())
    }

    fn revocation(ids: &[&str], terminate: Option<Signal>) -> Revocation {
        Revocation { ids: ids.iter().map(|&id| id.to_owned()).collect(), terminate }
    }

    #[test]
    fn as_celerys_tools_send_it() {
        let read = |method, arguments| read(method, arguments).unwrap().unwrap();
        let plain = json!({"task_id": "a", "terminate": false, "signal": "SIGTERM"});
        assert_eq!(read("revoke", plain), revocation(&["a"], None));
        let flower = json!({"task_id": "a", "terminate": 1, "signal": "SIGKILL"});
        assert_eq!(read("revoke", flower), revocation(&["a"], Some(Signal::SIGKILL)));
        let list = json!({"task_id": ["b", "a", "b"], "terminate": true, "signal": null});
        assert_eq!(read("revoke", list), revocation(&["a", "b"], Some(Signal::SIGTERM)));
        let command = json!({"task_id": ["a"], "signal": "KILL"});
        assert_eq!(read("terminate", command), revocation(&["a"], Some(Signal::SIGKILL)));
        let own = revocation(&["a"], Some(Signal::SIGHUP));
        assert_eq!(Revocation::of("revoke", &own.arguments()), Some(Ok(own)));
    }

    #[test]
    fn what_it_is_not() {
        assert_eq!(read("ping", json!({})), None);
        for bad in [json!({"task_id": 7}), json!({"task_id": ["a", {}]}), json!({"task_id": "a", "signal": "LOUD"})] {
            assert!(read("terminate", bad.clone()).unwrap().is_err(), "{bad}");
        }
        assert!(signal("0").is_err() && signal("").is_err() && signal("9").is_ok());
    }

    #[test]
    fn answers_are_celerys() {
        let ok = |revocation: &Revocation, ended: &[&str]| {
            let ended: Vec<String> = ended.iter().map(|&id| id.to_owned()).collect();
            revocation.answer(&ended)["ok"].as_str().unwrap().to_owned()
        };
        assert_eq!(ok(&revocation(&["a", "b"], None), &[]), "tasks {'a', 'b'} flagged as revoked");
        let terminate = revocation(&["a"], Some(Signal::SIGTERM));
        assert_eq!(ok(&terminate, &["a"]), "terminate: a");
        assert_eq!(ok(&terminate, &[]), "terminate: tasks unknown");
    }
}
