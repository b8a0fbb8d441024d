//! The text of `STATUS=`, which `systemctl status` shows: short, factual, one line. Pure.

use super::slot::State;
use crate::channel::Beat;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Longest text; what follows is cut.
const LONGEST: usize = 400;

/// What the daemon as a whole does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Not every worker has been ready yet.
    Starting,
    /// It works.
    Running,
    /// Nothing is claimed until CONT.
    Paused,
    /// It stops; whoever is left then is killed.
    Stopping {
        /// When.
        deadline: Instant,
    },
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
    pub doing: Doing,
    /// The workers.
    pub workers: Vec<Part<'a>>,
    /// The zygote, if there is one.
    pub zygote: Option<Part<'a>>,
    /// Messages in all queues.
    pub waiting: u64,
    /// Tasks settled per second.
    pub rate: f64,
}

/// The text.
pub fn text(view: &View<'_>, now: Instant) -> String {
    let count = view.workers.len();
    let live = view.workers.iter().filter_map(|worker| worker.beat);
    let (busy, slots) = live.fold((0, 0), |(busy, slots), beat| (busy + beat.busy, slots + beat.slots));
    let waiting = grouped(view.waiting);
    let mut text = match view.doing {
        Doing::Starting => {
            let ready = view.workers.iter().filter(|worker| *worker.state == State::Ready).count();
            format!("starting: {ready} of {count} workers ready")
        }
        Doing::Running => format!("{busy}/{slots} slots busy, {waiting} waiting, {} tasks/s", rate(view.rate)),
        Doing::Paused => format!("paused: {busy}/{slots} slots busy, {waiting} waiting"),
        Doing::Stopping { deadline } => {
            let left = view.workers.iter().filter(|w| matches!(w.state, State::Draining)).count();
            format!("stopping: {busy} tasks in {left} workers, at most {} left", seconds(deadline, now))
        }
    };
    for part in view.zygote.iter().chain(&view.workers) {
        if let Some(trouble) = trouble(part, view.doing, now) {
            text.push_str("; ");
            text.push_str(&trouble);
        }
    }
    cut(text)
}

/// What is wrong with one part, if anything.
fn trouble(part: &Part<'_>, doing: Doing, now: Instant) -> Option<String> {
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

/// `1,204`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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

/// Cuts at a character; `str::floor_char_boundary` is younger than the oldest compiler that is to build this.
fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST - '…'.len_utf8()).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
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
