//! `fairstalk pause` and `fairstalk resume`: a tenant or a queue waits until it is told to go on.

use super::redis::{block_on, connect};
use super::{Error, Settings, output};
use crate::broker::pause::set_paused;
use crate::channel::Exit;

/// Arguments of both.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tenants, as `fairstalk tenants` shows them
    #[arg(required_unless_present = "queues", value_name = "TENANT")]
    tenants: Vec<String>,
    /// A queue, whosever messages are in it; may be given several times
    #[arg(long = "queue", value_name = "QUEUE")]
    queues: Vec<String>,
}

/// Pauses or resumes; it counts for all workers of all hosts, and for those to come.
///
/// # Errors
/// A configuration that can't be used, Redis out of reach, or output that fails.
pub fn run(args: &Args, settings: &Settings, paused: bool) -> Result<Exit, Error> {
    let changed = block_on(async {
        let (config, keys, mut connection) = connect(settings).await?;
        if let Some(unknown) = args.queues.iter().find(|queue| !config.queues.names.contains(queue)) {
            let known = "[queues] says which there are; `fairstalk queues` shows them";
            return Err(Error::Unfit(format!("there is no queue {unknown:?}; {known}")));
        }
        Ok(set_paused(&mut connection, &keys, &args.tenants, &args.queues, paused).await?)
    })?;
    let (word, already) = if paused { ("paused", "paused already") } else { ("resumed", "not paused") };
    let others = (args.tenants.len() + args.queues.len()) as u64 - changed;
    output::print(|out| {
        writeln!(out, "{word}: {changed}{}", if others > 0 { format!("; {already}: {others}") } else { String::new() })
            .map_err(Error::Output)
    })?;
    Ok(Exit::Ok)
}
