//! What a worker does with each message in memory: whose it is, when it is filed; what is to be done, when it is claimed; the
//! frame for a runner; the result of a task that it ends itself. Everything is the same in every run, ids too.

use fairstalk::config::{Config, Surroundings, parse};
use fairstalk::fairness::flow;
use fairstalk::message::Message;
use fairstalk::results::{self, State};
use fairstalk::runner::builtin::NOOP;
use fairstalk::runner::python::frames::{self, Task};
use fairstalk::worker::intake::{Plan, plan};
use serde_json::value::RawValue;
use std::error::Error;
use std::hint::black_box;
use std::path::Path;

/// The server's clock, milliseconds since 1970.
const NOW: i64 = 1_790_000_000_000;

/// A message as `apply_async` of Celery 5.7 writes it, with an id of its own.
const MESSAGE: &str = include_str!("message.json");

/// Does it for so many messages.
pub fn run(count: u64) -> Result<(), Box<dyn Error>> {
    let text = "[tenancy]\nparameter = \"user_id\"\n[tasks.\"other\"]\ncommand = [\"/bin/true\"]\n";
    let surroundings = Surroundings { environment: Default::default(), cores: 2 };
    let config = parse(text, Path::new("/probe"), &surroundings)?;
    for number in 0..count {
        one(&config, number)?;
    }
    Ok(())
}

fn one(config: &Config, number: u64) -> Result<(), Box<dyn Error>> {
    let raw = MESSAGE.trim_end().replace("NUMBER", &format!("{number:012}")).replace("TASK", NOOP).into_bytes();
    let queue = &config.queues.default;
    // Filed.
    let message = Message::parse(raw.clone()).map_err(|(malformed, _)| malformed)?;
    black_box(flow::of_message(&config.tenancy, &config.queues, queue, &message, &[]));
    // Claimed.
    let message = Message::parse(raw).map_err(|(malformed, _)| malformed)?;
    let Plan::Builtin = plan(config, None, &message, false, NOW) else { return Err("not for this worker".into()) };
    black_box(frames::encode(number, &message, &Task::Run { show_result: false })?);
    // Ended.
    black_box(results::store(&config.results, &message, &State::Success(RawValue::NULL), NOW));
    Ok(())
}
