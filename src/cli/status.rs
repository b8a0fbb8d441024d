//! `fairstalk status`: what the workers of all hosts are doing, asked of Redis.

use super::redis::{block_on, connect};
use super::tenants::{found_out, named_by};
use super::{Error, Settings, output};
use crate::broker::inspect;
use crate::channel::{Beat, Exit};
use serde_json::json;

/// Show the workers and what waits for them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Prints a line for each worker and a line of sums.
///
/// # Errors
/// A configuration that can't be used, Redis out of reach, or output that fails.
pub fn run(args: &Args, settings: &Settings) -> Result<Exit, Error> {
    let (workers, elsewhere, queues, naming) = block_on(async {
        let (config, keys, mut connection) = connect(settings).await?;
        let workers = inspect::workers(&mut connection, &keys).await?;
        let elsewhere = inspect::elsewhere(&mut connection, &keys).await?;
        let queues = inspect::queues(&mut connection, &keys).await?;
        let (_, lost) = found_out(&config, &mut connection, &keys).await?;
        let naming = (lost, named_by(&config, &mut connection, &keys).await?);
        Ok((workers, elsewhere, queues, naming))
    })?;
    let (lost, named_by) = naming;
    let waiting = queues.iter().map(|queue| queue.waiting).sum::<u64>();
    let paused: Vec<&str> = queues.iter().filter(|queue| queue.paused).map(|queue| &*queue.queue).collect();
    output::print(|out| {
        if args.json {
            let status = json!({"workers": workers, "waiting": waiting, "claimed": elsewhere.claimed,
                "delayed": elsewhere.delayed, "dead": elsewhere.dead, "paused_queues": paused,
                "tenancy": {"named_by": named_by, "lost": lost}});
            return writeln!(out, "{status}").map_err(Error::Output);
        }
        if workers.is_empty() {
            writeln!(out, "no worker is running").map_err(Error::Output)?;
        } else {
            let heading =
                format!("{:<28} {:>8} {:>9} {:>10} {:>8} {:>8}", "WORKER", "PID", "BUSY", "DONE", "FAILED", "RETRIED");
            writeln!(out, "{heading}").map_err(Error::Output)?;
        }
        for worker in &workers {
            let figures = &worker.figures;
            let beat: Beat = serde_json::from_value(figures["figures"].clone()).unwrap_or_default();
            let node = figures["node"].as_str().unwrap_or(&worker.owner);
            let busy = format!("{}/{}", beat.busy, beat.slots);
            writeln!(
                out,
                "{node:<28} {:>8} {busy:>9} {:>10} {:>8} {:>8}",
                figures["pid"], beat.done, beat.failed, beat.retried
            )
            .map_err(Error::Output)?;
        }
        let (claimed, delayed, dead) = (elsewhere.claimed, elsewhere.delayed, elsewhere.dead);
        writeln!(out, "{waiting} waiting, {claimed} claimed, {delayed} delayed, {dead} dead").map_err(Error::Output)?;
        if lost {
            writeln!(out, "whose a task is says {named_by}").map_err(Error::Output)?;
        }
        if !paused.is_empty() {
            writeln!(out, "paused: {}; see `fairstalk resume --queue`", paused.join(", ")).map_err(Error::Output)?;
        }
        Ok(())
    })?;
    Ok(Exit::Ok)
}
