//! The one exchange of a busy worker: what has ended goes in, what can start comes out.

use super::connection::unexpected;
use super::filing::granted;
use super::look::{behind, bytes, show};
use super::rung::Rung;
use super::script::{call, script};
use super::{BrokerError, Connection, Filing, Keys, Looked};
use crate::fairness::policy::Policy;
use redis::{FromRedisValue, Script, Value};
use std::rc::Rc;

/// A result for the result backend.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// Key, also the channel it is published on.
    pub key: Vec<u8>,
    /// Encoded result.
    pub value: Vec<u8>,
    /// Time to live in milliseconds; 0 = for ever.
    pub ttl_ms: i64,
}

/// What becomes of a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// It has ended: the message is forgotten.
    Ack,
    /// Back to the front of its list: it runs next.
    Front(Vec<u8>),
    /// To the front of its list, before what any tenant has there: for a stock worker, when nothing waits in lanes.
    List(Vec<u8>),
    /// It waits until its task, whose rate is limited, may be started again.
    Limit {
        /// The message.
        message: Vec<u8>,
        /// Name of the task.
        task: Rc<str>,
    },
    /// Back to the end of its list (`Reject(requeue=True)`).
    Back(Vec<u8>),
    /// To the delayed set.
    Delay {
        /// The message.
        message: Vec<u8>,
        /// When it is due, milliseconds since 1970.
        due: i64,
    },
    /// To the dead letters.
    Dead {
        /// The message.
        message: Vec<u8>,
        /// JSON: why.
        entry: String,
    },
    /// Nothing yet: only results are stored, the task still runs.
    Store,
}

/// One claim and what becomes of it. Results are stored first, and only if the claim is still held.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    /// Sequence number of the claim.
    pub sequence: u64,
    /// What becomes of it.
    pub action: Action,
    /// Whose task it is: name of the flow.
    pub flow: Rc<str>,
    /// Milliseconds it ran, which its tenant is charged; `None` where that is not known.
    pub ran: Option<f64>,
    /// Results to store.
    pub stores: Vec<Store>,
}

impl Settlement {
    /// A settlement without results.
    pub fn new(sequence: u64, flow: Rc<str>, ran: Option<f64>, action: Action) -> Settlement {
        Settlement { sequence, action, flow, ran, stores: Vec::new() }
    }
}

/// A message taken from its list.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Number under which it is held.
    pub sequence: u64,
    /// List it came from.
    pub list: Rc<str>,
    /// Whose task it is; `None` if it was claimed unseen.
    pub flow: Option<Rc<str>>,
    /// Its number among all claims of the fleet.
    pub number: u64,
    /// The message.
    pub raw: Vec<u8>,
    /// It has waited for the rate of its task, and this is a start of it.
    pub in_turn: bool,
    /// Its task was started and must not be started again ([`super::start`]).
    pub started: bool,
}

/// A step's request.
#[derive(Debug)]
pub struct Step<'a> {
    /// Whose claims these are.
    pub owner: &'a str,
    /// Number of the owner's connection, as in its last beat; none while a dead owner's claims are recovered.
    pub connection: Option<u64>,
    /// First free sequence number.
    pub sequence: u64,
    /// How many messages to claim at most.
    pub want: usize,
    /// For how many of these a slot is free; what is claimed beyond waits in the worker, and nobody else claims of its flow.
    pub slots: usize,
    /// Queue to begin with.
    pub cursor: u32,
    /// What has ended.
    pub settlements: &'a [Settlement],
    /// Number of the answer to whose a message is, by which it is known ([`super::answer`]).
    pub epoch: u64,
    /// What was looked at and is now known.
    pub filings: &'a [Filing],
    /// Lists of which messages were looked at that are not known yet, and how many: the look begins behind these.
    pub at_hand: &'a [(Rc<str>, usize)],
    /// How many messages to look at; with 0 the lists are left alone.
    pub look: usize,
    /// Messages are so large that a round trip more costs less than to have the script show them.
    pub large: bool,
    /// Where to look.
    pub rung: &'a Rung,
    /// Whether messages may be claimed unseen while no tenant waits; where somebody is limited they never are.
    pub unseen: bool,
    /// Milliseconds a task is expected to take whose tenant has run none.
    pub expected: f64,
    /// Flows of which the owner holds messages that have not started.
    pub holds: &'a [Rc<str>],
    /// Flows of which it held such messages, and holds none any more.
    pub releases: &'a [Rc<str>],
}

impl<'a> Step<'a> {
    /// A step on behalf of a dead owner: settles what it held, claims and promotes nothing.
    pub fn settling(owner: &'a str, settlements: &'a [Settlement]) -> Step<'a> {
        Step {
            owner,
            connection: None,
            sequence: 0,
            want: 0,
            slots: 0,
            cursor: 0,
            settlements,
            epoch: 0,
            filings: &[],
            at_hand: &[],
            look: 0,
            large: false,
            rung: &Rung::Everywhere,
            unseen: false,
            expected: 0.0,
            holds: &[],
            releases: &[],
        }
    }
}

/// A step's answer.
#[derive(Debug, PartialEq)]
pub struct StepReply {
    /// The server's clock, milliseconds since 1970.
    pub now: i64,
    /// When the earliest delayed message is due.
    pub next_due: Option<i64>,
    /// Queue to begin with next time.
    pub cursor: u32,
    /// Sequence numbers of settlements whose claims were no longer held; nothing was stored for these.
    pub lost: Vec<u64>,
    /// What was claimed, in order.
    pub claims: Vec<Claim>,
    /// How long each of these waited in lanes, milliseconds; 0 if it was claimed unseen.
    pub waits: Vec<f64>,
    /// What is new in the lists, still there.
    pub looked: Vec<Looked>,
    /// Lists of which so many messages may be looked at that the script didn't show.
    counted: Vec<(Rc<str>, i64)>,
    /// Milliseconds until a list can be looked at that another worker is busy with.
    pub turn: Option<u64>,
    /// Number of the latest revocation (see [`super::revoked`]); 0 if there is none.
    pub revoked: i64,
    /// Number of the answer in force to whose a message is, if the step has read it.
    pub epoch: Option<u64>,
    /// Messages in lanes, if all that was wanted was claimed and more could run; else 0.
    pub behind: usize,
    /// Lists of which something was not filed, because it was no longer at the front. What is shown of these begins at the
    /// front, not behind what is at hand.
    pub refused: Vec<String>,
}

impl StepReply {
    /// With what is behind the messages at hand, where the script says that the caller looks at that list.
    fn with(mut self, behind: Vec<Looked>) -> StepReply {
        for behind in behind {
            let looked = self.looked.iter_mut().find(|looked| looked.list == behind.list && looked.messages.is_empty());
            if let Some(looked) = looked {
                *looked = behind;
            }
        }
        self
    }

    /// Without lists of which nothing is shown.
    fn shown(mut self) -> StepReply {
        self.looked.retain(|looked| !looked.messages.is_empty());
        self
    }
}

/// The step script, made ready for one set of queues.
pub struct Stepper {
    script: Script,
    keys: Keys,
    results_db: i64,
    policy: Policy,
}

impl Stepper {
    /// `results_db` is the database number of the result backend on the broker's server.
    pub fn new(keys: Keys, results_db: i64, policy: Policy) -> Stepper {
        Stepper { script: script!("scripts/step.lua", "scripts/claim.lua"), keys, results_db, policy }
    }

    /// The same with the results in another database.
    pub fn set_results_db(&mut self, results_db: i64) {
        self.results_db = results_db;
    }

    /// Other grants from now on.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Makes one step; `None` means that the lease is lost and nothing was done.
    ///
    /// # Errors
    /// [`BrokerError`]; it is then unknown whether the step was made. Settlements may be sent again, claims
    /// have to be looked up ([`super::lease::Leases::held`]).
    pub async fn call(&self, connection: &mut Connection, step: &Step<'_>) -> Result<Option<StepReply>, BrokerError> {
        let look = i64::try_from(step.look).unwrap_or(i64::MAX);
        let mut invocation = call(&self.script, &self.keys, step.owner);
        for queue in &self.keys.queues {
            invocation.key(self.keys.list(queue));
        }
        invocation.arg(step.sequence).arg(step.want).arg(step.cursor);
        invocation.arg(connection.database).arg(self.results_db).arg(step.connection.unwrap_or(0));
        invocation
            .arg(if step.large { -look } else { look })
            .arg(u8::from(step.unseen && self.policy.allows_unseen()))
            .arg(step.expected);
        invocation.arg(self.policy.reserved_slots()).arg(step.slots);
        invocation.arg(step.settlements.len());
        for settlement in step.settlements {
            let (action, message, note): (&str, &[u8], String) = match &settlement.action {
                Action::Ack => ("ack", b"", String::new()),
                Action::Front(message) => ("front", message, String::new()),
                Action::List(message) => ("list", message, String::new()),
                Action::Back(message) => ("back", message, String::new()),
                Action::Limit { message, task } => ("limit", message, task.to_string()),
                Action::Delay { message, due } => ("delay", message, due.to_string()),
                Action::Dead { message, entry } => ("dead", message, entry.clone()),
                Action::Store => ("store", b"", String::new()),
            };
            invocation.arg(settlement.sequence).arg(action).arg(&*settlement.flow).arg(settlement.ran.unwrap_or(-1.0));
            invocation.arg(granted(&self.policy, &settlement.flow));
            invocation.arg(message).arg(note).arg(settlement.stores.len());
            for store in &settlement.stores {
                invocation.arg(&store.key[..]).arg(&store.value[..]).arg(store.ttl_ms);
            }
        }
        invocation.arg(step.epoch).arg(step.filings.len());
        for filing in step.filings {
            filing.write(&self.policy, &mut invocation);
        }
        invocation.arg(step.at_hand.len());
        for (list, _) in step.at_hand {
            invocation.arg(&**list);
        }
        for flows in [step.holds, step.releases] {
            invocation.arg(flows.len());
            for flow in flows {
                invocation.arg(&**flow);
            }
        }
        invocation.arg(step.rung.written(&self.keys));
        let (mut redis, mut other) = (connection.redis.clone(), connection.clone());
        let script = connection.sorted(invocation.invoke_async(&mut redis));
        // Sent in this order, and answered in it.
        let (reply, shown) = tokio::join!(script, behind(&mut other, step));
        let (reply, shown): (Vec<Value>, _) = (reply?, shown?);
        if reply.is_empty() {
            return Ok(None);
        }
        let mut reply = decode(reply, step.sequence).ok_or_else(|| unexpected(&connection.address, "step"))?;
        let fronts: Vec<_> = reply.counted.drain(..).map(|(list, count)| (list, -count, -1)).collect();
        let reply = reply.with(shown).with(show(&mut other, fronts).await?);
        Ok(Some(reply.shown()))
    }
}

fn decode(reply: Vec<Value>, first: u64) -> Option<StepReply> {
    let [now, next_due, cursor, lost, claimed, looked, turn, epoch, revoked, behind, refused]: [Value; 11] =
        reply.try_into().ok()?;
    let behind = i64::from_redis_value(behind).ok()?;
    let [next_due, turn, epoch] =
        [i64::from_redis_value(next_due), i64::from_redis_value(turn), i64::from_redis_value(epoch)];
    let (next_due, turn, epoch) = (next_due.ok()?, turn.ok()?, epoch.ok()?);
    let claimed: Vec<Value> = Vec::from_redis_value(claimed).ok()?;
    let mut claims = Vec::with_capacity(claimed.len() / 5);
    let mut waits = Vec::with_capacity(claimed.len() / 5);
    let mut parts = claimed.into_iter();
    let mut sequence = first;
    while let (Some(list), Some(flow), Some(number), Some(waited), Some(raw)) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    {
        let (list, flow) = (String::from_redis_value(list).ok()?, String::from_redis_value(flow).ok()?);
        let (number, waited) = (u64::from_redis_value(number).ok()?, f64::from_redis_value(waited).ok()?);
        let (flow, raw) = (flow_of(flow), bytes(raw)?);
        let (list, in_turn) = list.split_once('\u{1f}').map_or((&*list, false), |(list, _)| (list, true));
        claims.push(Claim { sequence, list: list.into(), flow, number, raw, in_turn, started: false });
        waits.push(waited);
        sequence += 1;
    }
    let looked: Vec<Vec<Value>> = Vec::from_redis_value(looked).ok()?;
    let mut counted = Vec::new();
    let looked = looked.into_iter().map(|seen| {
        let mut seen = seen.into_iter().peekable();
        let list: Rc<str> = String::from_redis_value(seen.next()?).ok()?.into();
        if let Some(&Value::Int(count)) = seen.peek() {
            counted.push((Rc::clone(&list), count));
            return Some(Looked { list, messages: Vec::new() });
        }
        Some(Looked { list, messages: seen.map(bytes).collect::<Option<_>>()? })
    });
    let looked = looked.collect::<Option<_>>()?;
    Some(StepReply {
        now: i64::from_redis_value(now).ok()?,
        next_due: (next_due >= 0).then_some(next_due),
        cursor: u32::from_redis_value(cursor).ok()?,
        lost: Vec::from_redis_value(lost).ok()?,
        claims,
        waits,
        looked,
        counted,
        turn: u64::try_from(turn).ok(),
        revoked: i64::from_redis_value(revoked).ok()?,
        epoch: u64::try_from(epoch).ok(),
        behind: usize::try_from(behind).unwrap_or(0),
        refused: Vec::from_redis_value(refused).ok()?,
    })
}

/// Flow of a claim; empty where the message was claimed unseen.
pub(super) fn flow_of(flow: String) -> Option<Rc<str>> {
    (!flow.is_empty()).then(|| flow.into())
}
