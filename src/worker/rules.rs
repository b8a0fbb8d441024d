//! When a message is acknowledged, and what becomes of it where its task does not simply end. Pure.

use crate::config::{Delivery, Mode};
use crate::runner::python::TaskInfo;

/// The rules for one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Acknowledged before it starts: from then on it is not run again, whatever happens.
    pub once: bool,
    /// When its runner has died under it, it is tried again.
    pub again_when_lost: bool,
    /// When it was killed for its hard time limit, it is tried again.
    pub again_after_timeout: bool,
    /// When it has failed for good, it becomes a dead letter.
    pub keep_failed: bool,
}

impl Rules {
    /// Those for the messages of a task. `info` is what the application declares of it; commands declare nothing,
    /// and count as at least once where the mode is `declared`.
    pub fn of(delivery: &Delivery, task: &str, info: Option<&TaskInfo>) -> Rules {
        let keep_failed = delivery.keeps_failed(task);
        let at_least_once = Rules { once: false, again_when_lost: true, again_after_timeout: false, keep_failed };
        let at_most_once = Rules { once: true, again_when_lost: false, ..at_least_once };
        match (delivery.mode_of(task), info) {
            (Mode::AtLeastOnce, _) | (Mode::Declared, None) => at_least_once,
            (Mode::AtMostOnce, _) => at_most_once,
            (Mode::Declared, Some(info)) if !info.acks_late => at_most_once,
            // `celery/worker/request.py`, `on_failure` and `on_timeout`. A rejected message is one for the dead
            // letters, as with brokers that have them; on Redis stock Celery can only drop it.
            (Mode::Declared, Some(info)) => Rules {
                once: false,
                again_when_lost: info.reject_on_worker_lost,
                again_after_timeout: !info.acks_on_timeout,
                keep_failed: keep_failed || !info.acks_on_failure,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{TaskDelivery, parse};

    fn rules(mode: Mode, info: Option<&TaskInfo>) -> (bool, bool, bool, bool) {
        let surroundings = crate::config::Surroundings { environment: Default::default(), cores: 1 };
        let mut delivery = parse("", std::path::Path::new("/f"), &surroundings).unwrap().delivery;
        delivery.tasks.insert("t".into(), TaskDelivery { mode: Some(mode), keep_failed: None });
        let rules = Rules::of(&delivery, "t", info);
        (rules.once, rules.again_when_lost, rules.again_after_timeout, rules.keep_failed)
    }

    #[test]
    fn modes_and_declarations() {
        let early = TaskInfo { acks_on_failure: true, acks_on_timeout: true, ..TaskInfo::default() };
        let late = TaskInfo { acks_late: true, ..early.clone() };
        assert_eq!(rules(Mode::AtLeastOnce, Some(&early)), (false, true, false, false));
        assert_eq!(rules(Mode::AtMostOnce, Some(&late)), (true, false, false, false));
        assert_eq!(rules(Mode::Declared, Some(&early)), (true, false, false, false));
        assert_eq!(rules(Mode::Declared, Some(&late)), (false, false, false, false));
        let reject = TaskInfo { reject_on_worker_lost: true, ..late.clone() };
        assert_eq!(rules(Mode::Declared, Some(&reject)), (false, true, false, false));
        let unacked = TaskInfo { acks_on_failure: false, acks_on_timeout: false, ..late };
        assert_eq!(rules(Mode::Declared, Some(&unacked)), (false, false, true, true));
        assert_eq!(rules(Mode::Declared, None), (false, true, false, false));
        // What only matters with late acknowledgement doesn't matter without.
        let early = TaskInfo { acks_late: false, ..TaskInfo { reject_on_worker_lost: true, ..early } };
        assert_eq!(rules(Mode::Declared, Some(&early)), (true, false, false, false));
    }
}
