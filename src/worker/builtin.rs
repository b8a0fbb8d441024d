//! Tasks that the worker does itself: they have ended when they have begun.

use super::engine::Engine;
use super::intake::{Doer, doer};
use super::story;
use super::work::Work;
use crate::broker::Action;
use crate::results::State;
use crate::runner::{Detail, Ended, Outcome};
use serde_json::value::RawValue;
use std::time::Duration;

impl Engine {
    /// A task without a process of its own, neither now nor later: the worker writes its result.
    pub(super) fn is_own(&self, task: &str) -> bool {
        matches!(doer(&self.start.config, self.registry.as_ref(), task), Doer::Command | Doer::Worker)
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
