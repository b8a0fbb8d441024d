//! Values as Python's `repr()` shows them. Pure.

use serde_json::Value;

/// Longest text of a result in an event (`celery/app/task.py`, `resultrepr_maxsize`), in characters.
const RESULT: usize = 1024;

/// `repr()` of a text, near enough for people.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// `repr()` of what a JSON text is in Python, cut where Celery would cut a result.
pub fn of_result(json: &str) -> String {
    let text = serde_json::from_str(json).map_or_else(|_| json.to_owned(), |value| of(&value));
    match text.char_indices().nth(RESULT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn of(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(of).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| format!("{}: {}", quoted(key), of(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_python_shows_it() {
        assert_eq!(
            of_result(r#"{"a": [1, 2.5, null, true], "b": "it's"}"#),
            r"{'a': [1, 2.5, None, True], 'b': 'it\'s'}"
        );
        assert_eq!(of_result(&format!("\"{}\"", "ä".repeat(2000))).chars().count(), RESULT + 3);
    }
}
