//! What becomes of a message that was just claimed. Pure.

use crate::broker::Reason;
use crate::config::Config;
use crate::message::body::{self, Arguments};
use crate::message::{Malformed, Message, time};
use crate::runner::builtin::is_builtin;
use crate::runner::python::Registry;
use jiff::tz::TimeZone;

/// What is to be done with a message.
#[derive(Debug)]
pub enum Plan {
    /// Run it in Python.
    Python,
    /// It is built in.
    Builtin,
    /// Run the command configured for it.
    Command(Arguments),
    /// Not before this time (milliseconds since 1970).
    Delay(i64),
    /// It came too late.
    Expired,
    /// It was taken back.
    Revoked,
    /// Nobody here knows the task.
    Unknown,
    /// Its workers died too often while it ran.
    Lost,
    /// To the dead letters, unread.
    Dead(Reason, String),
}

/// Who does a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doer {
    /// The command configured for it.
    Command,
    /// The application.
    Python,
    /// The worker itself.
    Worker,
    /// Nobody here knows it.
    Nobody,
}

/// Who does the task of this name: what is configured goes before the application, and both before what is built in.
pub fn doer(config: &Config, registry: Option<&Registry>, task: &str) -> Doer {
    if config.tasks.contains_key(task) {
        Doer::Command
    } else if registry.is_some_and(|registry| registry.tasks.contains_key(task)) {
        Doer::Python
    } else if is_builtin(task) {
        Doer::Worker
    } else {
        Doer::Nobody
    }
}

/// Decides; `revoked` tells whether the task was taken back, `now` is the broker's clock in milliseconds since 1970.
pub fn plan(config: &Config, registry: Option<&Registry>, message: &Message, revoked: bool, now: i64) -> Plan {
    match try_plan(config, registry, message, revoked, now) {
        Ok(plan) => plan,
        Err(malformed) => Plan::Dead(Reason::Malformed, malformed.to_string()),
    }
}

fn try_plan(
    config: &Config,
    registry: Option<&Registry>,
    message: &Message,
    revoked: bool,
    now: i64,
) -> Result<Plan, Malformed> {
    if !config.delivery.accept.contains(&message.content_type) {
        let why = format!("content type {} is not in [delivery] accept", message.content_type);
        return Ok(Plan::Dead(Reason::Refused, why));
    }
    let headers = &message.headers;
    let naive = |text: &str| !text.contains(['+', 'Z']) && text.rfind('-').is_none_or(|dash| dash < 10);
    let zone = [&headers.eta, &headers.expires].into_iter().flatten().any(|text| naive(text)).then(|| {
        let name = registry.map_or("UTC", |registry| registry.timezone.as_str());
        TimeZone::get(name).unwrap_or(TimeZone::UTC)
    });
    let zone = zone.unwrap_or(TimeZone::UTC);
    let millis = |field, text: &Option<String>| text.as_deref().map(|text| time::parse(field, text, &zone)).transpose();
    let doer = doer(config, registry, &headers.task);
    if doer == Doer::Nobody {
        return Ok(Plan::Unknown);
    }
    if message.deliveries >= config.delivery.max_deliveries {
        return Ok(Plan::Lost);
    }
    if millis("expires", &headers.expires)?.is_some_and(|expires| expires < now) {
        return Ok(Plan::Expired);
    }
    if revoked {
        return Ok(Plan::Revoked);
    }
    if let Some(eta) = millis("eta", &headers.eta)?.filter(|&eta| eta > now) {
        return Ok(Plan::Delay(eta));
    }
    if doer == Doer::Python {
        return Ok(Plan::Python);
    }
    let arguments = body::arguments(message)?;
    if arguments.canvas {
        let why = "a command task, or one that is built in, can't have link, link_error, chain or chord: call it from a Python task instead";
        return Ok(Plan::Dead(Reason::Canvas, why.to_owned()));
    }
    Ok(if doer == Doer::Worker { Plan::Builtin } else { Plan::Command(arguments) })
}
