//! The way of a command to a worker and of its reply back: kombu's pidbox over Redis.
//!
//! One connection of its own per worker, so that nothing that is asked waits for a step, or a step for it. It is
//! subscribed to the channel of the fanout exchange `celery.pidbox`; a reply is pushed to the queue that the one who
//! asks has bound. A command sent while the connection is away is missed, as by a stock worker; ids that were
//! revoked meanwhile are not, since they are in Redis ([`crate::broker::revoked`]).

use super::request::{self, Arguments, ReplyTo};
use super::{Node, Request, Revocation, Stamping};
use crate::broker::{BrokerError, Connection, Keys, Kind, revoked};
use crate::config::Broker;
use redis::{PushInfo, PushKind, Value as RedisValue};
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

/// First wait before a lost connection is tried again; doubles.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// Longest such wait.
const RETRY_MAX: Duration = Duration::from_millis(1500);

/// How often a quiet connection is tried: one that nobody closed, but that carries nothing any more, is never noticed
/// otherwise.
const TRY_EVERY: Duration = Duration::from_secs(60);

/// A reply nobody fetches goes by itself.
const REPLY_KEPT: Duration = Duration::from_secs(60);

/// What the mailbox tells the worker.
pub enum Heard {
    /// From here on it hears; or it may not, and never will.
    Listening,
    /// A command for this worker.
    Call(Call),
}

/// A command that awaits its answer.
pub struct Call {
    /// Its name.
    pub method: String,
    /// Its arguments.
    pub arguments: Arguments,
    /// It was not sent to chosen nodes, but to all.
    pub everyone: bool,
    /// Lamport clock when it was heard.
    pub clock: u64,
    /// To ask Redis for what the worker doesn't know itself.
    pub connection: Connection,
    /// For the answer; an error is the `repr()` of an exception.
    pub answer: oneshot::Sender<Result<Value, String>>,
}

/// The way of an answer from the worker's loop.
type Answered = oneshot::Receiver<Result<Value, String>>;

/// Listens for ever, and connects again whenever the connection is lost. What is heard is done whether the node speaks
/// for its name or not; it is answered only if it does.
pub async fn serve(broker: Broker, keys: Keys, node: Rc<Node>, tell: impl Fn(Heard)) {
    let mut mailbox = Mailbox { broker, replies: Replies { keys, node }, tell };
    let mut wait = RETRY_MIN;
    let mut refused = false;
    loop {
        match mailbox.open().await {
            Ok((connection, pushes)) => {
                wait = RETRY_MIN;
                (mailbox.tell)(Heard::Listening);
                mailbox.listen(connection, pushes).await;
            }
            // An outage is told by the worker's own exchange.
            Err(error) if error.kind == Kind::Unavailable => {}
            Err(error) => {
                if !refused {
                    tracing::warn!("remote control (celery inspect, revoke of running tasks) does not work: {error}");
                    (mailbox.tell)(Heard::Listening);
                }
                refused = true;
                wait = TRY_EVERY;
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX.max(wait));
    }
}

/// Sends a command to all workers, of Celery too; returns how many connections it reached.
///
/// # Errors
/// [`BrokerError`].
pub async fn broadcast(
    connection: &mut Connection,
    keys: &Keys,
    method: &str,
    arguments: &Arguments,
) -> Result<u64, BrokerError> {
    let mut publish = redis::cmd("PUBLISH");
    publish.arg(keys.control_channel(connection.database)).arg(request::broadcast(method, arguments));
    connection.query(&publish).await
}

struct Mailbox<T> {
    broker: Broker,
    replies: Replies,
    tell: T,
}

/// What it takes to reply. A reply waits for its answer beside the others: one the application thinks long about
/// keeps none from being given.
#[derive(Clone)]
struct Replies {
    keys: Keys,
    node: Rc<Node>,
}

impl<T: Fn(Heard)> Mailbox<T> {
    async fn open(&self) -> Result<(Connection, UnboundedReceiver<PushInfo>), BrokerError> {
        let (mut connection, pushes) = Connection::listen(&self.broker).await?;
        let mut subscribe = redis::cmd("SUBSCRIBE");
        subscribe.arg(self.replies.keys.control_channel(connection.database));
        connection.query::<()>(&subscribe).await?;
        Ok((connection, pushes))
    }

    /// Until the connection is lost.
    async fn listen(&mut self, mut connection: Connection, mut pushes: UnboundedReceiver<PushInfo>) {
        loop {
            let handled = match tokio::time::timeout(TRY_EVERY, pushes.recv()).await {
                Err(_) => connection.query::<()>(&redis::cmd("PING")).await,
                Ok(Some(PushInfo { kind: PushKind::Message, data })) => match data.into_iter().nth(1) {
                    Some(RedisValue::BulkString(raw)) => self.handle(&mut connection, &raw).await,
                    _ => Ok(()),
                },
                Ok(Some(PushInfo { kind: PushKind::Disconnection, .. }) | None) => return,
                Ok(Some(_)) => Ok(()),
            };
            match handled {
                Ok(()) => {}
                Err(error) if error.kind == Kind::Unavailable => return,
                Err(error) => tracing::warn!("a command of Celery's remote control fails: {error}"),
            }
        }
    }

    async fn handle(&mut self, connection: &mut Connection, raw: &[u8]) -> Result<(), BrokerError> {
        let Some(request) = Request::parse(raw) else {
            tracing::debug!("something else than a command was published to workers");
            return Ok(());
        };
        let replies = &self.replies;
        replies.node.adjust(request.clock);
        if !request.is_for(&replies.node.name) {
            return Ok(());
        }
        tracing::debug!(method = request.method, "remote control");
        // Kept before anything else: a worker that dies while it ends the task must not leave it to run again.
        let taken_back = match Revocation::of(&request.method, &request.arguments) {
            Some(Ok(revocation)) => revocation.ids,
            _ => match Stamping::of(&request.method, &request.arguments) {
                Some(Ok(stamping)) => stamping.marks(),
                _ => Vec::new(),
            },
        };
        revoked::revoke(connection, &replies.keys, &taken_back).await?;
        let (answer, answered) = oneshot::channel();
        let (method, arguments) = (request.method.clone(), request.arguments.clone());
        let (clock, everyone) = (replies.node.clock(), request.is_for_everyone());
        let call = Call { method, arguments, everyone, clock, connection: connection.clone(), answer };
        (self.tell)(Heard::Call(call));
        tokio::task::spawn_local(replies.clone().reply(connection.clone(), request, answered));
        Ok(())
    }
}

impl Replies {
    /// Waits for the answer of the worker, and sends it.
    async fn reply(self, mut connection: Connection, request: Request, answered: Answered) {
        let Ok(answer) = answered.await else { return };
        let value = answer.unwrap_or_else(|error| json!({"error": error}));
        let Some((to, reply)) = request.reply(&self.node.name, &value, self.node.tick(), seconds_since_1970()) else {
            return;
        };
        if !self.node.speaks() {
            return;
        }
        match self.push(&mut connection, to, &reply).await {
            Ok(()) => {}
            // Whoever listens on this connection has the same trouble, and opens another.
            Err(error) if error.kind == Kind::Unavailable => {}
            Err(error) => tracing::warn!("a reply to Celery's remote control fails: {error}"),
        }
    }

    /// Delivers a reply as a direct exchange does; where nothing is bound, nobody waits.
    async fn push(&self, connection: &mut Connection, to: &ReplyTo, reply: &str) -> Result<(), BrokerError> {
        let bound: Vec<Vec<u8>> =
            connection.query(redis::cmd("SMEMBERS").arg(self.keys.bindings(&to.exchange))).await?;
        let mut pipeline = redis::pipe();
        for member in &bound {
            let member = String::from_utf8_lossy(member);
            let mut parts = member.split("\u{6}\u{16}");
            if let (Some(key), Some(_pattern), Some(queue)) = (parts.next(), parts.next(), parts.next())
                && key == to.routing_key
            {
                let list = self.keys.list(queue);
                pipeline.cmd("LPUSH").arg(&list).arg(reply).ignore();
                pipeline.cmd("EXPIRE").arg(&list).arg(REPLY_KEPT.as_secs()).ignore();
            }
        }
        if pipeline.is_empty() { Ok(()) } else { connection.pipeline(&pipeline).await }
    }
}

fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
