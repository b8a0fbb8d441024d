//! The native journal: records keep their fields, and a line with line breaks stays one record
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
//!
//! A journal that takes nothing must not hold up work. A record it does not take in time is counted as lost,
//! and for a while no other is tried; the count is told as soon as it takes records again.

use super::record::Record;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use serde_json::Value;
use std::io::{self, IoSlice, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::Context;

/// How long one record may take.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long no record is tried after one that took longer.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether standard error is connected to the journal. systemd says to which device and inode it has connected the
/// stream; a comparison keeps a redirection (`fairstalk run 2> file`) working as the caller meant it.
pub fn is_standard_error() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    nix::sys::stat::fstat(io::stderr()).is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

/// A layer that writes native records.
pub struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    process: String,
    trouble: Mutex<Trouble>,
}

/// Records that were not taken.
#[derive(Debug, Default)]
struct Trouble {
    lost: u64,
    until: Option<Instant>,
}

impl Journal {
    /// A layer to the journal that listens at `path`.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn open(path: &Path, process: &str) -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        // The journal ignores an empty record.
        socket.send_to(&[], path)?;
        let (path, process) = (path.to_owned(), process.to_owned());
        Ok(Journal { socket, path, process, trouble: Mutex::default() })
    }

    fn tell(&self, payload: &[u8]) {
        let Ok(mut trouble) = self.trouble.lock() else { return };
        if trouble.until.is_some_and(|until| Instant::now() < until) {
            trouble.lost += 1;
            return;
        }
        if trouble.lost > 0 {
            let lost = Record {
                message: format!("the journal did not take {} lines of this process", trouble.lost),
                fields: vec![(super::fields::SUPPRESSED, trouble.lost.into())],
            };
            if self.send(&encode(4, &self.process, &lost)).is_ok() {
                trouble.lost = 0;
            }
        }
        trouble.until = None;
        if self.send(payload).is_err() {
            trouble.lost += 1;
            trouble.until = Some(Instant::now() + PAUSE);
        }
    }

    fn send(&self, payload: &[u8]) -> io::Result<()> {
        match self.socket.send_to(payload, &self.path) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EMSGSIZE) => self.send_large(payload),
            sent => sent.map(drop),
        }
    }

    /// What is too large for a datagram goes into a sealed file in memory, and the datagram carries that.
    fn send_large(&self, payload: &[u8]) -> io::Result<()> {
        let file = memfd_create("fairstalk-log", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        let mut file = std::fs::File::from(file);
        file.write_all(payload)?;
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
        let address = UnixAddr::new(&self.path)?;
        let carried = [file.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&carried)];
        let empty: [IoSlice<'_>; 0] = [];
        sendmsg(self.socket.as_raw_fd(), &empty, &control, MsgFlags::MSG_NOSIGNAL, Some(&address))?;
        Ok(())
    }
}

impl<S: Subscriber> tracing_subscriber::Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut record = Record::default();
        event.record(&mut record);
        self.tell(&encode(priority(*event.metadata().level()), &self.process, &record));
    }
}

/// Priority of syslog. Info is not `notice`, which `journalctl -p notice` would show.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// One record in the journal's own form.
fn encode(priority: u8, process: &str, record: &Record) -> Vec<u8> {
    let mut payload = Vec::with_capacity(512);
    let own = |name: &str| record.fields.iter().any(|(field, _)| *field == name);
    if !own(super::fields::PRIORITY) {
        put(&mut payload, "PRIORITY", &priority.to_string());
    }
    put(&mut payload, "SYSLOG_IDENTIFIER", "fairstalk");
    put(&mut payload, "PROCESS", process);
    if let Some(number) = process.strip_prefix("worker ").filter(|_| !own(super::fields::WORKER)) {
        put(&mut payload, "WORKER", number);
    }
    for (name, value) in &record.fields {
        let name = name.to_ascii_uppercase();
        match value {
            Value::String(text) => put(&mut payload, &name, text),
            value => put(&mut payload, &name, &value.to_string()),
        }
    }
    put(&mut payload, "MESSAGE", record.message.trim_end_matches('\n'));
    payload
}

/// One field: `NAME=value`, or with a length where the value has line breaks.
fn put(payload: &mut Vec<u8>, name: &str, value: &str) {
    payload.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        payload.push(b'\n');
        payload.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        payload.push(b'=');
    }
    payload.extend_from_slice(value.as_bytes());
    payload.push(b'\n');
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
