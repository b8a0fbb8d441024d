//! When the timers of a process go off: together, and each at one wake-up.
//!
//! Tokio keeps a timer that is further away than 64 ms in a slot of 64 ms, wakes up at the beginning of that slot to put it
//! into a finer one, and once more when it is due (`tokio/src/runtime/time/wheel`). A timer that is due just at the
//! beginning of a slot needs no second wake-up. An idle process does little else than to wake up.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What is done every second or two is done together, so that an idle process wakes up for all of it at once.
const TICK: Duration = Duration::from_millis(19 * 64); // of tokio's slots

/// The beginning of the wheel, about.
static BEGAN: OnceLock<Instant> = OnceLock::new();

/// To be called right before the runtime is made. Without, timers are as exact, and cost more.
pub fn begin() {
    BEGAN.get_or_init(Instant::now);
}

/// A moment at most 1.216 s before this one at which others of this process are due as well.
pub fn tick_before(at: Instant) -> Instant {
    before(at, *BEGAN.get_or_init(Instant::now))
}

fn before(at: Instant, began: Instant) -> Instant {
    let late = at.saturating_duration_since(began).as_nanos() % TICK.as_nanos();
    at - Duration::from_nanos(u64::try_from(late).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_regularly_is_due_at_beginnings() {
        let began = Instant::now();
        let mut at = began + Duration::from_micros(700);
        for beats in 1..=5 {
            // Each time it is somewhat late.
            at = before(at + Duration::from_millis(1250), began) + Duration::from_micros(300);
            assert_eq!(at - began, TICK * beats + Duration::from_micros(300));
        }
        assert_eq!(before(began + Duration::from_millis(2500), began) - began, 2 * TICK);
        assert_eq!(before(began, began), began);
        assert_eq!(before(began, began + TICK), began, "never later than was asked for");
    }
}
