//! `fairstalk revoke`: take tasks back, as Celery's `app.control.revoke` does.

use super::redis::{block_on, connect};
use super::{Error, Settings, output};
use crate::broker::revoked;
use crate::celery::{Revocation, mailbox, revocation};
use crate::channel::Exit;
use nix::sys::signal::Signal;

/// Take tasks back: they are not run any more, wherever they wait.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ids of the tasks
    #[arg(required = true, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    ids: Vec<String>,
    /// End those that run, too
    #[arg(long)]
    terminate: bool,
    /// Signal that ends them: TERM, which lets them tidy up for 10 s, KILL, or any other
    #[arg(long, value_name = "NAME", default_value = "TERM", requires = "terminate", value_parser = signal)]
    signal: Signal,
}

fn signal(name: &str) -> Result<Signal, String> {
    revocation::signal(name).map_err(|_| "no such signal; names are TERM, KILL, INT, USR1 and so on".to_owned())
}

/// Takes them back, and tells all workers at once.
///
/// # Errors
/// A configuration that can't be used, Redis out of reach, or output that fails.
pub fn run(args: &Args, settings: &Settings) -> Result<Exit, Error> {
    let revocation = Revocation { ids: args.ids.clone(), terminate: args.terminate.then_some(args.signal) };
    let workers = block_on(async {
        let (_, keys, mut connection) = connect(settings).await?;
        revoked::revoke(&mut connection, &keys, &revocation.ids).await?;
        Ok(mailbox::broadcast(&mut connection, &keys, "revoke", &revocation.arguments()).await?)
    })?;
    output::print(|out| {
        for id in &revocation.ids {
            writeln!(out, "revoked {id}").map_err(Error::Output)?;
        }
        match revocation.terminate {
            Some(signal) => {
                writeln!(out, "asked {workers} workers to end with {signal} what runs of it").map_err(Error::Output)
            }
            None => Ok(()),
        }
    })?;
    Ok(Exit::Ok)
}
