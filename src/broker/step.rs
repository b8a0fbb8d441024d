//! The one exchange of a busy worker: what has ended goes in, what can start comes out.

use super::connection::unexpected;
use super::filing::granted;
use super::look::{Front, show};
use super::reply::{StepReply, decode};
use super::rung::Rung;
use super::script::{call, script};
use super::{BrokerError, Connection, Filing, Keys};
use crate::fairness::policy::Policy;
use redis::{Script, ScriptInvocation, Value};
use std::future::Future;
use std::rc::Rc;
use std::sync::LazyLock;

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

impl Action {
    /// The message comes before others of its tenant that are not claimed yet.
    pub fn is_back(&self) -> bool {
        matches!(self, Action::Front(_) | Action::Limit { .. })
    }
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

static SCRIPT: LazyLock<Script> = LazyLock::new(|| script!("scripts/step.lua", "scripts/claim.lua"));

/// The step script, made ready for one set of queues.
pub struct Stepper {
    keys: Keys,
    results_db: i64,
    policy: Policy,
}

impl Stepper {
    /// `results_db` is the database number of the result backend on the broker's server.
    pub fn new(keys: Keys, results_db: i64, policy: Policy) -> Stepper {
        Stepper { keys, results_db, policy }
    }

    /// The same with the results in another database.
    pub fn set_results_db(&mut self, results_db: i64) {
        self.results_db = results_db;
    }

    /// Whether messages may be claimed before it is known whose they are.
    pub fn allows_unseen(&self) -> bool {
        self.policy.allows_unseen()
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
    pub async fn call(&self, connection: &Connection, step: &Step<'_>) -> Result<Option<StepReply>, BrokerError> {
        self.send(connection, step).await
    }

    /// The same as a future that needs nothing of its arguments any more: other things can be done meanwhile. The step is
    /// sent when the future is first polled and others of this thread get their turn.
    ///
    /// # Errors
    /// As [`Stepper::call`].
    pub fn send(
        &self,
        connection: &Connection,
        step: &Step<'_>,
    ) -> impl Future<Output = Result<Option<StepReply>, BrokerError>> + use<> {
        let invocation = self.invocation(connection, step);
        let behind = behind(step);
        let (connection, first) = (connection.clone(), step.sequence);
        async move {
            let (mut redis, mut same) = (connection.redis.clone(), connection.clone());
            let script = connection.sorted(invocation.invoke_async(&mut redis));
            // Sent in this order, and answered in it.
            let (reply, shown) = tokio::join!(script, show(&mut same, behind));
            let (reply, mut shown): (Vec<Value>, _) = (reply?, shown?);
            if reply.is_empty() {
                return Ok(None);
            }
            let mut reply = decode(reply, first).ok_or_else(|| unexpected(&connection.address, "step"))?;
            shown.extend(show(&mut same, std::mem::take(&mut reply.counted)).await?);
            Ok(Some(reply.with(shown)))
        }
    }

    fn invocation(&self, connection: &Connection, step: &Step<'_>) -> ScriptInvocation<'static> {
        let look = i64::try_from(step.look).unwrap_or(i64::MAX);
        let mut invocation = call(&SCRIPT, &self.keys, step.owner);
        for queue in &self.keys.queues {
            invocation.key(self.keys.list(queue));
        }
        invocation.arg(step.sequence).arg(step.want).arg(step.cursor);
        invocation.arg(connection.database).arg(self.results_db).arg(step.connection.unwrap_or(0));
        invocation.arg(if step.large { -look } else { look });
        invocation.arg(u8::from(step.unseen && self.allows_unseen())).arg(step.expected);
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
        invocation
    }
}

/// What is behind the messages at hand of each list. Once the script has filed what is before them they are at the front; if
/// it could not, or the turn is another's, this is dropped ([`StepReply::with`]).
fn behind(step: &Step<'_>) -> Vec<Front> {
    let lists = if step.look == 0 { &[] } else { step.at_hand };
    let share = (step.look / lists.len().max(1)).max(1);
    lists.iter().map(|(list, at_hand)| Front { list: Rc::clone(list), skip: *at_hand, count: share }).collect()
}
