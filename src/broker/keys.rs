//! Names of everything in Redis. Kombu's own keys keep kombu's names; all others begin with `fairstalk:`.

use crate::config::{Broker, Queues};

/// Suffixes of the lists of the four priority steps, the most urgent first (`kombu/transport/redis.py`, `_q_for_pri`).
pub const PRIORITY_SUFFIXES: [&str; 4] = ["", "\u{6}\u{16}3", "\u{6}\u{16}6", "\u{6}\u{16}9"];

/// All keys, with the application's `global_keyprefix` in front.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
    /// Queue names, without prefix.
    pub queues: Vec<String>,
}

impl Keys {
    /// Keys of these queues.
    pub fn new(broker: &Broker, queues: &Queues) -> Keys {
        Keys { prefix: broker.key_prefix.clone(), queues: queues.names.clone() }
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

    /// Tenants that wait or run, JSON.
    pub fn tenants(&self) -> String {
        self.key("fairstalk:tenants")
    }

    /// Tenants that wait and may run, by virtual time.
    pub fn ready(&self) -> String {
        self.key("fairstalk:ready")
    }

    /// Changes when lanes have filled in a way that changes no list.
    pub fn ring(&self) -> String {
        self.key("fairstalk:ring")
    }

    /// The keys every script begins with, in the order of `scripts/tenants.lua`.
    pub(super) fn of_scripts(&self, owner: &str) -> [String; 14] {
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
            self.tenants(),
            self.ready(),
            self.key("fairstalk:intake"),
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
        Keys { prefix: prefix.into(), queues: names.iter().map(|name| name.to_string()).collect() }
    }

    #[test]
    fn prefixes_never_overlap() {
        let keys = keys("p:", &["queue_1", "queue_10", "mail", "queue_2", "mails"]);
        assert_eq!(keys.tracking_prefixes(), ["p:fairstalk:ring", "p:mail", "p:queue_1", "p:queue_2"]);
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
