//! `fairstalk dead`: the messages that could not be run.

use super::redis::{block_on, connect};
use super::{Error, Settings, output};
use crate::broker::inspect::{self, DeadLetter};
use crate::channel::Exit;
use crate::message::time;
use std::io::Write;

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
    /// List them, the newest first
    List {
        /// One JSON object per line
        #[arg(long)]
        json: bool,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
}

/// Does what was asked.
///
/// # Errors
/// A configuration that can't be used, Redis out of reach, or output that fails.
pub fn run(args: &Args, settings: &Settings) -> Result<Exit, Error> {
    let Action::List { json, limit } = args.action;
    let letters = block_on(async {
        let (_, keys, mut connection) = connect(settings).await?;
        Ok(inspect::dead(&mut connection, &keys, limit).await?)
    })?;
    output::print(|out| {
        if letters.is_empty() && !json {
            return writeln!(out, "no dead letters").map_err(Error::Output);
        }
        for letter in &letters {
            if json {
                serde_json::to_writer(&mut *out, letter).map_err(|error| Error::Output(error.into()))?;
                writeln!(out).map_err(Error::Output)?;
            } else {
                list(letter, out)?;
            }
        }
        Ok(())
    })?;
    Ok(Exit::Ok)
}

fn list(letter: &DeadLetter, out: &mut dyn Write) -> Result<(), Error> {
    let entry = &letter.entry;
    let word = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
    let at = entry["at"].as_i64().map(time::format).unwrap_or_default();
    let at = at.get(..19).unwrap_or_default();
    writeln!(out, "{at}Z  {:<20} {}  {}  {}", word("reason"), word("queue"), word("task"), word("id"))
        .map_err(Error::Output)?;
    writeln!(out, "    {}", word("detail")).map_err(Error::Output)
}
