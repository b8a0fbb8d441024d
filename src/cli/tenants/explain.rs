//! Why one tenant is or isn't next.

use super::super::redis::{block_on, connect};
use super::super::{Error, Settings, output};
use super::{Row, span};
use crate::broker::inspect::{LineFigures, TenantFigures};
use crate::broker::standing::{Standing, standing};
use crate::broker::{BrokerError, Connection, Keys, answer, inspect, minute};
use crate::channel::Exit;
use crate::config::Config;
use crate::fairness::discovery::Answer;
use crate::fairness::flow;
use crate::routing::numbered_queue;
use serde_json::json;
use std::collections::BTreeSet;

/// Prints it, a line for each reason.
pub(super) fn run(tenant: &str, as_json: bool, settings: &Settings) -> Result<Exit, Error> {
    let flow = flow::meant(tenant);
    let (row, standing, queue, naming) = block_on(async {
        let (config, keys, mut connection) = connect(settings).await?;
        let queue = flow::tenant_of(&flow).and_then(|id| numbered_queue(&config.queues, id));
        let queue = queue
            .or_else(|| flow.strip_prefix("q:").filter(|queue| config.queues.names.iter().any(|name| name == queue)));
        let queue = queue.map(str::to_owned);
        let now = inspect::tenants(&mut connection, &keys).await?.into_iter().find(|tenant| *tenant.flow == *flow);
        let mut minute = minute::minute(&mut connection, &keys).await?;
        let standing = standing(&mut connection, &keys, &flow, queue.as_deref()).await?;
        let had = minute.tenants.remove(&*flow).unwrap_or_default();
        let naming = named_by(&config, &mut connection, &keys).await?;
        let row = Row::new(&flow, now, had, minute.ran, standing.paused, standing.now);
        Ok((row, standing, queue, naming))
    })?;
    let verdict = verdict(&row, &standing);
    output::print(|out| {
        if as_json {
            let first: Vec<_> = standing
                .first
                .iter()
                .map(|(flow, time)| json!({"tenant": flow::shown(flow), "virtual_time": time}))
                .collect();
            let mut json = row.json();
            json["explanation"] = json!({
                "verdict": verdict, "queue": queue, "named_by": naming, "floor": standing.floor, "ready": standing.ready,
                "place": standing.place, "first": first, "delayed": standing.delayed, "unseen_in_queue": standing.unseen,
                "not_before": row.now.as_ref().and_then(|now| now.not_before),
            });
            return writeln!(out, "{json}").map_err(Error::Output);
        }
        let mut lines = vec![("", verdict), ("waiting", places(&row, &standing, queue.as_deref()))];
        lines.push((
            "running",
            format!("{} under way; {:.1} % of all running time of the last minute", row.running(), row.share * 100.0),
        ));
        lines.push(("turn", turn(&row, &standing)));
        let limits = row.limits();
        lines
            .push(("granted", format!("weight {}{}{limits}", row.weight(), if limits.is_empty() { "" } else { ", " })));
        lines.push(("named by", naming));
        for (name, text) in lines {
            match name {
                "" => writeln!(out, "{} {text}", flow::shown(&flow)),
                _ => writeln!(out, "  {name:<9} {text}"),
            }
            .map_err(Error::Output)?;
        }
        Ok(())
    })?;
    Ok(Exit::Ok)
}

/// The one reason that counts, the strongest first.
fn verdict(row: &Row, standing: &Standing) -> String {
    let Some(now) = row.now.as_ref().filter(|now| now.waiting > 0) else {
        return match () {
            () if standing.paused => "is paused; nothing of it waits in lanes".to_owned(),
            () if row.running() > 0 => "has nothing waiting in lanes; what it has is under way".to_owned(),
            () => "has nothing waiting in lanes".to_owned(),
        };
    };
    if standing.paused || now.paused {
        return "is paused: it waits until `fairstalk resume`".to_owned();
    }
    if let Some(most) = now.max_concurrency.filter(|most| now.running >= *most) {
        return format!("waits for one of its own tasks to end: {} of {most} are under way", now.running);
    }
    if let Some(wait) = now.not_before.map(|time| time - standing.now as f64).filter(|wait| *wait > 0.0) {
        return format!("waits for its rate: its next task may start in {}", span(wait));
    }
    if let Some(barred) = barred(now, standing) {
        return barred;
    }
    match standing.place {
        Some(0) => "is next: the first free slot is its own".to_owned(),
        Some(1) => "is next but one: one tenant goes first, that has had less or came before".to_owned(),
        Some(ahead) => format!("is not next: {ahead} tenants go first, that have had less or came before"),
        None => "has just been served; look again".to_owned(),
    }
}

/// Why nothing of it may be claimed though it waits: all of it is in paused queues, or of tasks whose rate is limited.
fn barred(now: &TenantFigures, standing: &Standing) -> Option<String> {
    let paused = |line: &&LineFigures| standing.bars.queues.contains(queue_of(line));
    let start = |line: &LineFigures| {
        let rate = line.task.as_ref().and_then(|task| standing.bars.tasks.get(task));
        rate.map_or(0.0, |rate| rate.not_before - standing.now as f64)
    };
    let open = now.lines.iter().filter(|line| !paused(line));
    let Some(first) = open.min_by(|one, other| start(one).total_cmp(&start(other))) else {
        let queues: BTreeSet<&str> = now.lines.iter().map(queue_of).collect();
        let queues = Vec::from_iter(queues).join(", ");
        return (!queues.is_empty()).then(|| format!("waits until `fairstalk resume --queue`: {queues} paused"));
    };
    let wait = start(first);
    let task = first.task.as_deref().filter(|_| wait > 0.0)?;
    Some(format!("waits for the rate of {task}: its next start may be in {}", span(wait)))
}

/// Queue the messages of a lane came from.
fn queue_of(line: &LineFigures) -> &str {
    line.list.split_once('\u{6}').map_or(&*line.list, |(queue, _)| queue)
}

fn turn(row: &Row, standing: &Standing) -> String {
    let seconds = |time: f64| format!("{:.3} s", time / 1000.0);
    let own = row
        .now
        .as_ref()
        .map_or_else(|| "none: it would begin at the floor".to_owned(), |now| seconds(now.virtual_time));
    let first = standing.first.iter().map(|(flow, time)| format!("{} at {}", flow::shown(flow), seconds(*time)));
    let first: Vec<String> = first.collect();
    let first = if first.is_empty() { "nobody".to_owned() } else { first.join(", ") };
    format!("virtual time {own}; floor {}; {} may run, the first are: {first}", seconds(standing.floor), standing.ready)
}

fn places(row: &Row, standing: &Standing, queue: Option<&str>) -> String {
    let mut places = vec![format!("{} in lanes", row.waiting())];
    for line in row.now.iter().flat_map(|now| &now.lines) {
        let (list, step) = line.list.split_once("\u{6}\u{16}").unwrap_or((&line.list, "0"));
        let due = if line.due { ", due after a delay" } else { "" };
        let task = line.task.as_ref().map(|task| format!(", limited {task}")).unwrap_or_default();
        let paused = if standing.bars.queues.contains(queue_of(line)) { ", paused" } else { "" };
        places.push(format!("{} of {list}, priority {step}{due}{task}{paused}", line.waiting));
    }
    places.extend(row.oldest.map(|oldest| format!("the oldest for {}", span(oldest as f64))));
    places.push(format!("{} delayed", standing.delayed));
    if let Some(queue) = queue {
        places.push(format!("{} in {queue} that nobody has looked at yet, whoever's they are", standing.unseen));
    }
    places.join("; ")
}

/// How it is known whose a message is.
fn naming(config: &Config, answer: Option<&str>) -> String {
    let tenancy = &config.tenancy;
    let configured = [("header", &tenancy.header), ("parameter", &tenancy.parameter)];
    let configured: Vec<String> =
        configured.iter().filter_map(|(kind, name)| Some(format!("the {kind} {:?}", name.as_ref()?))).collect();
    if !configured.is_empty() {
        return format!("{}, as [tenancy] says", configured.join(", else "));
    }
    if config.queues.prefix.is_none() || config.queues.names.len() < 2 {
        return "its queue: [tenancy] says nothing, and these queues are no checksum by which it could be found out"
            .to_owned();
    }
    match answer.and_then(|answer| serde_json::from_str::<Answer>(answer).ok()) {
        Some(Answer { name: Some(name), agreeing, disagreeing, .. }) => format!(
            "{name}, found out: {agreeing} distinct values came in their own queue, md5(value) % {}, {disagreeing} did not",
            config.queues.names.len()
        ),
        Some(Answer { before: Some(before), agreeing, disagreeing, .. }) => format!(
            "its queue: {before} did say it, until {disagreeing} of {} distinct values came in another queue than their own",
            agreeing + disagreeing
        ),
        _ => "its queue, so far: [tenancy] says nothing, and the messages seen are too few to find it out".to_owned(),
    }
}

/// The same for who has only a connection.
///
/// # Errors
/// [`BrokerError`].
pub(crate) async fn named_by(config: &Config, connection: &mut Connection, keys: &Keys) -> Result<String, BrokerError> {
    let kept = answer::read(connection, keys).await?;
    Ok(naming(config, kept.answer.as_deref()))
}

/// How often it was found out or lost what says whose a message is, and whether it is lost now: something was deployed
/// that it doesn't fit. Nothing of both where `[tenancy]` says it.
///
/// # Errors
/// [`BrokerError`].
pub(crate) async fn found_out(
    config: &Config,
    connection: &mut Connection,
    keys: &Keys,
) -> Result<(u64, bool), BrokerError> {
    if config.tenancy.parameter.is_some() || config.tenancy.header.is_some() {
        return Ok((0, false));
    }
    let kept = answer::read(connection, keys).await?;
    let told = kept.answer.as_deref().and_then(|answer| serde_json::from_str::<Answer>(answer).ok());
    Ok((kept.epoch, told.is_some_and(|answer| answer.name.is_none())))
}
