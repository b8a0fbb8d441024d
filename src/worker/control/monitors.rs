//! Whether monitors are told of tasks, and that this worker lives.

use super::super::engine::Engine;
use super::{Answer, Asked};
use serde_json::{Value, json};

pub(super) fn enable_events(engine: &mut Engine, _: &Asked) -> Answer {
    json!({"ok": engine.events.enable()}).into()
}

pub(super) fn disable_events(engine: &mut Engine, _: &Asked) -> Answer {
    json!({"ok": engine.events.disable()}).into()
}

/// A sign of life out of turn.
pub(super) fn heartbeat(engine: &mut Engine, _: &Asked) -> Answer {
    engine.events.pulse();
    Value::Null.into()
}
