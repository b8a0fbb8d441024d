//! Arguments of `fairstalk run`.

/// Run the daemon in the foreground.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shape of log lines; auto: the journal's own protocol under systemd, text on a terminal, else JSON
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,
}

/// Shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// What fits the place the daemon runs in.
    Auto,
    /// For people.
    Text,
    /// One object a line.
    Json,
}
