//! `[workers]` and `[log]`.

use super::load::Source;
use super::problem::Complaint;
use super::reader::Amount;
use super::written::{Written, plain};
use super::{Level, Log, LogFormat, TaskLines, Workers};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Most worker processes.
const PROCESSES: u32 = 64;
/// Slots in each.
pub const CONCURRENCY: RangeInclusive<u32> = 1..=256;
const DAY: Duration = Duration::from_secs(86_400);
/// What is claimed ahead keeps others waiting for about ten times this, if it turns out to take long.
const AHEAD_MAX: Duration = Duration::from_millis(100);
/// Bounds of a limit on memory: less than the first no program starts with.
pub(super) const MEMORY: RangeInclusive<u64> = 1 << 20..=1 << 50;

/// Slots of a worker: a fixed number if both are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    /// The fewest.
    pub min: u32,
    /// The most.
    pub max: u32,
}

pub(super) fn read(source: &mut Source<'_>) -> Workers {
    let cores = source.surroundings.cores.max(1);
    let mut section = source.section("workers");
    let processes = match section.amount("processes", 1..=PROCESSES) {
        Some(Amount::Auto) => cores.min(PROCESSES),
        Some(Amount::Exactly(number)) => number,
        None => 2,
    };
    let automatic = (cores.saturating_mul(2) / processes).clamp(*CONCURRENCY.start(), *CONCURRENCY.end());
    let concurrency = section.take("concurrency", |written| concurrency(written, automatic));
    let concurrency = concurrency.unwrap_or(Concurrency { min: 4, max: 4 });
    let name = section.word("name").unwrap_or_else(|| "worker%i@%h".to_owned());
    let workers = Workers {
        processes,
        concurrency,
        name,
        drain_timeout: section.duration("drain_timeout", Duration::ZERO..=DAY).unwrap_or(Duration::from_secs(60)),
        liveness_timeout: section
            .duration("liveness_timeout", Duration::from_secs(3)..=Duration::from_secs(3600))
            .unwrap_or(Duration::from_secs(10)),
        reload_timeout: section
            .duration("reload_timeout", Duration::from_secs(1)..=Duration::from_secs(3600))
            .unwrap_or(Duration::from_secs(60)),
        restart_min: section
            .duration("restart_min", Duration::from_millis(1)..=Duration::from_secs(3600))
            .unwrap_or(Duration::from_millis(200)),
        restart_max: section.duration("restart_max", Duration::from_millis(1)..=DAY).unwrap_or(Duration::from_secs(30)),
        shrink_after: section
            .duration("shrink_after", Duration::from_millis(100)..=DAY)
            .unwrap_or(Duration::from_secs(30)),
        memory_limit: section.size("memory_limit", MEMORY),
        claim_ahead: section.duration("claim_ahead", Duration::ZERO..=AHEAD_MAX).unwrap_or(Duration::from_millis(1)),
        events: section.boolean("events"),
    };
    if let Err(complaint) = check_name(&workers.name, processes) {
        section.complain("name", complaint);
    }
    let comparable = !section.refused("restart_min") && !section.refused("restart_max");
    if comparable && workers.restart_min > workers.restart_max {
        let key = if section.given("restart_min") { "restart_min" } else { "restart_max" };
        let show = super::units::show_duration;
        let reason = format!(
            "restart_min, {}, is longer than restart_max, {}",
            show(workers.restart_min),
            show(workers.restart_max)
        );
        section.complain(key, Complaint::new(reason, "let restart_min be the shorter one"));
    }
    section.finish();
    workers
}

/// A number of slots, or two bounds for it; in a variable the bounds are a TOML table.
fn concurrency(written: Written, automatic: u32) -> Result<Concurrency, Complaint> {
    let (least, most) = (CONCURRENCY.start(), CONCURRENCY.end());
    let remedy = format!("write a number from {least} to {most}, \"auto\", or {{ min = 2, max = 10 }}");
    if written.is_text("auto") {
        return Ok(Concurrency { min: automatic, max: automatic });
    }
    let number = |written: Written, remedy: &str| {
        let number = written.integer(&(u64::from(*least)..=u64::from(*most)), remedy)?;
        Ok(u32::try_from(number).unwrap_or(*most))
    };
    if !written.is_table() {
        let fixed = number(written, &remedy)?;
        return Ok(Concurrency { min: fixed, max: fixed });
    }
    let toml::Value::Table(mut table) = written.toml()? else { return Err(Complaint::new("is no table", remedy)) };
    let mut bound = |name: &str| match table.remove(name) {
        Some(value) => number(Written::Value(value), &remedy)
            .map_err(|Complaint { reason, remedy }| Complaint::new(format!("has a {name} that {reason}"), remedy)),
        None => Err(Complaint::new(format!("has no {name}"), remedy.clone())),
    };
    let bounds = Concurrency { min: bound("min")?, max: bound("max")? };
    match table.keys().next() {
        Some(other) => Err(Complaint::new(format!("has {other:?}, which means nothing here"), remedy)),
        None if bounds.min > bounds.max => Err(Complaint::new("has a min above its max", "exchange them")),
        None => Ok(bounds),
    }
}

fn check_name(pattern: &str, processes: u32) -> Result<(), Complaint> {
    let mut numbered = false;
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '%' => match rest.next() {
                Some('i') => numbered = true,
                Some('h' | 'n' | 'd' | '%') => {}
                _ => {
                    return Err(Complaint::new(
                        "has a % before something other than i, h, n, d and %",
                        "%i is the number of the worker, %h the host, %n and %d its name without and only the domain, %% a percent sign",
                    ));
                }
            },
            ',' => {
                return Err(Complaint::new(
                    "holds a comma, which separates names in `celery inspect -d`",
                    "take it out",
                ));
            }
            c if c.is_whitespace() => return Err(Complaint::new("holds white space", "take it out")),
            _ => {}
        }
    }
    if processes > 1 && !numbered {
        let reason = format!("gives all {processes} workers the same name");
        return Err(Complaint::new(reason, "put %i, the number of the worker, into it"));
    }
    Ok(())
}

impl Workers {
    /// Node name of a worker, as Flower and `celery inspect` see it: [`Workers::name`] filled in. `%i` is its number, `%h`
    /// the host, `%n` the host without its domain and `%d` the domain (`celery/utils/nodenames.py`).
    pub fn node_name(&self, worker: u32, host: &str) -> String {
        let (short, domain) = host.split_once('.').unwrap_or((host, ""));
        let mut name = String::new();
        let mut rest = self.name.chars();
        while let Some(c) = rest.next() {
            match if c == '%' { rest.next() } else { None } {
                Some('i') => name.push_str(&worker.to_string()),
                Some('h') => name.push_str(host),
                Some('n') => name.push_str(short),
                Some('d') => name.push_str(domain),
                Some(other) => name.push(other),
                None => name.push(c),
            }
        }
        name
    }
}

/// A path that does not depend on where the file is.
fn absolute(written: Written) -> Result<PathBuf, Complaint> {
    let text = plain(written.string()?)?;
    match text.starts_with('/') {
        true => Ok(PathBuf::from(text)),
        false => Err(Complaint::new("is not an absolute path", "write the whole path, from / on")),
    }
}

pub(super) fn read_log(source: &mut Source<'_>) -> Log {
    let mut section = source.section("log");
    let levels = [("debug", Level::Debug), ("info", Level::Info), ("warning", Level::Warning), ("error", Level::Error)];
    let tasks = [("failures", TaskLines::Failures), ("all", TaskLines::All)];
    let default = Log::default();
    let log = Log {
        level: section.choice("level", &levels).unwrap_or(default.level),
        tasks: section.choice("tasks", &tasks).unwrap_or(default.tasks),
        format: section.choice("format", LogFormat::WORDS).unwrap_or(default.format),
        journal_socket: section.take("journal_socket", absolute).unwrap_or(default.journal_socket),
        storm_window: section
            .duration("storm_window", Duration::from_secs(1)..=Duration::from_secs(3600))
            .unwrap_or(default.storm_window),
        storm_lines: section.count("storm_lines", 0..=1_000_000).unwrap_or(default.storm_lines),
        storm_output: section.count("storm_output", 0..=1_000_000).unwrap_or(default.storm_output),
        task_output: section.count("task_output", 0..=1_000_000_000).unwrap_or(default.task_output),
    };
    section.finish();
    log
}
