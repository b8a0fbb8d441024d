//! Names of everything in Redis. Kombu's own keys keep kombu's names; all others begin with `fairstalk:`.

use crate::config::{Broker, Queues};
use md5::{Digest, Md5};

/// Suffixes of the lists of the four priority steps, the most urgent first (`kombu/transport/redis.py`, `_q_for_pri`).
pub const PRIORITY_SUFFIXES: [&str; 4] = ["", "\u{6}\u{16}3", "\u{6}\u{16}6", "\u{6}\u{16}9"];

/// Name of the fleet that consumes just these queues. Lanes belong to a fleet: a worker must not claim what it does not
/// consume, and several applications may share one Redis.
pub fn fleet(queues: &Queues) -> String {
    let mut names: Vec<&str> = queues.names.iter().map(String::as_str).collect();
    names.sort_unstable();
    Md5::digest(names.join("\0")).iter().take(3).map(|byte| format!("{byte:02x}")).collect()
}

/// Fleet of an owner, whose name is `host:pid:random.fleet:worker.incarnation`.
fn fleet_of(owner: &str) -> Option<&str> {
    owner.rsplit(':').nth(1)?.split_once('.').map(|(_, fleet)| fleet)
}

/// All keys, with the application's `global_keyprefix` in front.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
    fleet: String,
    /// Queue names, without prefix.
    pub queues: Vec<String>,
}

impl Keys {
    /// Keys of these queues.
    pub fn new(broker: &Broker, queues: &Queues) -> Keys {
        Keys { prefix: broker.key_prefix.clone(), fleet: fleet(queues), queues: queues.names.clone() }
    }

    /// Whether an owner belongs to another fleet.
    pub fn is_foreign(&self, owner: &str) -> bool {
        fleet_of(owner).is_some_and(|fleet| fleet != self.fleet)
    }

    /// What stands in front of every key.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Any key.
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Kombu: claim → message.
    pub fn unacked(&self) -> String {
        self.key("unacked")
    }

    /// Kombu: claim → time of delivery.
    pub fn unacked_index(&self) -> String {
        self.key("unacked_index")
    }

    /// What an owner holds: sequence number → line, flow, charge and number of the claim.
    pub fn claims(&self, owner: &str) -> String {
        self.key(&format!("fairstalk:claims:{owner}"))
    }

    /// Owners and the ends of their leases.
    pub fn owners(&self) -> String {
        self.key("fairstalk:owners")
    }

    /// Owners and their figures, JSON.
    pub fn figures(&self) -> String {
        self.key("fairstalk:owners:figures")
    }

    /// Messages that wait for their time.
    pub fn delayed(&self) -> String {
        self.key("fairstalk:delayed")
    }

    /// Their contents.
    pub fn delayed_messages(&self) -> String {
        self.key("fairstalk:delayed:messages")
    }

    /// Dead letters by time.
    pub fn dead(&self) -> String {
        self.key("fairstalk:dead")
    }

    /// Their messages, as they came.
    pub fn dead_messages(&self) -> String {
        self.key("fairstalk:dead:messages")
    }

    /// Why they are there, JSON.
    pub fn dead_entries(&self) -> String {
        self.key("fairstalk:dead:entries")
    }

    /// A key that the workers of one fleet share.
    pub fn of_fleet(&self, name: &str) -> String {
        self.key(&format!("fairstalk:{}:{name}", self.fleet))
    }

    /// Tenants that wait or run, MessagePack.
    pub fn tenants(&self) -> String {
        self.of_fleet("tenants")
    }

    /// Tenants that wait and may run, by virtual time.
    pub fn ready(&self) -> String {
        self.of_fleet("ready")
    }

    /// Ids of tasks that must not run any more, by the number of their revocation.
    pub fn revoked(&self) -> String {
        self.key("fairstalk:revoked")
    }

    /// Channel of Celery's remote control: that of kombu's fanout exchange `celery.pidbox`.
    pub fn control_channel(&self, database: i64) -> String {
        self.key(&format!("/{database}.celery.pidbox"))
    }

    /// Channel of Celery's events with this routing key, or a pattern of channels: that of kombu's fanout exchange.
    pub fn event_channel(&self, database: i64, exchange: &str, routing_key: &str) -> String {
        self.key(&format!("/{database}.{exchange}/{routing_key}"))
    }

    /// Kombu: which queues are bound to an exchange, and by which routing key.
    pub fn bindings(&self, exchange: &str) -> String {
        self.key(&format!("_kombu.binding.{exchange}"))
    }

    /// Whose a message is, where the workers have found it out: number and answer.
    pub fn tenancy(&self) -> String {
        self.of_fleet("tenancy")
    }

    /// Tenants that were told to wait.
    pub fn paused(&self) -> String {
        self.of_fleet("paused")
    }

    /// Queues that are paused, and tasks whose rate is limited.
    pub fn bars(&self) -> String {
        self.of_fleet("bars")
    }

    /// Changes when lanes have filled in a way that changes no list.
    pub fn ring(&self) -> String {
        self.key("fairstalk:ring")
    }

    /// How kombu's record of a claimed message from this list ends, behind the message (`kombu/transport/redis.py`,
    /// `QoS.append`).
    pub(super) fn record_end(&self, list: &str) -> String {
        format!(r#", "", {}]"#, serde_json::Value::from(self.queue_of(list)))
    }

    /// Which lists are looked at, and by whom.
    pub fn intake(&self) -> String {
        self.key("fairstalk:intake")
    }

    /// The keys every script begins with, in the order of `scripts/tenants.lua`.
    pub(super) fn of_scripts(&self, owner: &str) -> [String; 14] {
        let fleet = fleet_of(owner).unwrap_or(&self.fleet);
        [
            self.unacked(),
            self.unacked_index(),
            self.owners(),
            self.figures(),
            self.delayed(),
            self.delayed_messages(),
            self.dead(),
            self.dead_messages(),
            self.dead_entries(),
            self.key(&format!("fairstalk:{fleet}:tenants")),
            self.key(&format!("fairstalk:{fleet}:ready")),
            self.intake(),
            self.ring(),
            self.claims(owner),
        ]
    }

    /// List of a queue for the most urgent priority step.
    pub fn list(&self, queue: &str) -> String {
        self.key(queue)
    }

    /// The lists of one queue, one for each priority step.
    pub fn lists(&self, queue: &str) -> impl Iterator<Item = String> {
        let list = self.list(queue);
        PRIORITY_SUFFIXES.iter().map(move |suffix| format!("{list}{suffix}"))
    }

    /// The list of a queue that messages of this priority go to: that of the greatest step that is not above it.
    pub fn list_of_priority(&self, queue: &str, priority: i64) -> String {
        let step = match priority {
            ..=2 => 0,
            3..=5 => 1,
            6..=8 => 2,
            9.. => 3,
        };
        format!("{}{}", self.list(queue), PRIORITY_SUFFIXES[step])
    }

    /// Priority step (from 0) and queue (its place in `queues`) of a list, if it is one.
    pub fn place_of(&self, list: &str) -> Option<(usize, usize)> {
        let name = list.strip_prefix(self.prefix.as_str())?;
        let (queue, suffix) = name.split_at(name.find('\u{6}').unwrap_or(name.len()));
        let step = PRIORITY_SUFFIXES.iter().position(|known| *known == suffix)?;
        Some((step, self.queues.iter().position(|known| known == queue)?))
    }

    /// Queue a list belongs to.
    pub fn queue_of<'a>(&self, list: &'a str) -> &'a str {
        let name = list.strip_prefix(self.prefix.as_str()).unwrap_or(list);
        name.split_once('\u{6}').map_or(name, |(queue, _)| queue)
    }

    /// Prefixes whose invalidations say that a queue has changed: as few as cover all lists, none a prefix of
    /// another (`CLIENT TRACKING` refuses overlapping ones).
    pub fn tracking_prefixes(&self) -> Vec<String> {
        let mut names: Vec<String> = self.queues.iter().map(|queue| self.list(queue)).collect();
        names.push(self.ring());
        names.sort();
        let mut prefixes: Vec<String> = Vec::new();
        for name in names {
            if !prefixes.last().is_some_and(|last| name.starts_with(last.as_str())) {
                prefixes.push(name);
            }
        }
        prefixes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(prefix: &str, names: &[&str]) -> Keys {
        Keys { prefix: prefix.into(), fleet: "f".into(), queues: names.iter().map(|name| name.to_string()).collect() }
    }

    #[test]
    fn prefixes_never_overlap() {
        let keys = keys("p:", &["queue_1", "queue_10", "mail", "queue_2", "mails"]);
        assert_eq!(keys.tracking_prefixes(), ["p:fairstalk:ring", "p:mail", "p:queue_1", "p:queue_2"]);
    }

    #[test]
    fn lanes_belong_to_who_consumes_the_same_queues() {
        let queues = |names: [&str; 2]| {
            let names = names.map(str::to_owned).to_vec();
            Queues { default: names[0].clone(), names, prefix: None }
        };
        assert_eq!(fleet(&queues(["a", "b"])), fleet(&queues(["b", "a"])));
        assert_ne!(fleet(&queues(["a", "b"])), fleet(&queues(["a", "c"])));
        let keys = keys("p:", &["a"]);
        assert_eq!(keys.of_scripts("web.example:7:9d77.0a1b2c:1.1")[9], "p:fairstalk:0a1b2c:tenants");
        assert_eq!(keys.of_scripts("o")[9], "p:fairstalk:f:tenants");
        assert!(keys.is_foreign("web:7:9d77.0a1b2c:1.1") && !keys.is_foreign("web:7:9d77.f:2.1"));
    }

    #[test]
    fn queue_of_a_list() {
        let keys = keys("p:", &["queue_1"]);
        let lists: Vec<_> = keys.lists("queue_1").collect();
        assert_eq!(lists[1], "p:queue_1\u{6}\u{16}3");
        assert!(lists.iter().all(|list| keys.queue_of(list) == "queue_1"));
        let of_priority = [-1, 2, 3, 5, 6, 9, 255].map(|priority| keys.list_of_priority("queue_1", priority));
        assert_eq!(of_priority, [0, 0, 1, 1, 2, 3, 3].map(|step: usize| lists[step].clone()));
    }
}
