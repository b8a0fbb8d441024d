//! What stands at a key, in the file or in a variable, and how it becomes a value of the type the key wants.

use super::problem::Complaint;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use toml::{Table, Value};

/// What stands at a key.
pub(super) enum Written {
    /// In the file.
    Value(Value),
    /// In an environment variable: bare text, read as the key's type demands.
    Text(String),
}

impl Written {
    /// As it is shown in a problem: in one line, and short.
    pub(super) fn shown(&self) -> String {
        const LONGEST: usize = 80;
        let text = match self {
            Written::Value(value) => show(value),
            Written::Text(text) => format!("{text:?}"),
        };
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }

    pub(super) fn is_text(&self, word: &str) -> bool {
        match self {
            Written::Value(Value::String(text)) | Written::Text(text) => text == word,
            Written::Value(_) => false,
        }
    }

    pub(super) fn is_table(&self) -> bool {
        match self {
            Written::Value(value) => value.is_table(),
            Written::Text(text) => text.trim_start().starts_with('{'),
        }
    }

    /// The number, if it is one without quotes; a variable has no quotes to leave out.
    pub(super) fn bare_number(&self) -> Option<i64> {
        match self {
            Written::Value(Value::Integer(number)) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn string(self) -> Result<String, Complaint> {
        match self {
            Written::Value(Value::String(text)) | Written::Text(text) => Ok(text),
            Written::Value(other) => {
                Err(Complaint::new(format!("is {}, not a string", kind(&other)), "write it in quotes"))
            }
        }
    }

    pub(super) fn integer(self, range: &RangeInclusive<u64>, remedy: &str) -> Result<u64, Complaint> {
        let number = match &self {
            Written::Value(Value::Integer(number)) => Some(i128::from(*number)),
            Written::Text(text) => text.trim().parse().ok(),
            Written::Value(_) => None,
        };
        let Some(number) = number else {
            return Err(Complaint::new("is not a whole number", remedy));
        };
        let reason = || format!("is not between {} and {}", range.start(), range.end());
        u64::try_from(number)
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| Complaint::new(reason(), remedy))
    }

    pub(super) fn boolean(self) -> Result<bool, Complaint> {
        match self {
            Written::Value(Value::Boolean(yes)) => Ok(yes),
            other if other.is_bare("true") => Ok(true),
            other if other.is_bare("false") => Ok(false),
            _ => Err(Complaint::new("is neither true nor false", "write true or false, without quotes")),
        }
    }

    fn is_bare(&self, word: &str) -> bool {
        matches!(self, Written::Text(text) if text == word)
    }

    /// A program and its arguments: anything but NUL.
    pub(super) fn argv(self) -> Result<Vec<String>, Complaint> {
        if matches!(self, Written::Value(Value::String(_))) {
            let remedy =
                "write the program and its arguments as a list, [\"program\", \"argument\"]: there is no shell";
            return Err(Complaint::new("is a string, not a list", remedy));
        }
        let argv = self.list_of_strings()?;
        match argv.iter().any(|word| word.contains('\0')) {
            true => Err(Complaint::new("holds a NUL", "take it out")),
            false => Ok(argv),
        }
    }

    /// A list of strings without control characters.
    pub(super) fn list(self) -> Result<Vec<String>, Complaint> {
        self.list_of_strings()?.into_iter().map(plain).collect()
    }

    /// A list of strings; in a variable a TOML array or words with commas between.
    fn list_of_strings(self) -> Result<Vec<String>, Complaint> {
        let wrong = |reason: String| Complaint::new(reason, "write a list of strings: [\"one\", \"two\"]");
        let value = match self {
            Written::Value(value) => value,
            Written::Text(text) if text.trim_start().starts_with('[') => in_toml(&text).map_err(wrong)?,
            Written::Text(text) => Value::Array(text.split(',').map(|word| Value::from(word.trim())).collect()),
        };
        let Value::Array(items) = value else {
            return Err(wrong(format!("is {}, not a list", kind(&value))));
        };
        let string = |(at, item): (usize, Value)| match item {
            Value::String(text) => Ok(text),
            other => Err(wrong(format!("item {} is {}, not a string", at + 1, kind(&other)))),
        };
        items.into_iter().enumerate().map(string).collect()
    }

    /// Any value; in a variable as TOML.
    pub(super) fn toml(self) -> Result<Value, Complaint> {
        match self {
            Written::Value(value) => Ok(value),
            Written::Text(text) => {
                in_toml(&text).map_err(|reason| Complaint::new(reason, "write it as in the file, or as a table"))
            }
        }
    }

    /// Names and values that `execve` can carry; in a variable a TOML table.
    pub(super) fn variables(self) -> Result<BTreeMap<String, String>, Complaint> {
        let wrong = |reason: String| Complaint::new(reason, "write a table of strings: { NAME = \"value\" }");
        let value = match self {
            Written::Value(value) => value,
            Written::Text(text) => in_toml(&text).map_err(wrong)?,
        };
        let Value::Table(table) = value else {
            return Err(wrong(format!("is {}, not a table", kind(&value))));
        };
        let pair = |(name, value): (String, Value)| match value {
            _ if name.is_empty() || name.contains(['=', '\0']) => {
                Err(wrong(format!("{name:?} can't be the name of a variable")))
            }
            Value::String(value) if value.contains('\0') => Err(wrong(format!("the value of {name} holds a NUL"))),
            Value::String(value) => Ok((name, value)),
            other => Err(wrong(format!("the value of {name} is {}, not a string", kind(&other)))),
        };
        table.into_iter().map(pair).collect()
    }
}

/// Refuses what can't be seen and therefore was hardly meant.
pub(super) fn plain(text: String) -> Result<String, Complaint> {
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(Complaint::new(format!("holds the control character {c:?}"), "take it out")),
        None => Ok(text),
    }
}

/// The value, if it is in the range; else a complaint in the key's own unit.
pub(super) fn within<T: PartialOrd + Copy>(
    value: T,
    range: &RangeInclusive<T>,
    show: impl Fn(T) -> String,
) -> Result<T, Complaint> {
    if range.contains(&value) {
        return Ok(value);
    }
    let (least, most) = (show(*range.start()), show(*range.end()));
    Err(Complaint::new(
        format!("is not between {least} and {most}"),
        format!("write a value from \"{least}\" to \"{most}\""),
    ))
}

/// Reads the text of a variable as a TOML value. The parser's own words are left out: they may quote a secret.
fn in_toml(text: &str) -> Result<Value, String> {
    let table: Option<Table> = toml::from_str(&format!("value = {text}")).ok();
    table.and_then(|mut table| table.remove("value")).ok_or_else(|| "is not TOML".to_owned())
}

/// The kind of a value, with its article.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date or time",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(yes) => yes.to_string(),
        Value::Datetime(time) => time.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Value::Table(_) => "{…}".to_owned(),
    }
}
