//! `fairstalk run`: the daemon, in the foreground.

use super::{Error, Settings};
use crate::channel::Exit;
use crate::config::{self, LogFormat};
use crate::runner::python::launch;
use crate::supervisor::{self, Launcher, ZygoteLauncher};
use crate::telemetry;

/// Run the daemon in the foreground.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Form of log lines: auto, text, json or journal; wins over the configuration
    #[arg(long, value_name = "FORMAT", value_parser = log_format)]
    log_format: Option<LogFormat>,
}

fn log_format(word: &str) -> Result<LogFormat, String> {
    let found = LogFormat::WORDS.iter().find(|(known, _)| *known == word);
    found.map(|(_, format)| *format).ok_or_else(|| "write auto, text, json or journal".to_owned())
}

/// Runs until told to stop.
///
/// # Errors
/// A configuration that can't be used. Everything later is in the log and the exit code.
pub fn run(args: &Args, settings: &Settings) -> Result<Exit, Error> {
    let (file, surroundings, format) = (settings.file().to_owned(), settings.surroundings.clone(), args.log_format);
    let loader = move || {
        let mut config = config::load(&file, &surroundings)?;
        config.runnable()?;
        config.log.format = format.unwrap_or(config.log.format);
        Ok(config)
    };
    let config = loader()?;
    telemetry::init("supervisor", &config.log);
    let launcher = Launcher::own_image(ZygoteLauncher {
        command: Box::new(|python, _| launch::command(python)),
        bootstrap: Box::new(|config, listener| match &config.python {
            Some(python) => launch::bootstrap(config, python, Some(listener)),
            None => String::new(),
        }),
    });
    Ok(supervisor::run(config, launcher, Box::new(loader)))
}
