//! Imports the application as the daemon's zygote does, and hears what it says of itself.

use super::super::Error;
use crate::broker::{Finding, Grade};
use crate::channel::ZygoteReport;
use crate::config::{Config, Python};
use crate::runner::python::launch;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

/// From the oldest to the newest Celery this program is tested with.
const TESTED: std::ops::RangeInclusive<(u32, u32)> = (5, 3)..=(5, 7);

/// What an application says of itself.
pub(super) struct Application {
    /// Registered tasks, without Celery's own.
    pub(super) tasks: u32,
    pub(super) warnings: Vec<String>,
    pub(super) about: About,
}

/// `about.py`.
#[derive(Deserialize)]
pub(super) struct About {
    /// Version of Celery.
    pub(super) celery: String,
    /// Version of Python.
    pub(super) python: String,
    /// kombu's name of the broker's kind.
    transport: String,
    pub(super) results: Results,
    pub(super) hard_limit: Option<Limit>,
    pub(super) soft_limit: Option<Limit>,
    /// Seconds.
    visibility_timeout: f64,
}

/// Where results go.
#[derive(Deserialize, Serialize)]
pub(super) struct Results {
    /// Class of the backend.
    pub(super) backend: String,
    /// Stored in the same step as the acknowledgement, because they are on the broker's server.
    pub(super) in_step: bool,
    /// Then the number of their database.
    pub(super) database: Option<u32>,
}

/// The longest time limit of all tasks.
#[derive(Deserialize, Serialize)]
pub(super) struct Limit {
    pub(super) seconds: f64,
    /// A task that has it.
    pub(super) task: String,
}

/// What the zygote reports where nobody is to be served.
#[derive(Deserialize)]
struct Ready {
    ready: Said,
}

#[derive(Deserialize)]
struct Said {
    about: About,
}

/// Imports it. What the application says instead of an answer is the inner error.
pub(super) fn import(config: &Config, python: &Python) -> Result<Result<Application, String>, Error> {
    let interpreter = python.interpreter.display();
    let wrong = |what: String| Ok(Err(format!("{what} ([python] interpreter = \"{interpreter}\")")));
    let (mut ours, theirs) = UnixStream::pair().map_err(Error::Runtime)?;
    let mut command = launch::command(python);
    command.stdin(Stdio::from(OwnedFd::from(theirs)));
    // Standard output is for the report, whatever the application prints.
    command.stdout(std::io::stderr());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return wrong(format!("can't start the interpreter: {error}")),
    };
    drop(command); // it holds their end, and end of file is to mean that the interpreter has ended
    // Fails only if the interpreter has ended, and then there is no answer either.
    let _ = ours.write_all(launch::bootstrap(config, python, None).as_bytes());
    let mut answer = String::new();
    let _ = BufReader::new(ours).read_line(&mut answer);
    let status = child.wait().map_err(Error::Runtime)?;
    if let Ok(ZygoteReport::Failed { message }) = serde_json::from_str(&answer) {
        return Ok(Err(format!("application {:?} can't be imported:\n{message}", python.app)));
    }
    match (serde_json::from_str(&answer), serde_json::from_str::<Ready>(&answer)) {
        (Ok(ZygoteReport::Ready { tasks, warnings, .. }), Ok(Ready { ready })) => {
            Ok(Ok(Application { tasks, warnings, about: ready.about }))
        }
        _ => wrong(format!("the interpreter ended without an answer: {status}")),
    }
}

impl About {
    /// Celery's, as (5, 7) of `5.7.0`.
    fn version(&self) -> Option<(u32, u32)> {
        let mut parts = self.celery.split('.').map(str::parse);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    }
}

impl Application {
    /// What is to be known about it.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let about = &self.about;
        let warning = |text: &String| Finding { grade: Grade::Warning, code: "application", text: text.clone() };
        let note = |code, text| Finding { grade: Grade::Note, code, text };
        let mut found: Vec<Finding> = self.warnings.iter().map(warning).collect();
        if !about.version().is_some_and(|version| TESTED.contains(&version)) {
            let text = format!("the application has Celery {}; fairstalk is tested with 5.3 and 5.7", about.celery);
            found.push(note("celery-version", text));
        }
        if !["redis", "rediss", "sentinel"].contains(&about.transport.as_str()) {
            let text = format!(
                "the application publishes to a broker of the kind {}: retries and chains would not be seen here",
                about.transport
            );
            found.push(Finding { grade: Grade::Warning, code: "transport", text });
        }
        let stores = !["DisabledBackend"].contains(&about.results.backend.as_str());
        if stores && !about.results.in_step {
            let text = format!(
                "Celery itself stores results ({}), before the message is acknowledged and not in one step with it, \
                 because they don't go to the broker's Redis by Celery's own backend for it",
                about.results.backend
            );
            found.push(note("results-elsewhere", text));
        }
        if let Some(limit) = about.hard_limit.as_ref().filter(|limit| limit.seconds > about.visibility_timeout) {
            let text = format!(
                "{:?} may run for {} s, longer than visibility_timeout, {} s: fairstalk does not mind, but should a \
                 stock Celery worker take over it would run such tasks twice",
                limit.task, limit.seconds, about.visibility_timeout
            );
            found.push(note("visibility-timeout", text));
        }
        found
    }
}
