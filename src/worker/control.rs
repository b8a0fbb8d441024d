//! What this worker answers to Celery's remote control.
//!
//! A command is a function in [`HANDLERS`]; replies have the form of `celery/worker/control.py`. Handlers run in the
//! worker's loop, between two events, so what they see is true for all of their run.

use super::engine::{Engine, Event};
use super::slots::RunnerState;
use super::story;
use super::work::{Phase, Terminated};
use crate::celery::repr::quoted;
use crate::celery::request::Arguments;
use crate::celery::{Call, Heard, Revocation, mailbox};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Time for a task to die of the signal it got; then it is killed. Revoked is revoked.
const GRACE: Duration = Duration::from_secs(10);

/// An answer, or the `repr()` of the exception Celery would raise.
type Answer = Result<Value, String>;

/// Answers one command.
type Handler = fn(&mut Engine, &Arguments) -> Answer;

/// All commands there are.
const HANDLERS: &[(&str, Handler)] = &[
    ("ping", ping),
    ("revoke", revoke),
    ("terminate", terminate),
    ("enable_events", |engine, _| Ok(json!({"ok": engine.events.enable()}))),
    ("disable_events", |engine, _| Ok(json!({"ok": engine.events.disable()}))),
    ("heartbeat", heartbeat),
];

impl Engine {
    /// Begins to listen for commands.
    pub(super) fn listen(&self) {
        let (broker, keys) = (self.start.config.broker.clone(), self.exchange.keys.clone());
        let tell = self.tell.clone();
        let tell = move |heard| drop(tell.send(Event::Control(heard)));
        tokio::task::spawn_local(mailbox::serve(broker, keys, Rc::clone(&self.node), tell));
    }

    pub(super) fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Listening => self.listening = true,
            Heard::Call(Call { method, arguments, answer }) => {
                let handler = HANDLERS.iter().find(|(name, _)| *name == method);
                let unknown = || Err(format!("KeyError({})", quoted(&method)));
                let answered = handler.map_or_else(unknown, |(_, handler)| handler(self, &arguments));
                // Nobody listens any more if the connection is gone, and then nobody can be told.
                let _ = answer.send(answered);
            }
        }
    }

    /// Sends a signal to whatever runs this task here; false if nothing does.
    fn end_task(&mut self, id: &str, signal: Signal) -> bool {
        let mut found = false;
        for slot in &mut self.slots {
            let Some(work) = slot.work.as_mut().filter(|work| work.is_running() && work.message.headers.id == id)
            else {
                continue;
            };
            let Some(number) = rustix::process::Signal::from_named_raw(signal as i32) else { continue };
            found = true;
            story::terminated(&self.start, work, signal.as_str());
            work.terminated = Some(Terminated { signal: signal as i32, kill_at: Instant::now() + GRACE });
            if let Phase::Command(command) = &work.phase {
                command.signal(number);
            } else if let RunnerState::Ready(runner) | RunnerState::Retiring(runner) = &slot.runner {
                runner.signal(number);
                // No other task for a runner that may be about to die.
                slot.runner.retire();
            }
        }
        found
    }
}

fn ping(_: &mut Engine, _: &Arguments) -> Answer {
    Ok(json!({"ok": "pong"}))
}

/// A sign of life out of turn.
fn heartbeat(engine: &mut Engine, _: &Arguments) -> Answer {
    engine.events.pulse();
    Ok(Value::Null)
}

fn revoke(engine: &mut Engine, arguments: &Arguments) -> Answer {
    take_back(engine, "revoke", arguments)
}

fn terminate(engine: &mut Engine, arguments: &Arguments) -> Answer {
    take_back(engine, "terminate", arguments)
}

/// The ids are in Redis already; here whatever runs is ended, if that is wanted.
fn take_back(engine: &mut Engine, method: &str, arguments: &Arguments) -> Answer {
    let Some(revocation) = Revocation::of(method, arguments).transpose()? else { return Ok(Value::Null) };
    let ended = match revocation.terminate {
        Some(signal) => revocation.ids.iter().filter(|id| engine.end_task(id, signal)).cloned().collect(),
        None => Vec::new(),
    };
    Ok(revocation.answer(&ended))
}
