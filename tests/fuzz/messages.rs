//! Messages: parsed, judged, put back, given to a runner.

use crate::{cases, mutator};
use fairstalk::config::{self, Config, Environment, Surroundings};
use fairstalk::fairness::flow;
use fairstalk::message::{Message, body, rewrite};
use fairstalk::runner::python::Registry;
use fairstalk::runner::python::frames::{self, Task};
use fairstalk::worker::intake;
use fastrand::Rng;
use serde_json::{Value, json};
use std::cell::Cell;
use std::path::Path;

/// A good message of each protocol, and its body.
fn good(random: &mut Rng) -> (Value, Value) {
    let mut message = json!({
        "body": "", "content-encoding": "utf-8", "content-type": "application/json",
        "headers": {"lang": "py", "task": "python.task", "id": "1-1", "shadow": null,
            "eta": "2031-01-01T00:00:00.000000+00:00", "expires": "2031-01-01T00:00:00", "group": "g", "group_index": 0,
            "retries": 2, "timelimit": [10, 1.5], "root_id": "1-1", "parent_id": null, "argsrepr": "(1, 2)",
            "kwargsrepr": "{}", "origin": "gen1@vm", "ignore_result": false, "replaced_task_nesting": 0,
            "stamped_headers": ["by"], "stamps": {"by": ["me"]}, "compression": null},
        "properties": {"correlation_id": "1-1", "reply_to": "1", "delivery_mode": 2, "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": "queue_7", "deliveries": 1},
            "body_encoding": "base64", "delivery_tag": "f7"},
    });
    if random.bool() {
        message["headers"]["task"] = "command.task".into();
    }
    if random.u8(..3) > 0 {
        let embed = json!({"callbacks": null, "errbacks": [], "chain": null, "chord": null});
        return (message, json!([[1, "two", [3]], {"user_id": 42}, embed]));
    }
    message["headers"] = json!({});
    let body = json!({"task": "command.task", "id": "1-1", "args": [1], "kwargs": {"user_id": 42}, "retries": 0,
        "eta": null, "expires": null, "taskset": null, "timelimit": [null, null], "callbacks": null, "errbacks": null,
        "chord": null, "utc": true});
    (message, body)
}

fn config() -> Config {
    let text = "[tenancy]\nparameter = \"user_id\"\nheader = \"origin\"\n[python]\napp = \"a\"\n\
                [tasks.\"command.task\"]\ncommand = [\"/bin/true\"]\n";
    let surroundings = Surroundings { environment: Environment::default(), cores: 1 };
    config::parse(text, Path::new("fuzz.toml"), &surroundings).unwrap()
}

/// What must not change when a message goes back.
fn essence(message: &Message) -> (Vec<Option<Value>>, Option<Vec<u8>>) {
    let read = |json: &str| serde_json::from_str::<Value>(json).ok();
    let (mut headers, mut properties) = (read(message.headers_json()), read(message.properties_json()));
    if let Some(Value::Object(headers)) = &mut headers {
        headers.remove("redelivered");
    }
    if let Some(Value::Object(properties)) = &mut properties {
        if let Some(Value::Object(info)) = properties.get_mut("delivery_info") {
            info.remove("redelivered");
            info.remove("deliveries");
        } else {
            properties.insert("delivery_info".to_owned(), json!({}));
        }
    }
    (vec![headers, properties], message.body().ok().map(|body| body.into_owned()))
}

/// A frame taken apart as `frames.py` does.
fn parts(frame: &[u8]) -> Vec<&[u8]> {
    let number = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(number(0), frame.len() - 4);
    let (mut at, mut found) = (29, Vec::new());
    for part in 0..4 {
        let end = at + number(13 + 4 * part);
        found.push(&frame[at..end]);
        at = end;
    }
    found.push(&frame[at..]);
    found
}

#[test]
fn messages_are_read_or_refused_and_come_back_as_they_were() {
    let (config, registry) = (config(), Registry::default());
    let (read, run) = (Cell::new(0u64), Cell::new(0u64));
    let tried = cases(20_000, |random| {
        let (message, body) = good(random);
        let raw = mutator::message(&message, &body, random);
        let message = match Message::parse(raw.clone()) {
            Ok(message) => message,
            Err((malformed, bytes)) => {
                assert!(bytes == raw, "the bytes of a malformed message are given back");
                return assert!(!malformed.to_string().is_empty());
            }
        };
        read.set(read.get() + 1);
        for counted in [true, false] {
            let again = Message::parse(rewrite::redelivered(&message, counted)).unwrap_or_else(|(error, raw)| {
                panic!("{error}: {}", String::from_utf8_lossy(&raw));
            });
            assert_eq!(again.headers, message.headers);
            assert_eq!(again.deliveries, message.deliveries.saturating_add(u32::from(counted)));
            let types = |message: &Message| (message.content_type.clone(), message.content_encoding.clone());
            assert_eq!(types(&again), types(&message));
            assert_eq!(essence(&again), essence(&message));
        }
        let retried = Message::parse(rewrite::retried(&message, 0)).map_err(|(error, _)| error).unwrap();
        assert_eq!(retried.headers.retries, Some(message.headers.attempt()));
        for now in [0, 2_000_000_000_000, i64::MAX] {
            let plan = intake::plan(&config, Some(&registry), &message, random.u8(..8) == 0, now);
            run.set(run.get() + u64::from(matches!(plan, intake::Plan::Command(_))));
        }
        let flow = flow::of_message(&config.tenancy, &config.queues, "queue_7", &message, &["user_id".to_owned()]);
        assert!(!flow.chars().any(char::is_control), "{flow:?} is part of a key");
        let _ = body::arguments(&message);
        for task in [Task::Run { show_result: true }, Task::Record("{}")] {
            let Ok(frame) = frames::encode(7, &message, &task) else { continue };
            assert_eq!(frames::sequence_of(&frame), Some(7));
            let types = format!("{}\0{}", message.content_type, message.content_encoding);
            let parts = parts(&frame);
            assert_eq!(parts[0], message.headers_json().as_bytes());
            assert_eq!(parts[1], message.properties_json().as_bytes());
            assert_eq!(parts[2], types.as_bytes());
            assert_eq!(parts[4], message.body().unwrap_or_default().as_ref());
        }
    });
    let (read, run) = (read.get(), run.get());
    println!("of {tried} messages {read} could be read, plans to run a command: {run}");
    // Else the mutations are so wild that nothing behind the parser is tried.
    assert!(tried == 1 || read > tried / 5 && run > tried / 50, "{tried} tried, {read} read, {run} run");
}
