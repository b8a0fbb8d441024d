//! `[python]` and `[tasks."name"]`: what there is to run.

use super::load::Source;
use super::problem::{Complaint, Problem};
use super::written::Written;
use super::{CommandTask, Python};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// Shortest time limit.
const SHORTEST_LIMIT: Duration = Duration::from_millis(1);

pub(super) fn read_python(source: &mut Source<'_>) -> Option<Python> {
    if !source.has("python") {
        return None;
    }
    let mut section = source.section("python");
    let app = section.take("app", module);
    section.require("app", "name the application as in `celery -A`, for example app = \"imgbackend\"");
    let directory = section.word("directory");
    let interpreter = section.word("interpreter").unwrap_or_else(|| "python3".to_owned());
    let env = section.variables("env").unwrap_or_default();
    let max_tasks_per_runner = section.count("max_tasks_per_runner", 1..=u32::MAX);
    let time_limit = section.duration("time_limit", SHORTEST_LIMIT..=30 * DAY);
    let soft_time_limit = section.duration("soft_time_limit", SHORTEST_LIMIT..=30 * DAY);
    if let (Some(hard), Some(soft)) = (time_limit, soft_time_limit)
        && soft >= hard
    {
        let show = super::units::show_duration;
        let reason = format!("{} is not before time_limit, {}, so no task would notice", show(soft), show(hard));
        section.complain("soft_time_limit", Complaint::new(reason, "let soft_time_limit be the shorter one"));
    }
    section.finish();
    Some(Python {
        app: app.unwrap_or_default(),
        directory: source.absolute(directory.as_deref().unwrap_or(".")),
        // Not resolved any further: a virtual environment's python is a link, and only its own path says which one.
        interpreter: match interpreter.contains('/') {
            true => source.absolute(&interpreter),
            false => PathBuf::from(interpreter),
        },
        env,
        max_tasks_per_runner,
        time_limit,
        soft_time_limit,
    })
}

/// A module, with an attribute after `:` or `.`, as `celery -A` takes it.
fn module(written: Written) -> Result<String, Complaint> {
    let text = written.string()?;
    let is_name = |part: &str| {
        part.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    if text.split(['.', ':']).all(is_name) {
        return Ok(text);
    }
    let remedy = "write it as in `celery -A`: \"imgbackend\", \"imgbackend.celery\" or \"imgbackend.celery:app\"";
    Err(Complaint::new("is not the name of a Python module", remedy))
}

pub(super) fn read(source: &mut Source<'_>) -> BTreeMap<String, CommandTask> {
    let mut tasks = BTreeMap::new();
    for (name, table) in source.take_tasks() {
        if name.is_empty() {
            let remedy = "write the name that producers send, for example [tasks.\"thumbnails.render\"]";
            source.problems.push(Problem::new("tasks.\"\"", "is a task without a name", remedy));
        }
        let task = read_task(source, &name, table);
        tasks.insert(name, task);
    }
    tasks
}

fn read_task(source: &mut Source<'_>, name: &str, table: toml::Value) -> CommandTask {
    let mut section = source.task(name, table);
    let command = section.take("command", argv);
    section
        .require("command", "write the program and its arguments: command = [\"/usr/local/bin/render\", \"--fast\"]");
    let directory = section.word("directory");
    let mut task = CommandTask {
        command: command.unwrap_or_default(),
        directory: PathBuf::new(),
        env: section.variables("env").unwrap_or_default(),
        max_retries: section.count("max_retries", 0..=1000).unwrap_or(3),
        retry_backoff: section.duration("retry_backoff", Duration::ZERO..=DAY).unwrap_or(Duration::from_secs(1)),
        retry_backoff_max: section
            .duration("retry_backoff_max", Duration::ZERO..=DAY)
            .unwrap_or(Duration::from_secs(600)),
        retry_jitter: section.boolean("retry_jitter").unwrap_or(true),
        time_limit: section.duration("time_limit", SHORTEST_LIMIT..=30 * DAY),
    };
    let comparable = !section.refused("retry_backoff") && !section.refused("retry_backoff_max");
    if comparable && task.retry_backoff > task.retry_backoff_max {
        let key = if section.given("retry_backoff") { "retry_backoff" } else { "retry_backoff_max" };
        let show = super::units::show_duration;
        let (first, longest) = (show(task.retry_backoff), show(task.retry_backoff_max));
        let reason = format!("retry_backoff, {first}, is longer than retry_backoff_max, {longest}");
        section.complain(key, Complaint::new(reason, "let retry_backoff be the shorter one"));
    }
    section.finish();
    task.directory = source.absolute(directory.as_deref().unwrap_or("/"));
    task
}

/// A program and its arguments, without a shell between.
fn argv(written: Written) -> Result<Vec<String>, Complaint> {
    let remedy = "write the program and its arguments as a list: [\"/usr/local/bin/render\", \"--fast\"]";
    let argv = written.argv()?;
    let Some(program) = argv.first().filter(|program| !program.is_empty()) else {
        return Err(Complaint::new("names no program", remedy));
    };
    if program.contains('/') && !program.starts_with('/') {
        let remedy = "write an absolute path, or a bare name to be looked up in PATH";
        return Err(Complaint::new(format!("{program:?} is a relative path"), remedy));
    }
    Ok(argv)
}
