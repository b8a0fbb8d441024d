//! What Redis should hold, kept in memory: the rules of the broker once more, in a few lines.

use crate::census::Census;
use crate::stage::flow_of;
use fairstalk::broker::{Action, Claim, Settlement, StepReply};
use std::collections::{BTreeMap, VecDeque};

/// Most due messages that one step promotes.
const PROMOTED: usize = 100;
/// Most claims that are seized at once.
const SEIZED: usize = 100;

struct Delayed {
    due: i64,
    name: String,
    place: Place,
    message: Vec<u8>,
}

/// A list and a flow.
type Place = (String, String);

/// What waits in one place, from the front.
#[derive(Default)]
struct Waiting {
    /// What has become due.
    due: Line,
    fresh: Line,
}

/// Messages, with the numbers of the claims they came back from.
type Line = VecDeque<(Option<u64>, Vec<u8>)>;

impl Waiting {
    fn line(&mut self, due: bool) -> &mut Line {
        if due { &mut self.due } else { &mut self.fresh }
    }

    fn count(&self) -> usize {
        self.due.len() + self.fresh.len()
    }

    fn messages(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.due.iter().chain(&self.fresh).map(|(_, message)| message)
    }
}

fn place_of(list: &str, message: &[u8]) -> Place {
    (list.to_owned(), flow_of(list, message).to_string())
}

/// All places.
#[derive(Default)]
pub struct Model {
    waiting: BTreeMap<Place, Waiting>,
    /// Owner and sequence number → the claim, and whether it was of those that had become due.
    held: BTreeMap<(String, u64), (Claim, bool)>,
    delayed: Vec<Delayed>,
    dead: BTreeMap<String, Vec<u8>>,
    acked: Vec<Vec<u8>>,
    /// Owners, and whether they have their lease.
    pub leased: BTreeMap<String, bool>,
}

impl Model {
    /// A producer.
    pub fn push(&mut self, list: &str, message: Vec<u8>) {
        self.waiting.entry(place_of(list, &message)).or_default().fresh.push_back((None, message));
    }

    /// What an owner holds, in order.
    pub fn held(&self, owner: &str) -> Vec<Claim> {
        self.held.iter().filter(|((name, _), _)| name == owner).map(|(_, (claim, _))| claim.clone()).collect()
    }

    /// Messages that have not come to their end.
    pub fn unfinished(&self) -> usize {
        self.all_waiting() + self.held.len() + self.delayed.len()
    }

    /// Messages in lists and lanes.
    pub fn all_waiting(&self) -> usize {
        self.waiting.values().map(Waiting::count).sum()
    }

    /// All messages that have come to it.
    pub fn finished(&self) -> Vec<Vec<u8>> {
        self.acked.iter().chain(self.dead.values()).cloned().collect()
    }

    /// The next step of an owner: what it must answer, and what it does.
    pub fn step(&mut self, owner: &str, settlements: &[Settlement], reply: Option<&StepReply>) {
        let leased = self.leased[owner];
        assert_eq!(reply.is_some(), leased, "a step of {owner} is made if it has its lease");
        if let Some(reply) = reply {
            self.made(owner, settlements, reply, true);
        }
    }

    /// A step that was made, perhaps on behalf of a dead owner.
    pub fn made(&mut self, owner: &str, settlements: &[Settlement], reply: &StepReply, promotes: bool) {
        let lost: Vec<u64> =
            settlements.iter().filter(|settlement| !self.settle(owner, settlement)).map(|lost| lost.sequence).collect();
        assert_eq!(reply.lost, lost, "lost");
        if promotes {
            self.promote(reply.now);
        }
        for claim in &reply.claims {
            let place = place_of(&claim.list, &claim.raw);
            let waiting = self.waiting.entry(place.clone()).or_default();
            let due = !waiting.due.is_empty();
            let front = waiting.line(due).pop_front();
            let front = front.map(|(_, message)| message);
            let text = |message: &[u8]| String::from_utf8_lossy(&message[..message.len().min(30)]).into_owned();
            assert_eq!(front.as_deref().map(text), Some(text(&claim.raw)), "the front of {place:?}");
            assert!(claim.flow.as_deref().is_none_or(|flow| flow == place.1), "{claim:?} is of {place:?}");
            let twin = self.held.insert((owner.to_owned(), claim.sequence), (claim.clone(), due));
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
        let Some((claim, due)) = self.held.remove(&key) else { return false };
        let name = format!("{owner}:{}", claim.sequence);
        let place = place_of(&claim.list, &claim.raw);
        let waiting = self.waiting.entry(place.clone()).or_default();
        match settlement.action.clone() {
            Action::Ack | Action::Store => self.acked.push(claim.raw),
            Action::Front(message) => {
                let line = waiting.line(due);
                let before = line.iter().take_while(|(number, _)| number.is_some_and(|number| number < claim.number));
                let at = before.count();
                line.insert(at, (Some(claim.number), message));
            }
            Action::List(_) => unreachable!("only where everything is handed back; tests/e2e/test_hand_back.py"),
            Action::Back(message) => waiting.fresh.push_back((None, message)),
            Action::Delay { message, due } => self.delayed.push(Delayed { due, name, place, message }),
            Action::Dead { message, .. } => assert_eq!(self.dead.insert(name, message), None),
            Action::Limit { .. } => unreachable!("no task of the model is limited"),
        }
        true
    }

    fn promote(&mut self, now: i64) {
        self.delayed.sort_by(|one, other| (one.due, &one.name).cmp(&(other.due, &other.name)));
        let due = self.delayed.iter().take_while(|delayed| delayed.due <= now).count().min(PROMOTED);
        for delayed in self.delayed.drain(..due) {
            self.waiting.entry(delayed.place).or_default().due.push_back((None, delayed.message));
        }
    }

    /// These claims are started for good, if their owner has its lease.
    pub fn start(&mut self, owner: &str, claims: &[Claim], may: Option<Vec<u64>>) {
        let numbers: Vec<u64> = claims.iter().map(|claim| claim.sequence).collect();
        assert_eq!(may, self.leased[owner].then_some(numbers), "what {owner} may start");
        for number in may.unwrap_or_default() {
            self.held.get_mut(&(owner.to_owned(), number)).unwrap().0.started = true;
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
        let waiting = self.waiting.values().flat_map(Waiting::messages);
        let everywhere = waiting.chain(self.held.values().map(|(claim, _)| &claim.raw));
        let everywhere =
            everywhere.chain(self.delayed.iter().map(|delayed| &delayed.message)).chain(self.dead.values());
        census.assert_one_place(&everywhere.collect::<Vec<_>>());
        for (place, waiting) in &self.waiting {
            let messages: Vec<Vec<u8>> = waiting.messages().cloned().collect();
            let text = |messages: &[Vec<u8>]| -> Vec<String> {
                messages
                    .iter()
                    .map(|message| String::from_utf8_lossy(&message[..message.len().min(30)]).into())
                    .collect()
            };
            assert_eq!(text(&census.waiting(&place.0, &place.1)), text(&messages), "{place:?}");
        }
        let held =
            self.held.iter().map(|((owner, number), (claim, _))| (format!("{owner}:{number}"), claim.list.to_string()));
        assert_eq!(census.held(), held.collect());
        let started = self.held.iter().filter(|(_, (claim, _))| claim.started);
        let started = started.map(|((owner, number), (claim, _))| (format!("{owner}:{number}"), claim.raw.clone()));
        assert_eq!(census.started(), started.collect());
        let delayed = self.delayed.iter().map(|delayed| (delayed.name.clone(), delayed.due as f64));
        assert_eq!(census.delayed(), delayed.collect());
        assert_eq!(census.dead(), self.dead);
    }
}
