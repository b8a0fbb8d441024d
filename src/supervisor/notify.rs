//! What systemd is told. Without `NOTIFY_SOCKET` nothing is sent.
//!
//! The message texts and the watchdog's environment come from `sd-notify`; the sending is done here, because
//! the supervisor must not block when systemd is slow to read, and because the socket may have an abstract name
//! (containers), which `sd-notify` takes for a path.

use sd_notify::NotifyState;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// Variables that concern the supervisor alone; its children don't get them.
pub const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// Least time between two texts.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How often the stop time-out is pushed back while draining, and by how much.
const EXTEND_EVERY: Duration = Duration::from_secs(2);
const EXTEND_BY: Duration = Duration::from_secs(15);

/// Tells systemd how the daemon is.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
    pinged: Option<Instant>,
    status: String,
    status_at: Option<Instant>,
    extended: Option<Instant>,
    owed: Vec<String>,
}

impl Notifier {
    /// From the environment systemd gave. A socket out of reach is no reason not to work: the variable may have
    /// been inherited from somebody else's service. If it is ours, systemd ends a start it hears nothing of.
    pub fn from_env() -> Self {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let socket = name.and_then(|name| match connect(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!("NOTIFY_SOCKET={} can't be reached: {error}; nobody is notified", name.display());
                None
            }
        });
        let watchdog = sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero());
        Self { socket, watchdog, ..Self::default() }
    }

    /// The daemon works, or a reload is over. Must arrive: tried again in each pass until systemd takes it.
    pub fn ready(&mut self) {
        self.owe(format!("{}\n", NotifyState::Ready));
    }

    /// A reload begins. With the time, in the same message, as `Type=notify-reload` demands: so systemd can tell it
    /// from one that began before its signal. Must arrive, too.
    pub fn reloading(&mut self) {
        let time = NotifyState::monotonic_usec_now().map(|time| format!("{time}\n")).unwrap_or_default();
        self.owe(format!("{}\n{time}", NotifyState::Reloading));
    }

    /// The daemon stops. Must arrive, too.
    pub fn stopping(&mut self) {
        self.owe(format!("{}\n", NotifyState::Stopping));
    }

    fn owe(&mut self, message: String) {
        self.owed.push(message);
        self.pay();
    }

    fn pay(&mut self) {
        while let Some(message) = self.owed.first() {
            if !self.send_text(message) {
                return;
            }
            self.owed.remove(0);
        }
    }

    /// A stop or a reload goes on: systemd shall not lose patience. Sent every other second, well within both the
    /// shortest usual time-out and the 15 s asked for.
    pub fn extend(&mut self, now: Instant) {
        if due(self.extended, EXTEND_EVERY, now) {
            self.extended = Some(now);
            self.send(&NotifyState::ExtendTimeoutUsec(u32::try_from(EXTEND_BY.as_micros()).unwrap_or(u32::MAX)));
        }
    }

    /// The text, if it is another one and the last is a second old (or `at_once`).
    pub fn status(&mut self, text: &str, now: Instant, at_once: bool) {
        if text != self.status && (at_once || due(self.status_at, STATUS_EVERY, now)) {
            self.status_at = Some(now);
            if self.send(&NotifyState::Status(text)) {
                text.clone_into(&mut self.status);
            }
        }
    }

    /// A pass of the supervisor's loop is complete. Sent four times as often as systemd demands, from nowhere else.
    pub fn pass_complete(&mut self, now: Instant) {
        self.pay();
        if let Some(interval) = self.watchdog
            && due(self.pinged, interval / 4, now)
        {
            self.pinged = Some(now);
            self.send(&NotifyState::Watchdog);
        }
    }

    /// Longest time between two passes that still keeps the watchdog fed: a quarter of its interval.
    pub fn tick(&self) -> Option<Duration> {
        self.watchdog.map(|interval| interval / 4)
    }

    fn send(&self, state: &NotifyState<'_>) -> bool {
        self.send_text(&format!("{state}\n"))
    }

    /// Whether systemd took it. A socket that is full says no; any other error won't be better next time.
    fn send_text(&self, message: &str) -> bool {
        let Some(socket) = &self.socket else { return true };
        match socket.send(message.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                tracing::debug!(%error, "systemd was not told: {}", message.trim_end());
                true
            }
            Ok(_) => true,
        }
    }
}

fn due(last: Option<Instant>, every: Duration, now: Instant) -> bool {
    last.is_none_or(|last| last + every <= now)
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(name)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_socket() -> (Notifier, UnixDatagram) {
        let (near, far) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        (Notifier { socket: Some(near), watchdog: Some(Duration::from_secs(4)), ..Notifier::default() }, far)
    }

    fn received(socket: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 512];
        std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned()))
            .collect()
    }

    #[test]
    fn status_only_when_changed_and_at_most_once_a_second() {
        let (mut notifier, far) = with_socket();
        let (start, tenth) = (Instant::now(), Duration::from_millis(100));
        for tick in 0..21 {
            notifier.status(&format!("text {}", tick / 5), start + tick * tenth, false);
        }
        assert_eq!(received(&far), ["STATUS=text 0\n", "STATUS=text 2\n", "STATUS=text 4\n"]);
        notifier.status("text 4", start + Duration::from_secs(60), false);
        assert!(received(&far).is_empty());
        notifier.status("last", start, true);
        assert_eq!(received(&far), ["STATUS=last\n"]);
    }

    #[test]
    fn pings_and_extensions_keep_their_distance() {
        let (mut notifier, far) = with_socket();
        let start = Instant::now();
        for tick in 0..=40 {
            notifier.pass_complete(start + tick * Duration::from_millis(100));
        }
        assert_eq!(received(&far), ["WATCHDOG=1\n"; 5]);
        notifier.extend(start);
        notifier.extend(start + Duration::from_secs(1));
        assert_eq!(received(&far), ["EXTEND_TIMEOUT_USEC=15000000\n"]);
        assert_eq!(notifier.tick(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_full_socket_blocks_nobody_and_ready_is_sent_later() {
        let (mut notifier, far) = with_socket();
        while notifier.send(&NotifyState::Watchdog) {}
        notifier.ready();
        notifier.status("lost", Instant::now(), false);
        assert!(received(&far).iter().all(|message| message == "WATCHDOG=1\n"));
        notifier.watchdog = None;
        notifier.pass_complete(Instant::now());
        assert_eq!(received(&far), ["READY=1\n"]);
        Notifier::default().ready();
    }

    #[test]
    fn a_reload_tells_the_time_in_the_same_message() {
        let (mut notifier, far) = with_socket();
        notifier.reloading();
        notifier.ready();
        let messages = received(&far);
        let time = messages[0]
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .and_then(|time| time.trim_end().parse::<u64>().ok());
        assert!(time.is_some_and(|time| time > 0) && messages[1..] == ["READY=1\n"], "{messages:?}");
    }

    #[test]
    fn abstract_names_are_understood() {
        let name = format!("fairstalk-notify-{}", std::process::id());
        let far = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        far.set_nonblocking(true).unwrap();
        connect(OsStr::new(&format!("@{name}"))).unwrap().send(b"READY=1\n").unwrap();
        assert_eq!(received(&far), ["READY=1\n"]);
    }
}
