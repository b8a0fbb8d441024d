//! Where events wait to be published: so many bytes of them at most, then the oldest are dropped.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use tokio::sync::Notify;

/// Bytes of task events that are kept while they can't be published; about 20,000 events.
pub const KEPT: usize = 8 << 20;

/// Events in one message at most.
pub const BATCH: usize = 100;

/// The worker's side puts events in, the publisher's takes them out.
#[derive(Debug, Default)]
pub struct Outlet {
    backlog: RefCell<Backlog>,
    pulse: Cell<bool>,
    closed: Cell<bool>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Backlog {
    events: VecDeque<String>,
    bytes: usize,
    /// So many of the first may go out; the others tell of ends that Redis doesn't know yet.
    released: usize,
    /// How many were ever put in.
    added: u64,
    dropped: u64,
}

impl Outlet {
    /// Adds the event of a task. It does not go out before it is released.
    pub fn put(&self, event: String) {
        let mut backlog = self.backlog.borrow_mut();
        (backlog.bytes, backlog.added) = (backlog.bytes + event.len(), backlog.added + 1);
        backlog.events.push_back(event);
        backlog.bound();
    }

    /// How many were put in so far, for [`Outlet::release`].
    pub fn added(&self) -> u64 {
        self.backlog.borrow().added
    }

    /// The first so many that were put in may go out.
    pub fn release(&self, first: u64) {
        let mut backlog = self.backlog.borrow_mut();
        let gone = backlog.added - backlog.events.len() as u64;
        let released = usize::try_from(first.saturating_sub(gone)).unwrap_or(usize::MAX);
        if backlog.released < released {
            backlog.released = released;
            self.bell.notify_one();
        }
    }

    /// The node is to give a sign of life out of turn.
    pub fn ask_for_pulse(&self) {
        self.pulse.set(true);
        self.bell.notify_one();
    }

    /// Nothing more is put in: the publisher sends what is left and ends.
    pub fn close(&self) {
        self.closed.set(true);
        self.bell.notify_one();
    }

    /// Until there may be something to do.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    /// The next events in their order; none if none may go out.
    pub fn take(&self) -> Vec<String> {
        let mut backlog = self.backlog.borrow_mut();
        let count = backlog.released.min(BATCH);
        backlog.released -= count;
        let taken: Vec<String> = backlog.events.drain(..count).collect();
        backlog.bytes -= taken.iter().map(String::len).sum::<usize>();
        taken
    }

    /// What was taken could not be sent: it is first again.
    pub fn put_back(&self, events: Vec<String>) {
        let mut backlog = self.backlog.borrow_mut();
        backlog.released += events.len();
        backlog.bytes += events.iter().map(String::len).sum::<usize>();
        for event in events.into_iter().rev() {
            backlog.events.push_front(event);
        }
        backlog.bound();
    }

    /// Whether a sign of life was asked for since the last call.
    pub fn pulse(&self) -> bool {
        self.pulse.take()
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// How many events were dropped since the last call.
    pub fn dropped(&self) -> u64 {
        std::mem::take(&mut self.backlog.borrow_mut().dropped)
    }
}

impl Backlog {
    fn bound(&mut self) {
        while self.bytes > KEPT
            && let Some(oldest) = self.events.pop_front()
        {
            self.bytes -= oldest.len();
            self.released = self.released.saturating_sub(1);
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(number: usize) -> String {
        format!("{number:1024}")
    }

    #[test]
    fn nothing_goes_out_before_it_is_released_and_all_in_order() {
        let outlet = Outlet::default();
        (0..BATCH + 1).for_each(|number| outlet.put(numbered(number)));
        assert!(outlet.take().is_empty());
        let first = outlet.added();
        outlet.put(numbered(BATCH + 1));
        outlet.release(first);
        let first = outlet.take();
        assert_eq!((first.len(), first[0].as_str()), (BATCH, numbered(0).as_str()));
        outlet.put_back(first.clone());
        assert_eq!(outlet.take(), first);
        assert_eq!(outlet.take(), [numbered(BATCH)]);
        assert!(outlet.take().is_empty(), "the last one is not released");
    }

    #[test]
    fn an_outage_costs_no_more_than_what_does_not_fit() {
        let outlet = Outlet::default();
        let (fit, more) = (KEPT / 1024, 250);
        for number in 0..fit + more {
            outlet.put(numbered(number));
            outlet.release(outlet.added());
            if number == fit / 2 {
                let taken = outlet.take();
                outlet.put_back(taken);
            }
        }
        assert_eq!((outlet.dropped(), outlet.dropped()), (more as u64, 0));
        let mut left = Vec::new();
        while let Some(batch) = Some(outlet.take()).filter(|batch| !batch.is_empty()) {
            left.extend(batch);
        }
        assert_eq!(left, (more..fit + more).map(numbered).collect::<Vec<_>>());
        assert_eq!(outlet.backlog.borrow().bytes, 0);
    }
}
