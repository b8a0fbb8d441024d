//! Values as Python shows them, for answers in Celery's words. Pure.

use serde_json::Value;

/// Longest text of a result in an event (`celery/app/task.py`, `resultrepr_maxsize`), in characters.
const RESULT: usize = 1024;

/// `repr()` of a text, near enough for people.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// `repr()` of what was read from JSON.
pub fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(repr).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| format!("{}: {}", quoted(key), repr(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
    }
}

/// `repr()` of what a JSON text is in Python, cut where Celery would cut a result.
pub fn result(json: &str) -> String {
    let text = serde_json::from_str(json).map_or_else(|_| json.to_owned(), |value| repr(&value));
    match text.char_indices().nth(RESULT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The bytes as Celery tells them: `17.25MB` (`celery/utils/debug.py`, `humanbytes`).
pub fn bytes(bytes: u64) -> String {
    let units = [("TB", 40), ("GB", 30), ("MB", 20), ("KB", 10)];
    match units.into_iter().find(|(_, power)| bytes >= 1 << power) {
        Some((unit, power)) => format!("{:.2}{unit}", bytes as f64 / f64::from(power).exp2()),
        None => format!("{bytes}b"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn as_python_shows_them() {
        assert_eq!(repr(&json!({"a": [1, null, true, "it's"]})), r"{'a': [1, None, True, 'it\'s']}");
        assert_eq!(result(&format!("\"{}\"", "ä".repeat(2000))).chars().count(), RESULT + 3);
        assert_eq!([bytes(17), bytes(1536), bytes(5 << 20)], ["17b", "1.50KB", "5.00MB"]);
    }
}
