//! Results as Celery's Redis backend writes them (`celery/backends/base.py`, `_get_result_meta`), for tasks
//! that Celery doesn't run: `AsyncResult.get()` in Python can't tell the difference.

use crate::broker::Store;
use crate::config::Results;
use crate::message::{Message, time};
use crate::runner::Exception;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// State and content of a result.
#[derive(Debug)]
pub enum State<'a> {
    /// The value, JSON.
    Success(&'a RawValue),
    /// The task failed for good.
    Failure(&'a Exception, &'a str),
    /// The task failed and will be tried again.
    Retry(&'a Exception, &'a str),
    /// The task was not run.
    Revoked(&'a Exception),
}

/// The result of the task in `message`, ready to be stored; `now` in milliseconds since 1970.
pub fn store(results: &Results, message: &Message, state: &State, now: i64) -> Store {
    let (status, result, traceback) = match state {
        State::Success(value) => ("SUCCESS", value.get().to_owned(), None),
        State::Failure(exception, trace) => ("FAILURE", exception.to_json(), Some(*trace)),
        State::Retry(exception, trace) => ("RETRY", exception.to_json(), Some(*trace)),
        State::Revoked(exception) => ("REVOKED", exception.to_json(), None),
    };
    let date_done = if status == "RETRY" { Value::Null } else { time::format(now).into() };
    let headers = &message.headers;
    // The step script knows a final state by how the value begins, so the status stands first, as Celery writes it.
    let mut value = format!(
        r#"{{"status": "{status}", "result": {result}, "traceback": {}, "children": [], "date_done": {date_done}, "#,
        json!(traceback)
    );
    for (key, id) in [("group_id", &headers.group), ("parent_id", &headers.parent_id)] {
        if let Some(id) = id {
            value.push_str(&format!(r#""{key}": {}, "#, json!(id)));
        }
    }
    value.push_str(&format!(r#""task_id": {}}}"#, json!(headers.id)));
    Store {
        key: format!("{}celery-task-meta-{}", results.key_prefix, headers.id).into_bytes(),
        value: value.into_bytes(),
        ttl_ms: i64::try_from(results.expires.as_millis()).unwrap_or(0),
    }
}
