//! The form of events, and of the messages they travel in (`celery/events/event.py`, `dispatcher.py`). Pure.

use crate::celery::Node;
use crate::message::compose::unique_id;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

/// Seconds between two heartbeats at most; Celery's default is two. They tell it to monitors, which take a node for dead that
/// is silent for twice as long (`celery/events/state.py`, `heartbeat_expires`). It is the time between two beats of the lease, so
/// that an idle worker wakes up for both at once.
pub const HEARTBEAT: f64 = 2.5;

/// Names of the fields that every node tells of itself.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Software {
    sw_ident: &'static str,
    sw_ver: &'static str,
    sw_sys: &'static str,
}

/// This program.
pub const SOFTWARE: Software = Software { sw_ident: "fairstalk", sw_ver: env!("CARGO_PKG_VERSION"), sw_sys: "Linux" };

/// Fields of `worker-online`, `worker-heartbeat` and `worker-offline`.
#[derive(Debug, Serialize)]
pub struct Alive {
    /// Seconds until the next one.
    pub freq: f64,
    /// Tasks under way.
    pub active: u32,
    /// Tasks started since the worker began.
    pub processed: u64,
    /// Load of the machine over 1, 5 and 15 minutes.
    pub loadavg: [f64; 3],
    /// What it runs.
    #[serde(flatten)]
    pub software: Software,
}

/// Fields of a `worker-heartbeat` that was asked for by the command `heartbeat` (`celery/worker/control.py`).
#[derive(Debug, Serialize)]
pub struct Pulse {
    /// Seconds, as Celery says there.
    pub freq: u32,
    /// What it runs.
    #[serde(flatten)]
    pub software: Software,
}

/// Fields of `task-received`. What only passes through stays as the producer wrote it.
#[derive(Debug, Serialize)]
pub struct Received<'a> {
    /// Task id.
    pub uuid: &'a str,
    /// Name shown: `shadow` of the message, else that of the task.
    pub name: &'a str,
    /// `repr()` of the arguments.
    pub args: &'a RawValue,
    /// `repr()` of the keyword arguments.
    pub kwargs: &'a RawValue,
    /// First task of the workflow.
    pub root_id: Option<&'a str>,
    /// Task that sent this one.
    pub parent_id: Option<&'a str>,
    /// Retries so far.
    pub retries: u32,
    /// Not before this time, ISO 8601 with an offset.
    pub eta: Option<String>,
    /// Not after this time.
    pub expires: Option<String>,
}

/// Fields of `task-started`.
#[derive(Debug, Serialize)]
pub struct Started<'a> {
    /// Task id.
    pub uuid: &'a str,
}

/// Fields of `task-succeeded`.
#[derive(Debug, Serialize)]
pub struct Succeeded<'a> {
    /// Task id.
    pub uuid: &'a str,
    /// `repr()` of the value.
    pub result: &'a str,
    /// Seconds.
    pub runtime: f64,
}

/// Fields of `task-failed` and `task-retried`.
#[derive(Debug, Serialize)]
pub struct Failed<'a> {
    /// Task id.
    pub uuid: &'a str,
    /// `repr()` of the exception.
    pub exception: &'a str,
    /// Its traceback; not told of a task that is not registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceback: Option<&'a str>,
}

/// Fields of `task-rejected`.
#[derive(Debug, Serialize)]
pub struct Rejected<'a> {
    /// Task id.
    pub uuid: &'a str,
    /// Whether it comes again.
    pub requeue: bool,
}

/// Fields of `task-revoked`.
#[derive(Debug, Serialize)]
pub struct Revoked<'a> {
    /// Task id.
    pub uuid: &'a str,
    /// It ran and was ended.
    pub terminated: bool,
    /// By this signal.
    pub signum: Option<i32>,
    /// It came too late.
    pub expired: bool,
}

/// One event of a node, JSON. `at` in seconds since 1970, `west` hours behind UTC.
pub fn compose(node: &Node, west: f64, at: f64, kind: &str, fields: &impl Serialize) -> String {
    // Written by hand around the fields: serde's own way to flatten goes through a value for each of them.
    let fields = serde_json::to_string(fields).unwrap_or_default();
    let fields = fields.strip_prefix('{').and_then(|fields| fields.strip_suffix('}')).unwrap_or_default();
    let comma = if fields.is_empty() { "" } else { "," };
    format!(
        r#"{{"hostname":{},"utcoffset":{west:?},"pid":{},"clock":{},{fields}{comma}"timestamp":{at:?},"type":"{kind}"}}"#,
        json!(node.name),
        node.pid,
        node.tick(),
    )
}

/// The message of one event or, as `task.multi`, of many, ready to be published under this routing key.
pub fn envelope(node: &Node, exchange: &str, routing_key: &str, body: &str) -> String {
    format!(
        r#"{{"body":"{}","content-encoding":"utf-8","content-type":"application/json","headers":{{"hostname":{}}},"#,
        STANDARD.encode(body),
        json!(node.name)
    ) + &format!(
        r#""properties":{{"delivery_mode":1,"delivery_info":{{"exchange":{},"routing_key":"{routing_key}"}},"priority":0,"#,
        json!(exchange)
    ) + &format!(r#""body_encoding":"base64","delivery_tag":"{}"}}}}"#, unique_id())
}

/// Name of the node and clock of what another one has published; none if it is no event of a worker.
pub fn read(raw: &[u8]) -> Option<(String, u64)> {
    #[derive(serde::Deserialize)]
    struct Envelope {
        body: String,
    }
    #[derive(serde::Deserialize)]
    struct Stamp {
        hostname: String,
        clock: u64,
    }
    let envelope: Envelope = serde_json::from_slice(raw).ok()?;
    let stamp: Stamp = serde_json::from_slice(&STANDARD.decode(envelope.body).ok()?).ok()?;
    Some((stamp.hostname, stamp.clock))
}

/// Hours that a zone is behind UTC at this moment (`celery/utils/time.py`, `utcoffset`).
pub fn hours_west(zone: &TimeZone, now: Timestamp) -> f64 {
    f64::from(-zone.to_offset(now).seconds()) / 3600.0
}

/// The zone that a `TZ` of the application's process means; that of the machine if it has none.
///
/// Monitors compare the offset with their own, and most run with the application's settings: Django sets `TZ`.
pub fn zone(tz: Option<&str>) -> TimeZone {
    let named = |tz: &str| TimeZone::get(tz).or_else(|_| TimeZone::posix(tz)).ok();
    tz.map(|tz| tz.trim_start_matches(':')).and_then(named).unwrap_or_else(TimeZone::system)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn an_event_has_celerys_fields_in_its_order() {
        let node = Node::new("worker\"1@vm".into());
        let text = compose(&node, 0.0, 1.5, "task-failed", &Failed { uuid: "ä", exception: "E('x')", traceback: None });
        let fields = r#""clock":1,"uuid":"ä","exception":"E('x')","timestamp":1.5,"type":"task-failed"}"#;
        let start = format!(r#"{{"hostname":"worker\"1@vm","utcoffset":0.0,"pid":{},"#, std::process::id());
        assert_eq!(text, start + fields);
        let again: Value = serde_json::from_str(&compose(&node, -5.5, 2.0, "x", &json!({}))).unwrap();
        assert_eq!((&again["clock"], &again["utcoffset"]), (&json!(2), &json!(-5.5)));
    }

    #[test]
    fn what_is_published_can_be_read() {
        let node = Node::new("worker1@vm".into());
        let event = compose(&node, 0.0, 0.0, "worker-heartbeat", &Pulse { freq: 5, software: SOFTWARE });
        let message = envelope(&node, "celeryev", "worker.heartbeat", &event);
        let value: Value = serde_json::from_str(&message).unwrap();
        assert_eq!(value["properties"]["delivery_info"]["routing_key"], "worker.heartbeat");
        assert_eq!(value["headers"], json!({"hostname": "worker1@vm"}));
        assert_eq!(read(message.as_bytes()), Some(("worker1@vm".to_owned(), 1)));
        let many = envelope(&node, "celeryev", "task.multi", &format!("[{event}]"));
        for other in [many.as_bytes(), b"", b"{}", b"{\"body\": \"*\"}"] {
            assert_eq!(read(other), None);
        }
    }

    #[test]
    fn offsets_are_hours_west() {
        let at = |name: &str, time: &str| hours_west(&zone(Some(name)), time.parse().unwrap());
        assert_eq!(at("Europe/Berlin", "2031-01-01T00:00:00Z"), -1.0);
        assert_eq!(at(":Europe/Berlin", "2031-07-01T00:00:00Z"), -2.0);
        assert_eq!(at("Asia/Kolkata", "2031-07-01T00:00:00Z"), -5.5);
        assert_eq!(at("EST5", "2031-07-01T00:00:00Z"), 5.0);
        assert!(at("UTC", "2031-07-01T00:00:00Z").is_sign_positive(), "Celery says 0.0");
    }
}
