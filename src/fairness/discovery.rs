//! Finds out which parameter or header says whose a message is, where nobody has configured it. Pure.
//!
//! The queue number is a checksum: the right value's `md5(value) % count` is the queue the message came in, a wrong
//! one's is by chance only, once in `count`. Each distinct value of a name is a draw, and the draws are weighed one
//! after the other against each other (Wald's sequential test): whatever the number of looks, a wrong name wins with a
//! probability below one in `ODDS`.

use crate::routing::queue_index;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A name is right if that is so many times as likely as chance.
const ODDS: f64 = 1e7;

/// Share of a right name's values that come in another queue all the same: a task that was sent by hand, say.
const STRAYS: f64 = 0.02;

/// Distinct values that have to agree at the least, however many queues there are.
const AGREEING_MIN: u32 = 5;

/// Names that are weighed at once; distinct values that are remembered of each.
const NAMES_MAX: usize = 64;
const VALUES_MAX: usize = 512;

/// After so many messages without an answer it all begins anew: the application may have changed.
const PERIOD: u32 = 50_000;

/// Messages in a row without the name that was found, after which another one may take its place.
const GONE: u32 = 1000;

/// After so many messages without an answer only one in [`SPARSE`] is looked at; the same once there is one.
const PATIENCE: u32 = 5000;
const SPARSE: u32 = 8;

/// What may say whose a message is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    /// A parameter of the task.
    Parameter(String),
    /// A header of the message.
    Header(String),
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Name::Parameter(name) => write!(f, "the parameter {name:?}"),
            Name::Header(name) => write!(f, "the header {name:?}"),
        }
    }
}

/// An answer, as it is kept in Redis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What says it; none if the last answer has turned out wrong.
    pub name: Option<Name>,
    /// What said it before.
    pub before: Option<Name>,
    /// Distinct values that agreed with their queue.
    pub agreeing: u32,
    /// Distinct values that did not.
    pub disagreeing: u32,
}

/// What was seen of one name.
#[derive(Debug, Default)]
struct Evidence {
    /// Logarithm of how much likelier than chance it is that the name is right.
    weight: f64,
    agreeing: u32,
    disagreeing: u32,
    seen: HashSet<u64>,
}

impl Evidence {
    /// Counts a value, unless it was seen with the same outcome. False if it changed nothing.
    fn add(&mut self, value: &str, agrees: bool, chance: f64) -> bool {
        let mut hasher = DefaultHasher::new();
        (value, agrees).hash(&mut hasher);
        if self.seen.len() >= VALUES_MAX || !self.seen.insert(hasher.finish()) {
            return false;
        }
        if agrees {
            self.agreeing += 1;
            self.weight += ((1.0 - STRAYS) / chance).ln();
        } else {
            self.disagreeing += 1;
            self.weight -= ((1.0 - chance) / STRAYS).ln();
        }
        true
    }

    fn is_proof(&self) -> bool {
        self.weight >= ODDS.ln() && self.agreeing >= AGREEING_MIN && self.disagreeing * 20 <= self.agreeing
    }
}

/// The search, and afterwards the watch over what was found.
#[derive(Debug)]
pub struct Discovery {
    queues: u32,
    /// Queue of what belongs to nobody: it tells nothing, since a task with a user may be sent there as well.
    default: u32,
    found: Option<Name>,
    evidence: HashMap<Name, Evidence>,
    /// Of the name that was found, the other way round: how much likelier chance is.
    doubt: Evidence,
    messages: u32,
    without: u32,
}

impl Discovery {
    /// A search among so many numbered queues; none if there is one only, whose number says nothing.
    pub fn new(queues: u32, default: u32) -> Option<Discovery> {
        let (evidence, doubt) = (HashMap::new(), Evidence::default());
        let search = Discovery { queues, default, found: None, evidence, doubt, messages: 0, without: 0 };
        (queues > 1).then_some(search)
    }

    /// This is in force from now on.
    pub fn settle(&mut self, found: Option<Name>) {
        *self =
            Discovery { found, evidence: HashMap::new(), doubt: Evidence::default(), messages: 0, without: 0, ..*self };
    }

    /// What is in force.
    pub fn found(&self) -> Option<&Name> {
        self.found.as_ref()
    }

    /// Takes note of a message of queue number `queue`. `named` tells all that may say whose it is; it is asked only if
    /// that is of use. Returns an answer that should be in force in place of the present one.
    pub fn see(&mut self, queue: u32, named: impl FnOnce() -> Vec<(Name, String)>) -> Option<Answer> {
        self.messages += 1;
        let sparse = self.found.is_some() || self.messages > PATIENCE;
        if queue == self.default || sparse && !self.messages.is_multiple_of(SPARSE) {
            return None;
        }
        if self.messages > PERIOD {
            self.settle(self.found.clone());
        }
        let named = named();
        match self.found.clone().map(|found| (named.iter().find(|(name, _)| *name == found), found)) {
            Some((Some((_, value)), found)) => {
                self.without = 0;
                self.doubt(queue, value, found)
            }
            _ => {
                self.without += 1;
                self.weigh(queue, named)
            }
        }
    }

    fn weigh(&mut self, queue: u32, named: Vec<(Name, String)>) -> Option<Answer> {
        for (name, value) in named {
            if self.evidence.len() >= NAMES_MAX && !self.evidence.contains_key(&name) {
                continue;
            }
            let agrees = queue_index(&value, self.queues) == queue;
            self.evidence.entry(name).or_default().add(&value, agrees, 1.0 / f64::from(self.queues));
        }
        if self.found.is_some() && self.without < GONE / SPARSE {
            return None;
        }
        let proven = self.evidence.iter().filter(|(_, evidence)| evidence.is_proof());
        // A header is there for the purpose; else the name that comes first, so that all workers find the same.
        let (name, evidence) = proven.max_by_key(|(name, evidence)| {
            (matches!(name, Name::Header(_)), evidence.agreeing, std::cmp::Reverse((*name).clone()))
        })?;
        let Evidence { agreeing, disagreeing, .. } = *evidence;
        Some(Answer { name: Some(name.clone()), before: self.found.clone(), agreeing, disagreeing })
    }

    /// The doubt never falls below none: what was right for long counts no more than what is wrong now.
    fn doubt(&mut self, queue: u32, value: &str, found: Name) -> Option<Answer> {
        let chance = 1.0 / f64::from(self.queues);
        if self.doubt.weight >= 0.0 || self.doubt.seen.len() >= VALUES_MAX {
            self.doubt = Evidence::default();
        }
        self.doubt.add(value, queue_index(value, self.queues) == queue, chance);
        let Evidence { weight, agreeing, disagreeing, .. } = self.doubt;
        let wrong = weight <= -ODDS.ln() && disagreeing > agreeing;
        wrong.then_some(Answer { name: None, before: Some(found), agreeing, disagreeing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;

    fn parameter(name: &str) -> Name {
        Name::Parameter(name.to_owned())
    }

    /// What a message says besides whose it is: numbers, words, ids, in ranges small and large.
    fn noise(rng: &mut Rng, n: u32) -> Vec<(Name, String)> {
        let words = ["png", "jpeg", "webp", "avif"];
        vec![
            (parameter("job_id"), n.to_string()),
            (parameter("product_id"), rng.u32(1..2000).to_string()),
            (parameter("size"), rng.u32(1..30).to_string()),
            (parameter("format"), words[rng.usize(0..words.len())].to_owned()),
            (parameter("token"), rng.u64(..).to_string()),
            (Name::Header("trace".into()), rng.u64(..).to_string()),
        ]
    }

    fn search(queues: u32) -> Discovery {
        Discovery::new(queues, 0).unwrap()
    }

    #[test]
    fn nothing_wrong_is_ever_found() {
        for seed in 0..1000 {
            let mut rng = Rng::with_seed(seed);
            let queues = [2, 7, 20, 100][seed as usize % 4];
            let mut search = search(queues);
            // Users come with very different numbers of tasks; none of the names says who they are.
            for n in 0..400 {
                let user = if rng.bool() { 1 } else { rng.u32(1..200) };
                let answer = search.see(queue_index(&user.to_string(), queues), || noise(&mut rng, n));
                assert_eq!(answer, None, "seed {seed}, message {n}");
            }
        }
    }

    #[test]
    fn the_right_one_is_found_after_a_few_users() {
        for seed in 0..200 {
            let mut rng = Rng::with_seed(seed);
            let mut search = search(20);
            let mut users = HashSet::new();
            let answer = (0..10_000).find_map(|n| {
                // Every second task is of the one who floods.
                let user = if n % 2 == 0 { 1 } else { rng.u32(1..5000) };
                let stray = rng.u32(0..200) == 0;
                let queue = if stray { rng.u32(0..20) } else { queue_index(&user.to_string(), 20) };
                users.insert(user);
                search.see(queue, || {
                    let mut named = noise(&mut rng, n);
                    named.insert(rng.usize(0..named.len()), (parameter("user_id"), user.to_string()));
                    named
                })
            });
            assert_eq!(answer.unwrap().name, Some(parameter("user_id")), "seed {seed}");
            assert!(users.len() <= 40, "seed {seed}: after {} users", users.len());
        }
    }

    #[test]
    fn one_user_alone_proves_nothing_nor_does_the_default_queue() {
        let mut search = search(20);
        let named = |user: u32| vec![(parameter("user_id"), user.to_string())];
        assert!((0..1000).all(|_| search.see(11, || named(1)).is_none()));
        let default = (1..).filter(|user: &u32| queue_index(&user.to_string(), 20) == 0);
        assert!(default.take(100).all(|user| search.see(0, || named(user)).is_none()));
        assert!(Discovery::new(1, 0).is_none());
    }

    /// Users whose queue isn't the default one, with their queue.
    fn users() -> impl Iterator<Item = (u32, u32)> {
        (1_u32..).map(|user| (user, queue_index(&user.to_string(), 20))).filter(|(_, queue)| *queue != 0)
    }

    #[test]
    fn a_contradiction_is_noticed_and_a_stray_is_not() {
        let mut search = search(20);
        search.settle(Some(parameter("user_id")));
        let named = |user: u32| vec![(parameter("user_id"), user.to_string())];
        for (user, queue) in users().take(20_000) {
            let queue = if user % 100 == 0 { (queue + 1) % 20 } else { queue };
            assert_eq!(search.see(queue, || named(user)), None);
        }
        // From now on it says something else. One message in some is looked at.
        let answer = users().take(2000).find_map(|(user, queue)| search.see(queue % 19 + 1, || named(user))).unwrap();
        assert_eq!((answer.name, answer.before), (None, Some(parameter("user_id"))));
        assert!(answer.disagreeing < 12, "{}", answer.disagreeing);
    }

    #[test]
    fn another_name_takes_the_place_of_one_that_is_gone() {
        let mut search = search(20);
        search.settle(Some(parameter("user_id")));
        let answer = users().take(5000).find_map(|(user, queue)| {
            // Tasks of the old kind go on for a while, among the new ones.
            let name = if user < 500 && user % 3 == 0 { "user_id" } else { "account" };
            search.see(queue, || vec![(parameter(name), user.to_string())]).map(|answer| (user, answer))
        });
        let (user, answer) = answer.unwrap();
        assert!((1000..3000).contains(&user), "{user}");
        assert_eq!((answer.name, answer.before), (Some(parameter("account")), Some(parameter("user_id"))));
    }
}
