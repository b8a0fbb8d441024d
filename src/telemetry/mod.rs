//! What the daemon says about itself: to the journal with fields, to a terminal in words.

pub mod fields;
mod journal;
mod line;

use crate::config::{Level, LogFormat};
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

/// The level in force. Like the log itself it belongs to the process.
static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Sets up logging for this process, once. `process` is what it calls itself: `supervisor`, `worker 1`.
/// A second call changes nothing. Text comes in colours on a terminal unless `NO_COLOR` is set.
pub fn init(process: &str, level: Level, format: LogFormat) {
    let layer = match format {
        LogFormat::Auto => match journal::layer(process) {
            Some(layer) => layer.boxed(),
            None => text(process),
        },
        LogFormat::Text => text(process),
        LogFormat::Json => line::layer(line::Json { process: process.to_owned() }).boxed(),
    };
    let (filter, handle) = reload::Layer::new(filter(level));
    if tracing_subscriber::registry().with(layer.with_filter(filter)).try_init().is_ok() {
        let _ = LEVEL.set(handle);
    }
}

/// Changes the level of a log that [`init`] has set up.
pub fn set_level(level: Level) {
    // Fails only if a thread has panicked while it changed the level.
    let _ = LEVEL.get().map(|handle| handle.reload(filter(level)));
}

fn text<S>(process: &str) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colours = std::io::stderr().is_terminal() && !plain;
    line::layer(line::Text { process: process.to_owned(), colours }).boxed()
}

/// The level is about fairstalk itself; of the libraries below it only what deserves a look is shown.
fn filter(level: Level) -> Targets {
    let own = match level {
        Level::Debug => LevelFilter::DEBUG,
        Level::Info => LevelFilter::INFO,
        Level::Warning => LevelFilter::WARN,
        Level::Error => LevelFilter::ERROR,
    };
    Targets::new().with_default(own.min(LevelFilter::WARN)).with_target("fairstalk", own)
}
