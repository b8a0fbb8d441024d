//! The worker's side of Redis: one connection, steps, beats, and what to do when it is gone.
//!
//! An outage changes nothing for running tasks: what ends meanwhile waits in the outbox. It is logged once when
//! it begins and once when it ends.

use super::engine::{Engine, Failure, fatal};
use super::loss::Contact;
use super::stepping::due_at;
use crate::broker::anew::Lineage;
use crate::broker::lease::{BEAT, Beat, Leases};
use crate::broker::pickup::Picker;
use crate::broker::revoked::Revoked;
use crate::broker::stale::Stale;
use crate::broker::step::Stepper;
use crate::broker::wake::Wake;
use crate::broker::{BrokerError, Claim, Connection, Keys, Kind, Rung};
use crate::channel::{Exit, Start};
use crate::fairness::policy::Policy;
use crate::pace;
use std::time::{Duration, Instant};

/// First wait before a lost connection is tried again; doubles.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// Longest such wait: claiming resumes within 2 s of Redis being back.
const RETRY_MAX: Duration = Duration::from_millis(1500);

/// After so many quick steps in a row that found all they could take, there is a backlog, and no need to be rung for:
/// the next step will see what is new.
const BACKLOG_STEPS: u32 = 32;

/// Connection and clock.
pub struct Exchange {
    pub(super) connection: Option<Connection>,
    /// Number of the present connection, from 1: what was sent on an earlier one and comes late does nothing.
    pub(super) number: u64,
    pub(super) keys: Keys,
    pub(super) leases: Leases,
    pub(super) stale: Stale,
    pub(super) stepper: Stepper,
    pub(super) picker: Picker,
    /// Until when nothing is picked up but by steps.
    pub(super) steps_only: Option<Instant>,
    /// Tasks that must not run.
    pub(super) revoked: Revoked,
    /// Dead owners whose claims are to be put back as soon as their runners are known to be gone.
    pub(super) suspects: Vec<String>,
    /// Dead owners whose claims are to be put back now.
    pub(super) recover: Vec<String>,
    wake: Wake,
    pub(super) sequence: u64,
    pub(super) cursor: u32,
    pub(super) leased: bool,
    /// What it knows of the server and of its lease, should that be gone one day.
    pub(super) contact: Contact,
    pub(super) looked: bool,
    /// Steps in a row that found all they could take.
    pub(super) full_steps: u32,
    /// When the last of them was made.
    pub(super) full_at: Option<Instant>,
    /// From when on a lease that is over counts: others, who were away with this worker, have had time to come back.
    judges_from: Instant,
    pub(super) watching: bool,
    retry_at: Instant,
    retry_wait: Duration,
    outage: Option<Instant>,
    pub(super) beat_at: Instant,
    pub(super) due_at: Option<Instant>,
    /// The server's clock (milliseconds since 1970) and when it was read.
    pub(super) clock: (i64, Instant),
}

impl Exchange {
    /// Not connected yet.
    pub fn new(start: &Start) -> Exchange {
        let keys = Keys::new(&start.config.broker, &start.config.queues);
        let now = Instant::now();
        Exchange {
            connection: None,
            number: 0,
            leases: Leases::new(keys.clone()).with_visibility(start.config.broker.visibility_timeout),
            stale: Stale::new(keys.clone(), start.config.broker.visibility_timeout),
            stepper: Stepper::new(
                keys.clone(),
                crate::broker::connection::database(&start.config.results.url),
                Policy::new(&start.config.tenancy),
            ),
            picker: Picker::default(),
            steps_only: None,
            revoked: Revoked::new(keys.clone()),
            keys,
            suspects: start.recover.clone(),
            recover: Vec::new(),
            wake: Wake::default(),
            sequence: 1,
            // Workers begin with different queues, so that a light load spreads over them.
            cursor: start.worker,
            leased: false,
            contact: Contact::default(),
            looked: false,
            full_steps: 0,
            full_at: None,
            judges_from: now,
            watching: false,
            retry_at: now,
            retry_wait: RETRY_MIN,
            outage: None,
            beat_at: now,
            due_at: None,
            clock: (0, now),
        }
    }

    /// What rings when there may be something to claim.
    pub fn wake(&self) -> Wake {
        self.wake.clone()
    }

    /// These owners are dead and nothing of theirs runs any more: their claims go back with the next beat, which
    /// is now.
    pub(super) fn recover(&mut self, owners: impl IntoIterator<Item = String>) {
        self.recover.extend(owners);
        self.beat_at = Instant::now();
    }

    /// Others should know at once what a beat tells.
    pub(super) fn beat_soon(&mut self) {
        self.beat_at = Instant::now();
    }

    /// The connection is gone, or of no use: Redis takes no writes. Said once, however often it fails from here on.
    pub fn lost(&mut self, why: &str) {
        self.wake = Wake::default();
        let connected = self.connection.take().is_some();
        if self.outage.is_some() {
            return;
        }
        if connected {
            tracing::warn!("Redis lost: {why}; running tasks go on, what ends meanwhile is kept");
        } else {
            tracing::warn!("{why}; trying again until it answers");
        }
        self.outage = Some(Instant::now());
        self.retry_at = Instant::now();
        self.retry_wait = RETRY_MIN;
    }

    /// All that was due has been done: Redis is back if it was away. A connection alone is no sign of that.
    fn well(&mut self) {
        if self.connection.is_some()
            && let Some(since) = self.outage.take()
        {
            self.retry_wait = RETRY_MIN;
            tracing::info!("Redis is back after {:.1} s", since.elapsed().as_secs_f64());
        }
    }

    /// Redis can be asked.
    pub(super) fn is_connected(&self) -> bool {
        self.connection.is_some() && self.leased
    }

    /// Is rung when there is something new.
    pub(super) fn watching(&self) -> bool {
        self.watching
    }

    /// It was connected, and can't connect again. What is wrong now was right before, and may be in the middle of being
    /// changed: a password, a certificate. What runs goes on meanwhile.
    fn was_well(&self) -> bool {
        self.number > 0 && self.connection.is_none()
    }

    /// A first look for messages was made.
    pub fn looked(&self) -> bool {
        self.looked && self.connection.is_some()
    }

    /// It has a lease, so that it may look for messages.
    pub fn could_look(&self) -> bool {
        self.leased && self.connection.is_some()
    }

    /// The server's clock, milliseconds since 1970.
    pub fn now(&self) -> i64 {
        self.clock.0 + i64::try_from(self.clock.1.elapsed().as_millis()).unwrap_or(0)
    }

    /// When there is something to do with Redis, at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.connection {
            None => Some(self.retry_at),
            Some(_) => [Some(self.beat_at), self.due_at].into_iter().flatten().min(),
        }
    }
}

impl Engine {
    /// Does with Redis what is due: connects, beats, recovers, steps, notes what is about to start for good. While a step is
    /// on its way, that is nothing.
    pub(super) async fn exchange_if_due(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let landed = if self.may_fly() { self.look_for_answer().await } else { self.await_answer().await };
        self.absorb(landed).await?;
        if self.flight.is_some() {
            return Ok(());
        }
        if self.exchange.connection.is_none() {
            if now < self.exchange.retry_at {
                return Ok(());
            }
            let connected = self.connect().await;
            self.absorb(connected).await?;
        }
        if self.exchange.connection.is_some() && now >= self.exchange.beat_at {
            let beaten = self.beat().await;
            self.absorb(beaten).await?;
        }
        if self.exchange.due_at.is_some_and(|due| now >= due) {
            self.exchange.due_at = None;
            self.look_everywhere();
        }
        self.look_later(now);
        let told = self.tell_rates().await;
        self.absorb(told).await?;
        let agreed = self.agree().await;
        self.absorb(agreed).await?;
        let watched = self.watch_or_not().await;
        self.absorb(watched).await?;
        let picked = self.pick_up().await;
        self.absorb(picked).await?;
        let stepped = self.step().await;
        self.absorb(stepped).await?;
        if self.flight.is_none() {
            let noted = self.note_starts().await;
            self.absorb(noted).await?;
            self.exchange.well();
        }
        Ok(())
    }

    /// Is rung while there may be nothing to claim, and not while there is a backlog.
    async fn watch_or_not(&mut self) -> Result<(), Trouble> {
        let exchange = &mut self.exchange;
        let Some(connection) = &mut exchange.connection else { return Ok(()) };
        if exchange.watching && exchange.full_steps >= BACKLOG_STEPS {
            connection.unwatch().await?;
            exchange.watching = false;
            self.gaze.want(Rung::Everywhere);
        } else if !exchange.watching && exchange.full_steps == 0 {
            connection.watch(&exchange.keys).await?;
            exchange.watching = true;
            self.look_everywhere(); // what came just before was not rung for
        }
        Ok(())
    }

    /// An outage is waited out, and the loss of all data is lived through; everything else ends the worker.
    pub(super) async fn absorb(&mut self, result: Result<(), Trouble>) -> Result<(), Failure> {
        let result = match result {
            Err(Trouble::LeaseLost) => self.lease_anew().await,
            result => result,
        };
        match result {
            Ok(()) => Ok(()),
            Err(Trouble::LeaseLost) => Err(Failure {
                exit: Exit::Internal,
                message: "this worker's lease is gone: it was silent for too long and others have taken over its \
                          tasks, or Redis has lost data and it can't be told which; it starts afresh"
                    .into(),
            }),
            Err(Trouble::Broker(error)) if error.kind == Kind::Unavailable || self.exchange.was_well() => {
                let exchange = &mut self.exchange;
                if error.cause.is_connection_refusal() {
                    exchange.contact.refused();
                }
                exchange.lost(&error.to_string());
                exchange.retry_at = Instant::now() + exchange.retry_wait;
                exchange.retry_wait = (exchange.retry_wait * 2).min(RETRY_MAX);
                self.waiting(error.to_string());
                Ok(())
            }
            Err(Trouble::Broker(error)) => Err(fatal(&error)),
        }
    }

    async fn connect(&mut self) -> Result<(), Trouble> {
        let exchange = &mut self.exchange;
        let mut connection = Connection::open(&self.start.config.broker).await?;
        connection.watch(&exchange.keys).await?;
        (exchange.watching, exchange.full_steps) = (true, 0);
        exchange.wake = connection.wake.clone();
        exchange.connection = Some(connection);
        exchange.number += 1;
        exchange.judges_from = Instant::now() + BEAT;
        self.look_everywhere();
        self.naming.forget();
        self.rates.forget();
        let again = self.exchange.leased;
        self.beat().await?;
        if let Some(connection) = &mut self.exchange.connection {
            self.exchange.contact.server = Lineage::read(connection).await?;
            self.exchange.revoked.catch_up(connection).await?;
        }
        if again {
            self.adopt().await?;
        }
        Ok(())
    }

    /// After a lost connection: a step may have been made whose answer never came. What it claimed goes back.
    async fn adopt(&mut self) -> Result<(), Trouble> {
        let Some(connection) = &mut self.exchange.connection else { return Ok(()) };
        let held = self.exchange.leases.held(connection, &self.start.owner).await?;
        let known = |claim: &Claim| {
            let works = self.slots.iter().flat_map(|slot| &slot.work).chain(&self.ahead.works);
            works.into_iter().any(|work| work.sequence == claim.sequence)
                || self.outbox.iter().any(|settlement| settlement.sequence == claim.sequence)
        };
        let unknown: Vec<Claim> = held.into_iter().filter(|claim| !known(claim)).collect();
        if let Some(last) = unknown.last() {
            self.exchange.sequence = self.exchange.sequence.max(last.sequence + 1);
        }
        let untouched: Vec<_> = unknown.into_iter().map(|claim| self.untouched(claim)).collect();
        self.outbox.extend(untouched);
        Ok(())
    }

    async fn beat(&mut self) -> Result<(), Trouble> {
        let exchange = &mut self.exchange;
        let Some(connection) = &mut exchange.connection else { return Ok(()) };
        let figures = super::story::figures(&self.start, &self.reports.figures(), &self.tally.told(Instant::now()));
        let (delivery, slots) = (&self.start.config.delivery, self.reports.figures().slots);
        let beat = Beat {
            owner: &self.start.owner,
            figures: &figures,
            slots,
            first: !exchange.leased,
            connection: exchange.number,
        };
        let asked = Contact::now();
        let pulse = exchange.leases.beat(connection, &beat, delivery).await?;
        let pulse = pulse.ok_or(Trouble::LeaseLost)?;
        exchange.leased = true;
        exchange.contact.renewed(asked);
        exchange.beat_at = pace::tick_before(Instant::now() + BEAT);
        // A ring that got lost would leave messages lying: nothing else looks while the worker is idle.
        if pulse.waiting > 0 {
            self.look = true;
            self.gaze.want(Rung::Everywhere);
        }
        let (waiting, tenants) = (pulse.waiting, pulse.tenants);
        self.reports.update(|figures| (figures.waiting, figures.tenants) = (waiting, Some(tenants)));
        // Of what waits in lanes, all may have to wait for something else than a slot; what is in lists is seen soon.
        let may_run = if tenants > 0 { usize::try_from(waiting).unwrap_or(usize::MAX) } else { 0 };
        exchange.due_at = pulse.due_in.map(due_at);
        if Instant::now() >= exchange.judges_from {
            exchange.suspects.extend(pulse.expired);
        }
        self.grow_for(may_run);
        if pulse.stale > 0 {
            self.restore_stale().await?;
        }
        self.recover_owners().await
    }
}

/// Why an exchange failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Redis.
    Broker(BrokerError),
    /// Others have taken over.
    LeaseLost,
}

impl From<BrokerError> for Trouble {
    fn from(error: BrokerError) -> Trouble {
        Trouble::Broker(error)
    }
}
