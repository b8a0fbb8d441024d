//! The `fairstalk` command: parse, dispatch, exit code.

use fairstalk::channel::Exit;
use fairstalk::cli::{self, Cli};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let exit = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli.run().unwrap_or_else(|error| {
            // Not eprintln!, which panics when nobody reads standard error any more.
            let _ = writeln!(std::io::stderr(), "fairstalk: {}", cli::chain(&error));
            error.exit()
        }),
        Err(answered) => answered,
    };
    ExitCode::from(Exit::code(exit))
}
