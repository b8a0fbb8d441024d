use super::*;
use crate::telemetry::fields;
use std::io;
use std::sync::{Arc, Mutex};
use tracing_subscriber::layer::SubscriberExt;

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is written while `speak` runs, without the time.
fn written<E>(event: E, speak: impl FnOnce()) -> String
where
    E: FormatEvent<tracing_subscriber::Registry, Fragments> + Send + Sync + 'static,
{
    let page = Page::default();
    let writer = page.clone();
    let layer = tracing_subscriber::fmt::layer().fmt_fields(Fragments).event_format(event);
    let layer = layer.with_writer(move || writer.clone());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), speak);
    let bytes = page.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn speak() {
    let span = tracing::info_span!("task", { fields::TASK_ID } = "a-1", { fields::ATTEMPT } = 2);
    let _inside = span.enter();
    tracing::warn!(
        { fields::TENANT } = "42",
        { fields::RUNTIME_MS } = 1.5,
        late = true,
        "Traceback:\n  boom\x1b[31m\n"
    );
}

#[test]
fn text_is_for_people() {
    let text = written(Text { process: "worker 1".to_owned(), colours: false }, speak);
    let (time, rest) = text.split_once(' ').unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok() && time.len() == "2026-01-01T00:00:00.000Z".len(), "{time}");
    let expected = "WARN  worker 1:   Traceback: tenant=42 runtime_ms=1.5 late=true attempt=2 task_id=a-1\n      boom\\u{1b}[31m\n";
    assert_eq!(rest, expected);
}

#[test]
fn colours_only_when_wanted() {
    let text = written(Text { process: "supervisor".to_owned(), colours: true }, || tracing::error!("no"));
    assert!(text.contains("\x1b[31mERROR\x1b[0m supervisor: no"), "{text}");
}

#[test]
fn json_is_one_object_a_line() {
    let text = written(Json { process: "worker 1".to_owned() }, || {
        speak();
        tracing::info!(nothing = f64::NAN, "\"quoted\"");
    });
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["level"], "warn");
    assert_eq!(lines[0]["message"], "Traceback:\n  boom\x1b[31m\n");
    assert_eq!(
        (&lines[0]["task_id"], &lines[0]["attempt"], &lines[0]["tenant"]),
        (&"a-1".into(), &2.into(), &"42".into())
    );
    assert_eq!((&lines[1]["message"], &lines[1]["nothing"]), (&"\"quoted\"".into(), &Value::Null));
}
