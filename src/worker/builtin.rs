//! Tasks that the worker does itself: they have ended when they have begun.

use super::engine::Engine;
use super::story;
use super::work::Work;
use crate::broker::Action;
use crate::results::State;
use crate::runner::builtin::is_builtin;
use crate::runner::{Detail, Ended, Outcome};
use serde_json::value::RawValue;
use std::time::Duration;

impl Engine {
    /// A task without a process of its own, neither now nor later: the worker writes its result.
    pub(super) fn is_own(&self, task: &str) -> bool {
        self.start.config.tasks.contains_key(task)
            || is_builtin(task) && self.registry.as_ref().is_none_or(|registry| !registry.tasks.contains_key(task))
    }

    /// Does a built-in task. Result and acknowledgement are one step, so nothing else has to say that it has run.
    pub(super) fn do_builtin(&mut self, work: &Work) {
        self.remote.started(&work.message.headers.task);
        story::started(&self.start, work);
        self.events.started(work);
        self.ahead.needed_no_slot(work);
        let ended =
            Ended { outcome: Outcome::Success, runtime: Duration::ZERO, stores: Vec::new(), detail: Detail::default() };
        self.settle_command(work, &State::Success(RawValue::NULL), Action::Ack, &ended);
    }
}
