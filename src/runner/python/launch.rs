//! How the zygote is started. Its source is part of this binary; nothing is written to disk.

use crate::broker;
use crate::config::{Config, Level, Python};
use crate::memory::allocator;
use serde_json::json;
use std::os::fd::RawFd;
use std::process::Command;

/// The program for `python -c`, which reads the rest from its standard input.
const BOOTSTRAP: &str = include_str!("bootstrap.py");

const MODULES: [(&str, &str); 18] = [
    ("fairstalk_runner", include_str!("package.py")),
    ("fairstalk_runner.about", include_str!("about.py")),
    ("fairstalk_runner.application", include_str!("application.py")),
    ("fairstalk_runner.closing", include_str!("closing.py")),
    ("fairstalk_runner.codec", include_str!("codec.py")),
    ("fairstalk_runner.execution", include_str!("execution.py")),
    ("fairstalk_runner.frames", include_str!("frames.py")),
    ("fairstalk_runner.hooks", include_str!("hooks.py")),
    ("fairstalk_runner.inbox", include_str!("inbox.py")),
    ("fairstalk_runner.logs", include_str!("logs.py")),
    ("fairstalk_runner.output", include_str!("output.py")),
    ("fairstalk_runner.panel", include_str!("panel.py")),
    ("fairstalk_runner.process", include_str!("process.py")),
    ("fairstalk_runner.results", include_str!("results.py")),
    ("fairstalk_runner.runner", include_str!("runner.py")),
    ("fairstalk_runner.shortcuts", include_str!("shortcuts.py")),
    ("fairstalk_runner.unsupported", include_str!("unsupported.py")),
    ("fairstalk_runner.zygote", include_str!("zygote.py")),
];

/// The zygote's command; its standard input has to be its channel.
pub fn command(python: &Python) -> Command {
    let mut command = Command::new(&python.interpreter);
    command.arg("-c").arg(BOOTSTRAP).current_dir(&python.directory);
    allocator::set(&mut command);
    command.envs(&python.env);
    command
}

/// First line on the zygote's channel. `listener` is the number of the inherited listening socket; without one
/// the application is imported and described, and no runner is ever forked.
pub fn bootstrap(config: &Config, python: &Python, listener: Option<RawFd>) -> String {
    let level = match config.log.level {
        Level::Debug => 10,
        Level::Info => 20,
        Level::Warning => 30,
        Level::Error => 40,
    };
    let modules: serde_json::Map<_, _> = MODULES.iter().map(|(name, code)| ((*name).into(), json!(code))).collect();
    let boot = json!({
        "app": python.app,
        "directory": python.directory,
        "server": broker::connection::server(&config.broker),
        "broker": broker::connection::tcp_database(&config.broker.url),
        "queues": config.queues.names,
        "slots": config.workers.processes * config.workers.concurrency.max,
        "loglevel": level,
        "listener": listener,
        "tunables": [allocator::NAME, allocator::VALUE],
        "modules": modules,
    });
    format!("{boot}\n")
}
