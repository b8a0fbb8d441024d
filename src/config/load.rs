//! From the text of a file to a [`Config`], or to everything that is wrong with it.

use super::environment::Environment;
use super::keys::{self, SECTIONS};
use super::problem::{Problem, Problems};
use super::reader::Section;
use super::written::kind;
use super::{Config, Queues, broker, queues, tasks, tenancy, workers};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// What a configuration depends on besides its own text. A parameter, so that a test decides it.
#[derive(Clone)]
pub struct Surroundings {
    /// Variables that override keys, and where credentials are.
    pub environment: Environment,
    /// Processor cores, for `"auto"`.
    pub cores: u32,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        Surroundings { environment: Environment::of_process(), cores: u32::try_from(cores).unwrap_or(u32::MAX) }
    }
}

/// Reads and checks a configuration file.
///
/// # Errors
/// Every problem found: one if the file can't be read or is not TOML, else all of them.
pub fn load(file: &Path, surroundings: &Surroundings) -> Result<Config, Problems> {
    parse(&text_of(file)?, file, surroundings)
}

/// Reads only `[queues]`: enough to route, also for a user who may not read the password of the broker.
///
/// # Errors
/// The problems of that section; other sections are not looked at.
pub fn load_queues(file: &Path, surroundings: &Surroundings) -> Result<Queues, Problems> {
    parse_queues(&text_of(file)?, file, surroundings)
}

/// As [`load`], with the text already read. Relative paths in it are relative to the folder of `file`, which need not exist.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, file: &Path, surroundings: &Surroundings) -> Result<Config, Problems> {
    let mut source = Source::new(text, file, surroundings)?;
    source.check_sections();
    let (broker, results) = broker::read(&mut source);
    let (queues, workers) = (queues::read(&mut source), workers::read(&mut source));
    let python = tasks::read_python(&mut source);
    let tenancy = tenancy::read(&mut source);
    let mut delivery = queues::read_delivery(&mut source);
    let tasks = tasks::read(&mut source, python.is_some());
    delivery.tasks = tasks.deliveries;
    let config = Config {
        broker,
        queues,
        workers,
        python,
        tenancy,
        results,
        delivery,
        tasks: tasks.commands,
        memory_limits: tasks.memory_limits,
        rate_limits: tasks.rate_limits,
        log: workers::read_log(&mut source),
    };
    source.problems.extend(surroundings.environment.unknown());
    source.verdict(config)
}

/// As [`load_queues`], with the text already read.
///
/// # Errors
/// As [`load_queues`].
pub fn parse_queues(text: &str, file: &Path, surroundings: &Surroundings) -> Result<Queues, Problems> {
    let mut source = Source::new(text, file, surroundings)?;
    let queues = queues::read(&mut source);
    source.verdict(queues)
}

fn text_of(file: &Path) -> Result<String, Problems> {
    let wrong = |reason: String, remedy: &str| {
        Problems::one(file.display().to_string(), Problem::new("configuration file", reason, remedy))
    };
    let bytes = std::fs::read(file).map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "create it, or name another one with --config FILE or in FAIRSTALK_CONFIG; etc/fairstalk.toml is a \
                 commented example"
            }
            std::io::ErrorKind::PermissionDenied => "let it be readable by the user fairstalk runs as",
            _ => "name a readable file with --config FILE or in FAIRSTALK_CONFIG",
        };
        wrong(format!("can't be read: {error}"), remedy)
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        wrong(format!("line {line} is not UTF-8"), "save it as UTF-8")
    })
}

/// A file that is TOML, and what was found wrong with it so far.
pub(super) struct Source<'a> {
    name: String,
    folder: PathBuf,
    root: Table,
    pub(super) surroundings: &'a Surroundings,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Source<'a> {
    fn new(text: &str, file: &Path, surroundings: &'a Surroundings) -> Result<Self, Problems> {
        let name = file.display().to_string();
        let root = toml::from_str::<Table>(text)
            .map_err(|error| Problems::one(name.clone(), syntax(text, error.span(), error.message())))?;
        let folder = file.parent().unwrap_or(Path::new("/"));
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        Ok(Source { name, folder, root, surroundings, problems: Vec::new() })
    }

    /// A section of the root; empty if the file has none.
    pub(super) fn section(&mut self, name: &'static str) -> Section<'_> {
        let table = match self.root.remove(name) {
            Some(Value::Table(table)) => table,
            Some(other) => {
                let reason = format!("is {}, not a section", kind(&other));
                self.problems.push(Problem::new(name, reason, format!("write [{name}] and its keys below")));
                Table::new()
            }
            None => Table::new(),
        };
        Section::new(name.to_owned(), name, table, &self.surroundings.environment, &mut self.problems)
    }

    /// Whether a section is in the file or in the environment.
    pub(super) fn has(&self, name: &str) -> bool {
        self.root.contains_key(name) || self.surroundings.environment.mentions(name)
    }

    /// Takes the tables of `[tasks."name"]`, by name.
    pub(super) fn take_tasks(&mut self) -> Table {
        match self.root.remove(keys::TASKS) {
            Some(Value::Table(tables)) => tables,
            Some(_) => {
                let remedy = "write [tasks.\"name\"] for each task and its keys below";
                self.problems.push(Problem::new(keys::TASKS, "is not a section", remedy));
                Table::new()
            }
            None => Table::new(),
        }
    }

    /// A table of one task, given by [`Source::take_tasks`].
    pub(super) fn task(&mut self, name: &str, table: Value) -> Section<'_> {
        let path = format!("tasks.{name:?}");
        let table = match table {
            Value::Table(table) => table,
            _ => {
                let remedy = format!("write [{path}] and its keys below");
                self.problems.push(Problem::new(&path, "is not a table", remedy));
                Table::new()
            }
        };
        Section::new(path, keys::TASKS, table, &self.surroundings.environment, &mut self.problems)
    }

    /// A path of the file as an absolute one: what is relative is relative to the folder of the file.
    pub(super) fn absolute(&self, path: &str) -> PathBuf {
        let joined = self.folder.join(path);
        std::path::absolute(&joined).unwrap_or(joined)
    }

    /// Reports what is in the root and no section.
    fn check_sections(&mut self) {
        for (key, value) in &self.root {
            if SECTIONS.iter().any(|(name, _)| name == key) {
                continue;
            }
            let (reason, remedy) = match keys::nearest(key, SECTIONS.iter().map(|(name, _)| *name)) {
                Some(nearest) => ("there is no such section", format!("did you mean [{nearest}]?")),
                None => match keys::owner_of(key, "") {
                    Some(owner) if !value.is_table() => {
                        ("it stands before any section", format!("it belongs into [{owner}]"))
                    }
                    _ => {
                        let all: Vec<_> = SECTIONS.iter().map(|(name, _)| format!("[{name}]")).collect();
                        ("there is no such section", format!("take it out; known are {}", all.join(", ")))
                    }
                },
            };
            self.problems.push(Problem::new(key, reason, remedy));
        }
    }

    fn verdict<T>(self, value: T) -> Result<T, Problems> {
        if self.problems.is_empty() { Ok(value) } else { Err(Problems { source: self.name, list: self.problems }) }
    }
}

/// A syntax error by line and column, both from 1. The line itself is not quoted: it may hold a password.
fn syntax(text: &str, span: Option<std::ops::Range<usize>>, message: &str) -> Problem {
    let at = span.map_or(0, |span| span.start).min(text.len());
    let before = String::from_utf8_lossy(&text.as_bytes()[..at]);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let message = message.lines().collect::<Vec<_>>().join("; ");
    Problem::new(
        format!("line {line}, column {column}"),
        format!("this is not TOML: {message}"),
        "mend the line; strings stand in \"quotes\", sections in [brackets]",
    )
}
