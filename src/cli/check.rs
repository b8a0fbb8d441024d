//! Arguments of `fairstalk check`.

/// Read the configuration as `run` does, and see whether Redis, the interpreter and the application can be reached.
#[derive(Debug, clap::Args)]
pub struct Args {}
