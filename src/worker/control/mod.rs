//! What this worker answers to Celery's remote control.
//!
//! A command is a function in [`HANDLERS`]; replies have the form of `celery/worker/control.py`. Handlers run in the
//! worker's loop, between two events, so what they see is true for all of their run. What has to be asked of Redis or
//! of the application is answered later, beside the loop.

mod about;
mod application;
mod limits;
mod monitors;
mod pool;
mod queues;
mod revoking;
mod tasks;

use super::engine::{Engine, Event};
use crate::broker::Connection;
use crate::celery::python::quoted;
use crate::celery::request::Arguments;
use crate::celery::{Call, Heard, mailbox};
use limits::Limits;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;
use tokio::sync::Semaphore;

/// Processes of the application's that answer commands at once; further commands wait.
const ASKED_MAX: usize = 4;

/// An answer, or the `repr()` of the exception Celery would raise.
type Outcome = Result<Value, String>;

/// When there is an answer.
enum Answer {
    Now(Outcome),
    Later(Pin<Box<dyn Future<Output = Outcome>>>),
}

impl Answer {
    fn later(answer: impl Future<Output = Outcome> + 'static) -> Answer {
        Answer::Later(Box::pin(answer))
    }
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Answer {
        Answer::Now(outcome)
    }
}

impl From<Value> for Answer {
    fn from(value: Value) -> Answer {
        Answer::Now(Ok(value))
    }
}

/// A command.
struct Asked {
    /// Its name.
    method: String,
    /// Its arguments.
    arguments: Arguments,
    /// All nodes were asked, not chosen ones.
    everyone: bool,
    /// Lamport clock.
    clock: u64,
    /// To ask Redis, beside the loop.
    connection: Connection,
}

impl Asked {
    /// An argument that may be missing or null.
    fn get(&self, name: &str) -> Option<&Value> {
        self.arguments.get(name).filter(|value| !value.is_null())
    }

    /// A text that has to be there.
    fn text(&self, name: &str) -> Result<&str, String> {
        let bad = || format!("TypeError('{}: {name}: a text')", self.method);
        self.get(name).and_then(Value::as_str).ok_or_else(bad)
    }

    /// A number, where one is given.
    fn number(&self, name: &str) -> Result<Option<f64>, String> {
        let read = |value: &Value| value.as_f64().or_else(|| value.as_str()?.parse().ok());
        let bad = || format!("TypeError('{}: {name}: a number')", self.method);
        self.get(name).map(|value| read(value).ok_or_else(bad)).transpose()
    }
}

/// Answers one command.
type Handler = fn(&mut Engine, &Asked) -> Answer;

/// All commands there are.
const HANDLERS: &[(&str, Handler)] = &[
    ("active", tasks::active),
    ("active_queues", queues::active_queues),
    ("add_consumer", queues::add_consumer),
    ("autoscale", pool::autoscale),
    ("cancel_consumer", queues::cancel_consumer),
    ("clock", about::clock),
    ("conf", application::conf),
    ("disable_events", monitors::disable_events),
    ("dump_active", tasks::active),
    ("dump_conf", application::conf),
    ("dump_reserved", tasks::reserved),
    ("dump_revoked", tasks::revoked),
    ("dump_schedule", tasks::scheduled),
    ("dump_tasks", application::registered),
    ("election", about::election),
    ("enable_events", monitors::enable_events),
    ("heartbeat", monitors::heartbeat),
    ("hello", about::hello),
    ("memdump", about::memdump),
    ("memsample", about::memsample),
    ("objgraph", application::objgraph),
    ("ping", about::ping),
    ("pool_grow", pool::pool_grow),
    ("pool_restart", pool::pool_restart),
    ("pool_shrink", pool::pool_shrink),
    ("query_task", tasks::query_task),
    ("rate_limit", limits::rate_limit),
    ("registered", application::registered),
    ("report", application::report),
    ("reserved", tasks::reserved),
    ("revoke", revoking::revoke),
    ("revoke_by_stamped_headers", revoking::revoke_by_stamped_headers),
    ("revoked", tasks::revoked),
    ("scheduled", tasks::scheduled),
    ("shutdown", pool::shutdown),
    ("stats", about::stats),
    ("terminate", revoking::terminate),
    ("time_limit", limits::time_limit),
];

/// What remote control remembers.
pub struct Remote {
    /// When the worker began.
    began: Instant,
    /// Limits that were set.
    limits: HashMap<String, Limits>,
    /// Tasks started, by name.
    started: HashMap<String, u64>,
    /// Samples of the memory in use, in words.
    samples: Vec<String>,
    /// What the application has said of itself, by question.
    known: Rc<RefCell<HashMap<String, Value>>>,
    /// Who may have the application asked.
    asking: Rc<Semaphore>,
}

impl Default for Remote {
    fn default() -> Remote {
        Remote {
            began: Instant::now(),
            limits: HashMap::new(),
            started: HashMap::new(),
            samples: Vec::new(),
            known: Rc::default(),
            asking: Rc::new(Semaphore::new(ASKED_MAX)),
        }
    }
}

impl Remote {
    /// The application was imported anew, and this is what it answers.
    pub(super) fn learn(&mut self, answers: HashMap<String, Value>) {
        let known =
            answers.into_iter().map(|(method, value)| (application::question(&method, &Arguments::new()), value));
        self.known = Rc::new(RefCell::new(known.collect()));
    }

    /// A task of this name has started.
    pub(super) fn started(&mut self, task: &str) {
        match self.started.get_mut(task) {
            Some(count) => *count += 1,
            None => drop(self.started.insert(task.to_owned(), 1)),
        }
    }
}

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
            Heard::Call(Call { method, arguments, everyone, clock, connection, answer }) => {
                let asked = Asked { method, arguments, everyone, clock, connection };
                // Fails where nobody listens any more, since the connection is gone; then nobody can be told.
                match self.answer(&asked) {
                    Answer::Now(outcome) => drop(answer.send(outcome)),
                    Answer::Later(outcome) => {
                        tokio::task::spawn_local(async move { drop(answer.send(outcome.await)) });
                    }
                }
            }
        }
    }

    fn answer(&mut self, asked: &Asked) -> Answer {
        let commands = self.registry.as_ref().map(|registry| &registry.commands);
        if commands.is_some_and(|commands| commands.contains(&asked.method)) {
            return self.ask(&asked.method, asked.arguments.clone());
        }
        match HANDLERS.iter().find(|(name, _)| *name == asked.method) {
            Some((_, handler)) => handler(self, asked),
            None => Err(format!("KeyError({})", quoted(&asked.method))).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::HANDLERS;

    #[test]
    fn each_command_is_there_once() {
        assert!(HANDLERS.is_sorted_by(|(one, _), (other, _)| one < other));
    }
}
