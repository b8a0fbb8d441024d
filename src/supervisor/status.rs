//! The text of `STATUS=`, which `systemctl status` shows: short, factual, one line. Pure.

use super::slot::State;
use crate::channel::Beat;
use crate::telemetry::storm::grouped;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Longest text; what follows is cut.
const LONGEST: usize = 400;

/// What the daemon as a whole does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing<'a> {
    /// Not every worker has been ready yet.
    Starting,
    /// It works.
    Running,
    /// Workers are replaced.
    Reloading {
        /// How far it is: `worker 2 of 4`.
        what: &'a str,
    },
    /// Nothing is claimed until CONT.
    Paused,
    /// It stops; what still runs then is handed back.
    Stopping {
        /// When.
        deadline: Instant,
    },
}

impl Doing<'_> {
    /// One word; when it changes, the text is news.
    pub fn word(&self) -> &'static str {
        match self {
            Doing::Starting => "starting",
            Doing::Running => "running",
            Doing::Reloading { .. } => "reloading",
            Doing::Paused => "paused",
            Doing::Stopping { .. } => "draining",
        }
    }
}

/// One worker, or the zygote.
#[derive(Debug)]
pub struct Part<'a> {
    /// `worker 2`, `application`.
    pub name: String,
    /// State of its slot.
    pub state: &'a State,
    /// Why it can't work or why it ended.
    pub note: Option<&'a str>,
    /// Its latest figures.
    pub beat: Option<Beat>,
}

/// Everything the text is made from.
#[derive(Debug)]
pub struct View<'a> {
    /// What the daemon does.
    pub doing: Doing<'a>,
    /// The workers.
    pub workers: Vec<Part<'a>>,
    /// The zygotes: one for each generation, none without an application.
    pub zygotes: Vec<Part<'a>>,
    /// Messages in all queues.
    pub waiting: u64,
    /// Tenants whose messages wait, where that is known.
    pub tenants: Option<u64>,
    /// Tasks settled per second.
    pub rate: f64,
    /// Why the last reload failed, if it did.
    pub reload_failure: Option<&'a str>,
}

/// The text.
pub fn text(view: &View<'_>, now: Instant) -> String {
    let count = view.workers.len();
    let live = view.workers.iter().filter_map(|worker| worker.beat);
    let (busy, slots) = live.fold((0, 0), |(busy, slots), beat| (busy + beat.busy, slots + beat.slots));
    let waiting = grouped(view.waiting);
    let mut text = match view.doing {
        Doing::Reloading { what } => format!("reloading: {what}"),
        Doing::Starting => {
            let ready = view.workers.iter().filter(|worker| *worker.state == State::Ready).count();
            format!("starting: {ready} of {count} workers ready")
        }
        Doing::Running => {
            let tenants = view.tenants.map(|count| format!(", {}", counted(count, "tenant"))).unwrap_or_default();
            format!("{busy}/{slots} slots busy, {waiting} waiting{tenants}, {} tasks/s", rate(view.rate))
        }
        Doing::Paused => format!("paused: {busy}/{slots} slots busy, {waiting} waiting"),
        Doing::Stopping { deadline } => {
            let tasks = counted(u64::from(busy), "task");
            match (busy, deadline > now) {
                (0, _) => "draining: no task runs any more".to_owned(),
                (_, false) => format!("draining: {tasks} handed back"),
                (1, true) => format!("draining: {tasks} still runs, {} left", seconds(deadline, now)),
                (_, true) => format!("draining: {tasks} still run, {} left", seconds(deadline, now)),
            }
        }
    };
    if let (Some(why), Doing::Running | Doing::Paused) = (view.reload_failure, view.doing) {
        text.push_str("; reload failed: ");
        text.push_str(&one_line(why));
    }
    for part in view.zygotes.iter().chain(&view.workers) {
        if let Some(trouble) = trouble(part, view.doing, now) {
            text.push_str("; ");
            text.push_str(&trouble);
        }
    }
    cut(text)
}

/// What is wrong with one part, if anything.
fn trouble(part: &Part<'_>, doing: Doing<'_>, now: Instant) -> Option<String> {
    let name = &part.name;
    let because = |text: String| match part.note {
        Some(note) => format!("{text}: {}", one_line(note)),
        None => text,
    };
    match part.state {
        State::Waiting { until } => Some(because(format!("{name} restarting in {}", seconds(*until, now)))),
        State::Halted { reason } if !reason.is_empty() => Some(format!("{name} halted: {}", one_line(reason))),
        State::Starting if matches!(doing, Doing::Running | Doing::Paused) => Some(because(format!("{name} starting"))),
        State::Starting | State::Ready | State::Draining => part.note.map(|_| because(name.clone())),
        State::Halted { .. } | State::Exited => None,
    }
}

/// The last line that says something: of a Python traceback that is the exception itself.
pub fn one_line(text: &str) -> String {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `1 task`, `1,204 tasks`.
fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// `96`, but `0.4`: a rate below ten keeps one decimal.
fn rate(rate: f64) -> String {
    if rate < 0.05 {
        "0".to_owned()
    } else if rate < 9.95 {
        format!("{rate:.1}")
    } else {
        format!("{rate:.0}")
    }
}

/// Whole seconds, rounded up: `4 s`.
fn seconds(until: Instant, now: Instant) -> String {
    format!("{} s", until.saturating_duration_since(now).as_secs_f64().ceil())
}

/// Cuts at a character.
fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST - '…'.len_utf8()));
        text.push('…');
    }
    text
}

/// Tasks settled per second, over the last few seconds.
#[derive(Debug, Default)]
pub struct Throughput {
    total: u64,
    samples: VecDeque<(Instant, u64)>,
}

/// Time over which the rate is taken.
const WINDOW: Duration = Duration::from_secs(5);

impl Throughput {
    /// So many more were settled.
    pub fn add(&mut self, settled: u64, now: Instant) {
        if self.samples.is_empty() {
            self.samples.push_back((now, self.total));
        }
        self.total += settled;
        self.samples.push_back((now, self.total));
    }

    /// Rate over the window that ends now.
    pub fn rate(&mut self, now: Instant) -> f64 {
        while self.samples.len() > 1 && self.samples[1].0 + WINDOW <= now {
            self.samples.pop_front();
        }
        match self.samples.front() {
            Some((since, before)) if *since < now => {
                (self.total - before) as f64 / now.duration_since(*since).max(Duration::from_secs(1)).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
