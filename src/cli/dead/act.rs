//! `fairstalk dead replay` and `fairstalk dead drop`: say what will be done, then do it, batch by batch.

use super::choice::{Filters, search};
use crate::broker::dead::{self, DeadLetter, Order};
use crate::broker::{Connection, Keys, Reason};
use crate::channel::Exit;
use crate::cli::redis::{block_on, connect};
use crate::cli::{Error, Settings, output};
use crate::message::{Message, rewrite};
use serde_json::json;
use std::collections::BTreeMap;

/// Which ones, and how.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("chosen").required(true).multiple(true)
    .args(["ids", "task", "tenant", "queue", "reason", "older_than", "newer_than", "all"])))]
pub struct Args {
    /// Ids of tasks, or names of letters as `list --json` prints them
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    filters: Filters,
    /// All there are
    #[arg(long)]
    all: bool,
    /// At most so many, the oldest first
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// One JSON object, when it is done
    #[arg(long)]
    json: bool,
}

/// What is done with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Back to the end of its list.
    Replay,
    /// Gone.
    Drop,
}

/// Says what is going to be done, and does it. Ended at any moment it has done it to each letter wholly or not at all.
pub fn run(args: &Args, deed: Deed, settings: &Settings) -> Result<Exit, Error> {
    let (matched, done, queues) = block_on(async {
        let (_, keys, mut connection) = connect(settings).await?;
        let queues = survey(args, &keys, &mut connection).await?;
        let matched = queues.values().sum::<u64>();
        if !args.json {
            announce(args, deed, &keys, &queues)?;
        }
        let done = if args.dry_run || matched == 0 { 0 } else { act(args, deed, &keys, &mut connection).await? };
        Ok((matched, done, queues))
    })?;
    if matched == 0 && !args.ids.is_empty() {
        return Err(Error::Absent(args.ids.join(", ")));
    }
    output::print(|out| {
        let (name, past) = match deed {
            Deed::Replay => ("replay", "put back"),
            Deed::Drop => ("drop", "dropped"),
        };
        if args.json {
            let queues: BTreeMap<&str, u64> = queues.iter().map(|(queue, count)| (queue.as_str(), *count)).collect();
            let answer =
                json!({"action": name, "dry_run": args.dry_run, "matched": matched, "done": done, "queues": queues});
            writeln!(out, "{answer}").map_err(Error::Output)
        } else if args.dry_run || matched == 0 {
            Ok(())
        } else {
            writeln!(out, "{done} {past}").map_err(Error::Output)
        }
    })?;
    Ok(Exit::Ok)
}

/// How many are meant, by their queues.
async fn survey(args: &Args, keys: &Keys, connection: &mut Connection) -> Result<BTreeMap<String, u64>, Error> {
    let mut queues = BTreeMap::new();
    let mut search = search(connection, &args.filters, &args.ids, Order::OldestFirst, args.limit).await?;
    loop {
        let letters = search.next(connection, keys).await?;
        if letters.is_empty() {
            return Ok(queues);
        }
        for letter in letters {
            *queues.entry(queue(&letter, keys).to_owned()).or_default() += 1;
        }
    }
}

fn announce(args: &Args, deed: Deed, keys: &Keys, queues: &BTreeMap<String, u64>) -> Result<(), Error> {
    output::print(|out| {
        let (matched, would) = (queues.values().sum::<u64>(), if args.dry_run { "would be" } else { "to be" });
        if matched == 0 {
            return writeln!(out, "no dead letter matches").map_err(Error::Output);
        }
        let what = match deed {
            Deed::Replay => "put back to the ends of their queues",
            Deed::Drop => "dropped for good",
        };
        writeln!(out, "{matched} {would} {what}").map_err(Error::Output)?;
        for (queue, count) in queues {
            let served = keys.queues.contains(queue);
            let note =
                if served || deed == Deed::Drop { "" } else { "  ([queues] does not name it: nobody here runs it)" };
            writeln!(out, "{count:>9}  {queue}{note}").map_err(Error::Output)?;
        }
        Ok(())
    })
}

/// The oldest first, so that they run in the order in which they died.
async fn act(args: &Args, deed: Deed, keys: &Keys, connection: &mut Connection) -> Result<u64, Error> {
    let mut done = 0;
    let mut search = search(connection, &args.filters, &args.ids, Order::OldestFirst, args.limit).await?;
    loop {
        let letters = search.next(connection, keys).await?;
        if letters.is_empty() {
            return Ok(done);
        }
        done += match deed {
            Deed::Replay => dead::replay(connection, keys, &letters, |letter, raw| put_back(letter, raw, keys)).await?,
            Deed::Drop => dead::drop(connection, keys, &letters).await?,
        };
        search.removed(&letters);
    }
}

/// Where a message goes, and how. One that nobody could read goes back as it came.
fn put_back(letter: &DeadLetter, raw: Vec<u8>, keys: &Keys) -> (String, Vec<u8>) {
    let queue = queue(letter, keys);
    let begun = letter.text("reason").and_then(Reason::of).is_some_and(Reason::began);
    match Message::parse(raw) {
        Ok(message) => (keys.list_of_priority(queue, message.priority()), rewrite::replayed(&message, begun)),
        Err((_, raw)) => (keys.list(queue), raw),
    }
}

/// Queue it came from; one of ours where the entry does not say.
fn queue<'a>(letter: &'a DeadLetter, keys: &'a Keys) -> &'a str {
    letter.text("queue").or(keys.queues.first().map(String::as_str)).unwrap_or_default()
}
