//! The envelope kombu puts around a task (`kombu/transport/virtual/base.py`), protocol 2 and 1.

use super::object::Object;
use super::{Malformed, body, octets};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::ops::Range;

/// A task message, parsed once.
#[derive(Debug)]
pub struct Message {
    /// The bytes as they came out of Redis.
    pub raw: Vec<u8>,
    /// What the daemon has to know.
    pub headers: Headers,
    /// MIME type of the decoded body.
    pub content_type: String,
    /// `utf-8` or `binary`.
    pub content_encoding: String,
    /// Times this message was handed out and came back without an end, counted by fairstalk.
    pub deliveries: u32,
    headers_json: Text,
    properties_json: Text,
    body: Text,
    base64: bool,
}

/// Either a part of the raw bytes or, where JSON escapes or protocol 1 forced it, a text of its own.
#[derive(Debug)]
enum Text {
    Part(Range<usize>),
    Own(String),
}

/// Headers of protocol 2 (`celery/app/amqp.py`, `as_task_v2`) that the daemon reads; all others pass through.
#[derive(Debug, Default, Deserialize, PartialEq)]
pub struct Headers {
    /// Registered task name.
    pub task: String,
    /// Task id: any text.
    pub id: String,
    /// Not before this time.
    #[serde(default)]
    pub eta: Option<String>,
    /// Not after this time.
    #[serde(default)]
    pub expires: Option<String>,
    /// Retries so far.
    #[serde(default)]
    pub retries: Option<u32>,
    /// `[hard, soft]` in seconds.
    #[serde(default)]
    pub timelimit: Option<(Option<f64>, Option<f64>)>,
    /// First task of the workflow.
    #[serde(default)]
    pub root_id: Option<String>,
    /// Task that sent this one.
    #[serde(default)]
    pub parent_id: Option<String>,
    /// Group it belongs to.
    #[serde(default)]
    pub group: Option<String>,
    /// Overrides the task's own setting where present.
    #[serde(default)]
    pub ignore_result: Option<bool>,
    /// MIME type of the compression of the body.
    #[serde(default)]
    pub compression: Option<String>,
}

impl Headers {
    /// Number of the attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.retries.unwrap_or(0).saturating_add(1)
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    body: Cow<'a, str>,
    #[serde(borrow, rename = "content-type", default)]
    content_type: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "content-encoding", default)]
    content_encoding: Option<Cow<'a, str>>,
    #[serde(borrow)]
    headers: &'a RawValue,
    #[serde(borrow)]
    properties: &'a RawValue,
}

#[derive(Deserialize)]
struct Properties<'a> {
    #[serde(borrow, default)]
    body_encoding: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    delivery_info: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct DeliveryInfo {
    #[serde(default)]
    deliveries: Option<u32>,
}

#[derive(Deserialize)]
struct HasTask<'a> {
    #[serde(borrow, default)]
    task: Option<&'a RawValue>,
}

impl Message {
    /// Parses what a producer has pushed.
    ///
    /// # Errors
    /// [`Malformed`] with the bytes given back, so that they can be kept.
    pub fn parse(raw: Vec<u8>) -> Result<Message, (Malformed, Vec<u8>)> {
        match parts(&raw) {
            Ok(parsed) => Ok(Message { raw, ..parsed }),
            Err(malformed) => Err((malformed, raw)),
        }
    }

    /// Headers as JSON.
    pub fn headers_json(&self) -> &str {
        self.text(&self.headers_json)
    }

    /// Properties as JSON.
    pub fn properties_json(&self) -> &str {
        self.text(&self.properties_json)
    }

    /// The body as the producer's serializer wrote it (still compressed if a header says so).
    ///
    /// # Errors
    /// [`Malformed::Base64`].
    pub fn body(&self) -> Result<Cow<'_, [u8]>, Malformed> {
        let mut body = Vec::new();
        if self.base64 {
            self.append_body(&mut body)?;
            return Ok(Cow::Owned(body));
        }
        Ok(Cow::Borrowed(self.bytes(&self.body)))
    }

    /// Most bytes that [`Message::append_body`] appends.
    pub fn body_len(&self) -> usize {
        let length = self.bytes(&self.body).len();
        if self.base64 { length / 4 * 3 } else { length }
    }

    /// Puts the body behind what is there already. Nothing is appended if that fails.
    ///
    /// # Errors
    /// [`Malformed::Base64`].
    pub fn append_body(&self, to: &mut Vec<u8>) -> Result<(), Malformed> {
        decode(self.bytes(&self.body), self.base64, to)
    }

    /// Priority, 0 the most urgent; what is no number is 0, as for kombu.
    pub fn priority(&self) -> i64 {
        let properties = Object::parse(self.properties_json()).unwrap_or_default();
        properties.get("priority").and_then(|priority| priority.parse().ok()).unwrap_or(0)
    }

    fn text<'a>(&'a self, text: &'a Text) -> &'a str {
        // The ranges were taken from a text parsed as JSON, so they are UTF-8.
        std::str::from_utf8(self.bytes(text)).unwrap_or_default()
    }

    fn bytes<'a>(&'a self, text: &'a Text) -> &'a [u8] {
        bytes_of(&self.raw, text)
    }
}

fn bytes_of<'a>(raw: &'a [u8], text: &'a Text) -> &'a [u8] {
    match text {
        Text::Part(range) => &raw[range.clone()],
        Text::Own(text) => text.as_bytes(),
    }
}

fn decode(body: &[u8], base64: bool, to: &mut Vec<u8>) -> Result<(), Malformed> {
    if base64 {
        return octets::append(body, to).map_err(Malformed::Base64);
    }
    to.extend_from_slice(body);
    Ok(())
}

fn parts(raw: &[u8]) -> Result<Message, Malformed> {
    let text = std::str::from_utf8(raw)
        .map_err(|error| Malformed::Envelope(serde::de::Error::custom(format!("not UTF-8: {error}"))))?;
    let envelope: Envelope = object(text).map_err(Malformed::Envelope)?;
    let properties: Properties = object(envelope.properties.get()).map_err(Malformed::Envelope)?;
    let info = properties.delivery_info.map_or(Ok(DeliveryInfo::default()), |info| object(info.get()));
    let info = info.map_err(Malformed::Envelope)?;
    let base64 = match properties.body_encoding.as_deref() {
        Some("base64") => true,
        None => false,
        Some(other) => return Err(Malformed::Encoding(other.to_owned())),
    };
    let body = match envelope.body {
        Cow::Borrowed(text) => Text::Part(range(raw, text)),
        Cow::Owned(text) => Text::Own(text),
    };
    let mut message = Message {
        raw: Vec::new(),
        headers: Headers::default(),
        content_type: envelope.content_type.unwrap_or(Cow::Borrowed("application/data")).into_owned(),
        content_encoding: envelope.content_encoding.unwrap_or(Cow::Borrowed("binary")).into_owned(),
        deliveries: info.deliveries.unwrap_or(0),
        headers_json: Text::Part(range(raw, envelope.headers.get())),
        properties_json: Text::Part(range(raw, envelope.properties.get())),
        body,
        base64,
    };
    let headers = envelope.headers.get();
    let probe: HasTask = object(headers).map_err(Malformed::Headers)?;
    if probe.task.is_some() {
        message.headers = serde_json::from_str(headers).map_err(Malformed::Headers)?;
    } else {
        protocol_1(&mut message, raw, headers)?;
    }
    Ok(message)
}

/// Parses a JSON object. Serde alone would take an array for a struct, too, which nobody could read again after a change.
fn object<'a, T: Deserialize<'a>>(json: &'a str) -> serde_json::Result<T> {
    match json.trim_start().starts_with('{') {
        true => serde_json::from_str(json),
        false => Err(serde::de::Error::custom("expected an object")),
    }
}

/// Protocol 1 has everything in the body (`celery/worker/strategy.py`, `proto1_to_proto2`).
fn protocol_1(message: &mut Message, raw: &[u8], own_headers: &str) -> Result<(), Malformed> {
    if message.content_type != "application/json" {
        return Err(Malformed::Unreadable(format!("a protocol 1 body of type {}", message.content_type)));
    }
    let mut body = Vec::new();
    decode(bytes_of(raw, &message.body), message.base64, &mut body)?;
    let (headers, body) = body::from_protocol_1(&body, own_headers)?;
    message.headers = serde_json::from_str(&headers).map_err(Malformed::Headers)?;
    message.headers_json = Text::Own(headers);
    message.body = Text::Own(body);
    message.base64 = false;
    Ok(())
}

/// Where `part`, which was borrowed from `whole`, stands in it.
fn range(whole: &[u8], part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
