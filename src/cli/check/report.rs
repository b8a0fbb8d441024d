//! What `check` prints, for people and for machines.

use super::application::Limit;
use super::plan::Plan;
use super::{Check, Settings};
use crate::broker::{Finding, Grade};
use crate::channel::Exit;
use crate::config::{Problem, Problems};
use serde_json::{Value, json};
use std::io::{self, Write};

/// Names beyond this many are not listed.
const NAMES: usize = 4;

/// What answered, what is to be known, and what would be run; errors are for standard error.
pub(super) fn text(check: &Check<'_>, exit: Exit, out: &mut dyn Write) -> io::Result<()> {
    if let Some(health) = &check.redis {
        let version = if health.version.is_empty() { "of unknown version" } else { &health.version };
        writeln!(out, "Redis {version} at {} answers", crate::broker::address(&check.config.broker))?;
    }
    if let (Some(python), Some(application)) = (&check.config.python, &check.application) {
        writeln!(out, "application {:?} registers {} tasks", python.app, application.tasks)?;
    }
    for (name, task) in &check.config.tasks {
        writeln!(out, "task {name:?} runs {}", task.command.join(" "))?;
    }
    for finding in check.findings.iter().filter(|finding| !is_error(finding)) {
        writeln!(out, "{}: {}", finding.grade.word(), finding.text)?;
    }
    if check.findings.iter().any(is_error) {
        return Ok(());
    }
    plan(check, out)?;
    match exit {
        Exit::Ok => Ok(()),
        _ => writeln!(out, "not good enough for --strict: there are warnings"),
    }
}

fn plan(check: &Check<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Plan { user, processes, concurrency, slots, nodes, queues, default_queue, limits, .. } = &check.plan;
    let (each, at_once) = match check.plan.min_concurrency {
        least if least == *concurrency => (concurrency.to_string(), slots.to_string()),
        least => (format!("{least} to {concurrency}"), format!("up to {slots}")),
    };
    let queue_count = queues.len();
    writeln!(
        out,
        "would run {processes} workers with {each} slots each, {at_once} tasks at once, on {queue_count} queues"
    )?;
    writeln!(out, "  user         {user}")?;
    writeln!(out, "  workers      {}", some(nodes))?;
    writeln!(out, "  queues       {}; of tasks without a user: {default_queue}", some(queues))?;
    if let Some(naming) = &check.naming {
        writeln!(out, "  tenants      named by {naming}")?;
    }
    if let (Some(python), Some(application)) = (&check.config.python, &check.application) {
        let about = &application.about;
        writeln!(out, "  application  {} in {}", python.app, python.directory.display())?;
        let interpreter = python.interpreter.display();
        writeln!(out, "  interpreter  {interpreter}, Python {}, Celery {}", about.python, about.celery)?;
        let results = &about.results;
        match results.database {
            Some(database) => writeln!(out, "  results      database {database} of the same Redis")?,
            None => writeln!(out, "  results      {}, by Celery", results.backend)?,
        }
        let limit = |limit: &Option<Limit>| match limit {
            Some(limit) => format!("{} s ({})", limit.seconds, limit.task),
            None => "none".to_owned(),
        };
        writeln!(
            out,
            "  time limits  the longest: {} hard, {} soft",
            limit(&about.hard_limit),
            limit(&about.soft_limit)
        )?;
    }
    let mut parts = vec![
        format!("{} to finish at a stop", limits.drain_timeout),
        format!("{} deliveries", limits.max_deliveries),
        format!("messages of {}", limits.max_message_size),
    ];
    parts.extend(limits.max_tasks_per_runner.map(|most| format!("{most} tasks in a runner")));
    parts.extend(limits.command_time_limit.as_ref().map(|most| format!("{most} for a command")));
    writeln!(out, "  limits       {}", parts.join(", "))
}

/// The first few of a list.
fn some(names: &[String]) -> String {
    match names {
        [first @ .., last] if names.len() > NAMES => format!("{}, …, {last}", first[..NAMES - 1].join(", ")),
        names => names.join(", "),
    }
}

fn is_error(finding: &Finding) -> bool {
    matches!(finding.grade, Grade::Error(_))
}

/// All of it as one object.
pub(super) fn json(check: &Check<'_>, settings: &Settings, exit: Exit) -> Value {
    let findings: Vec<Value> = check
        .findings
        .iter()
        .map(|finding| json!({"grade": finding.grade.word(), "code": finding.code, "text": finding.text}))
        .collect();
    let redis = check.redis.as_ref().map(|health| {
        json!({
            "address": crate::broker::address(&check.config.broker), "version": health.version, "mode": health.mode,
            "maxmemory": health.memory_limit, "maxmemory_policy": health.eviction,
            "append_only": health.append_only, "appendfsync": health.fsync, "save": health.snapshots,
        })
    });
    let application = check.config.python.as_ref().zip(check.application.as_ref()).map(|(python, application)| {
        let about = &application.about;
        json!({
            "app": python.app, "directory": python.directory, "interpreter": python.interpreter,
            "tasks": application.tasks, "celery": about.celery, "python": about.python, "results": about.results,
            "hard_limit": about.hard_limit, "soft_limit": about.soft_limit,
        })
    });
    json!({
        "config": settings.file(), "exit": exit.code(), "redis": redis, "application": application,
        "commands": check.config.tasks.keys().collect::<Vec<_>>(), "plan": check.plan, "tenants": check.naming, "findings": findings,
    })
}

/// A configuration that can't be used, in the same form.
pub(super) fn refusal(settings: &Settings, problems: &Problems) -> Value {
    let finding = |problem: &Problem| {
        json!({
            "grade": "error", "code": "configuration", "text": problem.to_string().trim_start(), "key": problem.key,
            "value": problem.value, "variable": problem.variable, "reason": problem.reason, "remedy": problem.remedy,
        })
    };
    let findings: Vec<Value> = problems.list.iter().map(finding).collect();
    json!({
        "config": settings.file(), "exit": Exit::Config.code(), "redis": null, "application": null, "commands": [],
        "plan": null, "tenants": null, "findings": findings,
    })
}
