//! The native journal: records keep their fields, and a line with line breaks stays one record.

use std::io;
use tracing_journald::{Layer, Priority, PriorityMappings};

/// A layer to the journal, if standard error is connected to it. systemd says to which device and inode it has
/// connected the stream; a comparison keeps a redirection (`fairstalk run 2> file`) working as the caller meant it.
pub fn layer(process: &str) -> Option<Layer> {
    let stream = std::env::var("JOURNAL_STREAM").ok()?;
    let stderr = nix::sys::stat::fstat(io::stderr()).ok()?;
    if stream != format!("{}:{}", stderr.st_dev, stderr.st_ino) {
        return None;
    }
    let mut own = vec![("PROCESS", process)];
    own.extend(process.strip_prefix("worker ").map(|number| ("WORKER", number)));
    // Info is `Notice` by default, which `journalctl -p notice` would not filter out.
    let priorities =
        PriorityMappings { info: Priority::Informational, debug: Priority::Debug, ..PriorityMappings::new() };
    let layer = Layer::new().ok()?;
    let layer = layer.with_field_prefix(None).with_syslog_identifier("fairstalk".to_owned());
    Some(layer.with_priority_mappings(priorities).with_custom_fields(own))
}
