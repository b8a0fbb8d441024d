//! `fairstalk pause` and `fairstalk resume`: a tenant waits until he is told to go on.

use super::redis::{block_on, connect};
use super::{Error, Settings, output};
use crate::broker::pause::set_paused;
use crate::channel::Exit;

/// Arguments of both.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tenants, as `fairstalk tenants` shows them
    #[arg(required = true, value_name = "TENANT")]
    tenants: Vec<String>,
}

/// Pauses or resumes; it counts for all workers of all hosts, and for those to come.
///
/// # Errors
/// A configuration that can't be used, Redis out of reach, or output that fails.
pub fn run(args: &Args, settings: &Settings, paused: bool) -> Result<Exit, Error> {
    let changed = block_on(async {
        let (_, keys, mut connection) = connect(settings).await?;
        Ok(set_paused(&mut connection, &keys, &args.tenants, paused).await?)
    })?;
    let (word, already) = if paused { ("paused", "paused already") } else { ("resumed", "not paused") };
    let others = args.tenants.len() as u64 - changed;
    output::print(|out| {
        writeln!(out, "{word}: {changed}{}", if others > 0 { format!("; {already}: {others}") } else { String::new() })
            .map_err(Error::Output)
    })?;
    Ok(Exit::Ok)
}
