//! `[python]` and `[tasks."name"]`: what there is to run, and what is special about single tasks.

use super::load::Source;
use super::problem::{Complaint, Problem};
use super::workers::MEMORY;
use super::written::Written;
use super::{CommandTask, Python, TaskDelivery};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

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
    let max_memory_per_runner = section.size("max_memory_per_runner", MEMORY);
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
        max_memory_per_runner,
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

/// Commands, and, where there is an application (`python`), the memory limits of tasks that are none; into `deliveries` goes what single tasks, Python's too, have
/// otherwise than `[delivery]` says.
pub(super) fn read(
    source: &mut Source<'_>,
    deliveries: &mut BTreeMap<String, TaskDelivery>,
    python: bool,
) -> (BTreeMap<String, CommandTask>, BTreeMap<String, u64>) {
    let (mut tasks, mut limits) = (BTreeMap::new(), BTreeMap::new());
    for (name, table) in source.take_tasks() {
        if name.is_empty() {
            let remedy = "write the name that producers send, for example [tasks.\"thumbnails.render\"]";
            source.problems.push(Problem::new("tasks.\"\"", "is a task without a name", remedy));
        }
        let (task, delivery, limit) = read_task(source, &name, table, python);
        if delivery != TaskDelivery::default() {
            deliveries.insert(name.clone(), delivery);
        }
        match task {
            Some(task) => drop(tasks.insert(name, task)),
            None => limits.extend(limit.map(|limit| (name, limit))),
        }
    }
    (tasks, limits)
}

/// Keys that say something about a command.
const OF_COMMANDS: [&str; 7] =
    ["directory", "env", "max_retries", "retry_backoff", "retry_backoff_max", "retry_jitter", "time_limit"];

/// A task without a command is one of the application, of which only delivery and memory limit are told.
fn read_task(
    source: &mut Source<'_>,
    name: &str,
    table: toml::Value,
    python: bool,
) -> (Option<CommandTask>, TaskDelivery, Option<u64>) {
    let mut section = source.task(name, table);
    let command = section.take("command", argv);
    let delivery = TaskDelivery {
        mode: section.choice("delivery", &super::queues::MODES),
        keep_failed: section.boolean("keep_failed"),
    };
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
        time_limit: section.duration("time_limit", Duration::from_millis(1)..=30 * DAY),
        memory_limit: section.size("memory_limit", MEMORY),
    };
    let comparable = !section.refused("retry_backoff") && !section.refused("retry_backoff_max");
    if comparable && task.retry_backoff > task.retry_backoff_max {
        let key = if section.given("retry_backoff") { "retry_backoff" } else { "retry_backoff_max" };
        let show = super::units::show_duration;
        let (first, longest) = (show(task.retry_backoff), show(task.retry_backoff_max));
        let reason = format!("retry_backoff, {first}, is longer than retry_backoff_max, {longest}");
        section.complain(key, Complaint::new(reason, "let retry_backoff be the shorter one"));
    }
    let is_command = section.given("command");
    if python && !is_command && ["delivery", "keep_failed", "memory_limit"].iter().any(|key| section.given(key)) {
        for key in OF_COMMANDS.into_iter().filter(|key| section.given(key)).collect::<Vec<_>>() {
            let reason = "is for a command, and none is given: this is a task of the application";
            section.complain(key, Complaint::new(reason, "take it out, or write the command of this task"));
        }
    } else {
        section.require(
            "command",
            "write the program and its arguments: command = [\"/usr/local/bin/render\", \"--fast\"]",
        );
    }
    section.finish();
    task.directory = source.absolute(directory.as_deref().unwrap_or("/"));
    let limit = task.memory_limit;
    (is_command.then_some(task), delivery, limit)
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
