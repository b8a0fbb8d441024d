//! `fairstalk dead`: the messages that could not be run.

mod act;
mod choice;
mod list;
mod show;

use super::{Error, Settings};
use crate::channel::Exit;

/// Look after the messages that could not be run.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do with them.
    #[command(subcommand)]
    action: Action,
}

/// What to do with dead letters.
#[derive(Debug, clap::Subcommand)]
enum Action {
    List(list::Args),
    Show(show::Args),
    /// Put the messages back to the ends of their queues, each once, and so run them after all
    Replay(act::Args),
    /// Drop the messages for good
    Drop(act::Args),
}

/// Does what was asked.
///
/// # Errors
/// A configuration that can't be used, Redis out of reach, a letter that isn't there, or output that fails.
pub fn run(args: &Args, settings: &Settings) -> Result<Exit, Error> {
    match &args.action {
        Action::List(args) => list::run(args, settings),
        Action::Show(args) => show::run(args, settings),
        Action::Replay(args) => act::run(args, act::Deed::Replay, settings),
        Action::Drop(args) => act::run(args, act::Deed::Drop, settings),
    }
}
