//! What only the application knows: its settings, what it says of its tasks, commands of its own.

use super::super::engine::Engine;
use super::{Answer, Asked, Outcome};
use crate::celery::request::Arguments;
use crate::runner::python::panel;
use serde_json::{Value, json};
use std::rc::Rc;

/// Answers of the application kept at most: there are as many as ways to ask, and Flower asks in two.
const KNOWN_MAX: usize = 8;

pub(super) fn conf(engine: &mut Engine, asked: &Asked) -> Answer {
    if engine.zygote.is_none() {
        return json!({}).into();
    }
    Answer::later(engine.known("conf", asked.arguments.clone()))
}

pub(super) fn report(engine: &mut Engine, _: &Asked) -> Answer {
    let own = format!("fairstalk -> {}", env!("CARGO_PKG_VERSION"));
    if engine.zygote.is_none() {
        return json!({"ok": own}).into();
    }
    let said = engine.known("report", Arguments::new());
    Answer::later(async move {
        let mut said = said.await?;
        if let Some(Value::String(text)) = said.get_mut("ok") {
            *text = format!("\n{own}{text}");
        }
        Ok(said)
    })
}

/// Commands configured in `[tasks]` are told like tasks of the application.
pub(super) fn registered(engine: &mut Engine, asked: &Asked) -> Answer {
    let commands: Vec<String> = engine.start.config.tasks.keys().cloned().collect();
    if engine.zygote.is_none() {
        return json!(commands).into();
    }
    let said = engine.known("registered", asked.arguments.clone());
    Answer::later(async move {
        let Value::Array(said) = said.await? else { return Ok(json!(commands)) };
        let mut names: Vec<String> = said.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let name = |told: &String| told.split(' ').next().map(str::to_owned);
        names.retain(|told| name(told).is_none_or(|name| !commands.contains(&name)));
        names.extend(commands);
        names.sort();
        Ok(json!(names))
    })
}

pub(super) fn objgraph(engine: &mut Engine, asked: &Asked) -> Answer {
    engine.ask("objgraph", asked.arguments.clone())
}

/// What is asked, as a text. Arguments that say what holds without them are left out: Celery's tools send these.
pub(super) fn question(method: &str, arguments: &Arguments) -> String {
    let says_nothing = |value: &Value| [json!(null), json!(false), json!([])].contains(value);
    let mut arguments = arguments.clone();
    arguments.retain(|_, value| !says_nothing(value));
    format!("{method} {}", Value::Object(arguments))
}

impl Engine {
    /// Has the application answer.
    pub(super) fn ask(&self, method: &str, arguments: Arguments) -> Answer {
        Answer::later(self.ask_later(method, arguments))
    }

    /// What does not change as long as the application is not imported again: it is asked once, or has said so already.
    fn known(&self, method: &str, arguments: Arguments) -> impl Future<Output = Outcome> + use<> {
        let question = question(method, &arguments);
        let (known, asked) = (Rc::clone(&self.remote.known), self.ask_later(method, arguments));
        async move {
            if let Some(value) = known.borrow().get(&question) {
                return Ok(value.clone());
            }
            let value = asked.await?;
            let mut known = known.borrow_mut();
            if known.len() < KNOWN_MAX {
                known.insert(question, value.clone());
            }
            Ok(value)
        }
    }

    fn ask_later(&self, method: &str, arguments: Arguments) -> impl Future<Output = Outcome> + use<> {
        let (zygote, asking) = (self.zygote.clone(), Rc::clone(&self.remote.asking));
        let (node, method) = (self.start.node.clone(), method.to_owned());
        async move {
            let Some(zygote) = zygote else { return Err("RuntimeError('there is no application')".to_owned()) };
            // Never closed, so this is always got.
            let _turn = asking.acquire().await;
            panel::ask(zygote, node, method, Value::Object(arguments)).await
        }
    }
}
