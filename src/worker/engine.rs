//! The worker's loop: one owner of all state, one event at a time.

use super::ahead::Ahead;
use super::bounds::Bounds;
use super::control::Remote;
use super::events::Events;
use super::exchange::Exchange;
use super::flight::{Flight, answer};
use super::lanes::Gaze;
use super::letter::Death;
use super::link::{Orders, Reports};
use super::memory::Guard;
use super::minute::Tally;
use super::naming::Naming;
use super::rates::Rates;
use super::scale::Scale;
use super::slots::Slot;
use super::stagger::Budget;
use crate::broker::lease::BEAT;
use crate::broker::{BrokerError, Filing, Settlement};
use crate::celery::{Heard, Node};
use crate::channel::{Exit, Order, Report, Start};
use crate::runner::Said;
use crate::runner::command::CommandExit;
use crate::runner::python::{Registry, Zygote, ZygoteSaid};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::sleep_until;

/// The worker can't go on.
#[derive(Debug)]
pub struct Failure {
    /// Its exit code.
    pub exit: Exit,
    /// What is wrong and what to do.
    pub message: String,
}

/// What the readers tell the loop.
pub enum Event {
    /// A Python runner, by its number, of a claim.
    Runner(u64, u64, Said),
    /// The zygote, by the number of the connection to it.
    Zygote(u64, ZygoteSaid),
    /// A Python runner that had a task is dead, by its pid, and all it said was told before.
    RunnerDied(u32, Death),
    /// A line a command wrote to standard error, by its claim.
    CommandLine(u64, String),
    /// A command has ended, by its claim.
    CommandExit(u64, CommandExit),
    /// Celery's remote control.
    Control(Heard),
}

/// Whether messages are claimed. Running tasks are not touched by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claiming {
    /// Yes.
    Yes,
    /// Not until told otherwise.
    Paused,
    /// Never again: finish what runs until then, hand back the rest.
    Draining(Instant),
}

/// All state of a worker.
pub struct Engine {
    pub(super) start: Start,
    pub(super) reports: Reports,
    pub(super) orders: Orders,
    pub(super) exchange: Exchange,
    pub(super) zygote: Option<Zygote>,
    pub(super) zygote_number: u64,
    pub(super) registry: Option<Registry>,
    pub(super) slots: Vec<Slot>,
    /// What is claimed beyond the free slots.
    pub(super) ahead: Ahead,
    /// How many of them are open.
    pub(super) scale: Scale,
    /// What remote control remembers.
    pub(super) remote: Remote,
    /// Keeps the memory limits.
    pub(super) memory: Guard,
    /// Dead owners the zygote was asked about.
    pub(super) fencing: Vec<String>,
    /// What has ended and is not yet settled: kept until Redis has confirmed it.
    pub(super) outbox: Vec<Settlement>,
    /// The step that was sent and is not answered yet; what it settles is not in the outbox.
    pub(super) flight: Option<Flight>,
    /// Whose the messages are that were looked at.
    pub(super) filings: Vec<Filing>,
    /// When to look for new messages.
    pub(super) gaze: Gaze,
    /// What monitors are told.
    pub(super) events: Events,
    /// Who it is to Celery's tools.
    pub(super) node: Rc<Node>,
    /// What says whose a message is.
    pub(super) naming: Naming,
    /// Tasks whose rate is limited.
    pub(super) rates: Rates,
    /// What tenants have had lately.
    pub(super) tally: Tally,
    /// Milliseconds a task takes, about.
    pub(super) expected: f64,
    /// How much one step may do.
    pub(super) bounds: Bounds,
    /// How long slots may rest; none unless `[tenancy] stagger` says that they may.
    pub(super) budget: Option<Budget>,
    pub(super) claiming: Claiming,
    /// Others of this daemon go on when this one has ended, on the same Redis.
    pub(super) replaced: bool,
    /// There may be something to claim.
    pub(super) look: bool,
    pub(super) ready_told: bool,
    /// Remote control is heard.
    pub(super) listening: bool,
    /// Set when the drain deadline has passed: how many tasks ran then.
    pub(super) handed_back: Option<usize>,
    /// When, at the end of a drain, the runners were told to end.
    pub(super) dismissed: Option<Instant>,
    pub(super) told: UnboundedReceiver<Event>,
    pub(super) tell: UnboundedSender<Event>,
}

impl Engine {
    /// A worker that has not begun.
    ///
    /// # Errors
    /// If there is an application but no zygote to run it, or descriptors run out.
    pub fn new(start: Start, orders: Orders, reports: Reports) -> Result<Engine, Failure> {
        let (tell, told) = unbounded_channel();
        let scale = Scale::new(&start.config.workers);
        let slots: Vec<Slot> = (0..scale.least()).map(|_| Slot::default()).collect();
        reports.update(|figures| figures.slots = scale.least());
        let exchange = Exchange::new(&start);
        let budget = start.config.tenancy.stagger.then(|| Budget::new(slots.len()));
        let memory = Guard::new(&start);
        let node = Rc::new(Node::new(start.node.clone()));
        let (naming, rates) = (Naming::new(&start.config), Rates::new(&start.config));
        let ahead = Ahead::new(start.config.workers.claim_ahead).map_err(|error| Failure {
            exit: Exit::Internal,
            message: format!("can't make the inbox of the runners: {error}"),
        })?;
        let mut engine = Engine {
            start,
            memory,
            reports,
            orders,
            exchange,
            zygote: None,
            zygote_number: 0,
            registry: None,
            slots,
            ahead,
            scale,
            remote: Remote::default(),
            fencing: Vec::new(),
            outbox: Vec::new(),
            flight: None,
            filings: Vec::new(),
            gaze: Gaze::default(),
            events: Events::new(Rc::clone(&node)),
            node,
            naming,
            rates,
            tally: Tally::default(),
            expected: 10.0,
            bounds: Bounds::default(),
            budget,
            claiming: Claiming::Yes,
            replaced: false,
            look: true,
            ready_told: false,
            listening: false,
            handed_back: None,
            dismissed: None,
            told,
            tell,
        };
        engine.connect_zygote()?;
        engine.learn_events();
        engine.listen();
        Ok(engine)
    }

    /// Works until told to stop.
    ///
    /// # Errors
    /// [`Failure`]: the worker can't go on; what it holds is for others to recover.
    pub async fn run(&mut self) -> Result<Exit, Failure> {
        let internal = |error| Failure { exit: Exit::Internal, message: format!("can't handle signals: {error}") };
        let mut terminate = signal(SignalKind::terminate()).map_err(internal)?;
        loop {
            self.end_rests(Instant::now());
            self.start_runners(Instant::now()).await; // they begin while Redis is asked
            self.exchange_if_due().await?;
            self.release_events();
            self.shrink_if_quiet(Instant::now());
            self.fence_suspects().await;
            self.tell_ready();
            self.watch_memory(Instant::now());
            crate::telemetry::tell_suppressed();
            if let Some(exit) = self.drained().await? {
                self.events.close().await;
                return Ok(exit);
            }
            self.mind_ahead(Instant::now());
            self.collect();
            let wake = self.exchange.wake();
            let deadline = tokio::time::Instant::from_std(self.next_deadline());
            tokio::select! {
                event = self.told.recv() => {
                    if let Some(event) = event { self.handle(event); }
                }
                answer = answer(&mut self.flight) => {
                    let landed = self.land(answer).await;
                    self.absorb(landed).await?;
                }
                () = wake.rung() => {
                    if wake.connection_lost() { self.exchange.lost("connection closed by the server"); }
                    self.rung(wake.take());
                    self.cut_rests(Instant::now());
                }
                order = self.orders.next() => match order {
                    Some(order) => self.obey(order),
                    None => return Err(Failure {
                        exit: Exit::Internal,
                        message: "the supervisor is gone".into(),
                    }),
                },
                _ = terminate.recv() => self.obey(Order::Drain {
                    within_ms: u64::try_from(self.start.config.workers.drain_timeout.as_millis()).unwrap_or(u64::MAX),
                    replaced: false,
                    succeeded: false,
                }),
                () = sleep_until(deadline) => self.enforce_limits(Instant::now()),
            }
            // What else has come meanwhile is settled and claimed for in the same step.
            while let Ok(event) = self.told.try_recv() {
                self.handle(event);
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match (order, self.claiming) {
            (Order::Drain { within_ms, replaced, succeeded }, Claiming::Yes | Claiming::Paused) => {
                self.replaced = replaced;
                if succeeded {
                    self.node.succeed();
                }
                self.claiming = Claiming::Draining(Instant::now() + Duration::from_millis(within_ms));
            }
            (Order::HandBack, _) => self.claiming = Claiming::Draining(Instant::now()),
            (Order::Pause, Claiming::Yes) => self.claiming = Claiming::Paused,
            (Order::Resume, Claiming::Paused) => {
                self.claiming = Claiming::Yes;
                self.look = true;
            }
            (Order::Recover { owners }, _) => self.exchange.suspects.extend(owners),
            (Order::Start(_) | Order::Drain { .. } | Order::Pause | Order::Resume, _) => {}
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Runner(number, claim, said) => self.runner_said(number, claim, said),
            Event::Zygote(number, said) if number == self.zygote_number => self.zygote_said(said),
            Event::Zygote(..) => {}
            Event::RunnerDied(pid, death) => self.runner_buried(pid, &death),
            Event::CommandLine(sequence, line) => self.wrote(sequence, &line),
            Event::CommandExit(sequence, exit) => self.command_ended(sequence, &exit),
            Event::Control(heard) => self.heard(heard),
        }
    }

    /// Whether there is an application to run tasks of.
    pub(super) fn python(&self) -> bool {
        self.start.zygote.is_some()
    }

    /// Slots in which a task could start now.
    pub(super) fn free(&self) -> usize {
        if !self.ahead.works.is_empty() {
            return 0; // who is free takes one of these
        }
        let python = self.python();
        self.slots.iter().filter(|slot| slot.is_free(python)).count()
    }

    /// Tasks under way.
    pub(super) fn busy(&self) -> usize {
        self.slots.iter().filter(|slot| slot.work.is_some()).count() + self.ahead.works.len()
    }

    fn next_deadline(&self) -> Instant {
        let mut next = Instant::now() + BEAT;
        let mut sooner = |candidate: Option<Instant>| next = candidate.map_or(next, |candidate| candidate.min(next));
        sooner(self.exchange.next_deadline());
        if self.exchange.is_connected() && self.flight.is_none() {
            sooner(self.look_due());
            sooner(self.gaze.later);
            // Of what was just claimed, not all has to run.
            if self.settles() || self.ahead.releases() || self.naming.is_due() {
                sooner(Some(Instant::now()));
            }
        }
        sooner(self.memory.look_at);
        sooner(self.ahead.due(Instant::now()));
        if let Claiming::Draining(deadline) = self.claiming {
            let passed = self.handed_back.is_some() || self.dismissed.is_some();
            sooner(Some(if passed { Instant::now() + Duration::from_millis(100) } else { deadline }));
        }
        for slot in &self.slots {
            sooner(slot.rests);
            sooner(slot.runner_due(matches!(self.claiming, Claiming::Draining(_))));
            if let Some(work) = slot.work.as_ref().filter(|work| work.is_running()) {
                sooner(work.soft_limit);
                sooner(work.hard_limit.map(|(instant, _)| instant));
                sooner(work.terminated.map(|terminated| terminated.kill_at));
            }
        }
        next
    }

    fn tell_ready(&mut self) {
        // Who is paused from the start has no look to wait for.
        let looked = match self.claiming {
            Claiming::Paused => self.exchange.could_look(),
            Claiming::Yes | Claiming::Draining(_) => self.exchange.looked(),
        };
        let ready = looked && self.listening && self.slots.iter().all(|slot| slot.is_warm(self.python()));
        if ready && !self.ready_told {
            tracing::debug!("ready: {} slots", self.slots.len());
            self.introduce();
            self.reports.send(Report::Ready);
            self.ready_told = true;
        }
    }

    /// The worker can't work for now, for this reason.
    pub(super) fn waiting(&mut self, reason: String) {
        self.ready_told = false;
        self.reports.send(Report::Waiting { reason });
    }
}

/// A failure of Redis that waiting won't mend.
pub(super) fn fatal(error: &BrokerError) -> Failure {
    Failure { exit: error.kind.exit(), message: error.to_string() }
}
