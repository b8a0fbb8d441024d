//! `fairstalk enqueue`: send a task as Celery's `apply_async(queue=…)` does.

use super::redis::{block_on, connect};
use super::{Error, Settings, output};
use crate::broker::{Connection, publish};
use crate::channel::Exit;
use crate::config::{Broker, Config};
use crate::message::compose::{Copies, NewTask};
use crate::routing;
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// Send a task as Celery's `apply_async` would.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the task
    task: String,
    /// User whose task it is: decides the queue. Without one it goes to the default queue
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    user: Option<String>,
    /// Positional arguments, a JSON list
    #[arg(long, value_name = "JSON", default_value = "[]", value_parser = json_list)]
    args: Value,
    /// Named arguments, a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = json_object)]
    kwargs: Value,
    /// So many messages
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Not before so long from now: 30s, 5m, 1h
    #[arg(long, value_name = "DURATION", value_parser = crate::config::parse_duration)]
    countdown: Option<Duration>,
    /// Wait for the results and print them, one JSON object per line; exit code 70 if one is a failure
    #[arg(long)]
    wait: bool,
}

fn json_list(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if value.is_array() { Ok(value) } else { Err("is not a JSON list".to_owned()) }
}

fn json_object(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if value.is_object() { Ok(value) } else { Err("is not a JSON object".to_owned()) }
}

/// Prints the task ids, or with `--wait` the results.
///
/// # Errors
/// A configuration that can't be used, Redis out of reach, or output that fails.
pub fn run(args: &Args, settings: &Settings) -> Result<Exit, Error> {
    let answers = block_on(send(args, settings))?;
    let failed = args.wait && answers.iter().any(|answer| !answer.contains(r#""status": "SUCCESS""#));
    output::print(|out| {
        for answer in &answers {
            writeln!(out, "{answer}").map_err(Error::Output)?;
        }
        Ok(())
    })?;
    Ok(if failed { Exit::Internal } else { Exit::Ok })
}

async fn send(args: &Args, settings: &Settings) -> Result<Vec<String>, Error> {
    let (config, keys, mut connection) = connect(settings).await?;
    let queue = queue(&config, args.user.as_deref())?;
    let origin = format!("gen{}@{}", std::process::id(), super::host_name());
    let eta = args.countdown.map(|wait| {
        let due = SystemTime::now() + wait;
        let since = due.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    });
    let (task, arguments, kwargs) = (args.task.as_str(), &args.args, &args.kwargs);
    let new = NewTask { task, queue: &queue, args: arguments, kwargs, eta, origin: &origin };
    let mut copies = Copies::of(&new);
    let mut ids = Vec::new();
    let count = usize::try_from(args.count).unwrap_or(usize::MAX);
    while ids.len() < count {
        // However many there are, no more than these are in memory.
        let batch = publish::BATCH.min(count - ids.len());
        let (new, messages): (Vec<String>, Vec<Vec<u8>>) = (0..batch).map(|_| copies.make()).unzip();
        publish::publish(&mut connection, &keys, &queue, &messages).await?;
        ids.extend(new);
    }
    if !args.wait {
        return Ok(ids);
    }
    let results_server = Broker { url: config.results.url.clone(), ..config.broker.clone() };
    let mut connection = Connection::open(&results_server).await?;
    let mut results = Vec::with_capacity(ids.len());
    for id in &ids {
        let key = format!("{}celery-task-meta-{id}", config.results.key_prefix);
        results.push(publish::result(&mut connection, &key).await?);
    }
    Ok(results)
}

fn queue(config: &Config, user: Option<&str>) -> Result<String, Error> {
    match user {
        None => Ok(config.queues.default.clone()),
        Some(user) => routing::numbered_queue(&config.queues, user.as_bytes()).map(str::to_owned).ok_or_else(|| {
            let why = "the queues are given by [queues] names, so a user has no queue of his own; leave out --user";
            Error::Unfit(why.to_owned())
        }),
    }
}
