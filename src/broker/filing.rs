//! What a look at the lists shows, and its way into the lanes.

use crate::fairness::policy::Policy;
use redis::ScriptInvocation;
use std::rc::Rc;

/// Bytes of a message's end by which the script knows it again. Kombu writes `delivery_tag`, a random UUID, last.
const TAIL: usize = 64;

/// What one step may still file, over all lists: the script stays short, however many tenants have messages in it.
#[derive(Debug)]
pub struct Room {
    /// Kinds: each costs the script some ten microseconds.
    kinds: usize,
    messages: usize,
}

impl Default for Room {
    /// That of a step: 24 kinds, 200 messages.
    fn default() -> Room {
        Room { kinds: 24, messages: 200 }
    }
}

impl Room {
    /// What is left of it beside these.
    pub fn beside(filings: &[Filing]) -> Room {
        let room = Room::default();
        let kinds = filings.iter().map(|filing| filing.kinds.len()).sum();
        let messages = filings.iter().map(|filing| filing.whose.len()).sum();
        Room { kinds: room.kinds.saturating_sub(kinds), messages: room.messages.saturating_sub(messages) }
    }
}

/// What decides about the lane of a message, besides its list.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    /// Whose task it is: name of the flow.
    pub flow: Rc<str>,
    /// The task, if its rate is limited.
    pub limited: Option<Rc<str>>,
}

impl From<Rc<str>> for Kind {
    fn from(flow: Rc<str>) -> Kind {
        Kind { flow, limited: None }
    }
}

/// Messages at the front of one list, the oldest first. They are still there.
#[derive(Debug, Clone, PartialEq)]
pub struct Looked {
    /// The list.
    pub list: Rc<str>,
    /// The messages.
    pub messages: Vec<Vec<u8>>,
}

/// Says of what kind the messages of a look are; the next step moves them into lanes.
#[derive(Debug, Clone, PartialEq)]
pub struct Filing {
    /// The list.
    pub list: Rc<str>,
    first: Vec<u8>,
    last: Vec<u8>,
    kinds: Vec<Kind>,
    /// For each message, the oldest first, its place in `kinds`.
    whose: Vec<u16>,
}

impl Filing {
    /// Sorts what was looked at, as far as there is room; `kind` says of what kind a message of a list is. The rest comes
    /// back unread, for a later step.
    pub fn new<K: Into<Kind>>(
        looked: Looked,
        room: &mut Room,
        mut kind: impl FnMut(&str, Vec<u8>) -> K,
    ) -> (Option<Filing>, Looked) {
        let tail = |message: &[u8]| message[message.len().saturating_sub(TAIL)..].to_vec();
        let first = match looked.messages.first() {
            Some(first) if room.kinds > 0 && room.messages > 0 => tail(first),
            _ => return (None, looked),
        };
        let mut rest = Looked { list: Rc::clone(&looked.list), messages: Vec::new() };
        let mut messages = looked.messages.into_iter();
        let (mut last, mut kinds, mut whose) = (Vec::new(), Vec::<Kind>::new(), Vec::new());
        for message in messages.by_ref() {
            let end = tail(&message);
            let spare = (kinds.len() == room.kinds).then(|| message.clone());
            let own = kind(&looked.list, message).into();
            // Most often it is the one of the message before.
            let known = kinds.iter().rposition(|kind| *kind == own);
            if let Some(spare) = spare.filter(|_| known.is_none()) {
                rest.messages.push(spare);
                break;
            }
            let place = known.unwrap_or(kinds.len());
            if known.is_none() {
                kinds.push(own);
            }
            last = end;
            whose.push(u16::try_from(place).unwrap_or(u16::MAX));
            if whose.len() == room.messages {
                break;
            }
        }
        rest.messages.extend(messages);
        room.kinds -= kinds.len();
        room.messages -= whose.len();
        (Some(Filing { list: looked.list, first, last, kinds, whose }), rest)
    }

    pub(super) fn write(&self, policy: &Policy, invocation: &mut ScriptInvocation<'_>) {
        invocation.arg(&*self.list).arg(self.whose.len()).arg(&self.first[..]).arg(&self.last[..]);
        invocation.arg(self.kinds.len());
        for Kind { flow, limited } in &self.kinds {
            invocation.arg(&**flow).arg(granted(policy, flow)).arg(limited.as_deref().unwrap_or(""));
        }
        let whose: Vec<u8> = self.whose.iter().flat_map(|place| place.to_be_bytes()).collect();
        invocation.arg(whose);
    }
}

/// What a flow is granted, as the scripts read it: `weight most interval`; empty where nothing is said of it.
pub(super) fn granted(policy: &Policy, flow: &str) -> String {
    let share = policy.share(flow);
    if share.weight == 1.0 && share.max_concurrency == 0 && share.interval == 0.0 {
        return String::new();
    }
    format!("{} {} {}", share.weight, share.max_concurrency, share.interval)
}
