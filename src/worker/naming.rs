//! Whose a message is: as `[tenancy]` says, or as the workers have found out.

use super::engine::Engine;
use super::exchange::Trouble;
use crate::broker::answer::{self, Kept, Replacement};
use crate::config::{Config, Queues, Tenancy};
use crate::fairness::discovery::{Answer, Discovery, Name};
use crate::fairness::{flow, named};
use crate::message::{Message, body};
use crate::runner::python::Registry;
use std::rc::Rc;

/// Number of an answer that is configured: newer than any that is found.
const CONFIGURED: u64 = 1 << 53;

/// What says whose a message is.
#[derive(Debug)]
pub struct Naming {
    /// As configured, with what was found out in its place.
    tenancy: Tenancy,
    queues: Queues,
    /// Only where nothing is configured and queues are numbered.
    search: Option<Discovery>,
    /// Number of the answer in force.
    epoch: u64,
    /// There may be a newer one.
    outdated: bool,
    /// To be put in force.
    proposed: Option<Answer>,
}

impl Naming {
    /// As configured.
    pub fn new(config: &Config) -> Naming {
        let (tenancy, queues) = (config.tenancy.clone(), config.queues.clone());
        let search = search(config);
        let epoch = if search.is_some() { 0 } else { CONFIGURED };
        Naming { tenancy, queues, search, epoch, outdated: true, proposed: None }
    }

    /// Number of the answer by which flows are named.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Flow of a message of a queue.
    pub fn flow(&self, registry: Option<&Registry>, message: &Message, queue: &str) -> Rc<str> {
        flow::of_message(&self.tenancy, &self.queues, queue, message, parameters(registry, message))
    }

    /// Takes note of a message that has just come, where it is still to be found out what names its tenant, or to be
    /// watched whether it still does.
    pub fn see(&mut self, registry: Option<&Registry>, message: &Message, queue: &str) {
        let Some(search) = &mut self.search else { return };
        let number = self.queues.names.iter().position(|name| name == queue);
        let Some(number) = number.and_then(|number| u32::try_from(number).ok()) else { return };
        let answer = search
            .see(number, || named(message, body::arguments(message).ok().as_ref(), parameters(registry, message)));
        self.proposed = answer.or(self.proposed.take());
    }

    /// There is something to agree on.
    pub fn is_due(&self) -> bool {
        self.search.is_some() && (self.outdated || self.proposed.is_some())
    }

    /// A step has told the number of the answer in force, or of that which is to be.
    pub fn heard(&mut self, epoch: Option<u64>) {
        self.outdated |= epoch.is_some_and(|epoch| epoch > self.epoch);
    }

    /// Another connection: much may have happened.
    pub fn forget(&mut self) {
        self.outdated = true;
    }

    fn take(&mut self, kept: Kept) {
        let Some(search) = &mut self.search else { return };
        let name = kept.answer.and_then(|answer| serde_json::from_str::<Answer>(&answer).ok()?.name);
        search.settle(name.clone());
        (self.tenancy.parameter, self.tenancy.header) = (None, None);
        match name {
            Some(Name::Parameter(name)) => self.tenancy.parameter = Some(name),
            Some(Name::Header(name)) => self.tenancy.header = Some(name),
            None => {}
        }
        (self.epoch, self.proposed) = (kept.epoch, None);
    }
}

fn search(config: &Config) -> Option<Discovery> {
    let (tenancy, queues) = (&config.tenancy, &config.queues);
    if tenancy.parameter.is_some() || tenancy.header.is_some() || queues.prefix.is_none() {
        return None;
    }
    let default = queues.names.iter().position(|name| *name == queues.default)?;
    Discovery::new(u32::try_from(queues.names.len()).ok()?, u32::try_from(default).ok()?)
}

fn parameters<'a>(registry: Option<&'a Registry>, message: &Message) -> &'a [String] {
    let info = registry.and_then(|registry| registry.tasks.get(&message.headers.task));
    info.map_or(&[], |info| &info.parameters)
}

impl Engine {
    /// Has all workers agree on whose a message is: reads the answer in force, or does a part of putting a new one in its
    /// place.
    pub(super) async fn agree(&mut self) -> Result<(), Trouble> {
        if !self.naming.is_due() {
            return Ok(());
        }
        let Some(connection) = &mut self.exchange.connection else { return Ok(()) };
        let keys = &self.exchange.keys;
        let Replacement { kept, coming, .. } = match self.naming.proposed.take().filter(|_| !self.naming.outdated) {
            Some(proposed) => {
                let json = serde_json::json!(proposed).to_string();
                let replacement = answer::replace(connection, keys, self.naming.epoch, &json).await?;
                if replacement.begun {
                    tell(&proposed);
                }
                replacement
            }
            None => answer::go_on(connection, keys).await?,
        };
        self.naming.outdated = coming;
        if kept.epoch != self.naming.epoch {
            // What was looked at is to be named anew.
            self.filings.clear();
            self.gaze.at_hand.clear();
            self.look_everywhere();
            self.naming.take(kept);
        }
        Ok(())
    }
}

fn tell(answer: &Answer) {
    let Answer { name, before, agreeing, disagreeing } = answer;
    let shown = |name: &Option<Name>| name.as_ref().map(Name::to_string).unwrap_or_default();
    let (now, before_it) = (shown(name), shown(before));
    match (name, before) {
        (Some(_), None) => tracing::info!(
            "found out that {now} says whose a task is: {agreeing} distinct values came in their own queue, {disagreeing} did \
             not; see `fairstalk tenants --explain`"
        ),
        (Some(_), Some(_)) => tracing::error!(
            "now {now} says whose a task is, and no longer {before_it}, which tasks don't have any more: was something \
             deployed? [tenancy] can fix the answer"
        ),
        (None, _) => tracing::error!(
            "{before_it} no longer says whose a task is: {disagreeing} of {} distinct values came in another queue than \
             their own: was something deployed? Until it is clear again, users who share a queue wait behind one another. \
             [tenancy] can fix the answer",
            agreeing + disagreeing
        ),
    }
}
