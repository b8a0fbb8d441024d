//! What is told to systemd at the end of a pass.

use super::generation::Generation;
use super::run::Supervisor;
use super::status::{self, Doing, Part, View};
use std::time::Instant;

impl Supervisor {
    /// READY once, STATUS when it changes (at once when the daemon does something else than before), WATCHDOG last.
    /// `last`: there is no next pass that could send what is held back now.
    pub(super) fn announce(&mut self, now: Instant, last: bool) {
        let imported = self.generations.iter().all(Generation::is_ready);
        let becomes_ready = !self.ready && self.drain.is_none() && imported && self.fleet.all_ready();
        if becomes_ready {
            self.ready = true;
            tracing::info!("ready: {} workers", self.fleet.workers.len());
            self.notifier.ready();
        }
        let rate = self.fleet.throughput.rate(now);
        let doing = match &self.drain {
            Some(drain) => Doing::Stopping { deadline: drain.deadline() },
            None if self.reload.is_some() => {
                self.notifier.extend(now);
                Doing::Reloading { what: self.reload.as_ref().map_or("", |reload| reload.doing.as_str()) }
            }
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
        let zygotes = self.generations.iter().filter_map(|generation| generation.zygote.as_ref());
        let zygotes = zygotes.map(|zygote| Part {
            name: "application".to_owned(),
            state: zygote.slot.state(),
            note: zygote.note.as_deref(),
            beat: None,
        });
        let view = View {
            doing,
            workers: workers.collect(),
            zygotes: zygotes.collect(),
            waiting: self.fleet.waiting,
            tenants: self.fleet.tenants,
            rate,
            reload_failure: self.reload_failure.as_deref(),
        };
        let turned = std::mem::replace(&mut self.doing, doing.word()) != doing.word();
        self.notifier.status(&status::text(&view, now), now, last || turned);
        self.notifier.pass_complete(now);
    }
}
