//! The roles this executable takes on: the real supervisor, and children that do what the plan says.
//!
//! A plan gives each child a list of manners, one for each incarnation, the last for all further ones. SIGUSR2 is the
//! cue on which a manner changes. What a child lives through it tells the case as an event.

use fairstalk::channel::{Beat, Exit, Order, Report, Start, ZygoteReport};
use fairstalk::config::{Config, Level, Log, LogFormat, Problem, Problems};
use fairstalk::supervisor::{Launcher, ZygoteLauncher, run};
use fairstalk::telemetry;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

/// The supervisor under test.
pub fn supervise() -> Exit {
    let file = std::env::var("FAKE_CONFIG").expect("set");
    let loader = move || {
        let text = std::fs::read_to_string(&file).expect("a file");
        serde_json::from_str::<Config>(&text).map_err(|_| Problems::one(&file, Problem::new("x", "is odd", "mend it")))
    };
    let config = loader().expect("a configuration");
    telemetry::init("supervisor", &Log { level: Level::Debug, format: LogFormat::Text, ..Log::default() });
    if std::env::var_os("FAKE_THREAD").is_some() {
        std::thread::spawn(std::thread::park);
    }
    let zygote = ZygoteLauncher {
        command: Box::new(|python, listener| {
            let mut command = Command::new(&python.interpreter);
            command.arg("zygote").arg(listener.to_string());
            command
        }),
        bootstrap: Box::new(|_, listener| json!({ "listener": listener }).to_string()),
    };
    run(config, Launcher::own_image(zygote), Box::new(loader))
}

/// A child's line to the case and to the supervisor.
struct Voice {
    who: String,
    events: UnixDatagram,
    channel: UnixStream,
}

impl Voice {
    fn new(who: String) -> Self {
        let events = UnixDatagram::unbound().expect("a socket");
        events.connect(std::env::var("FAKE_EVENTS").expect("set")).expect("the case listens");
        let channel = std::io::stdin().as_fd().try_clone_to_owned().expect("standard input").into();
        Self { who, events, channel }
    }

    fn event(&self, what: &str, detail: &Value) {
        let event = json!({ "who": self.who, "what": what, "pid": std::process::id(), "detail": detail });
        let _ = self.events.send(event.to_string().as_bytes());
    }

    fn report(&mut self, report: &impl serde::Serialize) {
        let line = serde_json::to_string(report).expect("encodes") + "\n";
        let _ = self.channel.write_all(line.as_bytes());
    }

    /// Lines from the supervisor; disconnected at the end of file.
    fn lines(&self) -> Receiver<String> {
        let (sender, lines) = mpsc::channel();
        let channel = self.channel.try_clone().expect("a descriptor");
        std::thread::spawn(move || {
            BufReader::new(channel).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        lines
    }
}

fn manner(who: &str, incarnation: usize) -> String {
    let plan: Value = serde_json::from_str(&std::env::var("FAKE_PLAN").expect("set")).expect("a plan");
    let manners = plan[who].as_array().cloned().unwrap_or_default();
    let manner = manners.get(incarnation - 1).or(manners.last());
    manner.and_then(Value::as_str).unwrap_or("work").to_owned()
}

fn flag(signal: i32) -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal, Arc::clone(&flag)).expect("registers");
    flag
}

/// Sockets beyond the three standard streams: there should be none.
fn inherited_sockets() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("proc").flatten();
    let links =
        entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path().read_link().ok()?)));
    let others = links.filter(|(number, _)| !["0", "1", "2"].contains(&number.as_str()));
    others.map(|(_, link)| link.display().to_string()).filter(|link| link.starts_with("socket")).collect()
}

/// A worker.
pub fn worker(number: &str) -> ExitCode {
    let sockets = inherited_sockets();
    let (cue, abort, term) = (flag(12), flag(6), flag(15));
    let mut voice = Voice::new(format!("worker {number}"));
    let lines = voice.lines();
    let Ok(Order::Start(start)) = serde_json::from_str(&lines.recv().expect("a first line")) else {
        return ExitCode::from(99);
    };
    let incarnation = start.owner.rsplit('.').next().and_then(|n| n.parse().ok()).expect("an incarnation");
    let mut manner = manner(&voice.who, incarnation);
    let descendant = (manner == "parent").then(|| Command::new("sleep").arg("1000").spawn().expect("sleeps").id());
    let Start { owner, node, zygote, recover, config, .. } = *start;
    let variables: Vec<_> = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"]
        .into_iter()
        .filter(|v| std::env::var_os(v).is_some())
        .collect();
    let arguments = std::fs::read_to_string("/proc/self/cmdline").unwrap_or_default().replace('\0', " ");
    let detail = json!({ "owner": owner, "node": node, "recover": recover, "sockets": sockets, "variables": variables,
        "descendant": descendant, "arguments": arguments, "zygote": zygote, "concurrency": config.workers.concurrency.max });
    voice.event("start", &detail);
    let _connection = zygote.map(|name| {
        let address = SocketAddr::from_abstract_name(name).expect("a name");
        UnixStream::connect_addr(&address).expect("somebody listens")
    });
    match manner.as_str() {
        "crash" => return ExitCode::FAILURE,
        "config" => {
            let message = "no such database: 99".to_owned();
            voice.report(&Report::Failed { exit: Exit::Config, message });
            return ExitCode::from(78);
        }
        "slow" | "unready" => {
            voice.report(&Report::Waiting { reason: "Redis at nowhere: connection refused".to_owned() })
        }
        _ => voice.report(&Report::Ready),
    }
    loop {
        if cue.swap(false, Ordering::AcqRel) {
            voice.event("cue", &Value::Null);
            match manner.as_str() {
                "slow" => {
                    voice.report(&Report::Ready);
                    manner = "work".to_owned();
                }
                "hang" => manner = "hung".to_owned(),
                "stay" => return ExitCode::SUCCESS,
                _ => {}
            }
        }
        for (flag, name) in [(&abort, "abort"), (&term, "term")] {
            if flag.swap(false, Ordering::AcqRel) {
                voice.event(name, &Value::Null);
            }
        }
        if manner != "hung" {
            let beat = Beat { busy: 1, slots: 4, waiting: 1_204, ..Beat::default() };
            voice.report(&Report::Beat(beat));
        }
        let line = match lines.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => {
                voice.event("eof", &Value::Null);
                return ExitCode::SUCCESS;
            }
        };
        let order: Value = serde_json::from_str(&line).expect("JSON");
        voice.event(order["order"].as_str().expect("an order"), &order);
        match (order["order"].as_str(), manner.as_str()) {
            (Some("drain"), "work" | "parent" | "unready") => return ExitCode::SUCCESS,
            (Some("hand_back"), "work" | "stay") => return ExitCode::from(75),
            _ => {}
        }
    }
}

/// A zygote.
pub fn zygote(listener: &str) -> ExitCode {
    let mut voice = Voice::new("zygote".to_owned());
    let lines = voice.lines();
    let bootstrap: Value = serde_json::from_str(&lines.recv().expect("a first line")).expect("JSON");
    // The incarnation is not told to a zygote; its manners are told apart by a file.
    let before = std::env::var("FAKE_EVENTS").expect("set") + ".zygotes";
    let incarnation = std::fs::read_to_string(&before).unwrap_or_default().len() + 1;
    std::fs::write(&before, "x".repeat(incarnation)).expect("writes");
    voice.event("start", &bootstrap);
    match manner("zygote", incarnation).as_str() {
        "fail" => {
            let message = "Traceback (most recent call last):\nImportError: no shop".to_owned();
            voice.report(&ZygoteReport::Failed { message });
            return ExitCode::from(78);
        }
        "stubborn" => {
            voice.report(&ZygoteReport::Ready { tasks: 3, import_ms: 1, warnings: Vec::new() });
            while lines.recv().is_ok() {}
            voice.event("eof", &Value::Null);
            loop {
                std::thread::park();
            }
        }
        _ => voice.report(&ZygoteReport::Ready { tasks: 3, import_ms: 1, warnings: Vec::new() }),
    }
    let listener = listener.parse().expect("a descriptor");
    let ear = Voice::new("zygote".to_owned());
    std::thread::spawn(move || {
        while nix::sys::socket::accept(listener).is_ok() {
            ear.event("accepted", &Value::Null);
        }
    });
    while lines.recv().is_ok() {}
    voice.event("eof", &Value::Null);
    ExitCode::SUCCESS
}
