//! `fairstalk queues`: what waits in each queue.

use super::redis::{block_on, connect};
use super::{Error, Settings, output};
use crate::broker::inspect;
use crate::channel::Exit;

/// Show what waits in each queue.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object per queue
    #[arg(long)]
    json: bool,
    /// Only queues in which something waits, or that are paused
    #[arg(long)]
    waiting: bool,
}

/// Prints a line for each queue, in their order.
///
/// # Errors
/// A configuration that can't be used, Redis out of reach, or output that fails.
pub fn run(args: &Args, settings: &Settings) -> Result<Exit, Error> {
    let mut queues = block_on(async {
        let (_, keys, mut connection) = connect(settings).await?;
        Ok(inspect::queues(&mut connection, &keys).await?)
    })?;
    queues.retain(|queue| !args.waiting || queue.waiting > 0 || queue.paused);
    output::print(|out| {
        if !args.json {
            writeln!(out, "{:<24} {:>10}  BY PRIORITY 0-2, 3-5, 6-8, 9", "QUEUE", "WAITING").map_err(Error::Output)?;
        }
        for queue in &queues {
            if args.json {
                serde_json::to_writer(&mut *out, queue).map_err(|error| Error::Output(error.into()))?;
                writeln!(out).map_err(Error::Output)?;
            } else {
                let [first, second, third, last] = queue.by_priority;
                let steps = format!("{first}, {second}, {third}, {last}");
                let paused = if queue.paused { "  paused" } else { "" };
                writeln!(out, "{:<24} {:>10}  {steps}{paused}", queue.queue, queue.waiting).map_err(Error::Output)?;
            }
        }
        Ok(())
    })?;
    Ok(Exit::Ok)
}
