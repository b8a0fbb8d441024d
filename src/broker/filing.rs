//! What a look at the lists shows, and its way into the lanes.

use crate::fairness::policy::Policy;
use redis::ScriptInvocation;
use std::rc::Rc;

/// Bytes of a message's end by which the script knows it again. Kombu writes `delivery_tag`, a random UUID, last.
const TAIL: usize = 64;

/// Flows in one filing at most: each costs the script a few microseconds.
const FLOWS_MAX: usize = 100;

/// Messages at the front of one list, the oldest first. They are still there.
#[derive(Debug, Clone, PartialEq)]
pub struct Looked {
    /// The list.
    pub list: Rc<str>,
    /// The messages.
    pub messages: Vec<Vec<u8>>,
}

/// Says whose the messages of a look are; the next step moves them into lanes.
#[derive(Debug, Clone, PartialEq)]
pub struct Filing {
    /// The list.
    pub list: Rc<str>,
    first: Vec<u8>,
    last: Vec<u8>,
    flows: Vec<Rc<str>>,
    /// For each message, the oldest first, its place in `flows`.
    whose: Vec<u16>,
}

impl Filing {
    /// Sorts what was looked at; `flow` says whose a message of a list is. What would be more flows than one script call
    /// should touch is left for the next look. `None` if there was nothing.
    pub fn new(looked: Looked, mut flow: impl FnMut(&str, Vec<u8>) -> Rc<str>) -> Option<Filing> {
        let tail = |message: &[u8]| message[message.len().saturating_sub(TAIL)..].to_vec();
        let first = tail(looked.messages.first()?);
        let (mut last, mut flows, mut whose) = (Vec::new(), Vec::<Rc<str>>::new(), Vec::new());
        for message in looked.messages {
            let end = tail(&message);
            let own = flow(&looked.list, message);
            // Most often it is the one of the message before.
            let known = flows.iter().rposition(|flow| *flow == own);
            if known.is_none() && flows.len() == FLOWS_MAX {
                break;
            }
            let place = known.unwrap_or(flows.len());
            if known.is_none() {
                flows.push(own);
            }
            last = end;
            whose.push(u16::try_from(place).unwrap_or(u16::MAX));
        }
        Some(Filing { list: looked.list, first, last, flows, whose })
    }

    pub(super) fn write(&self, policy: &Policy, invocation: &mut ScriptInvocation<'_>) {
        invocation.arg(&*self.list).arg(self.whose.len()).arg(&self.first[..]).arg(&self.last[..]);
        invocation.arg(self.flows.len());
        for flow in &self.flows {
            invocation.arg(&**flow).arg(granted(policy, flow));
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
