//! `fairstalk hand-back`: after a crash of everything, all messages go back to their lists for a stock worker.

use super::redis::{block_on, connect};
use super::{Error, Settings, output};
use crate::broker::hand_back::{Outcome, hand_back};
use crate::channel::Exit;

/// Put everything back into the queues, for a stock Celery worker, when no worker of fairstalk is left
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Wait for the leases of workers that were killed just now, 8 s at most. Living workers are never robbed
    #[arg(long)]
    force: bool,
}

/// Does it, and says how much there was.
///
/// # Errors
/// A configuration that can't be used, Redis out of reach, or output that fails.
pub fn run(args: &Args, settings: &Settings) -> Result<Exit, Error> {
    let outcome = block_on(async {
        let (config, keys, mut connection) = connect(settings).await?;
        Ok(hand_back(&mut connection, &keys, (&config.tenancy, &config.delivery), args.force).await?)
    })?;
    match outcome {
        Outcome::Done { claims, started, lost, owners } => {
            let text =
                format!("put back {claims} claims of {owners} workers, and all that waited in lanes or was delayed");
            output::print(|out| {
                writeln!(out, "{text}").map_err(Error::Output)?;
                if started > 0 {
                    let text = "had been started, delivered at most once: dead letters now, see `fairstalk dead list`";
                    writeln!(out, "{started} {text}").map_err(Error::Output)?;
                }
                if lost > 0 {
                    let text = "took their workers with them too often: dead letters now, see `fairstalk dead list`";
                    writeln!(out, "{lost} {text}").map_err(Error::Output)?;
                }
                Ok(())
            })?;
            Ok(Exit::Ok)
        }
        Outcome::Alive(owners) => {
            let who = owners.join(", ");
            let remedy = if args.force { "stop it first" } else { "stop it first, or use --force if it is dead" };
            eprintln!("fairstalk: a worker lives, or died less than 7 s ago: {who}; {remedy}");
            Ok(Exit::HandedBack)
        }
    }
}
