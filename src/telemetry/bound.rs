//! What of an event reaches the log: its level decides, and in a storm of like lines their number.

use super::fields;
use super::storm::{Kind, Limits, Storm, grouped};
use crate::config::{Level, Log};
use std::fmt;
use std::sync::{Mutex, OnceLock};
use std::time::Instant;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;

/// The storm of this process: logging is one for all of it.
static STORM: OnceLock<Mutex<Storm>> = OnceLock::new();

/// Lets pass what is severe enough and does not come in masses.
pub struct Bound {
    levels: Targets,
}

impl Bound {
    /// As configured; the limits are those of the first call in this process.
    pub fn new(log: &Log) -> Bound {
        let limits = Limits { window: log.storm_window, lines: log.storm_lines, output: log.storm_output };
        STORM.get_or_init(|| Mutex::new(Storm::new(limits)));
        Bound { levels: levels(log.level) }
    }

    /// From now on.
    pub fn set_level(&mut self, level: Level) {
        self.levels = levels(level);
    }
}

/// The level is about fairstalk itself; of the libraries below it only what deserves a look is shown.
fn levels(level: Level) -> Targets {
    let own = match level {
        Level::Debug => LevelFilter::DEBUG,
        Level::Info => LevelFilter::INFO,
        Level::Warning => LevelFilter::WARN,
        Level::Error => LevelFilter::ERROR,
    };
    Targets::new().with_default(own.min(LevelFilter::WARN)).with_target("fairstalk", own)
}

// A layer of its own, not a filter of the one that writes: those keep a state that an event refused here upsets.
impl<S: Subscriber> Layer<S> for Bound {
    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        Layer::enabled(&self.levels, metadata, context)
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        Layer::<S>::register_callsite(&self.levels, metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Layer::<S>::max_level_hint(&self.levels)
    }

    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let Some(kind) = kind(event) else { return true };
        let storm = STORM.get().and_then(|storm| storm.lock().ok());
        storm.is_none_or(|mut storm| storm.admit(kind, Instant::now()))
    }
}

/// What a line is about, if there could be a storm of it: what tasks write, and warnings and errors about them. Never
/// what was put to the dead letters, which is the last that is heard of a message, and never what stands for
/// others.
fn kind(event: &Event<'_>) -> Option<Kind> {
    let mut about = About::default();
    event.record(&mut about);
    let level = *event.metadata().level();
    if about.exempt || (!about.output && (about.task.is_empty() || level > tracing::Level::WARN)) {
        return None;
    }
    let about_what = if about.output { level.as_str().to_ascii_lowercase() } else { about.outcome };
    Some(Kind { task: about.task, about: about_what, output: about.output })
}

/// The few fields that say what a line is about.
#[derive(Default)]
struct About {
    task: String,
    outcome: String,
    output: bool,
    exempt: bool,
}

impl Visit for About {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            fields::TASK_NAME => self.task = value.to_owned(),
            fields::LOGGER => self.output = true,
            fields::OUTCOME if value == "dead-letter" => self.exempt = true,
            fields::OUTCOME => self.outcome = value.to_owned(),
            _ => {}
        }
    }
    fn record_u64(&mut self, field: &Field, _: u64) {
        self.exempt |= field.name() == fields::SUPPRESSED;
    }
    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// Tells of the windows that have ended what did not pass in them. To be called now and then.
pub fn tell_suppressed() {
    told(|storm| storm.ended(Instant::now()));
}

/// Tells what has not passed so far. To be called before the process ends.
pub fn tell_all_suppressed() {
    told(Storm::all);
}

fn told(take: impl FnOnce(&mut Storm) -> Vec<super::storm::Suppressed>) {
    // Not told under the lock: telling asks for it again.
    let suppressed = STORM.get().and_then(|storm| storm.lock().ok()).map(|mut storm| take(&mut storm));
    for line in suppressed.into_iter().flatten() {
        let (count, seconds) = (grouped(line.count), line.window.as_secs_f64());
        let Kind { task, about, output } = line.kind;
        let name = Some(task.as_str()).filter(|task| !task.is_empty());
        if output {
            tracing::warn!(
                { fields::TASK_NAME } = name,
                { fields::SUPPRESSED } = line.count,
                "{count} more lines like this in {seconds} s: output of {} at level {about}",
                name.unwrap_or("no task"),
            );
        } else {
            tracing::warn!(
                { fields::TASK_NAME } = name,
                { fields::OUTCOME } = about,
                { fields::SUPPRESSED } = line.count,
                "{count} more lines like this in {seconds} s: {task}, {}",
                if about.is_empty() { "other" } else { &about },
            );
        }
    }
}
