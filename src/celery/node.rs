//! Who this worker is to Celery's tools: a name, a pid, and a Lamport clock.
//!
//! All that a worker publishes, events and replies, is stamped by one clock, as in Celery (`kombu/clocks.py`), so that a
//! monitor can tell what came first.

use std::cell::Cell;

/// One node.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Pid of the worker.
    pub pid: u32,
    clock: Cell<u64>,
    voice: Cell<Voice>,
}

/// Whether a node speaks for its name. While workers are replaced there are two of one name, and only one may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// Not ready yet: whoever had the name before may still speak for it.
    Coming,
    /// It answers and tells of itself.
    Speaking,
    /// Another worker has its name now: it only tells of the tasks it still runs.
    Succeeded,
}

impl Node {
    /// This process.
    pub fn new(name: String) -> Node {
        Node { name, pid: std::process::id(), clock: Cell::new(0), voice: Cell::new(Voice::Coming) }
    }

    /// The clock's next value, for something that is about to be sent.
    pub fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }

    /// The clock as it is.
    pub fn clock(&self) -> u64 {
        self.clock.get()
    }

    /// Something with this clock was received: what is sent from here on comes after it.
    pub fn adjust(&self, clock: u64) {
        self.clock.set(self.clock.get().max(clock).saturating_add(1));
    }

    /// Whether it may speak for its name.
    pub fn speaks(&self) -> bool {
        self.voice.get() == Voice::Speaking
    }

    /// It is ready: from here on it speaks for its name. False if it did already, or never will again.
    pub fn introduce(&self) -> bool {
        self.voice.replace(match self.voice.get() {
            Voice::Succeeded => Voice::Succeeded,
            Voice::Coming | Voice::Speaking => Voice::Speaking,
        }) == Voice::Coming
    }

    /// Another worker has its name from here on.
    pub fn succeed(&self) {
        self.voice.set(Voice::Succeeded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_only_goes_forward() {
        let node = Node::new("a@b".into());
        assert_eq!((node.tick(), node.tick()), (1, 2));
        node.adjust(40);
        assert_eq!(node.tick(), 42);
        node.adjust(3);
        assert_eq!(node.tick(), 44);
    }

    #[test]
    fn a_name_is_spoken_for_once() {
        let node = Node::new("a@b".into());
        assert!(!node.speaks());
        assert!(node.introduce() && !node.introduce() && node.speaks());
        node.succeed();
        assert!(!node.introduce() && !node.speaks());
    }
}
