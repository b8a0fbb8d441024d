//! What every test needs: a server, keys, owners that claim and settle.

use crate::census::Census;
use crate::server::Server;
use fairstalk::broker::lease::{Beat, Leases, Others, Pulse};
use fairstalk::broker::step::Stepper;
use fairstalk::broker::{
    Action, BrokerError, Claim, Connection, Filing, Keys, LaneKind, Looked, Room, Rung, Settlement, Step, StepReply,
    Store, start,
};
use fairstalk::config::{Broker, Delivery, Mode, Queues, Tenancy};
use fairstalk::fairness::policy::Policy;
use redis::FromRedisValue;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// Database of the broker; not 0, so that a forgotten `SELECT` shows.
const DATABASE: i64 = 2;
/// Database of the results.
pub const RESULTS: i64 = 5;

/// A server and the names in it.
pub struct Stage {
    _server: Server,
    pub broker: Broker,
    pub results: Broker,
    pub keys: Keys,
    /// For looking and meddling; a connection of its own.
    pub admin: Connection,
}

impl Stage {
    /// A server with queues of these names and no key prefix.
    pub async fn new(queues: &[&str]) -> Stage {
        Stage::with_prefix("", queues).await
    }

    /// The same with kombu's `global_keyprefix`.
    pub async fn with_prefix(prefix: &str, queues: &[&str]) -> Stage {
        let server = Server::start();
        let broker = |database| Broker {
            url: server.url(database),
            tls: None,
            sentinel: None,
            key_prefix: prefix.into(),
            timeout: Duration::from_secs(10),
            visibility_timeout: Duration::from_secs(3600),
        };
        let (broker, results) = (broker(DATABASE), broker(RESULTS));
        let names: Vec<String> = queues.iter().map(|&name| name.to_owned()).collect();
        let queues = Queues { default: names[0].clone(), names, prefix: None };
        let keys = Keys::new(&broker, &queues);
        let admin = Connection::open(&broker).await.unwrap();
        Stage { _server: server, broker, results, keys, admin }
    }

    /// Another connection.
    pub async fn connect(&self) -> Connection {
        Connection::open(&self.broker).await.unwrap()
    }

    /// An owner that has taken out its lease.
    pub async fn owner(&self, name: &str) -> Owner {
        let mut owner = self.stranger(name).await;
        assert!(owner.beat(true).await.is_some());
        owner
    }

    /// An owner without a lease.
    pub async fn stranger(&self, name: &str) -> Owner {
        Owner {
            name: name.into(),
            keys: self.keys.clone(),
            connection: self.connect().await,
            stepper: Stepper::new(self.keys.clone(), RESULTS, Policy::default()),
            leases: Leases::new(self.keys.clone()),
            sequence: 1,
            number: 1,
            cursor: 0,
            unseen: true,
            large: false,
            expected: 10.0,
            epoch: 0,
            slots: None,
            holds: Vec::new(),
            releases: Vec::new(),
            task: |_| None,
            at_hand: Vec::new(),
            rung: Rung::Everywhere,
            delivery: delivery(10_000, Duration::from_secs(86_400)),
        }
    }

    /// Runs any command.
    pub async fn ask<T: FromRedisValue>(&mut self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(word);
        }
        self.admin.query(&command).await.unwrap()
    }

    /// Pushes messages as a producer does, in order.
    pub async fn push<M: AsRef<[u8]>>(&mut self, queue: &str, messages: &[M]) {
        self.push_to(&self.keys.list(queue), messages).await;
    }

    /// The same to a list of any priority.
    pub async fn push_to<M: AsRef<[u8]>>(&mut self, list: &str, messages: &[M]) {
        let mut command = redis::cmd("LPUSH");
        command.arg(list);
        for message in messages {
            command.arg(message.as_ref());
        }
        self.admin.query::<()>(&command).await.unwrap();
    }

    /// Everything that is in Redis now.
    pub async fn census(&mut self) -> Census {
        Census::take(&mut self.admin, &self.keys).await
    }

    /// Only the lists, each from its front: for where claims are not all fairstalk's.
    pub async fn census_of_lists(&mut self) -> std::collections::BTreeMap<String, Vec<Vec<u8>>> {
        self.census().await.lists
    }

    /// The server's clock in milliseconds.
    pub async fn now(&mut self) -> i64 {
        let (seconds, micros): (i64, i64) = self.ask(&["TIME"]).await;
        seconds * 1000 + micros / 1000
    }

    /// One call of the script behind [`Owner::leave`], with so many messages at most, as if the owner were killed
    /// after it; what is left to do.
    pub async fn leave_once(&mut self, owner: &str, budget: usize) -> i64 {
        let script = concat!(
            include_str!("../../src/broker/scripts/tenants.lua"),
            include_str!("../../src/broker/scripts/lanes.lua"),
            include_str!("../../src/broker/scripts/pour.lua"),
            include_str!("../../src/broker/scripts/leave.lua")
        );
        let keys = &self.keys;
        let mut call = redis::cmd("EVAL");
        call.arg(script).arg(14).arg(keys.unacked()).arg(keys.unacked_index()).arg(keys.owners()).arg(keys.figures());
        call.arg(keys.delayed()).arg(keys.delayed_messages());
        call.arg(keys.dead()).arg(keys.dead_messages()).arg(keys.dead_entries());
        call.arg(keys.tenants()).arg(keys.ready()).arg(keys.key("fairstalk:intake")).arg(keys.ring());
        call.arg(keys.claims(owner)).arg(keys.prefix()).arg(owner).arg(budget);
        self.admin.query::<(i64, i64, redis::Value)>(&call).await.unwrap().0
    }

    /// Lets the lease of an owner have run out.
    pub async fn expire(&mut self, owner: &str) {
        let owners = self.keys.owners();
        let _: i64 = self.ask(&["ZADD", &owners, "1000", owner]).await;
    }
}

/// One worker, as the broker sees it.
pub struct Owner {
    pub name: String,
    keys: Keys,
    pub connection: Connection,
    stepper: Stepper,
    leases: Leases,
    sequence: u64,
    /// Number of its connection, counted by itself.
    pub number: u64,
    pub cursor: u32,
    pub delivery: Delivery,
    /// It claims unseen while no tenant waits.
    pub unseen: bool,
    /// It looks beside the script.
    pub large: bool,
    /// What a task is expected to take whose tenant has run none, ms.
    pub expected: f64,
    /// Number of the answer by which it says whose a message is.
    pub epoch: u64,
    /// How many of its slots are free, if it claims more than these.
    pub slots: Option<usize>,
    /// Flows of which it says that it holds something that has not started; and holds nothing any more.
    pub holds: Vec<Rc<str>>,
    pub releases: Vec<Rc<str>>,
    /// Of which task a message is, if its rate is limited.
    pub task: fn(&[u8]) -> Option<&'static str>,
    /// Of which lists it has so many messages that are not filed yet.
    pub at_hand: Vec<(Rc<str>, usize)>,
    pub rung: Rung,
}

impl Owner {
    /// From now on it grants these tenants a weight and so many tasks at once (0: any number).
    pub fn grant(&mut self, grants: &[(&str, f64, u32)]) {
        let grants = grants.iter().map(|(tenant, weight, most)| ((*tenant).to_owned(), *weight, *most));
        let mut tenancy = Tenancy::default();
        for (tenant, weight, most) in grants {
            tenancy.weights.insert(tenant.clone(), weight);
            if most > 0 {
                tenancy.max_concurrency.insert(tenant, most);
            }
        }
        self.set_tenancy(&tenancy);
    }

    /// Other grants from now on.
    pub fn set_tenancy(&mut self, tenancy: &Tenancy) {
        self.stepper.set_policy(Policy::new(tenancy));
    }

    /// A step whatever comes of it.
    pub async fn try_step(
        &mut self,
        want: usize,
        settlements: &[Settlement],
    ) -> Result<Option<StepReply>, BrokerError> {
        let mut reply = self.one_step(want, settlements, &[]).await?;
        // As the worker does: what it has seen is filed at once, and claimed if slots are left.
        while let Some(first) = &mut reply
            && !first.looked.is_empty()
        {
            let filings: Vec<Filing> = first.looked.drain(..).filter_map(|looked| self.filing(looked)).collect();
            let left = want - first.claims.len();
            let Some(next) = self.one_step(left, &[], &filings).await? else { return Ok(None) };
            let earlier = std::mem::replace(first, next);
            first.claims.splice(0..0, earlier.claims);
            first.lost = earlier.lost;
        }
        Ok(reply)
    }

    /// One call of the script.
    pub async fn one_step(
        &mut self,
        want: usize,
        settlements: &[Settlement],
        filings: &[Filing],
    ) -> Result<Option<StepReply>, BrokerError> {
        let step = Step {
            owner: &self.name,
            connection: Some(self.number),
            sequence: self.sequence,
            want,
            slots: self.slots.map_or(want, |slots| slots.min(want)),
            cursor: self.cursor,
            settlements,
            epoch: self.epoch,
            filings,
            at_hand: &self.at_hand,
            look: 200,
            large: self.large,
            rung: &self.rung,
            unseen: self.unseen,
            expected: self.expected,
            holds: &self.holds,
            releases: &self.releases,
        };
        let reply = self.stepper.call(&self.connection, &step).await?;
        if let Some(reply) = &reply {
            self.sequence += reply.claims.len() as u64;
            self.cursor = reply.cursor;
        }
        Ok(reply)
    }

    /// Whose the messages are that were seen: what stands before the hyphen in `{"id": "name-0"}`, or their queue.
    pub fn filing(&self, looked: Looked) -> Option<Filing> {
        let kind = |list: &str, message: Vec<u8>| LaneKind {
            flow: flow_of(list, &message),
            limited: (self.task)(&message).map(Into::into),
        };
        Filing::new(looked, &mut Room::default(), kind).0
    }

    /// A step of an owner that has its lease.
    pub async fn step(&mut self, want: usize, settlements: &[Settlement]) -> StepReply {
        self.try_step(want, settlements).await.unwrap().unwrap()
    }

    /// Claims only.
    pub async fn claim(&mut self, want: usize) -> Vec<Claim> {
        self.step(want, &[]).await.claims
    }

    /// Moves all that is in the lists into lanes, and claims nothing.
    pub async fn file(&mut self) {
        self.claim(0).await;
    }

    /// Settles only; the claims that were not held.
    pub async fn settle(&mut self, settlements: &[Settlement]) -> Vec<u64> {
        self.step(0, settlements).await.lost
    }

    /// Leaves out numbers that may be in use: up to this one.
    pub fn skip(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(sequence + 1);
    }

    /// A sign of life.
    pub async fn beat(&mut self, first: bool) -> Option<Pulse> {
        self.beats("{}", first).await
    }

    /// A sign of life with these figures, JSON.
    pub async fn beat_with(&mut self, figures: &str) {
        assert!(self.beats(figures, false).await.is_some());
    }

    async fn beats(&mut self, figures: &str, first: bool) -> Option<Pulse> {
        let beat = Beat { owner: &self.name, figures, slots: 4, first, connection: self.number };
        self.leases.beat(&mut self.connection, &beat, &self.delivery).await.unwrap()
    }

    /// Notes that these claims are about to start for good; those that may, or nothing if the lease is lost.
    pub async fn start(&mut self, claims: &[Claim]) -> Option<Vec<u64>> {
        let claims: Vec<(u64, &[u8])> = claims.iter().map(|claim| (claim.sequence, &claim.raw[..])).collect();
        start::note(&mut self.connection, &self.keys, &self.name, self.number, &claims).await.unwrap()
    }

    /// What a dead owner held, some of it.
    pub async fn seize(&mut self, owner: &str) -> Vec<Claim> {
        self.leases.seize(&mut self.connection, owner).await.unwrap()
    }

    /// Puts back what was seized, as the worker does: the latest first, each in front of the one before.
    pub async fn give_back(&mut self, owner: &str, seized: Vec<Claim>) -> Vec<u64> {
        let settlements: Vec<Settlement> = seized.into_iter().rev().map(front).collect();
        self.settle_for(owner, &settlements).await.lost
    }

    /// Settles what a dead owner held.
    pub async fn settle_for(&mut self, owner: &str, settlements: &[Settlement]) -> StepReply {
        let step = Step::settling(owner, settlements);
        self.stepper.call(&self.connection, &step).await.unwrap().unwrap()
    }

    /// What it holds, by its own asking.
    pub async fn held(&mut self) -> Vec<Claim> {
        self.leases.held(&mut self.connection, &self.name).await.unwrap()
    }

    /// Says goodbye for another one, which is dead and of which nothing is left.
    pub async fn leave_for(&mut self, owner: &str) -> Others {
        self.leases.leave(&mut self.connection, owner).await.unwrap()
    }

    /// Says goodbye.
    pub async fn leave(&mut self) -> Others {
        self.leases.leave(&mut self.connection, &self.name).await.unwrap()
    }
}

/// Limits of the dead letters; the rest of `[delivery]` is the worker's business.
pub fn delivery(dead_letters_max: u64, dead_letters_age: Duration) -> Delivery {
    let (accept, max_deliveries, max_message_size) = (Vec::new(), 3, u64::MAX);
    let (mode, keep_failed, tasks) = (Mode::AtLeastOnce, false, BTreeMap::new());
    Delivery { accept, max_deliveries, dead_letters_max, dead_letters_age, max_message_size, mode, keep_failed, tasks }
}

/// Messages `{"id": "<name>-0"}`…
pub fn messages(name: &str, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| format!(r#"{{"id": "{name}-{number}"}}"#).into_bytes()).collect()
}

/// A settlement without results.
pub fn settled(claim: &Claim, action: Action) -> Settlement {
    let flow = claim.flow.clone().unwrap_or_else(|| flow_of(&claim.list, &claim.raw));
    Settlement::new(claim.sequence, flow, Some(10.0), action)
}

/// Whose a message is.
pub fn flow_of(list: &str, message: &[u8]) -> Rc<str> {
    let text = String::from_utf8_lossy(message);
    let name = text.strip_prefix(r#"{"id": ""#).and_then(|rest| rest.split_once('-'));
    name.map_or_else(|| format!("q:{list}"), |(name, _)| format!("t:{name}")).into()
}

/// It has ended.
pub fn ack(claim: &Claim) -> Settlement {
    settled(claim, Action::Ack)
}

/// It has ended after so many milliseconds.
pub fn ran(claim: &Claim, milliseconds: f64) -> Settlement {
    Settlement { ran: Some(milliseconds), ..ack(claim) }
}

/// Back to the front, as it came.
pub fn front(claim: Claim) -> Settlement {
    settled(&claim, Action::Front(claim.raw.clone()))
}

/// It has ended, with results.
pub fn stored(claim: &Claim, action: Action, stores: &[Store]) -> Settlement {
    Settlement { stores: stores.to_vec(), ..settled(claim, action) }
}

/// A result as Celery writes it.
pub fn result(task: &str, status: &str) -> Store {
    let value = format!(r#"{{"status": "{status}", "result": null, "task_id": "{task}"}}"#).into_bytes();
    Store { key: format!("celery-task-meta-{task}").into_bytes(), value, ttl_ms: 60_000 }
}

/// Whose the claims are, in order; for tenants of one letter: `"abc"`.
pub fn whose(claims: &[Claim]) -> String {
    claims.iter().map(|claim| flow_of(&claim.list, &claim.raw).trim_start_matches("t:").to_owned()).collect()
}

/// The messages of claims, in order.
pub fn raws(claims: &[Claim]) -> Vec<Vec<u8>> {
    claims.iter().map(|claim| claim.raw.clone()).collect()
}
