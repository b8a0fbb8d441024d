//! `fairstalk route`: which queue is whose.

use super::{Error, Settings, output};
use crate::channel::Exit;
use crate::config::{self, Queues};
use crate::routing;
use serde::Serialize;
use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::os::unix::ffi::OsStrExt;

/// Arguments of `route`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// User ids. `-`, or none at all: one per line of the standard input, where an id is exactly the bytes of its
    /// line without the newline. An id that begins with a letter after a dash goes behind `--`
    #[arg(value_name = "USER", allow_negative_numbers = true)]
    users: Vec<OsString>,
    /// One JSON object per line: user, queue
    #[arg(long)]
    json: bool,
}

/// One line of `--json`.
#[derive(Serialize)]
struct Row<'a> {
    user: &'a str,
    queue: &'a str,
}

/// Prints one queue per user, in their order.
///
/// # Errors
/// A configuration that can't be used or has queues without numbers, or input and output that fail.
pub fn run(args: &Args, settings: &Settings) -> Result<Exit, Error> {
    let queues = queues(settings)?;
    if queues.prefix.is_none() {
        return Err(Error::Unfit(
            "the queues are given by [queues] names, so only the application knows whose tasks go where; \
             route needs [queues] prefix and count"
                .to_owned(),
        ));
    }
    output::print(|out| {
        if args.users.is_empty() {
            return from_input(&queues, args.json, out);
        }
        for user in &args.users {
            match user.as_bytes() {
                b"-" => from_input(&queues, args.json, out)?,
                user => print(&queues, user, args.json, out)?,
            }
        }
        Ok(())
    })?;
    Ok(Exit::Ok)
}

/// Only `[queues]` is read: who routes need not be allowed to see the broker's password.
fn queues(settings: &Settings) -> Result<Queues, Error> {
    let (file, surroundings) = (settings.file(), &settings.surroundings);
    Ok(match settings.may_do_without() {
        true => config::parse_queues("", file, surroundings)?,
        false => config::load_queues(file, surroundings)?,
    })
}

fn from_input(queues: &Queues, json: bool, out: &mut dyn Write) -> Result<(), Error> {
    let mut input = io::BufReader::new(io::stdin().lock());
    let mut line = Vec::new();
    loop {
        if input.buffer().is_empty() {
            // Whoever asks line by line gets the answer before the next question.
            out.flush().map_err(Error::Output)?;
        }
        line.clear();
        if input.read_until(b'\n', &mut line).map_err(Error::Input)? == 0 {
            return Ok(());
        }
        let user = line.strip_suffix(b"\n").unwrap_or(&line);
        print(queues, user, json, out)?;
    }
}

fn print(queues: &Queues, user: &[u8], json: bool, out: &mut dyn Write) -> Result<(), Error> {
    let queue = routing::numbered_queue(queues, user).unwrap_or(&queues.default);
    if !json {
        return writeln!(out, "{queue}").map_err(Error::Output);
    }
    let user = &*String::from_utf8_lossy(user);
    serde_json::to_writer(&mut *out, &Row { user, queue }).map_err(|error| Error::Output(error.into()))?;
    writeln!(out).map_err(Error::Output)
}
