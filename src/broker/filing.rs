//! What a look at the lists shows, and its way into the lanes.

use redis::ScriptInvocation;
use std::rc::Rc;

/// Bytes of a message's end by which the script knows it again. Kombu writes `delivery_tag`, a random UUID, last.
const TAIL: usize = 64;

/// Messages at the front of one list, the oldest first. They are still there.
#[derive(Debug, Clone, PartialEq)]
pub struct Looked {
    /// The list.
    pub list: Rc<str>,
    /// The messages.
    pub messages: Vec<Vec<u8>>,
}

/// A tenant that takes part, and what the operator grants it.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// Whose tasks: name of the flow.
    pub flow: Rc<str>,
    /// Share of running time relative to others.
    pub weight: f64,
    /// Most tasks running at once over the whole fleet; 0: any number.
    pub max_concurrency: u32,
}

/// Says whose the messages of a look are; the next step moves them into lanes.
#[derive(Debug, Clone, PartialEq)]
pub struct Filing {
    /// The list.
    pub list: Rc<str>,
    first: Vec<u8>,
    last: Vec<u8>,
    shares: Vec<Share>,
    /// For each message, the oldest first, its place in `shares`.
    whose: Vec<u16>,
}

impl Filing {
    /// Sorts what was looked at; `share` says whose a message is. `None` if there was nothing.
    pub fn new(looked: Looked, mut share: impl FnMut(&str, Vec<u8>) -> Share) -> Option<Filing> {
        let tail = |message: &Vec<u8>| message[message.len().saturating_sub(TAIL)..].to_vec();
        let (first, last) = (tail(looked.messages.first()?), tail(looked.messages.last()?));
        let mut shares: Vec<Share> = Vec::new();
        let whose = looked.messages.into_iter().map(|message| {
            let own = share(&looked.list, message);
            // Most often it is the one of the message before.
            let known = shares.iter().rposition(|share| share.flow == own.flow);
            let place = known.unwrap_or(shares.len());
            if known.is_none() {
                shares.push(own);
            }
            u16::try_from(place).unwrap_or(u16::MAX)
        });
        let whose = whose.collect();
        Some(Filing { list: looked.list, first, last, shares, whose })
    }

    pub(super) fn write(&self, invocation: &mut ScriptInvocation<'_>) {
        invocation.arg(&*self.list).arg(self.whose.len()).arg(&self.first[..]).arg(&self.last[..]);
        invocation.arg(self.shares.len());
        for share in &self.shares {
            invocation.arg(&*share.flow).arg(share.weight).arg(share.max_concurrency);
        }
        let whose: Vec<u8> = self.whose.iter().flat_map(|place| place.to_be_bytes()).collect();
        invocation.arg(whose);
    }
}
