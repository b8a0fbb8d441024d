//! What a case stands on: a supervisor of its own with its own directory, notification socket and event socket, all
//! gone when the case ends. Waiting is always for something to arrive, with a limit.

use fairstalk::config::{
    Broker, Concurrency, Config, Delivery, Level, Log, LogFormat, Mode, Python, Queues, Results, Tenancy, Workers,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for anything, generous because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);
/// Watchdog interval the supervisor is given.
pub const WATCHDOG: Duration = Duration::from_secs(2);

/// Messages from one socket, kept from the beginning.
pub struct Inbox<T> {
    receiver: Receiver<(Instant, T)>,
    pub all: Vec<(Instant, T)>,
    read: Vec<bool>,
}

impl<T: std::fmt::Debug + Clone + Send + 'static> Inbox<T> {
    fn open(path: &Path, parse: fn(&str) -> T) -> Self {
        let socket = UnixDatagram::bind(path).expect("binds");
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 16 << 10];
            while let Ok(length) = socket.recv(&mut buffer) {
                let message = (Instant::now(), parse(String::from_utf8_lossy(&buffer[..length]).trim_end()));
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Self { receiver, all: Vec::new(), read: Vec::new() }
    }

    /// Takes the first message like this that was not taken before, or waits for one.
    pub fn take(&mut self, what: &str, wanted: impl Fn(&T) -> bool) -> (Instant, T) {
        let deadline = Instant::now() + PATIENCE;
        let mut index = 0;
        loop {
            while index < self.all.len() {
                if !self.read[index] && wanted(&self.all[index].1) {
                    self.read[index] = true;
                    return self.all[index].clone();
                }
                index += 1;
            }
            match self.receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(message) => {
                    self.all.push(message);
                    self.read.push(false);
                }
                Err(_) => panic!("never came: {what}; what came: {:#?}", self.all),
            }
        }
    }

    /// How many like this have come until now.
    pub fn count(&mut self, wanted: impl Fn(&T) -> bool) -> usize {
        while let Ok(message) = self.receiver.try_recv() {
            self.all.push(message);
            self.read.push(false);
        }
        self.all.iter().filter(|(_, message)| wanted(message)).count()
    }
}

/// Something a child lived through.
#[derive(Debug, Clone)]
pub struct Event {
    pub who: String,
    pub what: String,
    pub pid: i32,
    pub detail: Value,
}

pub struct Stage {
    directory: TempDir,
    supervisor: Child,
    pub notes: Inbox<String>,
    pub events: Inbox<Event>,
}

impl Stage {
    pub fn new(plan: Value, config: &Config) -> Self {
        Self::with(plan, config, &[])
    }

    pub fn with(plan: Value, config: &Config, variables: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let notes = Inbox::open(&path("notify"), str::to_owned);
        let events = Inbox::open(&path("events"), |text| {
            let value: Value = serde_json::from_str(text).expect("JSON");
            let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            let pid = value["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
            Event { who: text("who"), what: text("what"), pid, detail: value["detail"].clone() }
        });
        std::fs::write(path("config"), serde_json::to_string(config).expect("encodes")).expect("writes");
        let log = std::fs::File::create(path("log")).expect("a file");
        let supervisor = Command::new(std::env::current_exe().expect("this"))
            .arg("supervise")
            .env("FAKE_CONFIG", path("config"))
            .env("FAKE_PLAN", plan.to_string())
            .env("FAKE_EVENTS", path("events"))
            .env("NOTIFY_SOCKET", path("notify"))
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
            .envs(variables.iter().copied())
            // Nothing a child leaves behind can hold the test's own output open.
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starts");
        Self { directory, supervisor, notes, events }
    }

    /// Changes the configuration file.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.directory.path().join("config"), text).expect("writes");
    }

    /// Changes the configuration file, reloads, and waits for the end of it.
    pub fn reload(&mut self, config: &Config) {
        self.configure(&serde_json::to_string(config).expect("encodes"));
        self.signal(Signal::SIGHUP);
        self.reloaded();
    }

    /// Waits for the end of a reload.
    pub fn reloaded(&mut self) {
        self.note("RELOADING=1\nMONOTONIC_USEC=");
        self.note("READY=1");
    }

    /// Waits for READY.
    pub fn ready(mut self) -> Self {
        self.note("READY=1");
        self
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.supervisor.id()).expect("a pid")
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits for a notification that contains this.
    pub fn note(&mut self, part: &str) -> (Instant, String) {
        self.notes.take(part, |note| note.contains(part))
    }

    /// Waits until the supervisor has gone round some more times.
    pub fn passes(&mut self) {
        let before = self.notes.count(|note| note == "WATCHDOG=1");
        let pings = |stage: &mut Self| stage.notes.count(|note| note == "WATCHDOG=1");
        while pings(self) < before + 3 {
            self.notes.take("WATCHDOG=1", |note| note == "WATCHDOG=1");
        }
    }

    /// Waits for an event.
    pub fn event(&mut self, who: &str, what: &str) -> Event {
        self.event_at(who, what).1
    }

    pub fn event_at(&mut self, who: &str, what: &str) -> (Instant, Event) {
        self.events.take(&format!("{who}: {what}"), |event| event.who == who && event.what == what)
    }

    pub fn count(&mut self, who: &str, what: &str) -> usize {
        self.events.count(|event| event.who == who && event.what == what)
    }

    /// Waits for the supervisor's end; its exit code.
    pub fn exit(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.supervisor.try_wait().expect("a child") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the supervisor does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Time the supervisor has computed, in hundredths of a second.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it lives");
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
        if std::thread::panicking() {
            eprintln!("--- the supervisor's log:\n{}", self.log());
        }
    }
}

pub fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("there is such a process");
}

/// Waits until a process that is nobody's child any more is gone; a zombie nobody reaps counts.
pub fn await_gone(pid: i32) {
    let deadline = Instant::now() + PATIENCE;
    let lives = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'),
        Err(_) => false,
    };
    while lives() {
        assert!(Instant::now() < deadline, "{pid} still lives");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the supervisor has reaped this child of its own.
pub fn await_reaped(pid: i32) {
    let deadline = Instant::now() + PATIENCE;
    while Path::new(&format!("/proc/{pid}")).exists() {
        assert!(Instant::now() < deadline, "{pid} is not reaped");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Two workers, short waits.
pub fn config() -> Config {
    let url = || "redis://127.0.0.1:1/0".to_owned();
    let day = Duration::from_secs(86_400);
    Config {
        broker: Broker {
            url: url(),
            tls: None,
            sentinel: None,
            key_prefix: String::new(),
            timeout: Duration::from_secs(5),
            visibility_timeout: Duration::from_secs(3600),
        },
        queues: Queues { names: vec!["celery".to_owned()], prefix: None, default: "celery".to_owned() },
        workers: Workers {
            processes: 2,
            concurrency: Concurrency { min: 4, max: 4 },
            shrink_after: Duration::from_secs(30),
            name: "worker%i@%h".to_owned(),
            drain_timeout: Duration::from_secs(30),
            liveness_timeout: Duration::from_secs(5),
            reload_timeout: Duration::from_secs(10),
            restart_min: Duration::from_millis(50),
            restart_max: Duration::from_millis(800),
            memory_limit: None,
            claim_ahead: Duration::from_millis(1),
            events: None,
        },
        python: None,
        tenancy: Tenancy::default(),
        results: Results { url: url(), expires: day, key_prefix: String::new() },
        delivery: Delivery {
            accept: vec!["application/json".to_owned()],
            max_deliveries: 3,
            dead_letters_max: 10_000,
            dead_letters_age: day,
            max_message_size: 1 << 26,
            mode: Mode::AtLeastOnce,
            keep_failed: false,
            tasks: BTreeMap::new(),
        },
        tasks: BTreeMap::new(),
        rate_limits: Default::default(),
        memory_limits: BTreeMap::new(),
        log: Log { level: Level::Debug, format: LogFormat::Text, ..Log::default() },
    }
}

/// The same with a zygote.
pub fn python() -> Config {
    let python = Python {
        app: "shop".to_owned(),
        directory: ".".into(),
        interpreter: std::env::current_exe().expect("this"),
        env: BTreeMap::new(),
        max_tasks_per_runner: None,
        max_memory_per_runner: None,
        time_limit: None,
        soft_time_limit: None,
    };
    Config { python: Some(python), ..config() }
}
