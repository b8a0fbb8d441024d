//! Arguments of `fairstalk enqueue`.

/// Send a task as Celery's `apply_async` would.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the task
    pub task: String,
    /// User whose task it is: decides the queue. Without one it goes to the default queue
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub user: Option<String>,
    /// Positional arguments, a JSON list
    #[arg(long, value_name = "JSON", default_value = "[]")]
    pub args: String,
    /// Named arguments, a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub kwargs: String,
    /// So many messages
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
    /// Not before so long from now: 30s, 5m, 1h
    #[arg(long, value_name = "DURATION", value_parser = crate::config::parse_duration)]
    pub countdown: Option<std::time::Duration>,
    /// Wait for the results and print them
    #[arg(long)]
    pub wait: bool,
}
