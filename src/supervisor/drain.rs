//! How the daemon stops: workers finish, or hand back, or are killed. Pure.

use super::policy::{self, Ended};
use crate::channel::Exit;
use std::time::{Duration, Instant};

/// What a worker may take to hand back after its time is over, before it is killed.
pub const HAND_BACK_WITHIN: Duration = Duration::from_secs(5);

/// A stop under way.
#[derive(Debug)]
pub struct Drain {
    kill_at: Instant,
    killed: bool,
    handed_back: bool,
    halt: Option<Exit>,
    ends: Vec<Ended>,
}

impl Drain {
    /// Begins one: running tasks may take so long. `halt` is the exit code if it is not a wished-for stop.
    pub fn new(within: Duration, halt: Option<Exit>, now: Instant) -> Self {
        let kill_at = now + within + HAND_BACK_WITHIN;
        Self { kill_at, killed: false, handed_back: false, halt, ends: Vec::new() }
    }

    /// Told to stop once more: nothing is waited for. False if that was said before.
    pub fn hand_back(&mut self, now: Instant) -> bool {
        self.kill_at = self.kill_at.min(now + HAND_BACK_WITHIN);
        !std::mem::replace(&mut self.handed_back, true)
    }

    /// A worker ended.
    pub fn ended(&mut self, ended: Ended) {
        self.ends.push(ended);
    }

    /// Whether to kill who is left; true once.
    pub fn overdue(&mut self, now: Instant) -> bool {
        !self.killed && now >= self.kill_at && !std::mem::replace(&mut self.killed, true)
    }

    /// Until when running tasks may take.
    pub fn deadline(&self) -> Instant {
        self.kill_at - HAND_BACK_WITHIN
    }

    /// When to look again.
    pub fn due(&self) -> Option<Instant> {
        (!self.killed).then_some(self.kill_at)
    }

    /// The daemon's exit code once all workers have ended.
    pub fn exit(&self) -> Exit {
        self.halt.unwrap_or_else(|| policy::outcome(&self.ends))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_wish_shortens_the_time_and_never_lengthens_it() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut drain = Drain::new(60 * second, None, now);
        assert_eq!(drain.deadline(), now + 60 * second);
        assert!(drain.hand_back(now + second));
        assert_eq!(drain.deadline(), now + second);
        assert!(!drain.hand_back(now + 3 * second));
        assert_eq!(drain.due(), Some(now + 6 * second));
        assert!(!drain.overdue(now + 5 * second));
        assert!(drain.overdue(now + 6 * second) && !drain.overdue(now + 7 * second));
        assert_eq!(drain.due(), None);
    }

    #[test]
    fn the_reason_of_a_halt_outweighs_how_workers_ended() {
        let mut drain = Drain::new(Duration::ZERO, Some(Exit::Config), Instant::now());
        drain.ended(Ended::Signal(9));
        assert_eq!(drain.exit(), Exit::Config);
        let mut drain = Drain::new(Duration::ZERO, None, Instant::now());
        drain.ended(Ended::Code(75));
        assert_eq!(drain.exit(), Exit::HandedBack);
    }
}
