//! Changes bytes and JSON as bad luck and bad programs do.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use serde_json::{Map, Value};

/// Stands for JSON that serde would not write; see [`raw`].
const MARK: &str = "\u{1}raw ";

/// JSON texts at the edges of what there is, good and bad.
const EXTREMES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-1",
    "1.5",
    "1e400",
    "-1e400",
    "1e19",
    "1e-400",
    "NaN",
    "Infinity",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "\"\"",
    "\" \"",
    "\"\\u0000\"",
    "\"a\\u0000b\"",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\"\u{10ffff}\"",
    "\"0\"",
    "\"null\"",
    "\"9999-12-31T23:59:59.999999+00:00\"",
    "\"10000-01-01T00:00:00\"",
    "\"0001-01-01T00:00:00\"",
    "\"-009999-01-01T00:00:00Z\"",
    "\"2031-02-30T25:61:61\"",
    "\"2031-01-01T00:00:00+99:99\"",
    "\"2031-01-01\"",
    "\"tomorrow\"",
    "\"2016-12-31T23:59:60Z\"",
    "[]",
    "[null]",
    "[null, null]",
    "[1, 2, 3]",
    "[1e19, 1e19]",
    "[-1, 0]",
    "[[[[[[]]]]]]",
    "{}",
    "{\"\": null}",
    "{\"task\": \"t\", \"id\": \"i\"}",
    "{\"deliveries\": 4294967295}",
    "{\"a\": 1, \"a\": 2}",
    "[",
    "{",
    "\"",
    "",
    "application/json",
    "\"application/json\"",
    "\"base64\"",
    "\"rot13\"",
    "\"application/x-gzip\"",
];

/// A text that stands for this JSON until [`text`] writes it.
fn raw(json: &str) -> Value {
    Value::String(format!("{MARK}{}", STANDARD.encode(json)))
}

/// JSON of a value, with what [`raw`] stands for.
fn text(value: &Value) -> String {
    let mut json = value.to_string();
    let mark = format!("\"{}", "\\u0001raw ");
    while let Some(start) = json.find(&mark) {
        let end = start + mark.len() + json[start + mark.len()..].find('"').unwrap();
        let inner = String::from_utf8(STANDARD.decode(&json[start + mark.len()..end]).unwrap()).unwrap();
        json.replace_range(start..=end, &inner);
    }
    json
}

fn extreme(random: &mut Rng) -> Value {
    match random.u8(..20) {
        0 => {
            let depth = [50, 126, 127, 128, 129, 1000, 20_000][random.usize(..7)];
            let (open, close) = [("[", "]"), ("{\"a\":", "}")][random.usize(..2)];
            raw(&format!(
                "{}null{}",
                open.repeat(depth),
                if random.bool() { close.repeat(depth) } else { String::new() }
            ))
        }
        1 => Value::String("x".repeat(random.usize(..100_000))),
        _ => raw(EXTREMES[random.usize(..EXTREMES.len())]),
    }
}

/// Changes one place of a value, however deep.
fn change(value: &mut Value, random: &mut Rng) {
    let inside = random.u8(..4) > 0;
    match value {
        Value::Object(members) if inside && !members.is_empty() => {
            let key = members.keys().nth(random.usize(..members.len())).unwrap().clone();
            match random.u8(..8) {
                0 => drop(members.remove(&key)),
                1 => {
                    let moved = members.remove(&key).unwrap();
                    members.insert(key.to_uppercase(), moved);
                }
                2 => drop(members.insert("unheard-of".to_owned(), extreme(random))),
                _ => change(members.get_mut(&key).unwrap(), random),
            }
        }
        Value::Array(items) if inside && !items.is_empty() => {
            let place = random.usize(..items.len());
            match random.u8(..5) {
                0 => drop(items.remove(place)),
                1 => items.insert(place, extreme(random)),
                _ => change(&mut items[place], random),
            }
        }
        Value::Object(members) if random.u8(..3) == 0 => {
            *value = Value::Array(members.values().cloned().collect());
        }
        Value::Array(items) if random.u8(..3) == 0 => {
            let named = |(place, item): (usize, &Value)| (place.to_string(), item.clone());
            *value = Value::Object(items.iter().enumerate().map(named).collect::<Map<_, _>>());
        }
        _ => *value = extreme(random),
    }
}

/// Flips, cuts, doubles and mixes bytes.
pub fn bytes(mut bytes: Vec<u8>, random: &mut Rng) -> Vec<u8> {
    for _ in 0..random.usize(1..6) {
        if bytes.is_empty() {
            return bytes;
        }
        let place = random.usize(..bytes.len());
        let end = random.usize(place..=bytes.len().min(place + 64));
        match random.u8(..7) {
            0 => bytes[place] ^= 1 << random.u8(..8),
            1 => bytes[place] = random.u8(..),
            2 => bytes.truncate(place),
            3 => drop(bytes.drain(place..end)),
            4 => bytes.insert(place, random.u8(..)),
            5 => bytes.extend_from_within(place..end),
            _ => bytes[place..end].reverse(),
        }
    }
    bytes
}

/// A message like `good`, whose body is `body`, with something wrong in it, mostly.
pub fn message(good: &Value, body: &Value, random: &mut Rng) -> Vec<u8> {
    let (mut message, mut body) = (good.clone(), body.clone());
    for _ in 0..random.usize(..3) {
        change(&mut body, random);
    }
    let mut body = text(&body).into_bytes();
    if random.u8(..8) == 0 {
        body = bytes(body, random);
    }
    message["body"] = Value::String(STANDARD.encode(body));
    for _ in 0..random.usize(..4) {
        change(&mut message, random);
    }
    let json = text(&message).into_bytes();
    if random.u8(..4) == 0 { bytes(json, random) } else { json }
}
