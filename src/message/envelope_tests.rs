use super::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const V2: &str = r#"{"body": "W1sxLCAyXSwge30sIHsiY2FsbGJhY2tzIjogbnVsbCwgImVycmJhY2tzIjogbnVsbCwgImNoYWluIjogbnVsbCwgImNob3JkIjogbnVsbH1d", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang": "py", "task": "expapp.add", "id": "1-1", "shadow": null, "eta": null, "expires": null, "group": null, "retries": 2, "timelimit": [null, 1.5], "root_id": "1-1", "parent_id": null, "argsrepr": "(1, 2)"}, "properties": {"correlation_id": "1-1", "delivery_info": {"exchange": "", "routing_key": "queue_7"}, "priority": 0, "body_encoding": "base64", "delivery_tag": "f7"}}"#;

fn parse(text: &str) -> Result<Message, Malformed> {
    Message::parse(text.as_bytes().to_vec()).map_err(|(malformed, raw)| {
        assert_eq!(raw, text.as_bytes(), "the bytes of a malformed message are given back");
        malformed
    })
}

#[test]
fn protocol_2() {
    let message = parse(V2).unwrap();
    assert_eq!(message.headers.task, "expapp.add");
    assert_eq!(message.headers.attempt(), 3);
    assert_eq!(message.headers.timelimit, Some((None, Some(1.5))));
    assert_eq!(
        &*message.body().unwrap(),
        br#"[[1, 2], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#
    );
    assert!(message.headers_json().starts_with(r#"{"lang": "py""#));
    assert!(message.properties_json().ends_with(r#""delivery_tag": "f7"}"#));
}

#[test]
fn protocol_1_becomes_protocol_2() {
    let body = r#"{"task": "t", "id": "i", "args": [1], "kwargs": {"a": 2}, "retries": 1, "eta": null, "expires": null, "taskset": "g", "timelimit": [null, null], "callbacks": null, "errbacks": null, "chord": null, "utc": true}"#;
    let envelope = serde_json::json!({"body": STANDARD.encode(body), "content-type": "application/json",
        "content-encoding": "utf-8", "headers": {}, "properties": {"body_encoding": "base64"}});
    let message = parse(&envelope.to_string()).unwrap();
    assert_eq!((message.headers.task.as_str(), message.headers.id.as_str()), ("t", "i"));
    assert_eq!(message.headers.group.as_deref(), Some("g"));
    let body: serde_json::Value = serde_json::from_slice(&message.body().unwrap()).unwrap();
    assert_eq!(body[0], serde_json::json!([1]));
    assert_eq!(body[1], serde_json::json!({"a": 2}));
}

#[test]
fn bad_messages_say_why() {
    let cases = [
        ("not json", "not what kombu writes"),
        ("[]", "not what kombu writes"),
        (r#"{"body": 5, "headers": {}, "properties": {}}"#, "not what kombu writes"),
        (r#"{"body": "", "headers": {"task": "t"}, "properties": {}}"#, "missing field `id`"),
        (r#"{"body": "", "headers": {"task": 1, "id": "i"}, "properties": {}}"#, "not those of a Celery task"),
        (r#"{"body": "", "headers": {"task": "t", "id": "i", "retries": "x"}, "properties": {}}"#, "not those of"),
        (r#"{"body": "", "headers": {}, "properties": {}, "content-type": "application/json"}"#, "the body is not"),
        (r#"{"body": "", "headers": {}, "properties": {"body_encoding": "rot13"}}"#, "rot13"),
        (r#"{"body": "x", "headers": {}, "properties": {}, "content-type": "text/plain"}"#, "text/plain"),
    ];
    for (text, reason) in cases {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    let deep = format!("{{\"body\": \"\", \"headers\": {}{}, \"properties\": {{}}}}", "[".repeat(200), "]".repeat(200));
    assert!(parse(&deep).is_err());
}

#[test]
fn bad_base64_is_found_when_the_body_is_read() {
    let message = parse(&V2.replace("W1sx", "*1sx")).unwrap();
    assert!(matches!(message.body(), Err(Malformed::Base64(_))));
}
