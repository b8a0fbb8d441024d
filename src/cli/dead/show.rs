//! `fairstalk dead show`: everything that is known of a message.

use super::choice::{Filters, search};
use crate::broker::Reason;
use crate::broker::dead::{self, DeadLetter, Order};
use crate::channel::Exit;
use crate::cli::redis::{block_on, connect};
use crate::cli::{Error, Settings, output};
use crate::message::{Message, body, time};
use serde_json::{Value, json};
use std::io::Write;

/// Show everything that is known of one
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of its task, or its own name as `list --json` prints it
    id: String,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// Prints the letters of this id; several, if one task came here more than once.
pub fn run(args: &Args, settings: &Settings) -> Result<Exit, Error> {
    let ids = std::slice::from_ref(&args.id);
    let filters = Filters::default();
    let mut found = false;
    block_on(async {
        let (_, keys, mut connection) = connect(settings).await?;
        let mut search = search(&mut connection, &filters, ids, Order::NewestFirst, None).await?;
        loop {
            let letters = search.next(&mut connection, &keys).await?;
            if letters.is_empty() {
                return Ok(());
            }
            for letter in letters {
                let Some(raw) = dead::message(&mut connection, &keys, &letter.name).await? else { continue };
                found = true;
                output::print(|out| if args.json { in_json(&letter, raw, out) } else { in_words(&letter, raw, out) })?;
            }
        }
    })?;
    if found { Ok(Exit::Ok) } else { Err(Error::Absent(args.id.clone())) }
}

fn in_json(letter: &DeadLetter, raw: Vec<u8>, out: &mut dyn Write) -> Result<(), Error> {
    let text = String::from_utf8_lossy(&raw).into_owned();
    let mut shown = json!({"name": letter.name, "entry": letter.entry, "message": text});
    if let Ok(message) = Message::parse(raw) {
        shown["headers"] = parsed(message.headers_json());
        shown["properties"] = parsed(message.properties_json());
        if let Ok(arguments) = body::arguments(&message) {
            (shown["args"], shown["kwargs"]) = (parsed(&arguments.args), parsed(&arguments.kwargs));
        }
    }
    writeln!(out, "{shown}").map_err(Error::Output)
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or(Value::Null)
}

/// Fields of an entry with a line of their own, and what they are called.
const LINES: [(&str, &str); 14] = [
    ("task", "task"),
    ("id", "id"),
    ("tenant", "tenant"),
    ("queue", "queue"),
    ("attempt", "attempt"),
    ("deliveries", "deliveries"),
    ("node", "worker"),
    ("runner_pid", "runner pid"),
    ("started", "started"),
    ("at", "dead since"),
    ("signal", "signal"),
    ("exit_code", "exit code"),
    ("memory_peak", "peak memory"),
    ("exception", "exception"),
];

fn in_words(letter: &DeadLetter, raw: Vec<u8>, out: &mut dyn Write) -> Result<(), Error> {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{:<13}{value}\n", format!("{name}:")));
    let word = letter.text("reason").unwrap_or("-");
    let words = Reason::of(word).map(|reason| format!(": {}", reason.words())).unwrap_or_default();
    line("reason", &format!("{word}{words}"));
    line("detail", letter.text("detail").unwrap_or("-"));
    for (key, name) in LINES {
        match (&letter.entry[key], key) {
            (Value::Null, _) => {}
            (Value::Number(at), "at" | "started") => line(name, &time::format(at.as_i64().unwrap_or(0))),
            (Value::Number(bytes), "memory_peak") => line(name, &format!("{bytes} bytes")),
            (Value::String(text), _) => line(name, text),
            (other, _) => line(name, &other.to_string()),
        }
    }
    line("name", &letter.name);
    let mut block = |name: &str, lines: &str| {
        text.push_str(&format!("\n{name}:\n"));
        lines.lines().for_each(|line| text.push_str(&format!("    {line}\n")));
    };
    if let Some(traceback) = letter.text("traceback") {
        block("traceback", traceback);
    }
    if let Some(output) = letter.entry["output"].as_array() {
        let lines: Vec<&str> = output.iter().filter_map(Value::as_str).collect();
        block("last lines of its output", &lines.join("\n"));
    }
    let length = raw.len();
    match Message::parse(raw) {
        Ok(message) => {
            match body::arguments(&message) {
                Ok(arguments) => {
                    block("args", &arguments.args);
                    block("kwargs", &arguments.kwargs);
                }
                Err(why) => block("arguments", &why.to_string()),
            }
            let pretty = serde_json::to_string_pretty(&parsed(message.headers_json())).unwrap_or_default();
            block("headers", &pretty);
        }
        Err((_, raw)) => {
            let start = &raw[..length.min(2000)];
            block(&format!("message, {length} bytes"), &String::from_utf8_lossy(start));
        }
    }
    writeln!(out, "{text}").map_err(Error::Output)
}
