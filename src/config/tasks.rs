//! `[python]` and `[tasks."name"]`: what there is to run, and what is special about single tasks.

use super::load::Source;
use super::problem::{Complaint, Problem};
use super::units::rate;
use super::workers::MEMORY;
use super::written::Written;
use super::{CommandTask, Python, TaskDelivery};
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
    let max_memory_per_runner = section.size("max_memory_per_runner", MEMORY);
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
        max_memory_per_runner,
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

/// What is said of single tasks.
#[derive(Default)]
pub(super) struct Tasks {
    /// Commands.
    pub commands: BTreeMap<String, CommandTask>,
    /// Memory limits of tasks of the application.
    pub memory_limits: BTreeMap<String, u64>,
    /// Most starts a second, of both.
    pub rate_limits: BTreeMap<String, f64>,
    /// What they have, both, otherwise than `[delivery]` says.
    pub deliveries: BTreeMap<String, TaskDelivery>,
}

/// All of it; `python`: there is an application, so that tasks may be its own.
pub(super) fn read(source: &mut Source<'_>, python: bool) -> Tasks {
    let mut tasks = Tasks::default();
    for (name, table) in source.take_tasks() {
        if name.is_empty() {
            let remedy = "write the name that producers send, for example [tasks.\"thumbnails.render\"]";
            source.problems.push(Problem::new("tasks.\"\"", "is a task without a name", remedy));
        }
        read_task(source, name, table, python, &mut tasks);
    }
    tasks
}

/// Keys that say something about a command.
const OF_COMMANDS: [&str; 7] =
    ["directory", "env", "max_retries", "retry_backoff", "retry_backoff_max", "retry_jitter", "time_limit"];

/// Keys that say something about any task.
const OF_ALL: [&str; 4] = ["delivery", "keep_failed", "memory_limit", "rate_limit"];

/// A task without a command is one of the application, of which only [`OF_ALL`] is told.
fn read_task(source: &mut Source<'_>, name: String, table: toml::Value, python: bool, tasks: &mut Tasks) {
    let mut section = source.task(&name, table);
    let rate_limit = section.take("rate_limit", |written| rate(&written.toml()?));
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
        time_limit: section.duration("time_limit", SHORTEST_LIMIT..=30 * DAY),
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
    if python && !is_command && OF_ALL.iter().any(|key| section.given(key)) {
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
    if delivery != TaskDelivery::default() {
        tasks.deliveries.insert(name.clone(), delivery);
    }
    tasks.rate_limits.extend(rate_limit.map(|rate| (name.clone(), rate)));
    if is_command {
        tasks.commands.insert(name, task);
    } else {
        tasks.memory_limits.extend(task.memory_limit.map(|limit| (name, limit)));
    }
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
