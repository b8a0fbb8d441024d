//! `fairstalk dead list`.

use super::choice::{Filters, search};
use crate::broker::dead::{DeadLetter, Order};
use crate::channel::Exit;
use crate::cli::redis::{block_on, connect};
use crate::cli::{Error, Settings, output};
use crate::message::time;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;

/// List them, the newest first, or count them
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filters: Filters,
    /// At most so many [default: 100; with --count all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Only count them, by this
    #[arg(long, value_name = "BY", value_parser = ["queue", "tenant", "task", "reason"])]
    count: Option<String>,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// Prints letters page by page as they are read, or how many there are of each kind.
pub fn run(args: &Args, settings: &Settings) -> Result<Exit, Error> {
    let mut counts: BTreeMap<Option<String>, u64> = BTreeMap::new();
    let limit = args.limit.or(args.count.is_none().then_some(100));
    let mut none = true;
    block_on(async {
        let (_, keys, mut connection) = connect(settings).await?;
        let mut search = search(&mut connection, &args.filters, &[], Order::NewestFirst, limit).await?;
        loop {
            let letters = search.next(&mut connection, &keys).await?;
            if letters.is_empty() {
                return Ok(());
            }
            none = false;
            match &args.count {
                Some(key) => {
                    for letter in &letters {
                        *counts.entry(letter.text(key).map(str::to_owned)).or_default() += 1;
                    }
                }
                None => output::print(|out| letters.iter().try_for_each(|letter| list(letter, args.json, out)))?,
            }
        }
    })?;
    output::print(|out| match &args.count {
        _ if none && !args.json => writeln!(out, "no dead letters").map_err(Error::Output),
        Some(key) => counts.iter().try_for_each(|(name, count)| {
            let line = match (args.json, name) {
                (true, name) => json!({key: name, "count": count}).to_string(),
                (false, name) => format!("{count:>9}  {}", name.as_deref().unwrap_or("-")),
            };
            writeln!(out, "{line}").map_err(Error::Output)
        }),
        None => Ok(()),
    })?;
    Ok(Exit::Ok)
}

fn list(letter: &DeadLetter, json: bool, out: &mut dyn Write) -> Result<(), Error> {
    if json {
        serde_json::to_writer(&mut *out, letter).map_err(|error| Error::Output(error.into()))?;
        return writeln!(out).map_err(Error::Output);
    }
    let word = |key: &str| letter.text(key).unwrap_or("-");
    let at = time::format(letter.at);
    let at = at.get(..19).unwrap_or_default();
    let tenant = letter.text("tenant").map(|tenant| format!("  of {tenant}")).unwrap_or_default();
    writeln!(out, "{at}Z  {:<20} {}  {}  {}{tenant}", word("reason"), word("queue"), word("task"), word("id"))
        .map_err(Error::Output)?;
    writeln!(out, "    {}", word("detail")).map_err(Error::Output)
}
