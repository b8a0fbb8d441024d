//! The slots, and the daemon as a whole.

use super::super::engine::{Claiming, Engine};
use super::super::slots::RunnerState;
use super::super::work::Phase;
use super::{Answer, Asked, Outcome};
use crate::channel::Report;
use serde_json::{Value, json};
use std::time::Instant;

pub(super) fn pool_grow(engine: &mut Engine, asked: &Asked) -> Answer {
    resize(engine, asked, 1).into()
}

pub(super) fn pool_shrink(engine: &mut Engine, asked: &Asked) -> Answer {
    resize(engine, asked, -1).into()
}

fn resize(engine: &mut Engine, asked: &Asked, sign: i64) -> Outcome {
    let method = &asked.method;
    if engine.scale.is_automatic() {
        let text = format!("{method} is not supported with autoscale. Adjust autoscale range instead.");
        return Ok(json!({"error": text}));
    }
    let change = sign * asked.number("n")?.unwrap_or(1.0) as i64;
    engine.resize(change).map_err(|reason| format!("ValueError('{reason}')"))?;
    Ok(json!({"ok": if sign > 0 { "pool will grow" } else { "pool will shrink" }}))
}

pub(super) fn autoscale(engine: &mut Engine, asked: &Asked) -> Answer {
    rescale(engine, asked).into()
}

fn rescale(engine: &mut Engine, asked: &Asked) -> Outcome {
    if !engine.scale.is_automatic() {
        return Err("ValueError('Autoscale not enabled')".to_owned());
    }
    let bound = |name| asked.number(name).map(|bound| bound.map(|bound| bound as i64));
    let bounds = engine.rescale(bound("max")?, bound("min")?);
    let (most, least) = bounds.map_err(|reason| format!("ValueError('{reason}')"))?;
    Ok(json!({"ok": format!("autoscale now max={most} min={least}")}))
}

/// Each runner goes when its task has ended, and another comes. It has the code the zygote has: new code takes
/// `fairstalk reload`.
pub(super) fn pool_restart(engine: &mut Engine, asked: &Asked) -> Answer {
    let new_code = ["modules", "reload", "reloader"].into_iter();
    if new_code.filter_map(|name| asked.get(name)).any(|value| *value != json!(false) && *value != json!([])) {
        return Err("ValueError('modules are not imported again one by one; run `fairstalk reload`')".to_owned())
            .into();
    }
    for slot in &mut engine.slots {
        if slot.work.as_ref().is_some_and(|work| !matches!(work.phase, Phase::Command(_))) {
            slot.worn = true;
        } else if let RunnerState::Ready(runner) = &slot.runner {
            runner.retire();
            slot.runner.retire();
        }
    }
    json!({"ok": "reload started"}).into()
}

/// All nodes: the daemon stops, as by TERM. One node: it finishes what it runs and is followed by a new one, for a
/// daemon with a worker less is nothing an operator can have wanted.
pub(super) fn shutdown(engine: &mut Engine, asked: &Asked) -> Answer {
    if asked.everyone {
        tracing::warn!("remote control asks all workers to stop");
        engine.reports.send(Report::Stop);
    } else if !matches!(engine.claiming, Claiming::Draining(_)) {
        tracing::warn!("remote control asks this worker to stop; another will take its place");
        engine.replaced = true;
        engine.claiming = Claiming::Draining(Instant::now() + engine.start.config.workers.drain_timeout);
    }
    Value::Null.into()
}
