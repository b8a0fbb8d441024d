//! Arguments of `fairstalk status`.

/// Show how the daemon and its workers are.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}
