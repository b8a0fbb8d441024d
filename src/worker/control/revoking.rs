//! Tasks taken back, and, if that is wanted, ended. What was taken back is in Redis before this is asked.

use super::super::engine::Engine;
use super::super::slots::RunnerState;
use super::super::story;
use super::super::work::{Phase, Terminated};
use super::{Answer, Asked, Outcome};
use crate::celery::{Revocation, Stamping, stamps};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Time for a task to die of the signal it got; then it is killed. Revoked is revoked.
const GRACE: Duration = Duration::from_secs(10);

pub(super) fn revoke(engine: &mut Engine, asked: &Asked) -> Answer {
    take_back(engine, "revoke", asked).into()
}

pub(super) fn terminate(engine: &mut Engine, asked: &Asked) -> Answer {
    take_back(engine, "terminate", asked).into()
}

pub(super) fn revoke_by_stamped_headers(engine: &mut Engine, asked: &Asked) -> Answer {
    take_back_stamped(engine, asked).into()
}

fn take_back(engine: &mut Engine, method: &str, asked: &Asked) -> Outcome {
    let Some(revocation) = Revocation::of(method, &asked.arguments).transpose()? else { return Ok(Value::Null) };
    let ended = match revocation.terminate {
        Some(signal) => revocation.ids.iter().filter(|id| engine.end_task(id, signal)).cloned().collect(),
        None => Vec::new(),
    };
    Ok(revocation.answer(&ended))
}

fn take_back_stamped(engine: &mut Engine, asked: &Asked) -> Outcome {
    let Some(stamping) = Stamping::of(&asked.method, &asked.arguments).transpose()? else { return Ok(Value::Null) };
    let wanted = stamping.marks();
    let mut ended = Vec::new();
    if let Some(signal) = stamping.terminate {
        let running = engine.slots.iter().flat_map(|slot| &slot.work).filter(|work| work.is_running());
        let marked = running.filter_map(|work| {
            let marks = stamps::of_headers(work.message.headers_json());
            let marks: Vec<String> = marks.into_iter().filter(|mark| wanted.contains(mark)).collect();
            (!marks.is_empty()).then(|| (work.message.headers.id.clone(), marks))
        });
        for (id, marks) in marked.collect::<Vec<_>>() {
            engine.end_task(&id, signal);
            ended.extend(marks);
        }
    }
    Ok(stamping.answer(&ended))
}

impl Engine {
    /// Sends a signal to whatever runs this task here; false if nothing does.
    fn end_task(&mut self, id: &str, signal: Signal) -> bool {
        let mut found = false;
        for slot in &mut self.slots {
            let Some(work) = slot.work.as_mut().filter(|work| work.is_running() && work.message.headers.id == id)
            else {
                continue;
            };
            let Some(number) = rustix::process::Signal::from_named_raw(signal as i32) else { continue };
            found = true;
            story::terminated(&self.start, work, signal.as_str());
            work.terminated = Some(Terminated { signal: signal as i32, kill_at: Instant::now() + GRACE });
            if let Phase::Command(command) = &work.phase {
                command.signal(number);
            } else if let RunnerState::Ready(runner) | RunnerState::Retiring(runner) = &slot.runner {
                runner.signal(number);
                // No other task for a runner that may be about to die.
                slot.runner.retire();
            }
        }
        found
    }
}
