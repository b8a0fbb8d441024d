//! What runs here, what is claimed, what waits for its time.

use super::super::engine::Engine;
use super::super::work::{Phase, Work};
use super::{Answer, Asked, Outcome};
use crate::broker::delayed::{self, Delayed};
use crate::broker::{BrokerError, revoked as taken_back};
use crate::celery::info::{self, Seen};
use crate::celery::revocation::is_true;
use crate::message::{Message, time};
use serde_json::{Map, Value, json};
use std::time::SystemTime;

/// Delayed tasks told at most, the next first: there may be many thousands, and somebody may ask every few seconds.
const SCHEDULED_MAX: usize = 100;

/// What Celery's timer gives every delayed task.
const TIMER_PRIORITY: u32 = 6;

pub(super) fn active(engine: &mut Engine, asked: &Asked) -> Answer {
    let safe = asked.get("safe").is_some_and(is_true);
    works(engine, Work::is_running, safe).into()
}

pub(super) fn reserved(engine: &mut Engine, _: &Asked) -> Answer {
    works(engine, is_reserved, false).into()
}

/// Claimed, and to be started in the next moment: nothing is claimed before a slot is free.
fn is_reserved(work: &Work) -> bool {
    matches!(work.phase, Phase::Noting(_) | Phase::Recording(_))
}

fn works(engine: &Engine, which: fn(&Work) -> bool, safe: bool) -> Value {
    let works = engine.slots.iter().flat_map(|slot| &slot.work).filter(|work| which(work));
    works.map(|work| told(engine, work, safe)).collect()
}

fn told(engine: &Engine, work: &Work, safe: bool) -> Value {
    let running = work.is_running();
    let started = SystemTime::now().checked_sub(work.started.elapsed()).filter(|_| running);
    let time_start = started.and_then(|started| started.duration_since(SystemTime::UNIX_EPOCH).ok());
    let seen = Seen {
        time_start: time_start.map(|time| time.as_secs_f64()),
        acknowledged: work.noted,
        pid: work.pid.filter(|_| running),
    };
    info::task(&work.message, &engine.start.node, &seen, safe)
}

/// Each node tells of the tasks it has put aside itself; the first of those that live also of those of the dead.
pub(super) fn scheduled(engine: &mut Engine, asked: &Asked) -> Answer {
    let waiting = put_aside(engine, asked);
    let node = engine.start.node.clone();
    Answer::later(async move {
        let waiting = waiting.await?;
        let told = waiting.into_iter().filter_map(|Delayed { due, message }| {
            let message = Message::parse(message).ok()?;
            let request = info::task(&message, &node, &Seen::default(), false);
            Some(json!({"eta": time::format(due), "priority": TIMER_PRIORITY, "request": request}))
        });
        Ok(told.collect())
    })
}

fn put_aside(engine: &Engine, asked: &Asked) -> impl Future<Output = Result<Vec<Delayed>, String>> + use<> {
    let (mut connection, keys) = (asked.connection.clone(), engine.exchange.keys.clone());
    let owner = engine.start.owner.clone();
    async move { delayed::of(&mut connection, &keys, &owner, SCHEDULED_MAX).await.map_err(|error| failed(&error)) }
}

pub(super) fn revoked(engine: &mut Engine, asked: &Asked) -> Answer {
    let (mut connection, keys) = (asked.connection.clone(), engine.exchange.keys.clone());
    Answer::later(async move {
        let ids = taken_back::ids(&mut connection, &keys).await;
        ids.map(Value::from).map_err(|error| failed(&error))
    })
}

pub(super) fn query_task(engine: &mut Engine, asked: &Asked) -> Answer {
    let ids: Vec<String> = match asked.get("ids") {
        Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(id)) => vec![id.clone()],
        _ => return Err("TypeError('query_task: ids: a text, or a list of texts')".to_owned()).into(),
    };
    let mut found: Map<String, Value> = Map::new();
    for work in engine.slots.iter().flat_map(|slot| &slot.work) {
        let id = &work.message.headers.id;
        let state = if is_reserved(work) { "reserved" } else { "active" };
        if ids.contains(id) {
            found.insert(id.clone(), json!([state, told(engine, work, false)]));
        }
    }
    if ids.iter().all(|id| found.contains_key(id)) {
        return Value::Object(found).into();
    }
    let (waiting, node) = (put_aside(engine, asked), engine.start.node.clone());
    Answer::later(async move {
        for message in waiting.await?.into_iter().filter_map(|delayed| Message::parse(delayed.message).ok()) {
            let id = message.headers.id.clone();
            if ids.contains(&id) && !found.contains_key(&id) {
                found.insert(id, json!(["scheduled", info::task(&message, &node, &Seen::default(), false)]));
            }
        }
        Outcome::Ok(Value::Object(found))
    })
}

/// Redis does not answer, or not as it should.
pub(super) fn failed(error: &BrokerError) -> String {
    format!("OperationalError({})", crate::celery::python::quoted(&error.to_string()))
}
