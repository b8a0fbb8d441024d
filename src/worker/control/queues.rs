//! The queues that are consumed. A worker's are those of its fleet: what waits of them is in lanes that all its workers
//! share, so a single one can neither begin with another queue nor leave one out.

use super::super::engine::Engine;
use super::{Answer, Asked};
use crate::celery::info;
use serde_json::{Value, json};

pub(super) fn active_queues(engine: &mut Engine, _: &Asked) -> Answer {
    engine.exchange.keys.queues.iter().map(|name| info::queue(name)).collect::<Value>().into()
}

pub(super) fn add_consumer(engine: &mut Engine, asked: &Asked) -> Answer {
    let added = |queue: &str| match engine.exchange.keys.queues.iter().any(|name| name == queue) {
        true => json!({"ok": format!("add consumer {queue}")}),
        false => json!({"error": format!(
            "{queue} is not consumed: all workers consume the same queues. Name it in [queues] and run `fairstalk reload`."
        )}),
    };
    asked.text("queue").map(added).into()
}

pub(super) fn cancel_consumer(engine: &mut Engine, asked: &Asked) -> Answer {
    let cancelled = |queue: &str| match engine.exchange.keys.queues.iter().any(|name| name == queue) {
        false => json!({"ok": format!("no longer consuming from {queue}")}),
        true => json!({"error": format!(
            "{queue} is still consumed: all workers consume the same queues. Take it out of [queues] and run \
             `fairstalk reload`; or have it wait with `fairstalk pause --queue {queue}`."
        )}),
    };
    asked.text("queue").map(cancelled).into()
}
