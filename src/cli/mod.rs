//! Arguments to library call to exit code. Each command has its file, with its arguments and what it does.

pub mod check;
pub mod dead;
pub mod enqueue;
pub mod hand_back;
pub mod init;
pub mod migrate;
pub mod output;
pub mod pause;
pub mod queues;
pub mod redis;
pub mod reload;
pub mod revoke;
pub mod route;
pub mod run;
pub mod status;
pub mod tenants;

use crate::broker::BrokerError;
use crate::channel::Exit;
use crate::config::{Config, Environment, Problems, Surroundings};
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where the configuration is, unless told otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/fairstalk/fairstalk.toml";

/// A fair, crash-safe worker daemon for multi-tenant Celery applications on Redis.
#[derive(Debug, Parser)]
#[command(name = "fairstalk", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// Configuration file [default: $FAIRSTALK_CONFIG, else /etc/fairstalk/fairstalk.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Args),
    Migrate(migrate::Args),
    Run(run::Args),
    Check(check::Args),
    Reload(reload::Args),
    /// Print the queue of each user
    Route(route::Args),
    Enqueue(enqueue::Args),
    Revoke(revoke::Args),
    Status(status::Args),
    Queues(queues::Args),
    Tenants(tenants::Args),
    /// Have tenants wait; what they run goes on
    Pause(pause::Args),
    /// Let paused tenants run again
    Resume(pause::Args),
    Dead(dead::Args),
    HandBack(hand_back::Args),
    /// A worker process, started by `run`
    #[command(hide = true)]
    Worker {
        /// Number of the worker, for `ps`
        number: u32,
    },
}

impl Cli {
    /// Reads the command line.
    ///
    /// # Errors
    /// The exit code, when clap has already answered: help and version on stdout, a usage error on stderr.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Exit> {
        Cli::try_parse_from(arguments).map_err(|answer| {
            // Nobody left to tell if this fails too.
            let _ = answer.print();
            if answer.use_stderr() { Exit::Usage } else { Exit::Ok }
        })
    }

    /// Runs the command.
    ///
    /// # Errors
    /// What went wrong, with the exit code in [`Error::exit`].
    pub fn run(&self) -> Result<Exit, Error> {
        let settings = Settings::new(self.config.clone(), Surroundings::of_process());
        match &self.command {
            Command::Init(args) => init::run(args, &settings),
            Command::Migrate(args) => migrate::run(args, &settings),
            Command::Run(args) => run::run(args, &settings),
            Command::Check(args) => check::run(args, &settings),
            Command::Reload(args) => reload::run(args),
            Command::Route(args) => route::run(args, &settings),
            Command::Enqueue(args) => enqueue::run(args, &settings),
            Command::Revoke(args) => revoke::run(args, &settings),
            Command::Status(args) => status::run(args, &settings),
            Command::Queues(args) => queues::run(args, &settings),
            Command::Tenants(args) => tenants::run(args, &settings),
            Command::Pause(args) => pause::run(args, &settings, true),
            Command::Resume(args) => pause::run(args, &settings, false),
            Command::Dead(args) => dead::run(args, &settings),
            Command::HandBack(args) => hand_back::run(args, &settings),
            Command::Worker { .. } => Ok(crate::worker::main()),
        }
    }
}

/// Which configuration a command works with.
pub struct Settings {
    file: PathBuf,
    /// Somebody named the file, so it must be there.
    chosen: bool,
    /// Environment and machine.
    pub surroundings: Surroundings,
}

impl Settings {
    /// The file of `--config`, else of `FAIRSTALK_CONFIG`, else [`DEFAULT_CONFIG`].
    pub fn new(option: Option<PathBuf>, surroundings: Surroundings) -> Self {
        let named = option.or_else(|| variable(&surroundings.environment));
        let chosen = named.is_some();
        Settings { file: named.unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG)), chosen, surroundings }
    }

    /// The configuration file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether there is no file and nobody asked for one, so that a command may do with the defaults.
    pub fn may_do_without(&self) -> bool {
        let missing = || self.file.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound);
        !self.chosen && missing()
    }

    /// The whole configuration.
    ///
    /// # Errors
    /// [`Error::Config`] with every problem of it.
    pub fn config(&self) -> Result<Config, Error> {
        Ok(crate::config::load(&self.file, &self.surroundings)?)
    }
}

/// An empty variable is the same as none, as shells and units leave it behind.
fn variable(environment: &Environment) -> Option<PathBuf> {
    environment.get("FAIRSTALK_CONFIG").filter(|file| !file.is_empty()).map(PathBuf::from)
}

/// Why a command failed. A variant is a step, the source its cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] Problems),
    /// The command can't work with this configuration.
    #[error("{0}")]
    Unfit(String),
    /// Nothing can be found out about an application.
    #[error(transparent)]
    Init(#[from] crate::init::Error),
    /// Nothing stands for a worker.
    #[error(transparent)]
    Migrate(#[from] crate::migrate::Error),
    /// No dead letter has this name or task id.
    #[error("there is no dead letter {0}; `fairstalk dead list` shows those there are")]
    Absent(String),
    /// There is no running daemon to speak to.
    #[error("{0}")]
    NoDaemon(String),
    /// The running daemon could not reload and goes on as before.
    #[error("{message}")]
    Reload {
        /// What the daemon says.
        exit: Exit,
        /// Why.
        message: String,
    },
    /// Redis.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The process itself.
    #[error("the system refuses what the command needs")]
    Runtime(#[source] std::io::Error),
    /// Input could not be read.
    #[error("can't read the standard input")]
    Input(#[source] std::io::Error),
    /// Output could not be written.
    #[error("can't write to the standard output")]
    Output(#[source] std::io::Error),
}

impl Error {
    /// The exit code that goes with it.
    pub fn exit(&self) -> Exit {
        match self {
            Error::Init(crate::init::Error::Runtime(_)) => Exit::Internal,
            Error::Migrate(error) => error.exit(),
            Error::Config(_) | Error::Unfit(_) | Error::Init(_) => Exit::Config,
            Error::Absent(_) => Exit::Usage,
            Error::NoDaemon(_) => Exit::Unavailable,
            Error::Reload { exit, .. } => *exit,
            Error::Broker(error) => error.kind.exit(),
            Error::Runtime(_) | Error::Input(_) | Error::Output(_) => Exit::Internal,
        }
    }
}

/// Name of this host.
pub fn host_name() -> String {
    nix::unistd::gethostname().map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// An error and its causes, in one line each way down: `a: b: c`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(file: &str, chosen: bool) -> Settings {
        let surroundings = Surroundings { environment: Environment::default(), cores: 1 };
        Settings { file: PathBuf::from(file), chosen, surroundings }
    }

    #[test]
    fn the_defaults_stand_in_only_for_a_file_that_nobody_named_and_that_is_not_there() {
        assert!(settings("/nowhere/fairstalk.toml", false).may_do_without());
        assert!(!settings("/nowhere/fairstalk.toml", true).may_do_without());
        // There, though perhaps not readable: its queues may differ from the defaults.
        assert!(!settings("/dev/null", false).may_do_without());
    }

    #[test]
    fn the_option_wins_over_the_variable() {
        let variable =
            |value: &str| Surroundings { environment: [("FAIRSTALK_CONFIG", value)].into_iter().collect(), cores: 1 };
        let file = |option: Option<&str>, value| {
            let settings = Settings::new(option.map(PathBuf::from), variable(value));
            (settings.file().to_owned(), settings.chosen)
        };
        assert_eq!(file(Some("/a"), "/b"), (PathBuf::from("/a"), true));
        assert_eq!(file(None, "/b"), (PathBuf::from("/b"), true));
        assert_eq!(file(None, ""), (PathBuf::from(DEFAULT_CONFIG), false));
    }

    #[test]
    fn every_commands_arguments_are_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
