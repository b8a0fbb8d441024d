//! Generations: what workers that were started alike have in common, a configuration and the application's image.
//!
//! There is one, and during a reload two. Runners belong to the zygote of their generation: only that one can say that
//! none of a dead worker's is left. So what a dead worker held is put back by one of its own generation, or by others
//! once its zygote, and with it every runner, is gone.

use super::zygote::Zygote;
use crate::config::Config;
use std::time::Instant;

/// One generation.
pub struct Generation {
    /// Number, from 1; never used twice.
    pub number: u32,
    /// What its workers are started with.
    pub config: Config,
    /// Its application, if it has one.
    pub zygote: Option<Zygote>,
    /// Dead owners whose claims nobody of this generation can put back.
    pub unburied: Vec<String>,
}

impl Generation {
    /// Its zygote is due now.
    ///
    /// # Errors
    /// If no socket can be had for the zygote.
    pub fn new(number: u32, config: Config, now: Instant) -> nix::Result<Self> {
        let zygote = config.python.as_ref().map(|_| Zygote::new(now)).transpose()?;
        Ok(Self { number, config, zygote, unburied: Vec::new() })
    }

    /// Whether its application can be used now.
    pub fn is_ready(&self) -> bool {
        self.zygote.as_ref().is_none_or(|zygote| *zygote.slot.state() == super::slot::State::Ready)
    }

    /// Whether no process of its application is left, nor any that could still be started.
    pub fn is_gone(&self) -> bool {
        self.zygote.as_ref().is_none_or(|zygote| zygote.child.is_none())
    }

    /// Why its application can't be used, or how it ended the last time.
    pub fn note(&self) -> Option<&str> {
        self.zygote.as_ref()?.note.as_deref()
    }

    /// Nothing of it is needed any more: its zygote is told to end, or not started again.
    pub fn close(&mut self, now: Instant) {
        let Some(zygote) = &mut self.zygote else { return };
        zygote.close(now);
        if zygote.slot.due().is_some() {
            zygote.slot.halt("");
        }
    }
}
