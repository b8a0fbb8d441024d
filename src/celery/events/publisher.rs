//! Sends a worker's events, and its heartbeats, by publish/subscribe; hears those of others for the clock.
//!
//! One connection of its own: a monitor that is slow, or a Redis that is, holds nothing up but events. A batch that may
//! not have arrived is sent again, so after a lost connection a monitor may see some events twice.

use super::Outlet;
use super::event::{self, Alive, HEARTBEAT, Pulse, SOFTWARE};
use crate::broker::{BrokerError, Connection, Keys, Kind};
use crate::celery::Node;
use crate::config::Broker;
use crate::pace;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use redis::{PushInfo, PushKind, Value};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};

/// First wait before a lost connection is tried again; doubles.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// Longest such wait.
const RETRY_MAX: Duration = Duration::from_millis(1500);

/// Events of so long go out together where there are many: a message costs more than an event in it.
const GATHER: Duration = Duration::from_millis(20);

/// What a heartbeat tells of the worker's tasks.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Under way.
    pub active: u32,
    /// Started so far.
    pub processed: u64,
}

/// Where events come from and go to.
pub struct Publisher<F> {
    /// The Redis.
    pub broker: Broker,
    /// Its keys.
    pub keys: Keys,
    /// The application's `event_exchange`.
    pub exchange: String,
    /// The application's time zone.
    pub zone: TimeZone,
    /// Whose they are.
    pub node: Rc<Node>,
    /// Where they wait.
    pub outlet: Rc<Outlet>,
    /// For heartbeats.
    pub figures: F,
}

impl<F: Fn() -> Figures> Publisher<F> {
    /// Publishes until the outlet is closed and empty; connects again whenever the connection is lost.
    pub async fn run(self) {
        let mut wait = RETRY_MIN;
        let mut line = Line { refused: false, last: Instant::now() };
        loop {
            match Connection::listen(&self.broker).await {
                Ok((connection, pushes)) => {
                    let began = Instant::now();
                    if let Ok(End::Closed) = self.speak(connection, pushes, &mut line).await {
                        return;
                    }
                    if began.elapsed() > RETRY_MAX {
                        wait = RETRY_MIN;
                    }
                }
                Err(error) if error.kind == Kind::Unavailable => {} // told by the worker's own exchange
                Err(error) => line.refuse(&error),
            }
            if self.outlet.is_closed() {
                return;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// Until the outlet is closed, or the connection lost.
    async fn speak(
        &self,
        mut connection: Connection,
        mut pushes: UnboundedReceiver<PushInfo>,
        line: &mut Line,
    ) -> Result<End, BrokerError> {
        self.hear(&mut connection).await?;
        self.tell_alive(&mut connection, "worker-online", line).await?;
        let every = Duration::from_secs_f64(HEARTBEAT);
        let next = || Instant::from_std(pace::tick_before((Instant::now() + every).into_std()));
        let mut beat = next();
        loop {
            self.publish_waiting(&mut connection, line).await?;
            if self.outlet.is_closed() {
                self.tell_alive(&mut connection, "worker-offline", line).await?;
                return Ok(End::Closed);
            }
            tokio::select! {
                () = self.outlet.rung() => {
                    if !self.outlet.is_closed() {
                        sleep_until(line.last + GATHER).await;
                    }
                }
                () = sleep_until(beat) => {
                    self.tell_alive(&mut connection, "worker-heartbeat", line).await?;
                    beat = next();
                }
                push = pushes.recv() => match push {
                    Some(PushInfo { kind: PushKind::PMessage, data }) => self.heard(data),
                    Some(PushInfo { kind: PushKind::Disconnection, .. }) | None => return Ok(End::Lost),
                    Some(_) => {}
                },
            }
        }
    }

    /// Others' events of themselves are heard, as by Celery's workers, so that all clocks go alike.
    async fn hear(&self, connection: &mut Connection) -> Result<(), BrokerError> {
        let mut subscribe = redis::cmd("PSUBSCRIBE");
        subscribe.arg(self.keys.event_channel(connection.database, &self.exchange, "worker.*"));
        match connection.query::<()>(&subscribe).await {
            Err(error) if error.kind == Kind::Unavailable => Err(error),
            // Without the permission, clocks differ; nothing else does.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn heard(&self, data: Vec<Value>) {
        let Some(Value::BulkString(raw)) = data.into_iter().nth(2) else { return };
        if let Some((_, clock)) = event::read(&raw).filter(|(name, _)| *name != self.node.name) {
            self.node.adjust(clock);
        }
    }

    /// Tells that the node has come, lives or goes; nothing, if another one speaks for its name.
    async fn tell_alive(&self, connection: &mut Connection, kind: &str, line: &mut Line) -> Result<(), BrokerError> {
        if !self.node.speaks() {
            return Ok(());
        }
        let Figures { active, processed } = (self.figures)();
        let fields = Alive { freq: HEARTBEAT, active, processed, loadavg: load(), software: SOFTWARE };
        let (west, at) = self.now();
        let event = event::compose(&self.node, west, at, kind, &fields);
        self.publish(connection, &kind.replace('-', "."), &event, line).await
    }

    async fn publish_waiting(&self, connection: &mut Connection, line: &mut Line) -> Result<(), BrokerError> {
        if self.outlet.pulse() && self.node.speaks() {
            let (west, at) = self.now();
            let pulse = Pulse { freq: 5, software: SOFTWARE };
            let event = event::compose(&self.node, west, at, "worker-heartbeat", &pulse);
            self.publish(connection, "worker.heartbeat", &event, line).await?;
        }
        let dropped = self.outlet.dropped();
        if dropped > 0 {
            tracing::warn!("{dropped} events of tasks were dropped: they could not be sent to Redis in time");
        }
        loop {
            let batch = self.outlet.take();
            if batch.is_empty() {
                return Ok(());
            }
            let body = format!("[{}]", batch.join(","));
            if let Err(error) = self.publish(connection, "task.multi", &body, line).await {
                self.outlet.put_back(batch);
                return Err(error);
            }
        }
    }

    /// An error is a lost connection; a Redis that does not take events is told of once.
    async fn publish(
        &self,
        connection: &mut Connection,
        routing_key: &str,
        body: &str,
        line: &mut Line,
    ) -> Result<(), BrokerError> {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(self.keys.event_channel(connection.database, &self.exchange, routing_key));
        publish.arg(event::envelope(&self.node, &self.exchange, routing_key, body));
        line.last = Instant::now();
        match connection.query::<()>(&publish).await {
            Ok(()) => line.refused = false,
            Err(error) if error.kind == Kind::Unavailable => return Err(error),
            Err(error) => line.refuse(&error),
        }
        Ok(())
    }

    /// Hours behind UTC, and seconds since 1970.
    fn now(&self) -> (f64, f64) {
        let now = Timestamp::now();
        (event::hours_west(&self.zone, now), seconds(now))
    }
}

/// Why a connection is not used any more.
enum End {
    /// All is said.
    Closed,
    /// It is gone.
    Lost,
}

/// How publishing goes.
struct Line {
    /// Redis does not take events, and that was said.
    refused: bool,
    /// When something was sent last.
    last: Instant,
}

impl Line {
    fn refuse(&mut self, error: &BrokerError) {
        if !self.refused {
            tracing::warn!("events (Flower, celery events) are not sent: {error}");
        }
        self.refused = true;
    }
}

/// Seconds since 1970.
pub fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

/// Load averages as the kernel tells them; zeros where it doesn't.
fn load() -> [f64; 3] {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(|word| word.parse().unwrap_or_default());
    std::array::from_fn(|_| numbers.next().unwrap_or_default())
}
