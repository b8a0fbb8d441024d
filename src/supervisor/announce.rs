//! What is told to systemd at the end of a pass.

use super::run::Supervisor;
use super::slot::State;
use super::status::{self, Doing, Part, View};
use std::time::Instant;

impl Supervisor {
    /// READY once, STATUS when it changes, WATCHDOG last.
    /// `last`: there is no next pass that could send what is held back now.
    pub(super) fn announce(&mut self, now: Instant, last: bool) {
        let zygote_ready = self.zygote.as_ref().is_none_or(|zygote| *zygote.slot.state() == State::Ready);
        let becomes_ready = !self.ready && self.drain.is_none() && zygote_ready && self.fleet.all_ready();
        if becomes_ready {
            self.ready = true;
            tracing::info!("ready: {} workers", self.fleet.workers.len());
            self.notifier.ready();
        }
        let rate = self.fleet.throughput.rate(now);
        let doing = match &self.drain {
            Some(drain) => Doing::Stopping { deadline: drain.deadline() },
            None if self.paused => Doing::Paused,
            None if self.ready => Doing::Running,
            None => Doing::Starting,
        };
        let workers = self.fleet.workers.iter().map(|worker| Part {
            name: format!("worker {}", worker.number),
            state: worker.slot.state(),
            note: worker.note.as_deref(),
            beat: worker.beat,
        });
        let zygote = self.zygote.as_ref().map(|zygote| Part {
            name: "application".to_owned(),
            state: zygote.slot.state(),
            note: zygote.note.as_deref(),
            beat: None,
        });
        let view = View { doing, workers: workers.collect(), zygote, waiting: self.fleet.waiting, rate };
        self.notifier.status(&status::text(&view, now), now, last || becomes_ready);
        self.notifier.pass_complete(now);
    }
}
