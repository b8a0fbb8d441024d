//! `fairstalk check`: would `run` work? Reads the configuration as `run` does, asks Redis, imports the application.

use super::redis::block_on;
use super::{Error, Settings, output};
use crate::broker::Connection;
use crate::channel::{Exit, ZygoteReport};
use crate::config::{Config, Python};
use crate::runner::python::launch;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

/// Read the configuration as `run` does, and see whether Redis, the interpreter and the application can be reached.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints what would be run.
///
/// # Errors
/// The first thing that would keep the daemon from running.
pub fn run(_: &Args, settings: &Settings) -> Result<Exit, Error> {
    let config = settings.config()?;
    config.runnable()?;
    let version = block_on(redis_version(&config))?;
    let application = config.python.as_ref().map(|python| import(&config, python)).transpose()?;
    output::print(|out| report(&config, &version, application.as_ref(), out).map_err(Error::Output))?;
    Ok(Exit::Ok)
}

async fn redis_version(config: &Config) -> Result<String, Error> {
    let mut connection = Connection::open(&config.broker).await?;
    let info: String = connection.query(redis::cmd("INFO").arg("server")).await?;
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
    Ok(version.unwrap_or("of unknown version").trim().to_owned())
}

/// Imports the application as the daemon's zygote does; returns how many tasks it registers, and what doesn't fit.
fn import(config: &Config, python: &Python) -> Result<(u32, Vec<String>), Error> {
    let interpreter = python.interpreter.display();
    let wrong = |what: String| Error::Unfit(format!("{what} ([python] interpreter = \"{interpreter}\")"));
    let (mut ours, theirs) = UnixStream::pair().map_err(Error::Runtime)?;
    let mut command = launch::command(python);
    command.stdin(Stdio::from(OwnedFd::from(theirs)));
    let mut child = command.spawn().map_err(|error| wrong(format!("can't start the interpreter: {error}")))?;
    drop(command); // it holds their end, and end of file is to mean that the interpreter has ended
    // Fails only if the interpreter has ended, and then there is no answer either.
    let _ = ours.write_all(launch::bootstrap(config, python, None).as_bytes());
    let mut answer = String::new();
    let _ = BufReader::new(ours).read_line(&mut answer);
    let status = child.wait().map_err(Error::Runtime)?;
    match serde_json::from_str(&answer) {
        Ok(ZygoteReport::Ready { tasks, warnings, .. }) => Ok((tasks, warnings)),
        Ok(ZygoteReport::Failed { message }) => {
            Err(Error::Unfit(format!("application {:?} can't be imported:\n{message}", python.app)))
        }
        Err(_) => Err(wrong(format!("the interpreter ended without an answer: {status}"))),
    }
}

fn report(
    config: &Config,
    version: &str,
    application: Option<&(u32, Vec<String>)>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let workers = &config.workers;
    let slots = workers.processes * workers.concurrency;
    writeln!(out, "Redis {version} at {} answers", crate::broker::address(&config.broker))?;
    if let (Some(python), Some((tasks, warnings))) = (&config.python, application) {
        writeln!(out, "application {:?} registers {tasks} tasks", python.app)?;
        for warning in warnings {
            writeln!(out, "warning: {warning}")?;
        }
    }
    for (name, task) in &config.tasks {
        writeln!(out, "task {name:?} runs {}", task.command.join(" "))?;
    }
    let queues = config.queues.names.len();
    writeln!(
        out,
        "would run {} workers with {} slots each, {slots} tasks at once, on {queues} queues",
        workers.processes, workers.concurrency
    )
}
