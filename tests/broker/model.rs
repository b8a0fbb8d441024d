//! What Redis should hold, kept in memory: the rules of the broker once more, in a few lines.

use crate::census::Census;
use fairstalk::broker::{Action, Claim, Settlement, StepReply};
use std::collections::{BTreeMap, VecDeque};

/// Most due messages that one step promotes.
const PROMOTED: usize = 100;
/// Most claims that are seized at once.
const SEIZED: usize = 100;

struct Delayed {
    due: i64,
    name: String,
    list: String,
    message: Vec<u8>,
}

/// All places.
#[derive(Default)]
pub struct Model {
    /// From the front.
    lists: BTreeMap<String, VecDeque<Vec<u8>>>,
    /// Owner and sequence number → the claim.
    held: BTreeMap<(String, u64), Claim>,
    delayed: Vec<Delayed>,
    dead: BTreeMap<String, Vec<u8>>,
    acked: Vec<Vec<u8>>,
    /// Owners, and whether they have their lease.
    pub leased: BTreeMap<String, bool>,
}

impl Model {
    /// A producer.
    pub fn push(&mut self, list: &str, message: Vec<u8>) {
        self.lists.entry(list.to_owned()).or_default().push_back(message);
    }

    /// What an owner holds, in order.
    pub fn held(&self, owner: &str) -> Vec<Claim> {
        self.held.iter().filter(|((name, _), _)| name == owner).map(|(_, claim)| claim.clone()).collect()
    }

    /// Messages that have not come to their end.
    pub fn unfinished(&self) -> usize {
        self.lists.values().map(VecDeque::len).sum::<usize>() + self.held.len() + self.delayed.len()
    }

    /// All messages that have come to it.
    pub fn finished(&self) -> Vec<Vec<u8>> {
        self.acked.iter().chain(self.dead.values()).cloned().collect()
    }

    /// The next step of an owner: what it must answer, and what it does.
    pub fn step(&mut self, owner: &str, settlements: &[Settlement], want: usize, reply: Option<&StepReply>) {
        let leased = self.leased[owner];
        assert_eq!(reply.is_some(), leased, "a step of {owner} is made if it has its lease");
        if let Some(reply) = reply {
            self.made(owner, settlements, want, reply);
        }
    }

    /// A step that was made, perhaps on behalf of a dead owner.
    pub fn made(&mut self, owner: &str, settlements: &[Settlement], want: usize, reply: &StepReply) {
        let lost: Vec<u64> =
            settlements.iter().filter(|settlement| !self.settle(owner, settlement)).map(|lost| lost.sequence).collect();
        assert_eq!(reply.lost, lost, "lost");
        self.promote(reply.now);
        let waiting: usize = self.lists.values().map(VecDeque::len).sum();
        assert_eq!(reply.claims.len(), want.min(waiting), "of {want} wanted and {waiting} waiting");
        for claim in &reply.claims {
            let front = self.lists.get_mut(&*claim.list).and_then(VecDeque::pop_front);
            assert_eq!(front.as_ref(), Some(&claim.raw), "the front of {:?}", claim.list);
            let twin = self.held.insert((owner.to_owned(), claim.sequence), claim.clone());
            assert_eq!(twin, None);
        }
        assert_eq!(reply.next_due, self.delayed.iter().map(|delayed| delayed.due).min(), "due next");
    }

    /// False if the claim is not held.
    fn settle(&mut self, owner: &str, settlement: &Settlement) -> bool {
        let key = (owner.to_owned(), settlement.sequence);
        if settlement.action == Action::Store {
            return self.held.contains_key(&key);
        }
        let Some(claim) = self.held.remove(&key) else { return false };
        let name = format!("{owner}:{}", claim.sequence);
        let list = claim.list.to_string();
        match settlement.action.clone() {
            Action::Ack | Action::Store => self.acked.push(claim.raw),
            Action::Front(message) => self.lists.entry(list).or_default().push_front(message),
            Action::Back(message) => self.lists.entry(list).or_default().push_back(message),
            Action::Delay { message, due } => self.delayed.push(Delayed { due, name, list, message }),
            Action::Dead { message, .. } => assert_eq!(self.dead.insert(name, message), None),
        }
        true
    }

    fn promote(&mut self, now: i64) {
        self.delayed.sort_by(|one, other| (one.due, &one.name).cmp(&(other.due, &other.name)));
        let due = self.delayed.iter().take_while(|delayed| delayed.due <= now).count().min(PROMOTED);
        for delayed in self.delayed.drain(..due).rev() {
            self.lists.entry(delayed.list).or_default().push_front(delayed.message);
        }
    }

    /// These claims are started for good, if their owner has its lease.
    pub fn start(&mut self, owner: &str, claims: &[Claim], may: Option<Vec<u64>>) {
        let numbers: Vec<u64> = claims.iter().map(|claim| claim.sequence).collect();
        assert_eq!(may, self.leased[owner].then_some(numbers), "what {owner} may start");
        for number in may.unwrap_or_default() {
            self.held.get_mut(&(owner.to_owned(), number)).unwrap().started = true;
        }
    }

    /// An owner's lease is taken away.
    pub fn seize(&mut self, owner: &str, seized: &[Claim]) {
        self.leased.insert(owner.to_owned(), false);
        let held = self.held(owner);
        assert_eq!(seized, &held[held.len().saturating_sub(SEIZED)..], "held by {owner}");
    }

    /// Redis holds just this.
    pub fn compare(&self, census: &Census) {
        let everywhere = self.lists.values().flatten().chain(self.held.values().map(|claim| &claim.raw));
        let everywhere =
            everywhere.chain(self.delayed.iter().map(|delayed| &delayed.message)).chain(self.dead.values());
        census.assert_one_place(&everywhere.collect::<Vec<_>>());
        let lists = self.lists.iter().filter(|(_, list)| !list.is_empty());
        let lists: BTreeMap<_, _> =
            lists.map(|(name, list)| (name.clone(), list.iter().cloned().collect::<Vec<_>>())).collect();
        assert_eq!(census.lists, lists);
        let held =
            self.held.iter().map(|((owner, number), claim)| (format!("{owner}:{number}"), claim.list.to_string()));
        assert_eq!(census.held(), held.collect());
        let started = self.held.iter().filter(|(_, claim)| claim.started);
        let started = started.map(|((owner, number), claim)| (format!("{owner}:{number}"), claim.raw.clone()));
        assert_eq!(census.started(), started.collect());
        let delayed = self.delayed.iter().map(|delayed| (delayed.name.clone(), delayed.due as f64));
        assert_eq!(census.delayed(), delayed.collect());
        assert_eq!(census.dead(), self.dead);
    }
}
