//! Arguments of `fairstalk queues`.

/// Show what waits in each queue.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}
