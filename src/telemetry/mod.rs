//! What the daemon says about itself: to the journal with fields, to a terminal in words.

mod bound;
pub mod fields;
mod journal;
mod line;
mod record;
pub mod storm;

pub use bound::{tell_all_suppressed, tell_suppressed};

use crate::config::{Level, Log, LogFormat};
use journal::Journal;
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

/// What writes the lines, before the bound lets pass what it should.
type Lines = Layered<Box<dyn Layer<Registry> + Send + Sync>, Registry>;

/// The bound in force. Like the log itself it belongs to the process.
static BOUND: OnceLock<reload::Handle<bound::Bound, Lines>> = OnceLock::new();

/// Sets up logging for this process, once. `process` is what it calls itself: `supervisor`, `worker 1`.
/// A second call changes nothing. Text comes in colours on a terminal unless `NO_COLOR` is set.
pub fn init(process: &str, log: &Log) {
    let journal = || Journal::open(&log.journal_socket, process);
    let (layer, missing) = match log.format {
        LogFormat::Auto if journal::is_standard_error() => match journal() {
            Ok(journal) => (journal.boxed(), None),
            Err(_) => (text(process), None),
        },
        LogFormat::Journal => match journal() {
            Ok(journal) => (journal.boxed(), None),
            Err(error) => (text(process), Some(error)),
        },
        LogFormat::Auto | LogFormat::Text => (text(process), None),
        LogFormat::Json => (line::layer(line::Json { process: process.to_owned() }).boxed(), None),
    };
    let (bound, handle) = reload::Layer::new(bound::Bound::new(log));
    if tracing_subscriber::registry().with(layer).with(bound).try_init().is_ok() {
        let _ = BOUND.set(handle);
    }
    if let Some(error) = missing {
        tracing::warn!("no journal listens at {}: {error}; logging text instead", log.journal_socket.display());
    }
}

/// Changes the level of a log that [`init`] has set up.
pub fn set_level(level: Level) {
    // Fails only if a thread has panicked while it changed the level.
    let _ = BOUND.get().map(|handle| handle.modify(|bound| bound.set_level(level)));
}

fn text<S>(process: &str) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colours = std::io::stderr().is_terminal() && !plain;
    line::layer(line::Text { process: process.to_owned(), colours }).boxed()
}
