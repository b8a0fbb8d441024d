//! The lease is gone: others have taken it away, or Redis has lost its data.
//!
//! In the first case others run this worker's tasks again, and it has to stop. In the second nobody has their messages but
//! itself: they go on, and the worker puts back into Redis what it holds. It goes on only where both of these are certain:
//!
//! * **Nobody took over.** A lease can be taken away only when it has run out. So nobody has taken this one as long as the last
//!   renewal is younger than a lease; and where there was no server at all, nobody could. No worker takes
//!   another for dead within [`BEAT`] of its own connecting, so refused connections that are closer together
//!   than that show that there was none.
//! * **Nothing older came back.** In an older state of the data the messages that run now may wait, and would be run beside
//!   themselves ([`Lineage::has_nothing_of`]).

use super::engine::Engine;
use super::exchange::Trouble;
use crate::broker::Action;
use crate::broker::anew::{self, Lineage, Remembered};
use crate::broker::lease::{BEAT, LEASE};
use crate::message::Message;
use nix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// What is known of the server, and until when nobody can have taken this worker's lease away.
#[derive(Debug, Default)]
pub struct Contact {
    /// The server that had the lease last; none where it does not say.
    pub server: Option<Lineage>,
    /// By [`Contact::now`].
    certain_until: Duration,
}

impl Contact {
    /// Time since the machine was started, with the time in which it was suspended: others' clocks went on.
    pub fn now() -> Duration {
        clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
    }

    /// The lease was renewed, by a beat that was sent at this time.
    pub fn renewed(&mut self, asked: Duration) {
        self.certain_until = asked.saturating_add(LEASE);
    }

    /// There is no server: the connection was refused just now.
    pub fn refused(&mut self) {
        self.refused_at(Contact::now());
    }

    fn refused_at(&mut self, now: Duration) {
        if now <= self.certain_until {
            self.certain_until = self.certain_until.max(now.saturating_add(BEAT));
        }
    }

    fn certain_at(&self, now: Duration) -> bool {
        now <= self.certain_until
    }
}

impl Engine {
    /// Takes out the lease anew, with all that is held, if Redis has lost its data and nobody has taken over.
    pub(super) async fn lease_anew(&mut self) -> Result<(), Trouble> {
        let certain = self.exchange.contact.certain_at(Contact::now());
        let before = self.exchange.contact.server.clone();
        let (Some(before), Some(connection)) = (before.filter(|_| certain), &mut self.exchange.connection) else {
            return Err(Trouble::LeaseLost);
        };
        let server = Lineage::read(connection).await?;
        let Some(server) = server.filter(|server| server.has_nothing_of(&before)) else {
            return Err(Trouble::LeaseLost);
        };
        let lists: Vec<String> = self.outbox.iter().map(|settlement| self.list_of(&settlement.action)).collect();
        let works = self.slots.iter().flat_map(|slot| &slot.work).chain(&self.ahead.works).map(|work| Remembered {
            sequence: work.sequence,
            list: &work.list,
            flow: &work.flow,
            message: Some(&work.message.raw),
            started: work.noted,
        });
        let ended = self.outbox.iter().zip(&lists).filter(|(settlement, _)| settlement.action != Action::Store);
        let ended = ended.map(|(settlement, list)| Remembered {
            sequence: settlement.sequence,
            list,
            flow: &settlement.flow,
            message: message_of(&settlement.action),
            started: matches!(settlement.action, Action::Dead { .. }), // whoever dies now: it must not run again
        });
        let held: Vec<Remembered<'_>> = works.chain(ended).collect();
        let exchange = &mut self.exchange;
        let Some(connection) = &mut exchange.connection else { return Err(Trouble::LeaseLost) };
        let asked = Contact::now();
        let done = anew::again(connection, &exchange.keys, &self.start.owner, exchange.number, &held).await?;
        if !done {
            return Err(Trouble::LeaseLost);
        }
        exchange.contact.renewed(asked);
        exchange.contact.server = Some(server);
        exchange.beat_at = Instant::now(); // what a beat says besides is gone, too
        let running = self.busy();
        tracing::warn!(
            "Redis has lost its data: all that waited there is gone; {running} running tasks go on, and their results are kept"
        );
        // Nothing that was seen there is there any more, nor any answer to whose a message is.
        self.filings.clear();
        self.naming.forget();
        self.look_everywhere();
        Ok(())
    }

    /// The list of a message that goes back, as its producer chose it: the worker does not know it any more.
    fn list_of(&self, action: &Action) -> String {
        let keys = &self.exchange.keys;
        let message = message_of(action).and_then(|message| Message::parse(message.to_vec()).ok());
        let Some(message) = message else { return String::new() };
        let properties: serde_json::Value = serde_json::from_str(message.properties_json()).unwrap_or_default();
        let queue = properties["delivery_info"]["routing_key"].as_str().unwrap_or_default();
        let ours = keys.queues.iter().any(|name| name == queue);
        keys.list_of_priority(if ours { queue } else { &self.start.config.queues.default }, message.priority())
    }
}

/// The message a settlement moves.
fn message_of(action: &Action) -> Option<&[u8]> {
    match action {
        Action::Ack | Action::Store => None,
        Action::Front(message) | Action::List(message) | Action::Back(message) => Some(message),
        Action::Delay { message, .. } | Action::Dead { message, .. } | Action::Limit { message, .. } => Some(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_lease_is_certain_for_its_length() {
        let mut contact = Contact::default();
        assert!(!contact.certain_at(seconds(1.0)), "it never had one");
        contact.renewed(seconds(100.0));
        assert!(contact.certain_at(seconds(107.0)) && !contact.certain_at(seconds(107.1)));
    }

    #[test]
    fn where_there_is_no_server_nobody_takes_it() {
        let mut contact = Contact::default();
        contact.renewed(seconds(100.0));
        for tenth in 0..1000 {
            contact.refused_at(seconds(101.0 + f64::from(tenth) / 10.0));
        }
        assert!(contact.certain_at(seconds(203.0)) && !contact.certain_at(seconds(203.5)));
        contact.refused_at(seconds(210.0));
        assert!(!contact.certain_at(seconds(210.1)), "who knows what was there meanwhile");
    }
}
