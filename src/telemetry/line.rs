//! One record, one line: for people or as JSON.
//!
//! What a task prints is shown to whoever watches the terminal, so control characters don't get through; the lines
//! of a traceback are indented, so that one sees where the record ends.

use super::record::Record;
use serde_json::Value;
use std::fmt::{self, Write};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Messages begin in one column: `supervisor:` is the longest name there is, up to `worker 999:`.
const PROCESS_WIDTH: usize = "supervisor:".len();

/// Lines for people.
pub struct Text {
    /// Which process speaks.
    pub process: String,
    /// Whether to colour them.
    pub colours: bool,
}

/// Lines for programs.
pub struct Json {
    /// Which process speaks.
    pub process: String,
}

/// A layer that writes such lines to standard error.
pub fn layer<S, E>(event: E) -> impl tracing_subscriber::Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    E: FormatEvent<S, Fragments> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .fmt_fields(Fragments)
        .event_format(event)
        // Would be printed with a macro that panics when standard error is gone.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
}

/// Keeps a span's fields as JSON members, `"name":value,`, from which both kinds of line are made.
pub struct Fragments;

impl<'w> FormatFields<'w> for Fragments {
    fn format_fields<R: tracing_subscriber::field::RecordFields>(
        &self,
        mut writer: Writer<'w>,
        fields: R,
    ) -> fmt::Result {
        let mut record = Record::default();
        fields.record(&mut record);
        record.fields.iter().try_for_each(|(name, value)| write!(writer, "{}:{value},", Value::from(*name)))
    }
}

/// Everything about an event: its own fields first, then those of the spans around it, as JSON members.
fn collect<S, N>(context: &FmtContext<'_, S, N>, event: &Event<'_>) -> (Record, String)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let mut record = Record::default();
    event.record(&mut record);
    let mut around = String::new();
    for span in context.event_scope().into_iter().flatten() {
        if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
            around.push_str(&fields.fields);
        }
    }
    (record, around)
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (record, around) = collect(context, event);
        let (name, colour) = match *event.metadata().level() {
            Level::ERROR => ("ERROR", "31"),
            Level::WARN => ("WARN ", "33"),
            Level::INFO => ("INFO ", "32"),
            Level::DEBUG => ("DEBUG", "34"),
            Level::TRACE => ("TRACE", "35"),
        };
        let now = jiff::Timestamp::now();
        let (on, dim, off) =
            if self.colours { (format!("\x1b[{colour}m"), "\x1b[2m", "\x1b[0m") } else { Default::default() };
        // The fields go with the first line, so that a traceback below it stays as Python wrote it.
        let (first, rest) = record.message.trim_end_matches('\n').split_once('\n').unwrap_or((&record.message, ""));
        let process = format!("{}:", self.process);
        write!(to, "{dim}{now:.3}{off} {on}{name}{off} {process:<PROCESS_WIDTH$} {}", shown(first))?;
        let around: serde_json::Map<String, Value> =
            serde_json::from_str(&format!("{{{}}}", around.trim_end_matches(','))).unwrap_or_default();
        let own = record.fields.iter().map(|(name, value)| (*name, value));
        for (name, value) in own.chain(around.iter().map(|(name, value)| (name.as_str(), value))) {
            match value {
                Value::String(text) => write!(to, " {dim}{name}={off}{}", shown(text))?,
                value => write!(to, " {dim}{name}={off}{value}")?,
            }
        }
        if !rest.is_empty() {
            write!(to, "\n    {}", shown(rest))?;
        }
        writeln!(to)
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (record, around) = collect(context, event);
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let (process, message) = (Value::from(self.process.as_str()), Value::from(record.message));
        let now = jiff::Timestamp::now();
        write!(to, r#"{{"time":"{now:.3}","level":"{level}","process":{process},"message":{message}"#)?;
        for (name, value) in &record.fields {
            write!(to, ",{}:{value}", Value::from(*name))?;
        }
        if let Some(around) = around.strip_suffix(',') {
            write!(to, ",{around}")?;
        }
        writeln!(to, "}}")
    }
}

/// A text as a terminal may have it: further lines indented, no control characters.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.trim_end_matches('\n').chars() {
        match c {
            '\n' => shown.push_str("\n    "),
            '\t' => shown.push(c),
            c if c.is_control() => {
                let _ = write!(shown, "{}", c.escape_default());
            }
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
