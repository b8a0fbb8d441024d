//! A JSON object whose values stay as they were written, in their order.
//!
//! Messages are changed (a retry counted, a redelivery marked) without touching a byte of the rest: numbers
//! keep their digits, keys their order, and Python's JSON dialect survives.

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Ordered keys with raw values.
#[derive(Debug, Default)]
pub struct Object<'a>(Vec<(String, Cow<'a, str>)>);

impl<'a> Object<'a> {
    /// Parses one JSON object.
    pub fn parse(json: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(json)
    }

    /// Raw JSON of a value.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_ref())
    }

    /// All keys with their raw JSON, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_ref()))
    }

    /// Replaces a value where it stands, or adds it at the end; `value` is JSON.
    pub fn set(&mut self, key: &str, value: String) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = Cow::Owned(value),
            None => self.0.push((key.to_owned(), Cow::Owned(value))),
        }
    }
}

impl fmt::Display for Object<'_> {
    /// JSON, with the separators of Python's `json.dumps`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (position, (key, value)) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{}: {value}", serde_json::Value::from(key.as_str()))?;
        }
        f.write_str("}")
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    members.push((key, Cow::Borrowed(value.get())));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untouched_values_keep_every_byte() {
        let json = r#"{"b": 1e400, "a": {"x" :  [ ]}, "n": 12345678901234567890123, "u": "\u00e4"}"#;
        let mut object = Object::parse(json).unwrap();
        assert_eq!(object.to_string(), json);
        object.set("a", "null".into());
        object.set("z", "true".into());
        assert_eq!(
            object.to_string(),
            r#"{"b": 1e400, "a": null, "n": 12345678901234567890123, "u": "\u00e4", "z": true}"#
        );
    }
}
